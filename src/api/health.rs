//! Probes and version.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::auth::{self, May};
use super::envelope::{ApiError, AsIs, Reply};
use super::form::Form;
use super::query::NoQuery;
use crate::explain::schema::never_null;
use crate::explain::skew;
use crate::frame;
use crate::lease::Leadership;
use crate::metrics;

/// The versions of the service and of what is around it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub(super) struct Version {
    /// Of this service.
    version: &'static str,
    /// Which replica acts on upgrades.
    acts: ActingReplica,
    /// The APIs that serve grs.
    gr_apis: Vec<String>,
    /// The API of the record.
    record_api: &'static str,
    /// Of the cluster; absent when it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes: Option<KubernetesVersion>,
    /// Of gcu-operator; absent when it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<OperatorVersion>,
    /// What does not fit.
    warnings: Vec<String>,
}

/// Which replica acts on upgrades.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
struct ActingReplica {
    /// Whether the one that answers acts on upgrades.
    this_replica: bool,
    /// The one that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
    /// Why it is not known which one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl ActingReplica {
    fn of(leadership: &Leadership) -> Self {
        match leadership {
            Leadership::Ours => Self { this_replica: true, ..Self::default() },
            Leadership::Theirs(name) => Self { replica: Some(name.clone()), ..Self::default() },
            Leadership::Unknown(why) => Self { problem: Some(why.clone()), ..Self::default() },
        }
    }
}

/// The version of the cluster.
#[derive(Debug, Serialize, JsonSchema)]
struct KubernetesVersion {
    /// The API server's.
    version: String,
    /// The release that the service is tested against.
    tested: &'static str,
}

/// The version of gcu-operator.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(transform = never_null)]
struct OperatorVersion {
    /// Where the Deployment `gcu-operator` is.
    namespace: String,
    /// Its image.
    image: String,
    /// The image's tag, where that is a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

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
    let warnings = skew::warnings(&around);
    let kubernetes = around.kubernetes.map(|version| KubernetesVersion { version, tested: skew::TESTED });
    let operator = around.operators.into_iter().next().map(|found| OperatorVersion {
        version: found.version().map(str::to_owned),
        namespace: found.namespace,
        image: found.image,
    });
    let content = Version {
        version: env!("CARGO_PKG_VERSION"),
        acts: ActingReplica::of(&context.leadership.borrow()),
        gr_apis: around.served,
        record_api: "gum.enflame.com/v1",
        kubernetes,
        operator,
        warnings,
    };
    form.reply(&content, context.clock.now(), |version: Value, _| frame::service::version(&version))
}

/// `GET /metrics`, for Prometheus.
pub(super) async fn metrics(context: May<auth::Scrape>, _: NoQuery) -> Response {
    let text = context.metrics.text(context.clock.now());
    let mut response = ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response();
    response.extensions_mut().insert(AsIs);
    response
}
