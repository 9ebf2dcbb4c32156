//! Nodes, their pods and the DaemonSets behind them, for a RollingUpdate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{dead_node, pod_state};
use crate::gr::{LiveGr, Workload};
use crate::plan::fleet::{DaemonPod, Fleet, Keeper, Mark, NodeState, SetState, Tenant, matches};
use crate::plan::workloads_concerned;
use crate::record::GcuUpgrade;
use crate::record::rolling::{LOCK_ANNOTATION, Labels, NODE_ANNOTATION, RollingUpdate, SKIP_LABEL};

/// Objects fetched with one call.
const PAGE: u32 = 200;
/// The label that ties a pod, and a revision, to the template that it was made from.
const HASH_LABEL: &str = "controller-revision-hash";
/// Extended resources of the vendor.
const GCU_PREFIX: &str = "enflame.com/";

/// What of the cluster is worth keeping: everything else is forgotten as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// The gr's DaemonSets and Deployments, by namespace.
    pub workloads: BTreeMap<String, BTreeSet<String>>,
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
        Self::of_options(&options).with_workloads(workloads_concerned(record, gr))
    }

    /// The same, with the labels of every pod that is kept: disruption budgets go by them.
    pub fn with_pod_labels(self) -> Self {
        Self { pod_labels: true, ..self }
    }

    /// The same, with these workloads.
    pub fn with_workloads(mut self, workloads: Vec<Workload>) -> Self {
        for workload in workloads {
            self.workloads.entry(workload.namespace).or_default().insert(workload.name);
        }
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
        workloads && self.node_labels == other.node_labels && self.pods == other.pods
    }

    /// What the options of a rollout ask for.
    pub fn of_options(options: &RollingUpdate) -> Self {
        let canary = options.canary.iter().flat_map(|c| c.node_selector.keys());
        let jobs = options.wait_for_jobs.iter().map(|j| j.selector.clone());
        let selected = Some(options.drain.pod_selector.clone());
        Self {
            workloads: BTreeMap::new(),
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
    let hash = pod.labels().get(HASH_LABEL);
    if let (true, Some(hash)) = (ours, hash) {
        return Some(SeenPod::Daemon(Arc::new(DaemonPod {
            uid: pod.uid().unwrap_or_default(),
            hash: hash.clone(),
            created_at: pod.creation_timestamp().map(|t| t.0).unwrap_or(Timestamp::UNIX_EPOCH),
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
        node,
        namespace: state.namespace,
        name: state.name,
        deleting: state.deleting,
    })))
}

fn keeper(pod: &Pod) -> Keeper {
    let controller = pod.owner_references().iter().find(|o| o.controller == Some(true));
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    match controller.map(|o| o.kind.as_str()) {
        Some("DaemonSet" | "Node") => Keeper::Node,
        _ if mirror => Keeper::Node,
        Some(_) => Keeper::Controller,
        None => Keeper::Nobody,
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

/// A DaemonSet, but for its hash: see [`with_hashes`].
pub fn set(daemonset: &DaemonSet) -> Arc<SetState> {
    let strategy = daemonset.spec.update_strategy.as_ref();
    let lock = daemonset.annotations().get(LOCK_ANNOTATION);
    Arc::new(SetState {
        namespace: daemonset.namespace().unwrap_or_default(),
        name: daemonset.name_any(),
        uid: daemonset.uid().unwrap_or_default(),
        resource_version: daemonset.resource_version().unwrap_or_default(),
        observed: super::daemonset_state(daemonset).observed,
        strategy: json!(strategy),
        lock: lock.map(|text| serde_json::from_str(text).unwrap_or(Value::Null)),
        hash: None,
    })
}

/// A template of a DaemonSet: its owner's UID, its number and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    owner: String,
    number: i64,
    hash: String,
}

/// The template behind a ControllerRevision, if a DaemonSet owns it.
pub fn template(revision: &ControllerRevision) -> Option<Template> {
    let owner =
        revision.owner_references().iter().find(|o| o.controller == Some(true) && o.kind == "DaemonSet")?;
    let hash = revision.labels().get(HASH_LABEL)?.clone();
    Some(Template { owner: owner.uid.clone(), number: revision.revision.unwrap_or_default(), hash })
}

/// Gives each DaemonSet the hash of its newest template.
pub fn with_hashes(sets: Vec<Arc<SetState>>, templates: &[Template]) -> Vec<Arc<SetState>> {
    let newest = |uid: &str| templates.iter().filter(|t| t.owner == uid).max_by_key(|t| t.number);
    sets.into_iter()
        .map(|set| {
            Arc::new(SetState { hash: newest(&set.uid).map(|t| t.hash.clone()), ..set.as_ref().clone() })
        })
        .collect()
}

/// Reads the whole fleet now.
///
/// # Errors
/// The API server's, as they come.
pub async fn live(client: &Client, interest: &Interest) -> Result<Fleet, kube::Error> {
    let mut fleet = Fleet { sets: live_sets(client, interest).await?, ..Fleet::default() };
    each(Api::<Node>::all(client.clone()), ListParams::default(), |n| fleet.nodes.push(node(&n, interest)))
        .await?;
    fleet.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    each(Api::<Pod>::all(client.clone()), ListParams::default(), |p| {
        pod(&p, interest).into_iter().for_each(|seen| seen.join(&mut fleet));
    })
    .await?;
    Ok(fleet)
}

/// Reads the DaemonSets now, with their hashes.
///
/// # Errors
/// The API server's, as they come.
pub async fn live_sets(client: &Client, interest: &Interest) -> Result<Vec<Arc<SetState>>, kube::Error> {
    let mut all = Vec::new();
    for (namespace, names) in &interest.workloads {
        let (mut sets, mut templates) = (Vec::new(), Vec::new());
        let api: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
        each(api, ListParams::default(), |d| {
            if names.contains(&d.name_any()) {
                sets.push(set(&d));
            }
        })
        .await?;
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        each(api, ListParams::default(), |r| templates.extend(template(&r))).await?;
        all.extend(with_hashes(sets, &templates));
    }
    Ok(all)
}

/// The pods of the DaemonSets of interest now, each with when its deletion ends if that has been asked for.
///
/// # Errors
/// The API server's, as they come.
pub async fn live_pods(
    client: &Client,
    interest: &Interest,
) -> Result<Vec<(Arc<DaemonPod>, Option<Timestamp>)>, kube::Error> {
    let mut pods = Vec::new();
    for namespace in interest.workloads.keys() {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
        each(api, ListParams::default(), |p| {
            if let Some(SeenPod::Daemon(pod)) = pod(&p, interest) {
                pods.push((pod, p.metadata.deletion_timestamp.as_ref().map(|t| t.0)));
            }
        })
        .await?;
    }
    Ok(pods)
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
pub(super) async fn each<K>(
    api: Api<K>,
    params: ListParams,
    mut keep: impl FnMut(K),
) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut params = params.limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        let more = page.metadata.continue_.filter(|token| !token.is_empty());
        page.items.into_iter().for_each(&mut keep);
        match more {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}
