//! A real API server, DaemonSets to hold on it, and keepers for it to ask.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::post;
use axum::{Router, body::Bytes};
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::http::tls::{self, Files};
use gcu_upgrade_manager::keeper::{self, Error, Installed, Keeper, KeeperAddress, NAME, Proof, Settings};
use gcu_upgrade_manager::lease;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::record::rolling::{
    HELD_LABEL, HOLD_ANNOTATION, LOCK_ANNOTATION, RELEASE_ANNOTATION,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::MutexGuard;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::kube::{ALONE, real};

pub(super) const NAMESPACE: &str = "default";
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const LOCK: &str = r#"{"type":"RollingUpdate"}"#;

/// The real cluster, to oneself, without anything that an earlier test has left.
pub(super) struct Ground {
    pub(super) client: Client,
    _alone: MutexGuard<'static, ()>,
}

impl Ground {
    pub(super) async fn enter() -> Option<Self> {
        let cluster = real().await?;
        let alone = ALONE.lock().await;
        let ground = Self { client: cluster.client().await, _alone: alone };
        ground.clear().await;
        Some(ground)
    }

    pub(super) async fn clear(&self) {
        for name in [NAME, "zz-another"] {
            let _ = self.configurations().delete(name, &DeleteParams::default()).await;
        }
        let _ = self.secrets().delete(NAME, &DeleteParams::default()).await;
        for name in ["kept-driver", "kept-other"] {
            let _ = self.sets().delete(name, &DeleteParams::default()).await;
            until("it is gone", async || self.sets().get_opt(name).await.unwrap().is_none()).await;
        }
    }

    pub(super) fn configurations(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    pub(super) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(super) fn sets(&self) -> Api<DaemonSet> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// A lease that another replica holds for as long as a test takes.
    pub(super) async fn lease_of_another(&self) -> lease::Settings {
        let settings = lease::Settings {
            namespace: NAMESPACE.to_owned(),
            name: "kept-by-another".to_owned(),
            identity: "this".to_owned(),
        };
        let held = json!({
            "metadata": { "name": settings.name },
            "spec": {
                "holderIdentity": "another", "leaseDurationSeconds": 3600,
                "renewTime": MicroTime(Clock::system().precisely()),
            },
        });
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        let _ = leases.delete(&settings.name, &DeleteParams::default()).await;
        leases.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
        settings
    }

    pub(super) async fn certificate(&self) -> ByteString {
        self.secrets().get(NAME).await.unwrap().data.unwrap()["tls.crt"].clone()
    }

    /// A held DaemonSet.
    pub(super) async fn held(&self) -> DaemonSet {
        self.create(&rendered("kept-driver", "v1", true)).await
    }

    pub(super) async fn create(&self, object: &Value) -> DaemonSet {
        let object = serde_json::from_value(object.clone()).unwrap();
        self.sets().create(&PostParams::default(), &object).await.unwrap()
    }

    pub(super) async fn merge(&self, name: &str, patch: Value) -> Result<DaemonSet, kube::Error> {
        self.sets().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await
    }

    /// The whole object, as an operator writes it that knows of no hold.
    pub(super) async fn overwrite(&self, name: &str, image: &str) -> Result<DaemonSet, kube::Error> {
        let mut object: DaemonSet = serde_json::from_value(rendered(name, image, false)).unwrap();
        loop {
            object.metadata.resource_version = self.sets().get(name).await.unwrap().resource_version();
            match self.sets().replace(name, &PostParams::default(), &object).await {
                // The DaemonSet controller has written the status meanwhile.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                result => return result,
            }
        }
    }

    /// What our own release writes, and with it the given labels.
    pub(super) async fn release(&self, name: &str, labels: Value) -> DaemonSet {
        loop {
            let held = self.sets().get(name).await.unwrap();
            let version = held.resource_version();
            let mut patch = json!({
                "metadata": {
                    "uid": held.uid(), "resourceVersion": version, "labels": labels,
                    "annotations": { LOCK_ANNOTATION: null, HOLD_ANNOTATION: null, RELEASE_ANNOTATION: version },
                },
                "spec": { "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 2 } } },
            });
            patch["metadata"]["labels"][HELD_LABEL] = Value::Null;
            match self.merge(name, patch).await {
                // The DaemonSet controller has written the status meanwhile.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                result => return result.unwrap(),
            }
        }
    }
}

/// A DaemonSet that no node runs.
pub(super) fn rendered(name: &str, image: &str, held: bool) -> Value {
    let (mut labels, mut annotations) = (json!({ "app": name }), json!({ "operator": "yes" }));
    let mut strategy = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "100%" } });
    if held {
        labels[HELD_LABEL] = json!("true");
        annotations[LOCK_ANNOTATION] = json!(LOCK);
        annotations[HOLD_ANNOTATION] = json!("{}");
        strategy = json!({ "type": "OnDelete" });
    }
    json!({
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels, "annotations": annotations },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "updateStrategy": strategy,
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "nodeSelector": { "nowhere": name }, "containers": [{ "name": "main", "image": image }] },
            },
        },
    })
}

pub(super) fn strategy(set: &DaemonSet) -> Value {
    json!(set.spec.update_strategy)
}

