//! Jobs on several nodes, which are restarted as a whole.

use std::time::Duration;

use gcu_upgrade_manager::sandbox::actors::jobs::{self, RESTARTS};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::tenants::{NAMESPACE, api};
use super::world::named;
use crate::harness::Harness;

/// A job with a pod on each of its nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) nodes: Vec<String>,
    /// The label that its framework names it by.
    #[serde(default = "volcano")]
    pub(crate) key: String,
    /// How often Volcano restarts it, if it is a job of that, and how often it has been.
    #[serde(default)]
    pub(crate) max_retry: Option<u32>,
    #[serde(default)]
    pub(crate) retry_count: u32,
}

fn volcano() -> String {
    "volcano.sh/job-name".to_owned()
}

/// Starts these jobs, and looks after them for as long as they are there.
pub(crate) async fn start(harness: &Harness, all: &[Job]) {
    let prefix = harness.prefix();
    for job in all {
        if let Some(max_retry) = job.max_retry {
            volcano_job(harness, &named(&prefix, &job.name), max_retry, job.retry_count).await;
        }
        let job = jobs::Job {
            namespace: NAMESPACE.to_owned(),
            name: named(&prefix, &job.name),
            label: job.key.clone(),
            nodes: job.nodes.iter().map(|node| named(&prefix, node)).collect(),
            gcus: 2,
        };
        let running = job.start(harness.client.clone()).await.unwrap();
        tokio::spawn(running.run());
    }
}

/// The object that Volcano has for a job, as far as it says how often the job is restarted.
async fn volcano_job(harness: &Harness, name: &str, max_retry: u32, retry_count: u32) {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "metadata": { "name": "jobs.batch.volcano.sh" },
        "spec": {
            "group": "batch.volcano.sh", "scope": "Namespaced",
            "names": { "kind": "Job", "listKind": "JobList", "plural": "jobs", "singular": "job" },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": open, "status": open } } },
            }],
        },
    });
    let definitions: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    // Worlds that share a cluster have it once.
    let _ = definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await;
    let served = await_condition(definitions, "jobs.batch.volcano.sh", is_crd_established());
    timeout(Duration::from_secs(30), served).await.unwrap().unwrap();
    let jobs = api(harness, "batch.volcano.sh", "v1alpha1", "Job", "jobs");
    let job = json!({
        "apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": { "name": name },
        "spec": { "maxRetry": max_retry },
    });
    let job = serde_json::from_value(job).unwrap();
    // It is served a moment after it is said to be.
    while jobs.create(&PostParams::default(), &job).await.is_err() {
        sleep(Duration::from_millis(50)).await;
    }
    let status = json!({ "status": { "retryCount": retry_count } });
    jobs.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

/// How often this job was restarted.
pub(crate) async fn restarts(harness: &Harness, name: &str) -> usize {
    let owners = api(harness, "apps", "v1", "ReplicaSet", "replicasets");
    let job = owners.get(&named(&harness.prefix(), name)).await.unwrap();
    job.annotations().get(RESTARTS).map_or(0, |times| times.parse().unwrap())
}
