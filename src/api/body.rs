//! Request bodies: JSON whatever the Content-Type says, since `curl -d` calls everything a form.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::envelope::ApiError;
use super::words::sentence;

/// Request bodies are a few fields; anything near this size is a mistake.
const BODY_LIMIT: usize = 64 * 1024;
/// A client that takes longer than this to send so little is not served.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// A body, read and understood. None at all means `{}`.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let encoding = request.headers().get(CONTENT_ENCODING).map(|e| e.as_bytes().to_ascii_lowercase());
        if encoding.is_some_and(|e| !e.is_empty() && e != b"identity") {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send the body as it is, without Content-Encoding",
            ));
        }
        parse(&read(request.into_body()).await?).map(Self)
    }
}

pub(super) async fn read(body: Body) -> Result<Bytes, ApiError> {
    match timeout(BODY_DEADLINE, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {BODY_LIMIT} bytes"),
        )),
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the body did not arrive: {error}"))),
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {BODY_DEADLINE:?}"),
        )),
    }
}

/// Says where a mistake is: field, line and column.
pub(super) fn parse<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let wrong = |what: String| ApiError::bad_request(format!("invalid request body: {what}"));
    let shape: Value = serde_json::from_slice(bytes).map_err(|e| wrong(format!("not valid JSON: {e}")))?;
    // Serde would fill an object's fields from a list, in order.
    if !shape.is_object() {
        return Err(wrong("it must be a JSON object such as {\"file\": \"gr.json\"}".to_owned()));
    }
    if let Some(field) = list_in(&shape) {
        return Err(wrong(format!("{field}: no list is expected here")));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|e| match e.path().to_string().as_str() {
        "." => wrong(sentence(&e.inner().to_string())),
        field => wrong(about(field, &e.inner().to_string())),
    })
}

/// A mistake in a field. Of one that is not known the reader has the whole path.
fn about(field: &str, error: &str) -> String {
    let told = sentence(error);
    let last = field.rsplit('.').next().unwrap_or(field);
    let told = told.strip_prefix(&format!("{last}: ")).unwrap_or(&told);
    format!("{field}: {told}")
}

/// The fields that are lists.
const LISTS: [&str; 7] = ["components", "accept", "windows", "exclusions", "days", "keys", "batches"];

/// Where in an object there is a list that does not belong there.
fn list_in(value: &Value) -> Option<String> {
    value.as_object()?.iter().find_map(|(key, value)| match value {
        _ if key == "manifest" => None,
        Value::Array(items) if LISTS.contains(&key.as_str()) => {
            items.iter().enumerate().find_map(|(place, item)| match item {
                Value::Array(_) => Some(format!("{key}[{place}]")),
                item => Some(format!("{key}[{place}].{}", list_in(item)?)),
            })
        }
        Value::Array(_) => Some(key.clone()),
        value => Some(format!("{key}.{}", list_in(value)?)),
    })
}

/// Sets a field of an object.
pub(super) fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}
