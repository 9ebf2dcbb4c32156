//! What the lock's oracle knows of single objects.

use std::collections::{BTreeMap, BTreeSet};

use gcu_upgrade_manager::record::rolling::{HELD_LABEL, HOLD_ANNOTATION, LOCK_ANNOTATION, LockedSet};
use serde_json::{Value, json};

use crate::oracle::Entry;
use crate::oracle::fleet::annotation;

/// Which component a workload belongs to: written by the sandbox's operator for this oracle.
const COMPONENT: &str = "gcu-operator.enflame.com/component";
/// Components whose restart nobody notices.
const HARMLESS: [&str; 6] = ["nfd", "exporter", "gcuExporter", "gfd", "nodeExporter", "nightingale"];

/// A change of a gr's spec.
pub(super) struct Change {
    pub(super) ours: bool,
    /// The one component in which the specs differ, if it is one alone and only its environment does: a probe.
    pub(super) probes: Option<String>,
    /// Components that are deployed before and after.
    pub(super) stay: BTreeSet<String>,
    /// UIDs of the DaemonSets that we held when it was made.
    pub(super) held: BTreeSet<String>,
}

pub(super) struct Set {
    pub(super) object: Value,
    pub(super) gone: bool,
    /// The version of our last write that has left it held.
    pub(super) held_at: u64,
    /// The version of the last write of another's to its strategy.
    pub(super) foreign_at: u64,
    /// Its present template came about by a change of ours, or we let go of it too early.
    pub(super) by_us: bool,
}

pub(super) fn uid(object: &Value) -> String {
    crate::oracle::uid(object).unwrap_or_default().to_owned()
}

pub(super) fn component(set: &Value) -> &str {
    annotation(set, COMPONENT).unwrap_or_default()
}

pub(super) fn needs_cordon(component: &str) -> bool {
    !component.is_empty() && !HARMLESS.contains(&component)
}

pub(super) fn strategy(set: &Value) -> &Value {
    &set["spec"]["updateStrategy"]
}

pub(super) fn is_on_delete(set: &Value) -> bool {
    strategy(set)["type"] == "OnDelete"
}

/// Whether somebody has written on it that it is held.
pub(super) fn is_marked(set: &Value) -> bool {
    [LOCK_ANNOTATION, HOLD_ANNOTATION].iter().any(|key| annotation(set, key).is_some())
        || set["metadata"]["labels"][HELD_LABEL].is_string()
}

pub(super) fn is_going(entry: &Entry) -> bool {
    entry.deleted || entry.object["metadata"]["deletionTimestamp"].is_string()
}

/// The parts of a pod's spec that come from the template and that nobody else changes.
pub(super) fn essence(spec: &Value) -> Vec<Value> {
    let containers = spec["containers"].as_array().into_iter().flatten();
    containers.map(|c| json!([c["name"], c["image"], c["env"], c["args"], c["command"]])).collect()
}

pub(crate) fn is_outdated(pod: &Value, set: &Value) -> bool {
    essence(&pod["spec"]) != essence(&set["spec"]["template"]["spec"])
}

/// The components of a gr's spec that are to be deployed.
pub(super) fn deployed(gr: &Value) -> BTreeMap<String, Value> {
    let all = gr["spec"].as_object().into_iter().flatten();
    let deployed = all.filter(|(_, fields)| fields.is_object() && fields["notDeploy"] != true);
    deployed.map(|(key, fields)| (key.clone(), fields.clone())).collect()
}

/// The one component whose environment is all that differs.
pub(super) fn probe_between(old: &Value, new: &Value) -> Option<String> {
    let (old, new) = (deployed(old), deployed(new));
    let mut differing = new.iter().filter(|(key, fields)| old.get(*key) != Some(fields));
    let (key, fields) = differing.next()?;
    let without_env = |fields: &Value| {
        let mut fields = fields.clone();
        fields.as_object_mut().map(|fields| fields.remove("env"));
        fields
    };
    let only_env = without_env(fields) == without_env(old.get(key)?);
    (only_env && differing.next().is_none() && old.len() == new.len()).then(|| key.clone())
}

impl Set {
    pub(super) fn is_held(&self) -> bool {
        !self.gone && is_on_delete(&self.object) && self.held_at > self.foreign_at
    }

    pub(super) fn gr(&self) -> &str {
        let owners = self.object["metadata"]["ownerReferences"].as_array();
        let gr = owners.into_iter().flatten().find(|owner| owner["kind"] == "GcuResource");
        gr.and_then(|owner| owner["uid"].as_str()).unwrap_or_default()
    }

    pub(super) fn is_for(&self, locked: &LockedSet) -> bool {
        uid(&self.object) == locked.uid
    }
}
