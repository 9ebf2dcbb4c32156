//! Errors in the words of the real server: `Status` bodies.

use axum::{body::Body, response::Response};
use http::{StatusCode, header::CONTENT_TYPE};
use serde_json::{Map, Value, json};

use crate::{json, resources::ResourceType};

/// An error answer.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
    metadata: Value,
    plain: bool,
}

/// One cause of an `Invalid` answer.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl Cause {
    /// `Invalid value: <shown>: <why>`.
    pub(crate) fn invalid(field: impl Into<String>, shown: impl std::fmt::Display, why: &str) -> Self {
        let message = format!("Invalid value: {shown}: {why}");
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    /// `Required value`, with an explanation when there is one.
    pub(crate) fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".into() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// `Forbidden: <why>`.
    pub(crate) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {why}") }
    }

    /// `Unsupported value: <shown>: supported values: …`.
    pub(crate) fn unsupported(field: impl Into<String>, shown: &str, supported: &[String]) -> Self {
        let message = format!("Unsupported value: {shown}: supported values: {}", supported.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, reason, message, details: None, metadata: json!({}), plain: false }
    }

    fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The path leads nowhere: plain text, as from a server that has no such API.
    pub(crate) fn no_such_path() -> Self {
        Self { plain: true, ..Self::new(404, "NotFound", "404 page not found\n") }
    }

    /// The API group is served, the resource is not.
    pub(crate) fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").with_details(json!({}))
    }

    pub(crate) fn not_found(kind: &ResourceType, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} {name:?} not found", kind.qualified())).with_details(details(
            &kind.group,
            &kind.plural,
            name,
        ))
    }

    /// The name is taken; `ending` when what has it is being deleted.
    pub(crate) fn already_exists(kind: &ResourceType, name: &str, ending: bool) -> Self {
        let prefix = if ending { "object is being deleted: " } else { "" };
        Self::new(409, "AlreadyExists", format!("{prefix}{} {name:?} already exists", kind.qualified()))
            .with_details(details(&kind.group, &kind.plural, name))
    }

    /// A write against an old resourceVersion.
    pub(crate) fn modified(kind: &ResourceType, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(&kind.group, &kind.plural, name, why)
    }

    /// Any other conflict. `kind` is spelled as the real server does at that place.
    pub(crate) fn conflict(group: &str, kind: &str, name: &str, why: &str) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {qualified} {name:?}: {why}"))
            .with_details(details(group, kind, name))
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut shown: Vec<String> = Vec::new();
        for cause in causes {
            let line = format!("{}: {}", cause.field, cause.message);
            if !shown.contains(&line) {
                shown.push(line);
            }
        }
        let all = match shown.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut details = details(group, kind, name);
        let causes: Vec<Value> = causes
            .iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        json::set(&mut details, &["causes"], causes);
        Self::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {all}")).with_details(details)
    }

    /// A JSON patch that does not apply.
    pub(crate) fn patch_does_not_apply() -> Self {
        Self::new(422, "Invalid", "the server rejected our request due to an error in our request")
            .with_details(json!({}))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// Errors that the real server does not classify: a message and code 500.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// A webhook that cannot be asked, and must be.
    pub(crate) fn webhook_failed(name: &str, why: &str) -> Self {
        let message = format!("failed calling webhook {name:?}: {why}");
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
            .with_details(json!({"causes": [{"message": message}]}))
    }

    /// What a webhook does not let pass, with the code and message of its `status`, if it gives any.
    pub(crate) fn webhook_denied(name: &str, status: &Value) -> Self {
        let denied = format!("admission webhook {name:?} denied the request");
        let message = match (json::text(status, &["message"]), json::text(status, &["reason"])) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = u16::try_from(json::integer(status, &["code"])).unwrap_or_default().max(400);
        Self::new(code, "", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            .with_details(json!({}))
    }

    pub(crate) fn creating_in_terminating_crd(kind: &ResourceType) -> Self {
        let message = format!(
            "create not allowed while custom resource definition is terminating on resources of kind {:?}",
            kind.qualified()
        );
        Self::new(405, "MethodNotAllowed", message)
            .with_details(json!({"group": kind.group, "kind": kind.plural}))
    }

    pub(crate) fn namespace_terminating(kind: &ResourceType, name: &str, namespace: &str) -> Self {
        let qualified = kind.qualified();
        let message = format!(
            "{qualified} {name:?} is forbidden: unable to create new content in namespace {namespace} \
             because it is being terminated"
        );
        let mut details = details(&kind.group, &kind.plural, name);
        let cause = json!({
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        });
        json::set(&mut details, &["causes"], vec![cause]);
        Self::new(403, "Forbidden", message).with_details(details)
    }

    pub(crate) fn unsupported_body(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn unsupported_patch() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").with_details(json!({}))
    }

    pub(crate) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json, application/yaml, \
                       application/vnd.kubernetes.protobuf";
        Self::new(406, "NotAcceptable", message)
    }

    /// A body of more than `limit` bytes.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, "RequestEntityTooLarge", message).with_details(json!({}))
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A continue token whose snapshot is gone; `next` starts over from the same place without consistency.
    pub(crate) fn continue_expired(next: &str) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You \
                       can start a new list without the continue parameter, or use the continue token in \
                       this response to retrieve the remainder of the results. Continuing with the provided \
                       token results in an inconsistent list - objects that were created, modified, or \
                       deleted between the time the first chunk was returned and now may show up in the \
                       list.";
        Self { metadata: json!({"continue": next}), ..Self::expired(message) }
    }

    pub(crate) fn version_too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", message).with_details(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        }))
    }

    /// An object that admission does not let in.
    pub(crate) fn forbidden(kind: &ResourceType, name: &str, why: &str) -> Self {
        Self::new(403, "Forbidden", format!("{} {name:?} is forbidden: {why}", kind.qualified()))
            .with_details(details(&kind.group, &kind.plural, name))
    }

    /// An eviction that a disruption budget does not allow now.
    pub(crate) fn eviction_refused(why: &str) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        Self::new(429, "TooManyRequests", message)
            .with_details(json!({"causes": [{"reason": "DisruptionBudget", "message": why}]}))
    }

    /// Something that a real server can do and the sandbox cannot: loud, so that a test fails.
    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(501, "NotImplemented", format!("the sandbox does not implement {what}"))
    }

    /// The `Status` object.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": self.metadata,
            "status": "Failure", "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            json::set(&mut body, &["reason"], self.reason);
        }
        if let Some(details) = &self.details {
            json::set(&mut body, &["details"], details.clone());
        }
        body
    }

    /// The whole answer.
    pub(crate) fn response(&self) -> Response {
        if self.plain {
            return reply(self.code, "text/plain; charset=utf-8", self.message.clone());
        }
        reply(self.code, "application/json", self.body().to_string())
    }
}

/// Builds a response.
pub(crate) fn reply(code: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), value.into());
        }
    }
    Value::Object(details)
}
