//! Nodes with pods of one gang: they are taken together or not at all, and no pod of it is evicted before all of them
//! are cordoned. Evicting one restarts them all: that happens once.

use std::collections::{BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::Rollout;
use super::index::Index;
use super::node::{Move, Node, NodeAssessment, Stage, is_ours};
use super::stop::Stop;
use crate::plan::fleet::{NodeState, Tenant};
use crate::plan::gangs::{Gang, in_words};
use crate::plan::impact::Impact;
use crate::plan::maintenance::{Verdict, Windows, windows};
use crate::record::rolling::{
    ClaimState, NoRestartLeft, OnTimeout, RollingStatus, RollingUpdate, TooBig, WINDOW_LIMIT,
};
use crate::record::size::Room;
use crate::record::{Phase, Reason};

/// When a unit has waited for so long, slots that become free are kept for it: smaller ones would always come first.
const SLOTS_KEPT_AFTER: SignedDuration = SignedDuration::from_mins(15);
/// Of a gang that is too big it is looked so often where its pods are now.
const READ_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// So many units that wait for slots are looked at in one decision, and gangs that are too big read after it.
const LOOKED_AT: usize = 64;

/// Whether a node can be taken now.
pub(super) enum Fit<'f> {
    /// With these, itself included.
    Takes(Vec<&'f NodeState>),
    /// Not with the others of its unit.
    Waits,
    /// Neither it nor any after it: the slots are for a unit that has waited for long.
    KeepsSlots,
}

/// What nodes that were passed over for the sake of their units wait for.
#[derive(Default)]
pub(super) struct Passed {
    /// Why none of them is taken.
    pub(super) stop: Option<Stop>,
    /// When to look again though nothing has changed.
    pub(super) until: Option<Timestamp>,
}

/// The units of the nodes that may be taken.
pub(super) struct Units<'f, 'r, 'c> {
    rollout: &'r Rollout<'c>,
    index: &'f Index<'f>,
    /// Nodes that are in work, left out by the record, or in a unit that was looked at; `None`: there are no gangs.
    settled: Option<HashSet<String>>,
    /// Where they are minded.
    windows: Option<Windows>,
    waiting_since: Option<Timestamp>,
    waiting: usize,
    pub(super) passed: Passed,
}

impl<'c> Rollout<'c> {
    /// Whether any gang is known for whose sake nodes are taken together.
    pub(super) fn minds_gangs(&self, index: &Index<'_>) -> bool {
        self.options().minds_gangs() && !index.gangs.is_empty()
    }

    /// The units of the nodes that are left.
    pub(super) fn units<'f, 'r>(
        &'r self,
        index: &'f Index<'f>,
        rolling: &RollingStatus,
    ) -> Units<'f, 'r, 'c> {
        let settled = self.minds_gangs(index).then(|| {
            rolling.in_work().chain(rolling.left_out(&self.record.spec.skip)).map(str::to_owned).collect()
        });
        let windows = settled.as_ref().and_then(|_| windows(self.record, self.now));
        Units {
            rollout: self,
            index,
            settled,
            windows,
            waiting_since: rolling.gang_waits_since,
            waiting: 0,
            passed: Passed::default(),
        }
    }
}

