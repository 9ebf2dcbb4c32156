//! A harness: a cluster (embedded or real) with its inhabitants, the service in front of it, a layer of faults
//! between the two, and an oracle that watches every change.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::app::{Service, ServiceDeps};
use gcu_upgrade_manager::blueprint::catalog::Watching;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::keeper;
use gcu_upgrade_manager::lease;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::world::{Running, World};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::faults::{Call, Faults};
use crate::kube::Plane;
use crate::oracle::Oracle;

/// How long a wait of a job's caller may take.
const AN_HOUR: Duration = Duration::from_secs(3600);

/// Where a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// In the process, in virtual time.
    Sandbox,
    /// A real API server, in real time.
    Real(Plane),
}

impl Backend {
    /// Whether it is a real API server.
    pub(crate) fn is_real(self) -> bool {
        matches!(self, Self::Real(_))
    }

    /// How long anything may take that nothing says otherwise of: virtual hours cost nothing, real ones do.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::Sandbox => AN_HOUR,
            Self::Real(_) => Duration::from_secs(600),
        }
    }
}

/// An answer of the service.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// What `router` answers, to its end.
    pub(crate) async fn of(router: axum::Router, request: Request<Body>) -> Self {
        let (head, body) = router.oneshot(request).await.unwrap().into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Self { status: head.status, headers: head.headers, text }
    }

    /// A header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) struct Harness {
    pub(crate) backend: Backend,
    /// The embedded API server, if it is one.
    pub(crate) api: Option<ApiServer>,
    /// A client without faults: a person's.
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) world: Running,
    pub(crate) faults: Faults,
    pub(crate) oracle: Oracle,
    pub(crate) blueprints: TempDir,
    /// What is different about the services that are started.
    pub(crate) adjust: Box<dyn Fn(&mut ServiceDeps) + Send + Sync>,
    /// CRDs that somebody has deleted, by name.
    pub(crate) taken: BTreeMap<String, CustomResourceDefinition>,
    /// Milliseconds by which the service's clock is off.
    pub(crate) clock_off: &'static AtomicI64,
    /// The node that the service runs on.
    pub(crate) own_node: Option<String>,
    /// The service has a keeper, always at the same address.
    pub(crate) keeper: Option<SocketAddr>,
    /// A Lease says which replica acts.
    pub(crate) lease: bool,
    service: Option<Service>,
    others: Vec<Service>,
    /// Other replicas, each with what is between it and the API server.
    replicas: Vec<(Service, Faults)>,
}

/// Where nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

/// A cluster without inhabitants.
async fn cluster(backend: Backend, old: bool) -> Option<(Client, Option<ApiServer>, Clock)> {
    match backend {
        Backend::Sandbox => {
            let clock = Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
            let api = if old { ApiServer::old(clock) } else { ApiServer::new(clock) };
            Some((api.client_as("person"), Some(api), clock))
        }
        Backend::Real(plane) => Some((plane.cluster().await?.client().await, None, Clock::system())),
    }
}

impl Harness {
    /// A settled world and a service that is ready. `None` when there is no real cluster to be had.
    pub(crate) async fn set(backend: Backend, world: World, faults: Faults) -> Option<Self> {
        let mut harness = Self::set_without_service(backend, world, faults).await?;
        harness.start_service().await;
        harness.ready().await;
        Some(harness)
    }

    pub(crate) async fn set_without_service(backend: Backend, world: World, faults: Faults) -> Option<Self> {
        Self::set_on(false, backend, world, faults).await
    }

    /// `old`: a cluster as of Kubernetes 1.20, if it is not a real one.
    pub(crate) async fn set_on(
        old: bool,
        backend: Backend,
        mut world: World,
        faults: Faults,
    ) -> Option<Self> {
        let (client, api, clock) = cluster(backend, old).await?;
        world.with_real_controllers = match backend {
            Backend::Sandbox => false,
            Backend::Real(plane) => plane.cluster().await?.has_controllers(),
        };
        let settled = world.gr.is_some();
        let prefix = world.prefix.clone().unwrap_or_default();
        let inhabitants = api.as_ref().map(|a| a.client_as("actors")).unwrap_or_else(|| client.clone());
        let world = world.start(inhabitants, clock).await.unwrap();
        if settled {
            world.settled(Duration::from_secs(300)).await.unwrap();
        }
        let oracle = Oracle::start(client.clone(), world.grs(), prefix).await;
        if let Some(server) = &api {
            oracle.hear(server);
        }
        let blueprints = TempDir::new().unwrap();
        Some(Self {
            backend,
            api,
            client,
            clock,
            world,
            faults,
            oracle,
            blueprints,
            adjust: Box::new(|_| {}),
            taken: BTreeMap::new(),
            clock_off: Box::leak(Box::default()),
            own_node: None,
            keeper: None,
            lease: false,
            service: None,
            others: Vec::new(),
            replicas: Vec::new(),
        })
    }

    /// Starts the service; its clients' calls go through the faults.
    pub(crate) async fn start_service(&mut self) {
        self.faults.revive();
        self.service = Some(self.another_service().await);
    }

    /// One more process, which nobody asks for anything.
    pub(crate) async fn start_another_service(&mut self) {
        let other = self.another_service().await;
        self.others.push(other);
    }

    /// One more replica, which has its own way to the API server and its own address for its keeper.
    pub(crate) async fn start_replica(&mut self) {
        let faults = Faults::new(Vec::new());
        let service = self.replica("second", &faults, self.keeper.map(|_| free_address()), |_| {}).await;
        timeout(Duration::from_secs(120), service.ready()).await.expect("the replica is ready");
        self.replicas.push((service, faults));
    }

