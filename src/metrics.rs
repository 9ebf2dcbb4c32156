//! What is counted and measured, for Prometheus. Every label has a small, closed set of values: nothing that comes
//! from outside becomes one. (The names of sinks come from whoever runs the service.)

mod labels;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::explain::progress::efficiency;
use crate::explain::window::{WindowView, window};
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Phase, Strategy};
pub use labels::Notified;
use labels::{Answered, Called, Came, Ended, InPhase, InState, Method, OfStep, ToSink, Verb};

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Times<L> = Family<L, Histogram, fn() -> Histogram>;

/// All of it. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<All>);

struct All {
    registry: Registry,
    upgrades: Family<InPhase, Gauge>,
    ended: Family<Ended, Counter>,
    nodes: Family<InState, Gauge>,
    oldest_claim: Gauge,
    oldest_hold: Gauge,
    window_open: Gauge,
    window_opens: Gauge,
    /// The upgrades under way that mind maintenance windows: which are open is told as of the moment of asking.
    windows: Mutex<Vec<GcuUpgrade>>,
    /// Since when the oldest claim and the oldest hold are there: ages are told as of the moment of asking.
    since: Mutex<(Option<Timestamp>, Option<Timestamp>)>,
    held: Family<InState, Gauge>,
    efficiency: Gauge<f64, std::sync::atomic::AtomicU64>,
    steps: Times<OfStep>,
    api_calls: Family<Called, Counter>,
    api_times: Times<Verb>,
    broken_watches: Counter,
    blueprints: Family<InState, Gauge>,
    reloads: Family<Came, Counter>,
    leader: Gauge,
    requests: Family<Answered, Counter>,
    request_times: Times<Method>,
    connections: Gauge,
    keeper_installed: Gauge,
    reviews: Family<Came, Counter>,
    notifications: Family<ToSink, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("gum");
        let r = &mut registry;
        r.register("build", "What this is", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let all = All {
            upgrades: family(r, "upgrades", "Upgrades that have not ended, by phase"),
            ended: family(r, "upgrades_ended", "Upgrades that have ended since the start"),
            nodes: family(r, "nodes", "Nodes of the rolling upgrades under way, by state"),
            oldest_claim: family(
                r,
                "oldest_cordon_age_seconds",
                "How long the node has been claimed that an upgrade has claimed longest; 0: none is",
            ),
            oldest_hold: family(
                r,
                "record_held_seconds",
                "How long the upgrade has been held that is held longest; 0: none is",
            ),
            window_open: family(
                r,
                "maintenance_window_open",
                "0: an upgrade under way waits for a maintenance window; 1: none does",
            ),
            window_opens: family(
                r,
                "maintenance_window_opens_seconds",
                "How long until the first maintenance window opens that an upgrade under way waits for; 0: none does",
            ),
            windows: Mutex::default(),
            since: Mutex::default(),
            held: family(
                r,
                "held_daemonsets",
                "DaemonSets held at OnDelete: under an upgrade, or without one while they have outdated pods",
            ),
            efficiency: family(
                r,
                "efficiency_ratio",
                "The ideal time of the last rolling upgrade that ended here, divided by the time it took",
            ),
            // A step takes from seconds to hours, a call from milliseconds to its deadline.
            steps: times(r, "step_duration_seconds", "How long steps of upgrades took", || {
                Histogram::new(exponential_buckets(1.0, 3.0, 10))
            }),
            api_calls: family(r, "api_calls", "Calls to the API server by verb and status; 0: no answer"),
            api_times: times(
                r,
                "api_call_duration_seconds",
                "From a call to the API server to the head of its answer",
                quick,
            ),
            broken_watches: family(
                r,
                "watch_restarts",
                "Watches that failed or fell silent and had to be begun anew",
            ),
            blueprints: family(r, "blueprints", "Blueprint files by state"),
            reloads: family(r, "blueprint_reloads", "Blueprint files that were read anew"),
            leader: family(r, "leader", "1: this replica acts; 0: another does"),
            requests: family(r, "http_requests", "Requests answered, by method and status"),
            request_times: times(
                r,
                "http_request_duration_seconds",
                "From a request to the head of its answer, waits that were asked for included",
                quick,
            ),
            connections: family(r, "connections", "Open connections of clients"),
            keeper_installed: family(
                r,
                "keeper_installed",
                "1: the API server asks the keeper about held DaemonSets; 0: it does not",
            ),
            reviews: family(r, "keeper_reviews", "Writes of held DaemonSets that the keeper was asked about"),
            notifications: family(
                r,
                "notifications",
                "Events told to receivers and dropped, and messages that failed, by sink",
            ),
            registry,
        };
        all.begin_at_zero();
        Self(Arc::new(all))
    }
}

