//! What every actor is made of: a watch that feeds an index, a queue of keys, and a worker.
//!
//! The shape is the one of a Kubernetes controller: events only say *which* key to look at, the worker looks
//! at the index and does what is missing. An event lost, doubled or late changes nothing but the moment.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Barrier, Notify},
    time::Instant,
};

/// An object's namespace (empty for cluster-scoped ones) and name.
pub(crate) type Key = (String, String);

/// The key of an object.
pub(crate) fn key_of<K: Resource>(object: &K) -> Key {
    (object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

/// Locks, whatever happened to the last holder: the indexes hold no invariant that a panic could break.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The UID of the object's controller, if it has one.
pub(crate) fn controller_uid<K: Resource>(object: &K) -> Option<&str> {
    let owners = object.meta().owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// The owner references of an object that this one controls, as the real controllers write them.
pub(crate) fn owned_by<K: Resource<DynamicType = ()>>(owner: &K) -> Option<Vec<OwnerReference>> {
    let reference = owner.controller_owner_ref(&())?;
    Some(vec![OwnerReference { block_owner_deletion: Some(true), ..reference }])
}

/// Whether the API server said that the object is not there, or is not the one that was meant: for someone
/// who wants it gone, or to be told again, both are as good as done.
pub(crate) fn is_moot(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}

/// Deletes exactly the object with this UID. Somebody else's success counts as ours.
pub(crate) async fn delete_exactly<K>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    params: DeleteParams,
) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    match api.delete(name, &params.preconditions(only)).await {
        Err(error) if !is_moot(&error) => Err(error),
        _ => Ok(()),
    }
}

/// What a watch saw.
pub(crate) enum Change<K> {
    /// An object is there, or is different. A changed UID is told as `Gone` and then `Applied`.
    Applied {
        /// What it was before, if it was known.
        old: Option<Arc<K>>,
        /// What it is now.
        new: Arc<K>,
    },
    /// An object is no longer there.
    Gone(Arc<K>),
}

/// Watches a kind for ever and reports every change.
///
/// At the end of the first list it waits at `synced` for the actor's other watches: an actor that acts on half
/// a picture creates pods which are there already.
pub(crate) async fn observe<K>(
    api: Api<K>,
    config: watcher::Config,
    synced: Arc<Barrier>,
    mut on: impl FnMut(Change<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut known: HashMap<Key, Arc<K>> = HashMap::new();
    let mut listed: HashSet<Key> = HashSet::new();
    let mut first = true;
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(key_of(&object));
                learn(&mut known, object, &mut on);
            }
            Ok(watcher::Event::InitDone) => {
                let missed: Vec<Key> = known.keys().filter(|key| !listed.contains(*key)).cloned().collect();
                for key in missed {
                    forget(&mut known, &key, &mut on);
                }
                if std::mem::take(&mut first) {
                    synced.wait().await;
                }
            }
            Ok(watcher::Event::Apply(object)) => learn(&mut known, object, &mut on),
            Ok(watcher::Event::Delete(object)) => forget(&mut known, &key_of(&object), &mut on),
            // The watcher lists again by itself, after a pause.
            Err(error) => tracing::debug!(%error, "a sandbox actor's watch was interrupted"),
        }
    }
}

fn learn<K: Resource>(known: &mut HashMap<Key, Arc<K>>, mut object: K, on: &mut impl FnMut(Change<K>)) {
    // Never read, and at 30,000 pods most of the memory.
    object.meta_mut().managed_fields = None;
    let (key, new) = (key_of(&object), Arc::new(object));
    let mut old = known.insert(key, Arc::clone(&new));
    if old.as_ref().is_some_and(|old| old.meta().uid != new.meta().uid)
        && let Some(stranger) = old.take()
    {
        on(Change::Gone(stranger));
    }
    on(Change::Applied { old, new });
}

fn forget<K>(known: &mut HashMap<Key, Arc<K>>, key: &Key, on: &mut impl FnMut(Change<K>)) {
    if let Some(old) = known.remove(key) {
        on(Change::Gone(old));
    }
}

/// How long a controller believes in a creation that its watch does not show, as the real ones do.
const BELIEF: Duration = Duration::from_secs(300);

/// Objects that were created and that the watch has not shown yet, by their owner's UID. While there are any, the
/// picture is too old to decide what is missing.
#[derive(Default)]
pub(crate) struct Expectations(HashMap<String, (usize, Instant)>);

impl Expectations {
    /// So many are about to be created.
    pub(crate) fn expect(&mut self, owner: &str, more: usize) {
        if more > 0 {
            let (count, since) = self.0.entry(owner.to_owned()).or_insert((0, Instant::now()));
            (*count, *since) = (count.saturating_add(more), Instant::now());
        }
    }

