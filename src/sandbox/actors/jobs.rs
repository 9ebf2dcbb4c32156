//! A stand-in for the controllers that restart a job on several nodes as a whole: Volcano's, Kubeflow's, JobSet's.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::sleep;

use super::fit;

/// How often its controller looks after a job.
const POLL: Duration = Duration::from_millis(500);
/// How often a job was restarted, on the object that stands for it.
pub const RESTARTS: &str = "example.com/restarts";

/// A job with a pod on each of its nodes. When one of them goes, all are ended, and started again on the same nodes
/// when something can be scheduled on every one of them.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its namespace.
    pub namespace: String,
    /// Its name, and that of the ReplicaSet that stands for it: whoever deletes that ends it.
    pub name: String,
    /// The label that its framework names it by, or the annotation.
    pub key: String,
    /// It is an annotation.
    pub annotated: bool,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// GCUs on each of them.
    pub gcus: u32,
}

/// A job that was started.
pub struct Running {
    job: Job,
    uid: String,
    owners: Api<ReplicaSet>,
    pods: Api<Pod>,
    nodes: Api<Node>,
}

impl Job {
    /// Starts it, and waits until all of its pods are ready.
    ///
    /// # Errors
    /// The object that stands for it, or a pod of it, cannot be created.
    pub async fn start(self, client: Client) -> Result<Running, kube::Error> {
        let owners: Api<ReplicaSet> = Api::namespaced(client.clone(), &self.namespace);
        let labels = BTreeMap::from([("app", self.name.as_str())]);
        let owner = json!({
            "metadata": { "name": self.name },
            "spec": {
                "replicas": 0, "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "main", "image": "training:1" }] },
                },
            },
        });
        let owner = serde_json::from_value(owner).map_err(kube::Error::SerdeError)?;
        let made = owners.create(&PostParams::default(), &owner).await?;
        let running = Running {
            uid: made.uid().unwrap_or_default(),
            owners,
            pods: Api::namespaced(client.clone(), &self.namespace),
            nodes: Api::all(client),
            job: self,
        };
        running.create().await?;
        while running.there().await?.iter().filter(|pod| fit::ready_since(pod).is_some()).count()
            < running.job.nodes.len()
        {
            sleep(POLL / 10).await;
        }
        Ok(running)
    }
}

impl Running {
    /// Looks after it until what stands for it is deleted.
    pub async fn run(self) {
        let mut restarts = 0_u32;
        while let Ok(Some(_)) = self.owners.get_opt(&self.job.name).await {
            if self.is_broken().await {
                restarts = restarts.saturating_add(1);
                let patch = json!({ "metadata": { "annotations": { RESTARTS: restarts.to_string() } } });
                // What cannot be said now is said with the next restart.
                let _ =
                    self.owners.patch(&self.job.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                self.restart().await;
            }
            sleep(POLL).await;
        }
        self.end().await;
    }

    async fn is_broken(&self) -> bool {
        let Ok(there) = self.there().await else { return false };
        there.len() < self.job.nodes.len()
            || there.iter().any(|pod| pod.metadata.deletion_timestamp.is_some())
    }

    async fn restart(&self) {
        while let Ok(Some(_)) = self.owners.get_opt(&self.job.name).await {
            let gone = self.there().await.is_ok_and(|left| left.is_empty());
            if gone && self.are_schedulable().await && self.create().await.is_ok() {
                return;
            }
            self.end().await;
            sleep(POLL).await;
        }
    }

    async fn create(&self) -> Result<(), kube::Error> {
        let mut labels = json!({ "app": self.job.name });
        let mut annotations = json!({});
        let named = if self.job.annotated { &mut annotations } else { &mut labels };
        if let Some(named) = named.as_object_mut() {
            named.insert(self.job.key.clone(), json!(self.job.name));
        }
        for node in &self.job.nodes {
            let pod = json!({
                "metadata": {
                    "name": format!("{}-{node}", self.job.name),
                    "labels": labels,
                    "annotations": annotations,
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": self.job.name, "uid": self.uid,
                        "controller": true,
                    }],
                },
                "spec": {
                    "nodeName": node,
                    "containers": [{
                        "name": "main", "image": "training:1",
                        "resources": { "limits": { "enflame.com/gcu": self.job.gcus.to_string() } },
                    }],
                },
            });
            let pod = serde_json::from_value(pod).map_err(kube::Error::SerdeError)?;
            self.pods.create(&PostParams::default(), &pod).await?;
        }
        Ok(())
    }

    async fn there(&self) -> Result<Vec<Pod>, kube::Error> {
        let params = ListParams::default().labels(&format!("app={}", self.job.name));
        Ok(self.pods.list(&params).await?.items)
    }

    /// Ends the pods that are left.
    async fn end(&self) {
        for pod in self.there().await.unwrap_or_default() {
            if pod.metadata.deletion_timestamp.is_none() {
                let _ = self.pods.delete(&pod.name_any(), &DeleteParams::default()).await;
            }
        }
    }

    async fn are_schedulable(&self) -> bool {
        for node in &self.job.nodes {
            let there = self.nodes.get_opt(node).await;
            let spec = there.ok().flatten().and_then(|node| node.spec);
            if spec.is_none_or(|spec| spec.unschedulable == Some(true)) {
                return false;
            }
        }
        true
    }
}
