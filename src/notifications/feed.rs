//! What the records tell, as a watch shows it. An event stays known here though the record has room for it no
//! longer, or is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event as Seen};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::event::{Event, events};
use crate::cluster::watch_text;
use crate::record::GcuUpgrade;
use crate::telemetry::trouble::Trouble;

/// Records fetched with one call.
const PAGE: u32 = 50;
/// What a record has told that is gone is kept for so long: longer than anybody is tried to be told of it.
const KEPT: Duration = Duration::from_secs(2 * 24 * 3600);

/// Everything that is known to have happened.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The records have been listed.
    pub is_ready: bool,
    /// By UID of the record.
    pub records: BTreeMap<String, Told>,
    /// Those that a list which is not complete has shown so far.
    listed: BTreeSet<String>,
}

/// What one record tells.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// In the order in which it was seen.
    pub events: Vec<Arc<Event>>,
    /// Those of them that the record tells now, by their entries.
    pub now: BTreeSet<String>,
    /// Since when there is no such record any more.
    pub gone: Option<Instant>,
}

impl Known {
    /// Every event, the oldest first.
    pub fn events(&self) -> Vec<Arc<Event>> {
        let mut all: Vec<Arc<Event>> = self.records.values().flat_map(|told| told.events.clone()).collect();
        all.sort_by_key(|event| event.at);
        all
    }

    /// Takes in a record; whether it tells something new.
    pub fn take(&mut self, record: &GcuUpgrade) -> bool {
        let told = self.records.entry(record.uid().unwrap_or_default()).or_default();
        let (all, before) = (events(record), told.events.len());
        told.now = all.iter().map(|event| event.entry().to_owned()).collect();
        for event in all {
            if !told.events.iter().any(|known| known.id == event.id) {
                told.events.push(Arc::new(event));
            }
        }
        told.events.len() > before
    }

    fn hear(&mut self, seen: Seen<DeserializeGuard<GcuUpgrade>>) -> bool {
        match seen {
            Seen::Init => self.listed.clear(),
            Seen::InitApply(record) => {
                let Ok(record) = record.0 else { return false };
                self.listed.insert(record.uid().unwrap_or_default());
                return self.take(&record);
            }
            Seen::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone = self.records.iter_mut().filter(|(uid, _)| !listed.contains(*uid));
                gone.for_each(|(_, told)| told.gone = told.gone.or_else(|| Some(Instant::now())));
                let first = !self.is_ready;
                self.is_ready = true;
                return first;
            }
            Seen::Apply(record) => return record.0.is_ok_and(|record| self.take(&record)),
            // What it said last may not have been seen before.
            Seen::Delete(record) => {
                let Ok(record) = record.0 else { return false };
                let news = self.take(&record);
                if let Some(told) = self.records.get_mut(&record.uid().unwrap_or_default()) {
                    told.gone = Some(Instant::now());
                }
                self.records.retain(|_, told| told.gone.is_none_or(|at| at.elapsed() < KEPT));
                return news;
            }
        }
        false
    }
}

/// Keeps it up to date. Runs until dropped.
pub(super) async fn run(client: Client, known: watch::Sender<Known>) {
    let api: Api<DeserializeGuard<GcuUpgrade>> = Api::all(client);
    let config = watcher::Config::default().page_size(PAGE);
    let mut seen = watch_objects(api, config).default_backoff().boxed();
    let mut trouble = Trouble::default();
    while let Some(event) = seen.next().await {
        match event {
            Ok(event) => {
                trouble.over();
                known.send_if_modified(|known| known.hear(event));
            }
            Err(error) => {
                if let Some(line) = trouble.again(&watch_text(&error)) {
                    warn!("notifications: cannot watch the upgrade records, trying again: {line}");
                }
            }
        }
    }
}
