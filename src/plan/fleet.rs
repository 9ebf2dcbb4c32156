//! The fleet: nodes, the pods on them, and the DaemonSets behind those, as one look at the cluster shows them.

mod pods;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::gangs::KnownGangs;
use crate::record::rolling::{Hold, Labels, LockedSet, NodeMark};

pub use super::tenant::{RecreatedBy, Tenant, matches};
pub use pods::DaemonPods;

/// Why a call is not repeated that was done: a watch has yet to show it.
pub const NOT_SEEN_YET: &str = "done, not seen yet";
/// Why a call is not repeated that met something else than was looked at.
pub const CHANGED: &str = "it has changed meanwhile";

/// What a RollingUpdate looks at. Shared values: a look at thousands of nodes is cheap to pass on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    /// Every node, by name.
    pub nodes: Vec<Arc<NodeState>>,
    /// Pods of the gr's DaemonSets that have not ended.
    pub pods: DaemonPods,
    /// The pods of users that have not ended, by node, of the nodes of which they are known.
    pub tenants: BTreeMap<String, Vec<Arc<Tenant>>>,
    /// Why they are not known, by node, where that is known.
    pub unread: BTreeMap<String, String>,
    /// How many pods would have to leave each node, as last counted, for the order of nodes.
    pub busy: Option<Arc<BTreeMap<String, usize>>>,
    /// The gangs of users' pods, as far as they are known.
    pub gangs: Arc<KnownGangs>,
    /// The gr's DaemonSets.
    pub sets: Vec<Arc<SetState>>,
    /// The node that this service runs on.
    pub own_node: Option<String>,
    /// Calls that are not to be repeated yet, with the reason: refused, or done and not seen yet. By what they
    /// were about: the UID of a pod or DaemonSet, or a version of a node, see [`version_of`]. When another version of
    /// it is seen, the call may be made again at once.
    pub refusals: Arc<BTreeMap<String, String>>,
}

/// A node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeState {
    /// Its name.
    pub name: String,
    /// What a guarded patch compares.
    pub resource_version: String,
    /// Its kubelet reports Ready.
    pub ready: bool,
    /// Nothing is scheduled on it.
    pub cordoned: bool,
    /// Its label says that it is to be left alone.
    pub opted_out: bool,
    /// Its labels.
    pub labels: NodeLabels,
    /// What it runs on, by the names of its `status.nodeInfo`, as far as coverage may ask for it.
    pub info: NodeLabels,
    /// Who has claimed it, if anyone.
    pub mark: Option<Mark>,
    /// Extended resources under `enflame.com/` that it offers, summed up.
    pub gcus: i64,
}

/// The claim on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// An upgrade's.
    Claimed(NodeMark),
    /// The annotation is there and says something else.
    Unreadable,
}

/// A pod of one of the gr's DaemonSets. What thousands of them have in common is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonPod {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: String,
    /// Tells it from its successor.
    pub uid: String,
    /// The name of the DaemonSet that controls it.
    pub workload: Arc<str>,
    /// The UID of the DaemonSet that controls it, from its owner references.
    pub owner: Arc<str>,
    /// The node it is bound to.
    pub node: Arc<str>,
    /// Its `controller-revision-hash`.
    pub hash: Arc<str>,
    /// When its deletion ends, if that has been asked for.
    pub deleted_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Since when it is ready, if it is.
    pub ready_since: Option<Timestamp>,
    /// Why it visibly cannot start, if so.
    pub failure: Option<String>,
}

/// A DaemonSet of the gr.
#[derive(Clone, Debug, PartialEq)]
pub struct SetState {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Tells it from another of this name.
    pub uid: String,
    /// What a guarded patch compares.
    pub resource_version: String,
    /// Its controller has taken up its latest version.
    pub observed: bool,
    /// UIDs of the objects that own it.
    pub owners: Vec<String>,
    /// Its update strategy, as served.
    pub strategy: Value,
    /// What [`crate::record::rolling::LOCK_ANNOTATION`] says on it.
    pub lock: Option<Value>,
    /// What [`crate::record::rolling::HOLD_ANNOTATION`] says on it, where that can be read.
    pub hold: Option<Hold>,
    /// It carries [`crate::record::rolling::HELD_LABEL`].
    pub labelled: bool,
    /// The hash of its latest template, once its controller has made one.
    pub hash: Option<String>,
    /// Nodes on which its controller counts a pod of it.
    pub pods: usize,
    /// What the API server says against its next pod, if pods of it cannot be created.
    pub refused: Option<String>,
}

impl SetState {
    /// Whether pods are replaced only when somebody deletes them.
    pub fn is_on_delete(&self) -> bool {
        self.strategy.get("type").and_then(Value::as_str) == Some("OnDelete")
    }

