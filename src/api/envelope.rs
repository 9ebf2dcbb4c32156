//! The one shape of every answer: `{"operation", "result", "content" | "error"}`, as v1.0.0 prints it.

use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::response::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};
use tracing::{Instrument, info_span};

use super::access::{Access, REQUEST_ID};
use super::form::Form;
use crate::cluster::{error_text, forbidden, is_absent};
use crate::metrics::Metrics;
use crate::plan::preflight::Refusal;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// A step of the answers' indentation.
const INDENT: &[u8] = b"    ";
/// The framework's own error texts are short.
const FOREIGN_TEXT_LIMIT: usize = 4096;

/// A success.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    content: Option<Content>,
    location: Option<String>,
    text: Option<String>,
}

/// What a success is about.
#[derive(Clone, Debug)]
enum Content {
    Value(Value),
    /// A large one as it is sent, indented to its place in the envelope: cloned it costs nothing.
    Rendered(Bytes),
}

/// What goes into the envelope.
type Outcome = Result<Option<Content>, String>;

/// Marks an answer that goes out as it is, without the envelope: text for people, a stream of events.
#[derive(Clone, Copy, Debug)]
pub(super) struct AsIs;

impl Reply {
    /// With content.
    pub(super) fn with(content: impl Serialize) -> Self {
        Self { content: Some(Content::Value(in_order(content))), ..Self::default() }
    }

    /// With content that is large, or that many are answered at once: it is written out here and now.
    pub(super) fn rendered(content: &impl Serialize) -> Self {
        // As a field of an object it is indented as it is in the envelope.
        let object = Bytes::from(pretty(&BTreeMap::from([("", content)])));
        let end = object.len().saturating_sub("\n}\n".len());
        let content = object.slice("{\n    \"\": ".len().min(end)..end);
        Self { content: Some(Content::Rendered(content)), ..Self::default() }
    }

    /// With content that is large and read by programs alone: in one line.
    pub(super) fn compact(content: &impl Serialize) -> Self {
        // Writing plain data into memory cannot fail.
        let text = serde_json::to_vec(content).unwrap_or_default();
        Self { content: Some(Content::Rendered(text.into())), ..Self::default() }
    }

    /// As text for people, a line break at its end.
    pub(super) fn text(mut text: String) -> Self {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Self { text: Some(text), ..Self::default() }
    }

    /// With a `Location` header.
    pub(super) fn at(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }

    /// The text for people, of a reply that is one.
    pub(super) fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}

/// A failure: a status and a sentence that says what to do.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    retry_after: Option<u32>,
    location: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None, location: None }
    }

    /// With a `Retry-After` header, in seconds.
    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// With a `Location` header: there is a job to look at.
    pub(super) fn at(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }

    /// With what happens all the same.
    pub(super) fn but(mut self, what: &str) -> Self {
        self.message = format!("{}; {what}", self.message);
        self
    }

    pub(super) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    pub(super) fn is_forbidden(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    fn unavailable(why: &str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "the Kubernetes API server is not available: {why}. Running upgrades go on when it is back"
            ),
        )
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<kube::Error> for ApiError {
    /// Kubernetes' own text and status pass through where they are about the request. An API server that is
    /// away, or that does not accept our credentials, is our unavailability.
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else { return Self::unavailable(&error_text(&error)) };
        let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::BAD_GATEWAY);
        match code {
            StatusCode::UNAUTHORIZED => Self::unavailable(&format!(
                "it does not accept this service's credentials: {}",
                status.message
            )),
            // The path as a whole is not served: an operator or a CRD is being removed.
            StatusCode::NOT_FOUND if !is_absent(status) => {
                Self::unavailable("it does not serve this API (any more); see /readyz")
            }
            StatusCode::TOO_MANY_REQUESTS => Self::unavailable(&status.message),
            StatusCode::FORBIDDEN => Self::new(code, forbidden(&status.message)),
            code if code.is_client_error() => Self::new(code, status.message.clone()),
            _ => Self::unavailable(&status.message),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Busy { .. } | Refusal::Deleting(_) | Refusal::Nothing(_) => StatusCode::CONFLICT,
            Refusal::NoSuchRevision { .. } => StatusCode::NOT_FOUND,
            Refusal::OtherGroup { .. }
            | Refusal::NotServed { .. }
            | Refusal::TooLarge { .. }
            | Refusal::RequestTooLarge(_)
            | Refusal::KeyReused { .. }
            | Refusal::NameTooLong(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, refusal.to_string())
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = StatusCode::OK.into_response();
        locate(&mut response, self.location.as_deref());
        if let Some(text) = self.text {
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            response.extensions_mut().insert(AsIs);
            *response.body_mut() = Body::from(text);
            return response;
        }
        response.extensions_mut().insert(Outcome::Ok(self.content));
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        locate(&mut response, self.location.as_deref());
        response.extensions_mut().insert(Outcome::Err(self.message));
        response
    }
}

/// What is answered when a handler has panicked: that is a defect of ours, and the connection serves on.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let what = panic.downcast_ref::<String>().map(String::as_str);
    let what = what.or(panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    tracing::error!(what, "a request made this service panic: please report it");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "this service has a defect: its log says more")
        .into_response()
}

