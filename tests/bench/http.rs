//! What the service takes of HTTP: reads beside the same reads of the API server itself, others while thousands hold
//! slow connections, memory after a million requests, and what is too large.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::sandbox::world::{Running as World, World as Sandbox, documented_gr};
use http::Request;
use http_body_util::BodyExt;
use kube::api::{DynamicObject, PostParams};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::process::{Service, cluster, until_ready};
use crate::table::{self, ms, percentile, row};

/// Callers that ask again as soon as they are answered.
const CALLERS: usize = 16;
const RUN: Duration = Duration::from_secs(10);
const SLOW: usize = 10_000;
/// A slow client that was thrown out comes back after this.
const BACK_AFTER: Duration = Duration::from_secs(10);
/// Where slow clients come from, so that they are told from the others.
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const FEW: usize = 10_000;
const MANY: usize = 1_000_000;
const MIB: f64 = 1024.0;

/// A client of the service with a connection of its own; the same as the API server's, so that both are measured
/// with one yardstick.
fn caller(service: &Service) -> Client {
    let mut config = Config::new(format!("http://{}", service.address()).parse().unwrap());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Asks, and reads whatever the answer is.
async fn ask(caller: &Client, path: &str) -> u16 {
    let answer = caller.send(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    answer.into_body().collect().await.unwrap();
    status
}

/// What came of a run: answers in a second, and how long they took.
struct Rate {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// All callers ask for `path`, again and again, for a while.
async fn run(callers: Vec<Client>, path: &str) -> Rate {
    let mut tasks = JoinSet::new();
    for caller in callers {
        let path = path.to_owned();
        tasks.spawn(async move {
            // The first one opens the connection.
            assert_eq!(ask(&caller, &path).await, 200, "{path}");
            let (begun, mut times) = (Instant::now(), Vec::new());
            while begun.elapsed() < RUN {
                let asked = Instant::now();
                ask(&caller, &path).await;
                times.push(asked.elapsed());
            }
            times
        });
    }
    let mut times: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    times.sort();
    Rate {
        per_second: times.len() as f64 / RUN.as_secs_f64(),
        p50: percentile(&times, 50),
        p99: percentile(&times, 99),
    }
}

async fn add_grs(client: &Client, count: usize) {
    let api: kube::Api<DynamicObject> = kube::Api::all_with(
        client.clone(),
        &gcu_upgrade_manager::cluster::gr_resource("topsops.enflame.com/v1"),
    );
    for number in 0..count {
        let mut gr = documented_gr();
        gr["metadata"]["name"] = json!(format!("other-{number}"));
        for component in gr["spec"].as_object_mut().unwrap().values_mut() {
            component["notDeploy"] = json!(true);
        }
        api.create(&PostParams::default(), &serde_json::from_value(gr).unwrap()).await.unwrap();
    }
}

/// Reads of one gr, with few and with many of them: beside the API server, which does the same work underneath.
async fn reads(service: &Service, cluster: &Cluster, name: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for grs in [1, 100] {
        if grs > 1 {
            add_grs(&cluster.client().await, grs - 1).await;
        }
        let callers = (0..CALLERS).map(|_| caller(service)).collect();
        let ours = run(callers, &format!("/gum/v1/gr/{name}")).await;
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            callers.push(cluster.client().await);
        }
        let theirs = run(callers, &format!("/apis/topsops.enflame.com/v1/gcuresources/{name}")).await;
        rows.push(vec![
            format!("GET of one gr of {grs}, requests a second"),
            format!("{:.0}", ours.per_second),
            format!("{:.0}", theirs.per_second),
            format!("1 : {:.1}", theirs.per_second / ours.per_second),
        ]);
        rows.push(vec![
            "  p99".to_owned(),
            ms(ours.p99),
            ms(theirs.p99),
            format!("{:.1} : 1", ours.p99.as_secs_f64() / theirs.p99.as_secs_f64()),
        ]);
    }
    rows
}

/// Holds a connection open with a head that never ends, and comes back when it is thrown out.
async fn be_slow(to: SocketAddr, open: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(ELSEWHERE, 0)).unwrap();
        if let Ok(mut stream) = socket.connect(to).await {
            open.fetch_add(1, Ordering::Relaxed);
            let mut end = [0; 256];
            while !over.load(Ordering::Relaxed) && stream.write_all(b"G").await.is_ok() {
                // Thrown out, or time for the next byte.
                if timeout(Duration::from_secs(3), stream.read(&mut end)).await.is_ok() {
                    break;
                }
            }
            open.fetch_sub(1, Ordering::Relaxed);
        }
        sleep(BACK_AFTER).await;
    }
}

