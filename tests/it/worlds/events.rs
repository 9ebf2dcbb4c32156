//! What happens in a random world. Nothing here minds whether it comes at a moment at which it makes sense.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::plan::{Event, VERSION};
use crate::scenario::tenants;
use crate::stage::{Answer, Stage};

/// Tells which component a workload belongs to: see the operator of the sandbox.
const COMPONENT: &str = "gcu-operator.enflame.com/component";
const SKIP: &str = "gum.enflame.com/skip";

impl Event {
    /// Makes it happen. How many more times than once a call may be repeated because of it.
    pub(super) async fn happen(&self, stage: &mut Stage, request: &Value) -> usize {
        match self {
            Self::Edit(component) => {
                let change = json!({ "spec": { *component: { "version": "9.9.9" } } });
                let params = PatchParams::default();
                let _ = stage.world.grs().patch(stage.gr(), &params, &Patch::Merge(&change)).await;
            }
            Self::Command(word) => drop(command(stage, word).await),
            Self::DeleteRecord => {
                let _ = stage.records().delete(&stage.record_name(1), &DeleteParams::default()).await;
            }
            Self::Restart => {
                stage.kill();
                while stage.faults.away().is_some() {
                    sleep(Duration::from_secs(1)).await;
                }
                stage.start_service().await;
                stage.ready().await;
                return 1;
            }
            Self::Away(how, seconds) => stage.faults.go_away(how, &format!("{seconds}s")),
            Self::SecondService => {
                stage.start_another_service().await;
                return 1;
            }
            Self::NotReady(node) => {
                stage.world.change_kubelet(|kubelet| kubelet.dead_nodes.extend([node.clone()]));
            }
            Self::Ready(node) => {
                stage.world.change_kubelet(|kubelet| kubelet.dead_nodes.retain(|dead| dead != node));
            }
            Self::Vanish(node) => {
                let nodes: Api<Node> = Api::all(stage.client.clone());
                let _ = nodes.delete(node, &DeleteParams::default()).await;
            }
            Self::Uncordon(node) => {
                let patch = json!({
                    "metadata": { "annotations": { tenants::ADMIN: "uncordoned" } },
                    "spec": { "unschedulable": null },
                });
                patch_node(stage, node, &patch).await;
            }
            Self::NewNode => {
                let nodes: Api<Node> = Api::all(stage.client.clone());
                let there = async |name| nodes.get_opt(name).await.unwrap().is_some();
                if there("node-1").await && !there("node-9").await {
                    tenants::add_node(stage, "node-9").await;
                }
            }
            Self::PutBack(component) => put_back(stage, component).await,
            Self::BadImage(bad) => stage.world.change_kubelet(|kubelet| {
                kubelet.bad_images = bad.then(|| format!(":{VERSION}")).into_iter().collect();
            }),
            Self::Full(node, full) => stage.world.change_kubelet(|kubelet| {
                kubelet.full_nodes.retain(|other| other != node);
                kubelet.full_nodes.extend(full.then(|| node.clone()));
            }),
            Self::Again => {
                let path = format!("/gum/v1/gr/{}", stage.gr());
                stage.must("PUT", &path, &request.to_string()).await;
            }
            Self::Skip(node, skip) => {
                let label = if *skip { json!("true") } else { Value::Null };
                patch_node(stage, node, &json!({ "metadata": { "labels": { SKIP: label } } })).await;
            }
        }
        0
    }
}

/// A command, as a person gives it. While the API server is away it is given again and again.
pub(super) async fn command(stage: &Stage, word: &str) -> Answer {
    let path = format!("/gum/v1/gr/{}/{word}", stage.gr());
    loop {
        let answer = stage.must("POST", &path, "").await;
        if answer.status != 503 || stage.faults.away().is_none() {
            return answer;
        }
        sleep(Duration::from_secs(5)).await;
    }
}

/// Images can be pulled and nodes are ready again, and the operator says what is.
pub(super) fn mend(stage: &Stage) {
    stage.world.change_kubelet(|kubelet| {
        kubelet.bad_images.clear();
        kubelet.dead_nodes.clear();
        kubelet.full_nodes.clear();
    });
    stage.world.change_operator(|operator| {
        operator.never_says_running = false;
        operator.phase_flaps = false;
    });
}

async fn patch_node(stage: &Stage, node: &str, patch: &Value) {
    let nodes: Api<Node> = Api::all(stage.client.clone());
    // It may have vanished.
    let _ = nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await;
}

async fn put_back(stage: &Stage, component: &str) {
    let sets: Api<DaemonSet> = Api::all(stage.client.clone());
    let all = sets.list(&Default::default()).await.unwrap().items;
    let Some(set) = all.iter().find(|set| set.annotations().get(COMPONENT).is_some_and(|of| of == component))
    else {
        return;
    };
    stage.oracle.forgive(&set.uid().unwrap());
    let own: Api<DaemonSet> = Api::namespaced(stage.client.clone(), &set.namespace().unwrap());
    let patch = json!({ "spec": { "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": null } } });
    let _ = own.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
}
