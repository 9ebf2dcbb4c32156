//! Observe: the part of the cluster that an upgrade concerns, from live reads or from views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::Notify;

use super::fleet::FleetViews;
use super::view::View;
use crate::cluster;
use crate::gr::{LiveGr, WorkloadKind};
use crate::observe::fleet::Interest;
use crate::observe::refusals::{self, Refusal};
use crate::observe::{
    self, NAME_LABEL, daemonset_state, dead_node, deployment_state, gr_api, parse_gr, pod_state,
};
use crate::plan::fleet::{DaemonPod, Fleet, SetState};
use crate::plan::{Guard, PodState, Snapshot, WorkloadState, workloads_concerned};
use crate::record::rolling::Labels;
use crate::record::{GcuUpgrade, Step, Strategy};

/// Where to look for a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scope {
    /// Kinds of workload by namespace.
    workloads: BTreeSet<(WorkloadKind, String)>,
    /// The labels that select each workload's pods, by namespace.
    pods: BTreeMap<String, BTreeSet<Labels>>,
}

impl Scope {
    /// What concerns this record, given the gr as last seen.
    pub(super) fn of(record: &GcuUpgrade, gr: Option<&LiveGr>) -> Self {
        let mut scope = Self::default();
        for workload in workloads_concerned(record, gr) {
            scope.workloads.insert((workload.kind, workload.namespace.clone()));
            let usual = || Labels::from([(NAME_LABEL.to_owned(), workload.name.clone())]);
            let selector = if workload.selector.is_empty() { usual() } else { workload.selector };
            scope.pods.entry(workload.namespace).or_default().insert(selector);
        }
        scope
    }

    fn and(&self, other: Self) -> Self {
        let mut all = self.clone();
        all.workloads.extend(other.workloads);
        for (namespace, selectors) in other.pods {
            all.pods.entry(namespace).or_default().extend(selectors);
        }
        all
    }

    /// The namespaces and label selectors with which the pods are listed: as few as will do.
    fn selections(&self) -> BTreeSet<(String, String)> {
        let of = |(namespace, selectors): (&String, &BTreeSet<Labels>)| {
            let namespace = namespace.clone();
            label_selectors(selectors).into_iter().map(move |selector| (namespace.clone(), selector))
        };
        self.pods.iter().flat_map(of).collect()
    }
}