    /// What all replicas have asked of the API server.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let others = self.replicas.iter().flat_map(|(_, faults)| faults.calls());
        self.faults.calls().into_iter().chain(others).collect()
    }

    async fn another_service(&self) -> Service {
        self.service_with(&self.faults, &self.adjust).await
    }

    /// One more process, with faults and settings of its own.
    pub(crate) async fn service_with(
        &self,
        faults: &Faults,
        adjust: impl FnOnce(&mut ServiceDeps),
    ) -> Service {
        self.replica("first", faults, self.keeper, adjust).await
    }

    /// What a service is to the API server.
    pub(crate) fn person(&self) -> Client {
        self.api.as_ref().map(|a| a.client_as("gum")).unwrap_or_else(|| self.client.clone())
    }

    async fn replica(
        &self,
        identity: &str,
        faults: &Faults,
        keeper: Option<SocketAddr>,
        adjust: impl FnOnce(&mut ServiceDeps),
    ) -> Service {
        let metrics = Metrics::default();
        let client = faults.client(self.person(), metrics.clone());
        let mut parts = ServiceDeps::new(client, self.clock, self.blueprints.path(), metrics);
        parts.watching = Watching::Polling;
        parts.own_node.clone_from(&self.own_node);
        parts.clock = self.clock.off_by(self.clock_off);
        if self.lease {
            let (name, identity) = (format!("gum-{}", self.gr()), identity.to_owned());
            parts.lease = Some(lease::Settings { namespace: "kube-system".to_owned(), name, identity });
        }
        if let Some(address) = keeper {
            parts.keeper = Some(self.keeper_at(address, parts.metrics.clone()).await);
        }
        adjust(&mut parts);
        Service::start(parts).await
    }

    /// A keeper of the service; the sandbox's API server reaches it within the process.
    async fn keeper_at(&self, address: SocketAddr, metrics: Metrics) -> keeper::Settings {
        let url = format!("https://{address}");
        if let Some(api) = &self.api {
            api.webhook(&url, keeper::serve::router(metrics));
        }
        // The one before may not have let go of it yet.
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        keeper::Settings::new(listener, keeper::KeeperAddress::url(&url).unwrap(), "kube-system")
    }

    pub(crate) async fn ready(&self) {
        let service = self.service.as_ref().expect("the service was started");
        let ready = async {
            tokio::select! {
                () = service.ready() => self.oracle.is_watching().await,
                () = self.faults.death() => {}
            }
        };
        timeout(Duration::from_secs(120), ready).await.expect("the service is not ready after two minutes");
    }

    /// The process dies here, whatever it is doing.
    pub(crate) fn kill(&mut self) {
        if let (Some(api), Some(address)) = (&self.api, self.keeper) {
            api.close_webhook(&format!("https://{address}"));
        }
        self.service = None;
    }

    /// If a fault has killed the process: what `kubelet` does.
    pub(crate) async fn revive_if_dead(&mut self) {
        while self.faults.is_dead() {
            self.kill();
            self.start_service().await;
            self.ready().await;
        }
    }

    /// A request, as curl sends it. `None` when the process died before it answered.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> Option<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.ask(request).await
    }

    /// Any request. `None` when the process died before it answered.
    pub(crate) async fn ask(&self, request: Request<Body>) -> Option<Answer> {
        let router = self.service.as_ref()?.router();
        tokio::select! {
            answer = timeout(AN_HOUR, Answer::of(router, request)) => Some(answer.expect("no answer within an hour")),
            () = self.faults.death() => None,
        }
    }

    /// The service itself, for answers that do not end.
    pub(crate) fn router(&self) -> axum::Router {
        self.service.as_ref().expect("the service was started").router()
    }

    /// A blueprint file.
    pub(crate) fn write(&self, file: &str, content: &str) {
        std::fs::write(self.blueprints.path().join(file), content).unwrap();
    }

    /// A request that is answered.
    pub(crate) async fn must(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call(method, path, body).await.expect("the process died")
    }

    pub(crate) fn gr(&self) -> &str {
        self.world.gr_name()
    }

    /// What the names of this world's objects begin with, where several worlds share a cluster.
    pub(crate) fn prefix(&self) -> Option<String> {
        self.gr().strip_suffix("-enflame-gcu-resource").map(str::to_owned)
    }

    pub(crate) fn records(&self) -> Api<GcuUpgrade> {
        Api::all(self.client.clone())
    }

    pub(crate) fn record_name(&self, number: u64) -> String {
        format!("{}-{number}", self.gr())
    }

    pub(crate) async fn record(&self, number: u64) -> Option<GcuUpgrade> {
        self.records().get_opt(&self.record_name(number)).await.unwrap()
    }

    /// Waits until a record is as wanted, starting the process again as often as it dies.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        number: u64,
        within: Duration,
        wanted: impl Fn(Option<&GcuUpgrade>) -> bool,
    ) {
        let step = match self.backend {
            Backend::Sandbox => Duration::from_millis(500),
            Backend::Real(_) => Duration::from_millis(50),
        };
        let end = tokio::time::Instant::now() + within;
        loop {
            self.revive_if_dead().await;
            let record = self.record(number).await;
            if wanted(record.as_ref()) {
                return;
            }
            if tokio::time::Instant::now() > end {
                let status = record.map(|r| r.status_or_default());
                panic!(
                    "{what} did not come within {within:?}; status: {status:#?}\ncalls: {:#?}",
                    self.faults.calls().iter().rev().take(12).collect::<Vec<_>>()
                );
            }
            sleep(step).await;
        }
    }

    pub(crate) async fn until_final(&mut self, number: u64) -> Phase {
        self.until("the end", number, self.backend.patience(), |r| r.is_some_and(|r| r.phase().is_final()))
            .await;
        self.record(number).await.unwrap().phase()
    }
}
