//! `/gum/v1/upgrades` and the history: what was asked, how far it is, and how it ended.

use std::collections::BTreeMap;

use axum::extract::Path;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::auth::{self, May};
use super::envelope::{ApiError, Reply, in_order};
use super::form::Form;
use super::query::{NoQuery, RecordQuery};
use super::records::{Lenient, Records, UnreadableUpgrade, age};
use super::request::Name;
use crate::explain::schema::{kubernetes_object, never_null};
use crate::explain::view::{Upgrade, UpgradeSummary, summary, whole};
use crate::frame::{self, Look, view};
use crate::plan::preflight::{self, revision_numbers};
use crate::record::{GcuUpgrade, Phase};

/// A record in a list of records.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum ListedUpgrade {
    Readable(Box<UpgradeSummary>),
    Unreadable(UnreadableUpgrade),
}

/// What can be returned to: a record, or what the oldest record replaced.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RevisionOf{T}")]
pub(super) struct RevisionOf<T> {
    /// Its number, for a rollback.
    revision: u64,
    /// Whether it runs, as far as the records tell.
    current: bool,
    #[serde(flatten)]
    of: T,
}

/// A revision in a history.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum ListedRevision {
    Readable(Box<RevisionOf<UpgradeSummary>>),
    Unreadable(RevisionOf<UnreadableUpgrade>),
    Replaced(RevisionOf<Replaced>),
}

/// What the oldest record replaced.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(transform = never_null)]
pub(super) struct Replaced {
    /// Tells it from a record.
    #[schemars(extend("enum" = ["Replaced"]))]
    outcome: &'static str,
    /// What it is, in a sentence.
    message: &'static str,
    /// The manifest; absent in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes_object")]
    target: Option<Value>,
}

impl Replaced {
    fn with(target: Option<Value>) -> Self {
        Self { outcome: "Replaced", message: "what was there before the oldest upgrade on record", target }
    }
}

/// `GET /gum/v1/upgrades`, newest first.
pub(super) async fn list(context: May<auth::List>, form: Form, _: NoQuery) -> Result<Reply, ApiError> {
    let now = context.clock.now();
    let mut entries = Vec::new();
    context.each_record(|record| entries.push((age(&record), entry(&record, now)))).await?;
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    let content: Vec<ListedUpgrade> = entries.into_iter().map(|(_, entry)| entry).collect();
    form.reply(&content, now, |all: Vec<view::Upgrade>, look| frame::list::upgrades_plain(&all, look))
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
        return form.reply(&content, now, |one: view::Upgrade, look| frame::history::revision(&one, look));
    }
    Ok(Reply::rendered(&StateFirst(in_order(content))))
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
    let running = running(&records);
    let mut views: BTreeMap<u64, ListedRevision> = BTreeMap::new();
    for number in revision_numbers(&records) {
        let current = Some(number) == running;
        let view = match records.iter().find(|r| r.number() == number) {
            Some(record) => {
                let view = RevisionOf { revision: number, current, of: summary(record, now) };
                ListedRevision::Readable(Box::new(view))
            }
            None => {
                ListedRevision::Replaced(RevisionOf { revision: number, current, of: Replaced::with(None) })
            }
        };
        views.insert(number, view);
    }
    for (number, record) in &unreadable {
        let current = Some(*number) == running;
        let view = RevisionOf { revision: *number, current, of: record.view() };
        views.insert(*number, ListedRevision::Unreadable(view));
    }
    let content: Vec<ListedRevision> = views.into_values().rev().collect();
    form.reply(&content, now, |all: Vec<view::Upgrade>, look| frame::history::revisions_plain(&all, look))
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
        return Ok(Reply::with(RevisionOf { revision: number, current: false, of: record.view() }));
    }
    if records.is_empty() && unreadable.is_empty() {
        context.find(&name).await?;
    }
    let found = preflight::revision(&name, &records, Some(number), None)?;
    let current = Some(number) == running(&records);
    let (target, now) = (Some(found.manifest), context.clock.now());
    let draw = |one: view::Upgrade, look: &Look| frame::history::revision(&one, look);
    match records.iter().find(|r| r.number() == number) {
        Some(record) => {
            let of = Upgrade { target, ..whole(record, true, now) };
            form.reply(&RevisionOf { revision: number, current, of }, now, draw)
        }
        None => form.reply(&RevisionOf { revision: number, current, of: Replaced::with(target) }, now, draw),
    }
}

/// The revision that runs, as far as the records tell.
fn running(records: &[GcuUpgrade]) -> Option<u64> {
    records.iter().find(|r| r.phase() == Phase::Succeeded).map(GcuUpgrade::number)
}

fn entry(record: &Lenient, now: Timestamp) -> ListedUpgrade {
    match &record.0 {
        Ok(record) => ListedUpgrade::Readable(Box::new(summary(record, now))),
        Err(unreadable) => ListedUpgrade::Unreadable(unreadable.view()),
    }
}
