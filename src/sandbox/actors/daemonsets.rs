//! Stand-in for Kubernetes' DaemonSet controller.
//!
//! The rules are those of the real one: a node with a terminating pod of the DaemonSet gets its next pod only
//! when that one is gone, but pods of a *deleted* DaemonSet of the same name do not count, so that both can run
//! side by side (kubernetes#131684); a node that is not tolerated keeps its pod but is not desired.
//! Left out: surge, adoption of orphans, the back-off for failed pods.

mod events;
mod pods;
mod revisions;
mod status;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::watcher,
};
use tokio::sync::Barrier;

use self::revisions::Revision;
use super::{
    fit,
    queue::{
        Change, Expectations, Key, Queue, controller_uid, delete_exactly, is_moot, key_of, lock, observe,
        work,
    },
};
use crate::WORLD_LABEL;
use gcu_clock::Clock;

/// The label with the hash of the template that a pod was made from.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";
/// Events come in bursts; one look serves a burst.
const SETTLE: Duration = Duration::from_millis(20);
/// At most so many pods are made or deleted in one look.
const BURST: usize = 250;

#[derive(Default)]
struct Index {
    sets: BTreeMap<Key, Arc<DaemonSet>>,
    nodes: BTreeMap<String, Arc<Node>>,
    /// Pods by the UID of their DaemonSet and by the node that they are on, or were made for.
    pods: HashMap<String, ByNode>,
    /// Created pods, by the UID of their DaemonSet.
    expected: Expectations,
    /// UIDs of pods that were told to go, though the watch may not have said so yet.
    deleting: HashSet<String>,
    revisions: HashMap<String, Revision>,
}

/// The pods of a DaemonSet by node, the oldest first.
type ByNode = BTreeMap<String, Vec<Arc<Pod>>>;

struct Controller {
    client: Client,
    clock: Clock,
    world: Option<String>,
    index: Mutex<Index>,
    queue: Arc<Queue<Key>>,
}

/// Looks after the DaemonSets of the world for ever; with no world, after those of the whole cluster.
pub async fn run(client: Client, clock: Clock, world: Option<String>) {
    let (sets, pods, nodes) = (Api::all(client.clone()), Api::all(client.clone()), Api::all(client.clone()));
    let (index, queue) = (Mutex::new(Index::default()), Queue::new());
    let controller = Controller { client, clock, world, index, queue };
    let synced = Arc::new(Barrier::new(4));
    let all = watcher::Config::default;
    tokio::join!(
        observe(sets, all(), Arc::clone(&synced), |change| controller.saw_set(change)),
        observe(pods, all().labels(HASH_LABEL), Arc::clone(&synced), |change| controller.saw_pod(change)),
        observe(nodes, all(), Arc::clone(&synced), |change| controller.saw_node(change)),
        async {
            synced.wait().await;
            work(Arc::clone(&controller.queue), 8, |key| controller.sync(key)).await;
        },
    );
}

impl Index {
    fn put(&mut self, owner: &str, pod: &Arc<Pod>) {
        let Some(node) = fit::home_of(pod) else { return };
        let there = self.pods.entry(owner.to_owned()).or_default().entry(node.to_owned()).or_default();
        there.push(Arc::clone(pod));
        if there.len() > 1 {
            there.sort_by_cached_key(|pod| (pod.creation_timestamp(), pod.name_any()));
        }
    }

    fn take_out(&mut self, pod: &Arc<Pod>) {
        let (Some(owner), Some(node)) = (controller_uid(&**pod), fit::home_of(pod)) else { return };
        let Some(pods) = self.pods.get_mut(owner) else { return };
        if let Some(there) = pods.get_mut(node) {
            there.retain(|other| other.metadata.uid != pod.metadata.uid);
            if there.is_empty() {
                pods.remove(node);
            }
        }
        if pods.is_empty() {
            self.pods.remove(owner);
        }
    }
}

/// What a DaemonSet asks for, whatever its status.
fn wanted(set: &DaemonSet) -> impl PartialEq + use<> {
    let meta = &set.metadata;
    (
        meta.generation,
        meta.deletion_timestamp.clone(),
        meta.labels.clone(),
        meta.annotations.clone(),
        meta.owner_references.clone(),
    )
}

impl Controller {
    fn saw_set(&self, change: Change<DaemonSet>) {
        let mut index = lock(&self.index);
        match change {
            Change::Applied { old, new } => {
                if self.is_ours(&new) {
                    // What it says of its status is our own doing.
                    if old.is_none_or(|old| wanted(&old) != wanted(&new)) {
                        self.queue.add_after(key_of(&*new), SETTLE);
                    }
                    index.sets.insert(key_of(&*new), new);
                }
            }
            Change::Gone(old) => {
                index.sets.remove(&key_of(&*old));
                let uid = old.uid().unwrap_or_default();
                index.expected.forget(&uid);
                index.revisions.remove(&uid);
            }
        }
    }

