//! RollingUpdate: efficiency and API calls for each node, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::app::Service;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use gcu_upgrade_manager::sandbox::actors::kubelet::STOPS_IN;
use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::world::{Running, World, documented_gr};
use http::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;
use tower::ServiceExt;

use crate::calls::{Log, counting, in_virtual_time};
use crate::table::{self, row};

/// Components whose pods a change of the driver replaces: driver, toolkit, devicePlugin, exporter, gfd.
pub(crate) const SWAPPED: usize = 5;
/// From the delete of a component's pod to its end, and from there to its successor being ready.
const SWAP: Duration = Duration::from_secs(1 + 2);
/// From an eviction to the end of the pod.
const STOP: Duration = Duration::from_secs(1);
/// What a slow drain takes longer.
const SLOW: u64 = 300;
/// Every so many nodes one has a pod that drains slowly.
const SLOW_EVERY: usize = 20;

/// What is rolled, and how.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) nodes: usize,
    pub(crate) at_once: usize,
    pub(crate) tenants: Tenants,
}

/// Pods of users.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Tenants {
    None,
    /// One that drains slowly on every [`SLOW_EVERY`]th node.
    Slow,
    /// [`fifteen::ON_A_NODE`](crate::fifteen) on every node.
    Everywhere,
}

pub(crate) struct Run {
    pub(crate) nodes: usize,
    pub(crate) evictions: usize,
    /// Calls that grow with the nodes, by what they are.
    pub(crate) calls: BTreeMap<String, usize>,
    /// From the first cordon to the last release, in virtual time.
    pub(crate) took: Duration,
    pub(crate) ideal: Duration,
    pub(crate) told: f64,
    pub(crate) record_bytes: usize,
    /// From the request to the first cordon, in virtual time and in real.
    pub(crate) started: (Duration, Duration),
    /// In real time: to fill the cluster, and to roll it.
    pub(crate) real: (Duration, Duration),
}

/// How long a window without any delay of ours takes over these nodes.
pub(crate) fn ideal(Setting { nodes, at_once, tenants }: Setting) -> Duration {
    let mut free: BinaryHeap<Reverse<Duration>> = (0..at_once).map(|_| Reverse(Duration::ZERO)).collect();
    let mut names: Vec<(String, usize)> = (1..=nodes).map(|n| (format!("node-{n}"), n)).collect();
    names.sort();
    let mut end = Duration::ZERO;
    for (_, number) in names {
        let drains = match tenants {
            Tenants::Slow if number % SLOW_EVERY == 0 => Duration::from_secs(SLOW),
            Tenants::Everywhere => STOP,
            Tenants::None | Tenants::Slow => Duration::ZERO,
        };
        let Reverse(begins) = free.pop().unwrap();
        let ends = begins + SWAP * u32::try_from(SWAPPED).unwrap() + drains;
        end = end.max(ends);
        free.push(Reverse(ends));
    }
    end
}

async fn slow_tenants(client: &Client, nodes: usize) {
    let api: Api<Deployment> = Api::namespaced(client.clone(), "default");
    for number in (SLOW_EVERY..=nodes).step_by(SLOW_EVERY) {
        let name = format!("tenant-{number}");
        let tenant = json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": { "app": name } },
                "template": {
                    "metadata": { "labels": { "app": name }, "annotations": { STOPS_IN: SLOW.to_string() } },
                    "spec": {
                        "nodeSelector": { "kubernetes.io/hostname": format!("node-{number}") },
                        "containers": [{
                            "name": "c", "image": "train:1",
                            "resources": { "limits": { "enflame.com/gcu": "1" } },
                        }],
                    },
                },
            },
        });
        api.create(&PostParams::default(), &serde_json::from_value(tenant).unwrap()).await.unwrap();
    }
}

