//! Where answers come from: the cluster itself, or the service. Both are asked in the words of REST.
//!
//! For the cluster the service's own routes run in this process, with the kubeconfig's client in the place of the
//! service's: what is read and written is the same, every check is the same, and the API server lets the person who
//! asks do what that person may.

mod cluster;
mod noted;
mod server;

use std::time::Duration;

use futures::StreamExt as _;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::args::Global;
use super::exit::{Exit, Failure};
use crate::blueprint::Blueprint;
use crate::frame::view::is_final;
use crate::record::record_name;

pub(super) use cluster::Cluster;
pub(super) use server::Server;

/// An answer may take so long: as long as the service gives one.
const PATIENCE: Duration = Duration::from_secs(95);
/// Between attempts to listen.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);

/// Who acts on upgrades.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Acts {
    /// A replica of this name.
    Replica(String),
    /// Nobody, and since when.
    Nobody(String),
    /// That may not be read, and why.
    Unknown(String),
}

/// Where answers come from.
pub(super) enum Backend {
    /// The cluster of the kubeconfig.
    Cluster(Box<Cluster>),
    /// The service at a URL.
    Server(Box<Server>),
}

/// A body as it comes.
type Body = axum::body::Body;

impl Backend {
    /// As the command line says.
    ///
    /// # Errors
    /// There is no kubeconfig, or what it or the command line names cannot be read.
    pub(super) async fn connect(global: &Global) -> Result<Self, Failure> {
        match &global.server {
            Some(url) => Ok(Self::Server(Box::new(Server::connect(url, global).await?))),
            None => Ok(Self::Cluster(Box::new(Cluster::connect(global).await?))),
        }
    }

