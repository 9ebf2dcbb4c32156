//! What the API server's errors are told as: where, what is wrong, what to do.

use std::error::Error;
use std::io;

use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use kube::core::Status;
use kube::runtime::watcher;
use serde_json::json;
use tower::BoxError;

use super::is_absent;

/// No answer came.
#[derive(Debug, thiserror::Error)]
#[error("{server} {what}")]
pub(super) struct Unanswered {
    pub(super) server: String,
    pub(super) what: String,
}

impl Unanswered {
    /// kube's own errors, such as those of a program that hands out tokens, pass through.
    pub(super) fn of(server: &str, error: BoxError) -> BoxError {
        if error.is::<kube::Error>() {
            return error;
        }
        Self { server: server.to_owned(), what: format!("cannot be reached: {}", cause(error.as_ref())) }
            .into()
    }
}

/// The text of a Kubernetes Status where there is one, with its causes, else where the call was to go and what it met.
/// A refused eviction names its disruption budget in the causes alone.
pub fn error_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status_text(status),
        kube::Error::Service(error) => match error.downcast_ref::<Unanswered>() {
            Some(unanswered) => unanswered.to_string(),
            None => cause(error.as_ref()),
        },
        kube::Error::Auth(error) => format!("no credentials to be had: {}", cause(error)),
        kube::Error::SerdeError(error) => format!("the API server's answer cannot be read: {error}"),
        other => cause(other),
    }
}

/// The same for a watch.
pub fn watch_text(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error_text(error),
        watcher::Error::WatchError(status) => status_text(status),
        other => other.to_string(),
    }
}

fn status_text(status: &Status) -> String {
    let message = status.message.as_str();
    match status.code {
        401 => format!(
            "the API server does not accept this service's credentials: {message}; check the token or certificate in \
             its kubeconfig, or its service account"
        ),
        403 => forbidden(message),
        404 if !is_absent(status) => format!("the API server does not serve this API: {message}"),
        _ => {
            let causes = status.details.iter().flat_map(|d| &d.causes).map(|c| c.message.as_str());
            let new = causes.filter(|c| !c.is_empty() && !message.contains(c));
            std::iter::once(message).chain(new).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Every call to the cluster is made in the service's own name: what is forbidden is forbidden to the service, not to
/// whoever asked it. An admission webhook's refusal has the same code, and words of its own.
pub fn forbidden(message: &str) -> String {
    let parts =
        message.split_once(" is forbidden: User \"").and_then(|(_, rest)| rest.split_once("\" cannot "));
    let Some((user, what)) = parts else { return message.to_owned() };
    let account = match user.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':')) {
        Some((namespace, name)) => format!("the service account {namespace}/{name}"),
        None => format!("the user {user:?}"),
    };
    format!(
        "{account} of gcu-upgrade-manager itself cannot {what}: grant it with the ClusterRole and the Roles of its \
         chart (value rbac.create); in Kubernetes' words: {message}"
    )
}

/// What an error is because of, in the words of whoever has to mend it.
pub fn cause(error: &(dyn Error + 'static)) -> String {
    let (mut causes, mut next) = (Vec::new(), Some(error));
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    let texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
    let said = |words: &str| texts.iter().find(|text| text.contains(words));
    let is = |kind| causes.iter().any(|c| c.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == kind));
    if is(io::ErrorKind::ConnectionRefused) {
        return "connection refused: nothing listens there".to_owned();
    }
    if is(io::ErrorKind::TimedOut) {
        return "no connection in time".to_owned();
    }
    if let Some(text) = said("invalid peer certificate") {
        return format!("its certificate is not trusted: {text}");
    }
    let last = texts.last().map(String::as_str).unwrap_or_default();
    if said("dns error").is_some() {
        return format!("its name cannot be resolved: {last}");
    }
    // The outermost text alone often says nothing.
    let mut all = String::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        if !all.contains(text.as_str()) {
            let colon = if all.is_empty() { "" } else { ": " };
            all = format!("{all}{colon}{text}");
        }
    }
    all
}

/// An answer of 401 says nothing but that: with the address it says whom to ask.
pub(super) fn unauthorized<B>(server: &str, answer: &Response<B>) -> Option<Response<bytes::Bytes>> {
    if answer.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401, "reason": "Unauthorized",
        "message": format!("{server} answers 401 Unauthorized"),
    });
    let mut named = Response::new(bytes::Bytes::from(status.to_string()));
    *named.status_mut() = StatusCode::UNAUTHORIZED;
    named.headers_mut().extend(answer.headers().clone());
    named.headers_mut().remove(CONTENT_LENGTH);
    Some(named)
}
