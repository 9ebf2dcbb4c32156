//! A world: a cluster with nodes, the GcuResource's definition, the actors, and a gr.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, Node},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, PostParams},
    runtime::{WatchStreamExt, wait, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::{sync::watch, task::AbortHandle, time::timeout};

use crate::WORLD_LABEL;
use crate::actors::{
    daemonsets, deployments, garbage,
    kubelet::{self, KubeletBehaviour},
    operator::{self, OperatorBehaviour, Settings},
};
use gcu_clock::Clock;

/// How long the cluster may take to serve a new definition.
const PATIENCE: Duration = Duration::from_secs(30);
/// The documented gr, as delivered with the operator.
const DOCUMENTED_GR: &str = include_str!("gcu-resource.json");

/// Why a world did not come to be, or not to rest.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The API server refused something.
    #[error(transparent)]
    Kube(#[from] kube::Error),
    /// A built-in manifest does not have the shape it should.
    #[error("a manifest of the world is not valid: {0}")]
    Manifest(#[from] serde_json::Error),
    /// The GcuResource's definition was not accepted.
    #[error("the GcuResource's definition is not served: {0}")]
    Definition(#[from] wait::Error),
    /// The gr was not running in time.
    #[error("the gr {name} is not running after {after:?}; its status is {status}")]
    NotSettled {
        /// Which gr.
        name: String,
        /// How long it was given.
        after: Duration,
        /// How it stands instead.
        status: Value,
    },
}

/// What a cluster starts with. Fields that are not set have the values of [`World::default`].
#[derive(Clone, Debug)]
pub struct World {
    /// How many nodes have GCUs: `node-1` and so on.
    pub nodes: usize,
    /// How many nodes have none: `plain-1` and so on.
    pub plain_nodes: usize,
    /// GCUs of a node that has any.
    pub gcus: u32,
    /// The gr to create; `None` for an operator without work.
    pub gr: Option<Value>,
    /// The API group of the GcuResource; the gr's `apiVersion` is set to it.
    pub group: String,
    /// How the operator behaves.
    pub operator: OperatorBehaviour,
    /// How the nodes behave.
    pub kubelet: KubeletBehaviour,
    /// Makes room for several worlds in one cluster: the names of the nodes, the gr and its workloads begin with it,
    /// and the actors leave all others alone.
    pub prefix: Option<String>,
    /// The cluster has controllers of its own for DaemonSets, Deployments and garbage.
    pub with_real_controllers: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            nodes: 3,
            plain_nodes: 0,
            gcus: 8,
            gr: Some(documented_gr()),
            group: "topsops.enflame.com".to_owned(),
            operator: OperatorBehaviour::default(),
            kubelet: KubeletBehaviour::default(),
            prefix: None,
            with_real_controllers: false,
        }
    }
}

/// The documented gr with the driver deployed too: nfd and the five components that `readyResource` counts.
pub fn documented_gr() -> Value {
    let mut gr: Value = serde_json::from_str(DOCUMENTED_GR).unwrap_or_default();
    if let Some(not_deploy) = gr.pointer_mut("/spec/driver/notDeploy") {
        *not_deploy = Value::Bool(false);
    }
    gr
}

/// A world that lives. Its actors end when this is dropped; what they left in the cluster stays.
pub struct Running {
    client: Client,
    clock: Clock,
    settings: Settings,
    gr: Option<String>,
    operator: watch::Sender<OperatorBehaviour>,
    kubelet: watch::Sender<KubeletBehaviour>,
    operator_task: Option<AbortHandle>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.operator_task.iter().chain(&self.tasks).for_each(AbortHandle::abort);
    }
}

impl World {
    /// The name with the world's prefix.
    pub fn named(&self, name: &str) -> String {
        self.prefix.as_ref().map_or_else(|| name.to_owned(), |prefix| format!("{prefix}-{name}"))
    }

    /// The gr that the world will create: of its group, and with its prefix in every name.
    pub fn manifest(&self) -> Option<Value> {
        self.gr.clone().map(|gr| self.adapt(gr))
    }

