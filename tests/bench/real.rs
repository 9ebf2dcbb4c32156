//! RollingUpdate on a real API server with the real DaemonSet controller, in real time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::kube::{OF_SCENARIOS, Plane, RealCluster};
use crate::looks::ask;
use crate::process::{Service, until_ready};
use crate::rolling::{SWAPPED, Setting, Tenants, ideal};
use crate::table::{self, row};

/// Nodes of each cluster, unless the command line says another number.
const NODES: [usize; 2] = [100, 500];
const AT_ONCE: usize = 25;
/// For the cluster to come to rest: its DaemonSet controller makes twenty pods a second.
const PATIENCE: Duration = Duration::from_secs(1200);
const MIB: f64 = 1024.0;

struct Run {
    nodes: usize,
    took: Duration,
    ideal: Duration,
    told: f64,
    /// From the end of a pod to its successor, on average.
    pace: Duration,
    /// Calls of the service from the request to the end, by verb.
    calls: BTreeMap<String, u64>,
    cpu: f64,
    memory: f64,
    servers: f64,
}

/// How long the DaemonSet controller takes from the end of each pod to its successor being bound to the same node, for
/// as long as this runs.
async fn successors(client: Client, pace: Arc<Mutex<Vec<Duration>>>) {
    let mut ended: BTreeMap<(String, String), Instant> = BTreeMap::new();
    let place = |pod: &Pod| {
        let owner = pod.owner_references().first().map(|owner| owner.uid.clone())?;
        Some((owner, pod.spec.as_ref()?.node_name.clone()?))
    };
    let mut events = watcher(Api::<Pod>::all(client), watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Delete(pod)) => ended.extend(place(&pod).map(|place| (place, Instant::now()))),
            Ok(watcher::Event::Apply(pod)) => {
                let since = place(&pod).and_then(|place| ended.remove(&place));
                pace.lock().unwrap().extend(since.map(|since| since.elapsed()));
            }
            _ => {}
        }
    }
}

/// The first cordon and the last change of one, for as long as this runs.
async fn cordons(client: Client, seen: Arc<Mutex<Vec<Instant>>>) {
    let mut cordoned: BTreeSet<String> = BTreeSet::new();
    let mut nodes = watcher(Api::<Node>::all(client), watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = nodes.next().await {
        let Ok(watcher::Event::Apply(node)) = event else { continue };
        let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
        let name = node.name_any();
        if is_cordoned && cordoned.insert(name.clone()) || !is_cordoned && cordoned.remove(&name) {
            seen.lock().unwrap().push(Instant::now());
        }
    }
}

/// Calls to the API server so far, by verb.
async fn calls(service: &Service) -> BTreeMap<String, u64> {
    let text = read(service, "/metrics").await;
    let mut calls = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("api_calls_total{")) {
        let verb = line.split("verb=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let count = line.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
        *calls.entry(verb.to_owned()).or_default() += count;
    }
    calls
}

async fn read(service: &Service, path: &str) -> String {
    let (status, body, _) = ask(service, "GET", path, String::new()).await;
    assert_eq!(status, 200, "{path}");
    String::from_utf8_lossy(&body).into_owned()
}

/// The memory of the API server's process, in MiB.
fn memory_of_server(real: &RealCluster) -> f64 {
    let port = real.url().rsplit(':').next().unwrap_or_default().to_owned();
    let is_it = |pid: &str| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.first().is_some_and(|word| word.ends_with(b"/kube-apiserver"))
            && words.contains(&format!("--secure-port={port}").as_bytes())
    };
    let all =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let pid = all.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).find(|pid| is_it(pid));
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap_or_default())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / MIB
}

