//! What a call that starts a job asks for, and what it is answered.

use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::query::JobQuery;
use super::request::{JobBody, StrategyOptions};
use super::waiting::{Stands, location};
use crate::explain::preview::Preview;
use crate::explain::risk::{Risk, messages};
use crate::explain::schema::never_null;
use crate::record::maintenance::Maintenance;
use crate::record::rolling::{Amount, RollingUpdate};
use crate::record::{Deadlines, GcuUpgrade, OnFailure, Operation, Phase, Request, Revision, Strategy};

/// A call that starts a job.
pub(super) struct Call<'a> {
    pub(super) gr: &'a str,
    pub(super) body: &'a JobBody,
    pub(super) query: JobQuery,
    /// What its repetition is known by.
    pub(super) request: Request,
}

/// What is to be started.
pub(super) struct UpgradeRequest {
    pub(super) operation: Operation,
    pub(super) target: Revision,
    pub(super) risks: Vec<Risk>,
    pub(super) options: StrategyOptions,
}

/// The job that starts, with every default filled in.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub(super) struct Job {
    /// The record: `<gr>-<n>`.
    name: String,
    /// Where the record is to be seen.
    upgrade: String,
    /// How the change is made.
    strategy: Strategy,
    /// The components asked for; none: all.
    components: Vec<String>,
    /// The options of a RollingUpdate; null for a Recreate.
    rolling_update: Option<RollingUpdate>,
    /// A Recreate's; null for a RollingUpdate.
    failure_threshold: Option<Amount>,
    /// How long each step may take.
    deadlines: Deadlines,
    /// What happens when it fails.
    on_failure: OnFailure,
    /// When nodes may be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance: Option<Maintenance>,
    /// Why nodes are taken outside of maintenance windows too.
    #[serde(skip_serializing_if = "Option::is_none")]
    override_window: Option<String>,
    /// What to think of: of the blueprint, and of versions that do not fit.
    warnings: Vec<String>,
    /// The risks that were accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<String>,
    /// True when this request has begun the job before, and begins none now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [true]))]
    repeated: Option<bool>,
    /// After a wait, or of a job that was begun before: the upgrade as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// With it, the last thing worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Job {
    /// The job of a record.
    pub(super) fn of(record: &GcuUpgrade, risks: &[Risk]) -> Self {
        let name = record.name_any();
        let spec = &record.spec;
        Self {
            upgrade: location(&name),
            name,
            strategy: spec.strategy,
            components: spec.components.clone(),
            rolling_update: spec.rolling_update.clone(),
            failure_threshold: spec.failure_threshold,
            deadlines: spec.deadlines,
            on_failure: spec.on_failure,
            maintenance: spec.maintenance.clone(),
            override_window: spec.override_window.clone(),
            warnings: messages(risks),
            accepted: spec.accepted.clone(),
            repeated: None,
            phase: None,
            message: None,
        }
    }

    /// This request has begun it before.
    pub(super) fn repeated(self) -> Self {
        Self { repeated: Some(true), ..self }
    }
}

impl Stands for Job {
    fn stands(&mut self, phase: Phase, message: String) {
        self.phase = Some(phase);
        self.message = Some(message);
    }
}

/// The job that would start, and what it would do.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedJob {
    #[serde(flatten)]
    pub(super) job: Job,
    /// Tells it from a job that starts.
    #[schemars(extend("enum" = [true]))]
    pub(super) dry_run: bool,
    /// False when the gr is at this version already: nothing would be begun.
    pub(super) changed: bool,
    /// What it would do.
    pub(super) plan: Preview,
}

/// That nothing is begun: the gr is at this version already.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub(super) struct UnchangedJob {
    /// Tells it from a job that starts.
    #[schemars(extend("enum" = [false]))]
    changed: bool,
    /// That there is nothing to do, and what does it all the same.
    message: String,
    /// How the change would be made.
    strategy: Strategy,
    /// The components asked for; none: all.
    components: Vec<String>,
    /// The options of a RollingUpdate.
    #[serde(skip_serializing_if = "Option::is_none")]
    rolling_update: Option<RollingUpdate>,
    /// What to think of: of the blueprint, and of versions that do not fit.
    warnings: Vec<String>,
}

impl UnchangedJob {
    /// What is answered for a job that would change nothing.
    pub(super) fn of(call: &Call<'_>, job: &UpgradeRequest) -> Self {
        let message = format!(
            "gr {} is at this version already: nothing to do; \"force\": true in the body does it all the same",
            call.gr
        );
        Self {
            changed: false,
            message,
            strategy: job.options.strategy,
            components: call.body.components.clone(),
            rolling_update: job.options.rolling_update.clone(),
            warnings: messages(&job.risks),
        }
    }
}
