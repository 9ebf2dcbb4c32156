//! RollingUpdate: the gr is changed in place, its DaemonSets are held at OnDelete, and pods are replaced node by
//! node.
//!
//! ```text
//! Recorded ─► Locking ─► Probing ─► Patching ─► Propagating ─► Rolling ─► Restoring ─► Done
//!                 │          │         ▲             │            │            ▲
//!                 └──────────┴─────────┴── turned back, or given up: the old spec again, the same way
//! ```
//!
//! * **Locking** puts `OnDelete` and an annotation with the strategy before it on every DaemonSet that changes, in
//!   one patch each, and sees that it stays. An operator that insists is found out here.
//! * **Probing** changes the environment of one harmless component. Under `OnDelete` that restarts nothing if the
//!   operator changes its DaemonSets in place. One that makes them anew, or that ignores changes, is found out
//!   before any node is touched.
//! * **Propagating** ends when the operator has put the change into its DaemonSets.
//! * **Rolling** works on nodes in a sliding window: see [`window`] for which, [`node`] for what happens to each.
//!   The claims in the record's status are the budget; a claim names the very pods that it will delete.
//! * **Restoring** gives the DaemonSets their strategies back and waits until everything runs.
//!
//! What is done to a node is guarded by the version of the node that was looked at, and every pod is deleted by
//! its UID: a stale view makes calls fail, never hit something else.

pub mod breaker;
pub mod canary;
mod claims;
mod emptying;
mod gang;
pub mod index;
mod lock;
mod maintenance;
pub mod node;
mod promotion;
pub mod sets;
pub mod standing;
mod steps;
mod stop;
mod trouble;
mod unrendered;
mod unreverted;
pub mod window;

use std::ops::Deref;
use std::sync::Arc;

use jiff::SignedDuration;
use kube::Resource;
use serde_json::Value;

use super::Decision;
use super::impact::{self, Change, ScopedSet};
use super::news::{giving_up, rolling_back};
use super::status::End;
use super::step_context::{Next, StepContext};
use crate::gr;
use crate::record::rolling::{GivingUp, LockedSet, RollingStatus};
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Goal, Intent, Phase, Reason, Step};

/// How long the DaemonSets have to be seen at OnDelete before that is believed to last: 3 s, and the rest of the second
/// in which they were first seen.
const LOCK_SETTLES: SignedDuration = SignedDuration::from_secs(4);
/// So often a strategy that somebody puts back is put aside again.
const RELOCK_LIMIT: u32 = 3;

/// One decision about a RollingUpdate.
struct Rollout<'a> {
    context: StepContext<'a>,
}

/// What every strategy does alike.
impl<'a> Deref for Rollout<'a> {
    type Target = StepContext<'a>;

    fn deref(&self) -> &Self::Target {
        &self.context
    }
}

pub(super) fn decide(context: StepContext<'_>) -> Decision {
    Rollout { context }.decide()
}

/// The DaemonSets whose pods the rollout of this record replaces, on its present way.
pub fn scope(record: &GcuUpgrade, goal: Goal, live: Option<&gr::LiveGr>) -> Vec<ScopedSet> {
    scope_of(record, goal, live, &changes(record, goal))
}

fn scope_of(
    record: &GcuUpgrade,
    goal: Goal,
    live: Option<&gr::LiveGr>,
    changes: &[Change],
) -> Vec<ScopedSet> {
    let (_, to) = from_and_to(record, goal);
    let pins = record.status.as_ref().and_then(|s| s.rolling.as_ref()).map(|r| r.locked.as_slice());
    impact::scope(changes, to, live, pins.unwrap_or_default())
}

fn changes(record: &GcuUpgrade, goal: Goal) -> Vec<Change> {
    let (from, to) = from_and_to(record, goal);
    impact::changes(from, to)
}

fn from_and_to(record: &GcuUpgrade, goal: Goal) -> (&Value, &Value) {
    let target = &record.spec.target.manifest;
    let previous = record.spec.previous.as_ref().map_or(&Value::Null, |p| &p.manifest);
    match goal {
        Goal::Target => (previous, target),
        Goal::Previous => (target, previous),
    }
}