/// Rolls a cluster of the sandbox.
pub(crate) async fn measure(setting: Setting) -> Run {
    let Setting { nodes, at_once, tenants } = setting;
    let begun = RealTime::now();
    let clock = Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
    let api = ApiServer::new(clock);
    if tenants == Tenants::Everywhere {
        crate::fifteen::fill(api.store(), nodes);
    }
    let operator = OperatorBehaviour { component_delay: Duration::ZERO, ..OperatorBehaviour::default() };
    let world = World { nodes, operator, ..World::default() };
    let world: Running = world.start(api.client_as("actors"), clock).await.unwrap();
    world.settled(Duration::from_secs(3600)).await.unwrap();
    if tenants == Tenants::Slow {
        slow_tenants(&api.client(), nodes).await;
        sleep(Duration::from_secs(60)).await;
    }
    let filled = begun.elapsed();
    let cordons: Arc<Mutex<Vec<(tokio::time::Instant, RealTime)>>> = Arc::default();
    let seen = cordons.clone();
    api.store().on_change(move |change| {
        let cordoned = |o: &Option<Arc<serde_json::Value>>| {
            o.as_ref().is_some_and(|n| n["spec"]["unschedulable"] == true)
        };
        if change.resource.1 == "nodes" && cordoned(&change.old) != cordoned(&change.new) {
            seen.lock().unwrap().push((tokio::time::Instant::now(), RealTime::now()));
        }
    });
    let blueprints = TempDir::new().unwrap();
    let mut gr = documented_gr();
    gr["spec"]["driver"]["version"] = "next".into();
    std::fs::write(blueprints.path().join("next.json"), gr.to_string()).unwrap();
    let log = Log::default();
    let client = counting(api.client_as("gum"), log.clone());
    let service = Service::start(crate::parts(client, clock, blueprints.path())).await;
    service.ready().await;
    let path = format!("/gum/v1/gr/{}", world.gr_name());
    let body = json!({
        "file": "next.json", "strategy": "RollingUpdate",
        // The ideal window knows no time in which a node that is done is watched.
        "rollingUpdate": { "maxUnavailable": at_once, "order": "Name", "minReadySeconds": 0 },
    });
    let (asked, really) = (tokio::time::Instant::now(), RealTime::now());
    let request = Request::put(path).body(Body::from(body.to_string())).unwrap();
    assert!(service.router().oneshot(request).await.unwrap().status().is_success());
    let records: Api<GcuUpgrade> = Api::all(api.client());
    let name = format!("{}-1", world.gr_name());
    let mut record_bytes = 0;
    loop {
        let record = records.get(&name).await.unwrap();
        record_bytes = record_bytes.max(json!(record).to_string().len());
        let status = record.status_or_default();
        if status.phase.is_final() {
            assert_eq!(status.phase, Phase::Succeeded, "{}", status.message);
            break;
        }
        sleep(Duration::from_secs(5)).await;
    }
    let status = records.get(&name).await.unwrap().status_or_default();
    let rolling = status.rolling.unwrap();
    let actual = rolling.last_done_at.unwrap().duration_since(rolling.first_claim_at.unwrap());
    let told = rolling.ideal_ms as f64 / actual.as_millis() as f64;
    let cordons = cordons.lock().unwrap().clone();
    let (first, really_first) = cordons[0];
    let took = cordons.last().unwrap().0.duration_since(first);
    let started = (first.duration_since(asked), really_first.since(really));
    let real = (filled, really.elapsed());
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for (_, call) in log.lock().unwrap().iter() {
        let per_node = ["gcuupgrades/status", "pods", "nodes", "pods/eviction"];
        let (_, what) = call.rsplit_once(' ').unwrap();
        if per_node.contains(&what) {
            *calls.entry(call.clone()).or_default() += 1;
        }
    }
    let nodes_left: BTreeSet<String> = Api::<Node>::all(api.client())
        .list(&Default::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .filter(|n| n.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true)))
        .filter_map(|n| n.metadata.name)
        .collect();
    assert!(nodes_left.is_empty(), "cordons left: {nodes_left:?}");
    let evictions = calls.get("create pods/eviction").copied().unwrap_or_default();
    let ideal = ideal(setting);
    Run { nodes, evictions, calls, took, ideal, told, record_bytes, started, real }
}

/// A moment in real time, also where tokio's stands still.
#[derive(Clone, Copy)]
struct RealTime(std::time::Instant);

impl RealTime {
    #[expect(clippy::disallowed_methods, reason = "how long virtual time takes")]
    fn now() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    fn since(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0)
    }
}

impl Run {
    pub(crate) fn calls_per_node(&self) -> f64 {
        let all: usize = self.calls.values().sum();
        (all - self.evictions) as f64 / self.nodes as f64 - SWAPPED as f64
    }
}

pub(crate) fn print() {
    let of = |nodes, tenants| in_virtual_time(measure(Setting { nodes, at_once: 25, tenants }));
    let runs = [of(100, Tenants::None), of(1000, Tenants::Slow), of(2000, Tenants::None)];
    let mut head = row(&["RollingUpdate, 25 nodes at once"]);
    head.extend(
        runs.iter()
            .map(|r| format!("{} nodes{}", r.nodes, if r.evictions > 0 { ", 5 % slow drains" } else { "" })),
    );
    let mut rows = vec![head];
    let mut line = |name: &str, value: &dyn Fn(&Run) -> String| {
        let mut cells = row(&[name]);
        cells.extend(runs.iter().map(value));
        rows.push(cells);
    };
    line("took (virtual time)", &|r| format!("{} s", r.took.as_secs()));
    line("ideal window", &|r| format!("{} s", r.ideal.as_secs()));
    line("efficiency, against the world's own times", &|r| {
        format!("{:.3}", r.ideal.as_secs_f64() / r.took.as_secs_f64())
    });
    line("efficiency, as the status tells it", &|r| format!("{:.3}", r.told));
    let names: BTreeSet<&String> = runs.iter().flat_map(|r| r.calls.keys()).collect();
    for name in names {
        line(&format!("{name}, per node"), &|r| {
            format!("{:.2}", r.calls.get(name).copied().unwrap_or_default() as f64 / r.nodes as f64)
        });
    }
    line("calls per node beside evictions and swapped pods", &|r| format!("{:.2}", r.calls_per_node()));
    line("largest record", &|r| format!("{} KiB", r.record_bytes / 1024));
    table::print("RollingUpdate: efficiency, API calls, size", &rows);
}
