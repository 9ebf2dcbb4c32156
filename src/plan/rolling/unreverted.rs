//! On the way back: DaemonSets that the operator has not put back yet.
//!
//! An operator changes its DaemonSets one after the other, each when the one before runs. What is to be put back
//! is often what does not run: its pods are held at OnDelete, so nobody but us replaces them, and the operator
//! waits for that. Then the nodes are gone on with, for the DaemonSets that are back; a DaemonSet that is not
//! counts as if it did not change, or old pods would be replaced by new ones of the version that is given up.

use jiff::Timestamp;

use super::Rollout;
use super::index::Index;
use super::sets::Sets;
use crate::gr::LiveGr;
use crate::plan::Decision;
use crate::plan::fleet::SetState;
use crate::plan::impact::ScopedSet;
use crate::plan::running::FAILURE_SETTLES;
use crate::plan::status::after;
use crate::record::rolling::{LockedSet, RollingStatus};
use crate::record::{Goal, Phase, Reason, WaitReason};

impl Rollout<'_> {
    /// The fleet by node; what is not back yet counts as unchanged.
    pub(super) fn index<'i>(&'i self, scope: &'i [ScopedSet], rolling: &RollingStatus) -> Index<'i> {
        let unsettled = self.unreverted(rolling).into_iter().map(|s| s.uid.clone()).collect();
        let fleet = &self.seen.fleet;
        let sets = Sets::of(fleet, scope, unsettled);
        let standings = self.memo.borrow_mut().standings(fleet, &sets, self.options());
        Index::with(fleet, sets, standings)
    }

    /// The locked DaemonSets that the operator has not put back, in order. None on the way forward: no node is
    /// touched before all have changed.
    pub(super) fn unreverted(&self, rolling: &RollingStatus) -> Vec<&SetState> {
        let says_so = self.operator_says_so();
        if self.status.goal == Goal::Target || says_so {
            return Vec::new();
        }
        let is_reverted =
            |locked: &LockedSet, set: &SetState| set.observed && set.hash.as_ref() == Some(&locked.hash);
        rolling
            .locked
            .iter()
            .filter_map(|l| self.seen.fleet.locked(l).filter(|set| !is_reverted(l, set)))
            .collect()
    }

    /// The operator says that it runs, and of which version.
    pub(super) fn operator_says_so(&self) -> bool {
        let gr = self.seen.gr.as_ref();
        gr.is_some_and(LiveGr::operator_says_running)
            && gr.is_some_and(|g| g.status.get("observedGeneration").is_some())
    }

    /// When the operator is taken to wait for pods that only we replace, if it seems to: some are not ready, of a
    /// DaemonSet that is back.
    pub(super) fn waits_for_us_since(&self, behind: &[&SetState]) -> Option<Timestamp> {
        let is_behind = |name: &str| behind.iter().any(|set| set.name == name);
        let on_ready_node = |node: &str| !self.seen.dead_nodes.contains(node);
        let waits = self.status.goal == Goal::Previous
            && self.seen.fleet.pods.iter().any(|pod| {
                pod.ready_since.is_none() && !is_behind(&pod.workload) && on_ready_node(&pod.node)
            });
        let since = self.status.step_since.unwrap_or(self.now);
        waits.then(|| since.saturating_add(FAILURE_SETTLES).unwrap_or(Timestamp::MAX))
    }

    /// No node is left to do but for what the operator has not put back.
    pub(super) fn wait_for_the_operator(&self, set: &SetState, rolling: RollingStatus) -> Decision {
        let message = format!("waiting for the operator to change DaemonSet {}/{}", set.namespace, set.name);
        let since = self.status.step_since.unwrap_or(self.now);
        let deadline = after(since, self.record.spec.deadlines.propagate_seconds);
        let late = self.now >= deadline;
        let changed = Some(&rolling) != self.status.rolling.as_ref();
        let draft = self.draft().with(|s| s.rolling = Some(rolling));
        if late && self.status.phase != Phase::Held {
            return Decision::Record(draft.hold(Reason::DeadlineExceeded, &message));
        }
        if changed {
            return Decision::Record(draft.quietly());
        }
        let status = draft.waiting(WaitReason::OperatorPropagating, &message);
        Decision::Wait { status, until: (!late).then_some(deadline) }
    }
}
