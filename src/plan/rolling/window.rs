//! Rolling: which nodes are in work. A sliding window: a node begins the moment a slot is free.
//!
//! One decision goes over every claim. What has to be remembered is recorded first; when nothing has, the calls
//! are made that the claims ask for; when there are none, it says what is waited for.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::RELOCK_LIMIT;
use super::Rollout;
use super::gang::{Fit, Passed};
use super::index::Index;
use super::node;
use super::standing::Counts;
use super::standing::place;
use super::stop::Stop;
use super::trouble::{first_trouble, is, opted_out};
use crate::plan::fleet::{Mark, NodeState};
use crate::plan::{Decision, FleetAction};
use crate::record::rolling::{
    Claim, NodeCounts, Order, RollingStatus, RollingUpdate, TroubleKind, WINDOW_LIMIT,
};
use crate::record::size::Room;
use crate::record::{Goal, Intent, OnFailure, Phase, Reason, SkipNode, Step, WaitReason};

impl Rollout<'_> {
    pub(super) fn rolling(&self) -> Decision {
        let scope = self.scope();
        let mut rolling = self.rolling_status();
        let abandon = self.giving_up().is_some_and(|g| g.abandon);
        // No claimed node is released on account of a workload that is not what it was.
        if let Some(changed) = self.changed_workload(&rolling).filter(|_| !abandon) {
            return self.hold_for(&changed);
        }
        let index = self.index(&scope, &rolling);
        if let Some(decision) = self.keep_locked(&mut rolling) {
            return decision;
        }
        if rolling.relocks >= RELOCK_LIMIT && self.can_guard(&rolling) && !abandon {
            return self.carry_out(self.operator_insists());
        }
        if rolling.max_unavailable == 0 && !abandon {
            return self.open_window(&index, rolling);
        }
        let stopping = abandon || self.record.spec.intent == Intent::Pause;
        let (calls, until) = self.work_on_claims(&index, &mut rolling, stopping, abandon);
        // What a claim can come to is worked out when it changes, not that of all when the next node is taken.
        let mut room = self.room(&index, &rolling);
        if !abandon {
            self.claim_what_was_taken(&index, &mut rolling, &mut room);
        }
        let failures = self.failures(&index, &rolling, &room);
        let may_turn = self.status.goal == Goal::Target && self.giving_up().is_none();
        if failures.rolls_back && may_turn && self.record.spec.on_failure == OnFailure::Rollback {
            let why = failures.alike.as_ref().map(|alike| alike.in_words(&index));
            return self.turn_back(&why.unwrap_or_else(|| first_trouble(&rolling)));
        }
        if rolling.active.is_empty() && (abandon || self.free(&index, &rolling).next().is_none()) {
            if let Some(set) = self.unreverted(&rolling).first().filter(|_| !abandon) {
                return self.wait_for_the_operator(set, rolling);
            }
            if let Some(unseen) = self.unseen(&index).filter(|_| !abandon) {
                return self.wait_for_pods(&unseen, rolling);
            }
            return self.all_nodes_done(&index, rolling);
        }
        self.choose_canaries(&index, &mut rolling);
        let canaries = self.canaries(&index, &rolling);
        let mut stop = self.stop(&index, &mut rolling, &failures, canaries);
        let mut until = until.into_iter().chain(self.window_ends(&index, &rolling)).min();
        let full = rolling.active.len() >= usize::try_from(rolling.max_unavailable).unwrap_or_default();
        if stop.is_none() && !stopping && !full && rolling.step_left != Some(0) {
            let mut left = self.candidates(&index, &rolling);
            let mind = self.mind_windows(&mut left, &mut rolling);
            if let Some(news) = mind.news {
                return self.tell_of_window(&index, rolling, &news);
            }
            (stop, until) = (mind.stop, until.into_iter().chain(mind.until).min());
            let passed = self.take_nodes(&index, &mut rolling, &left);
            until = until.into_iter().chain(passed.until).min();
            stop = stop.or_else(|| passed.stop.filter(|_| rolling.active.is_empty()));
        }
        self.conclude(&index, rolling, stop, calls, until)
    }

    pub(super) fn options(&self) -> &RollingUpdate {
        self.record.spec.rolling_options()
    }

    pub(super) fn drain_seconds(&self) -> u32 {
        let options = self.options();
        let jobs = options.wait_for_jobs.as_ref().map(|j| j.timeout_seconds).unwrap_or_default();
        options.drain.timeout_seconds.saturating_add(jobs)
    }

    /// The first look at the nodes: fixes how many may be down at once, and the first step's size.
    fn open_window(&self, index: &Index<'_>, mut rolling: RollingStatus) -> Decision {
        let options = self.options();
        self.count(index, &mut rolling);
        let concerned = usize::try_from(rolling.nodes.total).unwrap_or(usize::MAX);
        let at_once = options.max_unavailable.of(concerned).min(WINDOW_LIMIT);
        rolling.max_unavailable = u32::try_from(at_once).unwrap_or(u32::MAX);
        rolling.step_left = None;
        if self.status.goal == Goal::Target {
            rolling.step_left = self.step_size(&rolling);
            if let Some(canary) = &options.canary {
                let size = canary.nodes.map_or(usize::MAX, |n| n.of(concerned));
                rolling.step_left = Some(u32::try_from(size).unwrap_or(u32::MAX));
                self.choose_canaries(index, &mut rolling);
            }
        }
        for pin in &mut rolling.locked {
            pin.unfinished = index.is_left_behind(&pin.uid);
        }
        let message = format!(
            "{} nodes to do, {} at once",
            rolling.nodes.total.saturating_sub(rolling.nodes.done),
            rolling.max_unavailable
        );
        Decision::Record(self.draft().with(|s| s.rolling = Some(rolling)).step(Step::Rolling, 0, message))
    }

    /// The room that the record has for further nodes in work.
    fn room(&self, index: &Index<'_>, rolling: &RollingStatus) -> Room {
        index.room(&self.record.spec, rolling, &mut self.memo.borrow_mut().reserved)
    }

    /// Takes as many of these as fit, those of one gang together.
    fn take_nodes(&self, index: &Index<'_>, rolling: &mut RollingStatus, left: &[&NodeState]) -> Passed {
        let mut units = self.units(index, rolling);
        if left.is_empty() {
            return units.passed;
        }
        let mut room = self.room(index, rolling);
        for node in left {
            let full = rolling.active.len() >= usize::try_from(rolling.max_unavailable).unwrap_or_default();
            if full || rolling.step_left == Some(0) || !room.is_left() {
                break;
            }
            match units.of(node, rolling, &room) {
                Fit::Takes(unit) => {
                    unit.into_iter().for_each(|node| self.take(index, rolling, node, &mut room))
                }
                Fit::Waits => {}
                Fit::KeepsSlots => break,
            }
        }
        units.end(rolling)
    }

    fn take(&self, index: &Index<'_>, rolling: &mut RollingStatus, node: &NodeState, room: &mut Room) {
        if let Some(since) = rolling.gated_since.take() {
            let gated = u64::try_from(self.now.duration_since(since).as_millis()).unwrap_or_default();
            rolling.gated_ms = rolling.gated_ms.saturating_add(gated);
            let together = rolling.ideal_ms;
            rolling.slots.iter_mut().for_each(|slot| *slot = together);
        }
        rolling.first_claim_at.get_or_insert(self.now);
        let claim = self.new_claim(index, node, rolling);
        room.take(&claim);
        rolling.active.push(Arc::new(claim));
        rolling.step_left = rolling.step_left.map(|left| left.saturating_sub(1));
    }

    /// The nodes that may be taken next, in the order in which they are taken.
    pub(super) fn free<'f, 'r>(
        &'r self,
        index: &'f Index<'f>,
        rolling: &'r RollingStatus,
    ) -> impl Iterator<Item = &'f NodeState> + use<'f, 'r> {
        let taken: HashSet<&str> =
            rolling.in_work().chain(rolling.left_out(&self.record.spec.skip)).collect();
        let free = index.standings.to_do().filter(move |name| !taken.contains(name));
        free.filter_map(|name| index.fleet.node(name))
    }

    /// The nodes to take next: no more than there are free slots, but for maintenance windows, which are not open for
    /// all.
    fn candidates<'f>(&self, index: &'f Index<'f>, rolling: &RollingStatus) -> Vec<&'f NodeState> {
        let canaries = self.canaries_first(rolling);
        let wanted = |node: &&NodeState| canaries.as_ref().is_none_or(|c| c.has(node));
        let slots = usize::try_from(rolling.max_unavailable).unwrap_or_default();
        let free = slots.saturating_sub(rolling.active.len());
        let any = self.record.spec.maintenance.is_some() || self.minds_gangs(index);
        let enough = if any { usize::MAX } else { free };
        self.free(index, rolling).filter(wanted).take(enough).collect()
    }

    pub(super) fn count(&self, index: &Index<'_>, rolling: &mut RollingStatus) {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let claimed: HashSet<&str> = rolling.in_work().collect();
        let Counts { done, to_do, left_out } = index.standings.counts_without(claimed.iter().copied());
        let by_record: HashSet<&str> = rolling.left_out(&self.record.spec.skip).collect();
        let skipped =
            by_record.iter().filter(|node| index.standings.is_to_do(node) && !claimed.contains(*node));
        let skipped = skipped.count();
        let total = index.standings.counts_without([]);
        let failed = |c: &&Arc<Claim>| is(c, TroubleKind::Failed) || is(c, TroubleKind::Late);
        rolling.nodes = NodeCounts {
            total: number(total.done + total.to_do + total.left_out),
            done: number(done),
            active: number(rolling.active.len()),
            waiting: number(to_do.saturating_sub(skipped)),
            skipped: number(left_out + skipped),
            failed: number(rolling.active.iter().filter(failed).count()),
        };
    }

    /// No node is in work and none is left: nothing of ours may be left on any node either.
    fn all_nodes_done(&self, index: &Index<'_>, mut rolling: RollingStatus) -> Decision {
        let marked: Vec<FleetAction> = index
            .fleet
            .nodes
            .iter()
            .filter(|n| node::is_ours(self.record, n) && !index.fleet.refusals.contains_key(&n.subject()))
            .map(|n| node::release(n))
            .collect();
        if !marked.is_empty() {
            return Decision::ActAll(marked);
        }
        self.count(index, &mut rolling);
        let skipped = rolling.nodes.skipped;
        let left_out = if skipped > 0 { format!(", {skipped} left out") } else { String::new() };
        let message = format!("{} nodes done{left_out}: restoring update strategies", rolling.nodes.done);
        let seconds = self.seconds_for(Step::Restoring);
        Decision::Record(self.draft().with(|s| s.rolling = Some(rolling)).step(
            Step::Restoring,
            seconds,
            message,
        ))
    }

    /// Records what has changed; else makes the calls; else waits.
    fn conclude(
        &self,
        index: &Index<'_>,
        mut rolling: RollingStatus,
        stop: Option<Stop>,
        calls: Vec<FleetAction>,
        until: Option<Timestamp>,
    ) -> Decision {
        let phase = stop.as_ref().map_or(Phase::Running, |s| s.phase);
        let changed = Some(&rolling) != self.status.rolling.as_ref();
        let shown = phase == self.status.phase
            && stop.as_ref().is_none_or(|s| s.phase == Phase::Running || self.status.is_because_of(s.reason));
        if changed || !shown {
            self.count(index, &mut rolling);
            let draft = self.draft().with(|s| s.rolling = Some(rolling));
            return Decision::Record(match stop {
                _ if shown => draft.quietly(),
                Some(Stop { phase: Phase::Held, reason, message, .. }) => draft.hold(reason, &message),
                Some(Stop { phase: Phase::Paused, reason, message, .. }) => draft.pause(reason, &message),
                _ => draft.go_on("going on"),
            });
        }
        if !calls.is_empty() {
            return Decision::ActAll(calls);
        }
        let gang_waits = rolling.gang_waits_since.is_some();
        let until = until.into_iter().chain(stop.as_ref().and_then(|stop| stop.until)).min();
        let (reason, message) = match &stop {
            Some(s) if s.reason == Reason::AwaitingPromotion => {
                (WaitReason::AwaitingPromotion, s.message.clone())
            }
            Some(s) if s.reason == Reason::PauseBetween => (WaitReason::PauseBetween, s.message.clone()),
            Some(s) if s.reason == Reason::OutsideWindow => (WaitReason::OutsideWindow, s.message.clone()),
            Some(s) if s.reason == Reason::WouldOutlastWindow => {
                (WaitReason::WouldOutlastWindow, s.message.clone())
            }
            Some(s) if s.phase == Phase::Paused => (WaitReason::Paused, s.message.clone()),
            Some(s) => (WaitReason::PodFailing, s.message.clone()),
            None => (WaitReason::NodesInWork, in_work_message(gang_waits).to_owned()),
        };
        Decision::Wait { status: self.draft().waiting(reason, &message), until }
    }
}