    /// Whether it is held, by whichever upgrade: at OnDelete, with what that replaced.
    pub fn is_held(&self) -> bool {
        self.is_on_delete() && self.lock.is_some()
    }

    /// Whether it is held for exactly this.
    pub fn is_held_for(&self, hold: &Hold) -> bool {
        self.is_held() && self.labelled && self.hold.as_ref() == Some(hold)
    }
}

/// One version of an object.
pub fn version_of(name: &str, resource_version: &str) -> String {
    format!("{name}@{resource_version}")
}

impl DaemonPod {
    /// Whether the DaemonSet of this UID controls it.
    pub fn is_of(&self, uid: &str) -> bool {
        *self.owner == *uid
    }

    /// Whether it is of the template that has this hash.
    pub fn is_from(&self, hash: &str) -> bool {
        *self.hash == *hash
    }

    /// Whether its deletion has been asked for.
    pub fn is_deleting(&self) -> bool {
        self.deleted_at.is_some()
    }
}

/// The labels of a node, sorted. Nodes have most of their labels' texts in common, which are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLabels(Arc<[(Arc<str>, Arc<str>)]>);

impl NodeLabels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        self.0.get(found).map(|(_, value)| value.as_ref())
    }

    /// Whether all of `wanted` is among them.
    pub fn match_all(&self, wanted: &Labels) -> bool {
        wanted.iter().all(|(key, value)| self.get(key) == Some(value))
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for NodeLabels {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(labels: I) -> Self {
        let mut labels: Vec<_> = labels.into_iter().collect();
        labels.sort();
        Self(labels.into())
    }
}

impl NodeState {
    /// Whether nothing but its version tells them apart.
    pub fn is_alike(&self, other: &Self) -> bool {
        let Self { name, resource_version: _, ready, cordoned, opted_out, labels, info, mark, gcus } = self;
        (name, ready, cordoned, opted_out, labels, info, mark, gcus)
            == (
                &other.name,
                &other.ready,
                &other.cordoned,
                &other.opted_out,
                &other.labels,
                &other.info,
                &other.mark,
                &other.gcus,
            )
    }

    /// Its value of this field of `status.nodeInfo`, or of this label.
    pub fn value_of(&self, key: &str) -> Option<&str> {
        self.info.get(key).or_else(|| self.labels.get(key))
    }

    /// What answers to calls on it, as it was seen, are remembered by.
    pub fn subject(&self) -> String {
        version_of(&self.name, &self.resource_version)
    }
}

impl Fleet {
    /// What the API server said against a call about this, if that is why it is not repeated yet.
    pub fn refused(&self, subject: &str) -> Option<&String> {
        self.refusals.get(subject).filter(|text| ![NOT_SEEN_YET, CHANGED].contains(&text.as_str()))
    }

    /// The DaemonSet of this name.
    pub fn set(&self, namespace: &str, name: &str) -> Option<&SetState> {
        self.sets.iter().find(|s| s.namespace == namespace && s.name == name).map(Arc::as_ref)
    }

    /// The very DaemonSet that was locked, if it is still there.
    pub fn locked(&self, locked: &LockedSet) -> Option<&SetState> {
        self.set(&locked.namespace, &locked.name).filter(|set| set.uid == locked.uid)
    }

    /// Puts a node in its place, or takes the one of this name away.
    pub fn put_node(&mut self, name: &str, node: Option<Arc<NodeState>>) {
        match (self.nodes.binary_search_by(|n| n.name.as_str().cmp(name)), node) {
            (Ok(at), Some(node)) => {
                self.nodes.get_mut(at).into_iter().for_each(|place| *place = node.clone())
            }
            (Ok(at), None) => drop(self.nodes.remove(at)),
            (Err(at), Some(node)) => self.nodes.insert(at, node),
            (Err(_), None) => {}
        }
    }

    /// The nodes that have pods of the gr's DaemonSets, by name, each with those on it; without a node where there is
    /// none of this name.
    pub fn by_node(&self) -> impl Iterator<Item = (&str, Option<&NodeState>, &[Arc<DaemonPod>])> {
        let mut nodes = self.nodes.iter().map(Arc::as_ref).peekable();
        self.pods.by_node().map(move |(name, pods)| {
            while nodes.next_if(|node| node.name.as_str() < name).is_some() {}
            (name, nodes.next_if(|node| node.name == name), pods)
        })
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&NodeState> {
        let found = self.nodes.binary_search_by(|n| n.name.as_str().cmp(name)).ok()?;
        self.nodes.get(found).map(Arc::as_ref)
    }
}