impl<'f> Units<'f, '_, '_> {
    /// Whether this node can be taken, and with which others.
    pub(super) fn of(&mut self, node: &'f NodeState, rolling: &RollingStatus, room: &Room) -> Fit<'f> {
        let index = self.index;
        let Some(settled) = self.settled.as_mut() else { return Fit::Takes(vec![node]) };
        if settled.contains(&node.name) {
            return Fit::Waits;
        }
        if !is_drained(index, &node.name) || index.gangs.on(&node.name).next().is_none() {
            settled.insert(node.name.clone());
            return Fit::Takes(vec![node]);
        }
        let counts = |other: &str| {
            index.standings.is_to_do(other) && is_drained(index, other) && !settled.contains(other)
        };
        let names = index.gangs.unit(&node.name, counts);
        let unit: Vec<&NodeState> = names.iter().filter_map(|name| index.fleet.node(name)).collect();
        let limit = usize::try_from(rolling.max_unavailable).unwrap_or_default();
        let free = limit.saturating_sub(rolling.active.len());
        let options = self.rollout.options();
        if self.is_spent(node, &names) {
            self.settle(names);
            return Fit::Waits;
        }
        if unit.len() > limit && unit.len() > 1 && options.gangs.too_big == TooBig::Split {
            self.settle([node.name.clone()]);
            return Fit::Takes(vec![node]);
        }
        self.settle(names.iter().cloned());
        let exceeds =
            unit.len() > limit && options.gangs.too_big == TooBig::Exceed && unit.len() <= WINDOW_LIMIT;
        if unit.len() > limit && !exceeds {
            self.is_too_big(node, &names, limit);
            return Fit::Waits;
        }
        if let Some(closed) = self.closed(&unit) {
            let what = in_words(index.gangs.on(&node.name));
            let message = format!(
                "node {} is taken together with node {closed}, on which gang {what} is too and for which no \
                 maintenance window is open",
                node.name
            );
            let stop = Stop::new(Phase::Running, Reason::OutsideWindow, message);
            self.passed.stop.get_or_insert(stop);
            return Fit::Waits;
        }
        let fits = if exceeds { rolling.active.is_empty() } else { unit.len() <= free };
        if fits && room.is_left_for(unit.len()) {
            return Fit::Takes(unit);
        }
        self.waits_for_slots()
    }

    fn settle(&mut self, nodes: impl IntoIterator<Item = String>) {
        if let Some(settled) = &mut self.settled {
            settled.extend(nodes);
        }
    }

    fn waits_for_slots(&mut self) -> Fit<'f> {
        let now = self.rollout.now;
        let since = *self.waiting_since.get_or_insert(now);
        let kept_from = since.saturating_add(SLOTS_KEPT_AFTER).unwrap_or(Timestamp::MAX);
        self.waiting = self.waiting.saturating_add(1);
        if now >= kept_from || self.waiting >= LOOKED_AT {
            return Fit::KeepsSlots;
        }
        self.passed.until = self.passed.until.into_iter().chain([kept_from]).min();
        Fit::Waits
    }

