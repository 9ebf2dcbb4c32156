//! No node is taken outside of its maintenance window; nodes whose pods are being replaced always finish.

use jiff::Timestamp;

use super::Rollout;
use super::index::Index;
use super::stop::Stop;
use crate::plan::Decision;
use crate::plan::fleet::NodeState;
use crate::plan::maintenance::{Verdict, Windows, windows};
use crate::plan::news::{WINDOWS_NOT_MINDED, WINDOWS_OVERRIDDEN};
use crate::record::rolling::{Claim, ClaimState, RollingStatus};
use crate::record::{GcuUpgrade, Phase, Reason};

/// What the windows say to the nodes that would be taken next.
#[derive(Default)]
pub(super) struct Mind {
    /// Why none of them may be.
    pub(super) stop: Option<Stop>,
    /// A window has closed or opened, which is told once.
    pub(super) news: Option<String>,
    /// When to look again though nothing has changed.
    pub(super) until: Option<Timestamp>,
}

impl Rollout<'_> {
    /// Leaves the nodes that may be taken now.
    pub(super) fn mind_windows(&self, left: &mut Vec<&NodeState>, rolling: &mut RollingStatus) -> Mind {
        let Some(windows) = windows(self.record, self.now) else {
            let was_closed = rolling.window_closed_since.take().is_some();
            let reason = self.record.spec.override_window.as_ref();
            let news = || {
                reason.map_or_else(
                    || WINDOWS_NOT_MINDED.to_owned(),
                    |reason| format!("{WINDOWS_OVERRIDDEN}{reason}"),
                )
            };
            return Mind { news: was_closed.then(news), ..Mind::default() };
        };
        let mut closed: Option<Verdict> = None;
        let mut open: Option<Verdict> = None;
        left.retain(|node| {
            let verdict = windows.of_node(&node.labels);
            let takes = matches!(verdict, Verdict::Open { .. });
            let known = if takes { &mut open } else { &mut closed };
            *known = Some(known.map_or(verdict, |known| sooner(known, verdict)));
            takes
        });
        let until = closed.and_then(Verdict::opens);
        match (open, closed) {
            (Some(open), _) => {
                let was_closed = rolling.window_closed_since.take().is_some();
                Mind { stop: None, news: was_closed.then(|| windows.in_words(open)), until }
            }
            (None, Some(closed)) => self.closed(&windows, closed, rolling, until),
            (None, None) => Mind::default(),
        }
    }

    fn closed(
        &self,
        windows: &Windows,
        verdict: Verdict,
        rolling: &mut RollingStatus,
        until: Option<Timestamp>,
    ) -> Mind {
        let message = windows.in_words(verdict);
        let is_news = rolling.window_closed_since.is_none();
        rolling.window_closed_since.get_or_insert(self.now);
        let news = is_news.then(|| message.clone());
        // Nodes in work go on, and are what is waited for.
        if !rolling.active.is_empty() {
            return Mind { stop: None, news, until };
        }
        rolling.gated_since.get_or_insert(self.now);
        let reason = match verdict {
            Verdict::WouldOutlast { .. } => Reason::WouldOutlastWindow,
            Verdict::Open { .. } | Verdict::Outside { .. } => Reason::OutsideWindow,
        };
        Mind { stop: Some(Stop::new(Phase::Running, reason, message)), news, until }
    }

    /// Tells that a window has closed or opened.
    pub(super) fn tell_of_window(
        &self,
        index: &Index<'_>,
        mut rolling: RollingStatus,
        news: &str,
    ) -> Decision {
        self.count(index, &mut rolling);
        let draft = self.draft().with(|s| s.rolling = Some(rolling));
        Decision::Record(draft.noted(news))
    }

    /// When a node in work is given back, if that is asked for and it is not being replaced by then.
    pub(super) fn window_of(&self, claim: &Claim, index: &Index<'_>) -> Option<Timestamp> {
        returns(self.record, claim, index.fleet.node(&claim.node)?, self.now)
    }

    /// When the first of the nodes in work is given back, if that is asked for.
    pub(super) fn window_ends(&self, index: &Index<'_>, rolling: &RollingStatus) -> Option<Timestamp> {
        let windows = windows(self.record, self.now)?;
        let emptying = rolling.active.iter().filter(|c| c.state == ClaimState::Emptying);
        let nodes = emptying.filter_map(|c| index.fleet.node(&c.node));
        nodes.filter_map(|n| windows.returns(&n.labels)).filter(|at| *at > self.now).min()
    }
}

/// Whether this claim is given back because its node's window has ended.
pub(super) fn is_returned(record: &GcuUpgrade, claim: &Claim, node: &NodeState, now: Timestamp) -> bool {
    returns(record, claim, node, now).is_some_and(|at| at <= now)
}

fn returns(record: &GcuUpgrade, claim: &Claim, node: &NodeState, now: Timestamp) -> Option<Timestamp> {
    let windows = windows(record, now).filter(|_| claim.state == ClaimState::Emptying)?;
    windows.returns(&node.labels)
}

/// Of two nodes that may not be taken the one whose window opens first; of two that may, the one whose ends last.
fn sooner(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::Open { until }, Verdict::Open { until: further }) => {
            Verdict::Open { until: until.max(further) }
        }
        _ => match (one.opens(), other.opens()) {
            (Some(at), Some(before)) if before < at => other,
            (None, Some(_)) => other,
            _ => one,
        },
    }
}
