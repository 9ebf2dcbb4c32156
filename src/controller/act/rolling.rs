//! The calls of a RollingUpdate on DaemonSets, nodes and pods.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::plan::Action;
use crate::record::rolling::{LOCK_ANNOTATION, NODE_ANNOTATION};

/// The versions of the eviction API, newest first. Kubernetes before 1.22 knows only the second.
const EVICTIONS: [&str; 2] = ["policy/v1", "policy/v1beta1"];

/// Makes a call on a DaemonSet, a node or a pod.
pub(super) async fn act(client: &Client, eviction: &str, action: &Action) -> Result<(), kube::Error> {
    match action {
        Action::SetStrategy { namespace, name, uid, resource_version, strategy, remember } => {
            let annotation = remember.as_ref().map(Value::to_string);
            // A merge patch keeps what it does not mention.
            let mut strategy = strategy.clone();
            if strategy.get("rollingUpdate").is_none()
                && let Some(fields) = strategy.as_object_mut()
            {
                fields.insert("rollingUpdate".to_owned(), Value::Null);
            }
            let patch = json!({
                "metadata": {
                    "uid": uid,
                    "resourceVersion": resource_version,
                    "annotations": { LOCK_ANNOTATION: annotation },
                },
                "spec": { "updateStrategy": strategy },
            });
            let api: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
            api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
        }
        Action::Cordon { node, resource_version, mark } => {
            let mark = json!(mark).to_string();
            let patch = json!({
                "metadata": { "resourceVersion": resource_version, "annotations": { NODE_ANNOTATION: mark } },
                "spec": { "unschedulable": true },
            });
            patch_node(client, node, &patch).await
        }
        Action::ReleaseNode { node, resource_version, uncordon } => {
            let mut patch = json!({
                "metadata": { "resourceVersion": resource_version, "annotations": { NODE_ANNOTATION: null } },
            });
            if *uncordon && let Some(fields) = patch.as_object_mut() {
                fields.insert("spec".to_owned(), json!({ "unschedulable": null }));
            }
            patch_node(client, node, &patch).await
        }
        Action::Evict { namespace, name, uid } => evict(client, eviction, namespace, name, uid).await,
        Action::DeletePod { namespace, name, uid } => {
            let only_this = Preconditions { uid: Some(uid.clone()), ..Preconditions::default() };
            let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
            api.delete(name, &DeleteParams::default().preconditions(only_this)).await.map(drop)
        }
        // The calls on grs and records are made elsewhere.
        _ => Ok(()),
    }
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
