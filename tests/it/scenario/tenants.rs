//! Users' pods, their disruption budgets, and what admins do to nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use gcu_upgrade_manager::sandbox::WORLD_LABEL;
use gcu_upgrade_manager::sandbox::actors::kubelet::RUNS_FOR;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ResourceQuota};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::world::named;
use crate::harness::Harness;

/// Written by the admin of the scenarios in one patch with a cordon: the oracle tells ours from theirs by it.
pub(crate) const ADMIN: &str = "example.com/admin";
/// Where the users' pods are.
pub(crate) const NAMESPACE: &str = "default";

/// A pod of a user, or the controller of several.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    /// Where it is; not for a Deployment or a DaemonSet.
    #[serde(default)]
    pub(crate) node: String,
    /// GCUs that it holds.
    #[serde(default)]
    pub(crate) gcus: u32,
    #[serde(default)]
    pub(crate) kind: Kind,
    #[serde(default)]
    pub(crate) replicas: Option<u32>,
    /// Beside `app: <name>`.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) empty_dir: bool,
    /// Seconds after which it ends by itself.
    #[serde(default)]
    pub(crate) runs_for: Option<u32>,
}

/// Who makes another when it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A ReplicaSet says it is its own, but no controller of it runs: nobody comes back.
    #[default]
    Owned,
    /// Nobody.
    Bare,
    /// A DaemonSet, on each node.
    Daemon,
    /// A Deployment with so many replicas; on the sandbox only.
    Deployment,
    /// It tolerates everything, and is made anew on the same node whenever it is gone, until a person ends it.
    Stubborn,
}

/// A PodDisruptionBudget for the pods with label `app: <app>`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    pub(crate) name: String,
    pub(crate) app: String,
    pub(crate) min_available: u32,
}

pub(crate) fn api(
    harness: &Harness,
    group: &str,
    version: &str,
    kind: &str,
    plural: &str,
) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    Api::namespaced_with(harness.client.clone(), NAMESPACE, &resource)
}

fn pods(harness: &Harness) -> Api<Pod> {
    Api::namespaced(harness.client.clone(), NAMESPACE)
}

fn nodes(harness: &Harness) -> Api<Node> {
    Api::all(harness.client.clone())
}

impl Tenant {
    fn template(&self, prefix: &Option<String>) -> Value {
        let name = named(prefix, &self.name);
        let mut labels = self.labels.clone();
        labels.insert("app".to_owned(), name.clone());
        labels.entry("app.kubernetes.io/name".to_owned()).or_insert(name);
        let mut container = json!({ "name": "main", "image": "training:1" });
        if self.gcus > 0 {
            container["resources"] = json!({ "limits": { "enflame.com/gcu": self.gcus.to_string() } });
        }
        let mut spec = json!({ "containers": [container] });
        if self.empty_dir {
            spec["volumes"] = json!([{ "name": "scratch", "emptyDir": {} }]);
        }
        if let Some(prefix) = prefix {
            spec["nodeSelector"] = json!({ WORLD_LABEL: prefix });
        }
        let mut metadata = json!({ "labels": labels });
        if let Some(seconds) = self.runs_for {
            metadata["annotations"] = json!({ RUNS_FOR: seconds.to_string() });
        }
        json!({ "metadata": metadata, "spec": spec })
    }

    async fn make(&self, harness: &Harness) {
        let prefix = harness.prefix();
        let name = named(&prefix, &self.name);
        let mut template = self.template(&prefix);
        let (kind, plural) = match self.kind {
            Kind::Owned | Kind::Bare | Kind::Stubborn => ("ReplicaSet", "replicasets"),
            Kind::Daemon => ("DaemonSet", "daemonsets"),
            Kind::Deployment => ("Deployment", "deployments"),
        };
        let mut owner = json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name },
            "spec": { "selector": { "matchLabels": { "app": name } }, "template": template },
        });
        if self.kind != Kind::Daemon {
            owner["spec"]["replicas"] = json!(self.replicas.unwrap_or(1));
        }
        let mut uid = None;
        if self.kind != Kind::Bare {
            let owners = api(harness, "apps", "v1", kind, plural);
            let made = owners.create(&PostParams::default(), &serde_json::from_value(owner).unwrap()).await;
            uid = made.unwrap().uid();
        }
        if matches!(self.kind, Kind::Owned | Kind::Bare | Kind::Stubborn) {
            template["metadata"]["name"] = json!(name);
            template["spec"]["nodeName"] = json!(named(&prefix, &self.node));
            if let Some(uid) = &uid {
                template["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true,
                }]);
            }
            let stubborn = self.kind == Kind::Stubborn;
            if stubborn {
                template["spec"]["tolerations"] = json!([{ "operator": "Exists" }]);
            }
            let pod: Pod = serde_json::from_value(template).unwrap();
            pods(harness).create(&PostParams::default(), &pod).await.unwrap();
            if stubborn {
                let owners = api(harness, "apps", "v1", kind, plural);
                tokio::spawn(come_back(owners, pods(harness), name, pod));
            }
        }
    }
}

/// A pod that holds a GCU comes to this node, if it is there, whatever is going on.
pub(crate) async fn arrive(harness: &Harness, name: &str, node: &str) {
    if nodes(harness).get_opt(node).await.unwrap().is_some() {
        let tenant = json!({ "name": name, "node": node, "gcus": 1 });
        serde_json::from_value::<Tenant>(tenant).unwrap().make(harness).await;
    }
}

