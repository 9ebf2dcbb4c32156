//! The part of the record that a RollingUpdate has beside what every upgrade has.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Reason, SkipNode};

pub use super::amount::{Amount, Asked};
pub use super::claim::*;
pub use super::gangs::*;
pub use super::marks::*;
pub use super::steps::*;

/// Labels that all have to be there.
pub type Labels = BTreeMap<String, String>;

/// How a RollingUpdate proceeds; what was not asked for has its default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingUpdate {
    /// How many nodes may be down because of the upgrade at any moment: a number, or a percentage of the nodes
    /// concerned, rounded down, at least 1.
    pub max_unavailable: Amount,
    /// These nodes first, then wait for `promote`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// The sizes of the steps after the canary, as numbers or percentages of the nodes concerned; the last one repeats.
    /// Without them a step has `maxUnavailable` nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub batches: Vec<Amount>,
    /// Every step waits for `promote`.
    pub manual: bool,
    /// Time between two steps; 0 for none. Without it, `manual` and `batches` there are no steps.
    #[schemars(range(max = 604800))]
    pub pause_between_seconds: u32,
    /// How long a node's new pods have to be ready before the node counts as done.
    #[schemars(range(max = 604800))]
    pub min_ready_seconds: u32,
    /// Only nodes with these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: Labels,
    /// Which nodes come first.
    pub order: Order,
    /// With the order Topology: the label by whose values nodes come one group after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub topology_key: Option<String>,
    /// How a node is emptied before a component restarts that its users cannot live through.
    pub drain: Drain,
    /// Wait for these pods of a node to end before it is drained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for_jobs: Option<WaitForJobs>,
    /// How jobs on several nodes are treated that are restarted as a whole.
    pub gangs: Gangs,
    /// The rollout stops when this number or percentage of nodes has failed or is late. Below it the others go on; when
    /// they are done, the upgrade is held.
    pub failure_threshold: Amount,
    /// Stops the rollout earlier when several nodes fail in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}

impl Default for RollingUpdate {
    fn default() -> Self {
        Self {
            max_unavailable: Amount::Number(1),
            canary: None,
            batches: Vec::new(),
            manual: false,
            pause_between_seconds: 0,
            min_ready_seconds: 10,
            node_selector: Labels::new(),
            order: Order::default(),
            topology_key: None,
            drain: Drain::default(),
            wait_for_jobs: None,
            gangs: Gangs::default(),
            failure_threshold: Amount::Number(1),
            breaker: None,
        }
    }
}

impl RollingUpdate {
    /// Whether all nodes of a gang are taken together: where nothing is evicted, no gang is restarted.
    pub fn minds_gangs(&self) -> bool {
        self.gangs.enabled && self.drain.enabled
    }

    /// All nodes in one sliding window: no canary, nobody and nothing to wait for in between.
    pub fn without_steps(&mut self) {
        (self.canary, self.manual, self.pause_between_seconds) = (None, false, 0);
        self.batches.clear();
    }

    /// The size of this step, which is not the canary, where sizes are asked for; the last one repeats.
    pub fn batch(&self, step: u32) -> Option<Amount> {
        let place = step.saturating_sub(u32::from(self.canary.is_some()));
        let size = self.batches.get(usize::try_from(place).unwrap_or(usize::MAX));
        size.or(self.batches.last()).copied()
    }

    /// By whose values nodes come one group after the other, where that is asked for.
    pub fn topology(&self) -> Option<&str> {
        let key = || self.topology_key.as_deref().unwrap_or(ZONE_LABEL);
        (self.order == Order::Topology).then(key)
    }
}

/// The label with a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Which nodes come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    /// Nodes without pods that would have to leave, then by name.
    #[default]
    IdleFirst,
    /// By name.
    Name,
    /// The nodes of one zone, or of another `topologyKey`, after those of another, those without any last; among them
    /// as with IdleFirst. Where one group ends and the next begins, nodes of both are in work.
    Topology,
}

/// How a node is emptied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// Evict the pods that hold a GCU.
    pub enabled: bool,
    /// How long emptying the node may take, in seconds.
    #[schemars(range(min = 1, max = 604800))]
    pub timeout_seconds: u32,
    /// What happens to a node that could not be emptied in that time.
    pub on_timeout: OnTimeout,
    /// Evict pods with these labels too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_selector: Labels,
    /// Evict pods though what they keep in emptyDir volumes on disk is lost.
    pub delete_empty_dir_data: bool,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            enabled: true,
            timeout_seconds: 1800,
            on_timeout: OnTimeout::default(),
            pod_selector: Labels::new(),
            delete_empty_dir_data: false,
        }
    }
}

/// What happens to a node that could not be drained in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnTimeout {
    /// The upgrade is held; it goes on when the node is empty.
    #[default]
    Hold,
    /// The node is released as it was, and left out.
    Skip,
    /// The pods that are left are deleted, past their disruption budgets.
    Force,
}

