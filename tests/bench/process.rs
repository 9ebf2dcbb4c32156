//! The binary: its size, the memory of an idle service, and the time from its start to being ready.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::http as server;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::record::GcuUpgrade;
use gcu_upgrade_manager::sandbox::actors::kubelet::KubeletBehaviour;
use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::world::{Running, World, documented_gr};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::table::{self, median, ms, row};

/// Another program than the one that was built for this run: the static one of the image, say.
const OTHER_BINARY: &str = "GUM_BINARY";
const STARTS: usize = 10;
/// Nodes of the large cluster, unless the command line says another number, and how long it is rolled.
pub(crate) const LARGE: usize = 5000;
const ROLLING: Duration = Duration::from_secs(60);
/// For its first node.
const PATIENCE: Duration = Duration::from_secs(600);
const IDLE: Duration = Duration::from_secs(10);
/// Ticks of the kernel's clock in a second.
pub(crate) const TICKS: f64 = 100.0;
const MB: f64 = 1_000_000.0;
/// v1.0.0's binary, from the listing in its release notes.
const V1_BYTES: f64 = 40_784_660.0;

/// The program that is measured.
#[expect(clippy::disallowed_methods, reason = "a switch of the benchmark, not of the product")]
fn binary() -> PathBuf {
    let own = || env!("CARGO_BIN_EXE_gcu-upgrade-manager").into();
    std::env::var_os(OTHER_BINARY).map_or_else(own, PathBuf::from)
}

/// A process that ends with this value.
pub(crate) struct Service(Child, SocketAddr);

impl Service {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.1
    }

    /// Its memory now, and at its peak, in KiB.
    pub(crate) fn resident(&self) -> f64 {
        self.memory("VmRSS:")
    }

    pub(crate) fn peak(&self) -> f64 {
        self.memory("VmHWM:")
    }

    /// Its CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        (ticks(11) + ticks(12)) / TICKS
    }

    /// Forgets the peak.
    pub(crate) fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.0.id()), "5").unwrap();
    }

    fn memory(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) async fn cluster(home: &Path, world: World) -> (Running, SocketAddr) {
    let api = ApiServer::new(Clock::system());
    let world = world.start(api.client(), Clock::system()).await.unwrap();
    world.settled(Duration::from_secs(1200)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kubeconfig = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: c, user: {{}}}}],
           clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}],
           contexts: [{{name: c, context: {{cluster: c, user: c}}}}]}}"
    );
    std::fs::write(home.join("kubeconfig"), kubeconfig).unwrap();
    tokio::spawn(server::serve(
        listener,
        api.router(),
        server::Settings::plain(Metrics::default()),
        CancellationToken::new(),
    ));
    (world, address)
}

