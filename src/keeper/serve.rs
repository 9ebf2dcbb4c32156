//! Reviews over HTTPS, on a port of their own.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use http_body_util::LengthLimitError;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Keeper;
use super::configuration::PATH;
use super::review::{AdmissionReview, Verdict, review};
use crate::http::tls::CurrentTls;
use crate::metrics::Metrics;

/// Two whole objects, of which the API server stores none that is larger than 1.5 MiB.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// The API server waits no longer.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// Reviews are rare and answered at once. Each connection may take the memory of one body.
const CONNECTIONS: usize = 32;

/// Serves until `stop`; not before there is a certificate. Until then connections wait.
pub(super) async fn run(keeper: Keeper, listener: TcpListener, stop: CancellationToken) {
    let mut served = keeper.0.served.subscribe();
    // Its other end is the keeper itself, so that there is nothing to wait for without it.
    let first = async { served.wait_for(Option::is_some).await.ok()?.as_ref().map(|s| s.server.clone()) };
    let Some(Some(first)) = stop.run_until_cancelled(first).await else { return };
    if let Ok(address) = listener.local_addr() {
        info!(at = %address, "the keeper answers admission reviews");
    }
    let (follow, current) = watch::channel(first);
    let settings = crate::http::Settings {
        tls: Some(CurrentTls::following(current)),
        connections: CONNECTIONS,
        // Connections of clients are counted elsewhere.
        metrics: Metrics::default(),
    };
    let following = async {
        while served.changed().await.is_ok() {
            served.borrow_and_update().iter().for_each(|s| drop(follow.send_replace(s.server.clone())));
        }
        std::future::pending().await
    };
    tokio::select! {
        () = crate::http::serve(listener, router(keeper.metrics().clone()), settings, stop) => {}
        () = following => {}
    }
}

/// The one route, without TLS.
pub fn router(metrics: Metrics) -> Router {
    Router::new().route(PATH, post(move |body| answer(metrics, body)))
}

async fn answer(metrics: Metrics, body: Body) -> Response {
    let mut answer = match read(body).await {
        Ok(asked) => {
            let (answer, verdict) = review(asked);
            metrics.keeper_reviewed(match verdict {
                Verdict::Allowed => "allowed",
                Verdict::Released => "released",
                Verdict::Kept => "kept",
            });
            // Writing into memory cannot fail; nothing would be an answer that lets no write pass.
            let answer = serde_json::to_string(&answer).unwrap_or_default();
            ([(CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Err((status, why)) => {
            metrics.keeper_reviewed("unreadable");
            debug!(%status, "an admission review cannot be read: {why}");
            (status, format!("the admission review cannot be read: {why}\n")).into_response()
        }
    };
    // A connection that is kept may be closed here in the moment in which it is used there, and the write would fail.
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

async fn read(body: Body) -> Result<AdmissionReview, (StatusCode, String)> {
    let read = timeout(BODY_DEADLINE, to_bytes(body, BODY_LIMIT)).await;
    let read = read
        .map_err(|_| (StatusCode::REQUEST_TIMEOUT, format!("it did not arrive within {BODY_DEADLINE:?}")))?;
    let bytes = read.map_err(|error| {
        let is_too_long = std::error::Error::source(&error).is_some_and(|s| s.is::<LengthLimitError>());
        match is_too_long {
            true => (StatusCode::PAYLOAD_TOO_LARGE, format!("it is larger than {BODY_LIMIT} bytes")),
            false => (StatusCode::BAD_REQUEST, error.to_string()),
        }
    })?;
    AdmissionReview::parse(&bytes).map_err(|why| (StatusCode::BAD_REQUEST, why))
}
