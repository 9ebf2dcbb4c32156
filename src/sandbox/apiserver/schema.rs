//! Structural schemas of custom resources: pruning, defaults, and the checks that matter here.
//!
//! Checked: `type`, `required`, `enum`, `minimum`, `maximum`, `nullable`, int-or-string, items, properties
//! and additionalProperties. Not checked: patterns, formats, lengths, list types and value validations
//! within `allOf`, `anyOf`, `oneOf` and `not`.

use serde_json::{Map, Value};

use super::error::Cause;

/// Removes fields that the schema does not know.
pub(crate) fn prune(value: &mut Value, schema: &Value, root: bool) {
    match value {
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| prune(item, schema, false));
            }
        }
        Value::Object(map) => prune_object(map, schema, root),
        _ => {}
    }
}

fn prune_object(map: &mut Map<String, Value>, schema: &Value, root: bool) {
    let is_set = |key: &str| schema.get(key) == Some(&Value::Bool(true));
    let keeps_type = root || is_set("x-kubernetes-embedded-resource");
    let of_type = |key: &str| keeps_type && matches!(key, "apiVersion" | "kind" | "metadata");
    let properties = schema.get("properties");
    let additional =
        schema.get("additionalProperties").filter(|additional| *additional != &Value::Bool(false));
    let keep_all = is_set("x-kubernetes-preserve-unknown-fields") || additional.is_some();
    map.retain(|key, _| keep_all || of_type(key) || properties.is_some_and(|known| known.get(key).is_some()));
    for (key, value) in map.iter_mut() {
        if of_type(key) {
            continue;
        }
        if let Some(schema) =
            properties.and_then(|known| known.get(key)).or(additional.filter(|one| one.is_object()))
        {
            prune(value, schema, false);
        }
    }
}

/// Fills in defaults where fields are absent, or null without being nullable.
pub(crate) fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| default(item, schema));
            }
        }
        Value::Object(map) => {
            for (key, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let nullable = schema.get("nullable") == Some(&Value::Bool(true));
                let missing = map.get(key).is_none_or(|value| value.is_null() && !nullable);
                if let Some(default) = schema.get("default").filter(|_| missing) {
                    map.insert(key.clone(), default.clone());
                }
            }
            for (key, value) in map.iter_mut() {
                let known = schema.get("properties").and_then(|known| known.get(key));
                if let Some(schema) = known.or(schema.get("additionalProperties")) {
                    default(value, schema);
                }
            }
        }
        _ => {}
    }
}

/// What is wrong with a value, ordered by field.
pub(crate) fn validate(value: &Value, schema: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(value, schema, "", &mut causes);
    causes.sort_by(|a, b| a.field.cmp(&b.field));
    causes
}

fn check(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
        return;
    }
    if let Some(wanted) = wrong_type(value, schema) {
        let found = type_name(value);
        let why = format!("{path} in body must be of type {wanted}: {found:?}");
        causes.push(Cause::invalid(path, format!("{found:?}"), &why));
        return;
    }
    check_value(value, schema, path, causes);
    match value {
        Value::Object(map) => check_object(map, schema, path, causes),
        Value::Array(items) => {
            for item in items {
                // The real server names the list, not the element, for elements of a plain type.
                check(item, schema.get("items").unwrap_or(&Value::Null), path, causes);
            }
        }
        _ => {}
    }
}

fn check_object(map: &Map<String, Value>, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let child = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for key in required.filter_map(Value::as_str).filter(|key| !map.contains_key(*key)) {
        causes.push(Cause::required(child(key), ""));
    }
    for (key, value) in map {
        let known = schema.get("properties").and_then(|known| known.get(key));
        if let Some(schema) = known.or(schema.get("additionalProperties")) {
            check(value, schema, &child(key), causes);
        }
    }
}

fn check_value(value: &Value, schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let supported: Vec<String> = allowed.iter().map(Value::to_string).collect();
        causes.push(Cause::unsupported(path, &value.to_string(), &supported));
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let Some(number) = value.as_f64() else { return };
    if let Some(minimum) = bound("minimum").filter(|minimum| number < *minimum) {
        let why = format!("{path} in body should be greater than or equal to {minimum}");
        causes.push(Cause::invalid(path, value, &why));
    }
    if let Some(maximum) = bound("maximum").filter(|maximum| number > *maximum) {
        let why = format!("{path} in body should be less than or equal to {maximum}");
        causes.push(Cause::invalid(path, value, &why));
    }
}

/// The type that the schema wants, when the value is of another.
fn wrong_type<'a>(value: &Value, schema: &'a Value) -> Option<&'a str> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return (!value.is_string() && !value.is_i64()).then_some("integer,string");
    }
    let wanted = schema.get("type")?.as_str()?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    };
    (!fits).then_some(wanted)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