/// Pods whose end is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitForJobs {
    /// Labels of the pods whose end is waited for.
    pub selector: Labels,
    /// How long their end is waited for, in seconds; then they are drained like others.
    #[schemars(range(min = 1, max = 604800))]
    pub timeout_seconds: u32,
}

/// How far a RollingUpdate is. Only nodes in work are named: it stays small in clusters of any size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RollingStatus {
    /// The DaemonSets that are held at OnDelete, with what they had before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locked: Vec<LockedSet>,
    /// Since when all of them have been seen at OnDelete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub locked_since: Option<Timestamp>,
    /// How often somebody else has put a strategy back.
    pub relocks: u32,
    /// The admission webhook keeps the DaemonSets at OnDelete: the operator puts its own strategy back.
    pub guarded: bool,
    /// The operator has been seen to change a DaemonSet in place and to leave it held.
    pub probed: bool,
    /// The gr may have been changed.
    pub gr_changed: bool,
    /// `maxUnavailable` as a number of nodes.
    pub max_unavailable: u32,
    /// Node counts by state.
    pub nodes: NodeCounts,
    /// The nodes in work.
    // Shared: one status is made of another again and again, and only the claims that have changed are new then. Two
    // that are the same in memory are not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<Arc<Claim>>,
    /// Nodes that were given up, until the rollout is retried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedNode>,
    /// The last nodes that were done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<DoneNode>,
    /// The step under way, counted from 0; the canary is step 0.
    pub step: u32,
    /// Nodes that were done in this step.
    pub step_done: u32,
    /// How many nodes this step may still take; absent when it may take all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_left: Option<u32>,
    /// The canary nodes that were chosen for `coverage`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<String>,
    /// When the step ended, while the next waits for its time or for `promote`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub step_ended_at: Option<Timestamp>,
    /// Nodes on which a pod was replaced without a claim.
    pub uncommanded: u32,
    /// When the first node was claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub first_claim_at: Option<Timestamp>,
    /// When the last node was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_done_at: Option<Timestamp>,
    /// Milliseconds during which no node was in work because a person or a pause was waited for.
    pub gated_ms: u64,
    /// When the rollout stopped taking nodes, with none in work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub gated_since: Option<Timestamp>,
    /// Since when no further node is taken because of maintenance windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub window_closed_since: Option<Timestamp>,
    /// Since when slots are free that a gang on more nodes than these waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub gang_waits_since: Option<Timestamp>,
    /// For the efficiency: when each free slot of the window would have become free if nothing of ours took
    /// time, in milliseconds after the first claim.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<u64>,
    /// The time that such a window would have taken so far, in milliseconds.
    pub ideal_ms: u64,
    /// Why the upgrade is given up, while it still cleans up behind itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub giving_up: Option<GivingUp>,
}

impl RollingStatus {
    /// The names of the nodes in work.
    pub fn in_work(&self) -> impl Iterator<Item = &str> {
        self.active.iter().map(|claim| claim.node.as_str())
    }

    /// The names of the nodes that the record itself leaves out: those in `skip`, its request, and those given up.
    pub fn left_out<'r>(&'r self, skip: &'r [SkipNode]) -> impl Iterator<Item = &'r str> {
        let by_request = skip.iter().map(|skip| skip.node.as_str());
        by_request.chain(self.skipped.iter().map(|skipped| skipped.node.as_str()))
    }
}

/// Why an upgrade is given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GivingUp {
    /// Why, as one CamelCase word that programs may rely on; the reason with which the upgrade ends.
    #[schemars(with = "String")]
    pub reason: Reason,
    /// Why, in a sentence; the message with which the upgrade ends.
    pub message: String,
    /// The gr is somebody else's now: it and the pods are left as they are.
    pub abandon: bool,
}

/// A DaemonSet held at OnDelete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LockedSet {
    /// The key of its component in the gr's spec; its own name if it belongs to the gr and to no component known.
    #[serde(default)]
    pub component: String,
    /// Namespace of the DaemonSet.
    pub namespace: String,
    /// Name of the DaemonSet.
    pub name: String,
    /// UID of the DaemonSet: another one of this name was not locked.
    pub uid: String,
    /// Update strategy of the DaemonSet before it was held.
    #[schemars(schema_with = "any_object")]
    pub strategy: Value,
    /// The `controller-revision-hash` of its template before.
    pub hash: String,
    /// Its template does not change, and it had outdated pods all the same when the rollout began.
    #[serde(default)]
    pub unfinished: bool,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Node counts by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NodeCounts {
    /// Number of nodes with pods of the components concerned.
    pub total: u32,
    /// Number of nodes on the wanted version.
    pub done: u32,
    /// Number of nodes in work.
    pub active: u32,
    /// Number of nodes still to come.
    pub waiting: u32,
    /// Number of nodes left out: cordoned by others, not ready, opted out, or not drained in time.
    pub skipped: u32,
    /// Number of nodes in work that have failed or are late.
    pub failed: u32,
}

/// More nodes than this are never in work at once: their claims have to fit into one record.
pub const WINDOW_LIMIT: usize = 1000;
