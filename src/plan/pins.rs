//! Which DaemonSets a change of the gr can restart, each resolved to exactly one live object.
//!
//! A RollingUpdate holds all of them before it changes the gr. A component that changes and needs a cordon, and
//! whose DaemonSet cannot be told for certain, is a reason not to begin: its pods would be replaced by the DaemonSet
//! controller, on nodes that nobody has cordoned.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::fleet::SetState;
use super::impact::{Change, ChangeKind, Impact, impact_of};
use crate::gr::{self, Component, LiveGr, Workload, WorkloadKind};
use crate::record::rolling::LockedSet;
use crate::record::size::{LOCKED, stored};

/// A DaemonSet of the gr.
#[derive(Clone, Copy, Debug)]
pub struct Pin<'a> {
    /// The component's key; the DaemonSet's own name if it is no known component's.
    pub component: &'a str,
    /// The DaemonSet.
    pub set: &'a SetState,
}

impl Pin<'_> {
    /// What is recorded of it before it is held.
    pub fn record(&self) -> LockedSet {
        LockedSet {
            component: self.component.to_owned(),
            namespace: self.set.namespace.clone(),
            name: self.set.name.clone(),
            uid: self.set.uid.clone(),
            // Held by an upgrade that had to leave nodes out: its annotation knows.
            strategy: self.set.lock.clone().unwrap_or_else(|| self.set.strategy.clone()),
            hash: self.set.hash.clone().unwrap_or_default(),
            unfinished: false,
        }
    }
}

/// The DaemonSets of a gr, and what could not be resolved.
#[derive(Clone, Debug, Default)]
pub struct Pins<'a> {
    /// In dependency order; those of no known component come last.
    pub found: Vec<Pin<'a>>,
    /// Why a RollingUpdate must not begin: a sentence for each component concerned.
    pub refused: Vec<String>,
    /// What is not replaced node by node, and does no harm: a sentence for each component concerned.
    pub unmanaged: Vec<String>,
}

/// Resolves every component of `from` that stays deployed in `to`, to which `changes` lead. `sets` are the DaemonSets
/// that were read.
pub fn resolve<'a>(
    changes: &[Change],
    from: &'a Value,
    to: &Value,
    live: &LiveGr,
    sets: &'a [Arc<SetState>],
) -> Pins<'a> {
    let mut pins = Pins::default();
    // DaemonSets that come and go with the change of the gr, on all nodes at once: the plan says so.
    let mut leaving: Vec<Workload> = Vec::new();
    for component in gr::components(from).into_iter().filter(Component::is_deployed) {
        let change = changes.iter().find(|c| c.component == component.key);
        if change.is_some_and(|c| c.kind == ChangeKind::Removed) {
            leaving.extend(candidates(component, &live.status));
            continue;
        }
        let cordons = impact_of(component.key) >= Impact::Cordon;
        if let Some(why) = change.and_then(|c| moves(c, component, to)) {
            match cordons {
                true => pins.refused.push(why),
                false => pins.unmanaged.push(format!("{why}: on all nodes at once, not node by node")),
            }
            leaving.extend(candidates(component, &live.status));
            continue;
        }
        match one(component, &live.status, sets) {
            Ok(found) => {
                for set in found {
                    if !pins.found.iter().any(|p| p.set.uid == set.uid) {
                        pins.found.push(Pin { component: component.key, set });
                    }
                }
            }
            Err(why) if cordons && change.is_some() => pins.refused.push(why),
            Err(why) if change.is_some() => {
                pins.unmanaged.push(format!("{why}: it is not replaced node by node"));
            }
            Err(_) => {}
        }
    }
    // Whatever else the gr owns may change with it.
    for set in sets.iter().filter(|s| s.owners.contains(&live.uid)) {
        let known = pins.found.iter().any(|p| p.set.uid == set.uid)
            || leaving.iter().any(|w| w.namespace == set.namespace && w.name == set.name);
        if !known {
            pins.found.push(Pin { component: &set.name, set });
        }
    }
    let bytes = stored(&pins.found.iter().map(Pin::record).collect::<Vec<_>>());
    if bytes > LOCKED {
        pins.refused.push(format!(
            "the gr has {} DaemonSets, of which a record would take {bytes} bytes, more than the {LOCKED} \
             that it can hold",
            pins.found.len()
        ));
    }
    pins
}

