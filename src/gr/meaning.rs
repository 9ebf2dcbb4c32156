//! What a gr asks for. A field that is absent and one that holds its documented default ask for the same, and a
//! component that is not deployed asks for nothing, whatever its fields hold.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Component, DEFAULT_NAMESPACE, KNOWN, components};

/// The containers of a component that have base fields of their own.
pub const CONTAINERS: [&str; 2] = ["master", "worker"];
/// The tag where none is given.
pub const DEFAULT_VERSION: &str = "latest";
/// Where a container has these, a field of its component wins over its own: there a default is no absence.
const SHARED: [&str; 4] = ["image", "version", "repository", "imagePullPolicy"];
/// Every field that each component has, and that the operator puts into its workload.
const BASE_FIELDS: [&str; 8] =
    ["image", "version", "repository", "imagePullPolicy", "name", "namespace", "env", "nodeSelector"];

impl Component<'_> {
    /// The fields that say something: neither absent, nor empty, nor what absence means.
    pub fn meaning(&self) -> Map<String, Value> {
        let mut fields = meaning(self.fields, !self.containers().is_empty());
        let usual = KNOWN.iter().any(|k| k.key == self.key && k.workload.is_some());
        if usual && fields.get("namespace") == Some(&json!(DEFAULT_NAMESPACE)) {
            fields.remove("namespace");
        }
        for (name, container) in self.containers() {
            fields.insert(name.to_owned(), Value::Object(meaning(container, false)));
        }
        fields
    }

    /// The containers with base fields of their own, by name.
    pub fn containers(&self) -> Vec<(&'static str, &Map<String, Value>)> {
        let fields = |name| Some((name, self.fields.get(name)?.as_object()?));
        CONTAINERS.into_iter().filter(|_| self.key == "nfd").filter_map(fields).collect()
    }
}

fn meaning(fields: &Map<String, Value>, has_containers: bool) -> Map<String, Value> {
    let says = |(key, value): &(&String, &Value)| {
        let key = key.as_str();
        if has_containers && SHARED.contains(&key) {
            return !value.is_null();
        }
        let default = match key {
            "notDeploy" => json!(false),
            "version" => json!(DEFAULT_VERSION),
            "imagePullPolicy" => json!("IfNotPresent"),
            "env" => json!([]),
            "nodeSelector" => json!({}),
            _ => Value::Null,
        };
        let empty = BASE_FIELDS.contains(&key) && **value == json!("");
        !value.is_null() && !empty && **value != default
    };
    fields.iter().filter(says).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether the operator puts a field of this name into its workloads, as its documents say. Of others that is not
/// known.
pub fn is_rendered(field: &str) -> bool {
    BASE_FIELDS.contains(&field) || CONTAINERS.contains(&field)
}

/// The deployed components, by key, with the fields that say something.
fn stack(manifest: &Value) -> BTreeMap<String, Map<String, Value>> {
    let deployed = components(manifest).into_iter().filter(Component::is_deployed);
    deployed.map(|component| (component.key.to_owned(), component.meaning())).collect()
}

/// Whether two manifests ask for the same stack: the same components, each with the same meaning. The order of keys,
/// fields at their defaults, components that are not deployed and everything outside `spec` make no difference.
pub fn same_stack(a: &Value, b: &Value) -> bool {
    stack(a) == stack(b)
}
