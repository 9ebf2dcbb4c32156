//! The sandbox's etcd: objects, one global resourceVersion, and the recent history that watches read.
//!
//! A write happens in a transaction (`Tx`) that holds the store's lock from the first look to the last
//! change, so handlers never race with one another. Watches hold no lock and no queue of their own: each
//! remembers how far it has read of the history of its resource type, and one that falls behind the bounded
//! history gets 410, as from a real server.

mod by_node;
mod pages;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use gcu_clock::Clock;

use crate::{
    json,
    resources::{ResourceType, TypeKey},
};
use by_node::{ByNode, OnNode};

/// Changes kept for each resource type; a watch from before them gets 410.
pub const HISTORY: usize = 20_000;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was there before.
    Modified,
    /// It is gone.
    Deleted,
}

/// One committed change.
#[derive(Clone, Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// API group (empty for the core group) and plural.
    pub resource: (String, String),
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object before; `None` when it was added.
    pub old: Option<Arc<Value>>,
    /// The object after; `None` when it was deleted.
    pub new: Option<Arc<Value>>,
    /// The store's version that this change made.
    pub resource_version: u64,
    /// The `User-Agent` of the request that caused it.
    pub actor: Option<String>,
}

/// What a real cluster's built-in controllers do at once: called for each change within its transaction.
pub(crate) type Follower = fn(&mut Tx<'_>, &Change);
type Hook = Arc<dyn Fn(&Change) + Send + Sync>;
pub(crate) type ObjectKey = (String, String);

/// The objects of a sandbox. Shared by reference; all methods lock it for as long as they run.
pub struct Store {
    state: Mutex<State>,
    clock: Clock,
    /// A watch may begin with what is there, and say where that ends.
    pub(crate) streams_lists: bool,
}

/// The objects of one resource type.
pub(crate) struct Table {
    pub(crate) objects: BTreeMap<ObjectKey, Arc<Value>>,
    pub(crate) history: VecDeque<Arc<Change>>,
    /// Changes up to this version are forgotten.
    pub(crate) compacted: u64,
    wakeups: watch::Sender<u64>,
}

pub(crate) struct State {
    pub(crate) types: BTreeMap<TypeKey, Arc<ResourceType>>,
    tables: BTreeMap<TypeKey, Table>,
    /// The pods once more, by the node that each is bound to.
    by_node: ByNode,
    pub(crate) revision: u64,
    compacted: u64,
    minted: u64,
    hooks: Vec<Hook>,
    followers: &'static [Follower],
}

impl Store {
    pub(crate) fn new(
        clock: Clock,
        types: Vec<ResourceType>,
        streams_lists: bool,
        followers: &'static [Follower],
    ) -> Self {
        let types: BTreeMap<_, _> = types.into_iter().map(|kind| (kind.key(), Arc::new(kind))).collect();
        let state = State {
            types,
            tables: BTreeMap::new(),
            by_node: ByNode::default(),
            revision: 1,
            compacted: 0,
            minted: 0,
            hooks: Vec::new(),
            followers,
        };
        Self { state: Mutex::new(state), clock, streams_lists }
    }

    /// Every object of a resource type, ordered by namespace and name: the truth, for test oracles.
    pub fn list_all(&self, group: &str, plural: &str) -> Vec<Value> {
        let key = (group.to_owned(), plural.to_owned());
        let state = self.lock();
        let objects = state.tables.get(&key).into_iter().flat_map(|table| table.objects.values());
        objects.map(|object| object.as_ref().clone()).collect()
    }

    /// One object as it is stored.
    pub fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().get(&(group.to_owned(), plural.to_owned()), namespace, name)
    }

    /// Puts objects there as they are, as if they had been there all along: of hundreds of thousands, no request makes
    /// each of them.
    pub fn fill(&self, group: &str, plural: &str, objects: impl IntoIterator<Item = Value>) {
        let key = (group.to_owned(), plural.to_owned());
        let mut tx = self.begin(None, false);
        for mut object in objects {
            let (uid, now) = (tx.new_uid(), tx.timestamp());
            json::default(&mut object, &["metadata", "uid"], uid);
            json::default(&mut object, &["metadata", "creationTimestamp"], now);
            let of = |field: &str| json::text(&object, &["metadata", field]).to_owned();
            let (namespace, name) = (of("namespace"), of("name"));
            tx.put(&key, &namespace, &name, object);
        }
    }

    /// Calls `f` for every committed change from now on, in order, under the store's lock: invariants that
    /// must hold at every instant are checked here. `f` must not call the store, and should record a
    /// violation instead of panicking.
    pub fn on_change(&self, f: impl Fn(&Change) + Send + Sync + 'static) {
        self.lock().hooks.push(Arc::new(f));
    }

    /// Forgets all history: every watch and continue token older than now gets 410, as after etcd's compaction.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.compacted = state.revision;
        let revision = state.revision;
        for table in state.tables.values_mut() {
            table.history.clear();
            table.compacted = revision;
            table.wakeups.send_replace(revision);
        }
        state.by_node.compact(revision);
    }

    /// The version of the latest change.
    pub fn resource_version(&self) -> u64 {
        self.lock().revision
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A hook that panicked has done so after the commit: the state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a transaction. It commits change by change; check everything before the first one.
    pub(crate) fn begin(&self, actor: Option<String>, dry_run: bool) -> Tx<'_> {
        Tx { state: self.lock(), now: self.clock.precisely(), actor, dry_run }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.precisely()
    }

    /// A receiver that wakes at every change of a resource type, or of a pod on this node.
    pub(crate) fn wakeups(&self, key: &TypeKey, node: Option<&str>) -> watch::Receiver<u64> {
        let mut state = self.lock();
        match node {
            Some(node) => {
                let revision = state.revision;
                state.by_node.wakeups(node, revision)
            }
            None => state.table_mut(key).wakeups.subscribe(),
        }
    }
}

