//! The steps around the nodes: locking, probing, patching, propagating, restoring.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{LOCK_SETTLES, RELOCK_LIMIT};
use crate::gr::{self, LiveGr};
use crate::plan::fleet::SetState;
use crate::plan::impact::{Impact, ScopedSet, impact_of};
use crate::plan::status::{End, after, goal_name};
use crate::plan::turn::{Next, Turn, Wait};
use crate::plan::{Action, Decision};
use crate::record::rolling::{LockedSet, RollingStatus};
use crate::record::{Goal, Phase, Step, WaitReason};

/// The environment variable that the probe adds, and takes away again with the change itself.
const PROBE: &str = "GUM_PROBE";

impl Turn<'_> {
    /// Nothing has been touched yet: note what is about to be.
    pub(super) fn recorded_rolling(&self) -> Next {
        if self.record.spec.previous.is_none() {
            return self
                .fail("Conflict", "there is no gr to change in place; nothing was touched".to_owned());
        }
        let mut locked = Vec::new();
        for (component, set) in self.sets_to_lock() {
            let Some(hash) = set.hash.clone().filter(|_| set.observed) else {
                let what = format!("{component}: DaemonSet {}/{} is not settled", set.namespace, set.name);
                return Wait::next(WaitReason::ComponentStarting, what);
            };
            locked.push(LockedSet {
                namespace: set.namespace.clone(),
                name: set.name.clone(),
                uid: set.uid.clone(),
                // Left locked by an upgrade that had to leave nodes out: its annotation knows.
                strategy: set.lock.clone().unwrap_or_else(|| set.strategy.clone()),
                hash,
            });
        }
        let message = format!("holding {} DaemonSets at OnDelete", locked.len());
        let attempt = self.record.spec.attempt;
        let draft = self.draft().with(|s| {
            s.attempt = attempt;
            s.rolling = Some(RollingStatus { locked, ..RollingStatus::default() });
        });
        Next::Do(Decision::Record(draft.step(Step::Locking, self.seconds_for(Step::Locking), message)))
    }

    /// The DaemonSets of the components that change, and the one that is probed with.
    fn sets_to_lock(&self) -> Vec<(String, &SetState)> {
        let changed = self.scope().into_iter().filter(ScopedSet::may_be_outdated);
        let mut wanted: Vec<(String, String, String)> =
            changed.map(|s| (s.component, s.namespace, s.name)).collect();
        if let Some((component, namespace, name)) = self.probe_set() {
            wanted.push((component, namespace, name));
        }
        let mut found: Vec<(String, &SetState)> = Vec::new();
        for (component, namespace, name) in wanted {
            if let Some(set) = self.seen.fleet.set(&namespace, &name)
                && !found.iter().any(|(_, s)| s.uid == set.uid)
            {
                found.push((component, set));
            }
        }
        found
    }

    /// The last harmless component that is deployed before and after; none when nothing else than harmless
    /// components change, and there is nothing to be careful of.
    fn probe_component(&self) -> Option<String> {
        if self.scope().iter().all(|s| s.impact <= Impact::Restart) {
            return None;
        }
        let previous = &self.record.spec.previous.as_ref()?.manifest;
        let harmless = gr::components(previous).into_iter().rev().find(|c| {
            c.is_deployed()
                && impact_of(c.key) == Impact::Restart
                && self.daemonset_of(c.key).is_some()
                && c.fields.get("env").is_none_or(Value::is_array)
        });
        harmless.map(|c| c.key.to_owned())
    }

    fn daemonset_of(&self, key: &str) -> Option<&SetState> {
        let previous = &self.record.spec.previous.as_ref()?.manifest;
        let component = gr::components(previous).into_iter().find(|c| c.key == key)?;
        let status = self.seen.gr.as_ref().map_or(&Value::Null, |g| &g.status);
        gr::workloads_of(component, status).iter().find_map(|w| self.seen.fleet.set(&w.namespace, &w.name))
    }

    fn probe_set(&self) -> Option<(String, String, String)> {
        let key = self.probe_component()?;
        let set = self.daemonset_of(&key)?;
        Some((key, set.namespace.clone(), set.name.clone()))
    }

    /// The gr from before with one more environment variable in the probed component.
    pub(super) fn probe_manifest(&self) -> Option<Value> {
        let key = self.probe_component()?;
        let mut manifest = self.record.spec.previous.as_ref()?.manifest.clone();
        let component = manifest.pointer_mut("/spec")?.get_mut(&key)?.as_object_mut()?;
        let env = component.entry("env").or_insert_with(|| json!([])).as_array_mut()?;
        env.push(json!({ "name": PROBE, "value": self.record.metadata.name }));
        Some(manifest)
    }

    /// The locked DaemonSets that are not at OnDelete.
    pub(super) fn unlocked(&self, rolling: &RollingStatus) -> Vec<(&SetState, Value)> {
        let found = rolling.locked.iter().filter_map(|locked| {
            let set = self.seen.fleet.locked(locked).filter(|set| !set.is_on_delete())?;
            Some((set, locked.strategy.clone()))
        });
        found.collect()
    }

    /// The calls that hold them at OnDelete.
    pub(super) fn lock_calls(&self, unlocked: Vec<(&SetState, Value)>) -> Vec<Action> {
        let open = unlocked.into_iter().filter(|(set, _)| !self.is_refused(&set.uid));
        open.map(|(set, strategy)| Action::SetStrategy {
            namespace: set.namespace.clone(),
            name: set.name.clone(),
            uid: set.uid.clone(),
            resource_version: set.resource_version.clone(),
            strategy: json!({ "type": "OnDelete", "rollingUpdate": null }),
            remember: Some(strategy),
        })
        .collect()
    }

    fn is_refused(&self, subject: &str) -> bool {
        self.seen.fleet.refusals.contains_key(subject)
    }

    pub(super) fn locking(&self) -> Next {
        let mut rolling = self.rolling_status();
        let unlocked = self.unlocked(&rolling);
        // Put back so fast that it was never seen held: what it had before is remembered on it all the same.
        let never_kept = self.is_late() && unlocked.iter().any(|(set, _)| set.lock.is_some());
        if rolling.relocks >= RELOCK_LIMIT || never_kept {
            return self.give_up("StrategyNotKept", "the operator puts its update strategy back into its DaemonSets, so their pods cannot be replaced node by node; use strategy Recreate".to_owned());
        }
        let refused = unlocked.iter().find_map(|(set, _)| self.seen.fleet.refused(&set.uid));
        let unlocked = !unlocked.is_empty();
        if let Some(decision) = self.keep_locked(&mut rolling) {
            return Next::Do(decision);
        }
        if let Some(refusal) = refused {
            return Wait::next(WaitReason::CallRefused, refusal);
        }
        let Some(since) = rolling.locked_since.filter(|_| !unlocked) else {
            return Wait::next(WaitReason::LockSettling, "waiting for the DaemonSets to be at OnDelete");
        };
        if Some(&rolling) != self.status.rolling.as_ref() {
            let draft = self.draft().with(|s| s.rolling = Some(rolling));
            return Next::Do(Decision::Record(draft.quietly()));
        }
        let settled = since.saturating_add(LOCK_SETTLES).unwrap_or(self.now);
        if self.now < settled {
            let message = "seeing whether the operator leaves the DaemonSets at OnDelete".to_owned();
            let (reason, detail) = (WaitReason::LockSettling, message.clone());
            return Next::Wait(Wait { reason, message, detail, until: Some(settled) });
        }
        match self.probe_set() {
            Some((component, ..)) => self.enter(
                Step::Probing,
                format!("changing the environment of {component}, to see whether the operator changes its DaemonSets in place"),
            ),
            None => self.enter(Step::Patching, "changing the gr in place".to_owned()),
        }
    }

    /// Until the probed DaemonSet has another template, and is still the same object.
    pub(super) fn probing(&self) -> Next {
        let (Some(gr), Some(manifest), Some((component, namespace, name))) =
            (&self.seen.gr, self.probe_manifest(), self.probe_set())
        else {
            return self.probe_shows_recreation();
        };
        let rolling = self.rolling_status();
        let Some(locked) = rolling.locked.iter().find(|l| l.namespace == namespace && l.name == name) else {
            return self.probe_shows_recreation();
        };
        let Some(set) = self.seen.fleet.locked(locked) else { return self.probe_shows_recreation() };
        let hash = set.hash.as_ref().filter(|_| set.observed);
        // The probe is taken back before anything else: an operator that waits for the pods of what it changes
        // first would not come round to it.
        if gr.mark.as_deref() == Some(self.patch_mark("unprobe").as_str()) {
            if hash == Some(&locked.hash) {
                let message = "the operator changes its DaemonSets in place: changing the gr".to_owned();
                return self.enter(Step::Patching, message);
            }
        } else if !gr::covers(spec_of(&gr.manifest), spec_of(&manifest)) {
            return self.patch(gr, &manifest, "probe");
        } else if let (Some(hash), Some(before)) = (hash, &self.record.spec.previous)
            && *hash != locked.hash
        {
            return self.patch(gr, &before.manifest, "unprobe");
        }
        if self.is_late() {
            return self.give_up("OperatorDoesNotRoll", format!("the operator did not put a change of {component} into its DaemonSet in time, so nothing can be replaced node by node; use strategy Recreate"));
        }
        let message = format!("waiting for the operator to put the change into DaemonSet {namespace}/{name}");
        let (reason, detail, until) = (WaitReason::OperatorPropagating, message.clone(), self.late_at());
        Next::Wait(Wait { reason, message, detail, until })
    }

    fn probe_shows_recreation(&self) -> Next {
        self.give_up("OperatorRecreates", "the operator makes its DaemonSets anew for every change, so their pods cannot be replaced node by node; use strategy Recreate".to_owned())
    }

    fn is_late(&self) -> bool {
        self.late_at().is_none_or(|at| self.now >= at)
    }

    /// When the operator has had its time, since the step began and since the API server was last away.
    fn late_at(&self) -> Option<Timestamp> {
        let again = self.seen.undisturbed_since.map(|at| after(at, self.seconds_for(self.status.step)));
        self.status.deadline.map(|d| again.map_or(d, |again| d.max(again)))
    }

    fn patch_mark(&self, what: &str) -> String {
        format!("{}:{what}", self.record.mark(self.status.goal))
    }

    fn patch(&self, gr: &LiveGr, manifest: &Value, what: &str) -> Next {
        let mark = self.patch_mark(what);
        Next::Call(Action::PatchGr {
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
            return self.fail("Conflict", "there is no version to go to".to_owned());
        };
        let Some(gr) = &self.seen.gr else { return self.abandon("the gr was deleted by someone else") };
        let marked = gr.mark.as_deref() == Some(self.patch_mark("spec").as_str());
        if !marked || !gr::covers(spec_of(&gr.manifest), spec_of(manifest)) {
            return self.patch(gr, manifest, "spec");
        }
        let what = goal_name(self.status.goal);
        self.enter(Step::Propagating, format!("the gr asks for {what}: waiting for the operator"))
    }

    /// No node is touched before the operator has put the change into its DaemonSets.
    pub(super) fn propagating(&self) -> Next {
        let mut rolling = self.rolling_status();
        if let Some(decision) = self.keep_locked(&mut rolling) {
            return Next::Do(decision);
        }
        let scope = self.scope();
        let goal = self.status.goal;
        let (mut taken, mut behind) = (0, None);
        for locked in &rolling.locked {
            let changed =
                scope.iter().any(|s| s.changed && s.name == locked.name && s.namespace == locked.namespace);
            let Some(set) = self.seen.fleet.locked(locked) else {
                if goal == Goal::Target {
                    return self.probe_shows_recreation();
                }
                continue;
            };
            let moved = set.hash.as_ref().is_some_and(|hash| *hash != locked.hash);
            let there = set.observed && set.hash.is_some() && moved == (changed && goal == Goal::Target);
            if there && changed {
                taken += 1;
            }
            if !there {
                behind.get_or_insert(set);
            }
        }
        let says_so = self.operator_says_so() && behind.is_none_or(|set| set.observed);
        let Some(set) = behind.filter(|_| !(says_so && taken > 0)) else {
            return self.enter(Step::Rolling, "the DaemonSets have their new templates".to_owned());
        };
        if self.is_late() && goal == Goal::Target {
            return self.give_up("OperatorDoesNotRoll", format!("the operator did not put the change into DaemonSet {}/{} in time; it may want the pods of one component replaced before it changes the next: upgrade one component at a time, or use strategy Recreate", set.namespace, set.name));
        }
        let all_behind = self.behind(&rolling);
        let until = self.waits_for_us_since(&all_behind);
        let one_is_back = all_behind.len() < rolling.locked.len();
        if one_is_back && until.is_some_and(|at| self.now >= at) {
            return self.enter(Step::Rolling, "the operator waits for pods that only we replace".to_owned());
        }
        let message = format!("waiting for the operator to change DaemonSet {}/{}", set.namespace, set.name);
        let (reason, detail) = (WaitReason::OperatorPropagating, message.clone());
        let until =
            until.filter(|_| one_is_back).into_iter().chain(self.late_at()).filter(|at| *at > self.now);
        Next::Wait(Wait { reason, message, detail, until: until.min() })
    }

    /// Strategies back, then everything has to run. Where nodes were left out with old pods, the strategy stays
    /// OnDelete: otherwise the DaemonSet controller would replace those pods at once, on nodes that were to be
    /// left alone.
    pub(super) fn restoring(&self) -> Next {
        let rolling = self.rolling_status();
        let scope = self.scope_with_unfinished();
        let index = self.index(&scope, &rolling);
        let abandoned = self.giving_up().is_some_and(|g| g.abandon);
        if !abandoned && self.free(&index, &rolling).next().is_some() {
            // Locks that have been taken off already are put on again: that is nobody's interference.
            let draft = self.draft().with(|s| s.rolling.get_or_insert_default().locked_since = None);
            let message = "a node that was left out can be done now";
            return Next::Do(Decision::Record(draft.step(Step::Rolling, 0, message)));
        }
        let left_out = index.left_out().count();
        let mut refused = None;
        for locked in &rolling.locked {
            let Some(set) = self.seen.fleet.locked(locked).filter(|s| s.lock.is_some()) else { continue };
            let was_on_delete = locked.strategy.get("type").and_then(Value::as_str) == Some("OnDelete");
            if index.is_left_behind(&set.uid) && !was_on_delete && !abandoned {
                continue;
            }
            if let Some(refusal) = self.seen.fleet.refusals.get(&set.uid) {
                refused = Some(refusal.clone());
                continue;
            }
            return Next::Do(Decision::ActAll(vec![Action::SetStrategy {
                namespace: set.namespace.clone(),
                name: set.name.clone(),
                uid: set.uid.clone(),
                resource_version: set.resource_version.clone(),
                strategy: locked.strategy.clone(),
                remember: None,
            }]));
        }
        if let Some(refusal) = refused {
            return Wait::next(WaitReason::CallRefused, refusal);
        }
        if let Some(giving_up) = self.giving_up() {
            let untouched = if self.status.goal == Goal::Previous { "; the old version runs" } else { "" };
            let message = format!("{}{untouched}", giving_up.message);
            let end = End { phase: Phase::Failed, reason: &giving_up.reason, message };
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
        let name = &self.record.spec.gr;
        let kept = match left_out {
            0 => String::new(),
            n => format!(
                "; {n} nodes were left out and have old pods: the DaemonSets stay at OnDelete until an upgrade has done them all"
            ),
        };
        let (phase, reason, message) = match self.status.goal {
            Goal::Target => (Phase::Succeeded, "Succeeded", format!("gr {name} runs the target{kept}")),
            Goal::Previous => {
                (Phase::RolledBack, "RolledBack", format!("gr {name} is back at the previous version{kept}"))
            }
        };
        Next::Do(self.end(phase, reason, message))
    }
}

fn spec_of(manifest: &Value) -> &Value {
    manifest.get("spec").unwrap_or(&Value::Null)
}
