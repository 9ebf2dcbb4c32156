//! `/gum/v1/upgrades/{id}/events`: an upgrade as it happens, as server-sent events.
//!
//! | event | when | data |
//! | --- | --- | --- |
//! | `timeline` | for each entry of the record's timeline | `at`, `step`, `message` |
//! | `progress` | at the beginning, and when one of these changes | `phase`, `step`, `goal`, `nodes`, `waitingOn` |
//! | `end` | once, as the last | `phase`, `message` |
//! | `closing` | instead of `end`, when the stream ends before the upgrade does | `message`, `status` |
//!
//! `closing` says why: with status 503 this replica stops, and whoever connects again is served by another; any other
//! status is what a new connection would be answered.
//!
//! An id is `<time>.<digest>-<digest>`: the last entry of the timeline that was sent, and the
//! last progress. Whoever comes back with `Last-Event-ID` gets what comes after it, whichever replica answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::auth::{self, May};
use super::envelope::{ApiError, AsIs, in_order};
use super::query::NoQuery;
use super::records::{Lenient, Unreadable};
use super::request::Name;
use crate::explain::view::{Waiting, waiting_on};
use crate::record::rolling::NodeCounts;
use crate::record::{GcuUpgrade, Goal, Phase, Step, TimelineEntry};
use crate::store::Known;

/// A comment is sent after so long without an event: both sides notice when the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Said to whoever listens when this replica stops.
const CLOSING: &str = "this replica is stopping; the upgrade goes on: connect again";
/// In the place of the digest, before a progress was sent: no digest is so short.
const NONE: &str = "0";
/// The end of the last event's id.
const END: &str = "-end";

/// `GET /gum/v1/upgrades/{id}/events`
pub(super) async fn events(
    context: May<auth::Get>,
    Name(id): Name,
    headers: HeaderMap,
    _: NoQuery,
) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let api: Api<Lenient> = Api::all(context.client.clone());
    let record = context.record(&id).await?.0.map_err(|unreadable| unreadable.refusal())?;
    if last.ends_with(END) && record.phase().is_final() {
        // Tells a browser's EventSource not to come back.
        let mut nothing = StatusCode::NO_CONTENT.into_response();
        nothing.extensions_mut().insert(AsIs);
        return Ok(nothing);
    }
    let share = context.shares.stream()?;
    let only = watcher::Config::default().fields(&format!("metadata.name={id}"));
    let changes = watcher(api, only).default_backoff().boxed();
    let asked: Context = (*context).clone();
    let lost = async move { asked.standing.lost(&asked).await };
    let feed = Feed {
        known: context.known.clone(),
        teller: Teller::after(last),
        changes,
        waiting: VecDeque::new(),
        over: false,
        stop: context.stop.clone(),
        lost: lost.boxed(),
        _share: share,
    };
    let sse =
        Sse::new(feed.stream(record)).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("still here"));
    let mut response = sse.into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.extensions_mut().insert(AsIs);
    Ok(response)
}

/// What stands in a `progress`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress<'a> {
    phase: Phase,
    step: Step,
    goal: Goal,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<&'a NodeCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_on: Option<Waiting>,
}

/// What stands in an `end`.
#[derive(Serialize)]
struct End<'a> {
    phase: Phase,
    message: &'a str,
}

/// What stands in a `closing`.
#[derive(Serialize)]
struct Closing<'a> {
    status: u16,
    message: &'a str,
}

/// A stream that is open.
struct Feed {
    known: Arc<dyn Known>,
    teller: Teller,
    changes: BoxStream<'static, Result<watcher::Event<Lenient>, watcher::Error>>,
    waiting: VecDeque<Told>,
    over: bool,
    stop: CancellationToken,
    /// Ends when the caller may not listen any more.
    lost: BoxFuture<'static, ApiError>,
    _share: OwnedSemaphorePermit,
}

impl Feed {
    fn stream(mut self, first: GcuUpgrade) -> impl Stream<Item = Result<Event, Infallible>> {
        self.take(&first);
        stream::unfold((self, first), |(mut feed, mut last)| async move {
            loop {
                if let Some(told) = feed.waiting.pop_front() {
                    return Some((told.event(), (feed, last)));
                }
                if feed.over {
                    return None;
                }
                feed.hear(&mut last).await;
            }
        })
    }

