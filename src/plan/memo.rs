//! What decisions about one record have worked out, and need not work out again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::fleet::Fleet;
use super::gangs::Gang;
use super::impact::Change;
use super::rolling::sets::Sets;
use super::rolling::standing::{Standings, Touched};
use crate::record::rolling::{Claim, RollingUpdate};
use crate::record::size::Reserved;
use crate::record::{GcuUpgrade, Goal};

/// What is kept between decisions about one record, on looks of which it is told what has changed. It changes what a
/// decision costs, never what it is.
#[derive(Debug, Default)]
pub struct Memo {
    /// UID and generation of the record.
    version: (Option<String>, Option<i64>),
    /// How the versions differ between which it rolls, on this way.
    changes: Option<(Goal, Arc<[Change]>)>,
    standings: Arc<Standings>,
    touched: Touched,
    /// By node: claims that only wait.
    waiting: HashMap<String, Waiting>,
    terms: Option<Terms>,
    pub(super) reserved: Reserved,
    /// Gangs of which the last decision has to know where their pods are now.
    pub(super) unread: BTreeSet<Gang>,
}

#[derive(Debug)]
struct Waiting {
    claim: Arc<Claim>,
    /// When it is to be looked at again.
    until: Option<Timestamp>,
    /// Until when it would be found waiting for the same, if nothing changes.
    holds_until: Option<Timestamp>,
}

/// What a look at a claim depends on beside the node and the claim itself.
#[derive(Debug, PartialEq)]
pub(super) struct Terms {
    goal: Goal,
    /// UID, hash and refusal of each DaemonSet.
    sets: Vec<[Option<String>; 3]>,
    /// No node that has not begun to swap may go on; all are given back as they are.
    pub(super) ends: (bool, bool),
}

impl Memo {
    /// The next decision is about this record. What followed from another version of it is forgotten.
    pub(super) fn is_about(&mut self, record: &GcuUpgrade) {
        let version = (record.metadata.uid.clone(), record.metadata.generation);
        // Without a generation nothing is known to be the same.
        if self.version != version || version.1.is_none() {
            self.version = version;
            self.changes = None;
            self.waiting.clear();
            self.reserved.forget_spec();
        }
    }

    /// How the versions differ between which the record rolls, on this way.
    pub(super) fn changes(&mut self, goal: Goal, work_out: impl FnOnce() -> Vec<Change>) -> Arc<[Change]> {
        if let Some((_, changes)) = self.changes.as_ref().filter(|(known, _)| *known == goal) {
            return changes.clone();
        }
        let changes: Arc<[Change]> = work_out().into();
        self.changes = Some((goal, changes.clone()));
        changes
    }

    /// Something on this node has changed, or what is known about calls on it.
    pub fn touch(&mut self, node: &str) {
        if let Touched::Some(nodes) = &mut self.touched
            && !nodes.contains(node)
        {
            nodes.insert(node.to_owned());
        }
    }

    /// Anything may have changed.
    pub fn touch_all(&mut self) {
        self.touched = Touched::All;
    }

    /// The gangs whose pods have to be read before the next decision: this one did not know where they are.
    pub fn take_unread(&mut self) -> BTreeSet<Gang> {
        std::mem::take(&mut self.unread)
    }

    /// How every node stands now.
    pub(super) fn standings(
        &mut self,
        fleet: &Fleet,
        sets: &Sets<'_>,
        options: &RollingUpdate,
    ) -> Arc<Standings> {
        let touched = std::mem::take(&mut self.touched);
        if Arc::make_mut(&mut self.standings).update(fleet, sets, options, &touched) {
            self.waiting.clear();
        } else if let Touched::Some(nodes) = touched {
            nodes.iter().for_each(|node| drop(self.waiting.remove(node)));
        }
        self.standings.clone()
    }

    /// Forgets what claims wait for if what that depends on is not what it was.
    pub(super) fn on_terms(&mut self, terms: Terms) {
        if self.terms.as_ref() != Some(&terms) {
            self.waiting.clear();
            self.terms = Some(terms);
        }
    }

    /// When this claim is to be looked at again, if it is known to wait until then.
    pub(super) fn waits(&self, claim: &Arc<Claim>, now: Timestamp) -> Option<Option<Timestamp>> {
        let known = self.waiting.get(&claim.node)?;
        let same = Arc::ptr_eq(&known.claim, claim) && known.holds_until.is_none_or(|at| now < at);
        same.then_some(known.until)
    }

    /// This claim waits, and will be found waiting for the same until `holds_until` if nothing changes.
    pub(super) fn is_waiting(
        &mut self,
        claim: &Arc<Claim>,
        until: Option<Timestamp>,
        holds_until: Option<Timestamp>,
    ) {
        let waiting = Waiting { claim: claim.clone(), until, holds_until };
        self.waiting.insert(claim.node.clone(), waiting);
    }

    /// Forgets the nodes that are not in work any more.
    pub(super) fn retain(&mut self, active: &[Arc<Claim>]) {
        if self.waiting.len() > active.len() {
            let names: BTreeSet<&str> = active.iter().map(|claim| claim.node.as_str()).collect();
            self.waiting.retain(|node, _| names.contains(node.as_str()));
        }
    }
}

impl Terms {
    pub(super) fn of(goal: Goal, sets: &Sets<'_>, ends: (bool, bool)) -> Self {
        let of_set = |state: &crate::plan::fleet::SetState| {
            [Some(state.uid.clone()), state.hash.clone(), state.refused.clone()]
        };
        Self {
            goal,
            sets: sets.iter().map(|(_, state)| state.map(of_set).unwrap_or_default()).collect(),
            ends,
        }
    }
}
