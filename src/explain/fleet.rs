//! The state of every node that has pods of the stack, in one look: what a map or a table of the fleet is drawn from.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::Serialize;

use crate::gr::LiveGr;
use crate::plan::fleet::{DaemonPod, Fleet};
use crate::plan::rolling::index::Index;
use crate::plan::rolling::{scope, window};
use crate::record::rolling::{Claim, ClaimState, RollingStatus, TroubleKind};
use crate::record::{GcuUpgrade, Step, Strategy};

/// The label that tells a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// The label that tells the model of a node's GCUs.
pub const MODEL_LABEL: &str = "enflame.com/gcu.model";

/// How a node stands, those to look at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub enum NodeRolloutState {
    /// Something visibly cannot work: the upgrade counts the node as failed, or a pod of the stack cannot start.
    Failed,
    /// In work, and past its deadline.
    Late,
    /// Left out of the upgrade, with outdated pods.
    LeftOut,
    /// In work: being cordoned, waited for and drained.
    Emptying,
    /// In work: its pods are being replaced, or have been and are being verified.
    Swapping,
    /// In work: being released untouched.
    Returning,
    /// Not in work; a pod of the stack is starting or ending.
    Starting,
    /// Has pods of an old template: to come, while an upgrade is under way.
    Outdated,
    /// Every pod of the stack is of its newest template, and ready.
    Current,
}

impl NodeRolloutState {
    /// Every one, in order.
    pub const ALL: [Self; 9] = [
        Self::Failed,
        Self::Late,
        Self::LeftOut,
        Self::Emptying,
        Self::Swapping,
        Self::Returning,
        Self::Starting,
        Self::Outdated,
        Self::Current,
    ];
}

/// The fleet, grouped by a label of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Fleet")]
pub struct FleetView {
    /// The record under way, or the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The label by which the nodes are grouped.
    pub by: String,
    /// How many nodes there are in each condition; one without nodes is left out.
    #[schemars(with = "BTreeMap<String, usize>")]
    pub counts: BTreeMap<NodeRolloutState, usize>,
    /// The groups, by the label's value; nodes without the label come first, under the empty text.
    pub groups: Vec<NodeGroup>,
}

/// Nodes of one value of the label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct NodeGroup {
    /// The label's value.
    pub value: String,
    /// The nodes' names by condition, in order.
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    pub nodes: BTreeMap<NodeRolloutState, Vec<String>>,
}

/// How every node of a gr stands. `record` is the one under way, or the last.
pub fn fleet_view(record: Option<&GcuUpgrade>, gr: Option<&LiveGr>, fleet: &Fleet, by: &str) -> FleetView {
    let conditions = match record.filter(|r| is_rolling(r)) {
        Some(record) => rolling(record, gr, fleet),
        None => resting(fleet),
    };
    let mut view = FleetView {
        name: record.and_then(|r| r.metadata.name.clone()),
        by: by.to_owned(),
        ..FleetView::default()
    };
    let mut groups: BTreeMap<&str, BTreeMap<NodeRolloutState, Vec<String>>> = BTreeMap::new();
    for node in &fleet.nodes {
        let Some(condition) = conditions.get(node.name.as_str()) else { continue };
        let value = node.labels.get(by).unwrap_or_default();
        groups.entry(value).or_default().entry(*condition).or_default().push(node.name.clone());
        let count = view.counts.entry(*condition).or_default();
        *count = count.saturating_add(1);
    }
    view.groups =
        groups.into_iter().map(|(value, nodes)| NodeGroup { value: value.to_owned(), nodes }).collect();
    view
}

type Conditions<'f> = HashMap<&'f str, NodeRolloutState>;

fn is_rolling(record: &GcuUpgrade) -> bool {
    record.spec.strategy == Strategy::RollingUpdate && !record.phase().is_final()
}

/// Without a rollout the pods alone tell.
fn resting(fleet: &Fleet) -> Conditions<'_> {
    let hashes: HashMap<&str, Option<&String>> =
        fleet.sets.iter().map(|s| (s.uid.as_str(), s.hash.as_ref())).collect();
    let mut conditions = Conditions::new();
    for pod in &fleet.pods {
        let newest = hashes.get(&*pod.owner).copied().flatten();
        let outdated = newest.is_some_and(|hash| !pod.is_from(hash));
        worst(&mut conditions, &pod.node, of_pod(pod, outdated));
    }
    conditions
}

fn of_pod(pod: &DaemonPod, outdated: bool) -> NodeRolloutState {
    match (&pod.failure, pod.is_deleting() || pod.ready_since.is_none(), outdated) {
        (Some(_), _, _) => NodeRolloutState::Failed,
        (None, true, _) => NodeRolloutState::Starting,
        (None, false, true) => NodeRolloutState::Outdated,
        (None, false, false) => NodeRolloutState::Current,
    }
}

fn worst<'f>(conditions: &mut Conditions<'f>, node: &'f str, condition: NodeRolloutState) {
    let known = conditions.entry(node).or_insert(condition);
    *known = condition.min(*known);
}

/// With the eyes that decide: the same scope, the same reasons to leave a node out.
fn rolling<'f>(record: &GcuUpgrade, gr: Option<&LiveGr>, fleet: &'f Fleet) -> Conditions<'f> {
    let status = record.status_or_default();
    let rolling = status.rolling.unwrap_or_default();
    let scope = scope(record, status.goal, gr);
    let options = record.spec.rolling_options();
    let index = Index::of(fleet, &scope, options);
    let mut conditions = resting(fleet);
    // Until the operator has put the change into its DaemonSets, no pod looks outdated that is going to be.
    let all_to_come = status.step < Step::Rolling;
    for name in window::concerned(&index, options).into_iter().map(|n| n.name.as_str()) {
        let Some(node) = fleet.node(name) else { continue };
        let outdated = all_to_come || index.first_outdated(name).is_some();
        if outdated {
            let left_out = window::why_skipped(node, &rolling, &record.spec.skip).is_some();
            let to_come = if left_out { NodeRolloutState::LeftOut } else { NodeRolloutState::Outdated };
            conditions.insert(&node.name, to_come);
        }
    }
    in_work(&rolling, fleet, &mut conditions);
    conditions
}

fn in_work<'f>(rolling: &RollingStatus, fleet: &'f Fleet, conditions: &mut Conditions<'f>) {
    for claim in &rolling.active {
        if let Some(node) = fleet.node(&claim.node) {
            conditions.insert(&node.name, condition_of(claim));
        }
    }
}

/// How a node in work stands.
pub fn condition_of(claim: &Claim) -> NodeRolloutState {
    match (claim.trouble.as_ref().map(|t| t.kind), claim.state) {
        (Some(TroubleKind::Failed), _) => NodeRolloutState::Failed,
        (Some(TroubleKind::Late), _) => NodeRolloutState::Late,
        (Some(TroubleKind::Settling) | None, ClaimState::Emptying) => NodeRolloutState::Emptying,
        (Some(TroubleKind::Settling) | None, ClaimState::Swapping) => NodeRolloutState::Swapping,
        (Some(TroubleKind::Settling) | None, ClaimState::Returning) => NodeRolloutState::Returning,
    }
}
