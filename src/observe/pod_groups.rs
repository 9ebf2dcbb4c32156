//! PodGroups, of Volcano and of the coscheduling plugin: how many pods of a group have to run at once. A group of which
//! one is enough is no gang, and Volcano makes one for whatever it schedules.

use std::collections::BTreeSet;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::cluster::each;
use crate::plan::gangs::{COSCHEDULING_GROUP, Gang, KnownGangs, VOLCANO_GROUP};

/// The API group and version of the objects, by the key that names them on pods.
const KINDS: [(&str, &str, &str); 2] = [
    (VOLCANO_GROUP, "scheduling.volcano.sh", "v1beta1"),
    (COSCHEDULING_GROUP, "scheduling.x-k8s.io", "v1alpha1"),
];

/// Leaves the gangs of which several pods have to run at once.
///
/// # Errors
/// The API server's, as they come.
pub async fn keep_gangs(client: &Client, gangs: &mut KnownGangs) -> Result<(), kube::Error> {
    let mut are = BTreeSet::new();
    for (key, group, version) in KINDS {
        if gangs.all().any(|gang| gang.key == key) {
            let all = Api::all_with(client.clone(), &resource(group, version));
            are.extend(gangs_among(all, key, ListParams::default()).await?);
        }
    }
    gangs.keep(|gang| are.contains(gang));
    Ok(())
}

/// Whether several pods of this group have to run at once.
///
/// # Errors
/// The API server's, as they come.
pub async fn is_gang(client: &Client, gang: &Gang) -> Result<bool, kube::Error> {
    let Some((key, group, version)) = KINDS.into_iter().find(|(key, ..)| *key == gang.key) else {
        return Ok(true);
    };
    let api = Api::namespaced_with(client.clone(), &gang.namespace, &resource(group, version));
    let only = ListParams::default().fields(&format!("metadata.name={}", gang.name));
    Ok(gangs_among(api, key, only).await?.contains(gang))
}

fn resource(group: &str, version: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, "PodGroup"), "podgroups")
}

async fn gangs_among(
    api: Api<DynamicObject>,
    key: &str,
    params: ListParams,
) -> Result<BTreeSet<Gang>, kube::Error> {
    let mut gangs = BTreeSet::new();
    let read = each(api, params, |group: DynamicObject| {
        let minimum = group.data.pointer("/spec/minMember").and_then(Value::as_i64).unwrap_or_default();
        if minimum > 1 {
            let (namespace, name) = (group.namespace().unwrap_or_default(), group.name_any());
            gangs.insert(Gang { namespace, key: key.to_owned(), name });
        }
    });
    match read.await {
        // Pods may name a group without any object for it.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(BTreeSet::new()),
        Err(error) => Err(error),
        Ok(()) => Ok(gangs),
    }
}
