//! How a message gets to its receiver: one connection for each, with its own CAs and through its own proxy. There are
//! seconds between messages, and nothing is kept open meanwhile.
//!
//! kube's client would do, but it writes the URLs of requests into its log.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{HOST, PROXY_AUTHORIZATION, RETRY_AFTER};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::Sink;
use super::secret::Secret;
use super::sink::Answer;

/// Sends one request.
pub type Post = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Result<Answer, String>> + Send + Sync>;

/// From the connection to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// No receiver has to say so much.
const ANSWER: usize = 64 * 1024;
/// The head of a proxy's answer.
const HEAD: usize = 8 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What is between a sink and its receiver.
struct Way {
    tls: Result<TlsConnector, String>,
    proxy: Option<Secret>,
}

/// The way to a sink.
pub fn connect(sink: &Sink) -> Post {
    let way = Arc::new(Way { tls: tls(sink), proxy: sink.proxy.clone() });
    Arc::new(move |request| {
        let way = way.clone();
        Box::pin(async move {
            let late = |_| Err(format!("no answer within {PATIENCE:?}"));
            timeout(PATIENCE, way.send(request)).await.unwrap_or_else(late)
        })
    })
}

fn tls(sink: &Sink) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match &sink.ca {
        Some(all) => {
            for ca in all {
                roots
                    .add(ca.clone())
                    .map_err(|e| format!("the certificates of caFile cannot be used: {e}"))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err("there are no CA certificates on this system: name a file of them with caFile".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

impl Way {
    async fn send(&self, request: Request<Bytes>) -> Result<Answer, String> {
        let uri = request.uri().clone();
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let (host, port) = place(&uri, if is_tls { 443 } else { 80 })?;
        let mut request = request.map(Full::new);
        let name = uri.authority().map(|a| a.as_str().rsplit('@').next().unwrap_or_default());
        let name = HeaderValue::try_from(name.unwrap_or_default()).map_err(|e| e.to_string())?;
        request.headers_mut().insert(HOST, name);
        let mut stream: Box<dyn Stream> = match &self.proxy {
            None => Box::new(tcp(&host, port).await?),
            Some(proxy) => {
                let proxy: Uri = proxy.bare().parse().map_err(|_| "the proxy's URL cannot be read")?;
                let (at, on) = place(&proxy, 80)?;
                let mut stream = tcp(&at, on).await.map_err(|why| format!("the proxy: {why}"))?;
                if is_tls {
                    tunnel(&mut stream, &proxy, &format!("{}:{port}", bracketed(&host))).await?;
                } else if let Some(value) = credentials(&proxy)? {
                    request.headers_mut().insert(PROXY_AUTHORIZATION, value);
                }
                Box::new(stream)
            }
        };
        if is_tls {
            let tls = self.tls.as_ref().map_err(Clone::clone)?;
            let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
            stream = Box::new(tls.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?);
        }
        // A proxy that is no tunnel wants to know where to go.
        if is_tls || self.proxy.is_none() {
            let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
            *request.uri_mut() = Uri::from(path);
        }
        exchange(stream, request).await
    }
}

async fn exchange(stream: Box<dyn Stream>, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let broken = |e: hyper::Error| format!("the connection broke: {e}");
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    // It is carried on until this is dropped.
    let _carried = JoinSet::from_iter([async move { drop(connection.await) }]);
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    let retry_after =
        head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let body = Limited::new(body, ANSWER).collect().await.map_err(|e| format!("its answer: {e}"))?.to_bytes();
    Ok(Answer {
        status: head.status,
        retry_after: retry_after.map(Duration::from_secs),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|e| format!("cannot connect: {e}"))
}

/// Host and port; the host of an IPv6 address without its brackets.
fn place(uri: &Uri, port: u16) -> Result<(String, u16), String> {
    let host = uri.host().ok_or("the URL has no host")?;
    Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), uri.port_u16().unwrap_or(port)))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Name and password of a proxy's URL, as they are sent.
fn credentials(proxy: &Uri) -> Result<Option<HeaderValue>, String> {
    let user = proxy.authority().and_then(|a| a.as_str().rsplit_once('@')).map(|(user, _)| user);
    let value = user.map(|user| HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user))));
    value.transpose().map_err(|e| e.to_string())
}

/// Lets a proxy connect us.
async fn tunnel(stream: &mut TcpStream, proxy: &Uri, to: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("the proxy: {e}");
    let mut ask = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some(value) = credentials(proxy)? {
        ask.extend([b"Proxy-Authorization: ", value.as_bytes(), b"\r\n"].concat());
    }
    ask.extend(b"\r\n");
    stream.write_all(&ask).await.map_err(failed)?;
    // Byte by byte: what comes after the head belongs to the receiver.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD {
            return Err("the proxy answered with too long a head".to_owned());
        }
        head.push(stream.read_u8().await.map_err(failed)?);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "200" { Ok(()) } else { Err(format!("the proxy answered {status}")) }
}
