//! The columns of the built-in kinds' tables.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    json,
    resources::{MUTATING_WEBHOOKS, ResourceType},
};

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

type CellOf = fn(&Value, Timestamp) -> Value;
/// Name, type, priority, cell.
type Row = (&'static str, &'static str, i64, CellOf);

/// The first column of every table.
pub(crate) fn name() -> Column {
    let mut column =
        column(&("Name", "string", 0, |object, _| json::at(object, &["metadata", "name"]).clone()));
    column.format = "name".to_owned();
    column
}

/// All columns of a built-in kind. Descriptions are left empty: nobody prints them.
pub(crate) fn builtin(kind: &ResourceType) -> Vec<Column> {
    let rows: &[Row] = match kind.plural.as_str() {
        "nodes" => NODES,
        "pods" => PODS,
        "daemonsets" => DAEMON_SETS,
        "deployments" => DEPLOYMENTS,
        "events" => return EVENTS.iter().map(column).chain([last_name()]).collect(),
        "namespaces" => NAMESPACES,
        "configmaps" => CONFIG_MAPS,
        "leases" => LEASES,
        "poddisruptionbudgets" => BUDGETS,
        MUTATING_WEBHOOKS => WEBHOOKS,
        _ => OTHERS,
    };
    std::iter::once(name()).chain(rows.iter().map(column)).collect()
}

fn column((name, kind, priority, cell): &Row) -> Column {
    Column {
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        format: String::new(),
        description: String::new(),
        priority: *priority,
        cell: Cell::Known(*cell),
    }
}

/// Events show their name last, and only when asked for everything.
fn last_name() -> Column {
    Column { priority: 1, ..name() }
}

const AGE: Row = ("Age", "string", 0, |object, now| since(object, &["metadata", "creationTimestamp"], now));

const OTHERS: &[Row] =
    &[("Created At", "date", 0, |object, _| json::at(object, &["metadata", "creationTimestamp"]).clone())];

const NAMESPACES: &[Row] = &[("Status", "string", 0, |object, _| shown(object, &["status", "phase"])), AGE];

const CONFIG_MAPS: &[Row] = &[
    ("Data", "string", 0, |object, _| {
        let count = |key| json::at(object, &[key]).as_object().map_or(0, serde_json::Map::len);
        json!(count("data") + count("binaryData"))
    }),
    AGE,
];

const LEASES: &[Row] =
    &[("Holder", "string", 0, |object, _| shown(object, &["spec", "holderIdentity"])), AGE];

const BUDGETS: &[Row] = &[
    ("Min Available", "string", 0, |object, _| or(object, &["spec", "minAvailable"], "N/A")),
    ("Max Unavailable", "string", 0, |object, _| or(object, &["spec", "maxUnavailable"], "N/A")),
    ("Allowed Disruptions", "integer", 0, |object, _| number(object, &["status", "disruptionsAllowed"])),
    AGE,
];

const WEBHOOKS: &[Row] =
    &[("Webhooks", "integer", 0, |object, _| json!(json::items(object, &["webhooks"]).len())), AGE];

const NODES: &[Row] = &[
    ("Status", "string", 0, |object, _| node_status(object)),
    ("Roles", "string", 0, |object, _| node_roles(object)),
    AGE,
    ("Version", "string", 0, |object, _| shown(object, &["status", "nodeInfo", "kubeletVersion"])),
    ("Internal-IP", "string", 1, |object, _| node_address(object, "InternalIP")),
    ("External-IP", "string", 1, |object, _| node_address(object, "ExternalIP")),
    ("OS-Image", "string", 1, |object, _| or(object, &["status", "nodeInfo", "osImage"], "<unknown>")),
    ("Kernel-Version", "string", 1, |object, _| {
        or(object, &["status", "nodeInfo", "kernelVersion"], "<unknown>")
    }),
    ("Container-Runtime", "string", 1, |object, _| {
        or(object, &["status", "nodeInfo", "containerRuntimeVersion"], "<unknown>")
    }),
];

const PODS: &[Row] = &[
    ("Ready", "string", 0, |object, _| {
        let ready = statuses(object).iter().filter(|one| json::at(one, &["ready"]) == &json!(true)).count();
        format!("{ready}/{}", json::items(object, &["spec", "containers"]).len()).into()
    }),
    ("Status", "string", 0, |object, _| pod_status(object)),
    ("Restarts", "integer", 0, |object, _| {
        statuses(object).iter().map(|one| json::integer(one, &["restartCount"])).sum::<i64>().into()
    }),
    AGE,
    ("IP", "string", 1, |object, _| or(object, &["status", "podIP"], "<none>")),
    ("Node", "string", 1, |object, _| or(object, &["spec", "nodeName"], "<none>")),
    ("Nominated Node", "string", 1, |object, _| or(object, &["status", "nominatedNodeName"], "<none>")),
    ("Readiness Gates", "string", 1, |_, _| "<none>".into()),
];

