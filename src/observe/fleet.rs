//! Nodes, their pods and the DaemonSets behind them, for a RollingUpdate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::intern::intern;
pub use super::sets::{Template, set, template, with_hashes};
use super::{controller_of, daemonset_state, dead_node, pod_state};
use crate::cluster::Pages;
use crate::gr::{LiveGr, Workload, candidate_workloads};
use crate::plan::fleet::{DaemonPod, Fleet, Mark, NodeState, RecreatedBy, SetState, Tenant, matches};
use crate::plan::rolling::node::is_evicted;
use crate::plan::{PodState, WorkloadState, workloads_concerned};
use crate::record::GcuUpgrade;
use crate::record::rolling::{Drain, NODE_ANNOTATION, RollingUpdate, SKIP_LABEL};

/// The label that ties a pod, and a revision, to the template that it was made from.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";
/// The taint that a cordon comes with.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Extended resources of the vendor.
const GCU_PREFIX: &str = "enflame.com/";
/// Pods fetched with one call for the order of nodes: next to nothing is kept of them.
const ORDER_PAGE: u32 = 500;

/// The workloads of one gr. What is kept of nodes and pods is the same for every gr.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Its DaemonSets and Deployments, by namespace.
    pub workloads: BTreeMap<String, BTreeSet<String>>,
    /// Its UID: DaemonSets that it owns are of interest whatever their name.
    gr: Option<String>,
}

impl Interest {
    /// What a record is interested in.
    pub fn of(record: &GcuUpgrade, gr: Option<&LiveGr>) -> Self {
        let candidates = gr.map(|gr| candidate_workloads(&gr.manifest, &gr.status)).unwrap_or_default();
        let mut interest = Self::default()
            .with_workloads(workloads_concerned(record, gr))
            .with_workloads(candidates)
            .with_gr(gr);
        for pin in record.status.iter().flat_map(|s| &s.rolling).flat_map(|r| &r.locked) {
            interest.add(&pin.namespace, &pin.name);
        }
        interest
    }

    /// The same, with whatever DaemonSets this gr owns.
    pub fn with_gr(self, gr: Option<&LiveGr>) -> Self {
        Self { gr: gr.map(|gr| gr.uid.clone()), ..self }
    }

    /// Whether a DaemonSet is of interest.
    pub fn wants(&self, set: &SetState) -> bool {
        self.names(&set.namespace, &set.name) || self.gr.as_ref().is_some_and(|gr| set.owners.contains(gr))
    }

    fn names(&self, namespace: &str, name: &str) -> bool {
        self.workloads.get(namespace).is_some_and(|names| names.contains(name))
    }

    fn add(&mut self, namespace: &str, name: &str) {
        self.workloads.entry(namespace.to_owned()).or_default().insert(name.to_owned());
    }

    /// The same, with these workloads.
    pub fn with_workloads(mut self, workloads: Vec<Workload>) -> Self {
        workloads.iter().for_each(|w| self.add(&w.namespace, &w.name));
        self
    }

    /// The same, with these DaemonSets.
    pub fn with_sets(mut self, sets: &[Arc<SetState>]) -> Self {
        sets.iter().for_each(|s| self.add(&s.namespace, &s.name));
        self
    }

    /// Of the pods on a node those that are of no component.
    pub fn tenants(&self, pods: impl IntoIterator<Item = Arc<Tenant>>) -> Vec<Arc<Tenant>> {
        pods.into_iter().filter(|pod| !self.names(&pod.namespace, &pod.workload)).collect()
    }

    /// Of the pods of components those of the DaemonSets of interest.
    pub fn daemon_pods(&self, pods: impl IntoIterator<Item = SeenPod>) -> Vec<Arc<DaemonPod>> {
        let ours = |pod| match pod {
            SeenPod::Daemon(pod) if self.names(&pod.namespace, &pod.workload) => Some(pod),
            _ => None,
        };
        pods.into_iter().filter_map(ours).collect()
    }
}

