//! The watches behind one record: what they show is what its worker decides on, and what the API explains.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use kube::runtime::watcher;
use tokio::sync::Notify;

use super::{Habits, Scope, Sight, Stores, View};
use crate::gr::{LiveGr, WorkloadKind};
use crate::observe::fleet::{Interest, SeenPod, SeenSet, Template, daemon_state, with_hashes};
use crate::observe::refusals::{self, Refusal};
use crate::observe::{gr_api, parse_gr};
use crate::plan::fleet::{Fleet, NodeState, SetState, Tenant};
use crate::plan::memo::Memo;
use crate::plan::rolling::node::{is_ours, needs_tenants};
use crate::plan::{PodState, Snapshot, WorkloadState};
use crate::record::{GcuUpgrade, Step, Strategy};

/// The watches behind one record. What they show wakes its worker.
pub struct Views {
    stores: Stores,
    wake: Arc<Notify>,
    gr: View<LiveGr>,
    nodes: Arc<View<Arc<NodeState>>>,
    sets: Arc<View<Arc<SeenSet>>>,
    rest: Mutex<Rest>,
}

/// What depends on the gr and on the record.
#[derive(Default)]
pub(super) struct Rest {
    scope: Scope,
    /// The scope is made from a whole list of DaemonSets.
    complete: bool,
    interest: Interest,
    deployments: BTreeMap<String, Arc<View<WorkloadState>>>,
    pub(super) pods: BTreeMap<(String, String), Arc<View<SeenPod>>>,
    templates: BTreeMap<String, Arc<View<Template>>>,
    /// Pods that could not be created, by namespace, in the steps in which pods are to come.
    refusals: BTreeMap<String, Arc<View<Refusal>>>,
    /// The pods on nodes in work, each listed when the node was seen to carry the claim.
    pub(super) tenants: BTreeMap<String, Arc<View<Arc<Tenant>>>>,
}

impl Views {
    /// Starts watching the record's gr, the nodes and the DaemonSets; [`Views::follow`] adds what else concerns it.
    pub(super) fn start(client: &Client, stores: Stores, record: &GcuUpgrade, wake: Arc<Notify>) -> Self {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", record.spec.gr));
        let habits = Habits { streaming: None, ..stores.habits() };
        let gr = View::start("gr", gr_api(client, record), only, |o| parse_gr(&o), habits);
        let (nodes, sets) = (stores.nodes(), stores.sets());
        gr.wakes(&wake);
        nodes.wakes(&wake);
        sets.wakes(&wake);
        Self { stores, wake, gr, nodes, sets, rest: Mutex::default() }
    }

    /// Watches what concerns the record, too. What is watched only grows: a view that lags behind names other
    /// workloads than the cluster itself, and following each in turn would restart watches without end.
    pub fn follow(&self, record: &GcuUpgrade, gr: Option<&LiveGr>) {
        let rolling = record.spec.strategy == Strategy::RollingUpdate;
        let mut rest = self.rest();
        let mut scope = rest.scope.and(Scope::of(record, gr));
        rest.complete |= self.sets.is_ready();
        if rolling {
            rest.interest = Interest::of(record, gr);
            let sets = self.sets.items();
            scope = scope.with_sets(sets.iter().map(AsRef::as_ref).filter(|s| rest.interest.wants(&s.state)));
            self.follow_claims(&mut rest, record);
        }
        if matches!(record.known_status().step, Step::WaitingRunning | Step::Rolling) {
            for namespace in scope.namespaces_of(WorkloadKind::DaemonSet) {
                let view = || self.stores.refusals(namespace);
                rest.refusals.entry(namespace.clone()).or_insert_with(view).wakes(&self.wake);
            }
        }
        if scope == rest.scope {
            return;
        }
        for namespace in scope.namespaces_of(WorkloadKind::Deployment) {
            let view = || self.stores.deployments(namespace);
            rest.deployments.entry(namespace.clone()).or_insert_with(view).wakes(&self.wake);
        }
        let selections = scope.selections();
        rest.scope = scope;
        rest.pods.retain(|selection, _| selections.contains(selection));
        for (namespace, selector) in selections {
            let view = self.stores.pods(&namespace, &selector);
            if rolling {
                let templates = || self.stores.templates(&namespace);
                rest.templates.entry(namespace.clone()).or_insert_with(templates).wakes(&self.wake);
            }
            view.wakes(&self.wake);
            rest.pods.insert((namespace, selector), view);
        }
    }

