//! Why no further node is taken: failures, interference, pauses, steps.

use jiff::Timestamp;

use super::RELOCK_LIMIT;
use super::Rollout;
use super::breaker::Alike;
use super::index::Index;
use super::lock::INSISTS;
use super::trouble::{first_trouble, is};
use crate::plan::Decision;
use crate::plan::hold::{Kept, kept_by_pods};
use crate::plan::standstill::PAUSED;
use crate::plan::status::after;
use crate::record::rolling::{RollingStatus, TroubleKind};
use crate::record::size::{Room, stored};
use crate::record::{Intent, Phase, Reason, WaitReason};

/// Nodes that were given up are named until they take up more of the record than this: the nodes in work need the rest.
const SKIPPED: usize = 64 * 1024;

/// What the failed and late nodes come to.
pub(super) struct Failures {
    /// No further node is taken.
    pub(super) holds: bool,
    /// So many visibly cannot work that the threshold is reached.
    pub(super) rolls_back: bool,
    /// Those that fail in the same way, where these are too many.
    pub(super) alike: Option<Alike>,
}

/// Why no further node may be taken, and how that is shown.
pub(super) struct Stop {
    pub(super) phase: Phase,
    pub(super) reason: Reason,
    pub(super) message: String,
    /// When to look again though nothing has changed.
    pub(super) until: Option<Timestamp>,
}

impl Stop {
    pub(super) fn new(phase: Phase, reason: Reason, message: String) -> Self {
        Self { phase, reason, message, until: None }
    }

    /// Until its time has come.
    pub(super) fn until(at: Timestamp, message: String) -> Self {
        Self { until: Some(at), ..Self::new(Phase::Running, Reason::PauseBetween, message) }
    }
}

impl Rollout<'_> {
    /// How many nodes have failed, and what that comes to.
    pub(super) fn failures(&self, index: &Index<'_>, rolling: &RollingStatus, room: &Room) -> Failures {
        let total = usize::try_from(rolling.nodes.total).unwrap_or(usize::MAX);
        let threshold = self.options().failure_threshold.of(total);
        let failed = rolling.active.iter().filter(|c| is(c, TroubleKind::Failed)).count();
        let late = rolling.active.iter().filter(|c| is(c, TroubleKind::Late)).count();
        let troubled = failed.saturating_add(late);
        let full = rolling.active.len() >= usize::try_from(rolling.max_unavailable).unwrap_or_default();
        let nothing_else = troubled > 0
            && troubled == rolling.active.len()
            && (full || self.free(index, rolling).next().is_none() || !room.is_left());
        // Slowness alone never rolls back.
        let alike = self.alike(rolling);
        let visibly = alike.as_ref().is_some_and(|alike| alike.kind == TroubleKind::Failed);
        Failures {
            holds: troubled >= threshold || nothing_else || alike.is_some(),
            rolls_back: failed >= threshold || visibly,
            alike,
        }
    }

    /// A DaemonSet of which its controller counts more pods than are seen: nothing is known to be done then.
    pub(super) fn unseen(&self, index: &Index<'_>) -> Option<String> {
        let settled = index.sets.iter().enumerate().filter(|(set, _)| !index.sets.is_unsettled(*set));
        settled.filter_map(|(_, (_, state))| *state).find_map(|set| {
            match kept_by_pods(set, self.seen.fleet.pods.of(&set.uid))? {
                Kept::Outdated(_) => None,
                kept => Some(format!("DaemonSet {}/{}: {}", set.namespace, set.name, kept.describe())),
            }
        })
    }

    pub(super) fn wait_for_pods(&self, message: &str, rolling: RollingStatus) -> Decision {
        let changed = Some(&rolling) != self.status.rolling.as_ref();
        let draft = self.draft().with(|s| s.rolling = Some(rolling));
        if changed {
            return Decision::Record(draft.quietly());
        }
        let since = self.status.waiting_on.as_ref().filter(|w| w.reason == WaitReason::ComponentStarting);
        let deadline = after(since.map_or(self.now, |w| w.since), self.record.spec.deadlines.running_seconds);
        let late = self.now >= deadline;
        if late && self.status.phase != Phase::Held {
            return Decision::Record(draft.hold(Reason::DeadlineExceeded, message));
        }
        let status = draft.waiting(WaitReason::ComponentStarting, message);
        Decision::Wait { status, until: (!late).then_some(deadline) }
    }

    /// Why no further node is taken now, if so.
    pub(super) fn stop(
        &self,
        index: &Index<'_>,
        rolling: &mut RollingStatus,
        failures: &Failures,
        canaries: Option<usize>,
    ) -> Option<Stop> {
        let held = |reason, message| Some(Stop::new(Phase::Held, reason, message));
        if let Some(alike) = &failures.alike {
            return held(Reason::SameCause, alike.in_words(index));
        }
        if failures.holds {
            let failed = rolling.active.iter().any(|c| is(c, TroubleKind::Failed));
            let reason = if failed { Reason::NodesFailed } else { Reason::DeadlineExceeded };
            return held(reason, first_trouble(rolling));
        }
        if rolling.relocks >= RELOCK_LIMIT {
            return held(Reason::StrategyNotKept, INSISTS.to_owned());
        }
        if stored(&rolling.skipped) > SKIPPED {
            let message = format!(
                "{} nodes could not be drained in time, more than the record can name: retry tries them \
                 again, close ends the upgrade here",
                rolling.skipped.len()
            );
            return held(Reason::TooManySkipped, message);
        }
        let over = rolling.active.len() > usize::try_from(rolling.max_unavailable).unwrap_or(usize::MAX);
        if rolling.uncommanded > 1 || (rolling.uncommanded > 0 && over) {
            let message = "the operator put back its update strategy, and pods were replaced on nodes \
                           that nobody had claimed; retry to go on";
            return held(Reason::UncommandedRollout, message.to_owned());
        }
        if self.record.spec.intent == Intent::Pause {
            if rolling.active.is_empty() {
                rolling.gated_since.get_or_insert(self.now);
            }
            return Some(Stop::new(Phase::Paused, Reason::Paused, PAUSED.to_owned()));
        }
        self.stop_for_promotion(index, rolling, canaries)
    }
}
