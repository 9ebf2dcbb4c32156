//! How much may be asked: by one client in a second, by all at once, and for how long.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::envelope::ApiError;
use super::etag::Rendered;
use super::live_reads::LiveReads;
use super::patience::Patience;

/// Requests that may be worked on at once, waits among them.
const AT_ONCE: usize = 256;
/// `?wait`s that may go on at once.
const WAITS: usize = 100;
/// Event streams that may be open at once: each costs a watch.
const STREAMS: usize = 100;
/// A request that asks for no wait is answered within this time. Each call to the API server has its own deadline;
/// this one bounds their sum.
const REQUEST_DEADLINE: Duration = Duration::from_secs(90);
/// A path is a few names, a query a few words.
const URL_LIMIT: usize = 8 * 1024;
/// A client may save up as many requests as it may make in so many seconds.
const BURST_SECONDS: f64 = 2.0;
/// Clients remembered; beyond, those that have not asked for a while are forgotten.
const CLIENTS: usize = 4096;
/// What clients beyond a limit are told to wait.
const RETRY_SECONDS: u32 = 10;

/// How often and under which host names requests may come.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that one address may make in a second, on average; 0: any number.
    pub per_second: u32,
    /// The host names, beside addresses, under which browsers may come.
    pub hosts: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_second: 100, hosts: Vec::new() }
    }
}

/// What long requests take their share of.
#[derive(Clone, Debug)]
pub struct Shares {
    waits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    pub(super) looks: LiveReads,
    pub(super) rendered: Rendered,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            waits: Arc::new(Semaphore::new(WAITS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            looks: LiveReads::default(),
            rendered: Rendered::default(),
        }
    }
}

impl Shares {
    /// A share of the event streams, or 503.
    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        take(&self.streams, || format!("{STREAMS} event streams are open"))
    }

    /// A share of the waits, or 503. From here on the request has no deadline but its own.
    pub(super) fn wait(&self, patience: &Patience) -> Result<OwnedSemaphorePermit, ApiError> {
        let share = take(&self.waits, || format!("{WAITS} requests are waiting for the end of upgrades"))?;
        patience.begins();
        Ok(share)
    }
}

fn take(semaphore: &Arc<Semaphore>, what: impl FnOnce() -> String) -> Result<OwnedSemaphorePermit, ApiError> {
    semaphore.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{}, which is all there may be: try again later", what());
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(RETRY_SECONDS)
    })
}

/// Counts requests.
#[derive(Clone)]
pub(super) struct RateLimiter {
    at_once: Arc<Semaphore>,
    clients: Arc<Mutex<HashMap<IpAddr, Bucket>>>,
    per_second: f64,
    looks: LiveReads,
}

/// The requests that a client may still make, and as of when.
struct Bucket {
    left: f64,
    at: Instant,
}

impl RateLimiter {
    pub(super) fn new(limits: &Limits, looks: LiveReads) -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            clients: Arc::default(),
            per_second: f64::from(limits.per_second),
            looks,
        }
    }

    fn admit(&self, client: IpAddr) -> bool {
        let full = self.per_second * BURST_SECONDS;
        if full <= 0.0 {
            return true;
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS {
            clients.retain(|_, bucket| bucket.at.elapsed().as_secs_f64() < BURST_SECONDS);
        }
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        let now = Instant::now();
        let bucket = clients.entry(client).or_insert(Bucket { left: full, at: now });
        let regained = now.duration_since(bucket.at).as_secs_f64() * self.per_second;
        bucket.left = (bucket.left + regained).min(full);
        bucket.at = now;
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }
}

/// Lets a request in, or says why not. Probes always come in: a service that is busy is not a dead one.
pub(super) async fn admit(State(limiter): State<RateLimiter>, mut request: Request, next: Next) -> Response {
    if matches!(request.uri().path().trim_end_matches('/'), "/livez" | "/readyz") {
        return next.run(request).await;
    }
    if request.uri().path_and_query().is_some_and(|p| p.as_str().len() > URL_LIMIT) {
        let message = format!("the URL is longer than {URL_LIMIT} bytes");
        return ApiError::new(StatusCode::URI_TOO_LONG, message).into_response();
    }
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    if client.is_some_and(|client| !limiter.admit(client)) {
        let message = format!(
            "too many requests from this address: {} a second are served; use ?wait or the event stream \
             instead of asking again and again",
            limiter.per_second
        );
        return ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(1).into_response();
    }
    let _share = match take(&limiter.at_once, || format!("{AT_ONCE} requests are being worked on")) {
        Ok(share) => share,
        Err(refusal) => return refusal.into_response(),
    };
    let patience = Patience::default();
    request.extensions_mut().insert(patience.clone());
    let reads = matches!(request.method().as_str(), "GET" | "HEAD" | "OPTIONS")
        || request.uri().path().trim_end_matches('/').ends_with("/plan");
    // Also when the caller goes away in the middle.
    let _changes = (!reads).then(|| Change(limiter.looks.clone()));
    let mut answer = std::pin::pin!(next.run(request));
    match timeout(REQUEST_DEADLINE, &mut answer).await {
        Ok(answer) => answer,
        Err(_) if patience.has_begun() => answer.await,
        Err(_) => {
            let message = format!(
                "no answer within {REQUEST_DEADLINE:?}: the API server is slow. What was asked for may have \
                 been done: look before asking again"
            );
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, message).into_response()
        }
    }
}

/// A call that may change something: when it is over, looks from before are not shown any more.
struct Change(LiveReads);

impl Drop for Change {
    fn drop(&mut self) {
        self.0.changed();
    }
}
