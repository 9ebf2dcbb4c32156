//! A record as it is answered: the same for REST, for the command line and for whoever watches. The types are what the
//! description of the API says of it, too.

use jiff::Timestamp;
use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::change::change;
use super::progress::{Progress, progress};
use super::schema::{kubernetes_object, never_null};
use super::window::{WindowView, window};
use crate::record::maintenance::Maintenance;
use crate::record::rolling::{NodeCounts, RollingStatus, RollingUpdate};
use crate::record::{
    Deadlines, GcuUpgrade, GcuUpgradeStatus, Goal, Intent, OnFailure, Operation, Phase, Steered, Step,
    Strategy, TimelineEntry, WaitReason,
};

/// A record as an entry of a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub struct UpgradeSummary {
    /// The record: `<gr>-<n>`.
    pub name: String,
    /// The gr.
    pub gr: String,
    /// What was asked for.
    pub operation: Operation,
    /// How the change is made.
    pub strategy: Strategy,
    /// The blueprint that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blueprint: Option<String>,
    /// SHA-256 of that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The revision that this one repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_revision: Option<u64>,
    /// What it changes, in a few words; absent when nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Why, in the words of who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The risks that whoever asked had accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// Who asked, where the service asks who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The last command that was given to it, and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steered_by: Option<Steered>,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Timestamp>,
    /// When it was taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The upgrade as a whole.
    pub phase: Phase,
    /// What is being done.
    pub step: Step,
    /// The last thing worth knowing. Once it has ended: how and why.
    pub message: String,
    /// Why it turned back to the previous version; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Which version is being brought about.
    pub goal: Goal,
    /// Node counts by state; a RollingUpdate's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// What is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<Waiting>,
    /// How it stands to its maintenance windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowView>,
    /// The time that a window without any delay of the service would have taken so far, divided by the time taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efficiency: Option<f64>,
    /// When all nodes should be done, at the rate so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end: Option<Timestamp>,
    /// The same, if each node took as long as the fastest of those done last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end_earliest: Option<Timestamp>,
    /// The same, if each took as long as the slowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end_latest: Option<Timestamp>,
    /// Whether the controller has taken the last change of the request into account.
    pub acknowledged: bool,
}

/// What is waited for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "WaitingOn", transform = never_null)]
pub struct Waiting {
    /// Why it waits, as one CamelCase word.
    pub reason: WaitReason,
    /// What is waited for, in a sentence.
    pub message: String,
    /// When the wait began.
    pub since: Timestamp,
    /// When the upgrade is held, if it has not ended by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A record, whole.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub struct Upgrade {
    /// What a list shows of it, too.
    #[serde(flatten)]
    pub summary: UpgradeSummary,
    /// What is wanted of it.
    pub intent: Intent,
    /// The `Idempotency-Key` of the request that began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What happens when it fails.
    pub on_failure: OnFailure,
    /// How long each step may take.
    pub deadlines: Deadlines,
    /// Since when this step is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_since: Option<Timestamp>,
    /// When this step is held if it has not ended by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The components that were asked for; absent: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// When nodes may be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Why nodes are taken outside of maintenance windows too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_window: Option<String>,
    /// The options of a RollingUpdate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
    /// How far a RollingUpdate is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling: Option<RollingStatus>,
    /// What happened when.
    pub timeline: Vec<TimelineEntry>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The manifest that it brings about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes_object")]
    pub target: Option<Value>,
    /// The manifest that it replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes_object")]
    pub previous: Option<Value>,
}

/// How an upgrade ended.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(transform = never_null)]
pub struct Outcome {
    /// The upgrade as a whole.
    pub phase: Phase,
    /// Why it ended so, as one CamelCase word that programs may rely on.
    pub reason: String,
    /// How it ended, in a sentence.
    pub message: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// As an entry of a list.
pub fn summary(record: &GcuUpgrade, now: Timestamp) -> UpgradeSummary {
    let status = record.status_or_default();
    let spec = &record.spec;
    let Progress {
        nodes,
        efficiency,
        estimated_end,
        estimated_end_earliest,
        estimated_end_latest,
        acknowledged,
        ..
    } = progress(record, now);
    UpgradeSummary {
        name: record.name_any(),
        gr: spec.gr.clone(),
        operation: spec.operation,
        strategy: spec.strategy,
        blueprint: spec.target.blueprint.clone(),
        sha256: spec.target.sha256.clone(),
        of_revision: spec.target.of_revision,
        change: change(record),
        reason: spec.reason.clone(),
        accepted: spec.accepted.clone(),
        requested_by: spec.requested_by.clone(),
        steered_by: spec.steered_by.clone(),
        requested_at: record.creation_timestamp().map(|at| at.0),
        started_at: status.started_at,
        finished_at: status.finished_at,
        phase: status.phase,
        step: status.step,
        goal: status.goal,
        waiting_on: waiting_on(&status),
        window: window(record, now),
        message: status.message,
        cause: status.cause,
        nodes,
        efficiency,
        estimated_end,
        estimated_end_earliest,
        estimated_end_latest,
        acknowledged,
    }
}

/// What is waited for, since when and until when.
pub fn waiting_on(status: &GcuUpgradeStatus) -> Option<Waiting> {
    let waiting = status.waiting_on.as_ref()?;
    Some(Waiting {
        reason: waiting.reason,
        message: waiting.message.clone(),
        since: waiting.since,
        until: deadline(status),
    })
}

/// A rollout's nodes have deadlines of their own: the step as such has none.
fn deadline(status: &GcuUpgradeStatus) -> Option<Timestamp> {
    status.deadline.filter(|_| status.step != Step::Rolling)
}

/// A record, whole; with both manifests where they are wanted.
pub fn whole(record: &GcuUpgrade, manifests: bool, now: Timestamp) -> Upgrade {
    let status = record.status_or_default();
    let spec = &record.spec;
    let outcome = status.holding("Finished").map(|end| Outcome {
        phase: status.phase,
        reason: end.reason.clone(),
        message: end.message.clone(),
        at: status.finished_at,
    });
    Upgrade {
        summary: summary(record, now),
        intent: spec.intent,
        idempotency_key: spec.request.as_ref().and_then(|request| request.idempotency_key.clone()),
        on_failure: spec.on_failure,
        deadlines: spec.deadlines,
        step_since: status.step_since,
        deadline: deadline(&status),
        components: spec.components.clone(),
        maintenance: spec.maintenance.clone(),
        override_window: spec.override_window.clone(),
        rolling_update: spec.rolling_update.clone(),
        rolling: status.rolling,
        timeline: status.timeline,
        outcome,
        target: manifests.then(|| spec.target.manifest.clone()),
        previous: spec.previous.as_ref().filter(|_| manifests).map(|previous| previous.manifest.clone()),
    }
}