/// One or a family of them, from the beginning.
fn family<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    kept(registry, name, help, M::default())
}

fn times<L>(registry: &mut Registry, name: &str, help: &str, make: fn() -> Histogram) -> Times<L>
where
    Times<L>: Metric + Clone,
    L: Clone + std::hash::Hash + Eq,
{
    kept(registry, name, help, Family::new_with_constructor(make))
}

fn kept<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn quick() -> Histogram {
    Histogram::new(exponential_buckets(0.002, 4.0, 8))
}

impl All {
    /// What has not happened yet is there all the same, as 0: alerts need something to look at.
    fn begin_at_zero(&self) {
        for phase in ACTIVE {
            self.upgrades.get_or_create(&InPhase { phase }).set(0);
        }
        for outcome in [Phase::Succeeded, Phase::RolledBack, Phase::Failed] {
            for strategy in [Strategy::Recreate, Strategy::RollingUpdate] {
                drop(self.ended.get_or_create(&Ended { outcome, strategy }));
            }
        }
        for result in ["accepted", "rejected"] {
            drop(self.reloads.get_or_create(&Came { result }));
        }
        for result in ["allowed", "released", "kept", "unreadable"] {
            drop(self.reviews.get_or_create(&Came { result }));
        }
    }
}

/// What is remembered of a record.
fn without_manifests(record: &GcuUpgrade) -> GcuUpgrade {
    let mut record = record.clone();
    record.spec.target.manifest.take();
    record.spec.previous.iter_mut().for_each(|previous| drop(previous.manifest.take()));
    record
}

/// In the order of [`crate::record::rolling::NodeCounts`] as it is read below.
const STATES: [&str; 5] = ["waiting", "active", "done", "skipped", "failed"];
const ACTIVE: [Phase; 4] = [Phase::Pending, Phase::Running, Phase::Paused, Phase::Held];