pub(super) fn image(set: &DaemonSet) -> &str {
    set.spec.template.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

pub(super) fn assert_held(set: &DaemonSet, what: &str) {
    assert_eq!(strategy(set), json!({ "type": "OnDelete" }), "{what}");
    assert_eq!(set.labels().get(HELD_LABEL).map(String::as_str), Some("true"), "{what}");
    assert_eq!(set.annotations().get(LOCK_ANNOTATION).map(String::as_str), Some(LOCK), "{what}");
    assert_eq!(set.annotations().get(HOLD_ANNOTATION).map(String::as_str), Some("{}"), "{what}");
    assert_eq!(set.annotations().get(RELEASE_ANNOTATION), None, "{what}");
}

pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let met = async {
        while !condition().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// One replica's keeper.
pub(super) struct Replica {
    pub(super) keeper: Keeper,
    pub(super) metrics: Metrics,
    pub(super) port: u16,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Replica {
    pub(super) async fn start(ground: &Ground) -> Self {
        Self::start_on(ground, 0, Clock::system()).await
    }

    pub(super) async fn start_on(ground: &Ground, port: u16, clock: Clock) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let place = KeeperAddress::url(&format!("https://127.0.0.1:{port}")).unwrap();
        let mut settings = Settings::new(listener, place, NAMESPACE);
        settings.look_every = Duration::from_millis(200);
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let (keeper, running) =
            keeper::open(ground.client.clone(), clock, metrics.clone(), settings, stop.clone());
        Self { keeper, metrics, port, stop, task: tokio::spawn(running) }
    }

    pub(super) async fn install_and_prove(&self, set: &DaemonSet) {
        assert_eq!(self.keeper.state().await.unwrap(), Installed::Absent);
        self.keeper.install().await.unwrap();
        self.keeper.install().await.unwrap();
        assert_eq!(self.keeper.state().await.unwrap(), Installed::Current);
        self.is_proven(set).await;
    }

    pub(super) async fn is_proven(&self, set: &DaemonSet) {
        until("proven", async || self.prove(set).await.unwrap() == Proof::Kept).await;
    }

    pub(super) async fn prove(&self, set: &DaemonSet) -> Result<Proof, Error> {
        self.keeper.prove(NAMESPACE, &set.name_any(), &set.uid().unwrap()).await
    }

    pub(super) async fn is_not_proven(&self, set: &DaemonSet) -> String {
        match self.prove(set).await.unwrap() {
            Proof::NotKept(why) => why,
            Proof::Kept => panic!("it was kept"),
        }
    }

    /// How often it was asked, with each result.
    pub(super) fn asked(&self, result: &str) -> u32 {
        let text = self.metrics.text(Clock::system().now());
        let name = format!("gum_keeper_reviews_total{{result=\"{result}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&name)).unwrap().parse().unwrap()
    }

    pub(super) fn asked_at_all(&self) -> u32 {
        ["allowed", "released", "kept", "unreadable"].map(|result| self.asked(result)).iter().sum()
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    /// The certificate that it shows to a client that trusts the CAs of the Secret.
    pub(super) async fn shows(&self, ground: &Ground) -> CertificateDer<'static> {
        let secret = ground.secrets().get(NAME).await.unwrap().data.unwrap();
        let mut roots = RootCertStore::empty();
        CertificateDer::pem_slice_iter(&secret["ca.crt"].0).for_each(|ca| roots.add(ca.unwrap()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

pub(super) fn first_of(pem: &ByteString) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&pem.0).unwrap()
}

impl Replica {
    pub(super) async fn shows_another_than(
        &self,
        ground: &Ground,
        old: &CertificateDer<'static>,
    ) -> Option<CertificateDer<'static>> {
        // Neither is good until it is made good.
        let secret = ground.secrets().get_opt(NAME).await.unwrap()?;
        secret.data.filter(|data| !data["ca.crt"].0.is_empty())?;
        Some(self.shows(ground).await).filter(|shown| shown != old)
    }
}

impl Replica {
    /// One that looks once, at the beginning, and has looked.
    pub(super) async fn start_slowly(ground: &Ground, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let place = KeeperAddress::url(&format!("https://127.0.0.1:{port}")).unwrap();
        let settings = Settings::new(listener, place, NAMESPACE);
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let (keeper, running) =
            keeper::open(ground.client.clone(), Clock::system(), metrics.clone(), settings, stop.clone());
        let replica = Self { keeper, metrics, port, stop, task: tokio::spawn(running) };
        replica.shows(ground).await;
        replica
    }
}

/// A webhook of somebody else, asked after ours, that labels whatever is written.
pub(super) async fn another_webhook(ground: &Ground, dir: &TempDir) -> CancellationToken {
    let data = |name: &str| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/").to_owned() + name;
    for (from, to) in [("first.crt", "tls.crt"), ("first.key", "tls.key")] {
        std::fs::copy(data(from), dir.path().join(to)).unwrap();
    }
    let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let (current, _) = tls::open(Files { certificate, key, client_ca: None }).unwrap();
    let answer = async |body: Bytes| {
        let question: Value = serde_json::from_slice(&body).unwrap();
        let patch = json!([{ "op": "add", "path": "/metadata/labels/sidecar", "value": "yes" }]);
        let response = json!({
            "uid": question["request"]["uid"], "allowed": true, "patchType": "JSONPatch",
            "patch": ByteString(patch.to_string().into_bytes()),
        });
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
            .to_string()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let mut settings = gcu_upgrade_manager::http::Settings::plain(Metrics::default());
    settings.tls = Some(current);
    let stop = CancellationToken::new();
    let router = Router::new().route("/", post(answer));
    tokio::spawn(gcu_upgrade_manager::http::serve(listener, router, settings, stop.clone()));
    let configuration = json!({
        "metadata": { "name": "zz-another" },
        "webhooks": [{
            "name": "sidecar.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": { "url": url, "caBundle": ByteString(std::fs::read(data("ca.crt")).unwrap()) },
            "objectSelector": { "matchExpressions": [{ "key": "app", "operator": "In", "values": ["kept-driver"] }] },
            "rules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["daemonsets"],
            }],
        }],
    });
    let configuration = serde_json::from_value(configuration).unwrap();
    ground.configurations().create(&PostParams::default(), &configuration).await.unwrap();
    stop
}
