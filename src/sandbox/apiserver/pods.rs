//! The subresources of pods: binding and eviction.

use serde_json::{Value, json};

use super::{delete, disruption, error::ApiError, path::ResourcePath, request::Asked};
use crate::{json, resources::ResourceType, store::Tx};

/// The answer to a binding or an eviction that was done.
pub(crate) fn done() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

/// Binds a pod to a node.
pub(crate) fn bind(tx: &mut Tx<'_>, place: ResourcePath<'_>, body: &Value) -> Result<(), ApiError> {
    let kind = place.kind;
    let found = tx.state.get(&kind.key(), place.namespace, place.name);
    let pod = found.ok_or_else(|| ApiError::not_found(kind, place.name))?;
    let conflict = |why: String| Err(ApiError::conflict("", "pods/binding", place.name, &why));
    if !json::text(&pod, &["metadata", "deletionTimestamp"]).is_empty() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", place.name));
    }
    let bound = json::text(&pod, &["spec", "nodeName"]);
    if !bound.is_empty() {
        return conflict(format!("pod {} is already assigned to node {bound:?}", place.name));
    }
    let mut new = pod.as_ref().clone();
    json::set(&mut new, &["spec", "nodeName"], json::text(body, &["target", "name"]));
    let mut conditions = json::items(&pod, &["status", "conditions"]).to_vec();
    conditions.retain(|condition| json::text(condition, &["type"]) != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": tx.timestamp(),
    }));
    json::set(&mut new, &["status", "conditions"], conditions);
    tx.put(&kind.key(), place.namespace, place.name, new);
    Ok(())
}

/// Deletes a pod if its disruption budget allows.
pub(crate) fn evict(tx: &mut Tx<'_>, place: ResourcePath<'_>, asked: &Asked) -> Result<(), ApiError> {
    let body = asked.object("Eviction")?;
    check_eviction_version(tx, &body)?;
    let kind = place.kind;
    let found = tx.state.get(&kind.key(), place.namespace, place.name);
    let pod = found.ok_or_else(|| ApiError::not_found(kind, place.name))?;
    let options = delete::Options::parse(&asked.query, json::at(&body, &["deleteOptions"]))?;
    let dry_run = options.dry_run || tx.dry_run;
    if !needs_no_budget(&pod) {
        disruption::spend(tx, place.namespace, place.name, &pod, dry_run)?;
    }
    tx.dry_run = dry_run;
    delete::delete(tx, place, &options)?;
    Ok(())
}

/// Pods that have ended, or never started, disrupt nothing.
fn needs_no_budget(pod: &Value) -> bool {
    matches!(json::text(pod, &["status", "phase"]), "Succeeded" | "Failed" | "Pending")
        || !json::text(pod, &["metadata", "deletionTimestamp"]).is_empty()
}

fn check_eviction_version(tx: &Tx<'_>, body: &Value) -> Result<(), ApiError> {
    let found = json::text(body, &["apiVersion"]);
    let budgets = ("policy".to_owned(), "poddisruptionbudgets".to_owned());
    let served =
        |kind: &ResourceType| kind.versions.iter().any(|version| kind.api_version(&version.name) == found);
    // kube's client leaves the version out; the path says enough.
    if found.is_empty() || tx.state.types.get(&budgets).is_some_and(|kind| served(kind)) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "Eviction in version \"v1\" cannot be handled as a Eviction: no kind \"Eviction\" is registered for \
         version {found:?} in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\""
    )))
}
