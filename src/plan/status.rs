//! How a status moves: steps, waits, holds and ends, each with its timeline entry and conditions.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::standstill::held;
use crate::record::size::{CAUSE, MESSAGE, bound, shortened};
use crate::record::{
    Condition, GcuUpgrade, GcuUpgradeSpec, GcuUpgradeStatus, Goal, Phase, Reason, Step, TimelineEntry,
    WaitReason, WaitingOn,
};

/// How an upgrade ends.
pub(super) struct End {
    pub(super) phase: Phase,
    /// A word for programs.
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// A status under construction: every change goes through here, so that none forgets its conditions.
pub(super) struct Draft<'a> {
    spec: &'a GcuUpgradeSpec,
    status: GcuUpgradeStatus,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    pub(super) fn of(record: &'a GcuUpgrade, now: Timestamp) -> Self {
        let mut status = record.status_or_default();
        status.observed_generation = record.metadata.generation.unwrap_or_default();
        Self { spec: &record.spec, status, now }
    }

    /// Lets the caller set the fields that a step explains.
    pub(super) fn with(mut self, change: impl FnOnce(&mut GcuUpgradeStatus)) -> Self {
        change(&mut self.status);
        self
    }

    /// Turns towards the previous version, and remembers why.
    pub(super) fn back_because(self, cause: &str) -> Self {
        let cause = shortened(cause, CAUSE);
        self.with(|s| {
            s.goal = Goal::Previous;
            s.cause = Some(cause);
        })
    }

    /// Enters a step with a fresh deadline.
    pub(super) fn step(
        mut self,
        step: Step,
        seconds: u32,
        message: impl Into<String>,
    ) -> Box<GcuUpgradeStatus> {
        let message = message.into();
        self.status.phase = Phase::Running;
        self.status.step = step;
        self.status.step_since = Some(self.now);
        // A step without a time of its own has no deadline: its nodes have theirs.
        self.status.deadline = (seconds > 0).then(|| after(self.now, seconds));
        self.status.started_at.get_or_insert(self.now);
        self.status.waiting_on = None;
        self.note(&message);
        self.condition("Progressing", "True", format!("{step:?}"), &message);
        self.condition("Held", "False", "Running", "");
        self.condition("Finished", "False", "Running", "");
        self.condition("Succeeded", "Unknown", "Running", "");
        self.done()
    }

    /// Goes on with the same step and a fresh deadline.
    pub(super) fn retry(mut self, attempt: u32, seconds: u32) -> Box<GcuUpgradeStatus> {
        self.status.attempt = attempt;
        let step = self.status.step;
        self.step(step, seconds, format!("retrying {step:?} (attempt {attempt})"))
    }

    /// The deadline has passed, or a component visibly cannot start.
    pub(super) fn hold(mut self, reason: Reason, message: &str) -> Box<GcuUpgradeStatus> {
        self.status.phase = Phase::Held;
        self.note(&held(message));
        self.condition("Progressing", "False", reason, message);
        self.condition("Held", "True", reason, message);
        self.done()
    }

    /// A person, or a step that a person lets begin, is waited for.
    pub(super) fn pause(mut self, reason: Reason, message: &str) -> Box<GcuUpgradeStatus> {
        self.status.phase = Phase::Paused;
        self.note(message);
        self.condition("Progressing", "False", reason, message);
        self.condition("Held", "False", reason, "");
        self.done()
    }

    /// Goes on in the same step after a pause or a hold.
    pub(super) fn go_on(mut self, message: &str) -> Box<GcuUpgradeStatus> {
        self.status.phase = Phase::Running;
        self.note(message);
        let step = format!("{:?}", self.status.step);
        self.condition("Progressing", "True", step, message);
        self.condition("Held", "False", "Running", "");
        self.done()
    }

    /// The same step and phase, with something to tell.
    pub(super) fn noted(mut self, message: &str) -> Box<GcuUpgradeStatus> {
        self.note(message);
        self.done()
    }

