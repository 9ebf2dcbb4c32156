//! Answers that are drawn for people who ask for text.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::envelope::{ApiError, Reply};
use super::form::Form;
use crate::frame::{Look, view};

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
