//! Limits of the CRD's schema that its types do not say themselves: what the API server lets in, every reader of
//! records can read.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// The largest whole number that every JSON reader keeps as it is.
const LARGEST: f64 = 9_007_199_254_740_991.0;
/// A time as this service writes it, in UTC.
const TIME: &str = concat!(
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z$",
);

/// Gives every number the bounds of its type, and every time its form.
pub(super) fn tighten(crd: &mut CustomResourceDefinition) {
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()).for_each(|schema| walk("", schema));
}

fn walk(name: &str, schema: &mut JSONSchemaProps) {
    match schema.type_.as_deref() {
        Some("integer") => bound(schema),
        Some("string") if is_time(name) => {
            schema.format = Some("date-time".to_owned());
            schema.pattern = Some(TIME.to_owned());
        }
        _ => {}
    }
    // kube lets null into every field without a type. One with a default has to have a value: the API server puts it
    // in where null is given and not let in.
    if schema.default.as_ref().is_some_and(|default| !default.0.is_null()) {
        schema.nullable = None;
    }
    schema.properties.iter_mut().flatten().for_each(|(name, schema)| walk(name, schema));
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        walk("", item);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        walk("", value);
    }
}

/// schemars says a number's size in `format`, which no API server looks at.
fn bound(schema: &mut JSONSchemaProps) {
    let (least, largest) = match schema.format.as_deref() {
        Some("uint32") => (0.0, f64::from(u32::MAX)),
        Some("uint64") => (0.0, LARGEST),
        _ => (-LARGEST, LARGEST),
    };
    schema.minimum.get_or_insert(least);
    schema.maximum.get_or_insert(largest);
}

/// Cuts the fractions of a second off the times of a record that an older version wrote.
pub fn in_whole_seconds(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match value {
            Value::String(text) if is_time(name) => {
                if let Some((whole, _)) = text.split_once('.') {
                    *text = format!("{whole}Z");
                }
            }
            value => in_whole_seconds(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(in_whole_seconds),
        _ => {}
    }
}

/// The names that times have in the record.
fn is_time(name: &str) -> bool {
    let ends = ["At", "Since"].iter().any(|end| name.ends_with(end));
    ends || matches!(name, "at" | "since" | "deadline" | "lastTransitionTime")
}
