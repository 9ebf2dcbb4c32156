//! What others have left in the cluster.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::json;

use crate::harness::Harness;

/// A record of the gr `gr` that this version cannot read, as a schema that accepts anything lets one write it.
pub(super) async fn unreadable(harness: &Harness, gr: &str) {
    let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    let present = crds.get("gcuupgrades.gum.enflame.com").await.unwrap();
    let mut open = serde_json::to_value(&present).unwrap();
    let schema = open.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    *schema = json!({
        "type": "object",
        "properties": {
            "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        },
    });
    crds.replace(
        "gcuupgrades.gum.enflame.com",
        &PostParams::default(),
        &serde_json::from_value(open).unwrap(),
    )
    .await
    .unwrap();
    let kind = GroupVersionKind::gvk("gum.enflame.com", "v1", "GcuUpgrade");
    let records: Api<DynamicObject> =
        Api::all_with(harness.client.clone(), &ApiResource::from_gvk_with_plural(&kind, "gcuupgrades"));
    let record = json!({
        "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade", "metadata": { "name": format!("{gr}-1") },
        "spec": {
            "gr": gr, "operation": "Upgrade", "strategy": "RollingUpdate", "target": { "manifest": {} },
            "rollingUpdate": { "maxUnavailable": "150%", "drain": "sometimes" },
        },
    });
    records.create(&PostParams::default(), &serde_json::from_value(record).unwrap()).await.unwrap();
    let now = crds.get("gcuupgrades.gum.enflame.com").await.unwrap();
    let mut strict = present;
    strict.metadata.resource_version = now.metadata.resource_version;
    crds.replace("gcuupgrades.gum.enflame.com", &PostParams::default(), &strict).await.unwrap();
}
