//! The plan: what an upgrade would do, said before anything is written. It looks with the eyes of the engine, so
//! that what it says is what happens: the same scope, the same order, the same reasons to leave a node out.

mod components;
mod duration;
mod steps;
mod summary;
mod text;
mod units;
mod warnings;
mod windows;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::risk::{Risk, RiskName, messages};
use crate::gr::{self, Component, LiveGr, WorkloadKind};
use crate::plan::budget::{Budget, blocking};
use crate::plan::fleet::{DaemonPod, Fleet, NodeState, Tenant};
use crate::plan::impact::{self, ChangeKind, Impact, ScopedSet, impact_of};
use crate::plan::pins::{self, Pin};
use crate::plan::rolling::index::Index;
use crate::plan::rolling::node::{cannot_be_evicted, is_evicted};
use crate::plan::rolling::window;
use crate::record::maintenance::Maintenance;
use crate::record::rolling::{LockedSet, RollingStatus, RollingUpdate, SkippedNode, WINDOW_LIMIT};
use crate::record::{GcuUpgrade, Strategy};
use steps::Canaries;

pub use steps::{PlannedClass, PlannedCoverage, Steps};
pub use units::PlannedUnit;
pub use windows::PlannedWindows;

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The gr's name.
    pub gr: &'a str,
    /// The gr as it stands; `None` when it is not there.
    pub live: Option<&'a LiveGr>,
    /// What it is to become.
    pub target: &'a Value,
    /// How.
    pub strategy: Strategy,
    /// How exactly; meaningless for Recreate.
    pub options: &'a RollingUpdate,
    /// Nodes and pods.
    pub fleet: &'a Fleet,
    /// The disruption budgets; `None` when they could not be read.
    pub budgets: Option<&'a [Budget]>,
    /// The gr's records, newest first: how long it took before.
    pub records: &'a [GcuUpgrade],
    /// When nodes may be taken; `None`: at any time.
    pub maintenance: Option<&'a Maintenance>,
    /// How long what is next takes, in seconds, where windows have to be long enough for it.
    pub need: Option<u32>,
    /// When this is asked.
    pub now: Timestamp,
}

/// What an upgrade would do.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Plan")]
pub struct Preview {
    /// The gr.
    pub gr: String,
    /// How the change is made.
    pub strategy: Strategy,
    /// In one sentence.
    pub summary: String,
    /// The components that change or restart, in dependency order.
    pub components: Vec<PlannedComponent>,
    /// So many nodes at once.
    pub max_unavailable: usize,
    /// The steps, when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
    /// Which canary nodes try which classes of nodes, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<PlannedCoverage>,
    /// The nodes, in the order in which they are taken.
    pub nodes: Vec<PlannedNode>,
    /// Nodes that are taken together, since pods of one gang are on them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<PlannedUnit>,
    /// The nodes that would be left out now, and why.
    pub skipped: Vec<SkippedNode>,
    /// How long it should take.
    pub expected: Expected,
    /// In which maintenance windows; absent where none are minded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<PlannedWindows>,
    /// What may go wrong, by name: `accept` in the request says that this is known.
    pub risks: Vec<Risk>,
    /// The same in sentences alone.
    pub warnings: Vec<String>,
}

/// A component that changes or restarts.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedComponent {
    /// Its key.
    pub component: String,
    /// In what way it changes; absent when it only restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeKind>,
    /// The fields that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// The whole images that it runs afterwards, as the operator composes them; only where it changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// Whether it restarts at all is for the operator to say: only fields differ of which it is not known whether the
    /// operator renders them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// Why it restarts though it does not change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What its restart does to a node.
    pub impact: Impact,
}

/// A node that is taken.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedNode {
    /// The node.
    pub node: String,
    /// In which step, counted from 0.
    pub step: usize,
    /// What happens to it.
    pub impact: Impact,
    /// It may be that nothing happens to it: see the components.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// The components that restart, in order.
    pub restarts: Vec<String>,
    /// The pods that have to leave it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evicts: Vec<PlannedEviction>,
}

/// A pod that has to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedEviction {
    /// `namespace/name`.
    pub pod: String,
    /// GCUs that it holds.
    pub gcus: i64,
    /// Why it is not evicted at all, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
    /// What does not let it be evicted now, if something does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
}

/// How long it should take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// So long; `null` when this cluster has no history to tell from.
    pub seconds: Option<u64>,
    /// Where that comes from.
    pub basis: String,
}

