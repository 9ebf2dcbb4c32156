//! Jobs on several nodes, and a stand-in for the controllers that restart them as a whole: Volcano's, Kubeflow's,
//! JobSet's.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::tenants::{NAMESPACE, api};
use super::world::named;
use crate::harness::Harness;

/// How often its controller looks after a job.
const POLL: Duration = Duration::from_millis(500);
/// How often a job was restarted, on the object that stands for it.
const RESTARTS: &str = "example.com/restarts";

/// A job with a pod on each of its nodes. When one of them goes, all are ended, and started again on the same nodes
/// when something can be scheduled on every one of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) nodes: Vec<String>,
    /// The label that its framework names it by.
    #[serde(default = "volcano")]
    pub(crate) key: String,
}

fn volcano() -> String {
    "volcano.sh/job-name".to_owned()
}

struct Running {
    name: String,
    key: String,
    nodes: Vec<String>,
    owner: String,
    owners: Api<DynamicObject>,
    pods: Api<Pod>,
    all_nodes: Api<Node>,
}

/// Starts these jobs, and looks after them for as long as they are there.
pub(crate) async fn start(harness: &Harness, jobs: &[Job]) {
    for job in jobs {
        let prefix = harness.prefix();
        let name = named(&prefix, &job.name);
        let owners = api(harness, "apps", "v1", "ReplicaSet", "replicasets");
        let labels = BTreeMap::from([("app", name.as_str())]);
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": name },
            "spec": {
                "replicas": 0, "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "main", "image": "training:1" }] },
                },
            },
        });
        let made =
            owners.create(&PostParams::default(), &serde_json::from_value(owner).unwrap()).await.unwrap();
        let running = Running {
            key: job.key.clone(),
            nodes: job.nodes.iter().map(|node| named(&prefix, node)).collect(),
            owner: made.uid().unwrap(),
            owners,
            pods: Api::namespaced(harness.client.clone(), NAMESPACE),
            all_nodes: Api::all(harness.client.clone()),
            name,
        };
        running.create().await;
        while running.there().await.iter().filter(|pod| super::tenants::is_ready(pod)).count()
            < job.nodes.len()
        {
            sleep(Duration::from_millis(50)).await;
        }
        tokio::spawn(running.run());
    }
}

/// How often this job was restarted.
pub(crate) async fn restarts(harness: &Harness, name: &str) -> usize {
    let owners = api(harness, "apps", "v1", "ReplicaSet", "replicasets");
    let job = owners.get(&named(&harness.prefix(), name)).await.unwrap();
    job.annotations().get(RESTARTS).map_or(0, |times| times.parse().unwrap())
}

impl Running {
    async fn create(&self) {
        for node in &self.nodes {
            let pod = json!({
                "metadata": {
                    "name": format!("{}-{node}", self.name),
                    "labels": { "app": self.name, self.key.as_str(): self.name },
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": self.name, "uid": self.owner,
                        "controller": true,
                    }],
                },
                "spec": {
                    "nodeName": node,
                    "containers": [{
                        "name": "main", "image": "training:1",
                        "resources": { "limits": { "enflame.com/gcu": "2" } },
                    }],
                },
            });
            let _ = self.pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await;
        }
    }

    async fn there(&self) -> Vec<Pod> {
        let params = ListParams::default().labels(&format!("app={}", self.name));
        self.pods.list(&params).await.map(|list| list.items).unwrap_or_default()
    }

    async fn run(self) {
        let mut restarts = 0;
        // Whoever ends it deletes what stands for it.
        while let Ok(Some(_)) = self.owners.get_opt(&self.name).await {
            let there = self.there().await;
            let whole = there.len() == self.nodes.len();
            if !whole || there.iter().any(|pod| pod.metadata.deletion_timestamp.is_some()) {
                restarts += 1;
                let patch = json!({ "metadata": { "annotations": { RESTARTS: restarts.to_string() } } });
                let _ = self.owners.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                self.restart().await;
            }
            sleep(POLL).await;
        }
        for pod in self.there().await {
            let _ = self.pods.delete(&pod.name_any(), &DeleteParams::default()).await;
        }
    }

    async fn restart(&self) {
        loop {
            let left = self.there().await;
            let free = self.are_schedulable().await;
            if left.is_empty() && free {
                return self.create().await;
            }
            for pod in left.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
                let _ = self.pods.delete(&pod.name_any(), &DeleteParams::default()).await;
            }
            if let Ok(None) = self.owners.get_opt(&self.name).await {
                return;
            }
            sleep(POLL).await;
        }
    }

    async fn are_schedulable(&self) -> bool {
        for node in &self.nodes {
            let there = self.all_nodes.get_opt(node).await;
            let spec = there.ok().flatten().and_then(|node| node.spec);
            if spec.is_none_or(|spec| spec.unschedulable == Some(true)) {
                return false;
            }
        }
        true
    }
}
