//! What the cluster says, as small values: objects in, the plan's own types out. Used by the controller, which
//! decides on it, and by the API, which explains.

pub mod budgets;
pub mod fleet;
pub mod intern;
pub mod live;
pub mod pod_groups;
pub mod refusals;
mod sets;
pub mod volcano;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::cluster::gr_resource;
use crate::gr::{LiveGr, WorkloadKind, api_version};
use crate::plan::{PodState, WorkloadState};
use crate::record::GcuUpgrade;
use crate::record::rolling::Labels;

/// The label with which the operator usually ties a pod to its workload's name.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// Restarts after which a container that is not ready counts as crashing.
const CRASHES: i32 = 3;
/// Container states that do not mend without a change of image, registry or configuration.
const FAILING: &[&str] = &[
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// The gr's API for a record.
pub fn gr_api(client: &Client, record: &GcuUpgrade) -> Api<DynamicObject> {
    gr_api_of(client, &record.spec.target.manifest)
}

/// The API in the version that a manifest is of.
pub fn gr_api_of(client: &Client, manifest: &Value) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &gr_resource(api_version(manifest)))
}

/// The gr as served; `None` when it is none.
pub fn parse_gr(object: &DynamicObject) -> Option<LiveGr> {
    serde_json::to_value(object).ok().as_ref().and_then(LiveGr::parse)
}

/// How far a DaemonSet is rolled out.
pub fn daemonset_state(ds: &DaemonSet) -> WorkloadState {
    let status = ds.status.clone().unwrap_or_default();
    WorkloadState {
        kind: WorkloadKind::DaemonSet,
        namespace: ds.namespace().unwrap_or_default(),
        name: ds.name_any(),
        uid: ds.uid().unwrap_or_default(),
        refused: None,
        observed: status.observed_generation.is_some()
            && status.observed_generation >= ds.metadata.generation,
        desired: status.desired_number_scheduled,
        updated: status.updated_number_scheduled.unwrap_or_default(),
        available: status.number_available.unwrap_or_default(),
        selector: selector_of(&ds.spec.selector),
        owners: owners_of(ds),
    }
}

fn owners_of(object: &impl ResourceExt) -> Vec<String> {
    object.owner_references().iter().map(|o| o.uid.clone()).collect()
}

/// The labels that select a workload's pods. Rules beside them only narrow that down.
fn selector_of(selector: &LabelSelector) -> Labels {
    selector.match_labels.clone().unwrap_or_default()
}

/// How far a Deployment is rolled out.
pub fn deployment_state(deployment: &Deployment) -> WorkloadState {
    let status = deployment.status.clone().unwrap_or_default();
    WorkloadState {
        kind: WorkloadKind::Deployment,
        namespace: deployment.namespace().unwrap_or_default(),
        name: deployment.name_any(),
        uid: deployment.uid().unwrap_or_default(),
        refused: replica_failure(&status),
        observed: status.observed_generation.is_some()
            && status.observed_generation >= deployment.metadata.generation,
        desired: deployment.spec.replicas.unwrap_or(1),
        updated: status.updated_replicas.unwrap_or_default(),
        available: status.available_replicas.unwrap_or_default(),
        selector: selector_of(&deployment.spec.selector),
        owners: owners_of(deployment),
    }
}

/// A Deployment says itself that its pods cannot be created.
fn replica_failure(status: &DeploymentStatus) -> Option<String> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let failure = conditions
        .iter()
        .find(|c| c.type_.as_deref() == Some("ReplicaFailure") && c.status.as_deref() == Some("True"))?;
    Some(failure.message.clone().unwrap_or_default())
}

/// The node's name, if it is not ready. One without conditions has not been heard of yet.
pub fn dead_node(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    (!ready).then(|| node.name_any())
}

/// `None` for a pod that has ended (evicted ones stay around as such): it holds nothing.
pub fn pod_state(pod: &Pod) -> Option<PodState> {
    let status = pod.status.as_ref();
    if matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")) {
        return None;
    }
    let containers = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    let init = status.and_then(|s| s.init_container_statuses.as_deref()).unwrap_or_default();
    let deleting = pod.metadata.deletion_timestamp.is_some();
    Some(PodState {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        workload: workload_of(pod),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        deleting,
        created_at: fleet::created_at(pod),
        failure: init.iter().chain(containers).find_map(failure).filter(|_| !deleting),
    })
}

/// The name of the workload that a pod belongs to: that of its controller, or of the Deployment behind its ReplicaSet.
/// Labels are the operator's to choose.
fn workload_of(pod: &Pod) -> String {
    let controller = controller_of(pod);
    let of_deployment = |name: &str| name.rsplit_once('-').map(|(deployment, _)| deployment.to_owned());
    let by_owner = match controller.map(|o| (o.kind.as_str(), o.name.as_str())) {
        Some(("DaemonSet", name)) => Some(name.to_owned()),
        Some(("ReplicaSet", name)) => of_deployment(name),
        _ => None,
    };
    by_owner.or_else(|| pod.labels().get(NAME_LABEL).cloned()).unwrap_or_default()
}

/// The owner that makes another pod when this one is gone.
fn controller_of(pod: &Pod) -> Option<&OwnerReference> {
    pod.owner_references().iter().find(|o| o.controller == Some(true))
}

fn failure(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
    let reason = waiting.and_then(|w| w.reason.as_deref()).unwrap_or_default();
    let message = waiting.and_then(|w| w.message.as_deref()).unwrap_or_default();
    let image = &container.image;
    let because = if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") };
    match reason {
        "ErrImagePull" | "ImagePullBackOff" => {
            return Some(format!("image {image} cannot be pulled ({because})"));
        }
        "InvalidImageName" => return Some(format!("{image} is no image reference ({because})")),
        reason if FAILING.contains(&reason) => {
            return Some(format!("container {} cannot start ({because}; image {image})", container.name));
        }
        _ => {}
    }
    let crashing = !container.ready && container.restart_count >= CRASHES;
    crashing
        .then(|| format!("container {} keeps crashing: {} restarts", container.name, container.restart_count))
}
