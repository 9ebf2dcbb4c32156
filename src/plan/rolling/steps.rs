//! The steps around the nodes: locking, probing, patching, propagating, restoring.

use serde_json::{Value, json};

use super::Rollout;
use super::unrendered::has_moved;
use crate::gr::{self, LiveGr};
use crate::plan::fleet::SetState;
use crate::plan::hold::{Kept, kept_by_pods};
use crate::plan::impact::{Impact, ScopedSet, impact_of};
use crate::plan::status::{End, goal_name};
use crate::plan::step_context::{Next, Wait};
use crate::plan::{Decision, GrAction};
use crate::record::rolling::{LockedSet, RollingStatus};
use crate::record::{Goal, Phase, Reason, Step, WaitReason};

/// The environment variable that the probe adds, and takes away again with the change itself.
const PROBE: &str = "GUM_PROBE";

impl Rollout<'_> {
    /// Nothing has been touched yet: note what is about to be.
    pub(super) fn recorded_rolling(&self) -> Next {
        if self.record.spec.previous.is_none() {
            return self
                .fail(Reason::Conflict, "there is no gr to change in place; nothing was touched".to_owned());
        }
        let Some(pins) = self.pins() else { return self.abandon("the gr was deleted by someone else") };
        if !pins.refused.is_empty() {
            return self
                .fail(Reason::NotResolved, format!("{}; nothing was touched", pins.refused.join("; ")));
        }
        if let Some(wait) = self.waits_to_begin() {
            return Next::Do(wait);
        }
        let mut locked = Vec::new();
        for pin in &pins.found {
            let SetState { namespace, name, hash, observed, .. } = pin.set;
            if hash.is_none() || !observed {
                let what = format!("{}: DaemonSet {namespace}/{name} is not settled", pin.component);
                return Wait::next(WaitReason::ComponentStarting, what);
            }
            locked.push(pin.record());
        }
        let message = format!("setting {} DaemonSets to updateStrategy OnDelete", locked.len());
        let attempt = self.record.spec.attempt;
        let draft = self.draft().with(|s| {
            s.attempt = attempt;
            s.rolling = Some(RollingStatus { locked, ..RollingStatus::default() });
        });
        Next::Do(Decision::Record(draft.step(Step::Locking, self.seconds_for(Step::Locking), message)))
    }

    /// The DaemonSet of the last harmless component that is held, with the component's key.
    pub(super) fn probe_set(&self) -> Option<(&str, &LockedSet)> {
        let previous = &self.record.spec.previous.as_ref()?.manifest;
        let pins = &self.status.rolling.as_ref()?.locked;
        gr::components(previous).into_iter().rev().find_map(|c| {
            let fits = impact_of(c.key) == Impact::Restart && c.fields.get("env").is_none_or(Value::is_array);
            let pin = pins.iter().find(|pin| fits && pin.component == c.key && !pin.uid.is_empty())?;
            Some((pin.component.as_str(), pin))
        })
    }

    /// The gr from before with one more environment variable in the probed component.
    pub(super) fn probe_manifest(&self) -> Option<Value> {
        let (key, _) = self.probe_set()?;
        let mut manifest = self.record.spec.previous.as_ref()?.manifest.clone();
        let component = manifest.pointer_mut("/spec")?.get_mut(key)?.as_object_mut()?;
        let env = component.entry("env").or_insert_with(|| json!([])).as_array_mut()?;
        env.push(json!({ "name": PROBE, "value": self.record.metadata.name }));
        Some(manifest)
    }

    /// Until the probed DaemonSet has had another template and has its own again, is still the same object, and is
    /// still held.
    pub(super) fn probing(&self) -> Next {
        let (Some(gr), Some(manifest), Some((component, pin))) =
            (&self.seen.gr, self.probe_manifest(), self.probe_set())
        else {
            return self.probe_shows_recreation();
        };
        let Some(set) = self.seen.fleet.locked(pin) else { return self.probe_shows_recreation() };
        let rolling = self.rolling_status();
        let (probe, unprobe) = (self.probe_mark("probe"), self.probe_mark("unprobe"));
        let sent = [&probe, &unprobe].contains(&&gr.mark.clone().unwrap_or_default());
        if sent && self.let_go_by_others(&rolling) {
            return self.operator_insists();
        }
        if let Some(missing) = self.not_locked_yet() {
            return missing;
        }
        let hash = set.hash.as_ref().filter(|_| set.observed);
        // The probe is taken back before anything else: an operator that waits for the pods of what it changes
        // first would not come round to it.
        if gr.mark.as_ref() == Some(&unprobe) {
            if hash == Some(&pin.hash) {
                let message =
                    "the operator changes its DaemonSets in place and leaves them held: changing the gr";
                let draft = self.draft().with(|s| s.rolling.get_or_insert_default().probed = true);
                let seconds = self.seconds_for(Step::Patching);
                return Next::Do(Decision::Record(draft.step(Step::Patching, seconds, message)));
            }
        } else if !gr::covers(spec_of(&gr.manifest), spec_of(&manifest)) {
            return self.patch(gr, &manifest, probe);
        } else if let (Some(hash), Some(before)) = (hash, &self.record.spec.previous)
            && *hash != pin.hash
        {
            return self.patch(gr, &before.manifest, unprobe);
        }
        if self.is_late() {
            return self.give_up(
                Reason::OperatorDoesNotRoll,
                format!(
                    "the operator did not put a change \
                of {component} into its DaemonSet in time, so nothing can be replaced node by node; use \
                strategy Recreate"
                ),
            );
        }
        let LockedSet { namespace, name, .. } = pin;
        let message = format!("waiting for the operator to put the change into DaemonSet {namespace}/{name}");
        let (reason, detail, until) = (WaitReason::OperatorPropagating, message.clone(), self.late_at());
        Next::Wait(Wait { reason, message, detail, until })
    }

    /// Another one once the webhook keeps the DaemonSets held: then the operator is tried again.
    fn probe_mark(&self, what: &str) -> String {
        let guarded = self.status.rolling.as_ref().is_some_and(|r| r.guarded);
        self.patch_mark(if guarded { format!("guarded-{what}") } else { what.to_owned() }.as_str())
    }

    fn probe_shows_recreation(&self) -> Next {
        self.give_up(
            Reason::OperatorRecreates,
            "the operator makes its DaemonSets anew for every change, \
                                                 so their pods cannot be replaced node by node; use \
                                                 strategy Recreate"
                .to_owned(),
        )
    }

    fn patch_mark(&self, what: &str) -> String {
        format!("{}:{what}", self.record.mark(self.status.goal))
    }

    fn patch(&self, gr: &LiveGr, manifest: &Value, mark: String) -> Next {
        Next::Call(GrAction::Patch {
            uid: gr.uid.clone(),
            resource_version: gr.resource_version.clone(),
            change: gr::merge_patch(spec_of(&gr.manifest), spec_of(manifest)),
            mark,
        })
    }

    /// The change may or may not have been sent. Our mark is part of it: a change of ours that is still on its
    /// way carries an older version, and can no longer land once the mark of the present goal is there.
    pub(super) fn patching(&self) -> Next {
        let Some(manifest) = self.record.manifest_for(self.status.goal) else {
            return self.fail(Reason::Conflict, "there is no version to go to".to_owned());
        };
        let Some(gr) = &self.seen.gr else { return self.abandon("the gr was deleted by someone else") };
        let mark = self.patch_mark("spec");
        if gr.mark.as_ref() != Some(&mark) || !gr::covers(spec_of(&gr.manifest), spec_of(manifest)) {
            return self.not_locked_yet().unwrap_or_else(|| self.patch(gr, manifest, mark));
        }
        let what = goal_name(self.status.goal);
        self.enter(Step::Propagating, format!("the gr asks for {what}: waiting for the operator"))
    }

    /// No node is touched before the operator has put the change into its DaemonSets.
    pub(super) fn propagating(&self) -> Next {
        if let Some(missing) = self.not_locked_yet() {
            return missing;
        }
        let rolling = self.rolling_status();
        let scope = self.scope();
        let goal = self.status.goal;
        let (mut taken, mut behind, mut may_stay) = (0, None, None);
        for pin in &rolling.locked {
            let is_it = |s: &&ScopedSet| s.name == pin.name && s.namespace == pin.namespace;
            let changed = scope.iter().filter(is_it).any(|s| s.changed);
            let Some(set) = self.seen.fleet.locked(pin) else { continue };
            let moved = has_moved(pin, set);
            // An operator may put into all of them what only one of them asks for.
            let there = set.observed && set.hash.is_some() && (!changed || moved == (goal == Goal::Target));
            if there && changed {
                taken += 1;
            }
            if !there && set.observed && set.hash.is_some() && goal == Goal::Target && self.may_stay(pin) {
                may_stay.get_or_insert(set);
            } else if !there {
                behind.get_or_insert(set);
            }
        }
        let done_at = may_stay.and_then(|_| self.taken_as_done_at());
        // What need not move holds nothing up once the operator says that it is done.
        let behind = behind.or(may_stay.filter(|_| done_at.is_none_or(|at| self.now < at)));
        let says_so = self.operator_says_so() && behind.is_none_or(|set| set.observed);
        let Some(set) = behind.filter(|_| !(says_so && taken > 0)) else {
            return self.enter(Step::Rolling, "the DaemonSets have their new templates".to_owned());
        };
        if self.is_late() && goal == Goal::Target {
            return self.give_up(
                Reason::OperatorDoesNotRoll,
                format!(
                    "the operator did not put the change \
                into DaemonSet {}/{} in time; it may want the pods of one component replaced before it \
                changes the next: upgrade one component at a time, or use strategy Recreate",
                    set.namespace, set.name
                ),
            );
        }
        let all_behind = self.unreverted(&rolling);
        let until = self.waits_for_us_since(&all_behind);
        let one_is_back = all_behind.len() < rolling.locked.len();
        if one_is_back && until.is_some_and(|at| self.now >= at) {
            return self.enter(Step::Rolling, "the operator waits for pods that only we replace".to_owned());
        }
        let message = format!("waiting for the operator to change DaemonSet {}/{}", set.namespace, set.name);
        let (reason, detail) = (WaitReason::OperatorPropagating, message.clone());
        let until = until
            .filter(|_| one_is_back)
            .into_iter()
            .chain(self.late_at())
            .chain(done_at)
            .filter(|at| *at > self.now);
        Next::Wait(Wait { reason, message, detail, until: until.min() })
    }

    /// Strategies back, then everything has to run. Where nodes were left out with old pods, the strategy stays
    /// OnDelete: otherwise the DaemonSet controller would replace those pods at once, on nodes that were to be
    /// left alone.
    pub(super) fn restoring(&self) -> Next {
        let rolling = self.rolling_status();
        let scope = self.scope();
        let index = self.index(&scope, &rolling);
        let abandoned = self.giving_up().is_some_and(|g| g.abandon);
        if !abandoned && self.free(&index, &rolling).next().is_some() {
            // Locks that have been taken off already are put on again: that is nobody's interference.
            let draft = self.draft().with(|s| s.rolling.get_or_insert_default().locked_since = None);
            let message = "a node that was left out can be done now";
            return Next::Do(Decision::Record(draft.step(Step::Rolling, 0, message)));
        }
        let left_out = index.left_out().count();
        let mut live = rolling.locked.iter().filter_map(|pin| self.seen.fleet.locked(pin));
        // They are let go of together. Of pods on nodes that are gone nothing is left to do but for the garbage
        // collector.
        let stay = live.clone().any(|set| match kept_by_pods(set, self.seen.fleet.pods.of(&set.uid)) {
            Some(Kept::Outdated(nodes)) => nodes.iter().any(|node| self.seen.fleet.node(node).is_some()),
            _ => false,
        });
        let going = live.find(|set| set.lock.is_some()).filter(|_| !stay);
        if let Some(set) = going.filter(|_| !abandoned) {
            let message = format!(
                "waiting for DaemonSet {}/{} to get its update strategy back",
                set.namespace, set.name
            );
            let refusal = self.seen.not_released.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            return Wait::next(WaitReason::RestoringStrategies, format!("{message}{refusal}"));
        }
        if let Some(giving_up) = self.giving_up() {
            let untouched = if self.status.goal == Goal::Previous { "; the old version runs" } else { "" };
            let message = format!("{}{untouched}{}", giving_up.message, kept(left_out));
            let end = End { phase: Phase::Failed, reason: giving_up.reason, message };
            return Next::Do(Decision::Record(self.draft().end(end)));
        }
        let Some(gr) = &self.seen.gr else { return self.abandon("the gr was deleted by someone else") };
        if left_out == 0
            && let Some(wait) = self.not_running(gr)
        {
            return wait;
        }
        self.finish_rolling(left_out)
    }

    fn finish_rolling(&self, left_out: usize) -> Next {
        let (phase, mut reason, message) = self.at_the_goal();
        let mut message = format!("{message}{}", kept(left_out));
        if let Some((clause, nothing)) = self.unrendered(&self.rolling_status()) {
            message = format!("{message}; {clause}");
            reason = if nothing { Reason::NothingRendered } else { reason };
        }
        Next::Do(self.well_ended(phase, reason, message))
    }
}

/// What is said of nodes that are left with old pods.
fn kept(left_out: usize) -> String {
    match left_out {
        0 => String::new(),
        n => format!(
            "; {n} nodes were left out and have old pods: the DaemonSets stay at OnDelete until an \
             upgrade has done them all"
        ),
    }
}

fn spec_of(manifest: &Value) -> &Value {
    manifest.get("spec").unwrap_or(&Value::Null)
}
