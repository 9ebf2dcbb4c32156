//! A view: what a watch has shown, kept as small values of our own instead of whole objects.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::cluster::streaming::{self, Streaming};
use crate::cluster::watch_text;
use crate::telemetry::trouble::Trouble;

/// First and longest pause before a watch that was interrupted is begun anew with a list.
const LISTS_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How a view deals with what it is told.
pub struct Habits<T> {
    /// Whether a difference is worth waking for.
    pub differs: fn(&T, &T) -> bool,
    /// A watch that is taken up again does not say so until something changes. Where it matters whether the view is
    /// in sync, it lists again instead.
    pub lists_again: bool,
    /// The watch may begin with what is there, in the place of a list.
    pub streaming: Option<Streaming>,
}

/// What one watch has shown. The watch ends when the view is dropped.
pub struct View<T> {
    state: Arc<Mutex<State<T>>>,
    task: AbortHandle,
}

/// What has changed in a view since its reader asked before.
pub enum Changes<T> {
    /// Anything: this is all that is in view now.
    All(Vec<T>),
    /// What was there before, and what is there now.
    Some(Vec<(Option<T>, Option<T>)>),
}

/// Follows the changes of a view, however rarely it asks.
pub struct Reader<T> {
    state: Arc<Mutex<State<T>>>,
    number: u64,
}

/// What a reader has yet to ask for.
enum Unread<T> {
    All,
    /// By key, what was there when the reader last asked.
    Some(BTreeMap<String, Option<T>>),
}

struct State<T> {
    items: BTreeMap<String, T>,
    readers: BTreeMap<u64, Unread<T>>,
    next_reader: u64,
    /// Filled during a relist, swapped in when that is complete: readers never see half a list.
    relist: BTreeMap<String, T>,
    /// The first list has arrived.
    ready: bool,
    /// Nothing has gone wrong with the watch since the last list.
    in_sync: bool,
    /// Why it has not, if that is known.
    trouble: Option<String>,
    /// Who is woken by changes.
    wakes: Vec<Weak<Notify>>,
}

impl<T: Clone + Send + 'static> View<T> {
    /// Watches `api` and keeps what `parse` makes of each object (`None`: not of interest). `what` names the view in
    /// logs.
    pub fn start<K>(
        what: &'static str,
        api: Api<K>,
        config: watcher::Config,
        parse: impl Fn(K) -> Option<T> + Send + 'static,
        habits: Habits<T>,
    ) -> Self
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut trouble = Trouble::default();
            let begin = || streaming::watch(api.clone(), config.clone(), habits.streaming.clone());
            let (mut events, mut pause) = (begin(), LISTS_AGAIN.0);
            while let Some(event) = events.next().await {
                let interrupted = match event {
                    Ok(event) => {
                        lock(&shared).hear(event, &parse, habits.differs);
                        false
                    }
                    Err(error) => {
                        let (why, ready) = (watch_text(&error), lock(&shared).miss(what, &error));
                        if ready {
                            debug!("watch on {what} interrupted, resuming: {why}");
                        } else if let Some(line) = trouble.again(&why) {
                            warn!("cannot watch {what} yet, trying again: {line}");
                        }
                        ready
                    }
                };
                if interrupted && habits.lists_again {
                    sleep(pause).await;
                    pause = pause.saturating_mul(2).min(LISTS_AGAIN.1);
                    events = begin();
                } else if lock(&shared).in_sync {
                    pause = LISTS_AGAIN.0;
                }
            }
        });
        Self { state, task: task.abort_handle() }
    }

    /// Wakes this from now on, at every change of what is kept.
    pub fn wakes(&self, wake: &Arc<Notify>) {
        let mut state = lock(&self.state);
        state.wakes.retain(|other| other.strong_count() > 0);
        if !state.wakes.iter().any(|other| other.as_ptr() == Arc::as_ptr(wake)) {
            state.wakes.push(Arc::downgrade(wake));
        }
    }

    /// A reader, which is told of everything first.
    pub fn reader(&self) -> Reader<T> {
        let mut state = lock(&self.state);
        let number = state.next_reader;
        state.next_reader = number.saturating_add(1);
        state.readers.insert(number, Unread::All);
        Reader { state: self.state.clone(), number }
    }

    /// Everything in view, by namespace and name.
    pub fn items(&self) -> Vec<T> {
        lock(&self.state).items.values().cloned().collect()
    }

    /// How many are in view.
    pub fn count(&self) -> usize {
        lock(&self.state).items.len()
    }

    /// What is in view under this name, of a kind without namespaces.
    pub fn get(&self, name: &str) -> Option<T> {
        lock(&self.state).items.get(&format!("/{name}")).cloned()
    }

    /// Whether nothing has gone wrong with the watch since the last list.
    pub fn is_in_sync(&self) -> bool {
        lock(&self.state).in_sync
    }

    /// Whether the first list has arrived.
    pub fn is_ready(&self) -> bool {
        lock(&self.state).ready
    }

    /// Why the first list has not arrived, if that is known.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.state).trouble.clone()
    }
}

