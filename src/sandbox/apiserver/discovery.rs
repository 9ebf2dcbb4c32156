//! What the server says about itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    json,
    resources::{ResourceType, api_version},
    store::State,
};

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "20", "gitVersion": "v1.20.2-sandbox", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "sandbox"}],
    })
}

/// `/apis`.
pub(crate) fn groups(state: &State) -> Value {
    let groups: Vec<Value> = group_versions(state)
        .into_iter()
        .map(|(name, versions)| {
            let mut group = group_body(&name, &versions);
            if let Some(group) = group.as_object_mut() {
                group.remove("kind");
                group.remove("apiVersion");
            }
            group
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(crate) fn group(state: &State, name: &str) -> Option<Value> {
    group_versions(state).get(name).map(|versions| group_body(name, versions))
}

/// `/api/v1` or `/apis/GROUP/VERSION`.
pub(crate) fn resources(state: &State, group: &str, version: &str) -> Option<Value> {
    let served = |kind: &&ResourceType| kind.group == group && kind.version(version).is_some();
    let resources: Vec<Value> = state
        .types
        .values()
        .map(AsRef::as_ref)
        .filter(served)
        .flat_map(|kind| resource(kind, version))
        .collect();
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version),
        "resources": resources,
    }))
}

/// Groups but the core one, with their versions, the preferred one first.
fn group_versions(state: &State) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in state.types.values().filter(|kind| !kind.group.is_empty()) {
        let versions = groups.entry(kind.group.clone()).or_default();
        for version in &kind.versions {
            if !versions.contains(&version.name) {
                versions.push(version.name.clone());
            }
        }
    }
    groups
}

fn group_body(name: &str, versions: &[String]) -> Value {
    let one = |version: &String| json!({"groupVersion": api_version(name, version), "version": version});
    let all: Vec<Value> = versions.iter().map(one).collect();
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name,
        "preferredVersion": all.first().cloned().unwrap_or_default(), "versions": all,
    })
}

fn resource(kind: &ResourceType, version: &str) -> Vec<Value> {
    let mut main = json!({
        "name": kind.plural,
        "singularName": if kind.rules.custom { kind.singular.as_str() } else { "" },
        "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs(kind),
    });
    for (key, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            json::set(&mut main, &[key], names.clone());
        }
    }
    let mut all = vec![main];
    if kind.version(version).is_some_and(|version| version.has_status) {
        all.push(subresource(kind, "status", &kind.kind, json!(["get", "patch", "update"])));
    }
    if kind.is("", "pods") {
        all.push(subresource(kind, "binding", "Binding", json!(["create"])));
        let mut eviction = subresource(kind, "eviction", "Eviction", json!(["create"]));
        json::set(&mut eviction, &["group"], "policy");
        json::set(&mut eviction, &["version"], "v1beta1");
        all.push(eviction);
    }
    if kind.is("", "namespaces") {
        all.push(subresource(kind, "finalize", "Namespace", json!(["update"])));
    }
    all
}

fn verbs(kind: &ResourceType) -> Value {
    if kind.is("", "namespaces") {
        return json!(["create", "delete", "get", "list", "patch", "update", "watch"]);
    }
    if kind.rules.custom {
        return json!(["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]);
    }
    json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"])
}

fn subresource(kind: &ResourceType, name: &str, object: &str, verbs: Value) -> Value {
    json!({
        "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
        "kind": object, "verbs": verbs,
    })
}