    fn saw_pod(&self, change: Change<Pod>) {
        let mut index = lock(&self.index);
        let (pod, before, there) = match change {
            Change::Applied { old, new } => (new, old, true),
            Change::Gone(old) => (Arc::clone(&old), Some(old), false),
        };
        let Some(owner) = controller_uid(&*pod) else { return };
        if before.is_none() {
            index.expected.settle(owner, 1);
        }
        if let Some(before) = &before {
            index.take_out(before);
        }
        if there {
            index.put(owner, &pod);
        } else {
            index.deleting.remove(pod.meta().uid.as_deref().unwrap_or_default());
        }
        let name = pod.owner_references().iter().find(|reference| reference.uid == owner);
        let key =
            (pod.namespace().unwrap_or_default(), name.map(|owner| owner.name.clone()).unwrap_or_default());
        if index.sets.contains_key(&key) {
            self.queue.add_after(key, SETTLE);
        }
    }

    fn saw_node(&self, change: Change<Node>) {
        let mut index = lock(&self.index);
        let moved = match change {
            Change::Applied { old, new } => {
                let moved = old
                    .is_none_or(|old| old.labels() != new.labels() || fit::taints(&old) != fit::taints(&new));
                index.nodes.insert(new.name_any(), new);
                moved
            }
            Change::Gone(old) => index.nodes.remove(&old.name_any()).is_some(),
        };
        if moved {
            for key in index.sets.keys() {
                self.queue.add_after(key.clone(), SETTLE);
            }
        }
    }

    fn is_ours(&self, set: &DaemonSet) -> bool {
        let Some(world) = &self.world else { return true };
        let spec = set.spec.template.spec.as_ref();
        let selector = spec.and_then(|spec| spec.node_selector.as_ref());
        selector.and_then(|selector| selector.get(WORLD_LABEL)) == Some(world)
    }

    async fn sync(&self, key: Key) -> Result<Option<Duration>, kube::Error> {
        let Some(set) = lock(&self.index).sets.get(&key).cloned() else { return Ok(None) };
        // What happens to the pods of a DaemonSet that is being deleted is the garbage collector's business.
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let hash = self.revision_of(&set).await?;
        let (plan, status) = {
            let index = lock(&self.index);
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            let view = pods::View::new(&set, &index, &hash, self.clock.precisely());
            let mut status = view.status();
            let plan = match index.expected.pending(uid) {
                Some((_, left)) => {
                    status.note(left);
                    pods::Plan::default()
                }
                None => view.plan(),
            };
            (plan, status)
        };
        self.carry_out(&key, &set, &hash, plan).await?;
        self.report(&key, &set, &status).await?;
        Ok(status.look_again)
    }

    async fn carry_out(
        &self,
        key: &Key,
        set: &DaemonSet,
        hash: &str,
        plan: pods::Plan,
    ) -> Result<(), kube::Error> {
        let pods: &Api<Pod> = &Api::namespaced(self.client.clone(), &key.0);
        let uid = &set.uid().unwrap_or_default();
        let rest = plan.create.len() > BURST || plan.delete.len() > BURST;
        {
            let mut index = lock(&self.index);
            index.deleting.extend(plan.delete.iter().take(BURST).map(|(_, uid)| uid.clone()));
            index.expected.expect(uid, plan.create.len().min(BURST));
        }
        let deletes = stream::iter(plan.delete.into_iter().take(BURST)).map(async |(name, pod)| {
            let result = delete_exactly(pods, &name, &pod, DeleteParams::default()).await;
            if result.is_err() {
                lock(&self.index).deleting.remove(&pod);
            }
            result
        });
        let mut results: Vec<Result<(), kube::Error>> = deletes.buffer_unordered(16).collect().await;
        let creates = stream::iter(plan.create.into_iter().take(BURST)).map(async |node| {
            let made = match pods::pod_for(set, hash, &node) {
                Some(pod) => pods.create(&PostParams::default(), &pod).await.map(drop),
                None => Ok(()),
            };
            if made.is_err() {
                lock(&self.index).expected.settle(uid, 1);
            }
            made
        });
        results.extend(creates.buffer_unordered(16).collect::<Vec<_>>().await);
        if rest {
            self.queue.add(key.clone());
        }
        // A namespace or a DaemonSet that has just gone is nothing to complain about.
        let failed = results.into_iter().filter_map(Result::err).find(|error| !is_moot(error));
        match failed {
            Some(error) => {
                self.say_that_it_failed(set, &error).await;
                // As the real one does it: the status is not written then.
                Err(error)
            }
            None => Ok(()),
        }
    }
}
