//! A minimal stand-in for Kubernetes' Deployment and ReplicaSet controllers: enough for nightingale.
//!
//! A Deployment has one ReplicaSet a template; the newest gets its pods, and when all of those are ready the
//! older ones are deleted. One that is paused is left alone. Left out: surge and maxUnavailable, rollback, history.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Barrier;

use super::{
    fit,
    queue::{
        Change, Expectations, Key, Queue, controller_uid, delete_exactly, is_moot, key_of, lock, observe,
        owned_by, work,
    },
};
use crate::WORLD_LABEL;

/// The label that tells the pods of one template from those of another.
const HASH_LABEL: &str = "pod-template-hash";
/// Events come in bursts; one look serves a burst.
const SETTLE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Index {
    deployments: BTreeMap<Key, Arc<Deployment>>,
    /// ReplicaSets by UID.
    sets: HashMap<String, Arc<ReplicaSet>>,
    /// Pods by the UID of their ReplicaSet.
    pods: HashMap<String, BTreeMap<Key, Arc<Pod>>>,
    /// Created pods, by the UID of their ReplicaSet.
    expected: Expectations,
}

struct Controller {
    client: Client,
    world: Option<String>,
    index: Mutex<Index>,
    queue: Arc<Queue<Key>>,
}

/// Looks after the Deployments of the world for ever; with no world, after those of the whole cluster.
pub async fn run(client: Client, world: Option<String>) {
    let (deployments, sets, pods) =
        (Api::all(client.clone()), Api::all(client.clone()), Api::all(client.clone()));
    let (index, queue) = (Mutex::new(Index::default()), Queue::new());
    let controller = Controller { client, world, index, queue };
    let synced = Arc::new(Barrier::new(4));
    let all = watcher::Config::default;
    tokio::join!(
        observe(deployments, all(), Arc::clone(&synced), |change| controller.saw_deployment(change)),
        observe(sets, all(), Arc::clone(&synced), |change| controller.saw_set(change)),
        observe(pods, all().labels(HASH_LABEL), Arc::clone(&synced), |change| controller.saw_pod(change)),
        async {
            synced.wait().await;
            work(Arc::clone(&controller.queue), 4, |key| controller.sync(key)).await;
        },
    );
}

/// The key of the object that controls this one.
fn owner_key<K: Resource>(object: &K) -> Option<Key> {
    let owner = object.owner_references().iter().find(|owner| owner.controller == Some(true))?;
    Some((object.namespace().unwrap_or_default(), owner.name.clone()))
}

impl Controller {
    fn saw_deployment(&self, change: Change<Deployment>) {
        let mut index = lock(&self.index);
        match change {
            Change::Applied { new, .. } => {
                if self.is_ours(&new) {
                    self.queue.add_after(key_of(&*new), SETTLE);
                    index.deployments.insert(key_of(&*new), new);
                }
            }
            Change::Gone(old) => drop(index.deployments.remove(&key_of(&*old))),
        }
    }

    fn saw_set(&self, change: Change<ReplicaSet>) {
        let mut index = lock(&self.index);
        let set = match change {
            Change::Applied { new, .. } => {
                index.sets.insert(new.uid().unwrap_or_default(), Arc::clone(&new));
                new
            }
            Change::Gone(old) => {
                index.sets.remove(old.meta().uid.as_deref().unwrap_or_default());
                index.expected.forget(old.meta().uid.as_deref().unwrap_or_default());
                old
            }
        };
        if let Some(key) = owner_key(&*set) {
            self.queue.add_after(key, SETTLE);
        }
    }

    fn saw_pod(&self, change: Change<Pod>) {
        let mut index = lock(&self.index);
        let (pod, there, new) = match change {
            Change::Applied { old, new } => (new, true, old.is_none()),
            Change::Gone(old) => (old, false, false),
        };
        let Some(owner) = controller_uid(&*pod) else { return };
        let pods = index.pods.entry(owner.to_owned()).or_default();
        if there {
            pods.insert(key_of(&*pod), Arc::clone(&pod));
            if new {
                index.expected.settle(owner, 1);
            }
        } else {
            pods.remove(&key_of(&*pod));
        }
        if let Some(key) = index.sets.get(owner).and_then(|set| owner_key(&**set)) {
            self.queue.add_after(key, SETTLE);
        }
    }

    fn is_ours(&self, deployment: &Deployment) -> bool {
        let Some(world) = &self.world else { return true };
        let spec = deployment.spec.template.spec.as_ref();
        let selector = spec.and_then(|spec| spec.node_selector.as_ref());
        selector.and_then(|selector| selector.get(WORLD_LABEL)) == Some(world)
    }

