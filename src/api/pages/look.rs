//! The pages that show something.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::visitor::Visitor;
use super::{html, refused, see};
use crate::api::auth::{self, May};
use crate::api::body::parse;
use crate::api::envelope::ApiError;
use crate::api::form::Form;
use crate::api::query::{JobQuery, PageQuery};
use crate::api::records::{Lenient, age};
use crate::api::repeat::Key;
use crate::api::request::{Name, is_dns_subdomain};
use crate::api::{Context, held, watching};
use crate::plan::commands::Command;
use crate::plan::preflight;
use crate::record::{GcuUpgrade, Strategy};
use crate::ui::{GrPage, Listed, PlanForm, Planned, StartPage, gr_page, start_page};

/// `GET /ui/`: the grs, the newest upgrades, the blueprints.
pub(super) async fn start(visitor: Visitor, may: Result<May<auth::List>, ApiError>) -> Response {
    let context = match may {
        Ok(context) => context,
        // Who may not list all grs may see some.
        Err(refusal) if refusal.is_forbidden() => {
            let listed = Err(refusal.message.clone());
            let page =
                StartPage { listed, blueprints: None, not_ready: &[], now: jiff::Timestamp::UNIX_EPOCH };
            return html(StatusCode::FORBIDDEN, &visitor, start_page(&visitor.shell(None), &page));
        }
        Err(refusal) => return refused(&visitor, &refusal),
    };
    let listed = context.listed().await.map_err(|error| error.message.clone());
    let blueprints = context.catalog.rescan().await;
    let not_ready = context.not_ready.borrow().clone();
    let page =
        StartPage { listed, blueprints: Some(&blueprints), not_ready: &not_ready, now: context.clock.now() };
    html(StatusCode::OK, &visitor, start_page(&visitor.shell(context.asker.as_deref()), &page))
}

/// `GET /ui/gr?name=…`: for whoever may not list grs, and knows the name of one.
pub(super) async fn open(_: May<auth::Everyone>, visitor: Visitor) -> Response {
    match visitor.given("name").filter(|name| is_dns_subdomain(name)) {
        Some(name) => see(&format!("/ui/gr/{name}")),
        None => see("/ui/"),
    }
}

/// `GET /ui/gr/{name}`
pub(super) async fn gr(
    visitor: Visitor,
    may: Result<May<auth::Get>, ApiError>,
    update: Result<May<auth::Update>, ApiError>,
    name: Result<Name, ApiError>,
    query: Result<PageQuery, ApiError>,
) -> Response {
    let asked = async {
        let (context, Name(name), query) = (may?, name?, query?);
        // Whoever is shown the very same, word for word, is shown it together. Each was let in for itself.
        let shell = visitor.shell(context.asker.as_deref());
        let (may_change, asked) = (update.is_ok(), visitor.given("asked").is_some());
        let words = format!("{name} {query:?} {shell:?} {may_change} {asked}");
        let page = Box::pin(shown(&context, &name, &query, &visitor, may_change));
        context.shares.looks.page(&words, page).await
    };
    match asked.await {
        Ok(page) => html(StatusCode::OK, &visitor, page.to_string()),
        Err(refusal) => refused(&visitor, &refusal),
    }
}

async fn shown(
    context: &Context,
    name: &str,
    query: &PageQuery,
    visitor: &Visitor,
    may_change: bool,
) -> Result<String, ApiError> {
    // Always of now: what was just seen of the nodes may be shown once more, how the upgrade stands may not.
    let records = context.shown_records(name).await?;
    let seen = context.whole_fleet(name, Some(&records)).await?;
    let now = context.clock.now();
    let active = preflight::active(&records);
    let held = match active {
        Some(_) => None,
        None => context.held(name, &records).await.and_then(|held| held::line(&held)),
    };
    let planned = match &query.form {
        Some(form) if active.is_none() => Some(planned(context, name, form).await),
        _ => None,
    };
    let (fleet, why) = (seen.view(&query.table.by), seen.why(now));
    let legal = legal(name, &records, seen.can_go_back(name, &records));
    let blueprints = context.catalog.rescan().await;
    let blank = PlanForm { strategy: Strategy::RollingUpdate, ..PlanForm::default() };
    let page = GrPage {
        gr: name,
        sentence: &watching::line(active.or(records.first()), name, seen.gr_is_there(), now),
        records: &records,
        why,
        fleet: &fleet,
        held: held.as_deref(),
        legal: &legal,
        may_change,
        asked: visitor.given("asked").is_some(),
        table: &query.table,
        blueprints: &blueprints,
        form: query.form.as_ref().unwrap_or(&blank),
        planned: planned.as_ref(),
        now,
    };
    Ok(gr_page(&visitor.shell(context.asker.as_deref()), &page))
}

/// What can be asked for now.
fn legal(name: &str, records: &[GcuUpgrade], can_go_back: bool) -> Vec<Command> {
    let legal = |command: &Command| preflight::may(*command, name, records).is_ok();
    let mut all: Vec<Command> = Command::ALL.into_iter().filter(legal).collect();
    all.retain(|command| *command != Command::Rollback || can_go_back);
    all
}

/// What `POST …/plan` says of what was filled in.
async fn planned(context: &Context, name: &str, form: &PlanForm) -> Result<Planned, String> {
    let body = body_of(form).to_string();
    let asked = async {
        let query = JobQuery { wait: None, dry_run: true, form: Form::Text };
        context.upgrade(name, &parse(body.as_bytes())?, query, Key(None)).await
    };
    match Box::pin(asked).await {
        Ok(reply) => Ok(Planned { text: reply.into_text(), body }),
        Err(refusal) => Err(refusal.message.clone()),
    }
}

/// The body of a request for what was filled in.
fn body_of(form: &PlanForm) -> Value {
    let amount = |text: &str| match text.parse::<u64>() {
        Ok(number) => json!(number),
        Err(_) => json!(text),
    };
    let mut body = json!({ "file": form.file, "strategy": form.strategy });
    let mut rolling = Map::new();
    for (key, text) in [("maxUnavailable", &form.at_once), ("canary", &form.canary)] {
        if !text.is_empty() && text != "0" {
            rolling.insert(key.to_owned(), amount(text));
        }
    }
    if let Some(object) = body.as_object_mut().filter(|_| !rolling.is_empty()) {
        object.insert("rollingUpdate".to_owned(), Value::Object(rolling));
    }
    body
}

impl Context {
    /// The grs and the records of the cluster.
    async fn listed(&self) -> Result<Listed, ApiError> {
        let mut listed = Listed::default();
        let grs = self.grs().await?;
        let items = grs.get("items").and_then(Value::as_array).into_iter().flatten();
        let text = |gr: &Value, place: &str| {
            gr.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        listed.grs.extend(items.map(|gr| (text(gr, "/metadata/name"), text(gr, "/status/phase"))));
        listed.grs.sort();
        let mut records: Vec<Lenient> = Vec::new();
        self.each_record(|record| records.push(record)).await?;
        records.sort_by_cached_key(age);
        // One that cannot be read is told of on its gr's page.
        listed.records = records.into_iter().filter_map(|record| record.0.ok()).collect();
        Ok(listed)
    }
}
