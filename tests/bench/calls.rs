//! The API calls of one Recreate, counted on the service's client, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::app::Service;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::cluster;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::record::{GcuUpgrade, Step};
use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
use http::Request;
use kube::{Api, Client};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tower::{ServiceExt, service_fn};

use crate::table::{self, row};

/// A call: when, and what in one line.
pub(crate) type Log = Arc<Mutex<Vec<(Instant, String)>>>;
type Counts = BTreeMap<String, usize>;

/// The service's own watch, there before any job.
const RECORDS: &str = "watch gcuupgrades";

struct Run {
    name: &'static str,
    /// Calls from the request to the end, without watches begun again after their five minutes.
    job: Counts,
    /// Watches begun again.
    again: usize,
    /// Calls while the job only waited.
    waiting: Counts,
    /// Of the service as such, with or without a job: discovery and the record's CRD.
    background: usize,
    waited: Duration,
    took: Duration,
}

/// `VERB resource`, with names left out.
fn describe(request: &Request<kube::client::Body>) -> String {
    let query = request.uri().query().unwrap_or_default();
    let parts: Vec<&str> = request.uri().path().split('/').filter(|p| !p.is_empty()).collect();
    let rest = match parts.as_slice() {
        ["api", _, "namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        ["apis", _, _, "namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => &[],
    };
    let resource = match rest {
        [] => "discovery".to_owned(),
        [resource] | [resource, _] => (*resource).to_owned(),
        [resource, _, sub, ..] => format!("{resource}/{sub}"),
    };
    let verb = match request.method().as_str() {
        "GET" if query.contains("watch=") => "watch",
        "GET" if rest.len() == 1 => "list",
        "GET" => "get",
        "POST" if query.contains("dryRun") => "create (dry run)",
        "POST" => "create",
        "PUT" if query.contains("dryRun") => "update (dry run)",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        other => other,
    };
    format!("{verb} {resource}")
}

pub(crate) fn counting(inner: Client, log: Log) -> Client {
    let counted = service_fn(move |request: Request<kube::client::Body>| {
        log.lock().unwrap().push((Instant::now(), describe(&request)));
        let client = inner.clone();
        async move { client.send(request).await }
    });
    cluster::client_over(counted, Metrics::default())
}

async fn measure(name: &'static str, nodes: usize, component_delay: Duration) -> Run {
    let clock = Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
    let api = ApiServer::new(clock);
    let world = World {
        nodes,
        operator: OperatorBehaviour { component_delay, ..OperatorBehaviour::default() },
        ..World::default()
    };
    let world = world.start(api.client_as("actors"), clock).await.unwrap();
    world.settled(Duration::from_secs(3600)).await.unwrap();
    let blueprints = TempDir::new().unwrap();
    let mut gr = documented_gr();
    gr["spec"]["driver"]["version"] = "next".into();
    std::fs::write(blueprints.path().join("next.json"), gr.to_string()).unwrap();
    let log = Log::default();
    let client = counting(api.client_as("gum"), log.clone());
    let service = Service::start(crate::parts(client, clock, blueprints.path())).await;
    service.ready().await;
    sleep(Duration::from_secs(5)).await;

    log.lock().unwrap().clear();
    let begun = Instant::now();
    let path = format!("/gum/v1/gr/{}", world.gr_name());
    let request = Request::put(path).body(Body::from(r#"{"file": "next.json"}"#)).unwrap();
    assert!(service.router().oneshot(request).await.unwrap().status().is_success());
    let records: Api<GcuUpgrade> = Api::all(api.client());
    let record = format!("{}-1", world.gr_name());
    let mut quiet: BTreeSet<u64> = BTreeSet::new();
    let mut last = (String::new(), 0);
    // A second in which neither the record nor the cluster moved is one of waiting.
    while !records.get(&record).await.unwrap().phase().is_final() {
        let status = records.get(&record).await.unwrap().status_or_default();
        let now = (format!("{:?}{:?}", status.step, status.waiting_on), api.store().resource_version());
        let waits = matches!(status.step, Step::WaitingGone | Step::WaitingRunning);
        if waits && now == last {
            quiet.insert(begun.elapsed().as_secs());
        }
        last = now;
        sleep(Duration::from_secs(1)).await;
    }
    let took = begun.elapsed();
    // Pruning the history is part of the job.
    sleep(Duration::from_secs(1)).await;
    let log = log.lock().unwrap().clone();
    let mut run = Run {
        name,
        job: Counts::new(),
        again: 0,
        waiting: Counts::new(),
        background: 0,
        waited: Duration::from_secs(quiet.len() as u64),
        took,
    };
    for (at, call) in log {
        let second = at.duration_since(begun).as_secs();
        let waits = quiet.contains(&second) && quiet.contains(&(second + 1));
        let watches = call.starts_with("watch ");
        if call.contains("discovery") || call.contains("customresourcedefinitions") {
            run.background += 1;
        } else if watches && (run.job.contains_key(&call) || call == RECORDS) {
            run.again += 1;
        } else {
            if waits {
                *run.waiting.entry(call.clone()).or_default() += 1;
            }
            *run.job.entry(call).or_default() += 1;
        }
    }
    run
}

pub(crate) fn in_virtual_time<T>(task: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(task)
}

pub(crate) fn print() {
    let fast = Duration::from_secs(1);
    let slow = Duration::from_secs(60);
    let runs = [
        in_virtual_time(measure("1 node, 1 s", 1, fast)),
        in_virtual_time(measure("50 nodes, 1 s", 50, fast)),
        in_virtual_time(measure("1 node, 60 s", 1, slow)),
        in_virtual_time(measure("50 nodes, 60 s", 50, slow)),
    ];
    let calls: BTreeSet<&String> = runs.iter().flat_map(|r| r.job.keys()).collect();
    let mut head = row(&["call"]);
    head.extend(runs.iter().map(|r| r.name.to_owned()));
    let mut rows = vec![head];
    let counts = |count: &dyn Fn(&Run) -> String| runs.iter().map(count).collect::<Vec<_>>();
    for call in calls {
        let mut cells = vec![call.clone()];
        cells.extend(counts(&|r| r.job.get(call).copied().unwrap_or_default().to_string()));
        rows.push(cells);
    }
    let mut total = row(&["together"]);
    total.extend(counts(&|r| r.job.values().sum::<usize>().to_string()));
    let mut took = row(&["the upgrade took (virtual time)"]);
    took.extend(counts(&|r| format!("{} s", r.took.as_secs())));
    let mut waited = row(&["of that, nothing happened for"]);
    waited.extend(counts(&|r| format!("{} s", r.waited.as_secs())));
    let mut polled = row(&["calls for the upgrade meanwhile"]);
    polled.extend(counts(&|r| match r.waiting.values().sum::<usize>() {
        0 => "0".to_owned(),
        some => format!("{some}: {:?}", r.waiting),
    }));
    let mut again = row(&["watches begun again (each after 5 min)"]);
    again.extend(counts(&|r| r.again.to_string()));
    let mut background = row(&["calls of the idle service as such"]);
    background.extend(counts(&|r| {
        let minutes = r.took.as_secs_f64() / 60.0;
        format!("{:.1} a minute", r.background as f64 / minutes)
    }));
    rows.extend([total, took, waited, polled, again, background]);
    table::print("API calls of one Recreate, by nodes and by the operator's time for each component", &rows);
}
