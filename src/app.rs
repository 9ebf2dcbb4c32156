//! Composition: client, discovery, CRD, controller, catalog and API, wired once and run until told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::blueprint::catalog::{Catalog, Watching};
use crate::clock::Clock;
use crate::{api, controller, gr, record};

/// What a service is made of.
pub struct Parts {
    /// The cluster.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// The directory of blueprints.
    pub blueprints: PathBuf,
    /// How the directory is watched.
    pub watching: Watching,
    /// The node that this service runs on.
    pub own_node: Option<String>,
}

/// A running service. Its tasks end when it is dropped.
pub struct Service {
    router: Router,
    ready: watch::Receiver<Vec<String>>,
    tasks: JoinSet<&'static str>,
}

/// A task of the service ended, which none should: the process has to be restarted.
#[derive(Debug, thiserror::Error)]
#[error("{0} ended unexpectedly")]
pub struct TaskEnded(String);

impl Service {
    /// Starts everything; being ready takes the cluster's answer, see [`Service::ready`].
    pub async fn start(parts: Parts) -> Self {
        let Parts { client, clock, blueprints, watching, own_node } = parts;
        let catalog = Arc::new(Catalog::open(blueprints, clock).await);
        let (served_tx, served) = watch::channel(None);
        let (crd_tx, crd) =
            watch::channel(Some(format!("the CRD of {} is not installed yet", record::GROUP)));
        let (seen_tx, seen) = watch::channel(false);
        let (not_ready_tx, not_ready) = watch::channel(vec!["starting".to_owned()]);
        let mut tasks = JoinSet::new();
        tasks.spawn(named("discovery", gr::discovery::run(client.clone(), served_tx)));
        tasks.spawn(named("CRD installation", record::install::run(client.clone(), crd_tx)));
        tasks.spawn(named(
            "controller",
            run_controller(client.clone(), clock, own_node.clone(), crd.clone(), seen_tx),
        ));
        tasks.spawn(named("readiness", track_readiness(served.clone(), crd, seen, not_ready_tx)));
        let watched = catalog.clone();
        tasks.spawn(named("catalog", async move { watched.run(watching, CancellationToken::new()).await }));
        let streams = api::streams();
        let context =
            api::Context { client, clock, catalog, served, not_ready: not_ready.clone(), streams, own_node };
        Self { router: api::router(context), ready: not_ready, tasks }
    }

    /// The HTTP service.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Waits until ready.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        // The sender lives as long as the tasks; when they are gone there is nothing to wait for.
        let _ = ready.wait_for(Vec::is_empty).await;
    }

    /// Waits for the first task to end, which is a failure.
    pub async fn failed(&mut self) -> TaskEnded {
        match self.tasks.join_next().await {
            Some(Ok(name)) => TaskEnded(name.to_owned()),
            Some(Err(error)) => TaskEnded(format!("a task ({error})")),
            None => TaskEnded("every task".to_owned()),
        }
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// The controller watches records, so it starts once their CRD is there.
async fn run_controller(
    client: Client,
    clock: Clock,
    own_node: Option<String>,
    mut crd: watch::Receiver<Option<String>>,
    seen: watch::Sender<bool>,
) {
    if crd.wait_for(Option::is_none).await.is_ok() {
        controller::run(client, clock, own_node, seen).await;
    }
}

async fn track_readiness(
    mut served: watch::Receiver<Option<Vec<String>>>,
    mut crd: watch::Receiver<Option<String>>,
    mut seen: watch::Receiver<bool>,
    not_ready: watch::Sender<Vec<String>>,
) {
    loop {
        let mut reasons = Vec::new();
        match served.borrow_and_update().as_deref() {
            None => reasons.push("the API server has not been reached yet".to_owned()),
            Some([]) => reasons
                .push("gcu-operator is not installed: the cluster serves no GcuResource API".to_owned()),
            Some(_) => {}
        }
        reasons.extend(crd.borrow_and_update().clone());
        if !*seen.borrow_and_update() {
            reasons.push("the upgrade records have not been read yet".to_owned());
        }
        not_ready.send_replace(reasons);
        let changed = tokio::select! {
            changed = served.changed() => changed,
            changed = crd.changed() => changed,
            changed = seen.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
