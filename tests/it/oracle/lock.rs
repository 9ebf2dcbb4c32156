//! The lock, at every change of anything that it is about, in the order in which the API server made the changes:
//!
//! * **L1** What a change of the gr by us can restart is held by us before, since the last write of anybody else.
//! * **L2** A DaemonSet is let go of by us only when none of its pods is outdated, however the record stands.
//! * **L3** A pod of a component that needs a cordon ends on a node that we have claimed and cordoned, or by a hand
//!   that is neither ours nor the DaemonSet controller's.
//! * **L4** A node counts as done only when every component for which it was claimed has a new pod there; none is
//!   released because the set of workloads has changed.
//!
//! Breaches are collected, not panicked about: a scenario may know of some that are still to be mended.

mod objects;
mod seen;

use std::collections::{BTreeMap, BTreeSet};

use gcu_upgrade_manager::record::rolling::{Claim, ClaimState, LockedSet, NODE_ANNOTATION};
use gcu_upgrade_manager::record::{GcuUpgrade, Goal, Strategy};
use serde_json::Value;

use super::Entry;
use super::fleet::{ADMIN, annotation, is_cordoned, is_ready, name, owner, text};
pub(crate) use objects::is_outdated;
use objects::{
    Change, Set, component, deployed, is_going, is_marked, is_on_delete, needs_cordon, probe_between,
    strategy, uid,
};

/// Something that must not have happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Breach {
    /// `L1` to `L4`.
    pub(crate) law: &'static str,
    pub(crate) what: String,
}

/// What was seen, beside the logs.
#[derive(Default)]
pub(super) struct Evidence {
    /// Versions of objects that our own calls have made.
    pub(super) ours: BTreeSet<u64>,
    /// Pods that we have deleted or evicted, by UID.
    pub(super) asked: BTreeSet<String>,
    /// Who made which change, where that can be known.
    pub(super) actors: BTreeMap<u64, String>,
    /// UIDs of what people of the scenario have taken into their own hands.
    pub(super) forgiven: BTreeSet<String>,
}

#[derive(Clone, Copy)]
pub(super) enum What {
    Gr,
    Set,
    Node,
    Pod,
    Record,
}

/// The world at one moment.
pub(super) struct Replay {
    evidence: Evidence,
    /// By UID, with what last changed their spec.
    grs: BTreeMap<String, (Value, Option<Change>)>,
    sets: BTreeMap<String, Set>,
    nodes: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    ended: BTreeSet<String>,
    active: Option<GcuUpgrade>,
    breaches: Vec<Breach>,
}

/// Everything that was against the law, in order.
pub(super) fn check(mut log: Vec<(What, &Entry)>, evidence: Evidence) -> Vec<Breach> {
    log.sort_by_key(|(_, entry)| entry.version);
    let mut replay = Replay {
        evidence,
        grs: BTreeMap::new(),
        sets: BTreeMap::new(),
        nodes: BTreeMap::new(),
        pods: BTreeMap::new(),
        ended: BTreeSet::new(),
        active: None,
        breaches: Vec::new(),
    };
    for (what, entry) in log {
        match what {
            What::Gr => replay.gr(entry),
            What::Set => replay.set(entry),
            What::Node => replay.node(entry),
            What::Pod => replay.pod(entry),
            What::Record => replay.record(entry),
        }
    }
    replay.breaches
}

impl Replay {
    fn breach(&mut self, law: &'static str, what: String) {
        self.breaches.push(Breach { law, what });
    }

    /// The record of a RollingUpdate of this gr that is under way.
    fn rolling(&self, gr: &str) -> Option<&GcuUpgrade> {
        let is_of = |record: &&GcuUpgrade| record.spec.previous.as_ref().is_some_and(|p| p.uid == gr);
        self.active.as_ref().filter(|r| r.spec.strategy == Strategy::RollingUpdate).filter(is_of)
    }

    fn is_forgiven(&self, uid: &str) -> bool {
        self.evidence.forgiven.contains(uid)
    }

