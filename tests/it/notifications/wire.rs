//! Over real connections: TLS, proxies, and `notify test`.

use std::path::Path;
use std::process::Output;

use gcu_upgrade_manager::notifications::post::connect;
use http::header::CONTENT_TYPE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// Reads a request to its end: the head, then as much as it says.
async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    loop {
        let mut some = [0; 1024];
        let count = stream.read(&mut some).await.unwrap();
        text.extend_from_slice(&some[..count]);
        let said = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = said.split_once("\r\n\r\n") else { continue };
        let length =
            head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        if count == 0 || body.len() >= length.unwrap_or(0) {
            return said;
        }
    }
}

/// Answers one request, over TLS if it has a certificate; what it was sent.
async fn receiver(tls: Option<&'static str>, says: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let Some(name) = tls else {
            let said = read(&mut stream).await;
            stream.write_all(says.as_bytes()).await.unwrap();
            return said;
        };
        let (chain, key) =
            (std::fs::read(data(&format!("{name}.crt"))), std::fs::read(data(&format!("{name}.key"))));
        let config = gcu_upgrade_manager::http::tls::from_pem(&chain.unwrap(), &key.unwrap()).unwrap();
        let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
            return "no handshake".to_owned();
        };
        let said = read(&mut stream).await;
        stream.write_all(says.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        said
    });
    (port, task)
}

/// Passes one connection on; what it was told first.
async fn proxy(to: u16) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let said = read(&mut stream).await;
        let mut onward = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        if said.starts_with("CONNECT") {
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        } else {
            onward.write_all(said.as_bytes()).await.unwrap();
        }
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        said
    });
    (port, task)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 7\r\nConnection: close\r\n\r\nok";

async fn ask(sink: &Sink) -> Result<Answer, String> {
    let request =
        Request::post(sink.url.bare()).header(CONTENT_TYPE, "text/plain").body(Bytes::from("hello"));
    connect(sink)(request.unwrap()).await
}

#[tokio::test]
async fn a_message_goes_out_plain_over_tls_and_through_proxies() {
    let ca = data("ca.crt");
    for (tls, through_proxy) in [(None, false), (Some("first"), false), (None, true), (Some("first"), true)] {
        let (port, taken) = receiver(tls, OK).await;
        let (proxied, asked) = proxy(port).await;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut text =
            format!("type: webhook\nurl: {scheme}://127.0.0.1:{port}/in?a=b\ncaFile: {}", ca.display());
        if through_proxy {
            text.push_str(&format!("\nproxyURL: http://user:pass@127.0.0.1:{proxied}"));
        }
        let answer = ask(&sink(&text)).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"));
        assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
        let taken = taken.await.unwrap();
        assert!(taken.contains("\r\n\r\nhello"), "{taken}");
        assert!(taken.to_lowercase().contains(&format!("host: 127.0.0.1:{port}\r\n")), "{taken}");
        let whole = tls.is_none() && through_proxy;
        let line =
            if whole { format!("POST http://127.0.0.1:{port}/in?a=b ") } else { "POST /in?a=b ".to_owned() };
        assert!(taken.starts_with(&line), "{taken}");
        if through_proxy {
            let asked = asked.await.unwrap();
            assert!(asked.to_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"), "{asked}");
            assert_eq!(asked.starts_with(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")), tls.is_some());
        }
        assert!(
            tls.is_none() || !taken.to_lowercase().contains("proxy-authorization"),
            "not for the receiver"
        );
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (port, _taken) = receiver(Some("first"), OK).await;
    let text =
        format!("type: webhook\nurl: https://127.0.0.1:{port}/\ncaFile: {}", data("other-ca.crt").display());
    let said = ask(&sink(&text)).await.unwrap_err();
    assert!(said.starts_with("TLS: invalid peer certificate"), "{said}");
}

async fn notify(text: &str, name: &str) -> (Output, String) {
    let (file, _dir) = file(text);
    let path = file.display().to_string();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_gcu-upgrade-manager"))
        .args(["notify", "test", name, "--notifications", &path])
        .output()
        .await
        .unwrap();
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output, String::from_utf8(said).unwrap().replace(&path, "FILE"))
}

#[tokio::test]
async fn notify_test_says_what_the_receiver_answers_and_nothing_secret() {
    let (port, taken) = receiver(None, OK).await;
    let text = format!(
        "sinks: [{{ name: ops, type: slack, url: 'http://127.0.0.1:{port}/services/T0/s3cret-hook' }}]"
    );
    let (output, said) = notify(&text, "ops").await;
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "sink ops (slack): it answered 200 OK ok\n");
    assert!(taken.await.unwrap().contains("is a test of notifications"));
    let refusal = "HTTP/1.1 404 Not Found\r\nContent-Length: 24\r\n\r\nno hook s3cret-hook here";
    let (port, _taken) = receiver(None, refusal).await;
    let text = format!(
        "sinks: [{{ name: ops, type: slack, url: 'http://127.0.0.1:{port}/services/T0/s3cret-hook' }}]"
    );
    let (output, said) = notify(&text, "ops").await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said, "gcu-upgrade-manager: sink ops (slack): it answered 404 Not Found: no hook *** here\n");
    let (output, said) = notify(&text, "other").await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said, "gcu-upgrade-manager: FILE: there is no sink \"other\": there are ops\n");
    let (output, said) = notify(&text.replace("127.0.0.1", "s3cret-host.invalid"), "ops").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("cannot connect: ") && !said.contains("s3cret"), "{said}");
    let (output, said) = notify("sinks: 1", "ops").await;
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(1), "gcu-upgrade-manager: FILE:1:8: error: must be a list (sinks)\n")
    );
}
