//! What a call that starts a job asks for, and what it is answered.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::query::JobQuery;
use super::request::{JobBody, StrategyOptions};
use super::waiting::{insert, location};
use crate::explain::risk::{Risk, messages};
use crate::record::{GcuUpgrade, Operation, Request, Revision};

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

/// What is answered for a job: every default is visible in it.
pub(super) fn summary(record: &GcuUpgrade, risks: &[Risk]) -> Value {
    let name = record.name_any();
    let mut content = json!({
        "name": name,
        "upgrade": location(&name),
        "strategy": record.spec.strategy,
        "components": record.spec.components,
        "rollingUpdate": record.spec.rolling_update,
        "failureThreshold": record.spec.failure_threshold,
        "deadlines": record.spec.deadlines,
        "onFailure": record.spec.on_failure,
        "warnings": messages(risks),
    });
    if let Some(windows) = &record.spec.maintenance {
        insert(&mut content, "maintenance", json!(windows));
    }
    if let Some(why) = &record.spec.override_window {
        insert(&mut content, "overrideWindow", json!(why));
    }
    if !record.spec.accepted.is_empty() {
        insert(&mut content, "accepted", json!(record.spec.accepted));
    }
    content
}
