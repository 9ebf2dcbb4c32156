//! A view: what a watch has seen, kept as small values of our own instead of whole objects.
//!
//! Views wake the controller and explain; decisions that change the cluster are taken on live reads.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use crate::cluster::watch_text;
use crate::telemetry::trouble::Trouble;

/// What one watch has seen. The watch ends when the view is dropped.
pub(super) struct View<T> {
    state: Arc<Mutex<State<T>>>,
    ready: watch::Receiver<bool>,
    task: AbortHandle,
}

struct State<T> {
    items: BTreeMap<String, T>,
    /// Filled during a relist, swapped in when that is complete: readers never see half a list.
    relist: BTreeMap<String, T>,
}

impl<T: Clone + Send + 'static> View<T> {
    /// Watches `api` and keeps what `parse` makes of each object (`None`: not of interest). Every change
    /// notifies `wake`. `what` names the view in logs.
    pub(super) fn start<K>(
        what: &'static str,
        api: Api<K>,
        config: watcher::Config,
        parse: impl Fn(K) -> Option<T> + Send + 'static,
        wake: Arc<Notify>,
    ) -> Self
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let state = Arc::new(Mutex::new(State { items: BTreeMap::new(), relist: BTreeMap::new() }));
        let (ready_tx, ready) = watch::channel(false);
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut trouble = Trouble::default();
            let mut events = watcher(api, config).default_backoff().boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        let listed = matches!(event, watcher::Event::InitDone);
                        lock(&shared).apply(event, &parse);
                        if listed {
                            ready_tx.send_replace(true);
                        }
                        wake.notify_one();
                    }
                    Err(error) if *ready_tx.borrow() => {
                        debug!("watch on {what} interrupted, resuming: {}", watch_text(&error));
                    }
                    Err(error) => {
                        if let Some(line) = trouble.again(&watch_text(&error)) {
                            warn!("cannot watch {what} yet, trying again: {line}");
                        }
                    }
                }
            }
        });
        Self { state, ready, task: task.abort_handle() }
    }

    /// Everything in view, by namespace and name.
    pub(super) fn items(&self) -> Vec<T> {
        lock(&self.state).items.values().cloned().collect()
    }

    /// Whether the first list has arrived.
    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }
}

impl<T> Drop for View<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> State<T> {
    fn apply<K: Resource>(&mut self, event: watcher::Event<K>, parse: &impl Fn(K) -> Option<T>) {
        match event {
            watcher::Event::Init => self.relist.clear(),
            watcher::Event::InitApply(object) => put(&mut self.relist, object, parse),
            watcher::Event::InitDone => self.items = std::mem::take(&mut self.relist),
            watcher::Event::Apply(object) => put(&mut self.items, object, parse),
            watcher::Event::Delete(object) => {
                self.items.remove(&key(&object));
            }
        }
    }
}

fn put<K: Resource, T>(items: &mut BTreeMap<String, T>, object: K, parse: &impl Fn(K) -> Option<T>) {
    let key = key(&object);
    match parse(object) {
        Some(item) => items.insert(key, item),
        None => items.remove(&key),
    };
}

fn key<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn lock<T>(state: &Mutex<State<T>>) -> std::sync::MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