    /// Looks at the pods on the nodes in work, of each from when its claim has been seen on it: the scheduler knows by
    /// then that it is to bind no other pod to it.
    fn follow_claims(&self, rest: &mut Rest, record: &GcuUpgrade) {
        let options = record.spec.rolling_options();
        let rolling = record.status.as_ref().and_then(|s| s.rolling.as_ref());
        let claims = rolling.map(|r| r.active.as_slice()).unwrap_or_default();
        let needed: BTreeSet<&str> = claims
            .iter()
            .filter(|claim| claim.cordon && needs_tenants(claim, options))
            .map(|claim| claim.node.as_str())
            .collect();
        rest.tenants.retain(|node, _| needed.contains(node.as_str()));
        for name in needed {
            let carries_it = || self.nodes.get(name).is_some_and(|node| is_ours(record, &node));
            if !rest.tenants.contains_key(name) && carries_it() {
                let view = self.stores.list_tenants(name);
                view.wakes(&self.wake);
                rest.tenants.insert(name.to_owned(), view);
            }
        }
    }

    /// The gr as last seen by its watch.
    pub fn gr(&self) -> Option<LiveGr> {
        self.gr.items().into_iter().next()
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.count()
    }

    /// Nodes that are not ready.
    pub fn dead_nodes(&self) -> BTreeSet<String> {
        self.nodes.items().into_iter().filter(|node| !node.ready).map(|node| node.name.clone()).collect()
    }

    /// The pods of every workload in scope.
    pub fn pods(&self) -> Vec<PodState> {
        self.rest().pods.values().flat_map(|view| view.items()).map(|pod| pod.state()).collect()
    }

