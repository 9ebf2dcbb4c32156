//! `/gum/v1/upgrades` and the history: what was asked, how far it is, and how it ended.

use axum::extract::State;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};

use super::Context;
use super::envelope::{ApiError, Reply};
use super::request::Name;
use super::without_nulls;
use crate::plan::preflight::revisions;
use crate::record::{GcuUpgrade, Phase};

/// `GET /gum/v1/upgrades`, newest first.
pub(super) async fn list(State(context): State<Context>) -> Result<Reply, ApiError> {
    let mut records = context.all_records().await?;
    records.sort_by_key(|r| std::cmp::Reverse((r.creation_timestamp(), r.number())));
    Ok(Reply::with(records.iter().map(summary).collect()))
}

/// `GET /gum/v1/upgrades/{id}`
pub(super) async fn get(State(context): State<Context>, Name(id): Name) -> Result<Reply, ApiError> {
    let api: Api<GcuUpgrade> = Api::all(context.client.clone());
    Ok(Reply::with(whole(&api.get(&id).await?)))
}

/// `GET /gum/v1/gr/{name}/history`: the revisions that can be returned to.
pub(super) async fn history(State(context): State<Context>, Name(name): Name) -> Result<Reply, ApiError> {
    let records = context.records(&name).await?;
    if records.is_empty() {
        // Tells a gr that was never upgraded from one that is not there.
        context.find(&name).await?;
    }
    let current = records.iter().find(|r| r.phase() == Phase::Succeeded).map(GcuUpgrade::number);
    let mut entries = Vec::new();
    for number in revisions(&records) {
        let mut entry = match records.iter().find(|r| r.number() == number) {
            Some(record) => summary(record),
            None => {
                json!({ "outcome": "Replaced", "message": "what was there before the oldest upgrade on record" })
            }
        };
        if let Some(object) = entry.as_object_mut() {
            object.insert("revision".to_owned(), json!(number));
            object.insert("current".to_owned(), json!(Some(number) == current));
        }
        entries.push(entry);
    }
    Ok(Reply::with(Value::Array(entries)))
}

fn summary(record: &GcuUpgrade) -> Value {
    let status = record.status_or_default();
    without_nulls(json!({
        "name": record.name_any(),
        "gr": record.spec.gr,
        "operation": record.spec.operation,
        "strategy": record.spec.strategy,
        "blueprint": record.spec.target.blueprint,
        "sha256": record.spec.target.sha256,
        "ofRevision": record.spec.target.of_revision,
        "reason": record.spec.reason,
        "requestedAt": record.creation_timestamp(),
        "startedAt": status.started_at,
        "finishedAt": status.finished_at,
        "phase": status.phase,
        "step": status.step,
        "message": status.message,
    }))
}

fn whole(record: &GcuUpgrade) -> Value {
    let status = record.status_or_default();
    let waiting = status.waiting_on.as_ref().map(
        |w| json!({ "reason": w.reason, "message": w.message, "since": w.since, "until": status.deadline }),
    );
    let end = status.conditions.iter().find(|c| c.type_ == "Finished" && c.status == "True");
    let outcome = end.map(|c| json!({ "phase": status.phase, "reason": c.reason, "message": c.message, "at": status.finished_at }));
    let mut view = summary(record);
    if let Some(object) = view.as_object_mut() {
        object.insert("intent".to_owned(), json!(record.spec.intent));
        object.insert("onFailure".to_owned(), json!(record.spec.on_failure));
        object.insert("deadlines".to_owned(), json!(record.spec.deadlines));
        object.insert("goal".to_owned(), json!(status.goal));
        object.insert("stepSince".to_owned(), json!(status.step_since));
        object.insert("deadline".to_owned(), json!(status.deadline));
        object.insert("waitingOn".to_owned(), json!(waiting));
        object.insert("timeline".to_owned(), json!(status.timeline));
        object.insert("outcome".to_owned(), json!(outcome));
        object.insert("target".to_owned(), record.spec.target.manifest.clone());
        object.insert("previous".to_owned(), json!(record.spec.previous.as_ref().map(|p| &p.manifest)));
    }
    without_nulls(view)
}