    fn gr(&mut self, entry: &Entry) {
        let (id, new) = (uid(&entry.object), entry.object.clone());
        let Some((old, change)) = self.grs.remove(&id) else {
            self.grs.insert(id, (new, None));
            return;
        };
        let mut change = change;
        if old["spec"] != new["spec"] {
            let ours = self.evidence.ours.contains(&entry.version);
            let probes = probe_between(&old, &new).filter(|key| !needs_cordon(key));
            let after = deployed(&new);
            let stay = deployed(&old).into_keys().filter(|key| after.contains_key(key)).collect();
            let held = self.sets.iter().filter(|(_, s)| s.is_held()).map(|(uid, _)| uid.clone()).collect();
            let made = Change { ours, probes, stay, held };
            if ours {
                self.what_is_locked_is_held(&id, &made, entry.version);
            }
            change = Some(made);
        }
        self.grs.insert(id, (new, change));
    }

    /// L1, of what the record says is held.
    fn what_is_locked_is_held(&mut self, gr: &str, change: &Change, version: u64) {
        let rolling = self.rolling(gr).and_then(|r| r.status.as_ref()?.rolling.clone()).unwrap_or_default();
        for locked in &rolling.locked {
            let Some(set) = self.sets.get(&locked.uid).filter(|set| !set.gone) else { continue };
            let exempt = change.probes.as_deref() == Some(component(&set.object));
            if !set.is_held() && !exempt && !self.is_forgiven(&locked.uid) {
                let strategy = strategy(&set.object).to_string();
                let what = format!("at {version} the gr was changed while {} was at {strategy}", locked.name);
                self.breach("L1", what);
            }
        }
    }

    fn set(&mut self, entry: &Entry) {
        let (id, new) = (uid(&entry.object), entry.object.clone());
        let ours = self.evidence.ours.contains(&entry.version);
        let Some(set) = self.sets.remove(&id) else {
            let set = Set {
                gone: is_going(entry),
                object: new,
                held_at: 0,
                foreign_at: entry.version,
                by_us: false,
            };
            self.sets.insert(id, set);
            return;
        };
        let mut now = Set { object: new, gone: is_going(entry), ..set };
        let old = &set.object;
        if strategy(old) != strategy(&now.object) && !ours {
            now.foreign_at = entry.version;
        }
        if ours && is_on_delete(&now.object) && is_marked(&now.object) {
            now.held_at = entry.version;
        }
        if old["spec"]["template"] != now.object["spec"]["template"] {
            now.by_us = self.template_changed(&id, &now);
        }
        if ours && is_on_delete(old) && !is_on_delete(&now.object) {
            // What becomes of pods that are outdated now is our doing, whoever has changed the template.
            now.by_us |= self.is_let_go_of_too_early(&id, &now.object, entry.version);
        }
        if now.gone && !set.gone {
            self.set_ended(&id, &now);
        }
        self.sets.insert(id, now);
    }

    /// L2.
    fn is_let_go_of_too_early(&mut self, id: &str, set: &Value, version: u64) -> bool {
        let mine = self.pods.values().filter(|pod| owner(pod, "uid") == id);
        let stays = |pod: &&Value| {
            !pod["metadata"]["deletionTimestamp"].is_string()
                && text(pod, "/spec/nodeName").is_some_and(|node| self.nodes.contains_key(node))
        };
        let outdated: Vec<_> = mine.filter(stays).filter(|pod| is_outdated(pod, set)).map(name).collect();
        let early = !outdated.is_empty() && !self.is_forgiven(id);
        if early {
            let what = format!("at {version} {} was let go of with outdated pods: {outdated:?}", name(set));
            self.breach("L2", what);
        }
        early
    }

