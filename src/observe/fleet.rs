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

pub use super::sets::{Template, set, template, with_hashes};
use super::{controller_of, dead_node, pod_state};
use crate::cluster::Pages;
use crate::gr::{LiveGr, Workload, candidate_workloads};
use crate::plan::fleet::{DaemonPod, Fleet, Mark, NodeState, RecreatedBy, SetState, Tenant, matches};
use crate::plan::workloads_concerned;
use crate::record::GcuUpgrade;
use crate::record::rolling::{Labels, NODE_ANNOTATION, RollingUpdate, SKIP_LABEL};

/// The label that ties a pod, and a revision, to the template that it was made from.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";
/// The taint that a cordon comes with.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Extended resources of the vendor.
const GCU_PREFIX: &str = "enflame.com/";

/// What of the cluster is worth keeping: everything else is forgotten as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// The gr's DaemonSets and Deployments, by namespace.
    pub workloads: BTreeMap<String, BTreeSet<String>>,
    /// The gr's UID: DaemonSets that it owns are of interest whatever their name.
    gr: Option<String>,
    /// Labels of nodes that selectors ask for.
    node_labels: BTreeSet<String>,
    /// Pods with any of these sets of labels.
    pods: Vec<Labels>,
    /// The labels of every pod that is kept, for what selects pods by them.
    pod_labels: bool,
}

impl Interest {
    /// What a record is interested in.
    pub fn of(record: &GcuUpgrade, gr: Option<&LiveGr>) -> Self {
        let options = record.spec.rolling_update.clone().unwrap_or_default();
        let candidates = gr.map(|gr| candidate_workloads(&gr.manifest, &gr.status)).unwrap_or_default();
        let mut interest = Self::of_options(&options)
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
        let named = self.workloads.get(&set.namespace).is_some_and(|names| names.contains(&set.name));
        named || self.gr.as_ref().is_some_and(|gr| set.owners.contains(gr))
    }

    fn add(&mut self, namespace: &str, name: &str) {
        self.workloads.entry(namespace.to_owned()).or_default().insert(name.to_owned());
    }

    /// The same, with the labels of every pod that is kept: disruption budgets go by them.
    pub fn with_pod_labels(self) -> Self {
        Self { pod_labels: true, ..self }
    }

    /// The same, with these workloads.
    pub fn with_workloads(mut self, workloads: Vec<Workload>) -> Self {
        workloads.iter().for_each(|w| self.add(&w.namespace, &w.name));
        self
    }

    /// The same, with these labels of nodes.
    pub fn with_node_labels(mut self, keys: impl IntoIterator<Item = String>) -> Self {
        self.node_labels.extend(keys);
        self
    }

    /// Whether everything that `other` asks for is kept.
    pub fn covers(&self, other: &Self) -> bool {
        let workloads = other.workloads.iter().all(|(namespace, names)| {
            self.workloads.get(namespace).is_some_and(|kept| names.is_subset(kept))
        });
        workloads
            && self.node_labels == other.node_labels
            && self.pods == other.pods
            && (other.gr.is_none() || self.gr == other.gr)
    }

    /// These DaemonSets alone.
    pub fn of_sets(sets: &[Arc<SetState>]) -> Self {
        let mut interest = Self::default();
        sets.iter().for_each(|s| interest.add(&s.namespace, &s.name));
        interest
    }

    /// What the options of a rollout ask for.
    pub fn of_options(options: &RollingUpdate) -> Self {
        let canary = options.canary.iter().flat_map(|c| c.node_selector.keys());
        let jobs = options.wait_for_jobs.iter().map(|j| j.selector.clone());
        let selected = Some(options.drain.pod_selector.clone());
        Self {
            workloads: BTreeMap::new(),
            gr: None,
            node_labels: options.node_selector.keys().chain(canary).cloned().collect(),
            pods: jobs.chain(selected).filter(|l| !l.is_empty()).collect(),
            pod_labels: false,
        }
    }
}

/// A pod that is of interest.
#[derive(Clone, Debug, PartialEq)]
pub enum SeenPod {
    /// Of one of the gr's DaemonSets.
    Daemon(Arc<DaemonPod>),
    /// Any other that may have to leave.
    Tenant(Arc<Tenant>),
}

impl SeenPod {
    /// Puts it where it belongs.
    pub fn join(self, fleet: &mut Fleet) {
        match self {
            Self::Daemon(pod) => fleet.pods.push(pod),
            Self::Tenant(tenant) => fleet.tenants.push(tenant),
        }
    }
}