/// The nodes that a rollout may work on at all.
pub fn concerned<'f>(index: &Index<'f>, options: &RollingUpdate) -> Vec<&'f NodeState> {
    index.populated().filter(|node| node.labels.match_all(&options.node_selector)).collect()
}

fn in_work_message(gang_waits: bool) -> &'static str {
    if gang_waits {
        "nodes are in work; others are taken together, when slots are free for all nodes of their gang"
    } else {
        "nodes are in work"
    }
}

/// Puts nodes into the order in which they are taken: the one that this service runs on comes last.
pub fn in_order(nodes: &mut [&NodeState], index: &Index<'_>, options: &RollingUpdate) {
    let fleet = index.fleet;
    let busy = fleet.busy.as_deref().filter(|_| options.order != Order::Name);
    nodes.sort_by_cached_key(|n| place(n, fleet.own_node.as_deref(), options.topology(), busy));
}

/// Why a node is left out now, if so. It is looked at anew each time: a node that comes back is taken.
pub fn why_skipped(node: &NodeState, rolling: &RollingStatus, skip: &[SkipNode]) -> Option<String> {
    if let Some(reason) = opted_out(node, skip) {
        return Some(reason);
    }
    if let Some(skipped) = rolling.skipped.iter().find(|s| s.node == node.name) {
        return Some(skipped.reason.clone());
    }
    match &node.mark {
        Some(Mark::Claimed(mark)) => return Some(format!("{} works on it", mark.record)),
        Some(Mark::Unreadable) => return Some("its claim annotation cannot be read".to_owned()),
        None => {}
    }
    if node.cordoned {
        return Some("it was cordoned by someone else".to_owned());
    }
    (!node.ready).then(|| "it is not ready".to_owned())
}
