//! What clients do with connections, over real sockets and in real time: slow, silent, greedy, with TLS and without.

mod ourselves;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::http::{Settings, serve};
use gcu_upgrade_manager::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);
const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// A server whose answers are quick, never there, or larger than anybody would keep for a client.
struct Server {
    address: SocketAddr,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Server {
    async fn start(adjust: impl FnOnce(&mut Settings)) -> Self {
        let endless = || futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 65536]));
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/never", get(async || std::future::pending::<()>().await))
            .route("/endless", get(async move || Body::from_stream(endless())));
        let metrics = Metrics::default();
        let mut settings = Settings::plain(metrics.clone());
        adjust(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(serve(listener, router, settings, stop.clone()));
        Self { address, metrics, stop }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A whole request of somebody who does nothing unusual.
    async fn ask(&self) -> String {
        let mut stream = self.connect().await;
        stream.write_all(ASK).await.unwrap();
        all(&mut stream).await
    }

    fn open(&self) -> u32 {
        let text = self.metrics.text(Clock::system().now());
        let line = text.lines().find(|l| l.starts_with("gum_connections ")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    async fn until_open(&self, wanted: u32, within: Duration) {
        let begun = Instant::now();
        while self.open() != wanted {
            assert!(begun.elapsed() < within, "{} connections are open, not {wanted}", self.open());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What comes until the other side is done.
async fn all(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection does not end");
    String::from_utf8_lossy(&said).into_owned()
}

fn is(said: &str, status: &str) -> bool {
    said.starts_with(&format!("HTTP/1.1 {status}"))
}

#[tokio::test]
async fn heads_that_come_in_drips_or_not_at_all_are_408_and_others_are_served_meanwhile() {
    let server = Server::start(|_| {}).await;
    let (mut silent, mut dripping) = (server.connect().await, server.connect().await);
    let drips = async {
        for byte in ASK {
            if dripping.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(400)).await;
        }
        all(&mut dripping).await
    };
    let others = async {
        for _ in 0..20 {
            assert!(is(&server.ask().await, "200"));
            sleep(Duration::from_millis(500)).await;
        }
    };
    let (dripped, kept_silent, ()) = tokio::join!(drips, all(&mut silent), others);
    assert!(is(&dripped, "408") || dripped.is_empty(), "{dripped}");
    assert!(is(&kept_silent, "408"), "{kept_silent}");
    server.until_open(0, PATIENCE).await;
}

#[tokio::test]
async fn a_connection_that_is_kept_for_later_ends_without_a_word() {
    let server = Server::start(|_| {}).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let said = all(&mut stream).await;
    assert!(is(&said, "200") && said.ends_with("\r\n\r\nhere"), "{said}");
    assert!(said.contains("content-length: 4\r\n"), "the length is said: {said}");
}

#[tokio::test]
async fn when_all_places_are_taken_the_connection_idle_for_longest_gives_way() {
    let server = Server::start(|s| s.connections = 20).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(server.connect().await);
    }
    server.until_open(20, PATIENCE).await;
    for _ in 0..30 {
        let said = server.ask().await;
        assert!(is(&said, "200"), "{said}");
    }
    let displaced = all(&mut silent[0]).await;
    assert!(is(&displaced, "408"), "{displaced}");
    // One that has asked for something before stays longer than those that never did.
    let mut kept = server.connect().await;
    for _ in 0..3 {
        kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        assert!(timeout(PATIENCE, kept.read(&mut answer)).await.unwrap().unwrap() > 0, "it was thrown out");
        for _ in 0..40 {
            silent.push(server.connect().await);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn when_all_connections_are_at_work_one_more_is_503_with_retry_after() {
    let server = Server::start(|s| s.connections = 2).await;
    let mut at_work = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        at_work.push(stream);
    }
    sleep(Duration::from_millis(300)).await;
    let mut stream = server.connect().await;
    let said = all(&mut stream).await;
    assert!(is(&said, "503") && said.contains("retry-after: 1"), "{said}");
    drop(at_work);
    server.until_open(0, PATIENCE).await;
    assert!(is(&server.ask().await, "200"));
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_its_answer_is_cut_off() {
    let server = Server::start(|_| {}).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.until_open(1, PATIENCE).await;
    server.until_open(0, Duration::from_secs(60)).await;
    assert!(is(&server.ask().await, "200"));
}

#[tokio::test]
async fn heads_that_cannot_be_are_refused_with_their_status() {
    let server = Server::start(|_| {}).await;
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100_000));
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "b".repeat(200_000));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    for (what, request, statuses) in [
        ("100,000 headers", many.as_str(), ["431", "431"]),
        ("a large header", &large, ["431", "431"]),
        ("a long URL", &long, ["414", "431"]),
        ("no HTTP", "hello\r\n\r\n", ["400", "400"]),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ["400", "505"]),
        ("two lengths", "PUT / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", ["400", "400"]),
        ("NUL in a header", "GET / HTTP/1.1\r\na: \0\r\n\r\n", ["400", "400"]),
    ] {
        let mut stream = server.connect().await;
        // The answer may come before all is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let said = all(&mut stream).await;
        // A reset may overtake the answer to a client that is still sending.
        assert!(statuses.iter().any(|s| is(&said, s)) || said.is_empty(), "{what}: {said}");
        assert!(is(&server.ask().await, "200"), "after {what}");
    }
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_finishes_what_is_being_answered() {
    let router = Router::new().route(
        "/slow",
        get(async || {
            sleep(Duration::from_millis(500)).await;
            "done"
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let server = tokio::spawn(serve(listener, router, Settings::plain(Metrics::default()), stop.clone()));
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    stop.cancel();
    assert_eq!(all(&mut idle).await, "");
    let said = all(&mut busy).await;
    assert!(is(&said, "200") && said.ends_with("done"), "{said}");
    timeout(PATIENCE, server).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
}
