//! The service at a URL.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::config::AuthInfo;
use kube::{Client, Config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Body;
use crate::cli::args::Global;
use crate::cli::exit::{Exit, Failure};
use crate::cluster::{cause, connect, error_text};
use crate::metrics::Metrics;

/// For what is only told beside the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The service. Its client is kube's: it knows tokens, certificates and proxies.
pub(crate) struct Server {
    client: Client,
    /// Where it is, for messages.
    pub(in crate::cli) url: String,
}

impl Server {
    /// Makes a client for the URL.
    ///
    /// # Errors
    /// It is none, or the certificates cannot be read.
    pub(super) async fn connect(url: &str, global: &Global) -> Result<Self, Failure> {
        let wrong =
            |what: &str| Failure::usage(format!("--server {url}: {what}, such as https://10.0.0.7:32765"));
        let address: http::Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        if !matches!(address.scheme_str(), Some("http" | "https")) || address.host().is_none() {
            return Err(wrong("not a URL with http:// or https://"));
        }
        let mut config = Config::new(address);
        config.accept_invalid_certs = global.insecure;
        if let Some(token) = &global.token {
            let login = serde_json::from_value::<AuthInfo>(json!({ "token": token }));
            config.auth_info = login.map_err(|e| Failure::usage(format!("--token: {e}")))?;
        }
        if let Some(file) = &global.ca {
            let unreadable = |what: String| Failure::usage(format!("--ca {}: {what}", file.display()));
            let pem = tokio::fs::read(file).await.map_err(|e| unreadable(e.to_string()))?;
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let all = all.map_err(|e| unreadable(e.to_string()))?;
            config.root_cert = Some(all.into_iter().map(|c| c.to_vec()).collect());
        }
        let client = connect(config, Metrics::default()).map_err(|e| wrong(&error_text(&e)))?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned() })
    }

    /// Asks it.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let (head, body) = request.into_parts();
        let unread = |e: axum::Error| Failure::new(Exit::Failed, e.to_string());
        let bytes = body.collect().await.map_err(unread)?.to_bytes();
        let request = Request::from_parts(head, kube::client::Body::from(bytes.to_vec()));
        self.client.send(request).await.map(|answer| answer.map(Body::new)).map_err(|error| {
            let why = match &error {
                kube::Error::Service(error) => cause(error.as_ref()),
                other => error_text(other),
            };
            let why = why.split_once(" cannot be reached: ").map_or(why.as_str(), |(_, why)| why);
            Failure::new(Exit::Unreachable, format!("the service at {} cannot be reached: {why}", self.url))
        })
    }

    /// What a refusal means. What it does not know at all is another version's.
    pub(super) async fn failure(&self, status: u16, error: &str) -> Failure {
        if status == 401 {
            let message = format!(
                "the service at {} does not know who you are ({error}): give a token of the cluster with \
                 --token or GUM_TOKEN, such as `kubectl create token ACCOUNT` prints; one that you gave has \
                 expired, or is for another cluster",
                self.url
            );
            return Failure::new(Exit::NotAllowed, message);
        }
        let unknown =
            ["no such path", "does not take that method", "no such field", "no such query parameter"];
        let ours = env!("CARGO_PKG_VERSION");
        if unknown.iter().any(|words| error.contains(words))
            && let Some(version) = self.version().await.filter(|version| version != ours)
        {
            let message = format!(
                "the service at {} is version {version} and this command is {ours}: it does not know what was asked \
                 ({error}). Use the command of its version, or update the service",
                self.url
            );
            return Failure::new(Exit::Failed, message);
        }
        Failure::of_status(status, error)
    }

    /// Something else answers there.
    pub(super) fn foreign(&self, status: u16) -> Failure {
        let message = format!(
            "what answers at {} (status {status}) is not gcu-upgrade-manager: check the URL",
            self.url
        );
        Failure::new(Exit::Unreachable, message)
    }

    async fn version(&self) -> Option<String> {
        let request = Request::get("/version").body(Vec::new()).ok()?;
        let answer: Value = timeout(PATIENCE, self.client.request(request)).await.ok()?.ok()?;
        answer.pointer("/content/version")?.as_str().map(str::to_owned)
    }
}
