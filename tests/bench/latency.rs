//! The time that Recreate adds to the operator's own, on an embedded cluster behind a socket, in real time.
//!
//! Measured in the API server's store: from the commit of the change that makes a step possible to the commit
//! of the write that takes it. Intermediate writes to the record are part of what is measured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::app::Service;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::sandbox::actors::kubelet::KubeletBehaviour;
use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::store::{Change, ChangeKind};
use gcu_upgrade_manager::sandbox::world::{Running, World, documented_gr};
use gcu_upgrade_manager::{cluster, http as server};
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::table::{self, ms, percentile, row};

/// Grs side by side, each with nodes of its own, and upgrades of each, one after another.
const GRS: usize = 2;
const UPGRADES: usize = 120;
/// Every so many, the operator lets go of the gr after its pods; it looks for those once a second.
const PODS_FIRST: usize = 20;
/// How often v1.0.0 looks whether the gr is gone, and whether the new one runs.
const V1_DELETE: Duration = Duration::from_secs(3);
const V1_CREATE: Duration = Duration::from_secs(5);
/// Component delay, pod start and pod stop: small, so that many upgrades fit into a minute.
const QUICK: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Recorded,
    DeleteAccepted,
    GrGone,
    PodGone,
    GrCreated,
    RolledOut,
    GrRunning,
    Ended,
}

/// By the number of the gr's world.
type Log = Arc<Mutex<BTreeMap<usize, Vec<(Instant, Event)>>>>;

/// What a change means, if anything.
fn event(change: &Change) -> Option<Event> {
    let text = |object: &Option<Arc<Value>>, path: &str| {
        object.as_ref()?.pointer(path)?.as_str().map(str::to_ascii_lowercase)
    };
    let became = |path: &str, value: &str| {
        text(&change.new, path).as_deref() == Some(value) && text(&change.old, path).as_deref() != Some(value)
    };
    let deleting = |object| text(object, "/metadata/deletionTimestamp").is_some();
    match (change.resource.1.as_str(), change.kind) {
        ("gcuupgrades", ChangeKind::Added) => Some(Event::Recorded),
        ("gcuupgrades", _) if became("/status/phase", "succeeded") => Some(Event::Ended),
        ("gcuresources", ChangeKind::Added) => Some(Event::GrCreated),
        ("gcuresources", ChangeKind::Deleted) => Some(Event::GrGone),
        ("gcuresources", _) if deleting(&change.new) && !deleting(&change.old) => Some(Event::DeleteAccepted),
        ("gcuresources", _) if became("/status/phase", "running") => Some(Event::GrRunning),
        ("pods", ChangeKind::Deleted) => Some(Event::PodGone),
        ("daemonsets", ChangeKind::Modified) if rolled_out(&change.new) && !rolled_out(&change.old) => {
            Some(Event::RolledOut)
        }
        _ => None,
    }
}

fn rolled_out(daemonset: &Option<Arc<Value>>) -> bool {
    let number = |field: &str| {
        daemonset.as_ref().and_then(|d| d.pointer(&format!("/status/{field}"))).and_then(Value::as_i64)
    };
    let desired = number("desiredNumberScheduled");
    desired.is_some() && number("updatedNumberScheduled") == desired && number("numberAvailable") == desired
}

/// What one upgrade spent waiting for us: until the delete, until the create, until the end was recorded.
#[derive(Clone, Copy)]
struct Added {
    delete: Duration,
    create: Duration,
    end: Duration,
    total: Duration,
}

fn added(log: &[(Instant, Event)]) -> Added {
    let first = |wanted: Event| log.iter().find(|(_, e)| *e == wanted).expect("the upgrade ran").0;
    let last = |wanted: &[Event], before: Instant| {
        log.iter().filter(|(at, e)| *at <= before && wanted.contains(e)).map(|(at, _)| *at).max().unwrap()
    };
    let (created, ended) = (first(Event::GrCreated), first(Event::Ended));
    let delete = first(Event::DeleteAccepted).duration_since(first(Event::Recorded));
    let create = created.duration_since(last(&[Event::GrGone, Event::PodGone], created));
    let end = ended.duration_since(last(&[Event::GrRunning, Event::RolledOut], ended));
    Added { delete, create, end, total: delete + create + end }
}

/// The world that a change happened in: every name of it begins with `w<number>-`.
fn world_of(change: &Change) -> Option<usize> {
    change.name.strip_prefix('w')?.split('-').next()?.parse().ok()
}

