//! One turn of a decision: the record, the look at the cluster, and what every strategy does alike with a step
//! that calls, waits, holds or ends.

use std::borrow::Cow;
use std::cell::RefCell;

use jiff::Timestamp;
use kube::Resource;

use super::memo::Memo;
use super::status::{Draft, End, after};
use super::{Decision, GrAction, GuardAction, Snapshot};
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Goal, Phase, Reason, Step, WaitReason};

/// What a step wants, before deadlines and refusals are taken into account.
pub(super) enum Next {
    Do(Decision),
    Call(GrAction),
    Guard(GuardAction),
    Wait(Wait),
}

pub(super) struct Wait {
    pub(super) reason: WaitReason,
    /// Free of counts and names that change by the second: each new wording is a write.
    pub(super) message: String,
    /// The full story, for a hold.
    pub(super) detail: String,
    /// When to look again though nothing has changed.
    pub(super) until: Option<Timestamp>,
}

impl Wait {
    pub(super) fn next(reason: WaitReason, message: impl Into<String>) -> Next {
        let message = message.into();
        Next::Wait(Self { reason, detail: message.clone(), message, until: None })
    }
}

pub(super) struct StepContext<'a> {
    pub(super) record: &'a GcuUpgrade,
    pub(super) status: Cow<'a, GcuUpgradeStatus>,
    pub(super) seen: &'a Snapshot,
    pub(super) now: Timestamp,
    pub(super) memo: RefCell<&'a mut Memo>,
}

impl<'a> StepContext<'a> {
    pub(super) fn new(
        record: &'a GcuUpgrade,
        seen: &'a Snapshot,
        now: Timestamp,
        memo: &'a mut Memo,
    ) -> Self {
        memo.is_about(record);
        let status = record.known_status();
        Self { record, status, seen, now, memo: RefCell::new(memo) }
    }
}

impl StepContext<'_> {
    pub(super) fn end(&self, phase: Phase, reason: Reason, message: String) -> Decision {
        Decision::Record(self.draft().end(End { phase, reason, message }))
    }

    /// How it ends when the goal is reached.
    pub(super) fn at_the_goal(&self) -> (Phase, Reason, String) {
        let name = &self.record.spec.gr;
        match self.status.goal {
            Goal::Target => {
                (Phase::Succeeded, Reason::Succeeded, format!("gr {name} is now at the target version"))
            }
            Goal::Previous => {
                (Phase::RolledBack, Reason::RolledBack, format!("gr {name} is back at the previous version"))
            }
        }
    }

    /// Ends at the goal, and says so where the operator does not.
    pub(super) fn well_ended(&self, phase: Phase, reason: Reason, mut message: String) -> Decision {
        let doubt = self.seen.gr.as_ref().filter(|gr| !gr.operator_says_running());
        let doubt = doubt.map(|gr| format!("gcu-operator still reports phase `{}`", gr.phase()));
        if let Some(doubt) = &doubt {
            message = format!("{message}; every workload is rolled out, {doubt}");
        }
        let draft = self.draft().operator_agrees(doubt);
        Decision::Record(draft.end(End { phase, reason, message }))
    }

    pub(super) fn enter(&self, step: Step, message: String) -> Next {
        Next::Do(Decision::Record(self.draft().step(step, self.seconds_for(step), message)))
    }

    /// Takes deadlines and refusals into account.
    pub(super) fn carry_out(&self, next: Next) -> Decision {
        match next {
            Next::Do(decision) => decision,
            Next::Call(action) => self.call(Decision::Act(action)),
            Next::Guard(action) => self.call(Decision::Guard(action)),
            Next::Wait(wait) => self.wait(wait),
        }
    }

    /// Makes the call, unless the API server has just refused it.
    fn call(&self, call: Decision) -> Decision {
        match &self.seen.refused {
            None => call,
            Some(refusal) => self.wait(Wait {
                reason: WaitReason::CallRefused,
                message: refusal.clone(),
                detail: format!("the API server refuses: {refusal}"),
                until: None,
            }),
        }
    }

    /// Waits until the deadline, then holds; a hold whose cause has gone before the deadline ends.
    pub(super) fn wait(&self, wait: Wait) -> Decision {
        let held = self.status.phase == Phase::Held;
        let late = self.status.deadline.is_none_or(|d| self.now >= d);
        if late && !held {
            return Decision::Record(self.draft().hold(Reason::DeadlineExceeded, &wait.detail));
        }
        if held && !late && wait.reason != WaitReason::PodFailing {
            let left = self.status.deadline.map(|d| d.duration_since(self.now).as_secs()).unwrap_or_default();
            let seconds = u32::try_from(left).unwrap_or_default().max(1);
            let message = format!("the obstacle is gone, going on: {}", wait.message);
            return Decision::Record(self.draft().step(self.status.step, seconds, message));
        }
        let until = if held { None } else { self.status.deadline };
        let settles = (wait.reason == WaitReason::PodFailing && !held).then(|| self.settles_at());
        let status = self.draft().waiting(wait.reason, &wait.message);
        Decision::Wait { status, until: until.into_iter().chain(settles).chain(wait.until).min() }
    }

    pub(super) fn is_late(&self) -> bool {
        self.late_at().is_none_or(|at| self.now >= at)
    }

    /// When the operator has had its time, since the step began and since the API server was last away.
    pub(super) fn late_at(&self) -> Option<Timestamp> {
        let again = self.seen.undisturbed_since.map(|at| after(at, self.seconds_for(self.status.step)));
        self.status.deadline.map(|d| again.map_or(d, |again| d.max(again)))
    }

    /// A step without a deadline is late when one of its nodes is, and without any when a node would be that was taken
    /// when the cluster could not be read any more; before the first step, it counts from the record's creation.
    pub(super) fn cannot_look(&self, why: &str) -> Decision {
        let nodes = self.status.rolling.iter().flat_map(|r| &r.active).map(|c| c.deadline);
        let created =
            self.record.meta().creation_timestamp.as_ref().filter(|_| self.status.step == Step::Recorded);
        let first = created.map(|at| after(at.0, self.seconds_for(Step::Recorded)));
        let unread = self.status.waiting_on.as_ref().filter(|w| w.reason == WaitReason::CallRefused);
        let unread = unread.map(|w| after(w.since, self.record.spec.deadlines.node_seconds));
        let late = self.status.deadline.or(nodes.min()).or(first).or(unread).is_some_and(|d| self.now >= d);
        if late && self.status.phase != Phase::Held {
            let message = format!("the cluster cannot be read: {why}");
            return Decision::Record(self.draft().hold(Reason::DeadlineExceeded, &message));
        }
        let status = self.draft().waiting(WaitReason::CallRefused, why);
        Decision::Wait { status, until: None }
    }

    pub(super) fn draft(&self) -> Draft<'_> {
        Draft::of(self.record, self.now)
    }

    pub(super) fn seconds_for(&self, step: Step) -> u32 {
        let deadlines = &self.record.spec.deadlines;
        match step {
            Step::Recorded | Step::Deleting | Step::WaitingGone | Step::Done => deadlines.gone_seconds,
            Step::Creating | Step::Locking | Step::Patching => deadlines.create_seconds,
            Step::Probing | Step::Propagating => deadlines.propagate_seconds,
            // Its nodes have deadlines of their own.
            Step::Rolling => 0,
            Step::WaitingRunning | Step::Restoring => deadlines.running_seconds,
        }
    }
}