/// Says what an upgrade would do. `known` are the risks of the blueprint and of the versions around.
pub fn preview(ask: &Ask<'_>, known: &[Risk]) -> Preview {
    let nothing = Value::Null;
    let from = ask.live.map_or(&nothing, |l| &l.manifest);
    let changes = impact::changes(from, ask.target);
    let pins = ask
        .live
        .map(|live| pins::resolve(&changes, from, ask.target, live, &ask.fleet.sets))
        .unwrap_or_default();
    let pinned: Vec<LockedSet> = pins.found.iter().map(Pin::record).collect();
    let scope = match ask.strategy {
        Strategy::RollingUpdate => impact::scope(&changes, ask.target, ask.live, &pinned),
        Strategy::Recreate => everything(ask.live),
    };
    let index = Index::of(ask.fleet, &scope, ask.options);
    let components = components::components(ask, &changes, &index);
    let (taken, skipped, concerned) = nodes(ask, &index);
    let gangs = &ask.fleet.gangs;
    let mut taken = units::in_order(taken, gangs);
    let rolls = ask.strategy == Strategy::RollingUpdate;
    let at_once = if rolls { ask.options.max_unavailable.of(concerned) } else { taken.len() };
    let max_unavailable = if rolls { at_once.min(WINDOW_LIMIT) } else { at_once };
    let canaries = match rolls {
        true => steps::canaries(ask, &index, &mut taken, gangs, max_unavailable, concerned),
        false => Canaries::default(),
    };
    let steps = match rolls {
        true => steps::steps(ask.options, taken.len(), concerned, max_unavailable, canaries.count),
        false => None,
    };
    let step_of = |place| steps.as_ref().map_or(0, |steps| steps.of(place));
    let planned = taken.iter().enumerate();
    let nodes: Vec<PlannedNode> =
        planned.map(|(place, node)| planned_node(ask, &index, node, step_of(place))).collect();
    let units = units::units(ask, &nodes, gangs, max_unavailable);
    let starts = starts(ask, &index, &nodes);
    let expected = duration::expected(ask, nodes.len(), max_unavailable, steps.as_ref(), starts);
    let windows = windows::windows(ask, &nodes, max_unavailable, starts, &expected);
    let mut risks = known.to_vec();
    if rolls {
        let refused =
            |why: &String| Risk::new(RiskName::Refused, format!("a RollingUpdate is refused: {why}"));
        risks.extend(pins.refused.iter().map(refused));
        risks.extend(pins.unmanaged.iter().map(|why| Risk::new(RiskName::UnmanagedDaemonSet, why.clone())));
    }
    risks.extend(units::risks(&units));
    risks.extend(canaries.risks);
    risks.extend(warnings::warnings(ask, &changes, &nodes, &skipped, at_once));
    Preview {
        gr: ask.gr.to_owned(),
        strategy: ask.strategy,
        summary: summary::summary(ask, &changes, nodes.len(), max_unavailable, &expected),
        components,
        max_unavailable,
        steps,
        coverage: canaries.coverage,
        nodes,
        units,
        skipped,
        expected,
        windows,
        warnings: messages(&risks),
        risks,
    }
}

impl Preview {
    /// Marks the risks that whoever asks has accepted.
    pub fn accept(&mut self, names: &[RiskName]) {
        self.risks.iter_mut().for_each(|risk| risk.accepted = names.contains(&risk.name));
    }
}

/// How long the pods that a node restarts took to start when they last did, one after the other, in seconds: half of
/// the nodes were faster. `None` where no pod is ready.
fn starts(ask: &Ask<'_>, index: &Index<'_>, nodes: &[PlannedNode]) -> Option<u64> {
    let restarts = |component: &String| nodes.iter().any(|n| n.restarts.contains(component));
    // Of each DaemonSet that restarts.
    let mut took: Vec<Option<Vec<u64>>> =
        index.sets.iter().map(|(set, _)| restarts(&set.component).then(Vec::new)).collect();
    for pod in &ask.fleet.pods {
        let Some(Some(took)) = index.sets.position(pod).and_then(|set| took.get_mut(set)) else { continue };
        let Some(ready) = pod.ready_since else { continue };
        took.extend(u64::try_from(ready.duration_since(pod.created_at).as_secs()));
    }
    let medians = took.into_iter().flatten().filter_map(duration::median);
    medians.reduce(u64::saturating_add).filter(|seconds| *seconds > 0)
}