    /// Waits for one change of the record, or for a reason to end the stream.
    async fn hear(&mut self, last: &mut GcuUpgrade) {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let change = tokio::select! {
            change = self.changes.next() => change,
            refusal = &mut self.lost => return self.close(&refusal),
            () = self.stop.cancelled() => {
                return self.close(&ApiError::new(StatusCode::SERVICE_UNAVAILABLE, CLOSING));
            }
        };
        match change {
            Some(Ok(Apply(Lenient(record)) | InitApply(Lenient(record)))) if is_same(&record, last) => {
                match record {
                    Ok(record) => {
                        self.take(&record);
                        *last = record;
                    }
                    Err(unreadable) => self.close(&unreadable.refusal()),
                }
            }
            // Another of its name can only come after it is gone.
            Some(Ok(Apply(_) | InitApply(_) | Delete(_))) => {
                self.waiting.extend(self.teller.end(last, "the record was deleted"));
                self.over = true;
            }
            // The watch backs off and begins anew.
            Some(Ok(Init | InitDone) | Err(_)) => {}
            None => self.over = true,
        }
    }

    /// Ends the stream before the upgrade ends.
    fn close(&mut self, why: &ApiError) {
        self.waiting.push_back(
            self.teller.told("closing", Closing { status: why.status.as_u16(), message: &why.message }),
        );
        self.over = true;
    }

    fn take(&mut self, record: &GcuUpgrade) {
        // Whoever hears of it and reads it then is shown nothing older.
        self.known.at_least(record);
        self.waiting.extend(self.teller.tell(record));
        self.over = record.phase().is_final();
    }
}

fn is_same(record: &Result<GcuUpgrade, Unreadable>, last: &GcuUpgrade) -> bool {
    let uid = record.as_ref().map_or_else(Unreadable::uid, |r| r.metadata.uid.as_ref());
    uid == last.metadata.uid.as_ref()
}

/// What has been told, so that nothing is told twice and nothing left out.
#[derive(Debug, Default)]
struct Teller {
    /// The last entry of the timeline: see [`numbered`].
    entry: Option<String>,
    /// The digest of the last progress; empty before the first.
    progress: String,
}

/// An event to be sent.
#[derive(Debug, PartialEq)]
struct Told {
    kind: &'static str,
    id: String,
    data: Value,
}

impl Told {
    fn event(self) -> Result<Event, Infallible> {
        // Written as JSON the data has no line breaks, which an event's data may not have.
        Ok(Event::default().event(self.kind).id(self.id).data(self.data.to_string()))
    }
}

impl Teller {
    /// Goes on after an event of this id; from the beginning after any other.
    fn after(id: &str) -> Self {
        match id.split_once('-') {
            Some((entry, progress)) => {
                Self { entry: Some(entry.to_owned()), progress: progress.trim_end_matches(END).to_owned() }
            }
            None => Self::default(),
        }
    }

    /// What this version of the record adds.
    fn tell(&mut self, record: &GcuUpgrade) -> Vec<Told> {
        let status = record.known_status();
        let mut all = Vec::new();
        let entries = numbered(&status.timeline);
        // The oldest entries are dropped first: where the last one told is gone, all that are left came after it.
        let told = entries
            .iter()
            .position(|(id, _)| Some(id) == self.entry.as_ref())
            .map_or(0, |at| at.saturating_add(1));
        for (id, entry) in entries.into_iter().skip(told) {
            self.entry = Some(id);
            all.push(self.told("timeline", entry));
        }
        let progress = in_order(Progress {
            phase: status.phase,
            step: status.step,
            goal: status.goal,
            nodes: status.rolling.as_ref().filter(|r| r.max_unavailable > 0).map(|r| &r.nodes),
            waiting_on: waiting_on(&status),
        });
        let digest = digest(&progress);
        if digest != self.progress {
            self.progress = digest;
            all.push(self.told("progress", progress));
        }
        if status.phase.is_final() {
            all.extend(self.end(record, &status.message));
        }
        all
    }

    fn end(&self, record: &GcuUpgrade, message: &str) -> Option<Told> {
        let mut told = self.told("end", End { phase: record.phase(), message });
        told.id.push_str(END);
        Some(told)
    }

    fn told(&self, kind: &'static str, data: impl Serialize) -> Told {
        let or_none = |text: &str| if text.is_empty() { NONE.to_owned() } else { text.to_owned() };
        let entry = self.entry.as_deref().unwrap_or_default();
        Told { kind, id: format!("{}-{}", or_none(entry), or_none(&self.progress)), data: in_order(data) }
    }
}

/// The entries, each with its second and a digest; of those that are alike, with which of them it is.
fn numbered(timeline: &[TimelineEntry]) -> Vec<(String, &TimelineEntry)> {
    let mut all: Vec<(String, &TimelineEntry)> = Vec::new();
    for entry in timeline {
        let alike = all.iter().filter(|(_, other)| *other == entry).count();
        all.push((format!("{}.{}", entry.at.as_second(), digest(&json!([entry, alike]))), entry));
    }
    all
}

fn digest(value: &Value) -> String {
    format!("{:x}", Sha256::digest(value.to_string())).chars().take(8).collect()
}
