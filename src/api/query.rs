//! What stands behind a `?`, and which form of answer is asked for. Every parameter that a call does not know is
//! refused by name.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use jiff::SignedDuration;

use super::envelope::ApiError;
use super::request::{bad, duration};

/// The longest wait for a job's end that one request may ask for.
const WAIT_LIMIT: SignedDuration = SignedDuration::from_hours(24);

/// `?wait=10m&dryRun=true`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JobQuery {
    /// How long to wait for the end; `None`: answer at once.
    pub(super) wait: Option<Duration>,
    /// Check everything, change nothing, and show the plan.
    pub(super) dry_run: bool,
    /// In which form.
    pub(super) form: Form,
}

impl<S: Send + Sync> FromRequestParts<S> for JobQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let pairs = pairs(parts, state).await?;
        let (mut wait, mut dry_run) = (None, None);
        for (key, value) in &pairs {
            let again = match key.as_str() {
                "wait" => wait
                    .replace(duration(value, WAIT_LIMIT).map_err(|e| bad("wait", &e))?.unsigned_abs())
                    .is_some(),
                "dryRun" => dry_run.replace(flag(value).map_err(|e| bad("dryRun", &e))?).is_some(),
                other => return Err(bad(other, "no such query parameter here: wait and dryRun are known")),
            };
            if again {
                return Err(bad(key, "given twice"));
            }
        }
        Ok(Self { wait, dry_run: dry_run.unwrap_or_default(), form: Form::of(parts) })
    }
}

/// No parameter at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match pairs(parts, state).await?.first() {
            Some((key, _)) => Err(bad(key, "no such query parameter here: none is known")),
            None => Ok(Self),
        }
    }
}

/// `?all=true&node=node-1`.
#[derive(Clone, Debug, Default)]
pub(super) struct NodesQuery {
    /// The pods that were replaced too.
    pub(super) all: bool,
    /// This node alone.
    pub(super) node: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for NodesQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (mut all, mut node) = (None, None);
        for (key, value) in pairs(parts, state).await? {
            let again = match key.as_str() {
                "all" => all.replace(flag(&value).map_err(|e| bad("all", &e))?).is_some(),
                "node" => node.replace(value).is_some(),
                other => return Err(bad(other, "no such query parameter here: all and node are known")),
            };
            if again {
                return Err(bad(&key, "given twice"));
            }
        }
        Ok(Self { all: all.unwrap_or_default(), node })
    }
}

async fn pairs<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Vec<(String, String)>, ApiError> {
    let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    query.map(|Query(pairs)| pairs).map_err(|e| ApiError::bad_request(e.body_text()))
}

fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" | "" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("true or false, not {other:?}")),
    }
}

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
    fn of(parts: &Parts) -> Self {
        let values = parts.headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
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
        Ok(Self::of(parts))
    }
}