    /// A node of the unit for which no window is open.
    fn closed<'n>(&self, unit: &[&'n NodeState]) -> Option<&'n String> {
        let windows = self.windows.as_ref()?;
        let is_closed = |node: &&&NodeState| !matches!(windows.of_node(&node.labels), Verdict::Open { .. });
        unit.iter().find(is_closed).map(|node| &node.name)
    }

    /// A gang of the unit would not survive another restart, or it is not known yet whether it would.
    fn is_spent(&mut self, node: &NodeState, unit: &BTreeSet<String>) -> bool {
        if self.rollout.options().gangs.no_restart_left == NoRestartLeft::Restart {
            return false;
        }
        let gangs = &self.index.gangs;
        let counted: BTreeSet<&Gang> =
            unit.iter().flat_map(|node| gangs.on(node)).filter(|gang| gang.counts_restarts()).collect();
        let mut unknown = false;
        for gang in counted {
            let members = gangs.members(gang);
            let unread = members.is_none_or(|members| members.read_at.is_none());
            if unread || members.is_some_and(|members| members.restarts_left == Some(0)) {
                self.read_again(gang);
            }
            unknown |= unread;
        }
        let Some(gang) = gangs.spent(unit.iter().map(String::as_str)) else { return unknown };
        let message = format!(
            "node {} is taken together with all nodes of gang {gang}, which would not survive another restart: \
             they are taken when it has ended; skip leaves them out, and gangs.noRestartLeft Restart in a new \
             request takes them",
            node.name
        );
        self.passed.stop = Some(Stop::new(Phase::Held, Reason::GangOutOfRestarts, message));
        true
    }

    /// Looks where a gang is, unless that was done a moment ago.
    fn read_again(&mut self, gang: &Gang) {
        let read_at = self.index.gangs.members(gang).and_then(|members| members.read_at);
        let again_at = read_at.and_then(|at| at.saturating_add(READ_AGAIN_AFTER).ok());
        let mut memo = self.rollout.memo.borrow_mut();
        match again_at.filter(|at| *at > self.rollout.now) {
            Some(at) => self.passed.until = self.passed.until.into_iter().chain([at]).min(),
            None if memo.unread.len() < LOOKED_AT => drop(memo.unread.insert(gang.clone())),
            None => {}
        }
    }

    fn is_too_big(&mut self, node: &NodeState, unit: &BTreeSet<String>, limit: usize) {
        let index = self.index;
        unit.iter().flat_map(|node| index.gangs.on(node)).for_each(|gang| self.read_again(gang));
        let message = format!(
            "node {} is taken together with all nodes of gang {}: {} nodes, and maxUnavailable is {limit}; \
             they are taken when the gang has ended or is on fewer nodes; skip leaves them out, and \
             gangs.tooBig Split or Exceed in a new request takes them",
            node.name,
            in_words(index.gangs.on(&node.name)),
            unit.len()
        );
        // It outweighs a window that opens by itself.
        self.passed.stop = Some(Stop::new(Phase::Held, Reason::GangTooBig, message));
    }

    /// Remembers since when a unit waits for slots.
    pub(super) fn end(self, rolling: &mut RollingStatus) -> Passed {
        rolling.gang_waits_since = self.waiting_since.filter(|_| self.waiting > 0);
        self.passed
    }
}

/// Whether pods have to leave a node before its outdated components restart.
pub(super) fn is_drained(index: &Index<'_>, node: &str) -> bool {
    index.impact_on(node) == Impact::Evict
}

/// How a node with pods of the same gang stands.
enum Other {
    /// It carries our claim, or no work is done on it.
    Ready,
    /// Its cordon is on its way, or its release.
    Claimed,
    /// It would have to be claimed as well.
    Free,
}

/// How a gang stands whose pods would be evicted.
enum GangIs {
    /// It may be restarted.
    Ready,
    /// Where its pods are is not known well enough.
    Unread,
    /// The nodes are given back.
    NotToRestart(String),
    /// Another node has to be cordoned first, or given back.
    Waiting(String),
}

