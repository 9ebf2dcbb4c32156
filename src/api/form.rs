//! JSON or text: what a caller asks for in `Accept`.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::http::request::Parts;

/// The form of an answer that has two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// The envelope.
    #[default]
    Json,
    /// For people.
    Text,
}

impl Form {
    /// Of the two, the one that `Accept` names first; JSON when it names neither.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
        let named = values.flat_map(|v| v.split(',')).find_map(|range| {
            match range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                "text/plain" => Some(Self::Text),
                "application/json" | "*/*" => Some(Self::Json),
                _ => None,
            }
        });
        named.unwrap_or_default()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Form {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}