/// A pod of a component.
#[derive(Clone, Debug, PartialEq)]
pub enum SeenPod {
    /// Of a DaemonSet, bound to a node.
    Daemon(Arc<DaemonPod>),
    /// Any other.
    Other(Arc<PodState>),
}

impl SeenPod {
    /// What both strategies ask of a pod.
    pub fn state(&self) -> PodState {
        match self {
            Self::Daemon(pod) => daemon_state(pod),
            Self::Other(pod) => pod.as_ref().clone(),
        }
    }
}

/// What both strategies ask of a pod.
pub fn daemon_state(pod: &DaemonPod) -> PodState {
    PodState {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        workload: pod.workload.clone(),
        node: Some(pod.node.clone()),
        deleting: pod.is_deleting(),
        created_at: pod.created_at,
        failure: pod.failure.clone(),
    }
}

/// A DaemonSet, as both strategies see it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenSet {
    /// But for its hash: see [`with_hashes`].
    pub state: Arc<SetState>,
    /// How far it is rolled out, and the labels of its pods.
    pub workload: WorkloadState,
}

/// A DaemonSet, as both strategies see it.
pub fn seen_set(daemonset: &DaemonSet) -> Arc<SeenSet> {
    Arc::new(SeenSet { state: set(daemonset), workload: daemonset_state(daemonset) })
}

/// A node.
pub fn node(node: &Node) -> Arc<NodeState> {
    let spec = node.spec.as_ref();
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let gcus = allocatable.into_iter().flatten().filter(|(name, _)| name.starts_with(GCU_PREFIX));
    Arc::new(NodeState {
        name: node.name_any(),
        resource_version: node.resource_version().unwrap_or_default(),
        ready: dead_node(node).is_none(),
        cordoned: spec.and_then(|s| s.unschedulable).unwrap_or_default(),
        opted_out: node.labels().get(SKIP_LABEL).is_some_and(|v| v == "true"),
        labels: node.labels().iter().map(|(key, value)| (intern(key), intern(value))).collect(),
        mark: node
            .annotations()
            .get(NODE_ANNOTATION)
            .map(|text| serde_json::from_str(text).map_or(Mark::Unreadable, Mark::Claimed)),
        gcus: gcus.map(|(_, quantity)| quantity.0.parse::<i64>().unwrap_or_default()).sum(),
    })
}

/// A pod that was selected as a component's, unless it has ended.
pub fn component_pod(pod: &Pod) -> Option<SeenPod> {
    let state = pod_state(pod)?;
    let daemonset = controller_of(pod).filter(|o| o.kind == "DaemonSet");
    let hash = pod.labels().get(HASH_LABEL);
    let node = state.node.as_ref().filter(|n| !n.is_empty());
    let (Some(owner), Some(hash), Some(node)) = (daemonset, hash, node) else {
        return Some(SeenPod::Other(Arc::new(state)));
    };
    Some(SeenPod::Daemon(Arc::new(DaemonPod {
        owner: owner.uid.clone(),
        uid: pod.uid().unwrap_or_default(),
        hash: hash.clone(),
        created_at: state.created_at,
        ready_since: ready_since(pod),
        node: node.clone(),
        namespace: state.namespace,
        name: state.name,
        workload: state.workload,
        deleted_at: pod.metadata.deletion_timestamp.as_ref().map(|t| t.0),
        failure: state.failure,
    })))
}

/// Any pod, if it is bound to a node and has not ended.
pub fn tenant(pod: &Pod) -> Option<Arc<Tenant>> {
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.clone().filter(|n| !n.is_empty())?;
    let state = pod_state(pod)?;
    let on_disk = |v: &k8s_openapi::api::core::v1::Volume| {
        v.empty_dir.as_ref().is_some_and(|e| e.medium.as_deref() != Some("Memory"))
    };
    Some(Arc::new(Tenant {
        uid: pod.uid().unwrap_or_default(),
        labels: pod.labels().clone(),
        gcus: gcus_of(pod),
        recreated_by: recreated_by(pod),
        empty_dir: spec.volumes.iter().flatten().any(on_disk),
        created_at: state.created_at,
        tolerates_cordon: spec.tolerations.iter().flatten().any(tolerates_cordon),
        node,
        namespace: state.namespace,
        name: state.name,
        workload: state.workload,
        deleting: state.deleting,
    }))
}

