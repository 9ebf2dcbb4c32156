//! Observe: the part of the cluster that an upgrade concerns, from live reads or from views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::api::{DynamicObject, ListParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Notify;

use super::view::View;
use crate::cluster::gr_resource;
use crate::gr::{LiveGr, WorkloadKind};
use crate::plan::{PodState, Snapshot, WorkloadState, workloads_concerned};
use crate::record::{GcuUpgrade, Step};

/// The label that ties a pod to its workload's name (the operator puts it there).
const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Restarts after which a container that is not ready counts as crashing.
const CRASHES: i32 = 3;
/// Container states that do not mend without a change of image, registry or configuration.
const FAILING: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Where to look for a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scope {
    /// Kinds of workload by namespace.
    workloads: BTreeSet<(WorkloadKind, String)>,
    /// Names of workloads by namespace.
    pods: BTreeMap<String, BTreeSet<String>>,
}

impl Scope {
    /// What concerns this record, given the gr as last seen.
    pub(super) fn of(record: &GcuUpgrade, gr: Option<&LiveGr>) -> Self {
        let mut scope = Self::default();
        for workload in workloads_concerned(record, gr) {
            scope.workloads.insert((workload.kind, workload.namespace.clone()));
            scope.pods.entry(workload.namespace).or_default().insert(workload.name);
        }
        scope
    }

    fn and(&self, other: Self) -> Self {
        let mut all = self.clone();
        all.workloads.extend(other.workloads);
        for (namespace, names) in other.pods {
            all.pods.entry(namespace).or_default().extend(names);
        }
        all
    }
}

/// The gr's API for a record.
pub(super) fn gr_api(client: &Client, record: &GcuUpgrade) -> Api<DynamicObject> {
    let api_version =
        record.spec.target.manifest.get("apiVersion").and_then(|v| v.as_str()).unwrap_or_default();
    Api::all_with(client.clone(), &gr_resource(api_version))
}

/// Reads the cluster now. Pods are listed only where their end is what counts; while the stack starts,
/// thousands of them may be there and the view's word on their failures is enough.
///
/// # Errors
/// The API server's, as they come.
pub(super) async fn live(
    client: &Client,
    record: &GcuUpgrade,
    views: &Views,
) -> Result<Snapshot, kube::Error> {
    let served = gr_api(client, record).get_opt(&record.spec.gr).await?;
    let gr = served.as_ref().and_then(parse_gr);
    let scope = Scope::of(record, gr.as_ref());
    let mut workloads = Vec::new();
    for (kind, namespace) in &scope.workloads {
        workloads.extend(list_workloads(client, *kind, namespace).await?);
    }
    let pods = match record.status_or_default().step {
        Step::WaitingGone | Step::Creating => list_pods(client, &scope).await?,
        _ => views.pods(),
    };
    Ok(Snapshot { gr, workloads, pods, dead_nodes: views.dead_nodes(), refused: None })
}

async fn list_workloads(
    client: &Client,
    kind: WorkloadKind,
    ns: &str,
) -> Result<Vec<WorkloadState>, kube::Error> {
    let all = ListParams::default();
    Ok(match kind {
        WorkloadKind::DaemonSet => {
            let api: Api<DaemonSet> = Api::namespaced(client.clone(), ns);
            api.list(&all).await?.items.into_iter().map(|d| daemonset_state(&d)).collect()
        }
        WorkloadKind::Deployment => {
            let api: Api<Deployment> = Api::namespaced(client.clone(), ns);
            api.list(&all).await?.items.into_iter().map(|d| deployment_state(&d)).collect()
        }
    })
}

async fn list_pods(client: &Client, scope: &Scope) -> Result<Vec<PodState>, kube::Error> {
    let mut pods = Vec::new();
    for (namespace, names) in &scope.pods {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let found = api.list(&ListParams::default().labels(&name_selector(names))).await?;
        pods.extend(found.items.iter().filter_map(pod_state));
    }
    Ok(pods)
}

fn name_selector(names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("{NAME_LABEL} in ({})", names.join(","))
}

/// The watches behind one record.
pub(super) struct Views {
    client: Client,
    wake: Arc<Notify>,
    scope: Scope,
    gr: View<LiveGr>,
    dead_nodes: View<String>,
    workloads: BTreeMap<(WorkloadKind, String), View<WorkloadState>>,
    pods: BTreeMap<String, View<PodState>>,
}

impl Views {
    /// Starts watching the record's gr and the nodes; [`Views::follow`] adds its workloads and pods.
    pub(super) fn start(client: &Client, record: &GcuUpgrade, wake: Arc<Notify>) -> Self {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", record.spec.gr));
        let gr = View::start("gr", gr_api(client, record), only, |o| parse_gr(&o), wake.clone());
        let nodes: Api<Node> = Api::all(client.clone());
        let dead_nodes =
            View::start("nodes", nodes, watcher::Config::default(), |n| dead_node(&n), wake.clone());
        let (workloads, pods) = (BTreeMap::new(), BTreeMap::new());
        Self { client: client.clone(), wake, scope: Scope::default(), gr, dead_nodes, workloads, pods }
    }