/// Creates these and waits until they run.
pub(crate) async fn create(harness: &Harness, tenants: &[Tenant]) {
    for tenant in tenants {
        tenant.make(harness).await;
    }
    for tenant in tenants {
        let name = named(&harness.prefix(), &tenant.name);
        let run = async {
            loop {
                let mine = pods(harness).list(&Default::default()).await.unwrap().items;
                let ready = mine.iter().filter(|p| p.labels().get("app") == Some(&name) && is_ready(p));
                let wanted = if tenant.kind == Kind::Deployment { tenant.replicas.unwrap_or(1) } else { 1 };
                if ready.count() >= wanted as usize {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), run).await.unwrap_or_else(|_| panic!("{name} does not run"));
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// What the controller of a stubborn pod does, for as long as it is there.
async fn come_back(owners: Api<DynamicObject>, pods: Api<Pod>, name: String, pod: Pod) {
    while let Ok(Some(_)) = owners.get_opt(&name).await {
        if let Ok(None) = pods.get_opt(&name).await {
            let _ = pods.create(&PostParams::default(), &pod).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A person ends a pod, and its controller with it.
pub(crate) async fn end(harness: &Harness, name: &str) {
    let name = named(&harness.prefix(), name);
    let owners = api(harness, "apps", "v1", "ReplicaSet", "replicasets");
    let _ = owners.delete(&name, &DeleteParams::default()).await;
    // It may have been evicted just before.
    let _ = pods(harness).delete(&name, &DeleteParams::default()).await;
}

/// Creates budgets. Where no disruption controller runs, what it would say of them is written down.
pub(crate) async fn limit(harness: &Harness, budgets: &[Budget]) {
    let prefix = harness.prefix();
    for budget in budgets {
        let name = named(&prefix, &budget.name);
        let object = json!({
            "metadata": { "name": name },
            "spec": {
                "minAvailable": budget.min_available,
                "selector": { "matchLabels": { "app": named(&prefix, &budget.app) } },
            },
        });
        let api = budgets_api(harness).await;
        let mut object: DynamicObject = serde_json::from_value(object).unwrap();
        object.types = None;
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        if harness.backend.is_real() {
            let status = json!({ "status": {
                "observedGeneration": made.metadata.generation, "disruptionsAllowed": 0, "expectedPods": 1,
                "currentHealthy": budget.min_available, "desiredHealthy": budget.min_available,
            } });
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }
}

pub(crate) async fn unlimit(harness: &Harness, name: &str) {
    let name = named(&harness.prefix(), name);
    budgets_api(harness).await.delete(&name, &DeleteParams::default()).await.unwrap();
}

/// An admin limits the number of pods in a namespace. There is no controller that counts: the limit in the status is
/// what admission goes by.
pub(crate) async fn quota(harness: &Harness, namespace: &str, pods: Option<usize>) {
    let all: Api<Namespace> = Api::all(harness.client.clone());
    let made = serde_json::from_value(json!({ "metadata": { "name": namespace } })).unwrap();
    if let Err(error) = all.create(&PostParams::default(), &made).await {
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
    }
    let quotas: Api<ResourceQuota> = Api::namespaced(harness.client.clone(), namespace);
    let Some(pods) = pods else {
        quotas.delete("pods", &DeleteParams::default()).await.unwrap();
        return;
    };
    let hard = json!({ "pods": pods.to_string() });
    let quota = json!({ "metadata": { "name": "pods" }, "spec": { "hard": hard } });
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    let status = json!({ "status": { "hard": hard, "used": { "pods": "0" } } });
    quotas.patch_status("pods", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

async fn budgets_api(harness: &Harness) -> Api<DynamicObject> {
    let versions = harness.client.list_api_groups().await.unwrap();
    let policy = versions.groups.iter().find(|g| g.name == "policy").unwrap();
    let version = if policy.versions.iter().any(|v| v.version == "v1") { "v1" } else { "v1beta1" };
    api(harness, "policy", version, "PodDisruptionBudget", "poddisruptionbudgets")
}

async fn patch_node(harness: &Harness, node: &str, patch: Value) {
    let name = named(&harness.prefix(), node);
    nodes(harness).patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// An admin cordons a node, or takes the cordon off it.
pub(crate) async fn cordon(harness: &Harness, node: &str, cordoned: bool) {
    let patch = json!({
        "metadata": { "annotations": { ADMIN: if cordoned { "cordoned" } else { "uncordoned" } } },
        "spec": { "unschedulable": if cordoned { json!(true) } else { Value::Null } },
    });
    patch_node(harness, node, patch).await;
}

pub(crate) async fn label(harness: &Harness, node: &str, labels: &BTreeMap<String, Value>) {
    patch_node(harness, node, json!({ "metadata": { "labels": labels } })).await;
}

pub(crate) async fn delete_node(harness: &Harness, node: &str) {
    let name = named(&harness.prefix(), node);
    nodes(harness).delete(&name, &DeleteParams::default()).await.unwrap();
}

/// A node like `node-1` joins the cluster.
pub(crate) async fn add_node(harness: &Harness, node: &str) {
    let prefix = harness.prefix();
    let like = nodes(harness).get(&named(&prefix, "node-1")).await.unwrap();
    let name = named(&prefix, node);
    let mut labels = like.labels().clone();
    labels.insert("kubernetes.io/hostname".to_owned(), name.clone());
    let room = json!({ "cpu": "64", "memory": "256Gi", "pods": "110" });
    let new = json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "taints": [{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }] },
        "status": { "capacity": room, "allocatable": room },
    });
    nodes(harness).create(&PostParams::default(), &serde_json::from_value(new).unwrap()).await.unwrap();
}
