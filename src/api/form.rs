//! JSON or text: what a caller asks for in `Accept`.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::envelope::{ApiError, Reply};
use crate::frame::{Look, view};

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

impl Form {
    /// The content in this form: as it is, or drawn for people.
    pub(super) fn reply<T: DeserializeOwned>(
        self,
        content: &impl Serialize,
        now: Timestamp,
        draw: impl Fn(T, &Look) -> String,
    ) -> Result<Reply, ApiError> {
        if self == Self::Json {
            return Ok(Reply::with(content));
        }
        let unreadable =
            |e| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("this cannot be drawn: {e}"));
        let view = view::read(content).map_err(unreadable)?;
        Ok(Reply::text(draw(view, &Look::plain(now))))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Form {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}
