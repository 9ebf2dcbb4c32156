//! `/openapi/v2` and `/openapi/v3`: what kubectl checks manifests against and explains.
//!
//! Of built-in kinds there is no more than that they are there, and only in v3: kubectl knows their fields itself, and
//! a schema without them would keep it from merging lists. Custom kinds are described by their definitions' schemas.

mod v2;

use serde_json::{Map, Value, json};

use crate::{
    resources::{ResourceType, Version, api_version},
    store::State,
};

pub(crate) use v2::{MEDIA_TYPE as V2_MEDIA_TYPE, document as v2};

/// What every object has, as kubectl shows it.
const COMMON: [(&str, &str); 3] = [
    (
        "apiVersion",
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert \
         recognized schemas to the latest internal value, and may reject unrecognized values.",
    ),
    (
        "kind",
        "Kind is a string value representing the REST resource this object represents. Servers may infer this from \
         the endpoint the client submits requests to. Cannot be updated. In CamelCase.",
    ),
    ("metadata", "Standard object's metadata."),
];

/// `/openapi/v3`: where the documents are.
pub(crate) fn v3_index(state: &State) -> Value {
    let served = state.types.values().flat_map(|kind| kind.versions.iter().map(move |v| (kind, v)));
    let paths = served.map(|(kind, version)| {
        let path = path(&kind.group, &version.name);
        let url = json!({ "serverRelativeURL": format!("/openapi/v3/{path}") });
        (path, url)
    });
    json!({ "paths": paths.collect::<Map<_, _>>() })
}

/// `/openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`.
pub(crate) fn v3(state: &State, group: &str, version: &str) -> Option<Value> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let kinds = state.types.values().filter(|kind| kind.group == group);
    for (kind, version) in kinds.filter_map(|kind| Some((kind, kind.version(version)?))) {
        let gvk = gvk(kind, version);
        let scope = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
        let collection = format!("/{}/{scope}{}", path(group, &version.name), kind.plural);
        let get = json!({ "x-kubernetes-action": "list", "x-kubernetes-group-version-kind": gvk });
        paths.insert(collection, json!({ "get": get }));
        let mut schema = described(kind, version);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), json!([gvk]));
        }
        schemas.insert(name(kind, version), schema);
    }
    (!paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "v1.20.2-sandbox" },
            "paths": paths, "components": { "schemas": schemas },
        })
    })
}

fn path(group: &str, version: &str) -> String {
    format!("{}/{}", if group.is_empty() { "api" } else { "apis" }, api_version(group, version))
}

fn gvk(kind: &ResourceType, version: &Version) -> Value {
    json!({ "group": kind.group, "version": version.name, "kind": kind.kind })
}

/// `com.example.v1.Widget`.
fn name(kind: &ResourceType, version: &Version) -> String {
    let mut parts: Vec<&str> = kind.group.split('.').rev().filter(|part| !part.is_empty()).collect();
    parts.extend([version.name.as_str(), kind.kind.as_str()]);
    parts.join(".")
}

/// The schema of a kind, with the fields that its definition need not name.
fn described(kind: &ResourceType, version: &Version) -> Value {
    let declared = version.schema.as_deref().cloned();
    let mut schema = declared.unwrap_or_else(|| {
        let parts = ["spec", "status"].map(|part| (part.to_owned(), json!({ "description": "Kubernetes' own." })));
        json!({
            "type": "object",
            "description": format!("{} as this sandbox serves it: its fields are Kubernetes' own.", kind.kind),
            "properties": parts.into_iter().collect::<Map<_, _>>(),
        })
    });
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, about) in COMMON {
            let described = match field {
                "metadata" => json!({ "type": "object", "description": about }),
                _ => json!({ "type": "string", "description": about }),
            };
            properties.insert(field.to_owned(), described);
        }
    }
    schema
}
