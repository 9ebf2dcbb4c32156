//! What each sink has been told, kept in the cluster: whoever acts next goes on from there.
//!
//! It is a ConfigMap of its own, with a key for each sink, in the namespace of the Lease. The Lease itself would save
//! the right to it, but is renewed every other second by a call that fails when anybody else has written; and the
//! records have their owners: what is written there wakes the upgrade.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Mutex;
use tokio::time::sleep;
use tracing::warn;

use super::event::Event;
use super::feed::Known;
use super::pace::Backoff;
use crate::cluster::{self, error_text};
use crate::telemetry::trouble::Trouble;

/// By UID of a record, the entries of it that have been told.
type Entries = BTreeMap<String, BTreeSet<String>>;

/// What each sink has been told.
pub(super) struct Ledger {
    api: Api<ConfigMap>,
    name: String,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    /// As it was read or written last.
    found: Option<ConfigMap>,
    by_sink: BTreeMap<String, Entries>,
}

impl Ledger {
    /// The one of this namespace and name, of which nothing is known yet.
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), pages: Mutex::default() }
    }

    /// Reads it, and gives each of these sinks its page. For one that has none all that is known is history: it is told
    /// of what happens from now on. Tries until it works.
    pub(super) async fn open(&self, sinks: &[&str], known: &Known) {
        let mut pages = self.pages.lock().await;
        let (mut trouble, mut backoff) = (Trouble::default(), Backoff::default());
        while let Err(error) = self.try_to_read(&mut pages).await {
            self.pause_after(&error, &mut trouble, &mut backoff).await;
        }
        let mut complete = pages.by_sink.keys().eq(sinks.iter().copied().collect::<BTreeSet<_>>());
        pages.by_sink.retain(|sink, _| sinks.contains(&sink.as_str()));
        for sink in sinks {
            pages.by_sink.entry((*sink).to_owned()).or_insert_with(|| {
                complete = false;
                known.records.iter().map(|(uid, told)| (uid.clone(), told.now.clone())).collect()
            });
        }
        if !complete {
            self.write(&mut pages, known).await;
        }
    }

    /// Those of these events that this sink has not been told of.
    pub(super) async fn untold(&self, sink: &str, mut events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
        let pages = self.pages.lock().await;
        let records = pages.by_sink.get(sink);
        let has_told = |event: &Event| {
            let (uid, entry) = event.id.split_once('/').unwrap_or_default();
            records.and_then(|records| records.get(uid)).is_some_and(|entries| entries.contains(entry))
        };
        events.retain(|event| !has_told(event));
        events
    }

    /// Writes down that it has been told of these. Tries until it works: to go on without would make doubles.
    pub(super) async fn told(&self, sink: &str, events: &[Arc<Event>], known: &Known) {
        let mut pages = self.pages.lock().await;
        let records = pages.by_sink.entry(sink.to_owned()).or_default();
        for (uid, entry) in events.iter().filter_map(|event| event.id.split_once('/')) {
            records.entry(uid.to_owned()).or_default().insert(entry.to_owned());
        }
        records.retain(|uid, _| known.records.contains_key(uid));
        self.write(&mut pages, known).await;
    }

    async fn write(&self, pages: &mut Pages, known: &Known) {
        let (mut trouble, mut backoff) = (Trouble::default(), Backoff::default());
        while let Err(error) = self.try_to_write(pages, known).await {
            self.pause_after(&error, &mut trouble, &mut backoff).await;
        }
    }

    async fn pause_after(&self, error: &kube::Error, trouble: &mut Trouble, backoff: &mut Backoff) {
        if let Some(line) = trouble.again(&error_text(error)) {
            warn!(
                "notifications wait: ConfigMap {}, which says what was told, cannot be read or written, trying \
                 again: {line}",
                self.name
            );
        }
        sleep(backoff.pause()).await;
    }

    async fn try_to_read(&self, pages: &mut Pages) -> Result<(), kube::Error> {
        pages.found = cluster::get(&self.api, &self.name).await?;
        let data = pages.found.as_ref().and_then(|found| found.data.as_ref());
        for (sink, text) in data.into_iter().flatten() {
            let Ok(read) = serde_json::from_str::<BTreeMap<String, String>>(text) else {
                warn!(%sink, "what this sink was told cannot be read: it is told of what happens from now on");
                continue;
            };
            let page = pages.by_sink.entry(sink.clone()).or_default();
            for (uid, entries) in read {
                page.entry(uid).or_default().extend(entries.split(' ').map(str::to_owned));
            }
        }
        Ok(())
    }

    /// Somebody who was faster has told something as well: that is taken over, and written the next time.
    async fn try_to_write(&self, pages: &mut Pages, known: &Known) -> Result<(), kube::Error> {
        loop {
            let data =
                pages.by_sink.iter().map(|(sink, told)| (sink.clone(), written(told, known))).collect();
            let mut map = pages.found.clone().unwrap_or_else(|| ConfigMap {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                ..ConfigMap::default()
            });
            map.data = Some(data);
            let params = PostParams::default();
            let answer = match pages.found {
                Some(_) => self.api.replace(&self.name, &params, &map).await,
                None => self.api.create(&params, &map).await,
            };
            match answer {
                Ok(map) => {
                    pages.found = Some(map);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 || cluster::is_absent(&status) => {
                    self.try_to_read(pages).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A page as it is kept: what no record tells any more need not be remembered.
fn written(told: &Entries, known: &Known) -> String {
    let kept = told.iter().filter_map(|(uid, entries)| {
        let record = known.records.get(uid).filter(|record| record.gone.is_none())?;
        let entries: Vec<&str> =
            entries.iter().filter(|entry| record.now.contains(*entry)).map(String::as_str).collect();
        (!entries.is_empty()).then(|| (uid.as_str(), entries.join(" ")))
    });
    serde_json::to_string(&kept.collect::<BTreeMap<_, _>>()).unwrap_or_default()
}
