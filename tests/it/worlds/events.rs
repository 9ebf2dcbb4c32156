//! What happens in a random world. Nothing here minds whether it comes at a moment at which it makes sense.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::plan::{Event, VERSION, When};
use crate::harness::{Answer, Harness};
use crate::scenario::tenants;

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
    pub(super) async fn comes(self, harness: &Harness, begun: Instant) {
        match self {
            Self::At(after) => sleep_until(begun + Duration::from_millis(after)).await,
            Self::Later(after) => sleep(Duration::from_millis(after)).await,
            Self::In(step, after) => {
                let (end, mut changes) = (Instant::now() + UNTIL_A_STEP, usize::MAX);
                while Instant::now() < end {
                    let now = harness.oracle.changes();
                    if now != changes && comes_to(harness, step) {
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
fn comes_to(harness: &Harness, step: &str) -> bool {
    let Some(record) = harness.oracle.newest_record() else { return harness.oracle.changes() > 0 };
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
    pub(super) async fn happen(&self, harness: &mut Harness, request: &Value) -> usize {
        match self {
            Self::Edit(change) => {
                let change = json!({ "spec": change });
                let params = PatchParams::default();
                let _ = harness.world.grs().patch(harness.gr(), &params, &Patch::Merge(&change)).await;
            }
            Self::DeleteGr => {
                if let Ok(gr) = harness.world.gr().await {
                    harness.oracle.forgive(&gr.uid().unwrap());
                    let _ = harness.world.grs().delete(harness.gr(), &DeleteParams::default()).await;
                }
            }
            Self::Command(word) => drop(command(harness, word).await),
            Self::OfNode(word, node) => drop(command(harness, &format!("nodes/{node}/{word}")).await),
            Self::DeleteRecord => {
                if let Some(record) = harness.oracle.newest_record() {
                    let _ = harness.records().delete(&record.name_any(), &DeleteParams::default()).await;
                }
            }
            Self::Options(options) => {
                if let Some(record) = harness.oracle.newest_record() {
                    let patch = json!({ "spec": { "rollingUpdate": options } });
                    let params = PatchParams::default();
                    let _ = harness.records().patch(&record.name_any(), &params, &Patch::Merge(&patch)).await;
                }
            }
            Self::Restart => {
                harness.kill();
                return back_again(harness).await;
            }
            Self::Die(calls, after) => {
                harness.faults.die_at(harness.faults.calls().len() + calls, *after);
                let _ = timeout(UNTIL_A_DEATH, harness.faults.death()).await;
                harness.faults.do_not_die();
                if harness.faults.is_dead() {
                    harness.kill();
                    return back_again(harness).await;
                }
            }
            Self::Away(how, seconds) => harness.faults.go_away(how, &format!("{seconds}s")),
            Self::SecondService => {
                harness.start_another_service().await;
                return 1;
            }
            Self::NotReady(node) => {
                harness.world.change_kubelet(|kubelet| kubelet.dead_nodes.extend([node.clone()]));
            }
            Self::Ready(node) => {
                harness.world.change_kubelet(|kubelet| kubelet.dead_nodes.retain(|dead| dead != node));
            }
            Self::Vanish(node) => {
                let nodes: Api<Node> = Api::all(harness.client.clone());
                let _ = nodes.delete(node, &DeleteParams::default()).await;
            }
            Self::Cordon(node) => admin(harness, node, "cordoned", json!(true)).await,
            Self::Uncordon(node) => admin(harness, node, "uncordoned", Value::Null).await,
            Self::NewNode => {
                let nodes: Api<Node> = Api::all(harness.client.clone());
                let there = async |name| nodes.get_opt(name).await.unwrap().is_some();
                if there("node-1").await && !there("node-99").await {
                    tenants::add_node(harness, "node-99").await;
                }
            }
            Self::Arrive(node) => {
                let name = format!("late-{}", harness.faults.calls().len());
                tenants::arrive(harness, &name, node).await;
            }
            Self::PutBack(component) => put_back(harness, component).await,
            Self::BadImage(bad) => harness.world.change_kubelet(|kubelet| {
                kubelet.bad_images = bad.then(|| format!(":{VERSION}")).into_iter().collect();
            }),
            Self::Full(node, full) => harness.world.change_kubelet(|kubelet| {
                kubelet.full_nodes.retain(|other| other != node);
                kubelet.full_nodes.extend(full.then(|| node.clone()));
            }),
            Self::Again => {
                let path = format!("/gum/v1/gr/{}", harness.gr());
                harness.must("PUT", &path, &request.to_string()).await;
            }
            Self::Skip(node, skip) => {
                let label = if *skip { json!("true") } else { Value::Null };
                patch_node(harness, node, &json!({ "metadata": { "labels": { SKIP: label } } })).await;
            }
        }
        0
    }
}

/// The process is started again, as soon as it can be ready.
async fn back_again(harness: &mut Harness) -> usize {
    while harness.faults.away().is_some() {
        sleep(Duration::from_secs(1)).await;
    }
    harness.start_service().await;
    harness.ready().await;
    1
}

async fn admin(harness: &Harness, node: &str, what: &str, unschedulable: Value) {
    let patch = json!({
        "metadata": { "annotations": { tenants::ADMIN: what } },
        "spec": { "unschedulable": unschedulable },
    });
    patch_node(harness, node, &patch).await;
}

/// A command, as a person gives it. While the API server is away it is given again and again.
pub(super) async fn command(harness: &Harness, word: &str) -> Answer {
    let path = format!("/gum/v1/gr/{}/{word}", harness.gr());
    loop {
        let answer = harness.must("POST", &path, "").await;
        if answer.status != 503 || harness.faults.away().is_none() {
            return answer;
        }
        sleep(Duration::from_secs(5)).await;
    }
}

/// Images can be pulled and nodes are ready again, and the operator says what is.
pub(super) fn mend(harness: &Harness) {
    harness.world.change_kubelet(|kubelet| {
        kubelet.bad_images.clear();
        kubelet.dead_nodes.clear();
        kubelet.full_nodes.clear();
    });
    harness.world.change_operator(|operator| {
        operator.never_says_running = false;
        operator.phase_flaps = false;
    });
}

async fn patch_node(harness: &Harness, node: &str, patch: &Value) {
    let nodes: Api<Node> = Api::all(harness.client.clone());
    // It may have vanished.
    let _ = nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await;
}

async fn put_back(harness: &Harness, component: &str) {
    let sets: Api<DaemonSet> = Api::all(harness.client.clone());
    let all = sets.list(&Default::default()).await.unwrap().items;
    let Some(set) = all.iter().find(|set| set.annotations().get(COMPONENT).is_some_and(|of| of == component))
    else {
        return;
    };
    harness.oracle.forgive(&set.uid().unwrap());
    let own: Api<DaemonSet> = Api::namespaced(harness.client.clone(), &set.namespace().unwrap());
    let patch = json!({ "spec": { "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": null } } });
    let _ = own.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
}
