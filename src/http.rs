//! The accept loop: HTTP/1 with and without TLS, with a bound on everything that a client can make us keep or wait
//! for, and an orderly end. Ours because `axum::serve` bounds none of this.
//!
//! | what a client does | what happens |
//! | --- | --- |
//! | sends its head slowly, or nothing at all | 408 after `HEAD_DEADLINE`, or sooner when the place is needed |
//! | sends too many or too large headers | 431, by hyper |
//! | does not go on with its TLS handshake | cut after `HANDSHAKE_DEADLINE` |
//! | does not read its answer | cut after `WRITE_DEADLINE` without progress |
//! | opens connections without end | an idle one gives way; 503 when all are at work |

mod slots;
pub mod tls;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use crate::metrics::Metrics;
use slots::{ConnectionSlot, Slots};
use tls::{ClientCertificate, IsTls};

/// A client that takes longer than this to send its request line and headers is not served.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The same for its TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A client that reads nothing for so long is cut off.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// The head of a request; curl's is a few hundred bytes, a token a few thousand.
const HEAD_LIMIT: usize = 64 * 1024;
/// Requests in flight may end within this time after a stop; longer waits are cut.
const GRACE: Duration = Duration::from_secs(5);
/// When no connection can be accepted (too many open files), time for some to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TOO_SLOW: &str = "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const FULL: &str =
    "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How connections are taken.
#[derive(Clone)]
pub struct Settings {
    /// With TLS, if so.
    pub tls: Option<tls::CurrentTls>,
    /// Connections that may be open at once.
    pub connections: usize,
    /// Where they are counted.
    pub metrics: Metrics,
}

impl Settings {
    /// Without TLS, up to 1,000 connections.
    pub fn plain(metrics: Metrics) -> Self {
        Self { tls: None, connections: 1000, metrics }
    }
}

/// Serves until `stop`; then what is being answered may still be, for a while.
pub async fn serve(listener: TcpListener, router: Router, settings: Settings, stop: CancellationToken) {
    let slots = Slots::new(settings.connections, settings.metrics.clone());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(slot) = slots.take() else {
            tasks.spawn(refuse(stream));
            continue;
        };
        tasks.spawn(connection(stream, peer, slot, router.clone(), settings.tls.clone(), stop.clone()));
    }
    drop(listener);
    tasks.close();
    if timeout(GRACE, tasks.wait()).await.is_err() {
        warn!("requests were still waiting and have been cut; their jobs go on");
    }
}

/// Tells a client for whom there is no slot, if it listens.
async fn refuse(mut stream: TcpStream) {
    let _ = timeout(ACCEPT_PAUSE, stream.write_all(FULL.as_bytes())).await;
}

/// A connection, with or without TLS.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    slot: ConnectionSlot,
    router: Router,
    tls: Option<tls::CurrentTls>,
    stop: CancellationToken,
) {
    // An event of a stream is small, and must not wait until the one before it is acknowledged.
    if let Err(error) = stream.set_nodelay(true) {
        return debug!(%peer, %error, "connection ended early");
    }
    let is_tls = tls.is_some();
    let mut stream = Box::pin(TimeoutStream::new(stream));
    stream.as_mut().set_write_timeout_pinned(Some(WRITE_DEADLINE));
    let (stream, certificate): (Box<dyn Io>, _) = match tls {
        None => (Box::new(stream), ClientCertificate::default()),
        Some(tls) => {
            let handshake = timeout(HANDSHAKE_DEADLINE, tls.acceptor().accept(stream));
            let accepted = tokio::select! {
                accepted = handshake => accepted,
                () = slot.is_needed() => return,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok(Ok(stream)) => {
                    let certificate = ClientCertificate::of(&stream, tls.asks_clients());
                    (Box::new(stream), certificate)
                }
                Ok(Err(error)) => return debug!(%peer, %error, "no TLS handshake"),
                Err(_) => return debug!(%peer, "the TLS handshake took too long"),
            }
        }
    };
    // Handlers and logs want to know who asks.
    let of = move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(certificate);
        if is_tls {
            request.extensions_mut().insert(IsTls);
        }
        request
    };
    speak(stream, peer, slot, router.map_request(of), stop).await;
}

/// Speaks HTTP on one connection until it ends.
async fn speak<S>(
    stream: Box<dyn Io>,
    peer: SocketAddr,
    slot: ConnectionSlot,
    service: S,
    stop: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (service, at_work) = (service.clone(), slot.at_work());
        async move {
            let answer = service.oneshot(request).await?;
            // At work until the last byte is on its way. Of all ways to tie something to a body this one keeps its
            // size.
            let answer = answer.map(|body| {
                body.map_err(move |error| {
                    let _ = &at_work;
                    error
                })
            });
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = poll_fn(|cx| Pin::new(&mut connection).poll(cx)) => match ended {
                Ok(()) => return,
                Err(error) if error.is_timeout() => break,
                Err(error) => return debug!(%peer, %error, "connection ended early"),
            },
            () = slot.is_needed() => break,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    // It took too long to ask. Nothing is said to one that has asked before and now only keeps the connection.
    let parts = connection.into_parts();
    if !parts.read_buf.is_empty() || !slot.was_at_work() {
        let mut stream = parts.io.into_inner();
        let _ = timeout(ACCEPT_PAUSE, stream.write_all(TOO_SLOW.as_bytes())).await;
    }
}
