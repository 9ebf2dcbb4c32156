//! What version 2.0.0 leaves behind when it is replaced in the middle of a rollout: its CRD, its records, and what it
//! wrote on DaemonSets.

use gcu_upgrade_manager::record::rolling::{HELD_LABEL, HOLD_ANNOTATION, LOCK_ANNOTATION, Replaced};
use gcu_upgrade_manager::record::{CRD_REVISION_ANNOTATION, GcuUpgrade};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::world::named;
use crate::harness::Harness;

/// The CRD as 2.0.0 shipped it.
const CRD: &str = include_str!("../../data/crd-2.0.0.yaml");

/// Everything as 2.0.0 would have it that holds these DaemonSets alone.
pub(super) async fn make_2_0_0(harness: &Harness, held: &[String]) {
    let prefix = harness.prefix();
    let held: Vec<String> = held.iter().map(|name| named(&prefix, name)).collect();
    let resource = ApiResource::erase::<GcuUpgrade>(&());
    let records: Api<DynamicObject> = Api::all_with(harness.client.clone(), &resource);
    let pods: Api<Pod> = Api::namespaced(harness.client.clone(), "kube-system");
    let pods = pods.list(&Default::default()).await.unwrap().items;
    for record in records.list(&Default::default()).await.unwrap().items {
        let mut spec = record.data["spec"].clone();
        remove(&mut spec, &["skip", "nodeAttempts", "failureThreshold"]);
        let mut status = record.data["status"].clone();
        let rolling = &mut status["rolling"];
        remove(rolling, &["guarded", "probed", "grChanged", "stepDone"]);
        let locked = rolling["locked"].as_array_mut().unwrap();
        locked.retain(|pin| held.iter().any(|name| pin["name"] == *name));
        locked.iter_mut().for_each(|pin| remove(pin, &["component", "unfinished"]));
        for claim in rolling["active"].as_array_mut().into_iter().flatten() {
            name_as_2_0_0(claim, &pods);
            remove(claim, &["attempt", "lostGcus", "soakingSince"]);
        }
        for done in rolling["recent"].as_array_mut().into_iter().flatten() {
            name_as_2_0_0(done, &pods);
        }
        let mut older = record.clone();
        (older.data["spec"], older.data["status"]) = (spec, status);
        let written =
            records.replace_status(&record.name_any(), &PostParams::default(), &older).await.unwrap();
        older.metadata.resource_version = written.resource_version();
        records.replace(&record.name_any(), &PostParams::default(), &older).await.unwrap();
    }
    let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    let mut older: CustomResourceDefinition = serde_saphyr::from_str(CRD).unwrap();
    older.metadata.resource_version = crds.get(&older.name_any()).await.unwrap().resource_version();
    crds.replace(&older.name_any(), &PostParams::default(), &older).await.unwrap();
    let sets: Api<DaemonSet> = Api::namespaced(harness.client.clone(), "kube-system");
    for set in sets.list(&Default::default()).await.unwrap().items {
        let Some(before) = set.annotations().get(LOCK_ANNOTATION) else { continue };
        let mut patch = json!({
            "metadata": { "labels": { HELD_LABEL: null }, "annotations": { HOLD_ANNOTATION: null } },
        });
        if !held.contains(&set.name_any()) {
            patch["metadata"]["annotations"][LOCK_ANNOTATION] = Value::Null;
            patch["spec"]["updateStrategy"] = serde_json::from_str(before).unwrap();
        }
        sets.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
}

/// It named each pod in full.
fn name_as_2_0_0(node: &mut Value, there: &[Pod]) {
    let replaces: Replaced = serde_json::from_value(node["replaces"].take()).unwrap_or_default();
    remove(node, &["replaces"]);
    let in_full = |(component, end, at): (&str, &str, Timestamp)| {
        let on = node["node"].as_str();
        let is_it = |pod: &&Pod| {
            let spec = pod.spec.as_ref().unwrap();
            spec.node_name.as_deref() == on && pod.name_any().ends_with(end)
        };
        let pod = there.iter().find(is_it);
        // What is gone was named in full too.
        let name = pod.map_or_else(|| format!("gone-{end}"), |pod| pod.name_any());
        let uid = pod.and_then(|pod| pod.uid()).unwrap_or_else(|| format!("gone-{end}"));
        json!({ "component": component, "name": name, "uid": uid, "createdAt": at })
    };
    let pods: Vec<Value> = replaces.pods().map(in_full).collect();
    node["pods"] = Value::from(pods);
}

fn remove(object: &mut Value, fields: &[&str]) {
    if let Some(object) = object.as_object_mut() {
        object.retain(|key, _| !fields.contains(&key.as_str()));
    }
}

/// Cuts records and the CRD down to what revision 1 of the CRD knew.
pub(super) async fn make_older(harness: &Harness) {
    let params = PatchParams::default();
    for record in harness.records().list(&Default::default()).await.unwrap().items {
        let older = json!({ "spec": {
            "components": null, "rollingUpdate": null, "granted": null,
            "deadlines": { "propagateSeconds": null, "nodeSeconds": null },
        } });
        harness.records().patch(&record.name_any(), &params, &Patch::Merge(&older)).await.unwrap();
    }
    let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    let name = "gcuupgrades.gum.enflame.com";
    let mut crd = serde_json::to_value(crds.get(name).await.unwrap()).unwrap();
    crd["metadata"]["annotations"][CRD_REVISION_ANNOTATION] = json!("1");
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties").unwrap();
    for (of, field) in [
        ("/spec/properties", "components"),
        ("/spec/properties", "rollingUpdate"),
        ("/spec/properties", "granted"),
        ("/spec/properties/deadlines/properties", "propagateSeconds"),
        ("/spec/properties/deadlines/properties", "nodeSeconds"),
        ("/status/properties", "rolling"),
    ] {
        let removed = schema.pointer_mut(of).unwrap().as_object_mut().unwrap().remove(field);
        assert!(removed.is_some(), "{of}/{field} is in the present schema");
    }
    let older = serde_json::from_value(crd).unwrap();
    crds.replace(name, &PostParams::default(), &older).await.unwrap();
}