    /// Any gr, made one of this world's.
    pub fn adapt(&self, mut gr: Value) -> Value {
        let name = gr.pointer("/metadata/name").and_then(Value::as_str).map(|name| self.named(name));
        if let Some(fields) = gr.as_object_mut() {
            fields.insert("apiVersion".to_owned(), json!(self.settings().api_version()));
        }
        if self.prefix.is_none() {
            return gr;
        }
        if let (Some(name), Some(slot)) = (name, gr.pointer_mut("/metadata/name")) {
            *slot = Value::String(name);
        }
        let spec = gr.get_mut("spec").and_then(Value::as_object_mut).into_iter().flatten();
        for (key, component) in spec {
            let Some(fields) = component.as_object_mut() else { continue };
            let given = fields.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
            let name = given.map_or_else(|| operator::default_name(key), str::to_owned);
            fields.insert("name".to_owned(), json!(self.named(&name)));
        }
        gr
    }

    fn settings(&self) -> Settings {
        Settings { group: self.group.clone(), version: "v1".to_owned(), world: self.prefix.clone() }
    }

    /// Fills the cluster and sets its inhabitants going. Returns when the gr is created, not when it runs.
    pub async fn start(self, client: Client, clock: Clock) -> Result<Running, WorldError> {
        let settings = self.settings();
        install_definition(&client, &settings).await?;
        for namespace in ["default", "kube-system"] {
            let manifest = json!({ "metadata": { "name": namespace } });
            ensure(&Api::<Namespace>::all(client.clone()), serde_json::from_value(manifest)?).await?;
        }
        if self.prefix.is_none() {
            let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
            ensure(&deployments, serde_json::from_value(operator_deployment(&self.group))?).await?;
        }
        let nodes: Api<Node> = Api::all(client.clone());
        let gcu_nodes = (1..=self.nodes).map(|number| self.node(number, true));
        let plain_nodes = (1..=self.plain_nodes).map(|number| self.node(number, false));
        let wanted: Vec<Node> = gcu_nodes.chain(plain_nodes).collect::<Result<_, _>>()?;
        stream::iter(wanted.into_iter().map(Ok))
            .try_for_each_concurrent(16, |node| ensure(&nodes, node))
            .await?;

        let gr = self.manifest();
        let (operator, kubelet) = (watch::Sender::new(self.operator), watch::Sender::new(self.kubelet));
        let prefix = self.prefix.clone();
        let mut tasks = vec![start(kubelet::run(client.clone(), clock, kubelet.subscribe(), prefix.clone()))];
        if !self.with_real_controllers {
            tasks.push(start(daemonsets::run(client.clone(), clock, prefix.clone())));
            tasks.push(start(deployments::run(client.clone(), prefix)));
            tasks.push(start(garbage::run_garbage_collector(client.clone())));
        }
        let name = gr.as_ref().and_then(|gr| gr.pointer("/metadata/name")?.as_str()).map(str::to_owned);
        let operator_task = None;
        let mut running =
            Running { client, clock, settings, gr: name, operator, kubelet, operator_task, tasks };
        running.start_operator();
        if let Some(gr) = gr {
            ensure(&running.grs(), serde_json::from_value(gr)?).await?;
        }
        Ok(running)
    }

    fn node(&self, number: usize, with_gcus: bool) -> Result<Node, serde_json::Error> {
        let name = self.named(&format!("{}-{number}", if with_gcus { "node" } else { "plain" }));
        let mut labels: BTreeMap<String, String> = [
            ("kubernetes.io/hostname", name.clone()),
            ("kubernetes.io/os", "linux".to_owned()),
            ("kubernetes.io/arch", "amd64".to_owned()),
        ]
        .map(|(label, value)| (label.to_owned(), value))
        .into();
        if with_gcus {
            let gcu = [("present", "true"), ("model", "T20"), ("family", "T2x"), ("memory", "32")];
            labels.extend(gcu.map(|(label, value)| (format!("enflame.com/gcu.{label}"), value.to_owned())));
            labels.insert("enflame.com/gcu.count".to_owned(), self.gcus.to_string());
        }
        if let Some(prefix) = &self.prefix {
            labels.insert(WORLD_LABEL.to_owned(), prefix.clone());
        }
        let room = json!({ "cpu": "64", "memory": "256Gi", "pods": "110" });
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels },
            // A node is not ready before its kubelet says so.
            "spec": { "taints": [{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }] },
            "status": { "capacity": room, "allocatable": room },
        }))
    }
}

/// The operator as it is installed. It is paused and has no pod: an actor in this process does its work.
fn operator_deployment(group: &str) -> Value {
    let version = if group == "topscloud.enflame.com" { "2.4.6" } else { "2.0.1" };
    let labels = json!({ "app.kubernetes.io/name": "gcu-operator" });
    let image = format!("artifact.enflame.cn/enflame_docker_images/enflame/gcu-operator:{version}");
    json!({
        "metadata": { "name": "gcu-operator", "namespace": "kube-system", "labels": labels },
        "spec": {
            "replicas": 0,
            "paused": true,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "gcu-operator", "image": image }] },
            },
        },
    })
}

