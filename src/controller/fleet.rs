//! The watches behind a RollingUpdate.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::Notify;

use super::view::View;
use crate::observe::fleet::{self, Interest, SeenPod, Template};
use crate::plan::fleet::{Fleet, NodeState, SetState};

/// Pods fetched with one call: whole pods are large, and only what is kept of them may stay in memory.
const PAGE: u32 = 200;

/// What watches have seen of the fleet. The pods of the whole cluster are watched: those that hold a GCU cannot
/// be told by a selector. Only they, and the gr's own, are kept.
pub(super) struct FleetViews {
    interest: Interest,
    nodes: View<Arc<NodeState>>,
    pods: View<SeenPod>,
    sets: View<Arc<SetState>>,
    templates: BTreeMap<String, View<Template>>,
}

impl FleetViews {
    /// Starts watching.
    pub(super) fn start(client: &Client, interest: Interest, wake: &Arc<Notify>) -> Self {
        let every = watcher::Config::default;
        let wanted = interest.clone();
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes =
            View::start("nodes", nodes, every(), move |n| Some(fleet::node(&n, &wanted)), wake.clone());
        let wanted = interest.clone();
        let pods: Api<Pod> = Api::all(client.clone());
        let pages = every().page_size(PAGE);
        let pods = View::start("pods", pods, pages, move |p| fleet::pod(&p, &wanted), wake.clone());
        let wanted = interest.clone();
        let sets: Api<DaemonSet> = Api::all(client.clone());
        let of_interest = move |d: DaemonSet| Some(fleet::set(&d)).filter(|s| wanted.wants(s));
        let sets = View::start("daemonsets", sets, every(), of_interest, wake.clone());
        let mut templates = BTreeMap::new();
        for namespace in interest.workloads.keys() {
            let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
            let view = View::start("revisions", api, every(), |r| fleet::template(&r), wake.clone());
            templates.insert(namespace.clone(), view);
        }
        Self { interest, nodes, pods, sets, templates }
    }

    /// What is watched.
    pub(super) fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Whether everything has been listed once.
    pub(super) fn is_ready(&self) -> bool {
        self.nodes.is_ready()
            && self.pods.is_ready()
            && self.sets.is_ready()
            && self.templates.values().all(View::is_ready)
    }

    /// The fleet as last seen.
    pub(super) fn fleet(&self) -> Fleet {
        let mut fleet = Fleet { nodes: self.nodes.items(), ..Fleet::default() };
        fleet.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        self.pods.items().into_iter().for_each(|pod| pod.join(&mut fleet));
        let templates: Vec<Template> = self.templates.values().flat_map(View::items).collect();
        fleet.sets = fleet::with_hashes(self.sets.items(), &templates);
        fleet
    }
}
