//! One log line for each request: who asked, what, how it ended, how long it took; and the id that all lines of a
//! request carry.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{ConnectInfo, Request};
use axum::http::header::USER_AGENT;
use axum::http::{HeaderName, Method, StatusCode};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::random;
use crate::telemetry::v1;

/// The header that carries a request's id, both ways.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer paths and client names are cut in the log.
const TEXT_LIMIT: usize = 300;
/// A longer id is none that a program has made for us.
const ID_LIMIT: usize = 64;

/// Who asks: put into a request on its way in, filled in when it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker(pub(super) Arc<OnceLock<String>>);

/// What of a request goes into the log. Its body does not: nobody knows what else it holds. Nor do its headers:
/// one of them may be a token.
pub(super) struct Access {
    pub(super) id: String,
    pub(super) asker: Asker,
    pub(super) method: Method,
    pub(super) since: Instant,
    peer: String,
    agent: String,
    path: String,
}

impl Access {
    pub(super) fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let agent = request.headers().get(USER_AGENT).map(|a| String::from_utf8_lossy(a.as_bytes()));
        let path = request.uri().path_and_query().map(|p| p.as_str()).unwrap_or_default();
        Self {
            id: given_id(request).unwrap_or_else(random::name),
            asker: Asker::default(),
            peer: peer.map_or_else(|| "-".to_owned(), |ConnectInfo(peer)| peer.to_string()),
            agent: agent.map_or_else(|| "-".to_owned(), |a| short(&a)),
            method: request.method().clone(),
            path: short(path),
            since: Instant::now(),
        }
    }

    /// What v1.0.0 said of it.
    pub(super) fn arrived(&self) {
        if matches!(self.method, Method::PUT | Method::DELETE) {
            v1::accepted(self.method.as_str(), &self.path, &self.agent, &self.peer);
        }
    }

    /// Calls that may change something are for every log, the others for those who look closely.
    pub(super) fn log(&self, status: StatusCode, error: Option<&str>) {
        let Self { id: _, asker: Asker(asker), method, since, peer, agent, path } = self;
        let (status, took, by) = (status.as_u16(), since.elapsed(), asker.get());
        if matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS") {
            debug!(peer, agent, by, ?took, error, "{method} {path} {status}");
        } else {
            info!(peer, agent, by, ?took, error, "{method} {path} {status}");
        }
    }
}

/// The id that the caller gave, if it is one: then its logs and ours can be read together.
fn given_id(request: &Request) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (!id.is_empty() && id.len() <= ID_LIMIT && id.bytes().all(fits)).then(|| id.to_owned())
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).collect()
}