fn start(actor: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(actor).abort_handle()
}

/// Creates the object unless one of its name is there.
async fn ensure<K>(api: &Api<K>, object: K) -> Result<(), kube::Error>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        result => result.map(drop),
    }
}

async fn install_definition(client: &Client, settings: &Settings) -> Result<(), WorldError> {
    let name = format!("gcuresources.{}", settings.group);
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "metadata": { "name": name },
        "spec": {
            "group": settings.group,
            "scope": "Cluster",
            "names": {
                "kind": "GcuResource", "listKind": "GcuResourceList",
                "plural": "gcuresources", "singular": "gcuresource", "shortNames": ["gr"],
            },
            "versions": [{
                "name": settings.version,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": [
                    { "name": "READY", "type": "string", "jsonPath": ".status.readyResource" },
                    { "name": "STATUS", "type": "string", "jsonPath": ".status.phase" },
                    { "name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
                ],
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": open, "status": open } } },
            }],
        },
    });
    ensure(&definitions, serde_json::from_value(definition)?).await?;
    let established = wait::await_condition(definitions, &name, wait::conditions::is_crd_established());
    match timeout(PATIENCE, established).await {
        Ok(result) => result.map(drop).map_err(WorldError::from),
        Err(_) => Err(WorldError::NotSettled { name, after: PATIENCE, status: Value::Null }),
    }
}

impl Running {
    /// A client of the cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The GcuResources of the group that the world's operator serves.
    pub fn grs(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &self.settings.resource())
    }

    /// The name of the gr that the world was created with.
    pub fn gr_name(&self) -> &str {
        self.gr.as_deref().unwrap_or_default()
    }

    /// The world's gr as it stands.
    pub async fn gr(&self) -> Result<DynamicObject, kube::Error> {
        self.grs().get(self.gr_name()).await
    }

    /// Changes how the operator behaves, from now on.
    pub fn change_operator(&self, change: impl FnOnce(&mut OperatorBehaviour)) {
        self.operator.send_modify(change);
    }

    /// Changes how the nodes behave, from now on: makes or heals faults.
    pub fn change_kubelet(&self, change: impl FnOnce(&mut KubeletBehaviour)) {
        self.kubelet.send_modify(change);
    }

    /// Ends the operator's process, wherever it stands.
    fn stop_operator(&mut self) {
        if let Some(task) = self.operator_task.take() {
            task.abort();
        }
    }

    /// Starts the operator's process, anew if it runs.
    pub fn start_operator(&mut self) {
        self.stop_operator();
        let (client, settings) = (self.client.clone(), self.settings.clone());
        self.operator_task =
            Some(start(operator::run(client, self.clock, settings, self.operator.subscribe())));
    }

    /// Waits until the gr is `Running`, and if it says of which generation, of the present one.
    pub async fn settled(&self, deadline: Duration) -> Result<DynamicObject, WorldError> {
        let mut last = Value::Null;
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.gr_name()));
        let mut seen = std::pin::pin!(watcher(self.grs(), only).default_backoff().applied_objects());
        let running = async {
            while let Some(event) = seen.next().await {
                let Ok(gr) = event else { continue };
                last = gr.data.get("status").cloned().unwrap_or_default();
                if is_running(&gr, &last) {
                    return Some(gr);
                }
                // Every node's name: nobody reads thousands of them.
                last.as_object_mut().and_then(|status| status.remove("clusterGCUNodes"));
            }
            None
        };
        match timeout(deadline, running).await {
            Ok(Some(gr)) => Ok(gr),
            _ => {
                Err(WorldError::NotSettled { name: self.gr_name().to_owned(), after: deadline, status: last })
            }
        }
    }
}

fn is_running(gr: &DynamicObject, status: &Value) -> bool {
    let empty = Map::new();
    let status = status.as_object().unwrap_or(&empty);
    let phase = status.get("phase").and_then(Value::as_str).unwrap_or_default();
    let observed = status.get("observedGeneration").and_then(Value::as_i64);
    gr.meta().deletion_timestamp.is_none()
        && phase.eq_ignore_ascii_case("running")
        && observed.is_none_or(|observed| Some(observed) >= gr.meta().generation)
}
