//! What the schemas of answers have in common.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// For a type whose fields are left out where there is nothing to say: none of them is ever null.
pub(crate) fn never_null(schema: &mut Schema) {
    let required: Vec<Value> = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    for (_, field) in properties.filter(|(name, _)| !required.contains(&Value::from(name.as_str()))) {
        without_null(field);
    }
}

fn without_null(field: &mut Value) {
    let Some(field) = field.as_object_mut() else { return };
    if let Some(Value::Array(types)) = field.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            field.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(all)) = field.get_mut("anyOf") {
        all.retain(|one| one.get("type") != Some(&json!("null")));
        if let [Value::Object(only)] = all.as_slice() {
            let only = only.clone();
            field.remove("anyOf");
            field.extend(only);
        }
    }
}

/// Any object of Kubernetes.
pub(crate) fn kubernetes_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "title": "KubernetesObject",
        "description": "An object as the API server serves it.",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": object_meta(),
        },
        "additionalProperties": true,
    })
}

/// Its metadata.
pub(crate) fn object_meta() -> Value {
    json!({
        "title": "ObjectMeta",
        "type": "object",
        "description": "Kubernetes' own metadata.",
        "additionalProperties": true,
    })
}
