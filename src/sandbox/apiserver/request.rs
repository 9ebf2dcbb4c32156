//! What a request asks for.

use axum::{body::Bytes, extract::Request};
use http::{HeaderMap, Method, Uri, header};
use serde_json::Value;

use super::{error::ApiError, output::View};

/// The largest request body, as in the real server.
pub(crate) const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// A path below `/api/v1` or `/apis/GROUP/VERSION`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty: all namespaces, or cluster-scoped.
    pub(crate) namespace: String,
    pub(crate) plural: String,
    /// Empty: the collection.
    pub(crate) name: String,
    pub(crate) subresource: String,
}

/// A request, read and taken apart.
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Path segments, percent-decoded.
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) view: View,
    /// Media type of the body, without parameters.
    pub(crate) content_type: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) body: Bytes,
}

/// Query parameters. The first of repeated ones counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(uri: &Uri) -> Self {
        let parsed = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        Self(parsed.map(|axum::extract::Query(pairs)| pairs).unwrap_or_default())
    }

    /// A parameter; empty when absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// A flag: `true`, `1` or the bare name.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0.iter().any(|(key, value)| key == name && matches!(value.as_str(), "true" | "1" | "True" | ""))
    }

    /// A number; `None` when absent or malformed.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok()
    }

    /// Whether `dryRun=All`; an error for anything but that or nothing. `kind` is the options' kind.
    pub(crate) fn dry_run(&self, kind: &str) -> Result<bool, ApiError> {
        dry_run(self.0.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.as_str()), kind)
    }
}

/// Checks the values of `dryRun`.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, ApiError> {
    let values: Vec<&str> = values.collect();
    if values.is_empty() {
        return Ok(false);
    }
    if values.iter().all(|value| *value == "All") {
        return Ok(true);
    }
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    let shown = format!("[]string{{{}}}", quoted.join(", "));
    let cause = super::error::Cause::unsupported("dryRun", &shown, &["\"All\"".to_owned()]);
    Err(ApiError::invalid("meta.k8s.io", kind, "", &[cause]))
}

impl Asked {
    /// Reads a whole request.
    pub(crate) async fn read(request: Request) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body =
            axum::body::to_bytes(body, BODY_LIMIT).await.map_err(|_| ApiError::too_large(BODY_LIMIT))?;
        Ok(Self {
            path: parts.uri.path().split('/').filter(|part| !part.is_empty()).map(percent_decoded).collect(),
            query: Query::parse(&parts.uri),
            view: View::negotiate(header_text(&parts.headers, header::ACCEPT))?,
            content_type: media_type(header_text(&parts.headers, header::CONTENT_TYPE)),
            user_agent: parts
                .headers
                .get(header::USER_AGENT)
                .map(|_| header_text(&parts.headers, header::USER_AGENT).to_owned()),
            method: parts.method,
            body,
        })
    }

    /// The body as an object of `kind`, from JSON or YAML.
    pub(crate) fn object(&self, kind: &str) -> Result<Value, ApiError> {
        match self.content_type.as_str() {
            "" | "application/json" => parse_json(&self.body, kind),
            "application/yaml" => parse_yaml(&self.body),
            _ => Err(ApiError::unsupported_body(&[
                "application/json",
                "application/yaml",
                "application/vnd.kubernetes.protobuf",
            ])),
        }
    }

    /// The body when there is one: options of a delete.
    pub(crate) fn options(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() { Ok(Value::Null) } else { self.object("DeleteOptions") }
    }
}

fn parse_json(body: &[u8], kind: &str) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let shown = String::from_utf8_lossy(body);
        let shown = if shown.is_empty() { "<empty>".into() } else { shown };
        let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json \
             parse error: {why} ({shown})"
        ))
    })
}

/// YAML is what `kubectl apply --server-side` sends.
pub(crate) fn parse_yaml(body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    serde_saphyr::from_str(text)
        .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))
}

/// Takes a resource path apart: `[namespaces NS] PLURAL [NAME [SUBRESOURCE]]`.
pub(crate) fn target(group: &str, version: &str, rest: &[String]) -> Option<Target> {
    let mut target = Target { group: group.to_owned(), version: version.to_owned(), ..Target::default() };
    let mut rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    if let ["namespaces", namespace, third, ..] = rest.as_slice()
        && !(group.is_empty() && matches!(*third, "status" | "finalize"))
    {
        target.namespace = (*namespace).to_owned();
        rest.drain(..2);
    }
    let (plural, name, subresource) = match rest.as_slice() {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return None,
    };
    target.plural = plural.to_owned();
    target.name = name.to_owned();
    target.subresource = subresource.to_owned();
    Some(target)
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn media_type(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn percent_decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let decoded = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (*first, decoded) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (byte, _) => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