/// Selectors of one label are put together by its key, which for most operators makes one of all.
fn label_selectors(all: &BTreeSet<Labels>) -> Vec<String> {
    let mut by_key: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut others = Vec::new();
    for labels in all {
        match labels.iter().next() {
            Some((key, value)) if labels.len() == 1 => {
                by_key.entry(key).or_default().insert(value);
            }
            _ => others.push(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")),
        }
    }
    let together = by_key
        .into_iter()
        .map(|(key, values)| format!("{key} in ({})", values.into_iter().collect::<Vec<_>>().join(",")));
    together.chain(others).collect()
}

/// Reads the cluster now. Pods are listed only where their end is what counts; while the stack starts,
/// thousands of them may be there and the view's word on their failures is enough.
///
/// # Errors
/// The API server's, as they come.
pub(super) async fn live(
    client: &Client,
    record: &GcuUpgrade,
    views: &Views,
) -> Result<Snapshot, kube::Error> {
    let served = cluster::get(&gr_api(client, record), &record.spec.gr).await?;
    let gr = served.as_ref().and_then(parse_gr);
    let scope = Scope::of(record, gr.as_ref());
    let lists = scope.workloads.iter().map(|(kind, namespace)| list_workloads(client, *kind, namespace));
    // Pods are read after them: none comes from a workload that is seen to be gone.
    let workloads = try_join_all(lists).await?.into_iter().flatten().collect();
    let pods = match record.status_or_default().step {
        Step::WaitingGone | Step::Creating => list_pods(client, &scope).await?,
        _ => views.pods(),
    };
    let mut seen = Snapshot {
        gr,
        workloads,
        pods,
        dead_nodes: views.dead_nodes(),
        refused: None,
        undisturbed_since: None,
        fleet: Fleet::default(),
        guard: Guard::default(),
        not_released: None,
    };
    if record.spec.strategy == Strategy::RollingUpdate {
        let interest = Interest::of(record, seen.gr.as_ref());
        // Until nodes are touched it is the DaemonSets alone that count.
        seen.fleet = match record.status_or_default().step {
            Step::Propagating | Step::Rolling | Step::Restoring => {
                observe::fleet::live(client, &interest).await?
            }
            _ => Fleet { sets: observe::fleet::live_sets(client, &interest).await?, ..Fleet::default() },
        };
        seen.pods = pods_of(&seen.fleet);
    }
    views.join_refusals(&mut seen);
    Ok(seen)
}

/// For what both strategies ask of pods.
fn pods_of(fleet: &Fleet) -> Vec<PodState> {
    let state = |p: &Arc<DaemonPod>| PodState {
        namespace: p.namespace.clone(),
        name: p.name.clone(),
        workload: p.workload.clone(),
        node: Some(p.node.clone()),
        deleting: p.deleting,
        created_at: p.created_at,
        failure: p.failure.clone(),
    };
    fleet.pods.iter().map(state).collect()
}

async fn list_workloads(
    client: &Client,
    kind: WorkloadKind,
    ns: &str,
) -> Result<Vec<WorkloadState>, kube::Error> {
    let (all, mut found) = (ListParams::default(), Vec::new());
    match kind {
        WorkloadKind::DaemonSet => {
            let api: Api<DaemonSet> = Api::namespaced(client.clone(), ns);
            observe::fleet::each(api, all, |d| found.push(daemonset_state(&d))).await?;
        }
        WorkloadKind::Deployment => {
            let api: Api<Deployment> = Api::namespaced(client.clone(), ns);
            observe::fleet::each(api, all, |d| found.push(deployment_state(&d))).await?;
        }
    }
    Ok(found)
}

async fn list_pods(client: &Client, scope: &Scope) -> Result<Vec<PodState>, kube::Error> {
    let lists = scope.selections().into_iter().map(async |(namespace, selector)| {
        let mut pods = Vec::new();
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let params = ListParams::default().labels(&selector);
        observe::fleet::each(api, params, |p| pods.extend(pod_state(&p))).await?;
        Ok::<_, kube::Error>(pods)
    });
    Ok(try_join_all(lists).await?.into_iter().flatten().collect())
}

/// The watches behind one record.
pub(super) struct Views {
    client: Client,
    wake: Arc<Notify>,
    scope: Scope,
    gr: View<LiveGr>,
    dead_nodes: View<String>,
    workloads: BTreeMap<(WorkloadKind, String), View<WorkloadState>>,
    pods: BTreeMap<(String, String), View<PodState>>,
    /// Pods that could not be created, by namespace, in the steps in which pods are to come.
    refusals: BTreeMap<String, View<Refusal>>,
    fleet: Option<FleetViews>,
}

impl Views {
    /// Starts watching the record's gr and the nodes; [`Views::follow`] adds its workloads and pods.
    pub(super) fn start(client: &Client, record: &GcuUpgrade, wake: Arc<Notify>) -> Self {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", record.spec.gr));
        let gr = View::start("gr", gr_api(client, record), only, |o| parse_gr(&o), wake.clone());
        let nodes: Api<Node> = Api::all(client.clone());
        let dead_nodes =
            View::start("nodes", nodes, watcher::Config::default(), |n| dead_node(&n), wake.clone());
        let (workloads, pods, refusals) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let scope = Scope::default();
        Self { client: client.clone(), wake, scope, gr, dead_nodes, workloads, pods, refusals, fleet: None }
    }

    /// Watches what the scope names, too. What is watched only grows: a view that lags behind names other
    /// workloads than the cluster itself, and following each in turn would restart watches without end.
    pub(super) fn follow(&mut self, record: &GcuUpgrade, gr: Option<&LiveGr>) {
        let rolling = record.spec.strategy == Strategy::RollingUpdate;
        if rolling && gr.is_some() {
            let interest = Interest::of(record, gr);
            if self.fleet.as_ref().is_none_or(|f| !f.interest().covers(&interest)) {
                self.fleet = Some(FleetViews::start(&self.client, interest, &self.wake));
            }
        }
        let scope = self.scope.and(Scope::of(record, gr));
        if matches!(record.status_or_default().step, Step::WaitingRunning | Step::Rolling) {
            for (_, namespace) in scope.workloads.iter().filter(|(kind, _)| *kind == WorkloadKind::DaemonSet)
            {
                self.refusals.entry(namespace.clone()).or_insert_with(|| {
                    let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
                    let config = watcher::Config::default().fields(refusals::SELECTOR);
                    View::start("events", events, config, |e| refusals::refusal(&e), self.wake.clone())
                });
            }
        }
        if scope == self.scope {
            return;
        }
        for (kind, namespace) in &scope.workloads {
            if !self.workloads.contains_key(&(*kind, namespace.clone())) {
                self.workloads.insert((*kind, namespace.clone()), self.watch_workloads(*kind, namespace));
            }
        }
        self.scope = scope;
        if rolling {
            // The fleet's view has them.
            return;
        }
        let selections = self.scope.selections();
        self.pods.retain(|selection, _| selections.contains(selection));
        for (namespace, selector) in selections {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            let config = watcher::Config::default().labels(&selector);
            self.pods
                .entry((namespace, selector))
                .or_insert_with(|| View::start("pods", api, config, |p| pod_state(&p), self.wake.clone()));
        }
    }

    fn watch_workloads(&self, kind: WorkloadKind, namespace: &str) -> View<WorkloadState> {
        let (config, wake) = (watcher::Config::default(), self.wake.clone());
        match kind {
            WorkloadKind::DaemonSet => {
                let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), namespace);
                View::start("daemonsets", api, config, |d| Some(daemonset_state(&d)), wake)
            }
            WorkloadKind::Deployment => {
                let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
                View::start("deployments", api, config, |d| Some(deployment_state(&d)), wake)
            }
        }
    }

    /// The gr as last seen by its watch.
    pub(super) fn gr(&self) -> Option<LiveGr> {
        self.gr.items().into_iter().next()
    }

    fn dead_nodes(&self) -> BTreeSet<String> {
        self.dead_nodes.items().into_iter().collect()
    }

    fn pods(&self) -> Vec<PodState> {
        self.pods.values().flat_map(View::items).collect()
    }

    /// Says of each DaemonSet whether its pods cannot be created. Where events may not be read, that is never known.
    fn join_refusals(&self, seen: &mut Snapshot) {
        let refusals: Vec<Refusal> = self.refusals.values().flat_map(View::items).collect();
        if refusals.is_empty() {
            return;
        }
        for workload in seen.workloads.iter_mut().filter(|w| w.kind == WorkloadKind::DaemonSet) {
            let its = |p: &&PodState| p.namespace == workload.namespace && p.workload == workload.name;
            let newest = seen.pods.iter().filter(its).map(|p| p.created_at).max();
            workload.refused = refusals::newest(&refusals, &workload.uid, newest).map(str::to_owned);
        }
        for set in &mut seen.fleet.sets {
            let newest = seen.fleet.pods.iter().filter(|p| p.owner == set.uid).map(|p| p.created_at).max();
            if let Some(refusal) = refusals::newest(&refusals, &set.uid, newest) {
                *set = Arc::new(SetState { refused: Some(refusal.to_owned()), ..set.as_ref().clone() });
            }
        }
    }

    /// The same picture as [`live`], as the watches see it; `None` until all of them have listed once.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        let ready = self.gr.is_ready()
            && self.dead_nodes.is_ready()
            && self.workloads.values().all(View::is_ready)
            && self.pods.values().all(View::is_ready)
            && self.fleet.as_ref().is_none_or(FleetViews::is_ready);
        let mut seen = ready.then(|| Snapshot {
            gr: self.gr(),
            workloads: self.workloads.values().flat_map(View::items).collect(),
            pods: self.pods(),
            dead_nodes: self.dead_nodes(),
            refused: None,
            undisturbed_since: None,
            fleet: self.fleet.as_ref().map(FleetViews::fleet).unwrap_or_default(),
            guard: Guard::default(),
            not_released: None,
        })?;
        self.join_refusals(&mut seen);
        Some(seen)
    }
}