    /// L1, of what has changed because of what we did to the gr. Whether it was because of that.
    fn template_changed(&mut self, id: &str, set: &Set) -> bool {
        let gr = set.gr().to_owned();
        let Some(change) = self.grs.get(&gr).and_then(|(_, change)| change.as_ref()) else { return false };
        let ours = change.ours && self.rolling(&gr).is_some();
        let exempt = change.probes.as_deref() == Some(component(&set.object));
        if ours && !exempt && !change.held.contains(id) && !self.is_forgiven(id) {
            let what =
                format!("the template of {} changed because of us; it was not held", name(&set.object));
            self.breach("L1", what);
        }
        ours
    }

    /// L1: what a change of ours makes the operator delete can be held by nothing.
    fn set_ended(&mut self, id: &str, set: &Set) {
        let gr = set.gr().to_owned();
        let Some((object, Some(change))) = self.grs.get(&gr) else { return };
        let key = component(&set.object).to_owned();
        let going = object["metadata"]["deletionTimestamp"].is_string();
        if change.ours
            && !going
            && !self.is_forgiven(id)
            && self.rolling(&gr).is_some()
            && needs_cordon(&key)
            && change.stay.contains(&key)
        {
            let what = format!("{} of {key} was deleted because of a change of ours", name(&set.object));
            self.breach("L1", what);
        }
    }

    fn node(&mut self, entry: &Entry) {
        let name = name(&entry.object);
        if entry.deleted {
            self.nodes.remove(&name);
        } else {
            self.nodes.insert(name, entry.object.clone());
        }
    }

    fn pod(&mut self, entry: &Entry) {
        let id = uid(&entry.object);
        if is_going(entry) && self.ended.insert(id.clone()) {
            self.pod_ends(&id, entry);
        }
        if entry.deleted {
            self.pods.remove(&id);
        } else {
            self.pods.insert(id, entry.object.clone());
        }
    }

    /// L3.
    fn pod_ends(&mut self, id: &str, entry: &Entry) {
        let pod = &entry.object;
        let Some(set) = self.sets.get(owner(pod, "uid")) else { return };
        let (gr, key) = (set.gr(), component(&set.object));
        let concerned = self.rolling(gr).is_some() || set.is_held() || set.by_us;
        let node = text(pod, "/spec/nodeName").unwrap_or_default();
        let (true, true, Some(machine)) = (needs_cordon(key), concerned, self.nodes.get(node)) else {
            return;
        };
        let claimed = annotation(machine, NODE_ANNOTATION).is_some();
        // Where an admin has taken the cordon off, the claim is what is left of it.
        if claimed && (is_cordoned(machine) || annotation(machine, ADMIN) == Some("uncordoned")) {
            return;
        }
        let asked = self.evidence.asked.contains(id);
        if !asked && (self.is_by_people(set, entry) || self.is_out_of_place(pod, set, machine)) {
            return;
        }
        let hand = if asked { "by us" } else { "by the DaemonSet controller or for want of its DaemonSet" };
        let how = if claimed { "not cordoned" } else { "not claimed" };
        let what = format!(
            "at {} {} of {key} on {node}, which was {how}, was ended {hand}",
            entry.version,
            name(pod)
        );
        self.breach("L3", what);
    }

    /// The pod was ended by somebody who is neither we nor a controller, or because of what such a one did.
    fn is_by_people(&self, set: &Set, entry: &Entry) -> bool {
        let over = matches!(text(&entry.object, "/status/phase"), Some("Failed" | "Succeeded"));
        let actor = self.evidence.actors.get(&entry.version).map(String::as_str);
        let gr = self.grs.get(set.gr());
        let gr_goes = gr.is_none_or(|(gr, _)| gr["metadata"]["deletionTimestamp"].is_string());
        let change = gr.and_then(|(_, change)| change.as_ref());
        // What we have never held is the operator's, and a person has changed it.
        let by_others = change.is_some_and(|change| !change.ours);
        let theirs = by_others && !set.by_us && set.held_at == 0;
        // They do not want the component any more, or want it under another name: its DaemonSet is deleted, and nothing
        // holds the pods of that.
        let is_another = |fields: &Value| {
            let named = |field: &str| fields[field].as_str();
            ["name", "namespace"].iter().any(|f| named(f).is_some_and(|n| set.object["metadata"][f] != n))
        };
        let unwanted = by_others
            && gr.is_some_and(|(gr, _)| deployed(gr).get(component(&set.object)).is_none_or(is_another));
        over || actor == Some("person")
            || gr_goes
            || theirs
            || (set.gone && unwanted)
            || self.is_forgiven(&uid(&set.object))
            || self.is_forgiven(set.gr())
    }

