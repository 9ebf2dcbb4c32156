//! The pods by the node that each is bound to: thousands of watches, each of one node's pods, cost what happens there
//! and not what happens anywhere.

use std::{
    collections::{BTreeMap, VecDeque},
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
pub(super) struct ByNode(BTreeMap<String, OnNode>);

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
        self.0.get(node)
    }

    pub(super) fn wakeups(&mut self, node: &str) -> watch::Receiver<u64> {
        self.0.entry(node.to_owned()).or_default().wakeups.subscribe()
    }

    pub(super) fn compact(&mut self, revision: u64) {
        for node in self.0.values_mut() {
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
            self.0.entry(left).or_default().take(change, None);
        }
        if let Some(node) = now {
            self.0.entry(node).or_default().take(change, change.new.as_ref());
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
