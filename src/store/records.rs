//! The records as the API server serves them, for readers: pollers cost it nothing.
//!
//! What is shown is never older than what this process itself has written or told last, and nothing is shown while the
//! watch is not known to be in sync: then the reader asks the API server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::api::{ApiResource, DynamicObject};
use kube::core::ObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::view::{Habits, View};
use super::written::Written;
use crate::record::GcuUpgrade;

/// Records fetched with one call: each holds two manifests.
const PAGE: u32 = 50;

/// A record as it was sent. It is kept as text: ten records of each gr, each with two manifests, would take several
/// times as much memory as objects.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    meta: ObjectMeta,
    gr: Option<String>,
    text: Box<str>,
}

/// What one watch has shown of the records.
type RecordsView = View<Arc<StoredRecord>>;

/// What is known of the records.
#[derive(Clone)]
pub struct Records(Arc<Inner>);

struct Inner {
    client: Client,
    view: Mutex<Option<Arc<RecordsView>>>,
    written: Written,
}

impl Records {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(Inner { client, view: Mutex::default(), written: Written::default() }))
    }

    /// Watches them once their CRD is there. Runs until dropped; `missing` says why it is not.
    pub async fn run(self, mut missing: watch::Receiver<Option<String>>) {
        if missing.wait_for(Option::is_none).await.is_ok() {
            self.view().get_or_insert_with(|| Arc::new(self.begin()));
        }
        std::future::pending().await
    }

    /// Watches them anew, for readers too: whoever acts on them from now on needs a list of a later moment.
    pub fn anew(&self) -> Arc<RecordsView> {
        let view = Arc::new(self.begin());
        *self.view() = Some(view.clone());
        view
    }

    fn begin(&self) -> RecordsView {
        let kind = ApiResource::erase::<GcuUpgrade>(&());
        let api: Api<DynamicObject> = Api::all_with(self.0.client.clone(), &kind);
        let differs = |old: &Arc<StoredRecord>, new: &Arc<StoredRecord>| old.meta != new.meta;
        let habits = Habits { differs, lists_again: true, streaming: None };
        let config = watcher::Config::default().page_size(PAGE);
        View::start("gcuupgrades", api, config, StoredRecord::of, habits)
    }

    /// A record as it stands; `None` where only the API server can tell, or has the words for there being none.
    pub fn get(&self, name: &str) -> Option<Arc<StoredRecord>> {
        let view = self.view();
        let found = view.as_ref().filter(|view| view.is_in_sync())?.get(name)?;
        self.0.written.is_shown(name, Some(&found.meta)).then_some(found)
    }

    /// Every record as it stands; `None` where only the API server can tell.
    pub fn list(&self) -> Option<Vec<Arc<StoredRecord>>> {
        let all = self.view().as_ref().filter(|view| view.is_in_sync())?.items();
        let find = |name: &str| all.iter().map(|r| &r.meta).find(|meta| meta.name.as_deref() == Some(name));
        self.0.written.all_shown(find).then_some(all)
    }

    /// Notes that this process has written a record, or has told somebody of this version.
    pub fn at_least(&self, record: &GcuUpgrade) {
        self.0.written.wrote(&record.metadata);
    }

    /// Notes that this process has deleted a record.
    pub fn deleted(&self, name: &str, uid: &str) {
        self.0.written.deleted(name, uid);
    }

    fn view(&self) -> MutexGuard<'_, Option<Arc<RecordsView>>> {
        self.0.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoredRecord {
    fn of(mut record: DynamicObject) -> Option<Arc<Self>> {
        // Nobody asks for these, and they are long.
        record.metadata.managed_fields = None;
        let text = serde_json::to_string(&record).ok()?.into();
        let gr = record.data.pointer("/spec/gr").and_then(Value::as_str).map(str::to_owned);
        let ObjectMeta { name, uid, resource_version, .. } = record.metadata;
        Some(Arc::new(Self {
            meta: ObjectMeta { name, uid, resource_version, ..ObjectMeta::default() },
            gr,
            text,
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    /// The gr that it is about; `None` when it does not say so legibly.
    pub fn gr(&self) -> Option<&str> {
        self.gr.as_deref()
    }

    /// What it says.
    ///
    /// # Errors
    /// That it is none of these.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.text)
    }
}
