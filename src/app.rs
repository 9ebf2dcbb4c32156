//! Composition: client, discovery, CRD, lease, controller, catalog and API, wired once, run until told to stop, and
//! brought to an orderly end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::auth::Mode;
use crate::blueprint::catalog::{Catalog, Entry, Set, Watching};
use crate::clock::Clock;
use crate::keeper::{self, Keeper};
use crate::lease::{self, Leadership};
use crate::metrics::Metrics;
use crate::record::maintenance::Maintenance;
use crate::store::Stores;
use crate::{api, cluster, controller, notifications, record};

/// How long workers may take to finish the calls that they have begun, when the service stops. A step that is cut
/// off is taken up by the next process all the same.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// What a service is made of.
pub struct ServiceDeps {
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
    /// When nodes may be taken where a request does not say; `None`: at any time.
    pub maintenance: Option<Maintenance>,
    /// The Lease that says which replica acts; `None`: this one always does.
    pub lease: Option<lease::Settings>,
    /// Who may ask.
    pub auth: Mode,
    /// How much may be asked.
    pub limits: api::limits::Limits,
    /// How the API server reaches the keeper; `None`: there is no keeper.
    pub keeper: Option<keeper::Settings>,
    /// Whom to tell of upgrades; `None`: nobody.
    pub notifications: Option<notifications::Settings>,
    /// Where everything counts.
    pub metrics: Metrics,
}

impl ServiceDeps {
    /// A service by itself, open to everybody.
    pub fn new(client: Client, clock: Clock, blueprints: impl Into<PathBuf>, metrics: Metrics) -> Self {
        Self {
            client,
            clock,
            blueprints: blueprints.into(),
            watching: Watching::default(),
            own_node: None,
            maintenance: None,
            lease: None,
            auth: Mode::default(),
            limits: api::limits::Limits::default(),
            keeper: None,
            notifications: None,
            metrics,
        }
    }
}

/// A running service. Its tasks end when it is dropped, wherever they are.
pub struct Service {
    router: Router,
    ready: watch::Receiver<Vec<String>>,
    stop: CancellationToken,
    /// Ended in an orderly way when `stop` is cancelled.
    acting: JoinSet<&'static str>,
    tasks: JoinSet<&'static str>,
    keeper: Option<Keeper>,
    /// Serves the keeper until `close` is cancelled.
    keeping: JoinSet<&'static str>,
    close: CancellationToken,
}

/// A task of the service ended, which none should: the process has to be restarted.
#[derive(Debug, thiserror::Error)]
#[error("{0} ended unexpectedly")]
pub struct TaskEnded(String);

/// What readiness depends on.
struct Signals {
    served: watch::Receiver<Option<Vec<String>>>,
    /// Why it is not known what is served.
    unknown: watch::Receiver<Option<String>>,
    crd: watch::Receiver<Option<String>>,
    leadership: watch::Receiver<Leadership>,
    seen: watch::Receiver<bool>,
    stop: CancellationToken,
    /// It acts or stands by, or once did. When the API server is away later, requests still deserve an answer that
    /// says so.
    took_up_work: bool,
}

