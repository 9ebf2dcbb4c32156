//! How far an upgrade is, and why it is not progressing.

use jiff::Timestamp;
use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;
use tracing::debug;

use super::Context;
use super::auth::{self, May};
use super::envelope::{ApiError, Reply};
use super::form::Form;
use super::held::{self, Held};
use super::query::{NoQuery, WaitQuery};
use super::request::Name;
use crate::cluster::error_text;
use crate::explain::obstacles::Why;
use crate::explain::progress::{Progress, progress};
use crate::explain::schema::never_null;
use crate::explain::view::{Waiting, waiting_on};
use crate::explain::why::why;
use crate::observe::budgets;
use crate::plan::budget::Budget;
use crate::plan::fleet::Fleet;
use crate::plan::preflight;
use crate::record::{GcuUpgrade, Step, Strategy};

/// How far the upgrade of a gr is that is under way, or was the last.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub(super) struct Status {
    #[serde(flatten)]
    progress: Progress,
    /// When it was taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// What is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_on: Option<Waiting>,
    /// True when there is no gr of this name any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    /// The DaemonSets of the gr that are held at OnDelete now, also when no upgrade is under way; absent when they
    /// cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Vec<Held>>,
}

/// That a gr has never been upgraded.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(transform = never_null)]
pub(super) struct NeverUpgraded {
    /// The gr.
    gr: String,
    /// The same in one line for people.
    message: String,
    /// The DaemonSets of the gr that are held at OnDelete all the same; absent when they cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Vec<Held>>,
}

/// Why an upgrade is not progressing, and what it waits for.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Why", transform = never_null)]
pub(super) struct Explained {
    #[serde(flatten)]
    why: Why,
    /// The record; absent when no upgrade is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_on: Option<Waiting>,
}

/// `GET /gum/v1/gr/{name}/status`: how far the upgrade of a gr is that is under way, or was the last.
pub(super) async fn status(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    WaitQuery(wait): WaitQuery,
) -> Result<Reply, ApiError> {
    let mut records = context.shown_records(&name).await?;
    let Some(record) = preflight::active(&records).or(records.first()) else {
        context.find(&name).await?;
        let message = never(&name);
        let held = context.held(&name, &records).await;
        return Ok(match form {
            Form::Text => Reply::text(with_held(message, held)),
            Form::Json => Reply::with(NeverUpgraded { gr: name, message, held }),
        });
    };
    let record = context.watch_record(record.clone(), wait).await?;
    if wait.is_some() {
        records = context.shown_records(&name).await?;
    }
    let mut progress = progress(&record, context.clock.now());
    let gone = record.phase().is_final() && context.find_if_any(&name).await?.is_none();
    if gone {
        progress.message = gone_too(&progress.message, &name);
    }
    let held = context.held(&name, &records).await;
    if form == Form::Text {
        let without_an_upgrade = held.filter(|_| record.phase().is_final());
        return Ok(Reply::text(with_held(progress.message, without_an_upgrade)));
    }
    let status = record.known_status();
    Ok(Reply::with(Status {
        progress,
        started_at: status.started_at,
        finished_at: status.finished_at,
        waiting_on: waiting_on(&status),
        deleted: gone.then_some(true),
        held,
    }))
}

/// A second line says what is held though no upgrade is under way.
fn with_held(message: String, held: Option<Vec<Held>>) -> String {
    match held.and_then(|held| held::line(&held)) {
        Some(line) => format!("{message}\n{line}"),
        None => message,
    }
}

/// How a gr stands, in one line: `record` is of the upgrade that is under way, or was the last.
pub(super) fn line(record: Option<&GcuUpgrade>, gr: &str, is_there: bool, now: Timestamp) -> String {
    let Some(record) = record else { return never(gr) };
    let message = progress(record, now).message;
    if record.phase().is_final() && !is_there { gone_too(&message, gr) } else { message }
}

fn gone_too(message: &str, gr: &str) -> String {
    format!("{message}; gr {gr} is not there any more")
}

fn never(gr: &str) -> String {
    format!("gr {gr} has never been upgraded")
}

/// `GET /gum/v1/gr/{name}/why`: what keeps each node, and the upgrade, from getting on.
pub(super) async fn explain(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    _: NoQuery,
) -> Result<Reply, ApiError> {
    let words = format!("{name} {form:?}");
    context.shares.looks.reply("why", &words, Box::pin(context.explained(&name, form))).await
}

impl Context {
    async fn explained(&self, name: &str, form: Form) -> Result<Reply, ApiError> {
        let records = self.shown_records(name).await?;
        let Some(record) = preflight::active(&records) else {
            let message = match records.first() {
                Some(last) => {
                    let last = progress(last, self.clock.now()).message;
                    format!("no upgrade of gr {name} is under way; the last: {last}")
                }
                None => {
                    self.find(name).await?;
                    never(name)
                }
            };
            return Ok(match form {
                Form::Text => Reply::text(message),
                Form::Json => Reply::with(Explained {
                    why: Why { message, ..Why::default() },
                    name: None,
                    waiting_on: None,
                }),
            });
        };
        let why = self.why(name, record).await?;
        if form == Form::Text {
            return Ok(Reply::text(why_text(&why)));
        }
        let waiting_on = waiting_on(&record.known_status());
        Ok(Reply::with(Explained { why, name: Some(record.name_any()), waiting_on }))
    }

    async fn why(&self, name: &str, record: &GcuUpgrade) -> Result<Why, ApiError> {
        let now = self.clock.now();
        let rolls = record.spec.strategy == Strategy::RollingUpdate
            && matches!(record.known_status().step, Step::Rolling | Step::Restoring);
        if !rolls {
            // Before a node is touched the record alone has the answer.
            return Ok(why(record, None, &Fleet::default(), None, now));
        }
        let _turn = self.shares.looks.turn().await?;
        let found = self.find_if_any(name).await?;
        let live = found.as_ref().map(|f| &f.live);
        let (seen, budgets) = tokio::join!(self.seen_fleet(Some(record), live), self.budgets());
        Ok(why(record, live, &seen?, budgets.as_deref(), now))
    }

    /// The disruption budgets; `None` when they cannot be read. What they would add is left out then.
    pub(super) async fn budgets(&self) -> Option<Vec<Budget>> {
        match budgets::read(&self.client).await {
            Ok(budgets) => Some(budgets),
            Err(error) => {
                debug!("the disruption budgets cannot be read: {}", error_text(&error));
                None
            }
        }
    }
}

fn why_text(why: &Why) -> String {
    let mut lines = vec![why.message.clone()];
    for stuck in &why.nodes {
        let until = stuck.until.map(|at| format!(", until {at}")).unwrap_or_default();
        lines.push(format!(
            "{} ({:?} since {}{until}): {}; after that {}",
            stuck.node, stuck.stage, stuck.since, stuck.message, stuck.then
        ));
    }
    lines.extend(why.skipped.iter().map(|s| format!("{} (left out): {}", s.node, s.reason)));
    lines.join("\n")
}