/// The others' times without and with thousands of slow clients.
async fn beside_slow_clients(service: &Service, name: &str) -> Vec<Vec<String>> {
    let path = format!("/gum/v1/gr/{name}");
    let others = || (0..4).map(|_| caller(service)).collect();
    let calm = run(others(), &path).await;
    let (open, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn(be_slow(service.address(), open.clone(), over.clone()));
        if slow.len().is_multiple_of(100) {
            sleep(Duration::from_millis(50)).await;
        }
    }
    sleep(Duration::from_secs(5)).await;
    let held = open.load(Ordering::Relaxed);
    let disturbed = run(others(), &path).await;
    over.store(true, Ordering::Relaxed);
    slow.join_all().await;
    let ratio = |a: Duration, b: Duration| format!("{:.2} : 1", a.as_secs_f64() / b.as_secs_f64());
    vec![
        row(&["others, 4 at once", "undisturbed", &format!("beside {SLOW} slow clients"), "ratio", "wanted"]),
        vec!["p50".to_owned(), ms(calm.p50), ms(disturbed.p50), ratio(disturbed.p50, calm.p50)],
        vec![
            "p99".to_owned(),
            ms(calm.p99),
            ms(disturbed.p99),
            ratio(disturbed.p99, calm.p99),
            "at most 2 : 1".to_owned(),
        ],
        vec![format!("({held} were connected at that moment)")],
    ]
}

/// Memory after a few requests and after many of every kind.
async fn memory(service: &Service, name: &str) -> Vec<Vec<String>> {
    let paths: Arc<[String]> = [
        "/livez".to_owned(),
        "/readyz/".to_owned(),
        "/gum/v1/blueprints/gr.json".to_owned(),
        "/openapi.json".to_owned(),
        "/no/such/path".to_owned(),
        "/gum/v1/gr/Not_A_Name".to_owned(),
        "/metrics".to_owned(),
        format!("/gum/v1/gr/{name}"),
        "/gum/v1/gr/absent".to_owned(),
        "/version".to_owned(),
    ]
    .into();
    let asked = Arc::new(AtomicUsize::new(0));
    let until = async |wanted: usize| {
        let mut tasks = JoinSet::new();
        for _ in 0..CALLERS {
            let (paths, asked, caller) = (paths.clone(), asked.clone(), caller(service));
            tasks.spawn(async move {
                loop {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    if number >= wanted {
                        return;
                    }
                    ask(&caller, &paths[number % paths.len()]).await;
                }
            });
        }
        tasks.join_all().await;
        asked.store(wanted, Ordering::Relaxed);
        service.resident() / MIB
    };
    let few = until(FEW).await;
    let many = until(MANY).await;
    vec![
        row(&["memory (RSS)", "value", "ratio", "wanted"]),
        vec![format!("after {FEW} requests"), format!("{few:.1} MiB")],
        vec![
            format!("after {MANY} requests"),
            format!("{many:.1} MiB"),
            format!("{:+.1} %", (many / few - 1.0) * 100.0),
            "within 5 %".to_owned(),
        ],
    ]
}

