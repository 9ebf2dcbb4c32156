//! The claims: each node in work is moved on, troubles are noted, done nodes are let go.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::Rollout;
use super::emptying::UNREAD;
use super::index::Index;
use super::node::{self, Move, NodeAssessment};
use crate::plan::FleetAction;
use crate::plan::fleet::NodeState;
use crate::plan::impact::Impact;
use crate::plan::memo::Terms;
use crate::plan::status::after;
use crate::record::rolling::{
    Claim, ClaimState, DoneNode, Replaced, RollingStatus, SkippedNode, Trouble, TroubleKind, WINDOW_LIMIT,
};
use crate::record::size::{Room, SKIP_REASON, TROUBLE, shortened};

impl Rollout<'_> {
    /// Moves every claim on; returns the calls that they ask for and when the first of them has to be looked at
    /// again.
    pub(super) fn work_on_claims(
        &self,
        index: &Index<'_>,
        rolling: &mut RollingStatus,
        stopping: bool,
        abandon: bool,
    ) -> (Vec<FleetAction>, Option<Timestamp>) {
        let (mut calls, mut untils) = (Vec::new(), Vec::new());
        rolling.skipped.retain(|s| self.attempt_of(&s.node) <= s.attempt);
        let mut memo = self.memo.borrow_mut();
        memo.unread.clear();
        memo.on_terms(Terms::of(self.status.goal, &index.sets, (stopping, abandon)));
        for mut claim in std::mem::take(&mut rolling.active) {
            if let Some(until) = memo.waits(&claim, self.now) {
                untils.extend(until);
                rolling.active.push(claim);
                continue;
            }
            self.retry_node(&mut claim);
            let look = node::look(self.record, &claim, index, self.now, stopping, abandon);
            let is_to_come = |at: &Timestamp| *at > self.now;
            let mut until = look.until.filter(is_to_come);
            self.note(&mut claim, &look);
            if let (Some(trouble), Some((_, settles))) = (&claim.trouble, &look.signal) {
                let settled = trouble.at.saturating_add(*settles).ok().filter(is_to_come);
                until = until.into_iter().chain(settled).min();
            }
            untils.extend(until);
            let only_waits = matches!(&look.next, Move::Call(calls) if calls.is_empty());
            match look.next {
                Move::Call(actions) => calls.extend(actions),
                Move::Swap => {
                    let claim = Arc::make_mut(&mut claim);
                    claim.state = ClaimState::Swapping;
                    claim.deadline = after(self.now, self.record.spec.deadlines.node_seconds);
                    claim.trouble = None;
                }
                Move::AddPods(more) => {
                    // Of each component the pods that are there, and those that were there last: no more than fits.
                    let there = node::replaced(index, &claim.node, |_, _| true);
                    let claim = Arc::make_mut(&mut claim);
                    let node = claim.node.clone();
                    let is_there = |uid: &str| index.pods(&node).any(|(_, pod)| pod.uid == uid);
                    claim.pods.retain(|pod| is_there(&pod.uid) || !more.has(&pod.component));
                    for component in more.components() {
                        claim.replaces.retain_of(component, &there);
                    }
                    claim.replaces.extend(more);
                }
                Move::Skip(reason) => {
                    let claim = Arc::make_mut(&mut claim);
                    claim.state = ClaimState::Returning;
                    claim.trouble = None;
                    // None of them has been touched, and its name is written once more.
                    claim.pods.clear();
                    claim.replaces = Replaced::default();
                    let (node, reason) = (claim.node.clone(), shortened(&reason, SKIP_REASON));
                    rolling.skipped.push(SkippedNode { node, reason, attempt: claim.attempt });
                }
                Move::Return => {
                    let claim = Arc::make_mut(&mut claim);
                    claim.state = ClaimState::Returning;
                    claim.trouble = None;
                }
                Move::Done => {
                    self.finish_node(rolling, Arc::unwrap_or_clone(claim));
                    continue;
                }
                Move::GiveBack | Move::Lost => {
                    rolling.slots.push(claim.ideal_start_ms);
                    // A step counts nodes that are done: another takes this one's place.
                    rolling.step_left = rolling.step_left.map(|left| left.saturating_add(1));
                    continue;
                }
            }
            memo.unread.extend(look.unread);
            // A clock that was set, and what other nodes have to be like, is looked at again each time.
            if only_waits && !look.clock_was_set && !look.of_others {
                let late = Some(claim.deadline).filter(is_to_come);
                let ends = self.window_of(&claim, index).filter(is_to_come);
                memo.is_waiting(&claim, until, until.into_iter().chain(late).chain(ends).min());
            }
            rolling.active.push(claim);
        }
        memo.retain(&rolling.active);
        // Calls to different nodes go out together; those that release come first, they free slots.
        calls.sort_by_key(|c| !matches!(c, FleetAction::ReleaseNode { .. }));
        (calls, untils.into_iter().min())
    }

    /// Remembers what was seen. A claim of which nothing changes stays the same in memory.
    fn note(&self, claim: &mut Arc<Claim>, look: &NodeAssessment) {
        let trouble = self.trouble(claim, look);
        if claim.trouble != trouble {
            Arc::make_mut(claim).trouble = trouble;
        }
        let ahead = look.stage == node::Stage::Soaking && look.clock_was_set;
        if ahead && claim.soaking_since.is_none() {
            Arc::make_mut(claim).soaking_since = Some(self.now);
        } else if claim.trouble.is_some() && claim.soaking_since.is_some() {
            // What is in trouble again is watched anew.
            Arc::make_mut(claim).soaking_since = None;
        }
        let missing = look.stage == node::Stage::Verifying && look.missing_gcus;
        if missing && !claim.lost_gcus {
            Arc::make_mut(claim).lost_gcus = true;
        }
    }

    /// What is to be remembered of a node that is not progressing.
    fn trouble(&self, claim: &Claim, look: &NodeAssessment) -> Option<Trouble> {
        let known = claim.trouble.as_ref();
        if let Some((message, settles)) = &look.signal {
            let at = known.map_or(self.now, |t| t.at);
            let settled = self.now.duration_since(at) >= *settles;
            let kind = if settled { TroubleKind::Failed } else { TroubleKind::Settling };
            // The wording of the first look stays: a new one each time would be a write each time.
            let said = known.filter(|t| t.kind == kind).map(|t| t.message.clone());
            return Some(Trouble { kind, message: said.unwrap_or_else(|| on(claim, message)), at });
        }
        let passing = matches!(look.stage, node::Stage::Soaking | node::Stage::Releasing);
        // A call that is tried again after a refusal is no progress yet.
        let was_late = known.is_some_and(|t| t.kind == TroubleKind::Late);
        let waits = matches!(&look.next, Move::Call(calls) if calls.is_empty() || was_late);
        let late = waits && self.now >= claim.deadline && !passing && !look.unknown;
        late.then(|| {
            let known = known.filter(|t| t.kind == TroubleKind::Late);
            // What could not be read tells nothing any more when it can be.
            let known = known.filter(|t| !t.message.contains(UNREAD) || look.message.starts_with(UNREAD));
            let kind = TroubleKind::Late;
            known.cloned().unwrap_or_else(|| Trouble {
                kind,
                message: on(claim, &look.message),
                at: self.now,
            })
        })
    }

    fn finish_node(&self, rolling: &mut RollingStatus, claim: Claim) {
        let took = u64::try_from(self.now.duration_since(claim.since).as_millis()).unwrap_or_default();
        let ideal_end = claim.ideal_start_ms.saturating_add(took);
        rolling.slots.push(ideal_end);
        rolling.ideal_ms = rolling.ideal_ms.max(ideal_end);
        rolling.last_done_at = Some(self.now);
        rolling.step_done = rolling.step_done.saturating_add(1);
        rolling.recent.push(DoneNode {
            node: claim.node,
            since: claim.since,
            at: self.now,
            pods: claim.pods,
            replaces: claim.replaces,
        });
    }

    /// An operator that writes its own strategy back opens a gap in which the DaemonSet controller may take a
    /// pod on a node that nobody has claimed. That node is claimed on the spot, over the budget if need be.
    pub(super) fn claim_what_was_taken(
        &self,
        index: &Index<'_>,
        rolling: &mut RollingStatus,
        room: &mut Room,
    ) {
        if rolling.relocks == 0 {
            return;
        }
        let claimed: BTreeSet<String> = rolling.active.iter().map(|c| c.node.clone()).collect();
        let was_taken =
            |node: &&NodeState| !claimed.contains(&node.name) && self.was_taken(index, &node.name);
        for node in index.populated().filter(was_taken) {
            // The others are claimed when there is room for them in the record.
            if rolling.active.len() >= WINDOW_LIMIT || !room.is_left() {
                break;
            }
            let mut claim = self.new_claim(index, node, rolling);
            claim.state = ClaimState::Swapping;
            claim.cordon = false;
            claim.deadline = after(self.now, self.record.spec.deadlines.node_seconds);
            room.take(&claim);
            rolling.active.push(Arc::new(claim));
            rolling.uncommanded = rolling.uncommanded.saturating_add(1);
        }
    }

    fn was_taken(&self, index: &Index<'_>, node: &str) -> bool {
        let begun = self.status.started_at.unwrap_or(self.now);
        index.pods(node).any(|(set, pod)| {
            let outdated = index.is_outdated(set, pod);
            // A new pod of what does not change replaces nothing, and a claim would have nothing to wait for.
            let changed = index.sets.get(set).is_some_and(|(s, _)| s.changed);
            let new = changed && !outdated && pod.created_at >= begun;
            (new && pod.ready_since.is_none()) || (outdated && pod.is_deleting())
        })
    }

    pub(super) fn new_claim(
        &self,
        index: &Index<'_>,
        node: &NodeState,
        rolling: &mut RollingStatus,
    ) -> Claim {
        let first = index.first_outdated(&node.name).unwrap_or(usize::MAX);
        let cordon = index.impact_on(&node.name) >= Impact::Cordon;
        let state = if cordon { ClaimState::Emptying } else { ClaimState::Swapping };
        let seconds = if cordon { self.drain_seconds() } else { self.record.spec.deadlines.node_seconds };
        let earliest = rolling.slots.iter().enumerate().min_by_key(|(_, at)| **at).map(|(i, _)| i);
        let unused = rolling.slots.len().saturating_add(rolling.active.len())
            < usize::try_from(rolling.max_unavailable).unwrap_or_default();
        let ideal_start_ms = match earliest {
            Some(slot) if !unused => rolling.slots.swap_remove(slot),
            // A slot that was never used is free since the window opened, or since the last gate.
            _ => rolling.slots.iter().copied().min().filter(|_| rolling.step > 0).unwrap_or_default(),
        };
        Claim {
            node: node.name.clone(),
            since: self.now,
            state,
            deadline: after(self.now, seconds),
            cordon,
            pods: Vec::new(),
            replaces: node::replaced(index, &node.name, |set, _| set >= first),
            gcus: node.gcus,
            trouble: None,
            ideal_start_ms,
            attempt: self.attempt_of(&node.name),
            soaking_since: None,
            lost_gcus: false,
        }
    }

    fn attempt_of(&self, node: &str) -> u32 {
        self.record.spec.node_attempts.get(node).copied().unwrap_or_default()
    }

    /// A person has asked for another try of this node.
    fn retry_node(&self, claim: &mut Arc<Claim>) {
        let attempt = self.attempt_of(&claim.node);
        if attempt > claim.attempt {
            let claim = Arc::make_mut(claim);
            claim.attempt = attempt;
            self.renew(claim);
        }
    }

    /// A fresh deadline for a node in work.
    pub(super) fn renew(&self, claim: &mut Claim) {
        let node = self.record.spec.deadlines.node_seconds;
        let seconds = if claim.state == ClaimState::Swapping { node } else { self.drain_seconds() };
        claim.trouble = None;
        claim.deadline = after(self.now, seconds);
    }
}

fn on(claim: &Claim, message: &str) -> String {
    let prefix = format!("node {}: ", claim.node);
    let message =
        if message.starts_with(&prefix) { message.to_owned() } else { format!("{prefix}{message}") };
    shortened(&message, TROUBLE)
}