    /// Watches what the scope names, too. What is watched only grows: a view that lags behind names other
    /// workloads than the cluster itself, and following each in turn would restart watches without end.
    pub(super) fn follow(&mut self, scope: Scope) {
        let scope = self.scope.and(scope);
        if scope == self.scope {
            return;
        }
        for (kind, namespace) in &scope.workloads {
            if !self.workloads.contains_key(&(*kind, namespace.clone())) {
                self.workloads.insert((*kind, namespace.clone()), self.watch_workloads(*kind, namespace));
            }
        }
        let old = std::mem::replace(&mut self.scope, scope);
        self.pods.retain(|ns, _| old.pods.get(ns) == self.scope.pods.get(ns));
        for (namespace, names) in &self.scope.pods {
            if !self.pods.contains_key(namespace) {
                let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
                let config = watcher::Config::default().labels(&name_selector(names));
                let view = View::start("pods", api, config, |p| pod_state(&p), self.wake.clone());
                self.pods.insert(namespace.clone(), view);
            }
        }
    }

    fn watch_workloads(&self, kind: WorkloadKind, namespace: &str) -> View<WorkloadState> {
        let (config, wake) = (watcher::Config::default(), self.wake.clone());
        match kind {
            WorkloadKind::DaemonSet => {
                let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), namespace);
                View::start("daemonsets", api, config, |d| Some(daemonset_state(&d)), wake)
            }
            WorkloadKind::Deployment => {
                let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
                View::start("deployments", api, config, |d| Some(deployment_state(&d)), wake)
            }
        }
    }

    /// The gr as last seen by its watch.
    pub(super) fn gr(&self) -> Option<LiveGr> {
        self.gr.items().into_iter().next()
    }

    fn dead_nodes(&self) -> BTreeSet<String> {
        self.dead_nodes.items().into_iter().collect()
    }

    fn pods(&self) -> Vec<PodState> {
        self.pods.values().flat_map(View::items).collect()
    }

    /// The same picture as [`live`], as the watches see it; `None` until all of them have listed once.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        let ready = self.gr.is_ready()
            && self.dead_nodes.is_ready()
            && self.workloads.values().all(View::is_ready)
            && self.pods.values().all(View::is_ready);
        ready.then(|| Snapshot {
            gr: self.gr(),
            workloads: self.workloads.values().flat_map(View::items).collect(),
            pods: self.pods(),
            dead_nodes: self.dead_nodes(),
            refused: None,
        })
    }
}

fn parse_gr(object: &DynamicObject) -> Option<LiveGr> {
    serde_json::to_value(object).ok().as_ref().and_then(LiveGr::parse)
}

fn daemonset_state(ds: &DaemonSet) -> WorkloadState {
    let status = ds.status.clone().unwrap_or_default();
    WorkloadState {
        kind: WorkloadKind::DaemonSet,
        namespace: ds.namespace().unwrap_or_default(),
        name: ds.name_any(),
        observed: status.observed_generation.is_some()
            && status.observed_generation >= ds.metadata.generation,
        desired: status.desired_number_scheduled,
        updated: status.updated_number_scheduled.unwrap_or_default(),
        available: status.number_available.unwrap_or_default(),
    }
}

fn deployment_state(deployment: &Deployment) -> WorkloadState {
    let status = deployment.status.clone().unwrap_or_default();
    WorkloadState {
        kind: WorkloadKind::Deployment,
        namespace: deployment.namespace().unwrap_or_default(),
        name: deployment.name_any(),
        observed: status.observed_generation.is_some()
            && status.observed_generation >= deployment.metadata.generation,
        desired: deployment.spec.replicas.unwrap_or(1),
        updated: status.updated_replicas.unwrap_or_default(),
        available: status.available_replicas.unwrap_or_default(),
    }
}

/// The node's name, if it is not ready. One without conditions has not been heard of yet.
fn dead_node(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    (!ready).then(|| node.name_any())
}

/// `None` for a pod that has ended (evicted ones stay around as such): it holds nothing.
fn pod_state(pod: &Pod) -> Option<PodState> {
    let status = pod.status.as_ref();
    if matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")) {
        return None;
    }
    let containers = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let init = status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default();
    let deleting = pod.metadata.deletion_timestamp.is_some();
    Some(PodState {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        workload: pod.labels().get(NAME_LABEL).cloned().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        deleting,
        failure: init.iter().chain(containers).find_map(failure).filter(|_| !deleting),
    })
}

fn failure(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
    let reason = waiting.and_then(|w| w.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|w| w.message.as_deref()).unwrap_or_default();
    if FAILING.contains(&reason) {
        return Some(format!("container {}: {reason} {message} (image {})", container.name, container.image));
    }
    let crashing = !container.ready && container.restart_count >= CRASHES;
    crashing
        .then(|| format!("container {} keeps crashing: {} restarts", container.name, container.restart_count))
}
