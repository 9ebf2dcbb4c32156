//! TLS: versions, certificates of both sides, rotation under load, handshakes that stall.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gcu_upgrade_manager::http::tls::{ClientCertificate, Files, TlsError, open};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::*;

fn data(file: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    std::fs::read(dir.join(file)).unwrap()
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&data(&format!("{name}.crt"))).unwrap()
}

/// A directory with a server's certificate, as a Secret's volume has it.
fn install(dir: &TempDir, name: &str) -> Files {
    let files =
        Files { certificate: dir.path().join("tls.crt"), key: dir.path().join("tls.key"), client_ca: None };
    std::fs::write(&files.certificate, data(&format!("{name}.crt"))).unwrap();
    std::fs::write(&files.key, data(&format!("{name}.key"))).unwrap();
    files
}

fn with_client_ca(dir: &TempDir) -> Files {
    let mut files = install(dir, "first");
    let ca = dir.path().join("ca.crt");
    std::fs::write(&ca, data("ca.crt")).unwrap();
    files.client_ca = Some(ca);
    files
}

async fn server(files: Files) -> Server {
    let (current, reloading) = open(files).unwrap();
    tokio::spawn(reloading);
    Server::start(|settings| settings.tls = Some(current)).await
}

fn client(versions: &[&'static SupportedProtocolVersion], identity: Option<&str>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.with_root_certificates(roots);
    TlsConnector::from(Arc::new(match identity {
        Some(name) => {
            let key = PrivateKeyDer::from_pem_slice(&data(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(vec![certificate(name)], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    }))
}

/// The answer and the server's certificate.
async fn ask(
    server: &Server,
    client: &TlsConnector,
    path: &str,
) -> std::io::Result<(String, CertificateDer<'static>)> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = client.connect(name, server.connect().await).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut said = Vec::new();
    // A peer that closes without a word is an error of its own, after the answer.
    let read = stream.read_to_end(&mut said).await;
    if said.is_empty() {
        read?;
    }
    Ok((String::from_utf8_lossy(&said).into_owned(), shown))
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_plain_http_is_not() {
    let dir = TempDir::new().unwrap();
    let server = server(install(&dir, "first")).await;
    for version in [&TLS12, &TLS13] {
        let (said, shown) = ask(&server, &client(&[version], None), "/").await.unwrap();
        assert!(is(&said, "200"), "{said}");
        assert_eq!(shown, certificate("first"));
    }
    let said = server.ask().await;
    assert!(!said.contains("HTTP/1.1 200"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_rotated_under_load_without_a_failed_request() {
    let dir = TempDir::new().unwrap();
    let server = Arc::new(server(install(&dir, "first")).await);
    let (over, asked, with_second) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (server, over, asked, with_second) =
            (server.clone(), over.clone(), asked.clone(), with_second.clone());
        clients.spawn(async move {
            let (client, second) = (client(&[&TLS13], None), certificate("second"));
            while !over.load(Ordering::Relaxed) {
                let (said, shown) = ask(&server, &client, "/").await.expect("a request failed");
                assert!(is(&said, "200"), "{said}");
                asked.fetch_add(1, Ordering::Relaxed);
                with_second.fetch_add(usize::from(shown == second), Ordering::Relaxed);
                sleep(Duration::from_millis(5)).await;
            }
        });
    }
    sleep(Duration::from_millis(300)).await;
    assert_eq!(with_second.load(Ordering::Relaxed), 0);
    // Not both files at the same moment: in between they do not fit each other.
    std::fs::write(dir.path().join("tls.crt"), data("second.crt")).unwrap();
    sleep(Duration::from_secs(11)).await;
    assert_eq!(with_second.load(Ordering::Relaxed), 0, "the last good pair is kept");
    std::fs::write(dir.path().join("tls.key"), data("second.key")).unwrap();
    let begun = Instant::now();
    while with_second.load(Ordering::Relaxed) == 0 {
        assert!(begun.elapsed() < PATIENCE, "the new certificate is not served");
        sleep(Duration::from_millis(50)).await;
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    println!("{} requests", asked.load(Ordering::Relaxed));
}

#[tokio::test]
async fn client_certificates_are_checked_and_told_apart() {
    let dir = TempDir::new().unwrap();
    let (current, _) = open(with_client_ca(&dir)).unwrap();
    let router = Router::new().route(
        "/",
        get(async |request: axum::extract::Request| {
            format!("{:?}", request.extensions().get::<ClientCertificate>().unwrap())
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let mut settings = Settings::plain(metrics.clone());
    settings.tls = Some(current);
    let server = Server { address: listener.local_addr().unwrap(), metrics, stop: stop.clone() };
    tokio::spawn(serve(listener, router, settings, stop));
    for (identity, expected) in [(None, "Missing"), (Some("client"), "Verified")] {
        let (said, _) = ask(&server, &client(&[&TLS13], identity), "/").await.unwrap();
        assert!(said.ends_with(expected), "{identity:?}: {said}");
    }
    assert!(ask(&server, &client(&[&TLS13], Some("stranger")), "/").await.is_err(), "of another CA");
}

#[tokio::test]
async fn a_handshake_that_stalls_is_cut_and_others_are_served_meanwhile() {
    let dir = TempDir::new().unwrap();
    let server = server(install(&dir, "first")).await;
    let mut stalled = server.connect().await;
    stalled.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    let (said, _) = ask(&server, &client(&[&TLS13], None), "/").await.unwrap();
    assert!(is(&said, "200"), "{said}");
    assert_eq!(all(&mut stalled).await, "");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let dir = TempDir::new().unwrap();
    let files = install(&dir, "first");
    std::fs::write(&files.key, data("second.key")).unwrap();
    let unusable = |files: Files| open(files).err().unwrap();
    assert!(matches!(unusable(files.clone()), TlsError::Together { .. }), "{}", unusable(files.clone()));
    std::fs::write(&files.certificate, "no certificate").unwrap();
    let error = unusable(files.clone()).to_string();
    assert!(error.contains("tls.crt: there is no certificate in it"), "{error}");
    std::fs::remove_file(&files.certificate).unwrap();
    let error = unusable(files).to_string();
    assert!(error.contains("tls.crt: No such file"), "{error}");
}
