//! The gates between the steps of a rollout: canary, `manual`, `pauseBetween`.

use jiff::Timestamp;

use super::Rollout;
use super::canary::{Canaries, Soak};
use super::index::Index;
use super::stop::Stop;
use crate::plan::standstill::awaiting_promotion;
use crate::plan::status::after;
use crate::record::Phase;
use crate::record::Reason;
use crate::record::rolling::{Promote, RollingStatus};

impl Rollout<'_> {
    /// Between steps: waits for `promote`, or for time to pass, then opens the next.
    pub(super) fn stop_for_promotion(
        &self,
        index: &Index<'_>,
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
        let canary = options.canary.as_ref().filter(|_| rolling.step == 0);
        let is_promoted = self.record.spec.granted > rolling.step;
        let soaks = canary.filter(|canary| canary.promote == Promote::AfterSoak && !options.manual);
        if let Some(canary) = soaks.filter(|_| !is_promoted) {
            match self.soaked(index, canary, ended, rolling) {
                Soak::Until(at) => return Some(soaking(at)),
                Soak::Refused(why) => return Some(awaits(true, rolling, &why)),
                Soak::Over => {}
            }
        } else if (canary.is_some() || options.manual) && !is_promoted {
            let untried =
                canary.and_then(|canary| self.not_tried(index, canary, rolling)).unwrap_or_default();
            return Some(awaits(canary.is_some(), rolling, &untried));
        }
        let next_at = after(ended, options.pause_between_seconds);
        if self.now < next_at {
            return Some(Stop::until(next_at, format!("the next step begins at {next_at}")));
        }
        rolling.step = rolling.step.saturating_add(1);
        rolling.step_ended_at = None;
        rolling.step_left = self.step_size(rolling);
        rolling.step_done = 0;
        rolling.canaries.clear();
        None
    }

    /// How many nodes the step under way may take, if it is not the canary; `None`: all.
    pub(super) fn step_size(&self, rolling: &RollingStatus) -> Option<u32> {
        let options = self.options();
        if let Some(size) = options.batch(rolling.step) {
            let total = usize::try_from(rolling.nodes.total).unwrap_or(usize::MAX);
            return Some(u32::try_from(size.of(total)).unwrap_or(u32::MAX));
        }
        let steps = options.manual || options.pause_between_seconds > 0;
        steps.then_some(rolling.max_unavailable)
    }

    /// How many nodes of a canary of certain nodes are still to be taken; `None` when it is not these that come first.
    pub(super) fn canaries(&self, index: &Index<'_>, rolling: &RollingStatus) -> Option<usize> {
        let first = self.canaries_first(rolling)?;
        Some(self.free(index, rolling).filter(|node| first.has(node)).count())
    }

    /// The nodes that come first, while these are certain ones.
    pub(super) fn canaries_first<'r>(&'r self, rolling: &'r RollingStatus) -> Option<Canaries<'r>> {
        let canary = self.options().canary.as_ref()?;
        let under_way = rolling.step == 0 && rolling.step_left.is_some();
        Canaries::of(canary, rolling).filter(|_| under_way)
    }
}

fn awaits(canary: bool, rolling: &RollingStatus, why: &str) -> Stop {
    let mut message = awaiting_promotion(canary, rolling.step_done > 0).to_owned();
    if !why.is_empty() {
        message = format!("{message}; {why}");
    }
    Stop::new(Phase::Paused, Reason::AwaitingPromotion, message)
}

fn soaking(until: Timestamp) -> Stop {
    Stop::until(
        until,
        format!("the canary nodes are done and soak: the next step begins at {until}, or by promote"),
    )
}