impl State {
    pub(crate) fn table(&self, key: &TypeKey) -> Option<&Table> {
        self.tables.get(key)
    }

    fn table_mut(&mut self, key: &TypeKey) -> &mut Table {
        let compacted = self.compacted;
        self.tables.entry(key.clone()).or_insert_with(|| Table {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted,
            wakeups: watch::Sender::new(0),
        })
    }

    pub(crate) fn get(&self, key: &TypeKey, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.table(key)?.objects.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a type, or those of one namespace.
    pub(crate) fn objects(&self, key: &TypeKey, namespace: &str) -> Vec<(ObjectKey, Arc<Value>)> {
        let Some(table) = self.table(key) else { return Vec::new() };
        let pair = |(key, object): (&ObjectKey, &Arc<Value>)| (key.clone(), object.clone());
        if namespace.is_empty() {
            return table.objects.iter().map(pair).collect();
        }
        let from = (namespace.to_owned(), String::new());
        table.objects.range(from..).take_while(|(key, _)| key.0 == namespace).map(pair).collect()
    }

    /// The pods bound to a node, all or those of one namespace.
    pub(crate) fn objects_on(&self, node: &str, namespace: &str) -> Vec<(ObjectKey, Arc<Value>)> {
        let of_place = |(key, _): &(&ObjectKey, &Arc<Value>)| namespace.is_empty() || key.0 == namespace;
        let there = self.on_node(node).into_iter().flat_map(|node| &node.objects).filter(of_place);
        there.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// The pods bound to a node, and what happened to them.
    pub(crate) fn on_node(&self, node: &str) -> Option<&OnNode> {
        self.by_node.get(node)
    }

    fn commit(&mut self, key: &TypeKey, change: Change) -> Arc<Change> {
        let change = Arc::new(change);
        let object_key = (change.namespace.clone(), change.name.clone());
        let table = self.table_mut(key);
        match &change.new {
            Some(new) => table.objects.insert(object_key, new.clone()),
            None => table.objects.remove(&object_key),
        };
        table.history.push_back(change.clone());
        if table.history.len() > HISTORY
            && let Some(oldest) = table.history.pop_front()
        {
            table.compacted = oldest.resource_version;
        }
        table.wakeups.send_replace(change.resource_version);
        self.by_node.take(&change);
        for hook in &self.hooks {
            hook(&change);
        }
        change
    }
}

/// A transaction: the locked state, and who is changing it when.
pub(crate) struct Tx<'a> {
    pub(crate) state: MutexGuard<'a, State>,
    pub(crate) now: Timestamp,
    actor: Option<String>,
    /// Everything is checked, nothing is stored.
    pub(crate) dry_run: bool,
}

impl Tx<'_> {
    /// Stores an object under a new resourceVersion. A dry run only answers what would be stored.
    pub(crate) fn put(&mut self, key: &TypeKey, namespace: &str, name: &str, mut new: Value) -> Arc<Value> {
        if self.dry_run {
            return Arc::new(new);
        }
        let old = self.state.get(key, namespace, name);
        self.state.revision += 1;
        let version = self.state.revision;
        json::set(&mut new, &["metadata", "resourceVersion"], version.to_string());
        let new = Arc::new(new);
        let kind = if old.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        self.commit(key, namespace, name, kind, old, Some(new.clone()), version);
        new
    }

    /// Removes an object and answers its last state.
    pub(crate) fn remove(&mut self, key: &TypeKey, namespace: &str, name: &str) {
        if self.dry_run {
            return;
        }
        if let Some(old) = self.state.get(key, namespace, name) {
            self.state.revision += 1;
            let version = self.state.revision;
            self.commit(key, namespace, name, ChangeKind::Deleted, Some(old), None, version);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one change, gathered in one place")]
    fn commit(
        &mut self,
        key: &TypeKey,
        namespace: &str,
        name: &str,
        kind: ChangeKind,
        old: Option<Arc<Value>>,
        new: Option<Arc<Value>>,
        resource_version: u64,
    ) {
        let change = Change {
            kind,
            resource: key.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            old,
            new,
            resource_version,
            actor: self.actor.clone(),
        };
        let change = self.state.commit(key, change);
        for follow in self.state.followers {
            follow(self, &change);
        }
    }

    /// A new UID: unique in this store, and the same in every run.
    pub(crate) fn new_uid(&mut self) -> String {
        let digest = self.mint();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |from, to| hex.get(from..to).unwrap_or_default();
        format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
    }

    /// Five random-looking characters, as appended to `generateName`.
    pub(crate) fn new_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let pick = |byte: &u8| ALPHABET.get(usize::from(*byte) % ALPHABET.len()).copied().map(char::from);
        self.mint().iter().take(5).filter_map(pick).collect()
    }

    fn mint(&mut self) -> Vec<u8> {
        self.state.minted += 1;
        Sha256::digest(format!("sandbox {}", self.state.minted)).to_vec()
    }

    /// The time of this transaction as it is stored.
    pub(crate) fn timestamp(&self) -> String {
        format_time(self.now)
    }
}

/// RFC 3339 in whole seconds, as Kubernetes stores times.
pub(crate) fn format_time(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