async fn measure() -> Vec<Added> {
    let clock = Clock::system();
    let api = ApiServer::new(clock);
    let log = Log::default();
    let seen = log.clone();
    api.store().on_change(move |change| {
        if let (Some(world), Some(event)) = (world_of(change), event(change)) {
            seen.lock().unwrap().entry(world).or_default().push((Instant::now(), event));
        }
    });
    let blueprints = TempDir::new().unwrap();
    let mut worlds = Vec::new();
    for number in 0..GRS {
        let world = World {
            operator: OperatorBehaviour { component_delay: QUICK, ..OperatorBehaviour::default() },
            kubelet: KubeletBehaviour { pod_start: QUICK, pod_stop: QUICK, ..KubeletBehaviour::default() },
            prefix: Some(format!("w{number}")),
            ..World::default()
        };
        for version in ["a", "b"] {
            let mut gr = world.adapt(documented_gr());
            gr["spec"]["driver"]["version"] = version.into();
            let file = blueprints.path().join(format!("{number}-{version}.json"));
            std::fs::write(file, gr.to_string()).unwrap();
        }
        let world = world.start(api.client_as("actors"), clock).await.unwrap();
        world.settled(Duration::from_secs(60)).await.unwrap();
        worlds.push(world);
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, router) = (CancellationToken::new(), api.router());
    tokio::spawn(server::serve(listener, router, server::Settings::plain(Metrics::default()), stop.clone()));
    let client = cluster::connect(kube::Config::new(url.parse().unwrap()), Metrics::default()).unwrap();
    let service = Service::start(crate::parts(client, clock, blueprints.path())).await;
    service.ready().await;
    let all = worlds.iter().enumerate().map(|(number, world)| upgrades(number, world, &service, &log));
    let all = futures::future::join_all(all).await;
    stop.cancel();
    all.concat()
}

async fn upgrades(number: usize, world: &Running, service: &Service, log: &Log) -> Vec<Added> {
    let mut all = Vec::new();
    for turn in 0..UPGRADES {
        world.change_operator(|operator| operator.waits_for_pods = turn % PODS_FIRST == 0);
        log.lock().unwrap().remove(&number);
        let version = ["a", "b"][turn % 2];
        upgrade(service, world.gr_name(), &format!("{number}-{version}.json")).await;
        all.push(added(&log.lock().unwrap()[&number]));
    }
    all
}

async fn upgrade(service: &Service, gr: &str, file: &str) {
    let request = Request::put(format!("/gum/v1/gr/{gr}?wait=10m"))
        .body(Body::from(format!("{{\"file\": \"{file}\"}}")))
        .unwrap();
    let answer = service.router().oneshot(request).await.unwrap();
    let status = answer.status();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(status.is_success(), "{}", String::from_utf8_lossy(&text));
}

/// Numbers between 0 and 1, the same in every run: the phase at which a poller meets an event is uniform.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    f64::from(u32::try_from(*state >> 33).unwrap_or_default()) / f64::from(1_u32 << 31)
}

pub(crate) fn print() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let all = runtime.block_on(measure());
    runtime.shutdown_background();
    let mut state = 1;
    let (gone, runs): (Vec<Duration>, Vec<Duration>) = all
        .iter()
        .map(|_| (V1_DELETE.mul_f64(uniform(&mut state)), V1_CREATE.mul_f64(uniform(&mut state))))
        .unzip();
    let both: Vec<Duration> = gone.iter().zip(&runs).map(|(a, b)| *a + *b).collect();
    let of = |part: fn(&Added) -> Duration| -> Vec<Duration> { all.iter().map(part).collect() };
    let mut rows = vec![row(&[
        "step",
        "p50",
        "p99",
        "max",
        "v1.0.0 p50",
        "v1.0.0 p99",
        "v1.0.0 max",
        "p50 ratio",
        "p99 ratio",
    ])];
    let none = Vec::new();
    for (name, ours, theirs) in [
        ("asked for → delete sent", of(|a| a.delete), &none),
        ("gr and pods gone → create sent", of(|a| a.create), &gone),
        ("Running and rolled out → end recorded", of(|a| a.end), &runs),
        ("together, for one upgrade", of(|a| a.total), &both),
    ] {
        let mut cells = vec![name.to_owned()];
        cells.extend([50, 99, 100].map(|p| ms(percentile(&ours, p))));
        if !theirs.is_empty() {
            cells.extend([50, 99, 100].map(|p| ms(percentile(theirs, p))));
            let ratio = |p| {
                percentile(theirs, p).as_secs_f64() / percentile(&ours, p).as_secs_f64().max(f64::EPSILON)
            };
            cells.extend([50, 99].map(|p| format!("1 : {:.0}", ratio(p))));
        }
        rows.push(cells);
    }
    table::print(
        &format!(
            "Time that Recreate adds to the operator's own: {} upgrades, {GRS} grs side by side, 3 nodes each; \
             v1.0.0 looks every 3 s and every 5 s",
            all.len()
        ),
        &rows,
    );
}