impl Rollout<'_> {
    fn decide(&self) -> Decision {
        if self.record.spec.intent == Intent::Close
            && let Some(decision) = self.close_rolling()
        {
            return decision;
        }
        if self.status.goal == Goal::Target && self.giving_up().is_none() {
            if self.record.meta().deletion_timestamp.is_some() {
                return self.turn_back("the record was deleted");
            }
            if self.record.spec.intent == Intent::Rollback {
                return self.turn_back("rollback was asked for");
            }
        }
        if self.status.step != Step::Recorded && self.record.spec.attempt > self.status.attempt {
            return self.retry_rolling();
        }
        let next = match self.gr_is_somebody_elses() {
            Some(why) => self.abandon(&why),
            None => match self.status.step {
                Step::Recorded => self.recorded_rolling(),
                Step::Locking => self.locking(),
                Step::Probing => self.probing(),
                Step::Patching => self.patching(),
                Step::Propagating => self.propagating(),
                Step::Rolling => return self.rolling(),
                Step::Restoring => self.restoring(),
                step => self.fail(
                    Reason::Conflict,
                    format!("the status says {step:?}, which is no step of a RollingUpdate"),
                ),
            },
        };
        self.carry_out(next)
    }

    fn rolling_status(&self) -> RollingStatus {
        self.status.rolling.clone().unwrap_or_default()
    }

    fn giving_up(&self) -> Option<&GivingUp> {
        self.status.rolling.as_ref().and_then(|r| r.giving_up.as_ref())
    }

    /// What is to be done.
    fn scope(&self) -> Vec<ScopedSet> {
        let goal = self.status.goal;
        scope_of(self.record, goal, self.seen.gr.as_ref(), &self.changes(goal))
    }

    /// How the versions differ on this way.
    fn changes(&self, goal: Goal) -> Arc<[Change]> {
        self.memo.borrow_mut().changes(goal, || changes(self.record, goal))
    }

    /// Turns towards the previous version.
    fn turn_back(&self, cause: &str) -> Decision {
        if self.status.step == Step::Recorded {
            return self.end(
                Phase::RolledBack,
                Reason::NothingTouched,
                format!("{cause}; nothing had been touched"),
            );
        }
        // What has been let go of meanwhile is held again before the gr changes.
        let draft = self.draft().back_because(cause).with(head_back);
        let why = rolling_back(cause);
        Decision::Record(draft.step(Step::Locking, self.seconds_for(Step::Locking), why))
    }

    /// The upgrade cannot go on as it is: the old spec back, the nodes too, and an end that says why.
    fn give_up(&self, reason: Reason, why: String) -> Next {
        let gives_up = GivingUp { reason, message: why.clone(), abandon: false };
        let first_steps = matches!(self.status.step, Step::Recorded | Step::Locking);
        let patched = !first_steps || self.status.rolling.as_ref().is_some_and(|r| r.gr_changed);
        let draft = self.draft().with(|s| {
            s.rolling.get_or_insert_default().giving_up = Some(gives_up);
            head_back(s);
        });
        let step = if patched { Step::Locking } else { Step::Restoring };
        Next::Do(Decision::Record(draft.step(step, self.seconds_for(step), giving_up(&why))))
    }

    /// The gr is no longer ours to change: nodes are released and strategies restored, all else is left.
    fn abandon(&self, why: &str) -> Next {
        if self.status.step == Step::Recorded {
            // Our own mark on a gr of which the record says that it has not been touched.
            let mark = self.seen.gr.as_ref().and_then(|gr| gr.mark.as_deref()).unwrap_or_default();
            let cut =
                [Goal::Target, Goal::Previous].iter().any(|goal| mark.starts_with(&self.record.mark(*goal)));
            let message = if cut {
                "the status of this record was cut after the gr had been changed: nodes in work are \
                 released; retry goes on with it"
                    .to_owned()
            } else {
                format!("{why}; nothing was touched")
            };
            return self.fail(Reason::Conflict, message);
        }
        let gives_up = GivingUp { reason: Reason::Conflict, message: why.to_owned(), abandon: true };
        let draft = self.draft().with(|s| s.rolling.get_or_insert_default().giving_up = Some(gives_up));
        Next::Do(Decision::Record(draft.step(Step::Rolling, 0, giving_up(why))))
    }

    /// A person accepts the present state: nodes are released as they are, and DaemonSets stay held while they have
    /// outdated pods. `None` when that is under way.
    fn close_rolling(&self) -> Option<Decision> {
        let message = "closed by request".to_owned();
        if self.status.step == Step::Recorded {
            return Some(self.end(
                Phase::Failed,
                Reason::Closed,
                format!("{message}; nothing had been touched"),
            ));
        }
        if self.giving_up().is_some_and(|g| g.abandon) {
            return None;
        }
        let giving_up = GivingUp { reason: Reason::Closed, message: message.clone(), abandon: true };
        let draft = self.draft().with(|s| s.rolling.get_or_insert_default().giving_up = Some(giving_up));
        Some(Decision::Record(draft.step(
            Step::Rolling,
            0,
            format!("{message}: releasing the nodes in work"),
        )))
    }

    /// What is wrong with the gr, if something is: each of these is somebody else's doing.
    fn gr_is_somebody_elses(&self) -> Option<String> {
        if self.giving_up().is_some_and(|g| g.abandon) {
            return None;
        }
        let previous = self.record.spec.previous.as_ref()?;
        let Some(gr) = &self.seen.gr else { return Some("the gr was deleted by someone else".to_owned()) };
        if gr.uid != previous.uid {
            return Some("the gr was deleted and made anew by someone else".to_owned());
        }
        if gr.deleting {
            return Some("the gr is being deleted by someone else".to_owned());
        }
        let live = gr.manifest.get("spec").unwrap_or(&Value::Null);
        let target = &self.record.spec.target.manifest;
        let is = |manifest: &Value| {
            let wanted = manifest.get("spec").unwrap_or(&Value::Null);
            let other = if manifest == target { &previous.manifest } else { target };
            live == wanted || (gr::covers(live, wanted) && gr::added(&gr.manifest, manifest, other).is_none())
        };
        let known = match (self.status.step, self.status.goal) {
            (Step::Recorded, _) => gr::same_spec(&gr.manifest, &previous.manifest),
            (Step::Locking, Goal::Target) if !self.status.rolling.as_ref().is_some_and(|r| r.gr_changed) => {
                is(&previous.manifest)
            }
            (Step::Locking | Step::Probing | Step::Patching, _) => {
                is(&previous.manifest) || is(target) || self.probe_manifest().is_some_and(|probe| is(&probe))
            }
            (_, Goal::Target) => is(target),
            (_, Goal::Previous) => is(&previous.manifest),
        };
        (!known).then(|| "the gr was edited by someone else".to_owned())
    }

    fn retry_rolling(&self) -> Decision {
        let draft = self.draft().with(|s| {
            let Some(rolling) = &mut s.rolling else { return };
            self.pin_anew(rolling);
            // What is gone is known to be gone from now on: it is looked out for, but not held against the upgrade.
            let gone = |pin: &&mut LockedSet| self.seen.fleet.set(&pin.namespace, &pin.name).is_none();
            rolling.locked.iter_mut().filter(gone).for_each(|pin| pin.uid.clear());
            // What is taken in is not held yet: that is nobody's interference.
            rolling.locked_since = None;
            rolling.skipped.clear();
            rolling.uncommanded = 0;
            rolling.relocks = 0;
            rolling.active.iter_mut().for_each(|claim| self.renew(Arc::make_mut(claim)));
        });
        Decision::Record(draft.retry(self.record.spec.attempt, self.seconds_for(self.status.step)))
    }

    /// Ends with a failure; both manifests can be had from the record.
    fn fail(&self, reason: Reason, message: String) -> Next {
        Next::Do(Decision::Record(self.draft().end(End { phase: Phase::Failed, reason, message })))
    }
}

/// The way back knows no steps: canary, `manual` and `pauseBetween` are for what is new.
fn head_back(status: &mut GcuUpgradeStatus) {
    status.goal = Goal::Previous;
    if let Some(rolling) = &mut status.rolling {
        rolling.gr_changed |= status.step != Step::Locking;
        rolling.step_left = None;
        rolling.step_ended_at = None;
        rolling.canaries.clear();
        rolling.locked_since = None;
    }
}
