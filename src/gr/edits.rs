//! What differs between two versions of a gr, and what somebody else has changed.

use serde_json::{Map, Value, json};

use super::{DEFAULT_NAMESPACE, components, configured_workload};

/// Whether `live` still says everything that `wanted` says. An operator or a webhook may add defaults to
/// what was created; it may not change or drop what was asked for. A null asks for nothing in particular:
/// the API server drops it, or puts the default in its place.
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, w)| w.is_null() || live.get(key).is_some_and(|l| covers(l, w)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| covers(l, w))
        }
        (live, wanted) => live == wanted,
    }
}

/// What somebody has added to what was asked for, as far as it says which components exist and where they run: those
/// are no defaults. `known` is another version of the gr, whose defaults are the operator's own.
pub fn added(live: &Value, wanted: &Value, known: &Value) -> Option<String> {
    let other = components(known);
    for component in components(live) {
        let key = component.key;
        let before = other.iter().find(|c| c.key == key).map(|c| c.fields);
        let Some(asked) = components(wanted).into_iter().find(|c| c.key == key) else {
            if component.is_deployed() && before != Some(component.fields) {
                return Some(format!("component {key} was added"));
            }
            continue;
        };
        for field in ["notDeploy", "name", "namespace", "nodeSelector"] {
            let Some(value) = present(component.fields, field) else { continue };
            let known = before.and_then(|b| present(b, field));
            if let Some(asked) = present(asked.fields, field) {
                if field == "nodeSelector" && known != Some(value) && says_more(value, asked) {
                    return Some(format!("spec.{key}.{field} was set to {value}"));
                }
                continue;
            }
            let usual = match (field, configured_workload(asked)) {
                ("name", Some(workload)) => *value == json!(workload.name),
                ("namespace", _) => *value == json!(DEFAULT_NAMESPACE),
                _ => false,
            };
            if !usual && known != Some(value) {
                return Some(format!("spec.{key}.{field} was set to {value}"));
            }
        }
    }
    None
}

/// Whether there are keys beside those that were asked for.
fn says_more(live: &Value, asked: &Value) -> bool {
    let keys = live.as_object().into_iter().flat_map(Map::keys);
    keys.into_iter().any(|key| asked.get(key).is_none())
}

/// A field that says something: neither absent nor what absence means.
fn present<'a>(fields: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    let nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    fields.get(field).filter(|value| !nothing(value))
}

/// The merge patch that turns `from` into `to`: what is not in `to` is removed.
pub fn merge_patch(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let kept = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let kept = kept.map(|(key, value)| {
        let change = old.get(key).map_or_else(|| value.clone(), |before| merge_patch(before, value));
        (key.clone(), change)
    });
    Value::Object(gone.chain(kept).collect())
}