impl<T: Clone> Reader<T> {
    /// Whether it reads this view.
    pub fn is_of(&self, view: &View<T>) -> bool {
        Arc::ptr_eq(&self.state, &view.state)
    }

    /// What has changed since this was last asked; `None`: nothing.
    pub fn changes(&self) -> Option<Changes<T>> {
        let mut state = lock(&self.state);
        let State { items, readers, .. } = &mut *state;
        let unread = readers.get_mut(&self.number)?;
        if matches!(unread, Unread::Some(keys) if keys.is_empty()) {
            return None;
        }
        Some(match std::mem::replace(unread, Unread::Some(BTreeMap::new())) {
            Unread::All => Changes::All(items.values().cloned().collect()),
            Unread::Some(keys) => {
                let now = keys.into_iter().map(|(key, before)| (before, items.get(&key).cloned()));
                Changes::Some(now.collect())
            }
        })
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        lock(&self.state).readers.remove(&self.number);
    }
}

impl<T> Drop for View<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            readers: BTreeMap::new(),
            next_reader: 0,
            relist: BTreeMap::new(),
            ready: false,
            in_sync: false,
            trouble: None,
            wakes: Vec::new(),
        }
    }
}

impl<T: Clone> State<T> {
    /// Puts something in view, or out of it. Whether that is worth waking for.
    fn put(&mut self, key: String, item: Option<T>, differs: fn(&T, &T) -> bool) -> bool {
        let differs = match (self.items.get(&key), &item) {
            (Some(old), Some(new)) => differs(old, new),
            (None, None) => return false,
            _ => true,
        };
        let before = match item {
            Some(item) => self.items.insert(key.clone(), item),
            None => self.items.remove(&key),
        };
        for unread in self.readers.values_mut() {
            if let Unread::Some(keys) = unread {
                keys.entry(key.clone()).or_insert_with(|| before.clone());
            }
        }
        differs
    }

    fn wake(&self) {
        self.wakes.iter().filter_map(Weak::upgrade).for_each(|wake| wake.notify_one());
    }

    /// Takes in what the watch tells, and wakes whom that concerns.
    fn hear<K: Resource>(
        &mut self,
        event: watcher::Event<K>,
        parse: &impl Fn(K) -> Option<T>,
        differs: fn(&T, &T) -> bool,
    ) {
        if self.apply(event, parse, differs) {
            self.wake();
        }
    }

    /// The watch has failed. Whether there was a list before.
    fn miss(&mut self, what: &str, error: &watcher::Error) -> bool {
        self.in_sync = false;
        if !self.ready {
            self.trouble = Some(format!("cannot watch {what}: {}", watch_text(error)));
            self.wake();
        }
        self.ready
    }

    /// Whether this changes what is kept.
    fn apply<K: Resource>(
        &mut self,
        event: watcher::Event<K>,
        parse: &impl Fn(K) -> Option<T>,
        differs: fn(&T, &T) -> bool,
    ) -> bool {
        match event {
            watcher::Event::Init => self.relist.clear(),
            watcher::Event::InitApply(object) => {
                let key = key(&object);
                self.relist.extend(parse(object).map(|item| (key, item)));
            }
            watcher::Event::InitDone => {
                self.items = std::mem::take(&mut self.relist);
                self.readers.values_mut().for_each(|unread| *unread = Unread::All);
                (self.ready, self.in_sync) = (true, true);
                self.trouble = None;
                return true;
            }
            watcher::Event::Apply(object) => {
                // A watch that was interrupted goes on where it was.
                self.in_sync = self.ready;
                let key = key(&object);
                return self.put(key, parse(object), differs);
            }
            watcher::Event::Delete(object) => {
                self.in_sync = self.ready;
                return self.put(key(&object), None, differs);
            }
        }
        false
    }
}

fn key<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