/// The DaemonSets of one component, each of them live; none where it has only Deployments.
///
/// # Errors
/// Why they cannot be told.
fn one<'a>(
    component: Component<'_>,
    status: &Value,
    sets: &'a [Arc<SetState>],
) -> Result<Vec<&'a SetState>, String> {
    let key = component.key;
    let find =
        |w: &Workload| sets.iter().find(|s| s.namespace == w.namespace && s.name == w.name).map(Arc::as_ref);
    let reported = gr::reported_workloads(key, status);
    let configured = gr::configured_workload(component);
    if reported.is_empty() {
        let Some(workload) = configured else {
            return Err(format!(
                "component {key}: neither the spec nor the status of the gr names its workload; set spec.{key}.name"
            ));
        };
        return find(&workload).map(|set| vec![set]).ok_or_else(|| {
            format!(
                "component {key}: {} does not exist, and the operator reports no other",
                workload.describe()
            )
        });
    }
    let mut found = Vec::new();
    for workload in reported.iter().filter(|w| w.kind == WorkloadKind::DaemonSet) {
        match find(workload) {
            Some(set) => found.push(set),
            None => {
                return Err(format!(
                    "component {key}: the operator reports {}, which does not exist",
                    workload.describe()
                ));
            }
        }
    }
    // A name in the spec beside another one that is reported: the reported one is what the operator has made,
    // unless both are there.
    let other =
        component.workload_name().and(configured).filter(|w| !reported.iter().any(|r| r.name == w.name));
    match other.as_ref().and_then(find) {
        Some(set) => Err(format!(
            "component {key}: the spec names DaemonSet {}/{} and the operator reports {}; both exist",
            set.namespace,
            set.name,
            reported.iter().map(Workload::describe).collect::<Vec<_>>().join(", ")
        )),
        None => Ok(found),
    }
}

/// The DaemonSets that may be a component's.
fn candidates(component: Component<'_>, status: &Value) -> impl Iterator<Item = Workload> {
    gr::reported_workloads(component.key, status).into_iter().chain(gr::configured_workload(component))
}

/// Why a change of this component moves its pods away from nodes, if it does: they end where they are at once, held
/// or not.
fn moves(change: &Change, component: Component<'_>, to: &Value) -> Option<String> {
    if change.kind != ChangeKind::Changed {
        return None;
    }
    let key = component.key;
    let new = gr::components(to).into_iter().find(|c| c.key == key)?;
    let name = |c: Component<'_>| gr::configured_workload(c).map(|w| w.name).unwrap_or_default();
    let namespace = |c: Component<'_>| c.workload_namespace().to_owned();
    for (field, before, after) in
        [("name", name(component), name(new)), ("namespace", namespace(component), namespace(new))]
    {
        if before != after {
            return Some(format!(
                "component {key}: spec.{key}.{field} changes from {before:?} to {after:?}, which makes \
                 another workload; a RollingUpdate cannot move it"
            ));
        }
    }
    let none = Map::new();
    let selector =
        |c: Component<'_>| c.fields.get("nodeSelector").and_then(Value::as_object).unwrap_or(&none).clone();
    let (old, new) = (selector(component), selector(new));
    let narrower = new.iter().any(|(label, value)| old.get(label) != Some(value));
    narrower.then(|| {
        format!(
            "component {key}: spec.{key}.nodeSelector changes, and the pods on nodes that it no longer \
             selects end at once"
        )
    })
}
