//! Nodes, their pods and the DaemonSets behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, NodeSystemInfo, Pod, Toleration};
use kube::ResourceExt;

use super::intern::intern;
pub use super::sets::{Template, parse_set, parse_template, with_hashes};
use super::{controller_of, daemonset_state, dead_node, pod_state};
use crate::gr::{LiveGr, Workload, candidate_workloads};
use crate::plan::fleet::{DaemonPod, Mark, NodeState, RecreatedBy, SetState, Tenant};
use crate::plan::gangs::{COSCHEDULING_GROUP, KOORDINATOR_GROUP, VOLCANO_GROUP};
use crate::plan::tenant::PodGroup;
use crate::plan::{PodState, WorkloadState, workloads_concerned};
use crate::record::GcuUpgrade;
use crate::record::rolling::{NODE_ANNOTATION, SKIP_LABEL};

/// The label that ties a pod, and a revision, to the template that it was made from.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";
/// The taint that a cordon comes with.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Extended resources of the vendor.
const GCU_PREFIX: &str = "enflame.com/";

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

    /// Whether whoever has this interest sees all that one with the other needs.
    pub fn covers(&self, other: &Self) -> bool {
        let has = |(namespace, names): (&String, &BTreeSet<String>)| {
            self.workloads.get(namespace).is_some_and(|all| names.is_subset(all))
        };
        self.gr == other.gr && other.workloads.iter().all(has)
    }

    /// The same, with what another is interested in of the same gr.
    pub fn and(mut self, other: &Self) -> Self {
        for (namespace, names) in other.workloads.iter().filter(|_| self.gr == other.gr) {
            self.workloads.entry(namespace.clone()).or_default().extend(names.iter().cloned());
        }
        self
    }

    /// Of the pods on a node those that are of no component.
    pub fn tenants(&self, pods: impl IntoIterator<Item = Arc<Tenant>>) -> Vec<Arc<Tenant>> {
        pods.into_iter().filter(|pod| !self.names(&pod.namespace, &pod.workload)).collect()
    }

    /// Whether a pod is of a DaemonSet of interest.
    pub fn has(&self, pod: &DaemonPod) -> bool {
        self.names(&pod.namespace, &pod.workload)
    }

    /// Of the pods of components those of the DaemonSets of interest.
    pub fn daemon_pods(&self, pods: impl IntoIterator<Item = SeenPod>) -> Vec<Arc<DaemonPod>> {
        // Thousands of neighbours are of the same workload.
        let mut last: Option<(Arc<DaemonPod>, bool)> = None;
        let mut ours = Vec::new();
        for pod in pods {
            let SeenPod::Daemon(pod) = pod else { continue };
            let same = |(other, _): &&(Arc<DaemonPod>, bool)| {
                other.workload == pod.workload && other.namespace == pod.namespace
            };
            let known = last.as_ref().filter(same).map(|(_, ours)| *ours);
            let is_ours = known.unwrap_or_else(|| self.has(&pod));
            last = Some((pod.clone(), is_ours));
            if is_ours {
                ours.push(pod);
            }
        }
        ours
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
        namespace: pod.namespace.to_string(),
        name: pod.name.clone(),
        workload: pod.workload.to_string(),
        node: Some(pod.node.to_string()),
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
pub fn parse_seen_set(daemonset: &DaemonSet) -> Arc<SeenSet> {
    Arc::new(SeenSet { state: parse_set(daemonset), workload: daemonset_state(daemonset) })
}

/// A node.
pub fn parse_node(node: &Node) -> Arc<NodeState> {
    let spec = node.spec.as_ref();
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let gcus = allocatable.into_iter().flatten().filter(|(name, _)| name.starts_with(GCU_PREFIX));
    let info = node.status.as_ref().and_then(|s| s.node_info.as_ref());
    Arc::new(NodeState {
        name: node.name_any(),
        resource_version: node.resource_version().unwrap_or_default(),
        ready: dead_node(node).is_none(),
        cordoned: spec.and_then(|s| s.unschedulable).unwrap_or_default(),
        opted_out: node.labels().get(SKIP_LABEL).is_some_and(|v| v == "true"),
        info: info.into_iter().flat_map(info_of).collect(),
        labels: node.labels().iter().map(|(key, value)| (intern(key), intern(value))).collect(),
        mark: node
            .annotations()
            .get(NODE_ANNOTATION)
            .map(|text| serde_json::from_str(text).map_or(Mark::Unreadable, Mark::Claimed)),
        gcus: gcus.map(|(_, quantity)| quantity.0.parse::<i64>().unwrap_or_default()).sum(),
    })
}

/// What a node runs on, as its kubelet says.
fn info_of(info: &NodeSystemInfo) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
    let fields = [
        ("architecture", &info.architecture),
        ("containerRuntimeVersion", &info.container_runtime_version),
        ("kernelVersion", &info.kernel_version),
        ("kubeletVersion", &info.kubelet_version),
        ("osImage", &info.os_image),
    ];
    let known = fields.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(field, value)| (intern(field), intern(value)))
}

/// A pod that was selected as a component's, unless it has ended.
pub fn parse_component_pod(pod: &Pod) -> Option<SeenPod> {
    let state = pod_state(pod)?;
    let daemonset = controller_of(pod).filter(|o| o.kind == "DaemonSet");
    let hash = pod.labels().get(HASH_LABEL);
    let node = state.node.as_ref().filter(|n| !n.is_empty());
    let (Some(owner), Some(hash), Some(node)) = (daemonset, hash, node) else {
        return Some(SeenPod::Other(Arc::new(state)));
    };
    Some(SeenPod::Daemon(Arc::new(DaemonPod {
        owner: intern(&owner.uid),
        uid: pod.uid().unwrap_or_default(),
        hash: intern(hash),
        created_at: state.created_at,
        ready_since: ready_since(pod),
        node: intern(node),
        namespace: intern(&state.namespace),
        name: state.name,
        workload: intern(&state.workload),
        deleted_at: pod.metadata.deletion_timestamp.as_ref().map(|t| t.0),
        failure: state.failure,
    })))
}

/// Any pod, if it is bound to a node and has not ended.
pub fn parse_tenant(pod: &Pod) -> Option<Arc<Tenant>> {
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
        group: group_of(pod),
        node,
        namespace: state.namespace,
        name: state.name,
        workload: state.workload,
        deleting: state.deleting,
    }))
}

/// The group that a pod is scheduled with.
fn group_of(pod: &Pod) -> Option<PodGroup> {
    let [koordinator, minimum] = KOORDINATOR_GROUP;
    let annotation = |key: &'static str| Some((key, pod.annotations().get(key)?));
    let label = |key: &'static str| Some((key, pod.labels().get(key)?));
    let in_object = annotation(VOLCANO_GROUP).or_else(|| label(COSCHEDULING_GROUP));
    let named = |(key, name): (&str, &String), minimum| {
        (!name.is_empty()).then(|| PodGroup { key: key.to_owned(), name: name.clone(), minimum })
    };
    match in_object {
        Some(found) => named(found, None),
        None => named(annotation(koordinator)?, Some(pod.annotations().get(minimum)?.parse().ok()?)),
    }
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
