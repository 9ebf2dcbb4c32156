//! The page's forms that change something: each does what the call of the API of the same name does.

use axum::extract::{FromRequest, Request, State};
use axum::response::Response;

use super::visitor::Visitor;
use super::{html, own_form, refused, see};
use crate::api::auth::{self, Guarded, May};
use crate::api::body::{Json, parse, read};
use crate::api::commands;
use crate::api::envelope::{ApiError, Reply};
use crate::api::query::{AgainQuery, JobQuery};
use crate::api::repeat::Key;
use crate::api::request::{JobBody, Name, NoBody, NodeName, SkipBody, is_dns_subdomain};
use crate::plan::commands::Command;
use crate::ui::notice_page;

/// The fields of a form.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The value of a field; empty where there is none.
    pub(super) fn of(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read(request.into_body()).await?;
        let fields = serde_urlencoded::from_bytes(&bytes);
        fields.map(Self).map_err(|error| ApiError::bad_request(format!("the form cannot be read: {error}")))
    }
}

/// `POST /ui/gr/{name}/do`
pub(super) async fn act(
    State(guarded): State<Guarded>,
    visitor: Visitor,
    may: Result<May<auth::Update>, ApiError>,
    name: Result<Name, ApiError>,
    fields: Result<Fields, ApiError>,
) -> Response {
    let (context, name) = match (may, name) {
        (Ok(context), Ok(name)) => (context, name),
        (Err(refusal), _) | (_, Err(refusal)) => return refused(&visitor, &refusal),
    };
    let fields = match own_form(&guarded, &visitor, fields) {
        Ok(fields) => fields,
        Err(answer) => return *answer,
    };
    let Name(gr) = &name;
    let asks_for_name = matches!(fields.of("command"), "cancel" | "rollback" | "close" | "upgrade");
    if asks_for_name && fields.of("confirm").trim() != gr {
        let page =
            notice_page(&visitor.shell(None), visitor.language.words().wrong_name, true, visitor.back());
        return html(axum::http::StatusCode::UNPROCESSABLE_ENTITY, &visitor, page);
    }
    let place = format!("/ui/gr/{gr}?asked");
    match Box::pin(command(context, name, &fields)).await {
        Ok(_) => see(&place),
        Err(refusal) => refused(&visitor, &refusal),
    }
}

async fn command(context: May<auth::Update>, name: Name, fields: &Fields) -> Result<Reply, ApiError> {
    let (query, again) = (JobQuery::default(), AgainQuery::default());
    let (body, key) = (Json(JobBody::default()), Key(None));
    let node = || {
        let node = fields.of("node");
        let known = is_dns_subdomain(node).then(|| NodeName(node.to_owned()));
        known.ok_or_else(|| ApiError::bad_request("the form names no node"))
    };
    let plain = match fields.of("command") {
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "promote" => Command::Promote,
        "cancel" => Command::Cancel,
        "close" => Command::Close,
        "rollback" => return commands::rollback(context, name, again, key, body).await,
        "retry" => return commands::retry(context, name, again, key, body).await,
        "skip" => return commands::skip(context, name, node()?, query, Json(SkipBody::default())).await,
        "retry-node" => return commands::retry_node(context, name, node()?, query, Json(NoBody {})).await,
        "upgrade" => {
            let mut body: JobBody = parse(fields.of("body").as_bytes())?;
            body.merge_override(None)?;
            return context.upgrade(&name.0, &body, query, key).await;
        }
        other => {
            return Err(ApiError::bad_request(format!("the form asks for {other:?}, which is no command")));
        }
    };
    context.command(&name.0, plain, query).await
}