fn locate(response: &mut Response, location: Option<&str>) {
    if let Some(location) = location.and_then(|l| HeaderValue::from_str(l).ok()) {
        response.headers_mut().insert(LOCATION, location);
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    operation: &'a str,
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Puts every answer into the envelope, the framework's own refusals included, and logs it; but see [`AsIs`].
pub(super) async fn wrap(State(metrics): State<Metrics>, mut request: Request, next: Next) -> Response {
    let operation = operation(request.method(), request.uri().path());
    let form = Form::of(request.headers());
    let access = Access::of(&request);
    request.extensions_mut().insert(access.asker.clone());
    let id = HeaderValue::from_str(&access.id).unwrap_or(HeaderValue::from_static("-"));
    // Every line that is logged on the way carries the request's id.
    let span = info_span!("request", request = %access.id);
    let mut response = answer(operation, form, &access, &metrics, request, next).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

async fn answer(
    operation: &str,
    form: Form,
    access: &Access,
    metrics: &Metrics,
    request: Request,
    next: Next,
) -> Response {
    access.arrived();
    let (mut head, body) = next.run(request).await.into_parts();
    metrics.request(&access.method, head.status.as_u16(), access.since.elapsed());
    if head.extensions.remove::<AsIs>().is_some() {
        access.log(head.status, None);
        return Response::from_parts(head, body);
    }
    let outcome = match head.extensions.remove::<Outcome>() {
        Some(outcome) => outcome,
        None => Err(foreign_text(&head, body).await),
    };
    access.log(head.status, outcome.as_ref().err().map(String::as_str));
    head.headers.remove(CONTENT_LENGTH);
    let envelope = match outcome {
        Err(error) if form == Form::Text => {
            head.headers.insert(CONTENT_TYPE, TEXT);
            return Response::from_parts(head, Body::from(format!("{error}\n")));
        }
        Ok(Some(Content::Rendered(content))) => return around(head, operation, content),
        Ok(Some(Content::Value(content))) => {
            Envelope { operation, result: "Success", content: Some(content), error: None }
        }
        Ok(None) => Envelope { operation, result: "Success", content: None, error: None },
        Err(error) => Envelope { operation, result: "Failed", content: None, error: Some(error) },
    };
    head.headers.insert(CONTENT_TYPE, JSON);
    Response::from_parts(head, Body::from(pretty(&envelope)))
}

/// The envelope around content that is written out already, which is not copied for it.
fn around(mut head: Parts, operation: &str, content: Bytes) -> Response {
    let begin =
        format!("{{\n    \"operation\": \"{operation}\",\n    \"result\": \"Success\",\n    \"content\": ");
    let pieces = [Bytes::from(begin), content, Bytes::from_static(b"\n}\n")];
    head.headers.insert(CONTENT_TYPE, JSON);
    let length: usize = pieces.iter().map(Bytes::len).sum();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Response::from_parts(head, Body::from_stream(stream::iter(pieces.map(Ok::<Bytes, Infallible>))))
}

async fn foreign_text(head: &Parts, body: Body) -> String {
    if let Some(allowed) = head.headers.get(ALLOW).and_then(|a| a.to_str().ok()) {
        return format!("this path does not take that method; it takes {}", allowed.replace(',', ", "));
    }
    let bytes = to_bytes(body, FOREIGN_TEXT_LIMIT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    let reason = head.status.canonical_reason().unwrap_or("failed").to_owned();
    if text.is_empty() { reason } else { text }
}

/// The fields in the order of their names, in which all answers have them.
pub(super) fn in_order(content: impl Serialize) -> Value {
    // Plain data under names of fields: this cannot fail.
    serde_json::to_value(content).unwrap_or_default()
}

/// JSON with four spaces, ending in a newline.
fn pretty<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(INDENT));
    // Writing plain data into memory cannot fail; an empty body would show it if it did.
    if value.serialize(&mut serializer).is_err() {
        out.clear();
    }
    out.push(b'\n');
    out
}

/// v1.0.0's words for what was asked, and the same kind of word for what is new.
pub(super) fn operation(method: &Method, path: &str) -> &'static str {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = path.split('/').skip(3);
    let place = (segments.next().unwrap_or_default(), segments.next(), segments.next().unwrap_or_default());
    match (method.as_str(), place) {
        ("POST", ("gr", Some(_), "nodes")) => match segments.nth(1) {
            Some("skip") => "SkipNode",
            Some("retry") => "RetryNode",
            _ => "Post",
        },
        ("POST", ("gr", Some(_), call)) => {
            CALLS.iter().find(|(name, _)| *name == call).map_or("Post", |(_, word)| word)
        }
        ("POST", _) => "Post",
        ("PATCH", _) => "Patch",
        ("OPTIONS", _) => "Options",
        ("PUT", _) => "Upgrade",
        ("DELETE", _) => "Delete",
        (_, ("gr" | "upgrades" | "blueprints", None, _)) => "List",
        (_, ("gr", Some(_), view)) | (_, ("upgrades", Some(_), view)) => {
            VIEWS.iter().find(|(name, _)| *name == view).map_or("Get", |(_, word)| word)
        }
        _ => "Get",
    }
}

const CALLS: [(&str, &str); 8] = [
    ("rollback", "Rollback"),
    ("retry", "Retry"),
    ("pause", "Pause"),
    ("resume", "Resume"),
    ("cancel", "Cancel"),
    ("promote", "Promote"),
    ("close", "Close"),
    ("plan", "Plan"),
];

const VIEWS: [(&str, &str); 6] = [
    ("history", "History"),
    ("status", "Status"),
    ("why", "Why"),
    ("nodes", "Nodes"),
    ("fleet", "Fleet"),
    ("events", "Events"),
];
