//! Jobs on several nodes, which are restarted as a whole.

use std::time::Duration;

use gcu_upgrade_manager::sandbox::actors::jobs::{self, RESTARTS};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
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
    /// The label that its framework names it by, or the annotation.
    #[serde(default = "volcano")]
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) annotated: bool,
    /// So many of its pods have to run at once, as the object says of the group that Volcano schedules it with.
    #[serde(default)]
    pub(crate) min_member: Option<u32>,
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
            let api = served(harness, "batch.volcano.sh", "v1alpha1", "Job", "jobs").await;
            let name = named(&prefix, &job.name);
            make(&api, ("batch.volcano.sh/v1alpha1", "Job"), &name, json!({ "maxRetry": max_retry })).await;
            let status = json!({ "status": { "retryCount": job.retry_count } });
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
        if let Some(min_member) = job.min_member {
            let api = served(harness, "scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups").await;
            let kind = ("scheduling.volcano.sh/v1beta1", "PodGroup");
            make(&api, kind, &named(&prefix, &job.name), json!({ "minMember": min_member })).await;
        }
        let job = jobs::Job {
            namespace: NAMESPACE.to_owned(),
            name: named(&prefix, &job.name),
            key: job.key.clone(),
            annotated: job.annotated,
            nodes: job.nodes.iter().map(|node| named(&prefix, node)).collect(),
            gcus: 2,
        };
        let running = job.start(harness.client.clone()).await.unwrap();
        tokio::spawn(running.run());
    }
}

/// A kind of object of Volcano's.
async fn served(
    harness: &Harness,
    group: &str,
    version: &str,
    kind: &str,
    plural: &str,
) -> Api<DynamicObject> {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let name = format!("{plural}.{group}");
    let definition = json!({
        "metadata": { "name": name },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {
                "kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": kind.to_lowercase(),
            },
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": open, "status": open } } },
            }],
        },
    });
    let definitions: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    // Worlds that share a cluster have it once.
    let _ = definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await;
    let served = await_condition(definitions, &name, is_crd_established());
    timeout(Duration::from_secs(30), served).await.unwrap().unwrap();
    api(harness, group, version, kind, plural)
}

async fn make(api: &Api<DynamicObject>, (api_version, kind): (&str, &str), name: &str, spec: Value) {
    let object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": { "name": name }, "spec": spec,
    });
    let object = serde_json::from_value(object).unwrap();
    // It is served a moment after it is said to be.
    for _ in 0..100 {
        if api.create(&PostParams::default(), &object).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// How often this job was restarted.
pub(crate) async fn restarts(harness: &Harness, name: &str) -> usize {
    let owners = api(harness, "apps", "v1", "ReplicaSet", "replicasets");
    let job = owners.get(&named(&harness.prefix(), name)).await.unwrap();
    job.annotations().get(RESTARTS).map_or(0, |times| times.parse().unwrap())
}
