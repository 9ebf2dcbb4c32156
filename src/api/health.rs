//! Probes and version.

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;

use super::Context;
use super::envelope::{ApiError, Reply};

/// `GET /livez`: the process answers.
pub(super) async fn livez() -> Reply {
    Reply::default()
}

/// `GET /readyz`: ready, or what is missing.
pub(super) async fn readyz(State(context): State<Context>) -> Result<Reply, ApiError> {
    let missing = context.not_ready.borrow().clone();
    if missing.is_empty() {
        return Ok(Reply::default());
    }
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}", missing.join("; "))))
}

/// `GET /version`
pub(super) async fn version(State(context): State<Context>) -> Reply {
    Reply::with(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "grApis": context.served.borrow().clone().unwrap_or_default(),
        "recordApi": "gum.enflame.com/v1",
    }))
}