pub(super) fn created_at(pod: &Pod) -> Timestamp {
    pod.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |t| t.0)
}

/// Whether the scheduler may bind the pod to a cordoned node.
fn tolerates_cordon(toleration: &Toleration) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let cordon = match toleration.key.as_deref().unwrap_or_default() {
        "" => exists,
        key => key == UNSCHEDULABLE && (exists || toleration.value.as_deref().unwrap_or_default().is_empty()),
    };
    cordon && matches!(effect, "" | "NoSchedule")
}

fn recreated_by(pod: &Pod) -> RecreatedBy {
    let controller = controller_of(pod);
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    match controller.map(|o| o.kind.as_str()) {
        Some("DaemonSet" | "Node") => RecreatedBy::Node,
        _ if mirror => RecreatedBy::Node,
        Some(_) => RecreatedBy::Controller,
        None => RecreatedBy::Nobody,
    }
}

fn gcus_of(pod: &Pod) -> i64 {
    let Some(spec) = &pod.spec else { return 0 };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let requests = containers.filter_map(|c| c.resources.as_ref()).flat_map(|r| {
        // An extended resource's request is its limit; either may be the one that is written.
        let limits = r.limits.as_ref().filter(|l| l.keys().any(|k| k.starts_with(GCU_PREFIX)));
        limits.or(r.requests.as_ref()).into_iter().flatten()
    });
    requests
        .filter(|(name, _)| name.starts_with(GCU_PREFIX))
        .map(|(_, quantity)| quantity.0.parse::<i64>().unwrap_or(1))
        .sum()
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0))
}

/// Reads the whole fleet now, in two rounds, for a plan: of the pods of users those that such a rollout may have to
/// wait for or to evict. Pods come after nodes: whatever was bound before a cordon that is seen is seen, too.
///
/// # Errors
/// The API server's, as they come.
pub async fn live(
    client: &Client,
    interest: &Interest,
    options: &RollingUpdate,
) -> Result<Fleet, kube::Error> {
    let nodes = async {
        let mut nodes = Vec::new();
        let api = Api::<Node>::all(client.clone());
        each(api, ListParams::default(), |n| nodes.push(node(&n))).await?;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    };
    let (sets, nodes) = tokio::try_join!(wanted_sets(client, interest), nodes)?;
    let mut fleet = Fleet { nodes, ..Fleet::default() };
    let interest = interest.clone().with_sets(&sets);
    let matters = |pod: &Tenant| {
        let jobs = options.wait_for_jobs.as_ref().map(|jobs| &jobs.selector);
        let mut selectors = jobs.into_iter().chain([&options.drain.pod_selector]).filter(|l| !l.is_empty());
        pod.gcus > 0 || selectors.any(|selector| matches(&pod.labels, selector))
    };
    let pods = each(Api::<Pod>::all(client.clone()), ListParams::default(), |p| {
        fleet.pods.extend(interest.daemon_pods(component_pod(&p)));
        for tenant in interest.tenants(tenant(&p)).into_iter().filter(|pod| matters(pod)) {
            fleet.tenants.entry(tenant.node.clone()).or_default().push(tenant);
        }
    });
    let (sets, ()) = tokio::try_join!(hashed(client, sets), pods)?;
    let leaving = |tenants: &[Arc<Tenant>]| tenants.iter().filter(|t| is_evicted(t, &options.drain)).count();
    let busy = fleet.tenants.iter().map(|(node, tenants)| (node.clone(), leaving(tenants))).collect();
    Ok(Fleet { sets, busy: Some(Arc::new(busy)), ..fleet })
}