    /// A person has made the node one that the DaemonSet's selector does not want any more, or has changed the selector
    /// in the gr: such pods end, held or not.
    fn is_out_of_place(&self, pod: &Value, set: &Set, node: &Value) -> bool {
        let change = self.grs.get(set.gr()).and_then(|(_, change)| change.as_ref());
        let by_others = change.is_some_and(|change| !change.ours);
        let wanted = &set.object["spec"]["template"]["spec"]["nodeSelector"];
        let labels = &node["metadata"]["labels"];
        let fits = wanted.as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
        !fits && (by_others || pod["spec"]["nodeSelector"] == *wanted)
    }

    fn record(&mut self, entry: &Entry) {
        let Ok(record) = serde_json::from_value::<GcuUpgrade>(entry.object.clone()) else { return };
        let is_active = self.active.as_ref().is_some_and(|a| a.metadata.uid == record.metadata.uid);
        if is_active && !entry.deleted {
            self.no_node_is_released_for_want_of_a_workload(&record);
        }
        if entry.deleted || record.phase().is_final() {
            if is_active {
                self.active = None;
            }
        } else {
            self.active = Some(record);
        }
    }

    /// L4.
    fn no_node_is_released_for_want_of_a_workload(&mut self, now: &GcuUpgrade) {
        let before =
            self.active.as_ref().and_then(|r| r.status.as_ref()?.rolling.clone()).unwrap_or_default();
        let after = now.status.as_ref().and_then(|s| s.rolling.clone()).unwrap_or_default();
        let given_up = after.giving_up.is_some() || now.phase().is_final();
        for claim in &before.active {
            if after.active.iter().any(|c| c.node == claim.node) || !self.nodes.contains_key(&claim.node) {
                continue;
            }
            let done = after.recent.iter().any(|d| d.node == claim.node && d.since == claim.since);
            let lacking = self.lacking(claim, now.status_or_default().goal);
            if done && !lacking.is_empty() {
                let what = format!("{} counts as done and has no new pod of {lacking:?}", claim.node);
                self.breach("L4", what);
            }
            let vanished: Vec<_> =
                before.locked.iter().filter(|l| self.has_vanished(l)).map(|l| &l.name).collect();
            let swapping = claim.state == ClaimState::Swapping;
            if !done && swapping && !given_up && !vanished.is_empty() {
                let what = format!("{} was released after {vanished:?} had vanished", claim.node);
                self.breach("L4", what);
            }
        }
    }

    fn has_vanished(&self, locked: &LockedSet) -> bool {
        self.sets.values().any(|set| set.is_for(locked) && set.gone)
    }

    /// The components for which a node was claimed and which have no new, ready pod there.
    fn lacking(&self, claim: &Claim, goal: Goal) -> BTreeSet<String> {
        let wanted: BTreeSet<String> = claim.components().map(str::to_owned).collect();
        let there = |key: &String| {
            self.pods.values().any(|pod| {
                let Some(set) = self.sets.get(owner(pod, "uid")).map(|set| &set.object) else { return false };
                // On the way back the operator may still have to put back a template whose pods were never replaced.
                let fresh = goal == Goal::Previous || !is_outdated(pod, set);
                pod["spec"]["nodeName"] == claim.node.as_str()
                    && is_ready(pod)
                    && component(set) == key.as_str()
                    && fresh
            })
        };
        // A component that is not deployed any more lacks nothing.
        let still = |key: &String| self.grs.values().any(|(gr, _)| deployed(gr).contains_key(key.as_str()));
        wanted.into_iter().filter(|key| still(key) && !there(key)).collect()
    }
}
