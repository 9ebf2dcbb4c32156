//! A cluster with replicas of the service, each behind faults of its own.

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::keeper::{Keeper, Settings};
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::*;
use crate::faults::{Fault, Faults, Faulty, Rule};

/// A cluster that stores Secrets and webhook configurations.
pub(super) struct Cluster {
    pub(super) api: ApiServer,
    pub(super) clock: Clock,
    pub(super) client: Client,
}

impl Cluster {
    pub(super) async fn new() -> Self {
        let clock = Clock::following_tokio(START.parse().unwrap());
        let api = ApiServer::new(clock);
        let client = api.client();
        let definition = json!({
            "metadata": { "name": "mutatingwebhookconfigurations.admissionregistration.k8s.io" },
            "spec": {
                "group": "admissionregistration.k8s.io",
                "scope": "Cluster",
                "names": {
                    "kind": "MutatingWebhookConfiguration", "plural": "mutatingwebhookconfigurations",
                    "singular": "mutatingwebhookconfiguration", "listKind": "MutatingWebhookConfigurationList",
                },
                "versions": [{
                    "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    } },
                }],
            },
        });
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let definition = serde_json::from_value(definition).unwrap();
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        Self { api, clock, client }
    }

    pub(super) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), "kube-system")
    }

    pub(super) fn configurations(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    pub(super) async fn secret(&self) -> BTreeMap<String, ByteString> {
        self.secrets().get(NAME).await.unwrap().data.unwrap()
    }

    pub(super) async fn bundle_told(&self) -> ByteString {
        let configuration = self.configurations().get(NAME).await.unwrap();
        configuration.webhooks.unwrap()[0].client_config.ca_bundle.clone().unwrap()
    }

    pub(super) async fn replica(&self) -> Replica {
        self.replica_with(self.clock, place(HOST)).await
    }

    pub(super) async fn replica_with(&self, clock: Clock, place: KeeperAddress) -> Replica {
        let (faults, metrics) = (Faults::new(Vec::new()), Metrics::default());
        let server = self.api.client();
        let send = service_fn(move |request| {
            let server = server.clone();
            async move { server.send(request).await }
        });
        let faulty = Faulty { inner: send, faults: faults.clone() };
        let client = cluster::client_over(faulty, metrics.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = Settings::new(listener, place, "kube-system");
        settings.look_every = LOOK_EVERY;
        let stop = CancellationToken::new();
        let (keeper, running) = keeper::open(client, clock, metrics.clone(), settings, stop.clone());
        tokio::spawn(running);
        Replica { keeper, faults, metrics, _stop: stop.drop_guard() }
    }
}

pub(super) struct Replica {
    pub(super) keeper: Keeper,
    pub(super) faults: Faults,
    pub(super) metrics: Metrics,
    pub(super) _stop: tokio_util::sync::DropGuard,
}

impl Replica {
    pub(super) fn refuse(&self, on: &str, times: usize, status: u16) {
        self.faults.add(Rule { on: on.to_owned(), skip: 0, times, fault: Fault::Answer(status) });
    }

    pub(super) fn writes(&self, of: &str) -> usize {
        self.faults.calls().iter().filter(|c| c.is_write() && c.path.contains(of)).count()
    }

    pub(super) fn succeeded(&self, verb: &str) -> u32 {
        let text = self.metrics.text(Timestamp::UNIX_EPOCH);
        let name = format!("gum_api_calls_total{{verb=\"{verb}\",code=\"200\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&name)).map_or(0, |n| n.parse().unwrap())
    }

    pub(super) fn is_told_installed(&self) -> bool {
        self.metrics.text(Timestamp::UNIX_EPOCH).contains("\ngum_keeper_installed 1\n")
    }
}
