//! What happens in a random world. Nothing here minds whether it comes at a moment at which it makes sense.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::plan::{Event, VERSION, When};
use crate::scenario::tenants;
use crate::stage::{Answer, Stage};

/// Tells which component a workload belongs to: see the operator of the sandbox.
const COMPONENT: &str = "gcu-operator.enflame.com/component";
const SKIP: &str = "gum.enflame.com/skip";

/// What comes of a step is not waited for longer.
const UNTIL_A_STEP: Duration = Duration::from_secs(900);
/// How often it is looked whether a step has come.
const TICK: Duration = Duration::from_millis(10);
/// A process that is to die makes that many calls within this time, or never.
const UNTIL_A_DEATH: Duration = Duration::from_secs(120);

impl When {
    /// Until then. An upgrade that never comes to that step is not waited for for ever.
    pub(super) async fn comes(self, stage: &Stage, begun: Instant) {
        match self {
            Self::At(after) => sleep_until(begun + Duration::from_millis(after)).await,
            Self::Later(after) => sleep(Duration::from_millis(after)).await,
            Self::In(step, after) => {
                let (end, mut changes) = (Instant::now() + UNTIL_A_STEP, usize::MAX);
                while Instant::now() < end {
                    let now = stage.oracle.changes();
                    if now != changes && comes_to(stage, step) {
                        return sleep(Duration::from_millis(after)).await;
                    }
                    changes = now;
                    sleep(TICK).await;
                }
            }
        }
    }
}

/// Whether the newest record, or one of its nodes, is in this step, or has ended without.
fn comes_to(stage: &Stage, step: &str) -> bool {
    let Some(record) = stage.oracle.newest_record() else { return stage.oracle.changes() > 0 };
    let status = record.status_or_default();
    let active = status.rolling.iter().flat_map(|rolling| &rolling.active);
    status.phase.is_final()
        || format!("{:?}", status.step) == step
        || active.into_iter().any(|claim| format!("{:?}", claim.state) == step)
}

impl Event {
    /// Its kind.
    pub(super) fn kind(&self) -> String {
        let all = format!("{self:?}");
        let kind = all.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned();
        match self {
            Self::Command(word) | Self::OfNode(word, _) => format!("{kind} {word}"),
            _ => kind,
        }
    }

    /// Makes it happen. How many more times than once a call may be repeated because of it.
    pub(super) async fn happen(&self, stage: &mut Stage, request: &Value) -> usize {
        match self {
            Self::Edit(change) => {
                let change = json!({ "spec": change });
                let params = PatchParams::default();
                let _ = stage.world.grs().patch(stage.gr(), &params, &Patch::Merge(&change)).await;
            }
            Self::DeleteGr => {
                if let Ok(gr) = stage.world.gr().await {
                    stage.oracle.forgive(&gr.uid().unwrap());
                    let _ = stage.world.grs().delete(stage.gr(), &DeleteParams::default()).await;
                }
            }
            Self::Command(word) => drop(command(stage, word).await),
            Self::OfNode(word, node) => drop(command(stage, &format!("nodes/{node}/{word}")).await),
            Self::DeleteRecord => {
                if let Some(record) = stage.oracle.newest_record() {
                    let _ = stage.records().delete(&record.name_any(), &DeleteParams::default()).await;
                }
            }
            Self::Options(options) => {
                if let Some(record) = stage.oracle.newest_record() {
                    let patch = json!({ "spec": { "rollingUpdate": options } });
                    let params = PatchParams::default();
                    let _ = stage.records().patch(&record.name_any(), &params, &Patch::Merge(&patch)).await;
                }
            }
            Self::Restart => {
                stage.kill();
                return back_again(stage).await;
            }
            Self::Die(calls, after) => {
                stage.faults.die_at(stage.faults.calls().len() + calls, *after);
                let _ = timeout(UNTIL_A_DEATH, stage.faults.death()).await;
                stage.faults.do_not_die();
                if stage.faults.is_dead() {
                    stage.kill();
                    return back_again(stage).await;
                }
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
            Self::Cordon(node) => admin(stage, node, "cordoned", json!(true)).await,
            Self::Uncordon(node) => admin(stage, node, "uncordoned", Value::Null).await,
            Self::NewNode => {
                let nodes: Api<Node> = Api::all(stage.client.clone());
                let there = async |name| nodes.get_opt(name).await.unwrap().is_some();
                if there("node-1").await && !there("node-99").await {
                    tenants::add_node(stage, "node-99").await;
                }
            }
            Self::Arrive(node) => {
                let name = format!("late-{}", stage.faults.calls().len());
                tenants::arrive(stage, &name, node).await;
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

/// The process is started again, as soon as it can be ready.
async fn back_again(stage: &mut Stage) -> usize {
    while stage.faults.away().is_some() {
        sleep(Duration::from_secs(1)).await;
    }
    stage.start_service().await;
    stage.ready().await;
    1
}

async fn admin(stage: &Stage, node: &str, what: &str, unschedulable: Value) {
    let patch = json!({
        "metadata": { "annotations": { tenants::ADMIN: what } },
        "spec": { "unschedulable": unschedulable },
    });
    patch_node(stage, node, &patch).await;
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
