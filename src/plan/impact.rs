//! What a change of the gr means for the nodes: which components change, which restart because of that, and
//! what that does to the pods that use them. Pure.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::gr::{self, Component, LiveGr, WorkloadKind};
use crate::record::rolling::LockedSet;

/// What the restart of a component does to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Impact {
    /// Nothing on any node.
    None,
    /// The component's own pod restarts; others do not notice.
    Restart,
    /// New pods cannot be given a GCU meanwhile: the node is cordoned.
    Cordon,
    /// Pods that hold a GCU would lose it: they have to leave first.
    Evict,
}

/// What the restart of a component means, by its key. A kernel driver cannot be unloaded while it is used; a
/// toolkit may restart the container runtime; while a device plugin restarts, pods are refused their GCU.
/// Components that are not known are taken to matter to new pods.
pub fn impact_of(key: &str) -> Impact {
    match key {
        "driver" | "k8sDriverManager" | "toolkit" | "containerToolkit" => Impact::Evict,
        "nfd" | "exporter" | "gcuExporter" | "gfd" | "nodeExporter" | "nightingale" => Impact::Restart,
        _ => Impact::Cordon,
    }
}

/// How a component differs between two versions of the gr.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The component's key.
    pub component: String,
    /// In what way.
    pub kind: ChangeKind,
    /// The fields that differ, as `field: old -> new`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// How certain it is that its workload changes with it.
    #[serde(skip)]
    pub certainty: Certainty,
}

/// How certain it is that the workload of a component that differs changes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// Only fields differ of which it is not known whether the operator puts them into the workload.
    Unknown,
    /// A documented field differs.
    Documented,
    /// The image differs: without a change of the workload, the new version does not run.
    Image,
}

/// The ways in which a component can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Deployed from now on.
    Added,
    /// No longer deployed.
    Removed,
    /// Deployed before and after, differently.
    Changed,
}

/// The components that differ, in dependency order.
pub fn changes(from: &Value, to: &Value) -> Vec<Change> {
    let (before, after) = (deployed(from), deployed(to));
    let mut found = Vec::new();
    for key in keys(from, to) {
        let (old, new) = (before.iter().find(|c| c.key == key), after.iter().find(|c| c.key == key));
        let (kind, fields, certainty) = match (old.copied(), new.copied()) {
            (None, Some(_)) => (ChangeKind::Added, Vec::new(), Certainty::Image),
            (Some(_), None) => (ChangeKind::Removed, Vec::new(), Certainty::Image),
            (Some(old), Some(new)) => {
                let keys = differing(old, new);
                if keys.is_empty() {
                    continue;
                }
                (ChangeKind::Changed, shown(&keys, old, new), certainty(&keys, old, new))
            }
            (None, None) => continue,
        };
        found.push(Change { component: key.to_owned(), kind, fields, certainty });
    }
    found
}

/// The components of either version, in dependency order.
pub fn keys<'a>(from: &'a Value, to: &'a Value) -> Vec<&'a str> {
    let mut keys: Vec<&str> = Vec::new();
    for component in gr::components(to).iter().chain(&gr::components(from)) {
        if !keys.contains(&component.key) {
            keys.push(component.key);
        }
    }
    keys
}

fn deployed(manifest: &Value) -> Vec<Component<'_>> {
    gr::components(manifest).into_iter().filter(Component::is_deployed).collect()
}

/// The fields that do not say the same.
fn differing(old: Component<'_>, new: Component<'_>) -> BTreeSet<String> {
    let (old, new) = (old.meaning(), new.meaning());
    let keys = old.keys().chain(new.keys());
    keys.filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}

fn shown(keys: &BTreeSet<String>, old: Component<'_>, new: Component<'_>) -> Vec<String> {
    let show = |value: Option<&Value>| match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let fields = keys.iter();
    fields
        .map(|key| format!("{key}: {} -> {}", show(old.fields.get(key)), show(new.fields.get(key))))
        .collect()
}

