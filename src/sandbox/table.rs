//! `Table` output: what kubectl prints.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sandbox::{columns, json, jsonpath, output::Renderer, resources::ResourceType};

/// One column: its definition, and the cell of an object.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) priority: i64,
    pub(crate) cell: Cell,
}

/// How a cell is found.
pub(crate) enum Cell {
    /// By a function of a built-in kind.
    Known(fn(&Value, Timestamp) -> Value),
    /// By a custom resource's JSONPath.
    Path(String),
}

/// A table of objects.
pub(crate) fn render<'a>(
    renderer: &Renderer<'_>,
    objects: impl Iterator<Item = &'a Value>,
    metadata: &Value,
    header: bool,
) -> Value {
    let columns = columns_of(renderer.kind, renderer.version.columns.as_deref());
    let rows: Vec<Value> = objects.map(|object| row(renderer, &columns, object)).collect();
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

fn row(renderer: &Renderer<'_>, columns: &[Column], object: &Value) -> Value {
    let cells: Vec<Value> = columns.iter().map(|column| cell(column, object, renderer.now)).collect();
    let shown = match renderer.include_object {
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

/// How long ago an RFC 3339 time was, as kubectl shows ages.
pub(crate) fn age(time: &str, now: Timestamp) -> String {
    if time.is_empty() {
        return "<unknown>".to_owned();
    }
    match time.parse::<Timestamp>() {
        Ok(time) => human_duration(now.as_second().saturating_sub(time.as_second())),
        Err(_) => "<invalid>".to_owned(),
    }
}

fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days, years) =
        (seconds / 60, seconds / 3600, seconds / 86400, seconds / 86400 / 365);
    let two = |whole: i64, unit: &str, part: i64, part_unit: &str| {
        if part == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{part}{part_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if hours < 3 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}
