//! The grs as the API server serves them, for readers: pollers cost it nothing.
//!
//! What is shown is never older than what this process itself has written last, and nothing is shown while the watch is
//! not known to be in sync: then the reader asks the API server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::watch;

use super::view::{Habits, View};
use super::written::{Written, version_of};
use crate::cluster::gr_resource;
use crate::gr::api_version;

/// Grs fetched with one call.
const PAGE: u32 = 100;

/// A gr, word for word as it was sent.
#[derive(Clone, Debug)]
pub struct ServedGr {
    meta: ObjectMeta,
    /// The object.
    pub object: Value,
}

/// What is known of the grs.
#[derive(Clone)]
pub struct Grs(Arc<Inner>);

struct Inner {
    client: Client,
    /// By `group/version`, in the order in which they are asked.
    views: Mutex<Vec<(String, View<Arc<ServedGr>>)>>,
    written: Written,
}

impl Grs {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(Inner { client, views: Mutex::default(), written: Written::default() }))
    }

    /// Watches whatever APIs serve grs. Runs until dropped.
    pub async fn run(self, mut served: watch::Receiver<Option<Vec<String>>>) {
        loop {
            let wanted = served.borrow_and_update().clone().unwrap_or_default();
            self.follow(&wanted);
            if served.changed().await.is_err() {
                return;
            }
        }
    }

    fn follow(&self, wanted: &[String]) {
        let mut views = lock(&self.0.views);
        if views.iter().map(|(version, _)| version).eq(wanted) {
            return;
        }
        let start = |api_version: &String| {
            let api: Api<ServedGr> = Api::all_with(self.0.client.clone(), &gr_resource(api_version));
            let habits = Habits { differs: |_, _| false, lists_again: true, streaming: None };
            let config = watcher::Config::default().page_size(PAGE);
            (api_version.clone(), View::start("grs", api, config, |gr| Some(Arc::new(gr)), habits))
        };
        *views = wanted.iter().map(start).collect();
    }

    /// A gr as it stands; `None` where only the API server can tell, or has the words for there being none.
    pub fn get(&self, name: &str) -> Option<Arc<ServedGr>> {
        let views = lock(&self.0.views);
        if !views.iter().all(|(_, view)| view.is_in_sync()) {
            return None;
        }
        let found = views.iter().find_map(|(_, view)| view.get(name))?;
        self.0.written.is_shown(name, Some(&found.meta)).then_some(found)
    }

    /// Every gr as it stands, API by API; `None` where only the API server can tell.
    pub fn list(&self) -> Option<Vec<(String, Vec<Arc<ServedGr>>)>> {
        let views = lock(&self.0.views);
        if views.is_empty() || !views.iter().all(|(_, view)| view.is_in_sync()) {
            return None;
        }
        let all: Vec<_> = views.iter().map(|(version, view)| (version.clone(), view.items())).collect();
        let metas = || all.iter().flat_map(|(_, grs)| grs).map(|gr| &gr.meta);
        let find = |name: &str| metas().find(|meta| meta.name.as_deref() == Some(name));
        self.0.written.all_shown(find).then_some(all)
    }

    /// Notes that this process has written a gr, and what it is since.
    pub fn wrote(&self, gr: &DynamicObject) {
        self.0.written.wrote(&gr.metadata);
    }

    /// Notes that this process has deleted a gr; `left` is what finalizers keep of it.
    pub fn deleted(&self, name: &str, uid: &str, left: Option<&DynamicObject>) {
        match left {
            Some(gr) => self.wrote(gr),
            None => self.0.written.deleted(name, uid),
        }
    }
}

impl ServedGr {
    /// What tells this very state of this very gr from every other, and from the same in another version of its API.
    pub fn tag(&self) -> String {
        let ObjectMeta { uid, resource_version, .. } = &self.meta;
        let api = api_version(&self.object).rsplit('/').next().unwrap_or_default();
        let (uid, version) = (uid.as_deref().unwrap_or_default(), resource_version.as_deref());
        format!("{uid}-{}-{api}", version.unwrap_or_default())
    }

    /// Its version, as a number.
    pub fn number(&self) -> u64 {
        version_of(&self.meta, 0)
    }
}

impl<'de> Deserialize<'de> for ServedGr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        let meta = object.get("metadata").map(ObjectMeta::deserialize).transpose();
        let meta = meta.map_err(serde::de::Error::custom)?.unwrap_or_default();
        Ok(Self { meta, object })
    }
}

impl Resource for ServedGr {
    type DynamicType = ApiResource;
    type Scope = <DynamicObject as Resource>::Scope;

    fn kind(kind: &ApiResource) -> std::borrow::Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn group(kind: &ApiResource) -> std::borrow::Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> std::borrow::Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn api_version(kind: &ApiResource) -> std::borrow::Cow<'_, str> {
        kind.api_version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> std::borrow::Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