/// How many pods would have to leave each node now, for the order of nodes; only nodes with some are named.
///
/// # Errors
/// The API server's, as they come.
pub async fn busy(client: &Client, drain: &Drain) -> Result<BTreeMap<String, usize>, kube::Error> {
    let mut busy = BTreeMap::new();
    let params = ListParams::default().limit(ORDER_PAGE);
    each(Api::<Pod>::all(client.clone()), params, |p| {
        if let Some(tenant) = tenant(&p).filter(|pod| is_evicted(pod, drain)) {
            let leaving: &mut usize = busy.entry(tenant.node.clone()).or_default();
            *leaving = leaving.saturating_add(1);
        }
    })
    .await?;
    Ok(busy)
}

/// Every DaemonSet of one namespace, or of all, now.
///
/// # Errors
/// The API server's, as they come.
pub async fn sets_in(api: Api<DaemonSet>) -> Result<Vec<Arc<SeenSet>>, kube::Error> {
    let mut sets = Vec::new();
    each(api, ListParams::default(), |d| sets.push(seen_set(&d))).await?;
    Ok(sets)
}

/// Reads the DaemonSets of interest now, with their hashes.
///
/// # Errors
/// The API server's, as they come.
pub async fn live_sets(client: &Client, interest: &Interest) -> Result<Vec<Arc<SetState>>, kube::Error> {
    hashed(client, wanted_sets(client, interest).await?).await
}

async fn wanted_sets(client: &Client, interest: &Interest) -> Result<Vec<Arc<SetState>>, kube::Error> {
    let sets = sets_in(Api::all(client.clone())).await?.into_iter().map(|set| set.state.clone());
    Ok(sets.filter(|set| interest.wants(set)).collect())
}

/// Gives DaemonSets their hashes, as they are now.
///
/// # Errors
/// The API server's, as they come.
pub async fn hashed(client: &Client, sets: Vec<Arc<SetState>>) -> Result<Vec<Arc<SetState>>, kube::Error> {
    let namespaces: BTreeSet<&String> = sets.iter().map(|s| &s.namespace).collect();
    let all = namespaces.into_iter().map(async |namespace| {
        let mut templates = Vec::new();
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        each(api, ListParams::default(), |r| templates.extend(template(&r))).await?;
        Ok::<_, kube::Error>(templates)
    });
    let templates: Vec<Template> = try_join_all(all).await?.into_iter().flatten().collect();
    Ok(with_hashes(sets, &templates))
}

/// The pods of the DaemonSets of interest now.
///
/// # Errors
/// The API server's, as they come.
pub async fn live_pods(client: &Client, interest: &Interest) -> Result<Vec<Arc<DaemonPod>>, kube::Error> {
    let all = interest.workloads.keys().map(async |namespace| {
        let mut pods = Vec::new();
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        each(api, ListParams::default(), |p| {
            pods.extend(interest.daemon_pods(component_pod(&p)));
        })
        .await?;
        Ok::<_, kube::Error>(pods)
    });
    Ok(try_join_all(all).await?.into_iter().flatten().collect())
}

/// Every pod on a node now.
///
/// # Errors
/// The API server's, as they come.
pub async fn live_tenants(client: &Client, node: &str) -> Result<Vec<Arc<Tenant>>, kube::Error> {
    let mut tenants = Vec::new();
    let there = ListParams::default().fields(&format!("spec.nodeName={node}"));
    each(Api::<Pod>::all(client.clone()), there, |p| tenants.extend(tenant(&p))).await?;
    Ok(tenants)
}

/// Lists page by page: thousands of objects are never held at once.
///
/// # Errors
/// The API server's, as they come.
pub async fn each<K>(api: Api<K>, params: ListParams, mut keep: impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut pages = Pages::of(params);
    while let Some(params) = pages.next() {
        let page = pages.take(api.list(&params).await)?;
        page.into_iter().flat_map(|page| page.items).for_each(&mut keep);
    }
    Ok(())
}