impl Metrics {
    /// So many DaemonSets are held for an upgrade that is under way, and so many without one.
    pub fn held(&self, upgrading: usize, alone: usize) {
        for (state, number) in [("upgrading", upgrading), ("without_upgrade", alone)] {
            let gauge = self.0.held.get_or_create(&InState { state });
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// Everything, in the OpenMetrics text format.
    pub fn text(&self, now: Timestamp) -> String {
        let (claim, hold) = *self.0.since.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |since: Option<Timestamp>| since.map_or(0, |at| now.duration_since(at).as_secs().max(0));
        self.0.oldest_claim.set(age(claim));
        self.0.oldest_hold.set(age(hold));
        let closed: Vec<WindowView> = self
            .0
            .windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(|record| window(record, now).filter(|window| !window.open))
            .collect();
        self.0.window_open.set(i64::from(closed.is_empty()));
        let left = closed.iter().filter_map(|w| Some(w.opens?.duration_since(now).as_secs().max(0))).min();
        self.0.window_opens.set(left.unwrap_or_default());
        let mut text = String::new();
        // Writing into memory cannot fail; a scrape without its end mark would show it if it did.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// The upgrades under way, as the replica that acts sees them.
    pub fn upgrades<'a>(&self, records: impl Iterator<Item = &'a GcuUpgrade>) {
        let mut phases = ACTIVE.map(|phase| (phase, 0));
        let (mut claim, mut hold): (Option<Timestamp>, Option<Timestamp>) = (None, None);
        let mut nodes = STATES.map(|state| (state, 0));
        let mut windows = Vec::new();
        for record in records.filter(|r| !r.phase().is_final()) {
            let status = record.known_status();
            if record.spec.maintenance.is_some() {
                windows.push(without_manifests(record));
            }
            phases.iter_mut().filter(|(phase, _)| *phase == status.phase).for_each(|(_, n)| *n += 1);
            if status.phase == Phase::Held {
                let held = status.holding("Held").map(|c| c.last_transition_time);
                hold = hold.into_iter().chain(held).min();
            }
            let Some(rolling) = &status.rolling else { continue };
            claim = claim.into_iter().chain(rolling.active.iter().map(|c| c.since)).min();
            let counts = &rolling.nodes;
            let counts = [counts.waiting, counts.active, counts.done, counts.skipped, counts.failed];
            nodes.iter_mut().zip(counts).for_each(|((_, sum), count)| *sum += i64::from(count));
        }
        for (phase, count) in phases {
            self.0.upgrades.get_or_create(&InPhase { phase }).set(count);
        }
        for (state, count) in nodes {
            self.0.nodes.get_or_create(&InState { state }).set(count);
        }
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = (claim, hold);
        *self.0.windows.lock().unwrap_or_else(PoisonError::into_inner) = windows;
    }

    /// A record's status was written: what of it is news?
    pub fn written(&self, strategy: Strategy, old: &GcuUpgradeStatus, new: &GcuUpgradeStatus) {
        if old.step != new.step
            && let (Some(since), Some(until)) = (old.step_since, new.step_since.or(new.finished_at))
        {
            let took = until.duration_since(since).as_secs_f64().max(0.0);
            self.0.steps.get_or_create(&OfStep { step: old.step }).observe(took);
        }
        if new.phase.is_final() && !old.phase.is_final() {
            self.0.ended.get_or_create(&Ended { outcome: new.phase, strategy }).inc();
            let at = new.finished_at.unwrap_or_default();
            if let Some(ratio) = new.rolling.as_ref().and_then(|r| efficiency(r, at)) {
                self.0.efficiency.set(ratio);
            }
        }
    }

    /// A call to the API server; `code` 0: no answer.
    pub fn api_call(&self, verb: &'static str, code: u16, took: Duration) {
        self.0.api_calls.get_or_create(&Called { verb, code }).inc();
        self.0.api_times.get_or_create(&Verb { verb }).observe(took.as_secs_f64());
    }

    /// A watch failed or fell silent.
    pub fn watch_broke_off(&self) {
        self.0.broken_watches.inc();
    }

    /// The blueprints that there are now.
    pub fn blueprints(&self, valid: usize, invalid: usize) {
        for (state, count) in [("valid", valid), ("invalid", invalid)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.0.blueprints.get_or_create(&InState { state }).set(count);
        }
    }

    /// A blueprint file was read anew.
    pub fn blueprint_read(&self, accepted: bool) {
        let result = if accepted { "accepted" } else { "rejected" };
        self.0.reloads.get_or_create(&Came { result }).inc();
    }

    /// Whether this replica acts.
    pub fn leader(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
        if !leads {
            // Told by the one that acts.
            self.upgrades(std::iter::empty());
        }
    }

    /// A request was answered.
    pub fn request(&self, method: &http::Method, code: u16, took: Duration) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "PUT" => "PUT",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => "other",
        };
        self.0.requests.get_or_create(&Answered { method, code }).inc();
        self.0.request_times.get_or_create(&Method { method }).observe(took.as_secs_f64());
    }

    /// Whether the API server asks the keeper.
    pub fn keeper_installed(&self, installed: bool) {
        self.0.keeper_installed.set(i64::from(installed));
    }

    /// The keeper was asked about a write.
    pub fn keeper_reviewed(&self, result: &'static str) {
        self.0.reviews.get_or_create(&Came { result }).inc();
    }

    /// So many notifications have become this.
    pub fn notified(&self, sink: &str, result: Notified, events: usize) {
        let counter =
            self.0.notifications.get_or_create(&ToSink { sink: sink.to_owned(), result: result.word() });
        counter.inc_by(u64::try_from(events).unwrap_or(u64::MAX));
    }

    /// So many connections are open.
    pub fn connections(&self, open: usize) {
        self.0.connections.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}