/// A Recreate takes every DaemonSet away, changed or not.
fn everything(live: Option<&LiveGr>) -> Vec<ScopedSet> {
    let all = live.map(|l| gr::workloads(&l.manifest, &l.status)).unwrap_or_default();
    all.into_iter()
        .filter(|w| w.kind == WorkloadKind::DaemonSet)
        .map(|w| ScopedSet {
            uncertain: false,
            impact: impact_of(&w.component),
            component: w.component,
            namespace: w.namespace,
            name: w.name,
            changed: true,
            held: false,
            unfinished: false,
        })
        .collect()
}

/// The nodes that are taken, in order, those that are left out, and how many there are of both.
fn nodes<'f>(ask: &Ask<'_>, index: &Index<'f>) -> (Vec<&'f NodeState>, Vec<SkippedNode>, usize) {
    let changed = |node: &NodeState| index.pods(&node.name).any(|(set, pod)| restarts_for(index, set, pod));
    let any = RollingUpdate::default();
    let options = if ask.strategy == Strategy::RollingUpdate { ask.options } else { &any };
    let mut all = window::concerned(index, options);
    all.retain(|n| changed(n));
    let concerned = all.len();
    let mut skipped = Vec::new();
    if ask.strategy == Strategy::RollingUpdate {
        let nothing = RollingStatus::default();
        all.retain(|n| match window::why_skipped(n, &nothing, &[]) {
            Some(reason) => {
                skipped.push(SkippedNode { node: n.name.clone(), reason, attempt: 0 });
                false
            }
            None => true,
        });
        skipped.sort_by(|a, b| a.node.cmp(&b.node));
    }
    window::in_order(&mut all, index, options);
    (all, skipped, concerned)
}

fn planned_node(ask: &Ask<'_>, index: &Index<'_>, node: &NodeState, step: usize) -> PlannedNode {
    let restarts = Restarts::on(index, &node.name);
    let impact = restarts.impact();
    let rolls = ask.strategy == Strategy::RollingUpdate;
    let drains = rolls && ask.options.drain.enabled && impact == Impact::Evict;
    let tenants = index.tenants(&node.name).unwrap_or_default();
    let leaving = tenants.iter().filter(|t| drains && is_evicted(t, &ask.options.drain));
    let mut names: Vec<String> = restarts.sets.iter().map(|set| set.component.clone()).collect();
    names.dedup();
    PlannedNode {
        node: node.name.clone(),
        step,
        impact,
        uncertain: rolls && restarts.uncertain,
        restarts: names,
        evicts: leaving.map(|pod| eviction(ask, pod)).collect(),
    }
}

/// The DaemonSets whose pods are replaced on a node.
struct Restarts<'a> {
    /// In order.
    sets: Vec<&'a ScopedSet>,
    /// Whether they are is the operator's to say: see [`Certainty::Unknown`](impact::Certainty::Unknown).
    uncertain: bool,
}

impl<'a> Restarts<'a> {
    fn on(index: &Index<'a>, node: &str) -> Self {
        let mut there: Vec<(usize, &'a DaemonPod)> = index.pods(node).collect();
        there.sort_by_key(|(set, _)| *set);
        let begins = there.iter().position(|(set, pod)| restarts_for(index, *set, pod));
        let mut replaced = there.split_off(begins.unwrap_or(there.len()));
        let first = replaced.first().map(|(set, pod)| (index.sets.get(*set), index.is_outdated(*set, pod)));
        let uncertain = matches!(first, Some((Some((set, _)), false)) if set.uncertain);
        replaced.dedup_by_key(|(set, _)| *set);
        let sets = replaced.into_iter().filter_map(|(set, _)| Some(index.sets.get(set)?.0)).collect();
        Self { sets, uncertain }
    }

    /// What they do to the node.
    fn impact(&self) -> Impact {
        self.sets.iter().map(|set| set.impact).max().unwrap_or(Impact::None)
    }
}

/// Whether a pod is a reason to replace pods of its node: its template changes, or has changed before.
fn restarts_for(index: &Index<'_>, set: usize, pod: &DaemonPod) -> bool {
    index.sets.get(set).is_some_and(|(s, _)| s.changed) || index.is_outdated(set, pod)
}

fn eviction(ask: &Ask<'_>, pod: &Tenant) -> PlannedEviction {
    let stays = cannot_be_evicted(pod, &ask.options.drain);
    let blocked_by = blocking(ask.budgets.unwrap_or_default(), pod).filter(|_| stays.is_none());
    PlannedEviction { pod: format!("{}/{}", pod.namespace, pod.name), gcus: pod.gcus, stays, blocked_by }
}

/// The components that are deployed.
fn deployed(manifest: &Value) -> Vec<Component<'_>> {
    gr::components(manifest).into_iter().filter(Component::is_deployed).collect()
}