    /// The same step and phase, with what changed in it and nothing to tell.
    pub(super) fn quietly(self) -> Box<GcuUpgradeStatus> {
        self.done()
    }

    /// Says what is waited for. `since` survives a change of wording.
    pub(super) fn waiting(mut self, reason: WaitReason, message: &str) -> Box<GcuUpgradeStatus> {
        let message = shortened(message, MESSAGE);
        let since = self.status.waiting_on.as_ref().filter(|w| w.reason == reason).map(|w| w.since);
        self.status.message = message.clone();
        self.status.waiting_on = Some(WaitingOn { reason, message, since: since.unwrap_or(self.now) });
        self.done()
    }

    /// Says, where it is so, that the operator does not report what the cluster shows.
    pub(super) fn operator_agrees(mut self, doubt: Option<String>) -> Self {
        if let Some(doubt) = doubt {
            self.condition("OperatorReady", "False", "OperatorDoesNotReportRunning", &doubt);
        }
        self
    }

    pub(super) fn end(mut self, end: End) -> Box<GcuUpgradeStatus> {
        let succeeded = if end.phase == Phase::Succeeded { "True" } else { "False" };
        self.status.phase = end.phase;
        self.status.step = Step::Done;
        self.status.step_since = Some(self.now);
        self.status.deadline = None;
        self.status.waiting_on = None;
        self.status.started_at.get_or_insert(self.now);
        self.status.finished_at = Some(self.now);
        // What was given up and put back is not done.
        if end.phase == Phase::Failed && self.status.goal == Goal::Previous {
            self.status.rolling.iter_mut().for_each(|rolling| rolling.nodes.done = 0);
        }
        // The one place that says why it ended: everything that shows an end shows this message.
        let message = match (&self.status.cause, end.phase) {
            (Some(cause), Phase::RolledBack) => format!("{cause}; {}", end.message),
            (Some(cause), Phase::Failed) => format!("{}; it was being rolled back: {cause}", end.message),
            _ => end.message,
        };
        self.note(&message);
        self.condition("Progressing", "False", end.reason, &message);
        self.condition("Held", "False", end.reason, "");
        self.condition("Finished", "True", end.reason, &message);
        self.condition("Succeeded", succeeded, end.reason, &message);
        self.done()
    }

    fn done(mut self) -> Box<GcuUpgradeStatus> {
        // A refusal can be as long as the manifest, and the record must stay writable.
        bound(&mut self.status, self.spec);
        let counted = self.status.rolling.as_ref().filter(|r| r.max_unavailable > 0);
        self.status.nodes_done = counted.map(|r| format!("{}/{}", r.nodes.done, r.nodes.total));
        Box::new(self.status)
    }

    fn note(&mut self, message: &str) {
        let message = shortened(message, MESSAGE);
        self.status.message = message.clone();
        let entry = TimelineEntry { at: self.now, step: self.status.step, message };
        self.status.timeline.push(entry);
    }

    fn condition(&mut self, type_: &str, status: &str, reason: impl fmt::Display, message: &str) {
        let conditions = &mut self.status.conditions;
        let unchanged_since = conditions
            .iter()
            .find(|c| c.type_ == type_ && c.status == status)
            .map(|c| c.last_transition_time);
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_string(),
            message: shortened(message, MESSAGE),
            last_transition_time: unchanged_since.unwrap_or(self.now),
        };
        match conditions.iter_mut().find(|c| c.type_ == type_) {
            Some(existing) => *existing = condition,
            None => conditions.push(condition),
        }
    }
}

/// Adds seconds, stopping at the end of time instead of failing.
pub(super) fn after(now: Timestamp, seconds: u32) -> Timestamp {
    now.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}

/// "the target" or "the previous version", for messages.
pub(super) fn goal_name(goal: Goal) -> &'static str {
    match goal {
        Goal::Target => "the target",
        Goal::Previous => "the previous version",
    }
}
