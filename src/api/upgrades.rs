//! `/gum/v1/upgrades` and the history: what was asked, how far it is, and how it ended.

use std::collections::BTreeMap;

use axum::extract::Path;
use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::auth::{self, May};
use super::envelope::{ApiError, Reply};
use super::form::Form;
use super::query::{NoQuery, RecordQuery};
use super::records::{Lenient, Records, age};
use super::request::Name;
use super::waiting::insert;
use super::without_nulls;
use crate::explain::change::change;
use crate::explain::progress::progress;
use crate::frame::{self, Look, view};
use crate::plan::preflight::{self, revisions};
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Phase, Step};

/// `GET /gum/v1/upgrades`, newest first.
pub(super) async fn list(context: May<auth::List>, form: Form, _: NoQuery) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let mut entries = Vec::new();
    context.each_record(|record| entries.push((age(&record), entry(&record, now)))).await?;
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let content = entries.into_iter().map(|(_, entry)| entry).collect();
    form.reply(content, now, |all: Vec<view::Upgrade>, look| frame::list::upgrades_plain(&all, look))
}

/// `GET /gum/v1/upgrades/{id}`
pub(super) async fn get(
    context: May<auth::Get>,
    Name(id): Name,
    form: Form,
    query: RecordQuery,
) -> Result<Reply, ApiError> {
    let record = match context.record(&id).await?.0 {
        Ok(record) => context.watch_record(record, query.wait).await?,
        Err(unreadable) => return Ok(Reply::with(unreadable.view())),
    };
    let now = context.clock.now();
    let content = whole(&record, query.manifests, now);
    if form == Form::Text {
        return form.reply(content, now, |one: view::Upgrade, look| frame::history::revision(&one, look));
    }
    Ok(Reply::rendered(&StateFirst(content)))
}

/// How an upgrade is stands before what was asked: people read the first lines.
struct StateFirst(Value);

/// What stands first, in this order.
const STATE: [&str; 9] =
    ["name", "phase", "step", "message", "waitingOn", "outcome", "stepSince", "deadline", "timeline"];

impl Serialize for StateFirst {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = || self.0.as_object().into_iter().flatten();
        let first = STATE.iter().filter_map(|name| fields().find(|(key, _)| key == name));
        let rest = fields().filter(|(key, _)| !STATE.contains(&key.as_str()));
        serializer.collect_map(first.chain(rest))
    }
}

/// `GET /gum/v1/gr/{name}/history`: the revisions that can be returned to.
pub(super) async fn history(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    _: NoQuery,
) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let Records { readable: records, unreadable } = context.legible_records(&name).await?;
    if records.is_empty() && unreadable.is_empty() {
        // Tells a gr that was never upgraded from one that is not there.
        context.find(&name).await?;
    }
    let mut views: BTreeMap<u64, Value> = BTreeMap::new();
    for number in revisions(&records) {
        let record = records.iter().find(|r| r.number() == number);
        views.insert(number, record.map_or_else(replaced, |record| summary(record, now)));
    }
    views.extend(unreadable.iter().map(|(number, record)| (*number, record.view())));
    let current = current(&records);
    let entry = |(number, mut view): (u64, Value)| {
        insert(&mut view, "revision", json!(number));
        insert(&mut view, "current", json!(Some(number) == current));
        view
    };
    let content = views.into_iter().rev().map(entry).collect();
    form.reply(content, now, |all: Vec<view::Upgrade>, look| frame::history::revisions_plain(&all, look))
}

/// `GET /gum/v1/gr/{name}/history/{revision}`: one revision, whole.
pub(super) async fn revision(
    context: May<auth::Get>,
    Name(name): Name,
    Path((_, number)): Path<(String, String)>,
    form: Form,
    _: NoQuery,
) -> Result<Reply, ApiError> {
    let number: u64 = number.parse().map_err(|_| {
        ApiError::bad_request(format!("{number:?} is no revision: a number such as 1, see the history"))
    })?;
    let Records { readable: records, unreadable } = context.legible_records(&name).await?;
    if let Some((_, record)) = unreadable.iter().find(|(n, _)| *n == number) {
        let mut view = record.view();
        insert(&mut view, "revision", json!(number));
        insert(&mut view, "current", json!(false));
        return Ok(Reply::with(view));
    }
    if records.is_empty() && unreadable.is_empty() {
        context.find(&name).await?;
    }
    let found = preflight::revision(&name, &records, Some(number), None)?;
    let mut view = match records.iter().find(|r| r.number() == number) {
        Some(record) => whole(record, true, context.clock.now()),
        None => replaced(),
    };
    insert(&mut view, "revision", json!(number));
    insert(&mut view, "current", json!(Some(number) == current(&records)));
    insert(&mut view, "target", found.manifest);
    let draw = |one: view::Upgrade, look: &Look| frame::history::revision(&one, look);
    form.reply(view, context.clock.now(), draw)
}

/// The revision that runs, as far as the records tell.
fn current(records: &[GcuUpgrade]) -> Option<u64> {
    records.iter().find(|r| r.phase() == Phase::Succeeded).map(GcuUpgrade::number)
}

fn replaced() -> Value {
    json!({ "outcome": "Replaced", "message": "what was there before the oldest upgrade on record" })
}

fn entry(record: &Lenient, now: Timestamp) -> Value {
    match &record.0 {
        Ok(record) => summary(record, now),
        Err(unreadable) => unreadable.view(),
    }
}

fn summary(record: &GcuUpgrade, now: Timestamp) -> Value {
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
        "efficiency": progress.efficiency,
        "estimatedEnd": progress.estimated_end,
        "estimatedEndEarliest": progress.estimated_end_earliest,
        "estimatedEndLatest": progress.estimated_end_latest,
        "acknowledged": progress.acknowledged,
    }))
}

/// What is waited for, since when and until when.
pub(super) fn waiting_on(status: &GcuUpgradeStatus) -> Option<Value> {
    let waiting = status.waiting_on.as_ref()?;
    Some(without_nulls(json!({
        "reason": waiting.reason, "message": waiting.message, "since": waiting.since, "until": deadline(status),
    })))
}

/// A rollout's nodes have deadlines of their own: the step as such has none.
fn deadline(status: &GcuUpgradeStatus) -> Option<Timestamp> {
    status.deadline.filter(|_| status.step != Step::Rolling)
}

fn whole(record: &GcuUpgrade, manifests: bool, now: Timestamp) -> Value {
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
