//! What one upgrade sees of nodes and the pods on them: kept up to date by what has changed, instead of being put
//! together anew for each decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::view::{Changes, Reader, View};
use super::views::Rest;
use crate::observe::fleet::{Interest, SeenPod};
use crate::plan::fleet::{Fleet, NodeState, Tenant};
use crate::plan::memo::Memo;

/// The fleet as one upgrade last saw it.
#[derive(Default)]
pub struct Sight {
    /// Without DaemonSets: these are few.
    pub fleet: Fleet,
    /// Nodes that are not ready.
    pub dead_nodes: BTreeSet<String>,
    interest: Interest,
    nodes: Option<Reader<Arc<NodeState>>>,
    /// By namespace and label selector.
    pods: BTreeMap<(String, String), Reader<SeenPod>>,
    /// By node.
    tenants: BTreeMap<String, Reader<Arc<Tenant>>>,
}

impl Sight {
    /// Takes in what has changed, and tells `memo` of which nodes.
    pub(super) fn follow(
        &mut self,
        nodes: &View<Arc<NodeState>>,
        rest: &Rest,
        interest: Interest,
        memo: &mut Memo,
    ) {
        let followed = self.nodes.as_ref().is_some_and(|reader| reader.is_of(nodes))
            && self.interest == interest
            && self.reads(&rest.pods);
        if !followed || !self.take_pods(memo) {
            self.begin(nodes, rest, interest, memo);
        }
        self.take_nodes(memo);
        self.follow_tenants(rest, memo);
    }

    /// Whether what has changed can be told of these views: of two in one namespace, both may show a pod.
    fn reads(&self, views: &BTreeMap<(String, String), Arc<View<SeenPod>>>) -> bool {
        let namespaces: BTreeSet<&String> = views.keys().map(|(namespace, _)| namespace).collect();
        let is_read = |(key, view): (&(String, String), &Arc<View<SeenPod>>)| {
            self.pods.get(key).is_some_and(|reader| reader.is_of(view))
        };
        namespaces.len() == views.len() && self.pods.len() == views.len() && views.iter().all(is_read)
    }

    /// Looks at everything.
    fn begin(&mut self, nodes: &View<Arc<NodeState>>, rest: &Rest, interest: Interest, memo: &mut Memo) {
        *self = Self { nodes: Some(nodes.reader()), interest, ..Self::default() };
        self.pods = rest.pods.iter().map(|(key, view)| (key.clone(), view.reader())).collect();
        for reader in self.pods.values() {
            // Of a reader that has just begun, these are all.
            if let Some(Changes::All(pods)) = reader.changes() {
                self.fleet.pods.extend(self.interest.daemon_pods(pods));
            }
        }
        memo.touch_all();
    }

    /// Whether what has changed is known.
    fn take_pods(&mut self, memo: &mut Memo) -> bool {
        for reader in self.pods.values() {
            let changes = match reader.changes() {
                None => continue,
                Some(Changes::All(_)) => return false,
                Some(Changes::Some(changes)) => changes,
            };
            for (before, now) in changes {
                if let Some(SeenPod::Daemon(pod)) = before {
                    self.fleet.pods.remove(&pod);
                    memo.touch(&pod.node);
                }
                if let Some(SeenPod::Daemon(pod)) = now
                    && self.interest.has(&pod)
                {
                    memo.touch(&pod.node);
                    self.fleet.pods.insert(pod);
                }
            }
        }
        true
    }

    fn take_nodes(&mut self, memo: &mut Memo) {
        match self.nodes.as_ref().and_then(Reader::changes) {
            None => {}
            Some(Changes::All(nodes)) => {
                let dead = nodes.iter().filter(|node| !node.ready).map(|node| node.name.clone());
                self.dead_nodes = dead.collect();
                self.fleet.nodes = nodes;
                memo.touch_all();
            }
            Some(Changes::Some(changes)) => {
                for (before, now) in changes {
                    let Some(name) = before.as_ref().or(now.as_ref()).map(|node| node.name.clone()) else {
                        continue;
                    };
                    memo.touch(&name);
                    self.dead_nodes.remove(&name);
                    if now.as_ref().is_some_and(|node| !node.ready) {
                        self.dead_nodes.insert(name.clone());
                    }
                    self.fleet.put_node(&name, now);
                }
            }
        }
    }

    fn follow_tenants(&mut self, rest: &Rest, memo: &mut Memo) {
        let Self { fleet, tenants, .. } = self;
        let gone = |node: &String| !rest.tenants.contains_key(node);
        for node in tenants.extract_if(.., |node, _| gone(node)).map(|(node, _)| node) {
            fleet.tenants.remove(&node);
            fleet.unread.remove(&node);
            memo.touch(&node);
        }
        for (node, view) in &rest.tenants {
            if tenants.get(node).is_none_or(|reader| !reader.is_of(view)) {
                tenants.insert(node.clone(), view.reader());
                fleet.tenants.remove(node);
                memo.touch(node);
            }
            if !view.is_ready() {
                let why = view.trouble();
                if fleet.unread.get(node) != why.as_ref() {
                    memo.touch(node);
                }
                fleet.unread.remove(node);
                fleet.unread.extend(why.map(|why| (node.clone(), why)));
            } else if tenants.get(node).and_then(Reader::changes).is_some() {
                fleet.unread.remove(node);
                fleet.tenants.insert(node.clone(), self.interest.tenants(view.items()));
                memo.touch(node);
            }
        }
    }
}