/// A node, with the labels that are of interest.
pub fn node(node: &Node, interest: &Interest) -> Arc<NodeState> {
    let spec = node.spec.as_ref();
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let labels = node.labels();
    let gcus = allocatable.into_iter().flatten().filter(|(name, _)| name.starts_with(GCU_PREFIX));
    Arc::new(NodeState {
        name: node.name_any(),
        resource_version: node.resource_version().unwrap_or_default(),
        ready: dead_node(node).is_none(),
        cordoned: spec.and_then(|s| s.unschedulable).unwrap_or_default(),
        opted_out: labels.get(SKIP_LABEL).is_some_and(|v| v == "true"),
        labels: labels
            .iter()
            .filter(|(key, _)| interest.node_labels.contains(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        mark: node
            .annotations()
            .get(NODE_ANNOTATION)
            .map(|text| serde_json::from_str(text).map_or(Mark::Unreadable, Mark::Claimed)),
        gcus: gcus.map(|(_, quantity)| quantity.0.parse::<i64>().unwrap_or_default()).sum(),
    })
}

/// A pod, if it is bound to a node, has not ended and is of interest.
pub fn pod(pod: &Pod, interest: &Interest) -> Option<SeenPod> {
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.clone().filter(|n| !n.is_empty())?;
    let state = pod_state(pod)?;
    let ours = interest.workloads.get(&state.namespace).is_some_and(|w| w.contains(&state.workload));
    let daemonset = controller_of(pod).filter(|o| o.kind == "DaemonSet");
    let hash = pod.labels().get(HASH_LABEL);
    if let (true, Some(owner), Some(hash)) = (ours, daemonset, hash) {
        return Some(SeenPod::Daemon(Arc::new(DaemonPod {
            owner: owner.uid.clone(),
            uid: pod.uid().unwrap_or_default(),
            hash: hash.clone(),
            created_at: created_at(pod),
            ready_since: ready_since(pod),
            node,
            namespace: state.namespace,
            name: state.name,
            workload: state.workload,
            deleting: state.deleting,
            failure: state.failure,
        })));
    }
    let gcus = gcus_of(pod);
    let selected = interest.pods.iter().any(|wanted| matches(pod.labels(), wanted));
    if ours || (gcus == 0 && !selected) {
        return None;
    }
    let on_disk = |v: &k8s_openapi::api::core::v1::Volume| {
        v.empty_dir.as_ref().is_some_and(|e| e.medium.as_deref() != Some("Memory"))
    };
    Some(SeenPod::Tenant(Arc::new(Tenant {
        uid: pod.uid().unwrap_or_default(),
        labels: if selected || interest.pod_labels { pod.labels().clone() } else { Labels::new() },
        gcus,
        keeper: keeper(pod),
        empty_dir: spec.volumes.iter().flatten().any(on_disk),
        created_at: created_at(pod),
        tolerates_cordon: spec.tolerations.iter().flatten().any(tolerates_cordon),
        node,
        namespace: state.namespace,
        name: state.name,
        deleting: state.deleting,
    })))
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

fn keeper(pod: &Pod) -> RecreatedBy {
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

/// Reads the whole fleet now, in two rounds. Pods come after nodes: whatever was bound before a cordon that is seen is
/// seen, too.
///
/// # Errors
/// The API server's, as they come.
pub async fn live(client: &Client, interest: &Interest) -> Result<Fleet, kube::Error> {
    let nodes = async {
        let mut nodes = Vec::new();
        let api = Api::<Node>::all(client.clone());
        each(api, ListParams::default(), |n| nodes.push(node(&n, interest))).await?;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    };
    let (sets, nodes) = tokio::try_join!(wanted_sets(client, interest), nodes)?;
    let mut fleet = Fleet { nodes, ..Fleet::default() };
    let mut interest = interest.clone();
    sets.iter().for_each(|s| interest.add(&s.namespace, &s.name));
    let pods = each(Api::<Pod>::all(client.clone()), ListParams::default(), |p| {
        pod(&p, &interest).into_iter().for_each(|seen| seen.join(&mut fleet));
    });
    let (sets, ()) = tokio::try_join!(hashed(client, sets), pods)?;
    Ok(Fleet { sets, ..fleet })
}

/// Reads the DaemonSets now, with their hashes.
///
/// # Errors
/// The API server's, as they come.
pub async fn live_sets(client: &Client, interest: &Interest) -> Result<Vec<Arc<SetState>>, kube::Error> {
    hashed(client, wanted_sets(client, interest).await?).await
}

async fn wanted_sets(client: &Client, interest: &Interest) -> Result<Vec<Arc<SetState>>, kube::Error> {
    let mut sets = Vec::new();
    each(Api::<DaemonSet>::all(client.clone()), ListParams::default(), |d| {
        sets.push(set(&d));
    })
    .await?;
    sets.retain(|s| interest.wants(s));
    Ok(sets)
}

async fn hashed(client: &Client, sets: Vec<Arc<SetState>>) -> Result<Vec<Arc<SetState>>, kube::Error> {
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

/// The pods of the DaemonSets of interest now, each with when its deletion ends if that has been asked for.
///
/// # Errors
/// The API server's, as they come.
pub async fn live_pods(
    client: &Client,
    interest: &Interest,
) -> Result<Vec<(Arc<DaemonPod>, Option<Timestamp>)>, kube::Error> {
    let all = interest.workloads.keys().map(async |namespace| {
        let mut pods = Vec::new();
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        each(api, ListParams::default(), |p| {
            if let Some(SeenPod::Daemon(pod)) = pod(&p, interest) {
                pods.push((pod, p.metadata.deletion_timestamp.as_ref().map(|t| t.0)));
            }
        })
        .await?;
        Ok::<_, kube::Error>(pods)
    });
    Ok(try_join_all(all).await?.into_iter().flatten().collect())
}

/// The tenants of one node now.
///
/// # Errors
/// The API server's, as they come.
pub async fn live_tenants(
    client: &Client,
    interest: &Interest,
    name: &str,
) -> Result<Vec<Arc<Tenant>>, kube::Error> {
    let mut tenants = Vec::new();
    let there = ListParams::default().fields(&format!("spec.nodeName={name}"));
    each(Api::<Pod>::all(client.clone()), there, |p| {
        if let Some(SeenPod::Tenant(tenant)) = pod(&p, interest) {
            tenants.push(tenant);
        }
    })
    .await?;
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
