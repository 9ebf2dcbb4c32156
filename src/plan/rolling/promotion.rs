//! The gates between the steps of a rollout: canary, `manual`, `pauseBetween`.

use super::Rollout;
use super::index::Index;
use super::stop::Stop;
use crate::plan::standstill::awaiting_promotion;
use crate::plan::status::after;
use crate::record::Phase;
use crate::record::Reason;
use crate::record::rolling::{Labels, RollingStatus};

impl Rollout<'_> {
    /// Between steps: waits for `promote`, or for time to pass, then opens the next.
    pub(super) fn stop_for_promotion(
        &self,
        rolling: &mut RollingStatus,
        canaries: Option<usize>,
    ) -> Option<Stop> {
        let options = self.options();
        let through = rolling.step_left == Some(0) || canaries == Some(0);
        if !through || !rolling.active.is_empty() {
            return None;
        }
        let ended = *rolling.step_ended_at.get_or_insert(self.now);
        rolling.gated_since.get_or_insert(ended);
        let canary = rolling.step == 0 && options.canary.is_some();
        if (canary || options.manual) && self.record.spec.granted <= rolling.step {
            let message = awaiting_promotion(canary, rolling.step_done > 0).to_owned();
            return Some(Stop { phase: Phase::Paused, reason: Reason::AwaitingPromotion, message });
        }
        let next_at = after(ended, options.pause_between_seconds);
        if self.now < next_at {
            return Some(Stop {
                phase: Phase::Running,
                reason: Reason::PauseBetween,
                message: format!("the next step begins at {next_at}"),
            });
        }
        rolling.step = rolling.step.saturating_add(1);
        rolling.step_ended_at = None;
        rolling.step_left = self.step_size(rolling);
        rolling.step_done = 0;
        None
    }

    /// How many nodes a step after the canary may take; `None`: all.
    pub(super) fn step_size(&self, rolling: &RollingStatus) -> Option<u32> {
        let options = self.options();
        let steps = options.manual || options.pause_between_seconds > 0;
        steps.then_some(rolling.max_unavailable)
    }

    /// How many labelled canary nodes are still to be taken; `None` when it is not these that come first.
    pub(super) fn canaries(&self, index: &Index<'_>, rolling: &RollingStatus) -> Option<usize> {
        let selector = self.canary_selector(rolling)?;
        Some(self.free(index, rolling).filter(|n| n.labels.match_all(&selector)).count())
    }

    pub(super) fn canary_selector(&self, rolling: &RollingStatus) -> Option<Labels> {
        let canary = self.options().canary.as_ref().filter(|c| !c.node_selector.is_empty())?;
        (rolling.step == 0 && rolling.step_left.is_some()).then(|| canary.node_selector.clone())
    }
}
