//! The calls of a RollingUpdate on DaemonSets, nodes and pods.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::plan::FleetAction;
use crate::plan::fleet::SetState;
use crate::record::rolling::{
    HELD_LABEL, HOLD_ANNOTATION, LOCK_ANNOTATION, NODE_ANNOTATION, RELEASE_ANNOTATION,
};

/// The versions of the eviction API, newest first. Kubernetes before 1.22 knows only the second.
const EVICTIONS: [&str; 2] = ["policy/v1", "policy/v1beta1"];

/// Makes a call on a DaemonSet, a node or a pod.
pub(super) async fn act(client: &Client, eviction: &str, action: &FleetAction) -> Result<(), kube::Error> {
    match action {
        FleetAction::Hold { namespace, name, uid, resource_version, strategy, hold } => {
            let patch = json!({
                "metadata": {
                    "uid": uid,
                    "resourceVersion": resource_version,
                    "labels": { HELD_LABEL: "true" },
                    "annotations": {
                        LOCK_ANNOTATION: strategy.to_string(),
                        HOLD_ANNOTATION: json!(hold).to_string(),
                    },
                },
                "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } },
            });
            patch_daemonset(client, namespace, name, &patch).await
        }
        FleetAction::Cordon { node, resource_version, mark } => {
            let mark = json!(mark).to_string();
            let patch = json!({
                "metadata": { "resourceVersion": resource_version, "annotations": { NODE_ANNOTATION: mark } },
                "spec": { "unschedulable": true },
            });
            patch_node(client, node, &patch).await
        }
        FleetAction::ReleaseNode { node, resource_version, uncordon } => {
            let mut patch = json!({
                "metadata": { "resourceVersion": resource_version, "annotations": { NODE_ANNOTATION: null } },
            });
            if *uncordon && let Some(fields) = patch.as_object_mut() {
                fields.insert("spec".to_owned(), json!({ "unschedulable": null }));
            }
            patch_node(client, node, &patch).await
        }
        FleetAction::Evict { namespace, name, uid, .. } => {
            evict(client, eviction, namespace, name, uid).await
        }
        FleetAction::DeletePod { namespace, name, uid, .. } => {
            let only_this = Preconditions { uid: Some(uid.clone()), ..Preconditions::default() };
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            api.delete(name, &DeleteParams::default().preconditions(only_this)).await.map(drop)
        }
    }
}

/// Gives a DaemonSet its own update strategy back, in the version that was looked at.
///
/// # Errors
/// The API server's; 409 when it has changed meanwhile.
pub(crate) async fn let_go(client: &Client, set: &SetState) -> Result<(), kube::Error> {
    let guarded = set.hold.as_ref().is_some_and(|hold| hold.guarded);
    // A merge patch keeps what it does not mention.
    let mut strategy = set.lock.clone().unwrap_or_default();
    if let Some(fields) = strategy.as_object_mut() {
        fields.entry("rollingUpdate").or_insert(Value::Null);
    }
    let patch = json!({
        "metadata": {
            "uid": set.uid,
            "resourceVersion": set.resource_version,
            "labels": { HELD_LABEL: null },
            "annotations": {
                LOCK_ANNOTATION: null,
                HOLD_ANNOTATION: null,
                // For the webhook, which takes it off again.
                RELEASE_ANNOTATION: guarded.then_some(&set.resource_version),
            },
        },
        "spec": { "updateStrategy": strategy },
    });
    patch_daemonset(client, &set.namespace, &set.name, &patch).await
}

/// Labels a DaemonSet that an older version holds.
///
/// # Errors
/// The API server's; 409 when it has changed meanwhile.
pub(crate) async fn label(client: &Client, set: &SetState) -> Result<(), kube::Error> {
    let patch = json!({
        "metadata": {
            "uid": set.uid, "resourceVersion": set.resource_version, "labels": { HELD_LABEL: "true" },
        },
    });
    patch_daemonset(client, &set.namespace, &set.name, &patch).await
}

async fn patch_daemonset(
    client: &Client,
    namespace: &str,
    name: &str,
    patch: &Value,
) -> Result<(), kube::Error> {
    let api: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

async fn patch_node(client: &Client, node: &str, patch: &Value) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    api.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

async fn evict(client: &Client, version: &str, ns: &str, name: &str, uid: &str) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": version,
        "kind": "Eviction",
        "metadata": { "name": name, "namespace": ns },
        "deleteOptions": { "preconditions": { "uid": uid } },
    });
    let request = http::Request::post(format!("/api/v1/namespaces/{ns}/pods/{name}/eviction"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request::<Value>(request).await.map(drop)
}

/// Finds out which version of the eviction API the cluster has.
///
/// # Errors
/// The API server's.
pub(crate) async fn eviction_version(client: &Client) -> Result<&'static str, kube::Error> {
    let resources = client.list_core_api_resources("v1").await?;
    let served = resources.resources.iter().find(|r| r.name == "pods/eviction");
    let version = served.and_then(|r| r.version.as_deref()).unwrap_or("v1beta1");
    Ok(if version == "v1" { EVICTIONS[0] } else { EVICTIONS[1] })
}
