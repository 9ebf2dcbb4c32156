//! `/gum/v1/upgrades` and the history: what was asked, how far it is, and how it ended.

use std::collections::BTreeMap;

use axum::extract::Path;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::auth::{self, May};
use super::envelope::{ApiError, Reply};
use super::form::Form;
use super::query::{NoQuery, RecordQuery};
use super::records::{Lenient, Records, age};
use super::request::Name;
use super::waiting::insert;
use crate::explain::view::{summary, whole};
use crate::frame::{self, Look, view};
use crate::plan::preflight::{self, revisions};
use crate::record::{GcuUpgrade, Phase};

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