fn start(home: &Path) -> Service {
    let free = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Command::new(binary())
        .arg("serve")
        // The same for every start, so that the Lease of the one before is its own; and nobody is told to slow down.
        .args(["--pod-name", "bench", "--client-requests", "0"])
        .args(["--listen", &free.to_string(), "--kubeconfig"])
        .arg(home.join("kubeconfig"))
        .arg("--log-dir")
        .arg(home.join("log"))
        .arg("--blueprints")
        .arg(home.join("blueprints"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Service(child, free)
}

fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// From the start of the process to its first ready answer, looked for every millisecond.
pub(crate) fn until_ready(home: &Path) -> (Duration, Service) {
    let begun = Instant::now();
    let started = start(home);
    while !is_ready(started.1) {
        assert!(begun.elapsed() < Duration::from_secs(60), "not ready after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    (begun.elapsed(), started)
}

/// The service while it rolls a large cluster: memory at rest, and the most while nodes are in work.
fn rolling(nodes: usize) -> Large {
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join("blueprints")).unwrap();
    let mut gr = documented_gr();
    gr["spec"]["driver"]["version"] = "next".into();
    std::fs::write(home.path().join("blueprints/next.json"), gr.to_string()).unwrap();
    let runtime = Runtime::new().unwrap();
    let operator = OperatorBehaviour { component_delay: Duration::ZERO, ..OperatorBehaviour::default() };
    let kubelet = KubeletBehaviour { pod_start: Duration::ZERO, ..KubeletBehaviour::default() };
    let (world, _) =
        runtime.block_on(cluster(home.path(), World { nodes, operator, kubelet, ..World::default() }));
    let (_, service) = until_ready(home.path());
    std::thread::sleep(IDLE);
    let idle = service.resident() / 1024.0;
    service.reset_peak();
    let cpu = service.cpu();
    let body =
        r#"{"file": "next.json", "strategy": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 25}}"#;
    let mut stream = TcpStream::connect(service.1).unwrap();
    let path = format!("/gum/v1/gr/{}", world.gr_name());
    let head =
        format!("PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let records: kube::Api<GcuUpgrade> = kube::Api::all(world.client());
    let record = || runtime.block_on(records.get(&format!("{}-1", world.gr_name()))).unwrap();
    let done = |record: &GcuUpgrade| record.status_or_default().rolling.map_or(0, |r| r.nodes.done);
    let begun = Instant::now();
    while done(&record()) == 0 {
        assert!(begun.elapsed() < PATIENCE, "no node is done after {PATIENCE:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
    std::thread::sleep(ROLLING);
    let (most, cpu) = (service.peak() / 1024.0, service.cpu() - cpu);
    let record = record();
    let done = done(&record);
    let record_bytes = json!(record).to_string().len();
    Large { done, idle, most, cpu, record_bytes }
}

/// What was seen of the large cluster.
struct Large {
    done: u32,
    idle: f64,
    most: f64,
    cpu: f64,
    record_bytes: usize,
}

pub(crate) fn print_rolling(nodes: usize) {
    let Large { done, idle, most, cpu, record_bytes } = rolling(nodes);
    let rows = vec![
        row(&["RollingUpdate in a large cluster, real time", "value", "wanted"]),
        vec!["nodes, component pods".to_owned(), format!("{nodes}, {}", nodes * 6)],
        vec!["memory at rest (RSS)".to_owned(), format!("{idle:.1} MiB")],
        vec![
            format!("most while it rolls ({done} nodes done, {} s after the first)", ROLLING.as_secs()),
            format!("{most:.1} MiB, {:.1} more", most - idle),
            "under 60 MiB more".to_owned(),
        ],
        vec!["CPU time within these, the first lists among it".to_owned(), format!("{cpu:.1} s")],
        vec!["the record".to_owned(), format!("{} KiB", record_bytes / 1024), "under 100 KiB".to_owned()],
    ];
    table::print("The process during a RollingUpdate", &rows);
}

pub(crate) fn print() {
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join("blueprints")).unwrap();
    let runtime = Runtime::new().unwrap();
    let _world = runtime.block_on(cluster(home.path(), World::default()));
    let (cold, first) = until_ready(home.path());
    drop(first);
    let warm: Vec<Duration> = (0..STARTS).map(|_| until_ready(home.path()).0).collect();
    let (_, idle) = until_ready(home.path());
    std::thread::sleep(IDLE);
    let mib = idle.resident() / 1024.0;
    let bytes = std::fs::metadata(binary()).unwrap().len() as f64;
    let rows = vec![
        row(&["measure", "value", "wanted", "v1.0.0", "ratio"]),
        vec![
            "binary".to_owned(),
            format!("{:.1} MB", bytes / MB),
            "under 15 MB".to_owned(),
            format!("{:.1} MB", V1_BYTES / MB),
            format!("1 : {:.1}", V1_BYTES / bytes),
        ],
        vec![
            format!("memory after {} s idle (RSS)", IDLE.as_secs()),
            format!("{mib:.1} MiB"),
            "under 20 MiB".to_owned(),
        ],
        vec![
            format!("process start to ready, warm API, median of {STARTS}"),
            ms(median(&warm)),
            "under 200 ms".to_owned(),
        ],
        vec!["the same, the record's CRD to be installed first".to_owned(), ms(cold)],
    ];
    table::print("The binary", &rows);
}