async fn measure(plane: Plane, nodes: usize) -> Option<Run> {
    let real = plane.cluster().await.filter(|real| real.has_controllers())?;
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join("blueprints")).unwrap();
    let mut gr = documented_gr();
    gr["spec"]["driver"]["version"] = "next".into();
    std::fs::write(home.path().join("blueprints/next.json"), gr.to_string()).unwrap();
    std::fs::copy(real.kubeconfig(), home.path().join("kubeconfig")).unwrap();
    let operator = OperatorBehaviour { component_delay: Duration::ZERO, ..OperatorBehaviour::default() };
    let world = World { nodes, operator, with_real_controllers: true, ..World::default() };
    let world = world.start(real.client().await, Clock::system()).await.unwrap();
    world.settled(PATIENCE).await.unwrap();
    let path = home.path().to_owned();
    let (_, service) = tokio::task::spawn_blocking(move || until_ready(&path)).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let pace: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let changes: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let watching = [
        tokio::spawn(successors(real.client().await, pace.clone())),
        tokio::spawn(cordons(real.client().await, changes.clone())),
    ];
    let (before, cpu_before) = (calls(&service).await, service.cpu());
    let body = json!({
        "file": "next.json", "strategy": "RollingUpdate",
        "rollingUpdate": { "maxUnavailable": AT_ONCE, "minReadySeconds": 0 },
    });
    let (status, answer, _) =
        ask(&service, "PUT", &format!("/gum/v1/gr/{}", world.gr_name()), body.to_string()).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let records: Api<GcuUpgrade> = Api::all(real.client().await);
    let name = format!("{}-1", world.gr_name());
    let status = loop {
        sleep(Duration::from_secs(2)).await;
        let status = records.get(&name).await.unwrap().status_or_default();
        if status.phase.is_final() {
            break status;
        }
    };
    assert_eq!(status.phase, Phase::Succeeded, "{}", status.message);
    let mut calls = calls(&service).await;
    calls.iter_mut().for_each(|(verb, count)| *count -= before.get(verb).copied().unwrap_or_default());
    let rolling = status.rolling.unwrap();
    watching.iter().for_each(|watching| watching.abort());
    let changes = changes.lock().unwrap().clone();
    let took = changes.last().unwrap().duration_since(changes[0]);
    let recorded = rolling.last_done_at.unwrap().duration_since(rolling.first_claim_at.unwrap());
    let paces = pace.lock().unwrap().clone();
    Some(Run {
        nodes,
        took,
        ideal: ideal(Setting { nodes, at_once: AT_ONCE, tenants: Tenants::None }),
        pace: paces.iter().sum::<Duration>() / u32::try_from(paces.len().max(1)).unwrap(),
        told: rolling.ideal_ms as f64 / recorded.as_millis() as f64,
        calls,
        cpu: service.cpu() - cpu_before,
        memory: service.peak() / MIB,
        servers: memory_of_server(real),
    })
}

pub(crate) fn print(size: Option<usize>) {
    let sizes = size.map_or(NODES.to_vec(), |nodes| vec![nodes]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let each = OF_SCENARIOS.into_iter().zip(sizes);
    let runs: Vec<Run> = each.filter_map(|(plane, nodes)| runtime.block_on(measure(plane, nodes))).collect();
    let mut rows = vec![row(&["RollingUpdate, 25 nodes at once, real time"])];
    rows[0].extend(runs.iter().map(|run| format!("{} nodes", run.nodes)));
    let mut line = |name: &str, value: &dyn Fn(&Run) -> String| {
        let mut cells = row(&[name]);
        cells.extend(runs.iter().map(value));
        rows.push(cells);
    };
    line("took", &|run| format!("{:.1} s", run.took.as_secs_f64()));
    line("ideal window", &|run| format!("{:.0} s", run.ideal.as_secs_f64()));
    line("efficiency, against the world's own times", &|run| {
        format!("{:.3}", run.ideal.as_secs_f64() / run.took.as_secs_f64())
    });
    line("from a pod's end to its successor, mean", &|run| {
        format!("{:.0} ms", run.pace.as_secs_f64() * 1000.0)
    });
    line("efficiency, with that time in the window", &|run| {
        let swaps = (SWAPPED * run.nodes / AT_ONCE) as f64;
        let window = run.ideal.as_secs_f64() + run.pace.as_secs_f64() * swaps;
        format!("{:.3}", window / run.took.as_secs_f64())
    });
    line("efficiency, as the status tells it", &|run| format!("{:.3}", run.told));
    for verb in ["get", "list", "watch", "create", "update", "patch", "delete"] {
        line(&format!("{verb}, per node"), &|run| {
            format!("{:.2}", run.calls.get(verb).copied().unwrap_or_default() as f64 / run.nodes as f64)
        });
    }
    line("calls per node beside swapped pods", &|run| {
        let all: u64 = run.calls.values().sum();
        format!("{:.2}", all as f64 / run.nodes as f64 - SWAPPED as f64)
    });
    line("CPU seconds of the service, per 1,000 nodes", &|run| {
        format!("{:.1}", run.cpu / run.nodes as f64 * 1000.0)
    });
    line("most memory of the service (RSS)", &|run| format!("{:.0} MiB", run.memory));
    line("most memory of the API server (RSS)", &|run| format!("{:.0} MiB", run.servers));
    table::print("RollingUpdate on a real API server, with the real DaemonSet controller", &rows);
}
