//! Probes and version.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::{self, May};
use super::envelope::{ApiError, AsIs, Reply};
use super::form::Form;
use super::query::NoQuery;
use crate::explain::skew;
use crate::explain::view::without_nulls;
use crate::frame;
use crate::lease::Leadership;
use crate::metrics;

/// `GET /livez`: the process answers.
pub(super) async fn livez(_: May<auth::Everyone>, _: NoQuery) -> Reply {
    Reply::default()
}

/// `GET /readyz`: ready, or what is missing.
pub(super) async fn readyz(context: May<auth::Everyone>, _: NoQuery) -> Result<Reply, ApiError> {
    let missing = context.not_ready.borrow().clone();
    if missing.is_empty() {
        return Ok(Reply::default());
    }
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}", missing.join("; "))))
}

/// `GET /version`: ours, and the versions around us, with what of them does not fit.
pub(super) async fn version(context: May<auth::Everyone>, form: Form, _: NoQuery) -> Result<Reply, ApiError> {
    let around = context.versions().await;
    let kubernetes = around.kubernetes.as_ref().map(|v| json!({ "version": v, "tested": skew::TESTED }));
    let operator = around.operators.first().map(|o| {
        without_nulls(json!({ "namespace": o.namespace, "image": o.image, "version": o.version() }))
    });
    let acts = match &*context.leadership.borrow() {
        Leadership::Ours => json!({ "thisReplica": true }),
        Leadership::Theirs(name) => json!({ "thisReplica": false, "replica": name }),
        Leadership::Unknown(why) => json!({ "thisReplica": false, "problem": why }),
    };
    let content = without_nulls(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "acts": acts,
        "grApis": around.served,
        "recordApi": "gum.enflame.com/v1",
        "kubernetes": kubernetes,
        "operator": operator,
        "warnings": skew::warnings(&around),
    }));
    form.reply(content, context.clock.now(), |version: Value, _| frame::service::version(&version))
}

/// `GET /metrics`, for Prometheus.
pub(super) async fn metrics(context: May<auth::Scrape>, _: NoQuery) -> Response {
    let text = context.metrics.text(context.clock.now());
    let mut response = ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response();
    response.extensions_mut().insert(AsIs);
    response
}