/// From the first byte to the refusal, and the memory that it took at its peak.
async fn too_large(service: &Service, name: &str, blueprints: &std::path::Path) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["refused", "answer", "after", "memory", "wanted"])];
    let head = format!("PUT /gum/v1/gr/{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let giant = format!("{head}content-length: 1000000000\r\n\r\n{}", "x".repeat(200_000));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let endless = format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(4));
    let mut requests =
        vec![("a body of 1 GB".to_owned(), giant), ("a chunked body without end".to_owned(), endless)];
    let nine = "[*a,*a,*a,*a,*a,*a,*a,*a,*a]";
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    let mut last = 'a';
    for next in 'b'..='i' {
        laughs += &format!("{next}: &{next} {}\n", nine.replace('a', &last.to_string()));
        last = next;
    }
    let anchors: String = (0..100_000).map(|n| format!("k{n}: &a{n} x\n")).collect();
    for (file, what, text) in [
        ("laughs.yaml", "a YAML alias bomb", laughs),
        ("anchors.yaml", "100,000 anchors", anchors.chars().take(1_000_000).collect()),
        ("deep.yaml", "a depth of 10,000", "[".repeat(10_000)),
        ("giant.yaml", "a file of 100 MB", "x".repeat(100_000_000)),
    ] {
        std::fs::write(blueprints.join(file), text).unwrap();
        let body = format!("{{\"file\": \"{file}\"}}");
        let length = body.len();
        requests.push((what.to_owned(), format!("{head}content-length: {length}\r\n\r\n{body}")));
    }
    // The watched directory is read by itself, too: not what is measured here.
    sleep(Duration::from_secs(5)).await;
    for (what, request) in requests {
        let before = service.resident() / MIB;
        service.reset_peak();
        let begun = Instant::now();
        let mut stream = TcpStream::connect(service.address()).await.unwrap();
        // The refusal may come before all is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let took = begun.elapsed();
        let status = String::from_utf8_lossy(&answer).chars().skip(9).take(3).collect::<String>();
        let more = service.peak() / MIB - before;
        let wanted = "50 ms, 32 MiB".to_owned();
        rows.push(vec![what, status, ms(took), format!("{:+.1} MiB", more.max(0.0)), wanted]);
    }
    rows
}

/// The cluster: a real API server when there is one, else the sandbox's.
enum Cluster {
    Real(&'static crate::kube::RealCluster),
    Sandbox(SocketAddr),
}

impl Cluster {
    async fn client(&self) -> Client {
        match self {
            Self::Real(real) => real.client().await,
            Self::Sandbox(address) => {
                Client::try_from(Config::new(format!("http://{address}").parse().unwrap())).unwrap()
            }
        }
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Real(_) => "a real API server",
            Self::Sandbox(_) => "the sandbox's API server",
        }
    }
}

async fn settle(home: &std::path::Path) -> (World, Cluster) {
    match crate::kube::real().await {
        Some(real) => {
            let world = Sandbox { with_real_controllers: real.has_controllers(), ..Sandbox::default() };
            let world = world.start(real.client().await, Clock::system()).await.unwrap();
            world.settled(Duration::from_secs(120)).await.unwrap();
            std::fs::copy(real.kubeconfig(), home.join("kubeconfig")).unwrap();
            (world, Cluster::Real(real))
        }
        None => {
            let (world, address) = cluster(home, Sandbox::default()).await;
            (world, Cluster::Sandbox(address))
        }
    }
}

/// A service in front of a settled cluster.
struct Ready {
    runtime: tokio::runtime::Runtime,
    home: TempDir,
    cluster: Cluster,
    world: World,
    service: Service,
}

fn ready() -> Ready {
    let home = TempDir::new().unwrap();
    let blueprints = home.path().join("blueprints");
    std::fs::create_dir(&blueprints).unwrap();
    std::fs::write(blueprints.join("gr.json"), include_str!("../../blueprints/gr.json")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (world, cluster) = runtime.block_on(settle(home.path()));
    let (_, service) = until_ready(home.path());
    Ready { runtime, home, cluster, world, service }
}

pub(crate) fn print() {
    let Ready { runtime, home, cluster, world, service } = ready();
    let name = world.gr_name();
    runtime.block_on(async {
        let mut rows = vec![row(&["reads, 16 callers", "service", "API server itself", "ratio"])];
        rows.extend(reads(&service, &cluster, name).await);
        table::print(&format!("Reads through the service, and of {} itself", cluster.what()), &rows);
        table::print("Slow clients", &beside_slow_clients(&service, name).await);
        let blueprints = home.path().join("blueprints");
        table::print("What is too large", &too_large(&service, name, &blueprints).await);
    });
}

pub(crate) fn print_requests() {
    let Ready { runtime, world, service, home: _home, cluster: _cluster } = ready();
    table::print("Memory and requests", &runtime.block_on(memory(&service, world.gr_name())));
}