    /// The content of an answer.
    ///
    /// # Errors
    /// What was answered instead.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// The content of an answer to a call that may change something.
    ///
    /// # Errors
    /// What was answered instead.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).body(Body::from(body));
        let request = request.map_err(|e| Failure::usage(format!("{path}: {e}")))?;
        let late = || Failure::new(Exit::Unreachable, format!("no answer within {PATIENCE:?}"));
        let answer = timeout(PATIENCE, self.send(request)).await.map_err(|_| late())??;
        let status = answer.status().as_u16();
        let bytes = timeout(PATIENCE, answer.into_body().collect()).await.map_err(|_| late())?;
        let bytes = bytes
            .map_err(|e| Failure::new(Exit::Unreachable, format!("the answer broke off: {e}")))?
            .to_bytes();
        let envelope: Value = match serde_json::from_slice(&bytes) {
            Ok(envelope) => envelope,
            Err(_) => return Err(self.foreign(status).await),
        };
        if status < 400 {
            return Ok(envelope.get("content").cloned().unwrap_or(Value::Null));
        }
        let error = envelope.get("error").and_then(Value::as_str).unwrap_or_default();
        Err(self.refused(status, error).await)
    }

    async fn send(&self, request: Request<Body>) -> Result<http::Response<Body>, Failure> {
        match self {
            Self::Cluster(cluster) => cluster.send(request).await,
            Self::Server(server) => server.send(request).await,
        }
    }

    async fn refused(&self, status: u16, error: &str) -> Failure {
        match self {
            Self::Cluster(cluster) => cluster.failure(status, error),
            Self::Server(server) => server.failure(status, error).await,
        }
    }

    async fn foreign(&self, status: u16) -> Failure {
        match self {
            Self::Cluster(_) => {
                Failure::new(Exit::Failed, format!("the answer is no JSON (status {status})"))
            }
            Self::Server(server) => server.foreign(status),
        }
    }

    /// Who acts on upgrades.
    pub(super) async fn acts(&self) -> Acts {
        match self {
            Self::Cluster(cluster) => cluster.acts().await,
            Self::Server(_) => match self.get("/version").await {
                Ok(version) => {
                    let text =
                        |path| version.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
                    let this = version.pointer("/acts/thisReplica") == Some(&Value::Bool(true));
                    match (this, text("/acts/replica"), text("/acts/problem")) {
                        (true, ..) => Acts::Replica("the service".to_owned()),
                        (false, replica, _) if !replica.is_empty() => Acts::Replica(replica),
                        (false, _, problem) => Acts::Nobody(format!("no replica acts: {problem}")),
                    }
                }
                Err(failure) => Acts::Unknown(failure.message),
            },
        }
    }

    /// The versions around: `GET /version`. What runs in this process is no service: its version and who acts come from
    /// the cluster.
    ///
    /// # Errors
    /// What was answered instead.
    pub(super) async fn version(&self) -> Result<Value, Failure> {
        let Self::Cluster(cluster) = self else { return self.get("/version").await };
        let (content, theirs, acts) =
            tokio::join!(self.get("/version"), cluster.service_version(), cluster.acts());
        let mut content = content?;
        if let Some(object) = content.as_object_mut() {
            object.remove("version");
            object.extend(theirs.map(|version| ("version".to_owned(), json!(version))));
            let acts = match acts {
                Acts::Replica(name) => json!({ "thisReplica": false, "replica": name }),
                Acts::Nobody(problem) | Acts::Unknown(problem) => {
                    json!({ "thisReplica": false, "problem": problem })
                }
            };
            object.insert("acts".to_owned(), acts);
            object.insert("grApis".to_owned(), json!(cluster.served().await));
        }
        Ok(content)
    }

    /// A blueprint of the service's, where this process has to bring it along.
    ///
    /// # Errors
    /// It cannot be read from here.
    pub(super) async fn blueprint(&self, name: &str) -> Result<Option<Blueprint>, Failure> {
        match self {
            Self::Cluster(cluster) => cluster.blueprint(name).await.map(Some),
            Self::Server(_) => Ok(None),
        }
    }

    /// Wakes whoever watches an upgrade, for as long as anybody listens. What it says is read again; a stream that is
    /// lost begins anew.
    pub(super) async fn wake(&self, record: &str, waker: mpsc::Sender<()>) {
        let path = format!("/gum/v1/upgrades/{record}/events");
        loop {
            let request = Request::builder().uri(&path).body(Body::empty());
            if let Ok(request) = request
                && let Ok(answer) = self.send(request).await
                && answer.status().is_success()
            {
                let mut pieces = answer.into_body().into_data_stream();
                while let Some(Ok(_)) = pieces.next().await {
                    // A full channel holds a wake-up already.
                    if let Err(mpsc::error::TrySendError::Closed(())) = waker.try_send(()) {
                        return;
                    }
                }
            }
            sleep(LISTEN_AGAIN).await;
        }
    }

    /// The gr that is meant: the one that is named, or the only one.
    ///
    /// # Errors
    /// There are several, or none.
    pub(super) async fn gr(&self, named: Option<&str>) -> Result<String, Failure> {
        if let Some(name) = named {
            return Ok(name.to_owned());
        }
        let grs = self.get("/gum/v1/gr").await.map(|list| names(list.get("items"), "/metadata/name"));
        let grs = match grs {
            Ok(grs) if !grs.is_empty() => grs,
            // In the middle of a Recreate there is none, and its records tell.
            Ok(_) => names(Some(&self.get("/gum/v1/upgrades").await?), "/gr"),
            Err(failure) if failure.exit == Exit::NotAllowed => {
                names(Some(&self.get("/gum/v1/upgrades").await?), "/gr")
            }
            Err(failure) => return Err(failure),
        };
        match grs.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(Failure::new(
                Exit::NotFound,
                "there is no gr (GcuResource) here, and no upgrade on record",
            )),
            several => {
                let all = several.join(", ");
                Err(Failure::usage(format!("there are several grs, say which with --gr: {all}")))
            }
        }
    }

    /// The name of the upgrade that is meant: one by its name or its number, or the one under way or the last of the
    /// gr.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn record(&self, named: Option<&str>, gr: Option<&str>) -> Result<String, Failure> {
        match named {
            Some(number) if number.parse::<u64>().is_ok() => {
                Ok(record_name(&self.gr(gr).await?, number.parse().unwrap_or_default()))
            }
            Some(name) => Ok(name.to_owned()),
            None => {
                let all = self.get("/gum/v1/upgrades").await?;
                let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
                let text =
                    |one: &Value, field: &str| one.get(field).and_then(Value::as_str).map(str::to_owned);
                let mine =
                    || all.iter().filter(|one| gr.is_none_or(|gr| text(one, "gr").as_deref() == Some(gr)));
                let goes_on = |one: &&Value| !is_final(&text(one, "phase").unwrap_or_default());
                let found = mine().find(goes_on).or(mine().next()).and_then(|one| text(one, "name"));
                found.ok_or_else(|| {
                    let of = gr.map(|gr| format!(" of gr {gr}")).unwrap_or_default();
                    Failure::new(
                        Exit::NotFound,
                        format!("no upgrade{of} is on record; begin one with: kubectl gcu-upgrade upgrade"),
                    )
                })
            }
        }
    }
}

/// The different names in a list, in order.
fn names(list: Option<&Value>, path: &str) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    let mut all: Vec<String> =
        items.filter_map(|one| one.pointer(path)).filter_map(Value::as_str).map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all
}