    async fn sync(&self, key: Key) -> Result<Option<Duration>, kube::Error> {
        let (deployment, sets) = {
            let index = lock(&self.index);
            let Some(deployment) = index.deployments.get(&key).cloned() else { return Ok(None) };
            let uid = deployment.metadata.uid.as_deref();
            let own = |set: &&Arc<ReplicaSet>| controller_uid(&***set) == uid;
            let sets: Vec<Arc<ReplicaSet>> = index.sets.values().filter(own).cloned().collect();
            (deployment, sets)
        };
        if deployment.metadata.deletion_timestamp.is_some() || deployment.spec.paused == Some(true) {
            return Ok(None);
        }
        let spec = &deployment.spec;
        let digest = Sha256::digest(json!(spec.template).to_string().as_bytes());
        let hash: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{}-{hash}", key.1);
        let Some(set) = sets.iter().find(|set| set.name_any() == name) else {
            let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.0);
            let made = replica_set(&deployment, &name, &hash).map_err(kube::Error::SerdeError)?;
            return match api.create(&PostParams::default(), &made).await {
                Err(error) if !is_moot(&error) => Err(error),
                // One of a deleted namesake is in the way until it is collected.
                Err(_) => Ok(Some(Duration::from_secs(1))),
                Ok(_) => Ok(None),
            };
        };
        let wanted = spec.replicas.unwrap_or(1);
        let ready = self.fill(&key, set, wanted).await?;
        let mut replicas = wanted;
        for old in sets.iter().filter(|old| old.name_any() != name) {
            if ready >= wanted {
                let api: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.0);
                let uid = old.uid().unwrap_or_default();
                delete_exactly(&api, &old.name_any(), &uid, DeleteParams::background()).await?;
            } else {
                let index = lock(&self.index);
                let pods =
                    index.pods.get(old.meta().uid.as_deref().unwrap_or_default()).map_or(0, BTreeMap::len);
                replicas = replicas.saturating_add(i32::try_from(pods).unwrap_or(0));
            }
        }
        self.report(&key, &deployment, replicas, wanted, ready).await?;
        Ok(None)
    }

    /// Gives the ReplicaSet the pods that it lacks, and answers how many are ready.
    async fn fill(&self, key: &Key, set: &ReplicaSet, wanted: i32) -> Result<i32, kube::Error> {
        let uid = set.uid().unwrap_or_default();
        let (lacking, surplus, ready) = {
            let mut index = lock(&self.index);
            let pods = index.pods.get(&uid).into_iter().flat_map(BTreeMap::values);
            let serving: Vec<Arc<Pod>> = pods
                .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !fit::is_over(pod))
                .cloned()
                .collect();
            let ready = serving.iter().filter(|pod| fit::ready_since(pod).is_some()).count();
            let wanted = usize::try_from(wanted).unwrap_or(0);
            let expected = index.expected.pending(&uid).map_or(0, |(expected, _)| expected);
            let lacking = wanted.saturating_sub(serving.len().saturating_add(expected));
            index.expected.expect(&uid, lacking);
            let surplus: Vec<Arc<Pod>> = serving.into_iter().skip(wanted).collect();
            (lacking, surplus, i32::try_from(ready).unwrap_or(0))
        };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        for pod in surplus {
            delete_exactly(&api, &pod.name_any(), &pod.uid().unwrap_or_default(), DeleteParams::default())
                .await?;
        }
        let template = set.spec.template.clone().unwrap_or_default();
        let metadata = template.metadata.unwrap_or_default();
        let pod = Pod {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", set.name_any())),
                namespace: Some(key.0.clone()),
                owner_references: owned_by(set),
                ..metadata
            },
            spec: template.spec,
            status: None,
        };
        for made in 0..lacking {
            if let Err(error) = api.create(&PostParams::default(), &pod).await {
                lock(&self.index).expected.settle(&uid, lacking.saturating_sub(made));
                return Err(error);
            }
        }
        Ok(ready)
    }

    async fn report(
        &self,
        key: &Key,
        deployment: &Deployment,
        replicas: i32,
        updated: i32,
        ready: i32,
    ) -> Result<(), kube::Error> {
        let known = deployment.status.clone().unwrap_or_default();
        let generation = deployment.metadata.generation;
        let number = |value: Option<i32>| value.unwrap_or(0);
        let reported = (number(known.replicas), number(known.updated_replicas), number(known.ready_replicas));
        if reported == (replicas, updated, ready) && known.observed_generation == generation {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "uid": deployment.uid() },
            "status": {
                "observedGeneration": generation,
                "replicas": replicas,
                "updatedReplicas": updated,
                "readyReplicas": ready,
                "availableReplicas": ready,
                "unavailableReplicas": updated.saturating_sub(ready),
            },
        });
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.0);
        match api.patch_status(&key.1, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if !is_moot(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

fn replica_set(deployment: &Deployment, name: &str, hash: &str) -> Result<ReplicaSet, serde_json::Error> {
    let spec = deployment.spec.clone();
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "namespace": deployment.namespace(),
            "labels": labels,
            "ownerReferences": owned_by(deployment),
        },
        "spec": { "replicas": spec.replicas, "selector": selector, "template": template },
    }))
}
