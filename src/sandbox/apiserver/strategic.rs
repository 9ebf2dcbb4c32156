//! Strategic merge patch and server-side apply, as far as kubectl and kube clients use them here.
//!
//! Lists are merged by key where the field is known to have one, else replaced. Understood directives:
//! `$patch: delete` and `replace`, `$retainKeys` (dropped), `$deleteFromPrimitiveList/…` and
//! `$setElementOrder/…` (dropped). Apply merges the same way; it tracks no field ownership, so it never
//! conflicts and never removes a field that a manager has stopped applying.
//!
//! Ours because no crate knows strategic merge patches: their keys are in Kubernetes' Go types.

use serde_json::{Map, Value};

/// Merges a strategic patch into an object.
pub(crate) fn merge(mut present: Value, patch: &Value) -> Value {
    merge_value(&mut present, patch, Lists::Strategic);
    present
}

/// Merges an applied configuration into an object. `typed` kinds have lists that merge by key.
pub(crate) fn apply(mut present: Value, applied: &Value, typed: bool) -> Value {
    merge_value(&mut present, applied, if typed { Lists::Strategic } else { Lists::Atomic });
    present
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    Strategic,
    Atomic,
}

/// The field by which the elements of a list are told apart.
fn merge_key(field: &str, patch: &[Value]) -> Option<&'static str> {
    let has = |key: &str| patch.iter().all(|item| item.get(key).is_some());
    let key = match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "secrets" => "name",
        // Service ports are told apart by `port`, container ports by `containerPort`.
        "ports" if has("containerPort") => "containerPort",
        "ports" => "port",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" => "ip",
        "conditions" | "addresses" => "type",
        "ownerReferences" => "uid",
        _ => return None,
    };
    has(key).then_some(key)
}

fn merge_value(present: &mut Value, patch: &Value, lists: Lists) {
    let Value::Object(patch) = patch else {
        *present = patch.clone();
        return;
    };
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        let mut new = patch.clone();
        new.remove("$patch");
        *present = Value::Object(new);
        return;
    }
    if !present.is_object() {
        *present = Value::Object(Map::new());
    }
    let Value::Object(present) = present else { return };
    for (field, patch) in patch {
        merge_field(present, field, patch, lists);
    }
}

fn merge_field(present: &mut Map<String, Value>, field: &str, patch: &Value, lists: Lists) {
    if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
        if let Some(Value::Array(items)) = present.get_mut(list) {
            items.retain(|item| !patch.as_array().is_some_and(|gone| gone.contains(item)));
        }
        return;
    }
    if field.starts_with('$') {
        return;
    }
    if patch.is_null() || patch.get("$patch").and_then(Value::as_str) == Some("delete") {
        present.remove(field);
        return;
    }
    let entry = present.entry(field).or_insert(Value::Null);
    match (entry.as_array_mut(), patch.as_array()) {
        (Some(items), Some(patch)) if lists == Lists::Strategic => merge_list(items, field, patch),
        (None, Some(patch)) if lists == Lists::Strategic => {
            let mut items = Vec::new();
            merge_list(&mut items, field, patch);
            *entry = Value::Array(items);
        }
        _ => merge_value(entry, patch, lists),
    }
}

fn merge_list(present: &mut Vec<Value>, field: &str, patch: &[Value]) {
    let is_directive =
        |item: &Value, directive: &str| item.get("$patch").and_then(Value::as_str) == Some(directive);
    if field == "finalizers" {
        let new = patch.iter().filter(|item| !present.contains(item)).cloned().collect::<Vec<_>>();
        present.extend(new);
        return;
    }
    let replaces = patch.iter().any(|item| is_directive(item, "replace"));
    let items: Vec<Value> = patch.iter().filter(|item| !is_directive(item, "replace")).cloned().collect();
    let Some(key) = merge_key(field, &items).filter(|_| !replaces) else {
        *present = items;
        return;
    };
    let order: Vec<Value> = present.iter().map(|item| item.get(key).cloned().unwrap_or_default()).collect();
    let mut patched = Vec::new();
    for item in &items {
        let at = present.iter().position(|one| one.get(key) == item.get(key));
        let mut merged = at.map(|at| present.remove(at)).unwrap_or_default();
        if !is_directive(item, "delete") {
            merge_value(&mut merged, item, Lists::Strategic);
            patched.push(merged);
        }
    }
    *present = interleave(std::mem::take(present), patched, |item| {
        order.iter().position(|one| Some(one) == item.get(key))
    });
}

/// Puts the elements that a patch does not name among those that it does: each list keeps its order, and
/// an untouched element comes first only if it stood before the patched one already.
fn interleave(kept: Vec<Value>, patched: Vec<Value>, place: impl Fn(&Value) -> Option<usize>) -> Vec<Value> {
    let (mut kept, mut patched) = (kept.into_iter().peekable(), patched.into_iter().peekable());
    let mut all = Vec::new();
    loop {
        let kept_first = match (kept.peek(), patched.peek()) {
            (Some(a), Some(b)) => place(a).zip(place(b)).is_some_and(|(a, b)| a < b),
            (a, _) => a.is_some(),
        };
        match if kept_first { kept.next() } else { patched.next() } {
            Some(item) => all.push(item),
            None => return all,
        }
    }
}
