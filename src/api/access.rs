//! One log line for each request: who asked, what, how it ended, how long it took.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::USER_AGENT;
use axum::http::{Method, StatusCode};
use tokio::time::Instant;
use tracing::{debug, info};

/// Longer paths and client names are cut in the log.
const TEXT_LIMIT: usize = 300;

/// What of a request goes into the log. Its body does not: nobody knows what else it holds.
pub(super) struct Access {
    peer: String,
    agent: String,
    method: Method,
    path: String,
    since: Instant,
}

impl Access {
    pub(super) fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let agent = request.headers().get(USER_AGENT).map(|a| String::from_utf8_lossy(a.as_bytes()));
        let path = request.uri().path_and_query().map(|p| p.as_str()).unwrap_or_default();
        Self {
            peer: peer.map_or_else(|| "-".to_owned(), |ConnectInfo(peer)| peer.to_string()),
            agent: agent.map_or_else(|| "-".to_owned(), |a| short(&a)),
            method: request.method().clone(),
            path: short(path),
            since: Instant::now(),
        }
    }

    /// Calls that may change something are for every log, the others for those who look closely.
    pub(super) fn log(&self, status: StatusCode, error: Option<&str>) {
        let Self { peer, agent, method, path, since } = self;
        let (status, took) = (status.as_u16(), since.elapsed());
        if matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS") {
            debug!(peer, agent, ?took, error, "{method} {path} {status}");
        } else {
            info!(peer, agent, ?took, error, "{method} {path} {status}");
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).collect()
}
