//! The status of the record: how far the upgrade is, what it waits for, what happened.

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reason;
use super::rolling::RollingStatus;
use crate::gr::Workload;

/// Status is the observed state of the upgrade: its progress, what it waits for and how it ended. Only the controller
/// writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GcuUpgradeStatus {
    /// The generation of the spec that this status takes into account.
    pub observed_generation: i64,
    /// The upgrade as a whole.
    pub phase: Phase,
    /// The version that the upgrade is heading for: the target, or the previous one after a rollback.
    pub goal: Goal,
    /// The step under way.
    pub step: Step,
    /// When this step started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub step_since: Option<Timestamp>,
    /// When this step is held if it has not ended by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Timestamp>,
    /// What is waited for, when nothing else can be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<WaitingOn>,
    /// The latest message, in a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Why the upgrade turned back to the previous version, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The `spec.attempt` that this status takes into account.
    pub attempt: u32,
    /// UID of the gr that is being, or was last, deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleting_uid: Option<String>,
    /// UID of the gr that was created or adopted for the goal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_uid: Option<String>,
    /// The workloads whose pods have to be gone before the gr is created again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workload>,
    /// When the controller started the upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub finished_at: Option<Timestamp>,
    /// What happened, oldest first; the newest entries are kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<TimelineEntry>,
    /// Nodes that have the wanted version and nodes in all, as `done/total`: what `kubectl get` shows of
    /// `rolling.nodes`. Only for a RollingUpdate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes_done: Option<String>,
    /// Progress of a RollingUpdate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling: Option<RollingStatus>,
    /// For `kubectl wait`: Progressing, Held, Finished, Succeeded; OperatorReady where the operator does not report
    /// what the cluster shows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The upgrade as a whole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, EncodeLabelValue,
)]
pub enum Phase {
    /// Not taken up yet.
    #[default]
    Pending,
    /// Under way.
    Running,
    /// A RollingUpdate takes no further node until it is resumed or promoted.
    Paused,
    /// A deadline passed or a component cannot start: goes on by itself when this recovers, or by retry or rollback.
    Held,
    /// The target runs. Final.
    Succeeded,
    /// The previous version runs again. Final.
    RolledBack,
    /// Given up, with the reason in the condition Succeeded. Final.
    Failed,
}

impl GcuUpgradeStatus {
    /// Whether this is the reason why it does not progress.
    pub fn is_because_of(&self, reason: Reason) -> bool {
        let reason = reason.to_string();
        self.conditions.iter().any(|c| c.type_ == "Progressing" && c.reason == reason)
    }

    /// The condition of this type, while it is true.
    pub fn holding(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.type_ == type_ && c.status == "True")
    }
}

impl Phase {
    /// Nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::RolledBack | Self::Failed)
    }
}

/// Which version is being brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Goal {
    /// `spec.target`.
    #[default]
    Target,
    /// `spec.previous`.
    Previous,
}

/// The steps: those of Recreate, then those of RollingUpdate.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    EncodeLabelValue,
)]
pub enum Step {
    /// Target and previous manifest are safe in the record; nothing has been touched.
    #[default]
    Recorded,
    /// The delete of exactly `deletingUid` may have been sent.
    Deleting,
    /// Until the gr and the pods of its workloads are gone.
    WaitingGone,
    /// The create may have been sent.
    Creating,
    /// Until every deployed component is rolled out.
    WaitingRunning,
    /// The DaemonSets that change are being held at OnDelete.
    Locking,
    /// A harmless component of the gr is changed, to see whether the operator changes its DaemonSets in place.
    Probing,
    /// The change of the gr may have been sent.
    Patching,
    /// Until the operator has put the change into its DaemonSets; no node is touched before.
    Propagating,
    /// Node by node.
    Rolling,
    /// The DaemonSets get their update strategies back, then everything has to run.
    Restoring,
    /// Ended.
    Done,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingOn {
    /// What is waited for, as one CamelCase word that programs may rely on.
    pub reason: WaitReason,
    /// What is waited for, in a sentence that names the objects concerned.
    pub message: String,
    /// When the wait began. A change of `message` alone does not restart it.
    #[schemars(with = "String")]
    pub since: Timestamp,
}

/// Everything that an upgrade can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WaitReason {
    /// The gr is terminating: the operator, or another holder of a finalizer, has not let go of it.
    GrTerminating,
    /// Pods of the old stack have not ended.
    PodsTerminating,
    /// The operator has not yet taken up, or not yet finished, the new gr.
    OperatorDeploying,
    /// A component's workload does not exist yet or is not fully rolled out.
    ComponentStarting,
    /// A pod visibly cannot start.
    PodFailing,
    /// The API server refuses a call.
    CallRefused,
    /// The view of the gr is older than what has been done already.
    ViewSettling,
    /// The DaemonSets are at OnDelete; whether that lasts is being looked at.
    LockSettling,
    /// The operator has not yet put the change into its DaemonSets.
    OperatorPropagating,
    /// Nodes are in work.
    NodesInWork,
    /// A person has paused the rollout.
    Paused,
    /// The next step waits for `promote`.
    AwaitingPromotion,
    /// The next step waits for its time.
    PauseBetween,
    /// No maintenance window is open for what is to be done next.
    OutsideWindow,
    /// A maintenance window is open, and what is to be done next should not be done before it ends.
    WouldOutlastWindow,
    /// Nodes that were claimed are being released.
    NodesReleasing,
    /// All nodes are done: the DaemonSets get their update strategies back.
    RestoringStrategies,
    /// A DaemonSet of a component has vanished, appeared, or is another object than before.
    WorkloadChanged,
}

/// An event in the course of the upgrade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// When it happened.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The step during which it happened.
    pub step: Step,
    /// What happened, in a sentence.
    pub message: String,
}

/// A condition in the Kubernetes form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of the condition: Progressing, Held, Finished, Succeeded or OperatorReady.
    #[serde(rename = "type")]
    pub type_: String,
    /// Status of the condition: True, False or Unknown.
    pub status: String,
    /// Why the condition has this status, as one CamelCase word that programs may rely on.
    pub reason: String,
    /// Why the condition has this status, in a sentence; empty where there is nothing to add.
    pub message: String,
    /// When `status` last changed.
    #[schemars(with = "String")]
    pub last_transition_time: Timestamp,
}