    /// So many have been seen, or will never be.
    pub(crate) fn settle(&mut self, owner: &str, fewer: usize) {
        if let Some((count, _)) = self.0.get_mut(owner) {
            *count = count.saturating_sub(fewer);
            if *count == 0 {
                self.0.remove(owner);
            }
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&mut self, owner: &str) {
        self.0.remove(owner);
    }

    /// How many are awaited, and for how long at most: a watch that was cut may never show what came and went.
    pub(crate) fn pending(&self, owner: &str) -> Option<(usize, Duration)> {
        let (count, since) = self.0.get(owner)?;
        Some((*count, BELIEF.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?))
    }
}

/// Keys to look at, each at most once at a time, now or later.
pub(crate) struct Queue<K> {
    state: Mutex<QueueState<K>>,
    wake: Notify,
}

struct QueueState<K> {
    due: BTreeSet<(Instant, K)>,
    when: HashMap<K, Instant>,
    busy: HashSet<K>,
    /// Keys asked for while they were being worked on.
    again: HashMap<K, Instant>,
}

impl<K: Ord + Hash + Clone> Queue<K> {
    /// An empty queue.
    pub(crate) fn new() -> Arc<Self> {
        let state = QueueState {
            due: BTreeSet::new(),
            when: HashMap::new(),
            busy: HashSet::new(),
            again: HashMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new() })
    }

    /// Asks for a look at the key now.
    pub(crate) fn add(&self, key: K) {
        self.add_after(key, Duration::ZERO);
    }

    /// Asks for a look at the key after a while. The earliest of several wishes is kept.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = lock(&self.state);
        if state.busy.contains(&key) {
            let slot = state.again.entry(key).or_insert(at);
            *slot = at.min(*slot);
            return;
        }
        state.schedule(key, at);
        drop(state);
        self.wake.notify_one();
    }

    async fn next(&self) -> K {
        loop {
            let first = {
                let mut state = lock(&self.state);
                match state.due.first().map(|(at, _)| *at) {
                    Some(at) if at <= Instant::now() => {
                        if let Some((_, key)) = state.due.pop_first() {
                            state.when.remove(&key);
                            state.busy.insert(key.clone());
                            return key;
                        }
                        None
                    }
                    other => other,
                }
            };
            match first {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.wake.notified() => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    fn done(&self, key: &K) {
        let mut state = lock(&self.state);
        state.busy.remove(key);
        if let Some(at) = state.again.remove(key) {
            state.schedule(key.clone(), at);
            drop(state);
            self.wake.notify_one();
        }
    }
}

impl<K: Ord + Hash + Clone> QueueState<K> {
    fn schedule(&mut self, key: K, at: Instant) {
        match self.when.get(&key).copied() {
            Some(planned) if planned <= at => return,
            Some(planned) => drop(self.due.remove(&(planned, key.clone()))),
            None => {}
        }
        self.when.insert(key.clone(), at);
        self.due.insert((at, key));
    }
}

/// Works on the queue for ever, on `parallel` keys at a time and never on one key twice at once.
///
/// `sync` answers when to look at its key again, if at all. A failure is tried again, ever more rarely.
pub(crate) async fn work<K, F>(queue: Arc<Queue<K>>, parallel: usize, sync: impl Fn(K) -> F)
where
    K: Ord + Hash + Clone + Debug,
    F: Future<Output = Result<Option<Duration>, kube::Error>>,
{
    let mut running = FuturesUnordered::new();
    let mut failures: HashMap<K, u32> = HashMap::new();
    loop {
        tokio::select! {
            key = queue.next(), if running.len() < parallel => {
                let job = sync(key.clone());
                running.push(async move { (key, job.await) });
            }
            Some((key, result)) = running.next(), if !running.is_empty() => {
                queue.done(&key);
                match result {
                    Ok(again) => {
                        failures.remove(&key);
                        if let Some(delay) = again {
                            queue.add_after(key, delay);
                        }
                    }
                    Err(error) => {
                        let failed = failures.entry(key.clone()).or_insert(0);
                        let delay = Duration::from_millis(100).saturating_mul(1 << (*failed).min(8));
                        *failed = failed.saturating_add(1);
                        tracing::debug!(?key, %error, "a sandbox actor will try again");
                        queue.add_after(key, delay);
                    }
                }
            }
        }
    }
}

/// The value of a label, empty when there is none.
pub(crate) fn label<'a, K: Resource>(object: &'a K, name: &str) -> &'a str {
    object.labels().get(name).map_or("", String::as_str)
}

/// The name of the workload that a pod belongs to: that of the DaemonSet which controls it, or else what its label
/// says.
pub(crate) fn workload_of(pod: &Pod) -> &str {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let set = owners.iter().find(|owner| owner.controller == Some(true) && owner.kind == "DaemonSet");
    set.map_or_else(|| label(pod, "app.kubernetes.io/name"), |set| set.name.as_str())
}
