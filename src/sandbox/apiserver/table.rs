//! `Table` output: what kubectl prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    columns::{self, Cell, Column, age},
    jsonpath,
};
use crate::{
    json,
    resources::{ResourceType, Version},
};

/// What a table shows of its objects.
pub(crate) struct Request<'a> {
    pub(crate) kind: &'a ResourceType,
    pub(crate) version: &'a Version,
    /// Ages are told from here.
    pub(crate) now: Timestamp,
    /// The `includeObject` parameter: `None`, `Object`, or their metadata.
    pub(crate) include_object: &'a str,
}

/// A table of objects.
pub(crate) fn render<'a>(
    request: &Request<'_>,
    objects: impl Iterator<Item = &'a Value>,
    metadata: &Value,
    header: bool,
) -> Value {
    let columns = columns_of(request.kind, request.version.columns.as_deref());
    let rows: Vec<Value> = objects.map(|object| row(request, &columns, object)).collect();
    let definitions: Vec<Value> = columns.iter().map(definition).collect();
    let definitions = if header { json!(definitions) } else { Value::Null };
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": json::at(object, &["metadata"]),
    })
}

fn row(request: &Request<'_>, columns: &[Column], object: &Value) -> Value {
    let cells: Vec<Value> = columns.iter().map(|column| cell(column, object, request.now)).collect();
    let shown = match request.include_object {
        "None" => Value::Null,
        "Object" => object.clone(),
        _ => metadata_only(object),
    };
    json!({"cells": cells, "object": shown})
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

fn columns_of(kind: &ResourceType, declared: Option<&Value>) -> Vec<Column> {
    if !kind.rules.custom {
        return columns::builtin(kind);
    }
    let mut columns = vec![columns::name()];
    match declared.and_then(Value::as_array) {
        Some(declared) => columns.extend(declared.iter().map(declared_column)),
        None => columns.push(age_column()),
    }
    columns
}

fn declared_column(declared: &Value) -> Column {
    let path = json::text(declared, &["jsonPath"]);
    let described = json::text(declared, &["description"]);
    let description = if described.is_empty() {
        format!("Custom resource definition column (in JSONPath format): {path}")
    } else {
        described.to_owned()
    };
    Column {
        name: json::text(declared, &["name"]).to_owned(),
        kind: json::text(declared, &["type"]).to_owned(),
        format: json::text(declared, &["format"]).to_owned(),
        description,
        priority: json::integer(declared, &["priority"]),
        cell: Cell::Path(path.to_owned()),
    }
}

fn age_column() -> Column {
    Column {
        name: "Age".to_owned(),
        kind: "date".to_owned(),
        format: String::new(),
        description:
            "CreationTimestamp is a timestamp representing the server time when this object was created."
                .to_owned(),
        priority: 0,
        cell: Cell::Path(".metadata.creationTimestamp".to_owned()),
    }
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    match &column.cell {
        Cell::Known(cell) => cell(object, now),
        Cell::Path(path) => match jsonpath::first(object, path) {
            None => Value::Null,
            Some(value) => typed_cell(&column.kind, value, now),
        },
    }
}

/// A value as the column's type asks; a value of another type is left out, as in the real server.
fn typed_cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        ("integer", Value::Number(number)) if number.is_i64() => value.clone(),
        ("integer", Value::Number(number)) => {
            number.as_f64().map_or(Value::Null, |float| json!(float as i64))
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::String(_)) => value.clone(),
        ("string", other) => other.to_string().into(),
        ("date", Value::String(text)) => age(text, now).into(),
        _ => Value::Null,
    }
}