    /// What the API server says against pods that DaemonSets in scope should have.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.rest().refusals.values().flat_map(|view| view.items()).collect()
    }

    /// The nodes and the pods on them, with these DaemonSets; `None` until all of them have been listed once. A node
    /// that is not in an incomplete list would be taken for one that is gone.
    pub fn fleet(&self, sets: Vec<Arc<SetState>>) -> Option<Fleet> {
        if !self.is_ready() {
            return None;
        }
        let mut sight = Sight::default();
        self.follow_with(&mut sight, &sets, &mut Memo::default());
        Some(Fleet { sets, ..sight.fleet })
    }

    fn follow_with(&self, sight: &mut Sight, sets: &[Arc<SetState>], memo: &mut Memo) {
        let rest = self.rest();
        let interest = rest.interest.clone().with_sets(sets);
        sight.follow(&self.nodes, &rest, interest, memo);
    }

    /// Whether everything has been listed once that is needed for the record as it stands.
    fn is_ready(&self) -> bool {
        let rest = self.rest();
        rest.complete
            && self.gr.is_ready()
            && self.nodes.is_ready()
            && rest.deployments.values().all(|view| view.is_ready())
            && rest.pods.values().all(|view| view.is_ready())
            && rest.templates.values().all(|view| view.is_ready())
    }

    /// Why something has not been listed yet, where that is known.
    pub fn trouble(&self) -> Option<String> {
        let rest = self.rest();
        let of_one = self.gr.trouble().or_else(|| self.nodes.trouble()).or_else(|| self.sets.trouble());
        of_one
            .or_else(|| rest.pods.values().find_map(|view| view.trouble()))
            .or_else(|| rest.templates.values().find_map(|view| view.trouble()))
            .or_else(|| rest.deployments.values().find_map(|view| view.trouble()))
    }

    /// The part of the cluster that the upgrade concerns, as the watches see it; `None` until all of them have listed
    /// once.
    pub fn snapshot(&self, record: &GcuUpgrade) -> Option<Snapshot> {
        self.snapshot_of(record, &mut Sight::default(), &mut Memo::default())
    }

    /// The same, with the fleet out of `sight`, which is brought up to date and has to be given it back. `memo` is told
    /// what has changed.
    pub fn snapshot_of(&self, record: &GcuUpgrade, sight: &mut Sight, memo: &mut Memo) -> Option<Snapshot> {
        if !self.is_ready() {
            return None;
        }
        let sets = self.sets.items();
        let deployments: Vec<WorkloadState> =
            self.rest().deployments.values().flat_map(|view| view.items()).collect();
        let workloads = self.rest().scope.workloads_among(&sets).chain(deployments).collect();
        let mut seen = Snapshot { gr: self.gr(), workloads, ..Snapshot::default() };
        if record.spec.strategy == Strategy::RollingUpdate {
            seen.fleet.sets = self.wanted(&sets);
        } else {
            seen.pods = self.pods();
        }
        if concerns_nodes(record) {
            let sets = std::mem::take(&mut seen.fleet.sets);
            self.follow_with(sight, &sets, memo);
            seen.dead_nodes.clone_from(&sight.dead_nodes);
            seen.fleet = Fleet { sets, ..std::mem::take(&mut sight.fleet) };
            seen.pods = pods_of(record, &seen.fleet);
        } else {
            // What is not followed is looked at anew.
            *sight = Sight::default();
            seen.dead_nodes = self.dead_nodes();
        }
        join_refusals(&self.refusals(), &mut seen);
        Some(seen)
    }

    /// The DaemonSets of the gr, with their hashes.
    fn wanted(&self, sets: &[Arc<SeenSet>]) -> Vec<Arc<SetState>> {
        let rest = self.rest();
        let wanted = sets.iter().map(|set| &set.state).filter(|set| rest.interest.wants(set)).cloned();
        let templates: Vec<Template> = rest.templates.values().flat_map(|view| view.items()).collect();
        with_hashes(wanted.collect(), &templates)
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is decided for the record now may depend on nodes and the pods on them.
pub fn concerns_nodes(record: &GcuUpgrade) -> bool {
    let step = record.known_status().step;
    record.spec.strategy == Strategy::RollingUpdate
        && matches!(step, Step::Propagating | Step::Rolling | Step::Restoring)
}

/// What both strategies ask of pods, in the step in which a RollingUpdate asks it: there are thousands.
pub fn pods_of(record: &GcuUpgrade, fleet: &Fleet) -> Vec<PodState> {
    if record.known_status().step != Step::Restoring {
        return Vec::new();
    }
    fleet.pods.iter().map(|pod| daemon_state(pod)).collect()
}

/// Says of each DaemonSet whether its pods cannot be created. Where events may not be read, that is never known.
pub fn join_refusals(refusals: &[Refusal], seen: &mut Snapshot) {
    if refusals.is_empty() {
        return;
    }
    for workload in seen.workloads.iter_mut().filter(|w| w.kind == WorkloadKind::DaemonSet) {
        let its = |p: &&PodState| p.namespace == workload.namespace && p.workload == workload.name;
        let newest = seen.pods.iter().filter(its).map(|p| p.created_at).max();
        workload.refused = refusals::newest(refusals, &workload.uid, newest).map(str::to_owned);
    }
    for set in &mut seen.fleet.sets {
        let newest = seen.fleet.pods.of(&set.uid).map(|p| p.created_at).max();
        if let Some(refusal) = refusals::newest(refusals, &set.uid, newest) {
            *set = Arc::new(SetState { refused: Some(refusal.to_owned()), ..set.as_ref().clone() });
        }
    }
}
