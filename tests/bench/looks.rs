//! Many who look at a large cluster at once: how long it takes them, and what it costs the service.

use std::time::Duration;

use bytes::Bytes;
use gcu_upgrade_manager::cluster::gr_resource;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use gcu_upgrade_manager::sandbox::actors::kubelet::KubeletBehaviour;
use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use kube::{Api, Client, Config};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::process::{Service, cluster, until_ready};
use crate::table::{self, ms, percentile, row};

/// Nodes of the cluster, unless the command line says another number.
pub(crate) const NODES: usize = 5000;
/// Callers of each view.
const CALLERS: usize = 50;
const REST: Duration = Duration::from_secs(10);
const MIB: f64 = 1024.0;

/// The status, the body, and how long it took.
pub(crate) async fn ask(service: &Service, method: &str, path: &str, body: String) -> (u16, Bytes, Duration) {
    let mut config = Config::new(format!("http://{}", service.address()).parse().unwrap());
    config.default_retry = false;
    config.read_timeout = None;
    let caller = Client::try_from(config).unwrap();
    let asked = Instant::now();
    let request = Request::builder().method(method).uri(path).body(Body::from(body.into_bytes())).unwrap();
    let answer = caller.send(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, body, asked.elapsed())
}

/// What all callers came to: 200s, 503s and 504s, the largest answer, and how long they took.
struct Run {
    fine: usize,
    refused: usize,
    bytes: usize,
    times: Vec<Duration>,
    peak: f64,
}

async fn run(service: &std::sync::Arc<Service>, calls: Vec<(&'static str, String, String)>) -> Run {
    service.reset_peak();
    let mut tasks = JoinSet::new();
    for (method, path, body) in calls {
        let service = service.clone();
        tasks.spawn(async move {
            let (status, body, time) = ask(&service, method, &path, body).await;
            (status, body.len(), time)
        });
    }
    let all = tasks.join_all().await;
    assert!(all.iter().all(|(status, ..)| [200, 503, 504].contains(status)), "{all:?}");
    Run {
        fine: all.iter().filter(|(status, ..)| *status == 200).count(),
        refused: all.iter().filter(|(status, ..)| *status != 200).count(),
        bytes: all.iter().map(|(_, bytes, _)| *bytes).max().unwrap_or_default(),
        times: all.iter().map(|(.., time)| *time).collect(),
        peak: service.peak() / MIB,
    }
}

/// A rollout of a large cluster that waits behind its canary.
async fn paused(home: &TempDir, nodes: usize) -> (gcu_upgrade_manager::sandbox::world::Running, Service) {
    let mut gr = documented_gr();
    gr["spec"]["driver"]["version"] = "next".into();
    std::fs::write(home.path().join("blueprints/next.json"), gr.to_string()).unwrap();
    let operator = OperatorBehaviour { component_delay: Duration::ZERO, ..OperatorBehaviour::default() };
    let kubelet = KubeletBehaviour { pod_start: Duration::ZERO, ..KubeletBehaviour::default() };
    let (world, _) = cluster(home.path(), World { nodes, operator, kubelet, ..World::default() }).await;
    let (_, service) = until_ready(home.path());
    let body = json!({ "file": "next.json", "strategy": "RollingUpdate", "rollingUpdate": { "canary": 1 } });
    let path = format!("/gum/v1/gr/{}", world.gr_name());
    let (status, ..) = ask(&service, "PUT", &path, body.to_string()).await;
    assert_eq!(status, 200);
    let records: Api<GcuUpgrade> = Api::all(world.client());
    let name = format!("{}-1", world.gr_name());
    while records.get(&name).await.unwrap().phase() != Phase::Paused {
        sleep(Duration::from_secs(1)).await;
    }
    (world, service)
}

/// A second gr: a plan is for one that is not being upgraded.
async fn another_gr(client: &Client) -> String {
    let mut gr = documented_gr();
    gr["metadata"]["name"] = json!("another");
    let api: Api<kube::api::DynamicObject> =
        Api::all_with(client.clone(), &gr_resource("topsops.enflame.com/v1"));
    api.create(&kube::api::PostParams::default(), &serde_json::from_value(gr).unwrap()).await.unwrap();
    "/gum/v1/gr/another".to_owned()
}

pub(crate) fn print(nodes: usize) {
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join("blueprints")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut rows = vec![row(&[
        "callers at once",
        "answered",
        "503, 504",
        "largest answer",
        "median",
        "slowest",
        "peak memory (RSS)",
    ])];
    runtime.block_on(async {
        let (world, service) = paused(&home, nodes).await;
        let service = std::sync::Arc::new(service);
        let gr = format!("/gum/v1/gr/{}", world.gr_name());
        let other = another_gr(&world.client()).await;
        let mut target = documented_gr();
        target["metadata"]["name"] = json!("another");
        target["spec"]["driver"]["version"] = "next".into();
        std::fs::write(home.path().join("blueprints/another.json"), target.to_string()).unwrap();
        sleep(REST).await;
        rows.push(vec![
            "at rest".to_owned(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            format!("{:.0} MiB", service.resident() / MIB),
        ]);
        let get = |view: &str| ("GET", format!("{gr}/{view}"), String::new());
        let plan = |n: usize| {
            let options = json!({ "maxUnavailable": n + 1 });
            let body =
                json!({ "file": "another.json", "strategy": "RollingUpdate", "rollingUpdate": options });
            ("POST", format!("{other}/plan"), body.to_string())
        };
        let many = |call: &dyn Fn(usize) -> (&'static str, String, String)| {
            (0..CALLERS).map(call).collect::<Vec<_>>()
        };
        let same = many(&|_| plan(0));
        let page = || ("GET", format!("/ui/gr/{}", world.gr_name()), String::new());
        for (what, calls) in [
            ("1 x why", vec![get("why")]),
            ("1 x nodes", vec![get("nodes")]),
            ("1 x fleet", vec![get("fleet")]),
            ("1 x the page", vec![page()]),
            ("1 x plan", vec![plan(0)]),
            ("50 x why", many(&|_| get("why"))),
            ("50 x nodes", many(&|_| get("nodes"))),
            ("50 x fleet", many(&|_| get("fleet"))),
            ("50 x the page", many(&|_| page())),
            ("50 x the same plan", same.clone()),
            ("50 x another plan each", many(&plan)),
            (
                "50 x why, 50 x nodes, 50 x the same plan",
                [many(&|_| get("why")), many(&|_| get("nodes")), same].concat(),
            ),
        ] {
            let run = run(&service, calls).await;
            rows.push(vec![
                what.to_owned(),
                run.fine.to_string(),
                run.refused.to_string(),
                format!("{} KiB", run.bytes / 1024),
                ms(percentile(&run.times, 50)),
                ms(percentile(&run.times, 100)),
                format!("{:.0} MiB", run.peak),
            ]);
            sleep(Duration::from_secs(3)).await;
        }
    });
    table::print(&format!("Looks at {nodes} nodes and {} component pods", nodes * 6), &rows);
}