impl Node<'_> {
    /// Why pods of gangs are not evicted yet: all nodes of a unit are cordoned first, and every gang on them is known
    /// to survive a restart. Otherwise a gang would be started on those that come next, or on those that are given
    /// back, and be restarted again.
    pub(super) fn waits_for_gangs(&self, leaving: &[&Tenant]) -> Option<NodeAssessment> {
        let options = self.options();
        let evicted = leaving.iter().filter(|pod| !pod.deleting);
        let gangs = evicted.filter_map(|pod| Gang::of_leaving(pod, options));
        let own: BTreeSet<Gang> = gangs.filter(|gang| !self.index.gangs.is_loose(gang)).collect();
        let mut wait: Option<NodeAssessment> = None;
        let mut unread = BTreeSet::new();
        for gang in self.gangs_of_unit(own, options) {
            match self.is_ready(&gang, options) {
                GangIs::Ready => {}
                GangIs::Unread => drop(unread.insert(gang)),
                GangIs::NotToRestart(why) => {
                    return Some(NodeAssessment::new(Stage::Releasing, why, Move::Return));
                }
                GangIs::Waiting(why) => {
                    let late = self.now >= self.claim.deadline && options.drain.on_timeout == OnTimeout::Skip;
                    wait = wait.or_else(|| {
                        Some(match late {
                            true => NodeAssessment::new(Stage::Evicting, why.clone(), Move::Skip(why)),
                            false => self.gang_wait(why),
                        })
                    });
                }
            }
        }
        let Some(gang) = unread.first() else { return wait };
        let mut look = self.gang_wait(format!("the pods of gang {gang} are being read"));
        (look.unread, look.unknown) = (unread, true);
        Some(look)
    }

    /// The gangs of this node, and those of the nodes that are taken with it.
    fn gangs_of_unit(&self, own: BTreeSet<Gang>, options: &RollingUpdate) -> BTreeSet<Gang> {
        // Where a gang may be split, its other nodes may come later.
        if own.is_empty() || options.gangs.too_big == TooBig::Split {
            return own;
        }
        let gangs = &self.index.gangs;
        let is_in_work =
            |name: &str| self.index.fleet.node(name).is_some_and(|node| is_ours(self.record, node));
        let counts = |name: &str| is_drained(self.index, name) && is_in_work(name);
        let unit = gangs.unit(&self.node.name, counts);
        own.into_iter().chain(unit.iter().flat_map(|node| gangs.on(node)).cloned()).collect()
    }

    /// Whether the pods of a gang may be evicted.
    fn is_ready(&self, gang: &Gang, options: &RollingUpdate) -> GangIs {
        let since = self.claim.since;
        let members = self.index.gangs.members(gang);
        let Some(members) = members.filter(|members| members.read_at.is_some_and(|at| at >= since)) else {
            return GangIs::Unread;
        };
        if members.restarts_left == Some(0) && options.gangs.no_restart_left == NoRestartLeft::Wait {
            return GangIs::NotToRestart(format!("gang {gang} would not survive another restart"));
        }
        // What has started since has been restarted, by us or by others.
        let before = members.nodes.iter().filter(|(node, at)| **at < since && **node != self.node.name);
        let others: Vec<(&str, Other)> = before.map(|(node, _)| (node.as_str(), self.other(node))).collect();
        let may_be_split = options.gangs.too_big == TooBig::Split;
        let free = others.iter().find(|(_, other)| matches!(other, Other::Free));
        if let Some((free, _)) = free.filter(|_| !may_be_split) {
            let why = format!("gang {gang} is on node {free} as well: all its nodes are taken together");
            return GangIs::NotToRestart(why);
        }
        match others.iter().find(|(_, other)| matches!(other, Other::Claimed)) {
            None => GangIs::Ready,
            Some((node, _)) => GangIs::Waiting(format!(
                "waiting for node {node} to be cordoned with it: gang {gang} is on it as well"
            )),
        }
    }

    fn gang_wait(&self, why: String) -> NodeAssessment {
        let mut look = NodeAssessment::wait(Stage::Evicting, why);
        look.until = Some(self.claim.deadline);
        look.of_others = true;
        look
    }

    fn other(&self, name: &str) -> Other {
        let Some(node) = self.index.fleet.node(name) else { return Other::Ready };
        let rolling = self.record.status.as_ref().and_then(|status| status.rolling.as_ref());
        let claim = rolling.and_then(|rolling| rolling.active.iter().find(|claim| claim.node == name));
        let returns = claim.is_some_and(|claim| claim.state == ClaimState::Returning);
        if returns && self.index.first_outdated(name).is_some() {
            // What it comes to is seen when it has been released.
            return Other::Claimed;
        }
        let ours = is_ours(self.record, node);
        if ours || !self.index.standings.is_to_do(name) || !is_drained(self.index, name) {
            return Other::Ready;
        }
        let skip = &self.record.spec.skip;
        let left_out = || rolling.is_some_and(|rolling| rolling.left_out(skip).any(|node| node == name));
        match claim {
            Some(claim) if claim.cordon => Other::Claimed,
            Some(_) => Other::Ready,
            None if left_out() => Other::Ready,
            None => Other::Free,
        }
    }
}