impl Service {
    /// Starts everything; being ready takes the cluster's answer, see [`Service::ready`].
    pub async fn start(parts: ServiceDeps) -> Self {
        let ServiceDeps {
            client,
            clock,
            blueprints,
            watching,
            own_node,
            maintenance,
            lease,
            auth,
            limits,
            keeper,
            notifications,
            metrics,
        } = parts;
        let catalog = Arc::new(Catalog::open(blueprints, clock).await);
        let stop = CancellationToken::new();
        let (served_tx, served) = watch::channel(None);
        let (unknown_tx, unknown) = watch::channel(None);
        let (crd_tx, crd) =
            watch::channel(Some(format!("the CRD of {} is not installed yet", record::GROUP)));
        let (seen_tx, seen) = watch::channel(false);
        let (not_ready_tx, not_ready) = watch::channel(vec!["starting".to_owned()]);
        let first = match &lease {
            Some(_) => Leadership::Unknown("the lease has not been read yet".to_owned()),
            None => Leadership::Ours,
        };
        let (leadership_tx, leadership) = watch::channel(first);
        let (mut keeping, close) = (JoinSet::new(), CancellationToken::new());
        let keeper = keeper.map(|settings| {
            let (keeper, running) =
                keeper::open(client.clone(), clock, metrics.clone(), settings, close.clone());
            keeping.spawn(named("the keeper", running));
            keeper
        });
        let stores = Stores::new(client.clone());
        let context = controller::Context {
            client: client.clone(),
            stores: stores.clone(),
            clock,
            own_node: own_node.clone(),
            keeper: keeper.clone(),
            not_released: Arc::default(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        let mut acting = JoinSet::new();
        let controller = run_controller(context, notifications, crd.clone(), leadership.clone(), seen_tx);
        acting.spawn(named("the controller", act(controller, lease, client.clone(), clock, leadership_tx)));
        let mut tasks = JoinSet::new();
        tasks.spawn(named("discovery", cluster::discovery::run(client.clone(), served_tx, unknown_tx)));
        tasks.spawn(named("the watch of the grs", stores.grs.clone().run(served.clone())));
        tasks.spawn(named("the watch of the records", stores.records.clone().run(crd.clone())));
        tasks.spawn(named("CRD installation", cluster::install::run(client.clone(), crd_tx)));
        let signals = Signals {
            served: served.clone(),
            unknown,
            crd,
            leadership: leadership.clone(),
            seen,
            stop: stop.clone(),
            took_up_work: false,
        };
        tasks.spawn(named("readiness", signals.track(not_ready_tx)));
        let watched = catalog.clone();
        tasks.spawn(named("catalog", async move { watched.run(watching, CancellationToken::new()).await }));
        tasks.spawn(named("blueprint metrics", count_blueprints(catalog.clone(), metrics.clone())));
        let context = api::Context {
            client,
            known: Arc::new(stores),
            clock,
            catalog,
            served,
            not_ready: not_ready.clone(),
            leadership,
            own_node,
            maintenance: maintenance.map(Arc::new),
            metrics,
            readings: api::skew::Readings::default(),
            shares: api::limits::Shares::default(),
            stop: stop.clone(),
            asker: None,
            standing: api::auth::Standing::default(),
            patience: api::patience::Patience::default(),
        };
        let router = api::router(context, auth, &limits);
        Self { router, ready: not_ready, stop, acting, tasks, keeper, keeping, close }
    }

    /// The keeper, if there is one.
    pub fn keeper(&self) -> Option<&Keeper> {
        self.keeper.as_ref()
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

    /// Waits for the first task to end, which is a failure unless the service was told to stop.
    pub async fn failed(&mut self) -> TaskEnded {
        let ended = tokio::select! {
            Some(ended) = self.acting.join_next() => ended,
            Some(ended) = self.tasks.join_next() => ended,
            Some(ended) = self.keeping.join_next() => ended,
            else => return TaskEnded("every task".to_owned()),
        };
        TaskEnded(ended.map_or_else(|error| format!("a task ({error})"), str::to_owned))
    }

    /// Tells everything to stop: readiness goes, streams and waits are told, and no worker begins anything new.
    /// Returns when what was begun is finished and the lease is given up. Requests are still answered.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        let all = async { while self.acting.join_next().await.is_some() {} };
        if timeout(LAST_CALLS + LAST_CALLS, all).await.is_err() {
            warn!("calls to the API server were still under way and have been cut off; their upgrades go on");
        }
    }

    /// After [`Service::stop`], and as late as the HTTP service: ends the keeper and finishes what it is being asked.
    pub async fn close(&mut self) {
        self.close.cancel();
        while self.keeping.join_next().await.is_some() {}
    }
}

/// Runs the controller, and holds the lease for as long: it is given up only when nothing of ours is under way any
/// more.
async fn act(
    controller: impl Future<Output = ()>,
    lease: Option<lease::Settings>,
    client: Client,
    clock: Clock,
    leadership: watch::Sender<Leadership>,
) {
    let released = CancellationToken::new();
    let controller = async {
        controller.await;
        released.cancel();
    };
    match lease {
        Some(lease) => {
            let holder = lease::run(client, clock, lease, leadership, released.clone());
            tokio::join!(controller, holder);
        }
        // Held for good: nobody says anything else.
        None => controller.await,
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

async fn count_blueprints(catalog: Arc<Catalog>, metrics: Metrics) {
    let mut sets = catalog.subscribe();
    let mut known = Arc::new(Set::default());
    loop {
        let set = sets.borrow_and_update().clone();
        let valid = set.entries.iter().filter(|e| e.valid).count();
        metrics.blueprints(valid, set.entries.len().saturating_sub(valid));
        let is_new = |e: &&Entry| known.get(&e.file).is_none_or(|old| old.digest != e.digest);
        set.entries.iter().filter(is_new).for_each(|e| metrics.blueprint_read(e.valid));
        known = set;
        if sets.changed().await.is_err() {
            return;
        }
    }
}

/// Runs the controller while this replica leads. It watches records, so it starts once their CRD is there.
async fn run_controller(
    context: controller::Context,
    notifications: Option<notifications::Settings>,
    mut crd: watch::Receiver<Option<String>>,
    mut leadership: watch::Receiver<Leadership>,
    seen: watch::Sender<bool>,
) {
    let stop = context.stop.clone();
    loop {
        let may_act = async {
            let _ = crd.wait_for(Option::is_none).await;
            leadership.wait_for(Leadership::is_ours).await.is_ok()
        };
        if stop.run_until_cancelled(may_act).await != Some(true) {
            return;
        }
        context.metrics.leader(true);
        // Beside the controller, which knows nothing of it; aborted when it is dropped.
        let _telling = JoinSet::from_iter(notifications.clone().map(|settings| {
            notifications::run(settings, context.client.clone(), context.clock, context.metrics.clone())
        }));
        tokio::select! {
            () = until_stopped(&context, &seen) => return,
            // Dropped wherever it is: another may act by now.
            _ = leadership.wait_for(|l| !l.is_ours()) => {}
        }
        context.metrics.leader(false);
    }
}

async fn until_stopped(context: &controller::Context, seen: &watch::Sender<bool>) {
    let mut running = std::pin::pin!(controller::run(context.clone(), seen.clone()));
    tokio::select! {
        () = &mut running => return,
        () = context.stop.cancelled() => {}
    }
    if timeout(LAST_CALLS, running).await.is_err() {
        warn!("an upgrade's call to the API server was cut off; it is taken up from there");
    }
}

impl Signals {
    /// Keeps `not_ready` up to date: what is missing, in sentences.
    async fn track(mut self, not_ready: watch::Sender<Vec<String>>) {
        loop {
            not_ready.send_replace(self.missing());
            let changed = tokio::select! {
                changed = self.served.changed() => changed,
                changed = self.unknown.changed() => changed,
                changed = self.crd.changed() => changed,
                changed = self.leadership.changed() => changed,
                changed = self.seen.changed() => changed,
                () = self.stop.cancelled() => break,
            };
            if changed.is_err() && !self.stop.is_cancelled() {
                return;
            }
        }
        not_ready.send_replace(vec!["stopping".to_owned()]);
        std::future::pending().await
    }

    fn missing(&mut self) -> Vec<String> {
        let mut missing = Vec::new();
        let unknown = self.unknown.borrow_and_update().clone();
        match self.served.borrow_and_update().as_deref() {
            // All else that is missing is missing because of this.
            None => {
                let why = unknown.map(|why| format!(": {why}")).unwrap_or_default();
                return vec![format!("the API server has not been reached yet{why}")];
            }
            Some([]) => missing
                .push("gcu-operator is not installed: the cluster serves no GcuResource API".to_owned()),
            Some(_) => {}
        }
        missing.extend(self.crd.borrow_and_update().clone());
        let seen = *self.seen.borrow_and_update();
        let leadership = self.leadership.borrow_and_update().clone();
        match leadership {
            _ if self.took_up_work => {}
            Leadership::Ours if !seen => {
                missing.push("the upgrade records have not been read yet".to_owned());
            }
            // One that stands by answers requests all the same.
            Leadership::Ours | Leadership::Theirs(_) => self.took_up_work = true,
            Leadership::Unknown(why) => missing.push(format!("leader not yet determined: {why}")),
        }
        missing
    }
}
