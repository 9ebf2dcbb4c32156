//! ControllerRevisions: the history of a DaemonSet's templates, and the hash that its pods carry.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Controller, HASH_LABEL};
use crate::actors::queue::{controller_uid, is_moot, key_of, lock, owned_by};

/// What a generation of a DaemonSet was found to be: saves asking again at every event.
pub(super) struct Revision {
    generation: i64,
    hash: String,
}

/// Letters and digits without vowels, as Kubernetes uses them: no hash spells a word.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn hash_of(data: &Value) -> String {
    let digest = Sha256::digest(data.to_string().as_bytes());
    let letters = digest.iter().take(10);
    letters
        .filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()))
        .map(|b| char::from(*b))
        .collect()
}

impl Controller {
    /// The hash of the DaemonSet's template; makes sure that its ControllerRevision is there and the newest.
    pub(super) async fn revision_of(&self, set: &DaemonSet) -> Result<String, kube::Error> {
        let generation = set.metadata.generation.unwrap_or_default();
        let uid = set.uid().unwrap_or_default();
        if let Some(known) = lock(&self.index).revisions.get(&uid)
            && known.generation == generation
        {
            return Ok(known.hash.clone());
        }
        let mut template = json!(set.spec.template);
        if let Some(fields) = template.as_object_mut() {
            fields.insert("$patch".to_owned(), json!("replace"));
        }
        let data = json!({ "spec": { "template": template } });
        let hash = hash_of(&data);
        self.keep_revision(set, &hash, data).await?;
        lock(&self.index).revisions.insert(uid, Revision { generation, hash: hash.clone() });
        Ok(hash)
    }

    async fn keep_revision(&self, set: &DaemonSet, hash: &str, data: Value) -> Result<(), kube::Error> {
        let (namespace, name) = key_of(set);
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &namespace);
        let labels = set.spec.selector.match_labels.clone().unwrap_or_default();
        let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut own = api.list(&ListParams::default().labels(&selector.join(","))).await?.items;
        own.retain(|revision| controller_uid(revision) == set.metadata.uid.as_deref());
        own.sort_by_key(|revision| revision.revision);
        let newest = own.last().and_then(|revision| revision.revision).unwrap_or(0);
        let revision_name = format!("{name}-{hash}");
        match own.iter().find(|revision| revision.name_any() == revision_name) {
            Some(known) if known.revision == Some(newest) => {}
            Some(_) => {
                // An old template is wanted again: its revision becomes the newest.
                let patch = json!({ "revision": newest.saturating_add(1) });
                api.patch(&revision_name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
            None => {
                let mut metadata = json!({
                    "name": revision_name,
                    "namespace": namespace,
                    "labels": set.spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()),
                    "ownerReferences": owned_by(set),
                });
                if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
                    labels.insert(HASH_LABEL.to_owned(), json!(hash));
                }
                let made = json!({
                    "apiVersion": "apps/v1",
                    "kind": "ControllerRevision",
                    "metadata": metadata,
                    "data": data,
                    "revision": newest.saturating_add(1),
                });
                let made = serde_json::from_value(made).map_err(kube::Error::SerdeError)?;
                // A revision of a deleted namesake makes way when the garbage collector comes to it.
                api.create(&PostParams::default(), &made).await?;
            }
        }
        let limit = set.spec.revision_history_limit.unwrap_or(10);
        let surplus = own.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        let in_use: BTreeSet<String> = {
            let index = lock(&self.index);
            let pods = index.pods.get(set.meta().uid.as_deref().unwrap_or_default());
            pods.into_iter()
                .flat_map(|pods| pods.values().flatten())
                .filter_map(|pod| pod.labels().get(HASH_LABEL).cloned())
                .collect()
        };
        let unused = own.iter().filter(|revision| {
            revision.name_any() != revision_name
                && revision.labels().get(HASH_LABEL).is_none_or(|hash| !in_use.contains(hash))
        });
        for old in unused.take(surplus) {
            match api.delete(&old.name_any(), &DeleteParams::default()).await {
                Err(error) if !is_moot(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
