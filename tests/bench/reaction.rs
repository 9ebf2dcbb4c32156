//! From a pod turning Ready to the next action on its node, in real time, on an embedded cluster behind a socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::app::Service;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::sandbox::actors::kubelet::KubeletBehaviour;
use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::store::Change;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
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

const NODES: usize = 40;
const AT_ONCE: usize = 4;
const UPGRADES: usize = 6;
const QUICK: Duration = Duration::from_millis(50);

/// When the last pod of a node turned ready, and the times to the next action there.
#[derive(Default)]
struct Seen {
    ready: HashMap<String, Instant>,
    reactions: Vec<Duration>,
}

impl Seen {
    fn note(&mut self, change: &Change) {
        let text = |object: &Option<Arc<Value>>, path: &str| {
            object.as_ref().and_then(|o| o.pointer(path)?.as_str().map(str::to_owned))
        };
        let node = text(&change.new, "/spec/nodeName").or_else(|| text(&change.old, "/spec/nodeName"));
        match (change.resource.1.as_str(), node) {
            ("pods", Some(node)) => {
                let deleting = |o| text(o, "/metadata/deletionTimestamp").is_some();
                if is_ready(&change.new) && !is_ready(&change.old) {
                    self.ready.insert(node, Instant::now());
                } else if deleting(&change.new) && !deleting(&change.old) {
                    self.react(&node);
                }
            }
            ("nodes", _) => {
                let cordoned =
                    |o: &Option<Arc<Value>>| o.as_ref().is_some_and(|n| n["spec"]["unschedulable"] == true);
                if cordoned(&change.old) && !cordoned(&change.new) {
                    self.react(&change.name);
                }
            }
            _ => {}
        }
    }

    fn react(&mut self, node: &str) {
        if let Some(since) = self.ready.remove(node) {
            self.reactions.push(since.elapsed());
        }
    }
}

fn is_ready(pod: &Option<Arc<Value>>) -> bool {
    let conditions = pod.as_ref().and_then(|p| p.pointer("/status/conditions")?.as_array().cloned());
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

async fn measure() -> Vec<Duration> {
    let clock = Clock::system();
    let api = ApiServer::new(clock);
    let world = World {
        nodes: NODES,
        operator: OperatorBehaviour { component_delay: Duration::ZERO, ..OperatorBehaviour::default() },
        kubelet: KubeletBehaviour { pod_start: QUICK, pod_stop: QUICK, ..KubeletBehaviour::default() },
        ..World::default()
    };
    let world = world.start(api.client_as("actors"), clock).await.unwrap();
    world.settled(Duration::from_secs(120)).await.unwrap();
    let blueprints = TempDir::new().unwrap();
    for version in ["a", "b"] {
        let mut gr = documented_gr();
        gr["spec"]["driver"]["version"] = version.into();
        std::fs::write(blueprints.path().join(format!("{version}.json")), gr.to_string()).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(server::serve(
        listener,
        api.router(),
        server::Settings::plain(Metrics::default()),
        stop.clone(),
    ));
    let client = cluster::connect(kube::Config::new(url.parse().unwrap()), Metrics::default()).unwrap();
    let service = Service::start(crate::parts(client, clock, blueprints.path())).await;
    service.ready().await;
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let noting = seen.clone();
    api.store().on_change(move |change| noting.lock().unwrap().note(change));
    for turn in 0..UPGRADES {
        let file = ["a.json", "b.json"][turn % 2];
        let body = format!(
            "{{\"file\": \"{file}\", \"strategy\": \"RollingUpdate\", \"rollingUpdate\": \
             {{\"maxUnavailable\": {AT_ONCE}}}}}"
        );
        let path = format!("/gum/v1/gr/{}?wait=10m", world.gr_name());
        let answer =
            service.router().oneshot(Request::put(path).body(Body::from(body)).unwrap()).await.unwrap();
        let status = answer.status();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(status.is_success(), "{}", String::from_utf8_lossy(&text));
        // Pods that turned ready while nothing was rolled are nobody's reaction.
        seen.lock().unwrap().ready.clear();
    }
    stop.cancel();
    let mut seen = seen.lock().unwrap();
    std::mem::take(&mut seen.reactions)
}

pub(crate) fn print() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let all = runtime.block_on(measure());
    runtime.shutdown_background();
    let rows = vec![
        row(&["from a pod turning Ready to the next action on its node", "p50", "p99", "max", "of"]),
        vec![
            format!("{NODES} nodes, {AT_ONCE} at once, {UPGRADES} upgrades"),
            ms(percentile(&all, 50)),
            ms(percentile(&all, 99)),
            ms(percentile(&all, 100)),
            all.len().to_string(),
        ],
    ];
    table::print("RollingUpdate: reaction, real time", &rows);
}
