//! Label and field selectors.

use serde_json::Value;

use super::error::ApiError;
use crate::{json, resources::ResourceType};

/// Which objects a list, a watch or a disruption budget is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// From the query parameters `labelSelector` and `fieldSelector`.
    pub(crate) fn parse(kind: &ResourceType, labels: &str, fields: &str) -> Result<Self, ApiError> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(kind, fields)? })
    }

    /// From a `LabelSelector` object.
    pub(crate) fn from_object(selector: &Value) -> Self {
        let equal =
            json::at(selector, &["matchLabels"]).as_object().into_iter().flatten().map(|(key, value)| {
                Requirement::In(key.clone(), vec![value.as_str().unwrap_or_default().to_owned()])
            });
        let other = json::items(selector, &["matchExpressions"]).iter().map(|expression| {
            let key = json::text(expression, &["key"]).to_owned();
            let values: Vec<String> = json::items(expression, &["values"])
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect();
            match json::text(expression, &["operator"]) {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "DoesNotExist" => Requirement::Absent(key),
                _ => Requirement::Exists(key),
            }
        });
        Self { labels: equal.chain(other).collect(), fields: Vec::new() }
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The node on which all pods are that it selects, where it says one.
    pub(crate) fn node(&self, kind: &ResourceType) -> Option<&str> {
        let is_node = |(field, equal, value): &&(String, bool, String)| {
            *equal && field == "spec.nodeName" && !value.is_empty() && kind.is("", "pods")
        };
        self.fields.iter().find(is_node).map(|(_, _, value)| value.as_str())
    }

    /// Whether it selects this object.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.matches_labels(json::at(object, &["metadata", "labels"]))
            && self.fields.iter().all(|(field, equal, value)| (field_value(object, field) == value) == *equal)
    }

    /// Whether it selects an object with these labels.
    pub(crate) fn matches_labels(&self, labels: &Value) -> bool {
        self.labels.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &Value) -> bool {
        let get = |key: &str| labels.get(key).and_then(Value::as_str);
        match self {
            Self::In(key, values) => get(key).is_some_and(|value| values.iter().any(|one| one == value)),
            Self::NotIn(key, values) => !get(key).is_some_and(|value| values.iter().any(|one| one == value)),
            Self::Exists(key) => get(key).is_some(),
            Self::Absent(key) => get(key).is_none(),
        }
    }
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, ApiError> {
    split_outside_parentheses(text).map(parse_requirement).collect()
}

/// Splits at commas that are not within `(…)`.
fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |letter| {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        letter == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn parse_requirement(text: &str) -> Result<Requirement, ApiError> {
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Requirement::Absent(key.trim().to_owned()));
    }
    for operator in ["!=", "==", "="] {
        if let Some((key, value)) = text.split_once(operator) {
            let (key, values) = (key.trim().to_owned(), vec![value.trim().to_owned()]);
            return Ok(if operator == "!=" {
                Requirement::NotIn(key, values)
            } else {
                Requirement::In(key, values)
            });
        }
    }
    let mut words = text.splitn(2, char::is_whitespace);
    let key = words.next().unwrap_or_default().to_owned();
    let Some(rest) = words.next().map(str::trim) else { return Ok(Requirement::Exists(key)) };
    let values = |rest: &str| -> Option<Vec<String>> {
        let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    if let Some(values) = rest.strip_prefix("notin").and_then(values) {
        return Ok(Requirement::NotIn(key, values));
    }
    if let Some(values) = rest.strip_prefix("in").and_then(values) {
        return Ok(Requirement::In(key, values));
    }
    let found = rest.split_whitespace().next().unwrap_or_default();
    Err(ApiError::bad_request(format!(
        "unable to parse requirement: found '{found}', expected: '=', '!=', '==', 'in', notin'"
    )))
}

fn parse_fields(kind: &ResourceType, text: &str) -> Result<Vec<(String, bool, String)>, ApiError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| parse_field(kind, part)).collect()
}

fn parse_field(kind: &ResourceType, text: &str) -> Result<(String, bool, String), ApiError> {
    let parsed = ["!=", "==", "="].iter().find_map(|operator| {
        let (field, value) = text.split_once(operator)?;
        Some((field.trim().to_owned(), *operator != "!=", value.trim().to_owned()))
    });
    let (field, equal, value) = parsed.ok_or_else(|| {
        ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{text}'"))
    })?;
    if selectable(kind, &field) {
        return Ok((field, equal, value));
    }
    Err(ApiError::bad_request(format!("field label not supported: {field}")))
}

fn selectable(kind: &ResourceType, field: &str) -> bool {
    match field {
        "metadata.name" => true,
        "metadata.namespace" => kind.namespaced || !kind.rules.custom,
        "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.schedulerName"
        | "spec.serviceAccountName"
        | "status.podIP"
        | "status.nominatedNodeName" => kind.is("", "pods"),
        "status.phase" => kind.is("", "pods") || kind.is("", "namespaces"),
        "spec.unschedulable" => kind.is("", "nodes"),
        "type" => kind.is("", "events") || kind.is("", "secrets"),
        "reason" | "source" => kind.is("", "events"),
        other => other.starts_with("involvedObject.") && kind.is("", "events"),
    }
}

fn field_value<'a>(object: &'a Value, field: &str) -> &'a str {
    let path: Vec<&str> =
        if field == "source" { vec!["source", "component"] } else { field.split('.').collect() };
    match json::at(object, &path) {
        Value::String(text) => text,
        Value::Bool(true) => "true",
        // An absent boolean is false; the only boolean one can select by is `spec.unschedulable`.
        _ if field == "spec.unschedulable" => "false",
        _ => "",
    }
}