const DAEMON_SETS: &[Row] = &[
    ("Desired", "integer", 0, |object, _| number(object, &["status", "desiredNumberScheduled"])),
    ("Current", "integer", 0, |object, _| number(object, &["status", "currentNumberScheduled"])),
    ("Ready", "integer", 0, |object, _| number(object, &["status", "numberReady"])),
    ("Up-to-date", "integer", 0, |object, _| number(object, &["status", "updatedNumberScheduled"])),
    ("Available", "integer", 0, |object, _| number(object, &["status", "numberAvailable"])),
    ("Node Selector", "string", 0, |object, _| {
        pairs(json::at(object, &["spec", "template", "spec", "nodeSelector"]))
    }),
    AGE,
    ("Containers", "string", 1, |object, _| of_containers(object, "name")),
    ("Images", "string", 1, |object, _| of_containers(object, "image")),
    ("Selector", "string", 1, |object, _| pairs(json::at(object, &["spec", "selector", "matchLabels"]))),
];

const DEPLOYMENTS: &[Row] = &[
    ("Ready", "string", 0, |object, _| {
        let ready = json::integer(object, &["status", "readyReplicas"]);
        format!("{ready}/{}", json::integer(object, &["spec", "replicas"])).into()
    }),
    ("Up-to-date", "string", 0, |object, _| number(object, &["status", "updatedReplicas"])),
    ("Available", "string", 0, |object, _| number(object, &["status", "availableReplicas"])),
    AGE,
    ("Containers", "string", 1, |object, _| of_containers(object, "name")),
    ("Images", "string", 1, |object, _| of_containers(object, "image")),
    ("Selector", "string", 1, |object, _| pairs(json::at(object, &["spec", "selector", "matchLabels"]))),
];

const EVENTS: &[Row] = &[
    ("Last Seen", "string", 0, |object, now| since(object, &["lastTimestamp"], now)),
    ("Type", "string", 0, |object, _| shown(object, &["type"])),
    ("Reason", "string", 0, |object, _| shown(object, &["reason"])),
    ("Object", "string", 0, |object, _| {
        let of = |key| json::text(object, &["involvedObject", key]);
        format!("{}/{}", of("kind").to_lowercase(), of("name")).into()
    }),
    ("Subobject", "string", 1, |object, _| shown(object, &["involvedObject", "fieldPath"])),
    ("Source", "string", 1, |object, _| {
        let parts = [json::text(object, &["source", "component"]), json::text(object, &["source", "host"])];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ").into()
    }),
    ("Message", "string", 0, |object, _| json::text(object, &["message"]).trim().into()),
    ("First Seen", "string", 1, |object, now| since(object, &["firstTimestamp"], now)),
    ("Count", "string", 1, |object, _| json::integer(object, &["count"]).max(1).into()),
];

fn since(object: &Value, path: &[&str], now: Timestamp) -> Value {
    age(json::text(object, path), now).into()
}

fn shown(object: &Value, path: &[&str]) -> Value {
    json::text(object, path).into()
}

fn number(object: &Value, path: &[&str]) -> Value {
    json::integer(object, path).into()
}

fn or(object: &Value, path: &[&str], otherwise: &str) -> Value {
    match json::at(object, path) {
        Value::Null => otherwise.into(),
        Value::String(text) if text.is_empty() => otherwise.into(),
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

fn pairs(map: &Value) -> Value {
    let pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",").into() }
}

fn of_containers(object: &Value, key: &str) -> Value {
    let containers = json::items(object, &["spec", "template", "spec", "containers"]);
    containers.iter().map(|container| json::text(container, &[key])).collect::<Vec<_>>().join(",").into()
}

fn statuses(pod: &Value) -> &[Value] {
    json::items(pod, &["status", "containerStatuses"])
}

fn pod_status(pod: &Value) -> Value {
    if !json::text(pod, &["metadata", "deletionTimestamp"]).is_empty() {
        return "Terminating".into();
    }
    let reason = |one: &Value| {
        ["waiting", "terminated"].iter().find_map(|state| {
            let reason = json::text(one, &["state", state, "reason"]);
            (!reason.is_empty()).then(|| reason.to_owned())
        })
    };
    let reason = statuses(pod).iter().rev().find_map(reason);
    let own = json::text(pod, &["status", "reason"]);
    let phase = if own.is_empty() { json::text(pod, &["status", "phase"]) } else { own };
    reason.unwrap_or_else(|| phase.to_owned()).into()
}

fn node_status(node: &Value) -> Value {
    let ready = json::items(node, &["status", "conditions"])
        .iter()
        .find(|condition| json::text(condition, &["type"]) == "Ready");
    let mut status = match ready.map(|condition| json::text(condition, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if json::at(node, &["spec", "unschedulable"]) == &json!(true) {
        status.push_str(",SchedulingDisabled");
    }
    status.into()
}

fn node_roles(node: &Value) -> Value {
    let labels = json::at(node, &["metadata", "labels"]).as_object().into_iter().flatten();
    let roles: Vec<&str> =
        labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).collect();
    if roles.is_empty() { "<none>".into() } else { roles.join(",").into() }
}

fn node_address(node: &Value, kind: &str) -> Value {
    let found = json::items(node, &["status", "addresses"])
        .iter()
        .find(|address| json::text(address, &["type"]) == kind);
    found.map_or("<none>".into(), |address| shown(address, &["address"]))
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
