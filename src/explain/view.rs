//! A record as it is answered: the same for REST, for the command line and for whoever watches.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::change::change;
use super::progress::progress;
use super::window::window;
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Step};

/// As an entry of a list.
pub fn summary(record: &GcuUpgrade, now: Timestamp) -> Value {
    let status = record.status_or_default();
    let progress = progress(record, now);
    without_nulls(json!({
        "name": record.name_any(),
        "gr": record.spec.gr,
        "operation": record.spec.operation,
        "strategy": record.spec.strategy,
        "blueprint": record.spec.target.blueprint,
        "sha256": record.spec.target.sha256,
        "ofRevision": record.spec.target.of_revision,
        "change": change(record),
        "reason": record.spec.reason,
        "accepted": Some(&record.spec.accepted).filter(|all| !all.is_empty()),
        "requestedBy": record.spec.requested_by,
        "steeredBy": record.spec.steered_by,
        "requestedAt": record.creation_timestamp(),
        "startedAt": status.started_at,
        "finishedAt": status.finished_at,
        "phase": status.phase,
        "step": status.step,
        "message": status.message,
        "cause": status.cause,
        "goal": status.goal,
        "nodes": progress.nodes,
        "waitingOn": waiting_on(&status),
        "window": window(record, now),
        "efficiency": progress.efficiency,
        "estimatedEnd": progress.estimated_end,
        "estimatedEndEarliest": progress.estimated_end_earliest,
        "estimatedEndLatest": progress.estimated_end_latest,
        "acknowledged": progress.acknowledged,
    }))
}

/// What is waited for, since when and until when.
pub fn waiting_on(status: &GcuUpgradeStatus) -> Option<Value> {
    let waiting = status.waiting_on.as_ref()?;
    Some(without_nulls(json!({
        "reason": waiting.reason, "message": waiting.message, "since": waiting.since, "until": deadline(status),
    })))
}

/// A rollout's nodes have deadlines of their own: the step as such has none.
fn deadline(status: &GcuUpgradeStatus) -> Option<Timestamp> {
    status.deadline.filter(|_| status.step != Step::Rolling)
}

/// A record, whole; with both manifests where they are wanted.
pub fn whole(record: &GcuUpgrade, manifests: bool, now: Timestamp) -> Value {
    let status = record.status_or_default();
    let end = status.holding("Finished");
    let outcome = end.map(|c| json!({ "phase": status.phase, "reason": c.reason, "message": c.message, "at": status.finished_at }));
    let mut view = summary(record, now);
    if let Some(object) = view.as_object_mut() {
        object.insert("intent".to_owned(), json!(record.spec.intent));
        let request = record.spec.request.as_ref();
        object.insert("idempotencyKey".to_owned(), json!(request.and_then(|r| r.idempotency_key.as_ref())));
        object.insert("onFailure".to_owned(), json!(record.spec.on_failure));
        object.insert("deadlines".to_owned(), json!(record.spec.deadlines));
        object.insert("stepSince".to_owned(), json!(status.step_since));
        object.insert("deadline".to_owned(), json!(deadline(&status)));
        object
            .insert("components".to_owned(), json!(Some(&record.spec.components).filter(|c| !c.is_empty())));
        object.insert("maintenance".to_owned(), json!(record.spec.maintenance));
        object.insert("overrideWindow".to_owned(), json!(record.spec.override_window));
        object.insert("rollingUpdate".to_owned(), json!(record.spec.rolling_update));
        object.insert("rolling".to_owned(), json!(status.rolling));
        object.insert("timeline".to_owned(), json!(status.timeline));
        object.insert("outcome".to_owned(), json!(outcome));
        if manifests {
            object.insert("target".to_owned(), record.spec.target.manifest.clone());
            object.insert("previous".to_owned(), json!(record.spec.previous.as_ref().map(|p| &p.manifest)));
        }
    }
    without_nulls(view)
}

/// Leaves out what there is not.
pub fn without_nulls(mut view: Value) -> Value {
    if let Some(object) = view.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    view
}