fn certainty(keys: &BTreeSet<String>, old: Component<'_>, new: Component<'_>) -> Certainty {
    if gr::image::images(old) != gr::image::images(new) {
        return Certainty::Image;
    }
    let documented = keys.iter().any(|key| gr::is_rendered(key));
    if documented { Certainty::Documented } else { Certainty::Unknown }
}

/// A DaemonSet whose pods a rollout replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopedSet {
    /// The component's key.
    pub component: String,
    /// The DaemonSet's namespace.
    pub namespace: String,
    /// The DaemonSet's name.
    pub name: String,
    /// Its template changes; else it restarts because of a component before it, or has outdated pods.
    pub changed: bool,
    /// Whether its template changes is the operator's to say: see [`Certainty::Unknown`].
    pub uncertain: bool,
    /// It is held: its pods may be of an older template.
    pub held: bool,
    /// An earlier upgrade had left outdated pods.
    pub unfinished: bool,
    /// What its restart does to a node.
    pub impact: Impact,
}

impl ScopedSet {
    /// Its pods may be of an older template; those of the others only restart because of them.
    pub fn may_be_outdated(&self) -> bool {
        self.changed || self.held
    }
}

/// The DaemonSets of the components that stay deployed in `to`, to which `changes` lead, in dependency order. `pins`
/// are those that are held; a component without one has the DaemonSets that its spec and the gr's status name.
pub fn scope(changes: &[Change], to: &Value, live: Option<&LiveGr>, pins: &[LockedSet]) -> Vec<ScopedSet> {
    let change =
        |component: &str| changes.iter().find(|c| c.kind == ChangeKind::Changed && c.component == component);
    let status = live.map_or(&Value::Null, |l| &l.status);
    let mut sets: Vec<ScopedSet> = Vec::new();
    let mut add = |component: &str, namespace: &str, name: &str| {
        let pin = pins.iter().find(|p| p.namespace == namespace && p.name == name);
        if sets.iter().any(|s| s.namespace == namespace && s.name == name) {
            return;
        }
        sets.push(ScopedSet {
            component: component.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            changed: change(component).is_some(),
            uncertain: change(component).is_some_and(|c| c.certainty == Certainty::Unknown),
            held: pin.is_some(),
            unfinished: pin.is_some_and(|p| p.unfinished),
            impact: impact_of(component),
        });
    };
    for component in deployed(to) {
        let mut pinned = pins.iter().filter(|p| p.component == component.key).peekable();
        if pinned.peek().is_some() {
            pinned.for_each(|p| add(component.key, &p.namespace, &p.name));
            continue;
        }
        let workloads = gr::workloads_of(component, status);
        let daemonsets = workloads.iter().filter(|w| w.kind == WorkloadKind::DaemonSet);
        daemonsets.for_each(|w| add(component.key, &w.namespace, &w.name));
    }
    // Those that belong to the gr and to no component known.
    for pin in pins.iter().filter(|p| !p.component.is_empty()) {
        add(&pin.component, &pin.namespace, &pin.name);
    }
    sets
}

/// The manifest that changes only these components of `from` to what `to` has.
///
/// # Errors
/// The first component that neither of them has, with those that they have.
pub fn only(from: &Value, to: &Value, components: &[String]) -> Result<Value, String> {
    let mut merged = from.clone();
    for wanted in components {
        let new = gr::component_for_kind(to, wanted);
        let old = gr::component_for_kind(from, wanted);
        let Some(key) = new.or(old).map(|c| c.key.to_owned()) else {
            let known: Vec<&str> = gr::components(to).iter().map(|c| c.key).collect();
            return Err(format!("no component {wanted:?}; the blueprint has: {}", known.join(", ")));
        };
        if let Some(spec) = merged.get_mut("spec").and_then(Value::as_object_mut) {
            match new {
                Some(component) => spec.insert(key, Value::Object(component.fields.clone())),
                None => spec.remove(&key),
            };
        }
    }
    Ok(merged)
}
