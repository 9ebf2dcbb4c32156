//! The pods by the node that each is bound to: thousands of watches, each of one node's pods, cost what happens there
//! and not what happens anywhere.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use serde_json::Value;
use tokio::sync::watch;

use super::{Change, ObjectKey};
use crate::json;

/// Changes kept for each node that is watched; what came before them is in the history of all pods.
const HISTORY: usize = 64;

/// The pods of every node.
#[derive(Default)]
pub(super) struct ByNode {
    nodes: BTreeMap<String, OnNode>,
    /// Nodes of which somebody watches the pods, or has since the last that began to.
    watched: BTreeSet<String>,
}

/// The pods bound to a node.
pub(crate) struct OnNode {
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Value>>,
    /// What happened to them since `since`, while somebody watches.
    pub(crate) history: VecDeque<Arc<Change>>,
    pub(crate) since: u64,
    wakeups: watch::Sender<u64>,
}

impl Default for OnNode {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), history: VecDeque::new(), since: 0, wakeups: watch::Sender::new(0) }
    }
}

impl ByNode {
    pub(super) fn get(&self, node: &str) -> Option<&OnNode> {
        self.nodes.get(node)
    }

    /// A receiver that wakes at every change of a pod on this node. What happened up to this revision on nodes that
    /// nobody watches any more is forgotten: a rollout watches each node once.
    pub(super) fn wakeups(&mut self, node: &str, revision: u64) -> watch::Receiver<u64> {
        let nodes = &mut self.nodes;
        self.watched.retain(|name| {
            let Some(watched) = nodes.get_mut(name) else { return false };
            let is_watched = watched.wakeups.receiver_count() > 0;
            if !is_watched {
                (watched.history, watched.since) = (VecDeque::new(), revision);
            }
            is_watched
        });
        self.watched.insert(node.to_owned());
        nodes.entry(node.to_owned()).or_default().wakeups.subscribe()
    }

    pub(super) fn compact(&mut self, revision: u64) {
        for node in self.nodes.values_mut() {
            node.history.clear();
            node.since = revision;
            node.wakeups.send_replace(revision);
        }
    }

    /// Takes in what happened to a pod.
    pub(super) fn take(&mut self, change: &Arc<Change>) {
        if change.resource.1 != "pods" || !change.resource.0.is_empty() {
            return;
        }
        let node_of = |object: &Option<Arc<Value>>| {
            let node = object.as_ref().map(|o| json::text(o, &["spec", "nodeName"])).unwrap_or_default();
            (!node.is_empty()).then(|| node.to_owned())
        };
        let (before, now) = (node_of(&change.old), node_of(&change.new));
        if let Some(left) = before.filter(|before| now.as_ref() != Some(before)) {
            self.nodes.entry(left).or_default().take(change, None);
        }
        if let Some(node) = now {
            self.nodes.entry(node).or_default().take(change, change.new.as_ref());
        }
    }
}

impl OnNode {
    fn take(&mut self, change: &Arc<Change>, now: Option<&Arc<Value>>) {
        let key = (change.namespace.clone(), change.name.clone());
        match now {
            Some(pod) => self.objects.insert(key, pod.clone()),
            None => self.objects.remove(&key),
        };
        if self.wakeups.receiver_count() == 0 {
            self.history.clear();
            self.since = change.resource_version;
            return;
        }
        self.history.push_back(change.clone());
        if self.history.len() > HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.since = oldest.resource_version;
        }
        self.wakeups.send_replace(change.resource_version);
    }
}
