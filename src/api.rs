//! The REST service: every route on one screen.
//!
//! Handlers answer `Result<Reply, ApiError>`; one middleware turns every answer, also axum's own 404 and
//! 405, into the one envelope. The API writes records' `spec` and reads the cluster; it never talks to the
//! controller, which finds the records by itself.

mod access;
pub mod auth;
mod blueprints;
mod body;
mod browser;
mod commands;
mod drawn;
mod envelope;
mod etag;
mod events;
mod fleet;
mod form;
mod gr;
mod health;
mod held;
mod jobs;
pub mod limits;
mod live_reads;
pub mod maintenance;
mod nodes;
pub mod openapi;
mod pages;
pub mod patience;
mod planning;
mod query;
mod records;
mod repeat;
mod request;
pub mod skew;
mod upgrade_request;
mod upgrades;
mod version_asked;
mod waiting;
mod watching;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{MethodRouter, get, post, put};
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::blueprint::catalog::Catalog;
use crate::clock::Clock;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::plan::commands::Command;
use crate::record::maintenance::Maintenance;
use crate::store::Known;
use auth::Guarded;
use limits::{Limits, RateLimiter, Shares};
use patience::Patience;

/// What the handlers work with.
#[derive(Clone)]
pub struct Context {
    /// The cluster.
    pub client: Client,
    /// What watches have shown of it.
    pub known: Arc<dyn Known>,
    /// For waits.
    pub clock: Clock,
    /// The blueprints.
    pub catalog: Arc<Catalog>,
    /// The `group/version`s that serve GcuResources; `None` before the cluster has said so.
    pub served: watch::Receiver<Option<Vec<String>>>,
    /// What is not ready yet, in sentences; empty when ready.
    pub not_ready: watch::Receiver<Vec<String>>,
    /// Which replica acts.
    pub leadership: watch::Receiver<Leadership>,
    /// The node that this service runs on.
    pub own_node: Option<String>,
    /// When nodes may be taken where a request does not say.
    pub maintenance: Option<Arc<Maintenance>>,
    /// What is counted.
    pub metrics: Metrics,
    /// The versions around us, as last read.
    pub readings: skew::Readings,
    /// What long requests take their share of.
    pub shares: Shares,
    /// Cancelled when the service stops.
    pub stop: CancellationToken,
    /// Of a request: who asks, where that is known.
    pub asker: Option<String>,
    /// Of a request: what it was let in for.
    pub standing: auth::Standing,
    /// Of a request: whether it waits.
    pub patience: Patience,
}

/// A path, and what is served there.
type Route = (&'static str, MethodRouter<Guarded>);

/// Every route of the API. What each is for is in [`openapi`], which takes its paths from here. Those of the page for
/// people are in [`pages`].
fn routes() -> impl Iterator<Item = Route> {
    let of_gr = get(gr::get).put(jobs::upgrade).delete(gr::delete);
    calls(of_gr).into_iter().chain(of_the_service())
}

/// The calls about grs and their upgrades that people make, and their command line in a process of its own; `of_gr`
/// is what is served at a gr itself.
fn calls(of_gr: MethodRouter<Guarded>) -> [Route; 20] {
    [
        ("/gum/v1/gr", get(gr::list)),
        ("/gum/v1/gr/{name}", of_gr),
        ("/gum/v1/gr/{name}/plan", post(planning::plan)),
        ("/gum/v1/gr/{name}/pause", commands::plain(Command::Pause)),
        ("/gum/v1/gr/{name}/resume", post(commands::resume)),
        ("/gum/v1/gr/{name}/cancel", commands::plain(Command::Cancel)),
        ("/gum/v1/gr/{name}/promote", commands::plain(Command::Promote)),
        ("/gum/v1/gr/{name}/rollback", post(commands::rollback)),
        ("/gum/v1/gr/{name}/retry", post(commands::retry)),
        ("/gum/v1/gr/{name}/close", commands::plain(Command::Close)),
        ("/gum/v1/gr/{name}/nodes/{node}/skip", post(commands::skip)),
        ("/gum/v1/gr/{name}/nodes/{node}/retry", post(commands::retry_node)),
        ("/gum/v1/gr/{name}/why", get(watching::explain)),
        ("/gum/v1/gr/{name}/nodes", get(nodes::nodes)),
        ("/gum/v1/gr/{name}/history", get(upgrades::history)),
        ("/gum/v1/gr/{name}/history/{revision}", get(upgrades::revision)),
        ("/gum/v1/upgrades", get(upgrades::list)),
        ("/gum/v1/upgrades/{id}", get(upgrades::get)),
        ("/gum/v1/upgrades/{id}/events", get(events::events)),
        ("/version", get(health::version)),
    ]
}

/// What is asked of a service alone: for other programs, the page, and about itself.
fn of_the_service() -> [Route; 10] {
    [
        ("/gum/v1/gr/{name}/resource/{kind}", get(gr::resource)),
        ("/gum/v1/gr/{name}/status", get(watching::status)),
        ("/gum/v1/gr/{name}/fleet", get(fleet::fleet)),
        ("/gum/v1/blueprints", get(blueprints::list)),
        ("/gum/v1/blueprints/{file}", get(blueprints::get)),
        ("/livez", get(health::livez)),
        ("/readyz", get(health::readyz)),
        ("/metrics", get(health::metrics)),
        ("/openapi.json", get(openapi::json)),
        ("/docs", get(openapi::docs)),
    ]
}

/// The whole service.
pub fn router(context: Context, mode: auth::Mode, limits: &Limits) -> Router {
    let hosts: browser::Hosts = limits.hosts.clone().into();
    let refuse = middleware::from_fn_with_state(hosts, browser::refuse_foreign_pages);
    served(context, mode, limits, routed(routes().chain(pages::routes())).layer(refuse))
}

/// These calls alone, for a process that serves nobody but itself: what is not needed is not in the program, and the
/// description of the API is half a megabyte.
pub fn calls_alone(context: Context) -> Router {
    served(
        context,
        auth::Mode::None,
        &Limits { per_second: 0, ..Limits::default() },
        routed(calls(put(jobs::upgrade))),
    )
}

fn routed(routes: impl IntoIterator<Item = Route>) -> Router<Guarded> {
    // v1.0.0 documents its list with a slash at the end and calls it without one: both are served everywhere. A layer
    // that trims paths would trim `/gum/v1/gr//` too, which is a script whose variable is empty, and answer it a list.
    let both = |all: Router<Guarded>, (path, methods): Route| {
        all.route(path, methods.clone()).route(&format!("{path}/"), methods)
    };
    routes.into_iter().fold(Router::new(), both).fallback(pages::to_the_page)
}

fn served(context: Context, mode: auth::Mode, limits: &Limits, inner: Router<Guarded>) -> Router {
    let metrics = context.metrics.clone();
    let limiter = RateLimiter::new(limits, context.shares.looks.clone());
    let inner = inner
        .layer(middleware::from_fn_with_state(limiter, limits::admit))
        .with_state(Guarded::new(context, mode));
    enveloped(inner, metrics)
}

/// Puts every answer of `inner` into the envelope, also that of a handler that panics.
pub fn enveloped(inner: Router, metrics: Metrics) -> Router {
    let inner = inner.layer(CatchPanicLayer::custom(envelope::panicked));
    // Around the whole router: a layer within it does not see the header `Allow` of a 405.
    Router::new().fallback_service(inner).layer(middleware::from_fn_with_state(metrics, envelope::wrap))
}
