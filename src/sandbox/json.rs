//! Short ways through `serde_json::Value`.

use serde_json::{Map, Value};

/// The value at a path of object keys; `Null` when any step is missing.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(value, |value, key| value.get(key)).unwrap_or(&Value::Null)
}

/// The string at a path; empty when missing or not a string.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The integer at a path; zero when missing.
pub(crate) fn integer(value: &Value, path: &[&str]) -> i64 {
    at(value, path).as_i64().unwrap_or_default()
}

/// The elements of the array at a path; none when missing.
pub(crate) fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The object at a path for writing, made when missing; whatever stood in the way is replaced.
pub(crate) fn object_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let map = value.as_object_mut()?;
    match path.split_first() {
        None => Some(map),
        Some((first, rest)) => object_mut(map.entry(*first).or_insert(Value::Null), rest),
    }
}

/// Sets the value at a path, making the objects on the way.
pub(crate) fn set(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    if let Some((key, parents)) = path.split_last()
        && let Some(map) = object_mut(value, parents)
    {
        map.insert((*key).to_owned(), to.into());
    }
}

/// Removes the value at a path; nothing happens when any step is missing.
pub(crate) fn remove(value: &mut Value, path: &[&str]) {
    if let Some((key, parents)) = path.split_last()
        && let Some(Value::Object(map)) = get_mut(value, parents)
    {
        map.remove(*key);
    }
}

/// The value at a path for writing, when it is there.
pub(crate) fn get_mut<'a>(value: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, key| value.get_mut(key))
}

/// Sets the value at a path when it is absent or null.
pub(crate) fn default(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    if at(value, path).is_null() {
        set(value, path, to);
    }
}

/// Makes the value at a path in `to` the same as in `from`, absence included.
pub(crate) fn carry(from: &Value, to: &mut Value, path: &[&str]) {
    match at(from, path) {
        Value::Null => remove(to, path),
        value => set(to, path, value.clone()),
    }
}

/// Every array element at a path, for writing.
pub(crate) fn each_mut(value: &mut Value, path: &[&str], mut f: impl FnMut(&mut Value)) {
    for item in get_mut(value, path).and_then(Value::as_array_mut).into_iter().flatten() {
        f(item);
    }
}

/// Removes object members that are null, at every depth: a typed server never keeps them.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
