//! The nodes that come first: which they are, where every class of nodes is to be tried, and whether they have soaked.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;

use super::Rollout;
use super::gang::is_drained;
use super::index::Index;
use crate::plan::coverage::{Choice, Trial, choose};
use crate::plan::fleet::NodeState;
use crate::plan::gangs::KnownGangs;
use crate::plan::names::first_of;
use crate::plan::status::after;
use crate::record::rolling::{Canary, Coverage, Labels, NoRestartLeft, RollingStatus, RollingUpdate, TooBig};
use crate::record::size::{CANARIES, stored};

/// So many canary nodes are chosen at most.
pub const CHOSEN: usize = 100;
/// Classes named in a message.
const NAMED: usize = 5;

/// Certain nodes that come first.
pub(super) enum Canaries<'r> {
    /// Those with these labels.
    Labels(&'r Labels),
    /// These.
    Chosen(HashSet<&'r str>),
}

impl<'r> Canaries<'r> {
    /// `None` where a number of nodes comes first, whichever they are.
    pub(super) fn of(canary: &'r Canary, rolling: &'r RollingStatus) -> Option<Self> {
        if canary.coverage.is_some() {
            return Some(Self::Chosen(rolling.canaries.iter().map(String::as_str).collect()));
        }
        Some(&canary.node_selector).filter(|labels| !labels.is_empty()).map(Self::Labels)
    }

    pub(super) fn has(&self, node: &NodeState) -> bool {
        match self {
            Self::Labels(labels) => node.labels.match_all(labels),
            Self::Chosen(nodes) => nodes.contains(node.name.as_str()),
        }
    }
}

/// Whether the canary nodes have run for long enough.
pub(super) enum Soak {
    /// Not before then.
    Until(Timestamp),
    /// That does not tell whether the rollout may go on: a person has to say it.
    Refused(String),
    /// They have.
    Over,
}

impl Rollout<'_> {
    /// Chooses the canary nodes that are to try every class, and others where one of them cannot be taken any more.
    pub(super) fn choose_canaries(&self, index: &Index<'_>, rolling: &mut RollingStatus) {
        let canary =
            self.options().canary.as_ref().filter(|_| rolling.step == 0 && rolling.step_left.is_some());
        let Some(coverage) = canary.and_then(|canary| canary.coverage.as_ref()) else { return };
        let in_work: HashSet<&str> = rolling.in_work().collect();
        let left_out: HashSet<&str> = rolling.left_out(&self.record.spec.skip).collect();
        let is_tried = |node: &str| in_work.contains(node) || index.standings.is_done(node);
        let is_free = |node: &str| index.standings.is_to_do(node) && !left_out.contains(node);
        let is_lost = |node: &str| {
            !is_tried(node) && (!is_free(node) || self.stays_with_its_gang(index, rolling, node, is_free))
        };
        // When a step has ended, no other node takes the place of one that is lost.
        let ended = rolling.step_ended_at.is_some();
        if ended || (!rolling.canaries.is_empty() && !rolling.canaries.iter().any(|node| is_lost(node))) {
            return;
        }
        let mut chosen: Vec<String> =
            rolling.canaries.iter().filter(|node| is_tried(node)).cloned().collect();
        let (choice, candidates) = self.choice(index, rolling, coverage);
        let taken = choice.candidates.iter().filter_map(|at| candidates.get(*at)).flatten();
        for node in taken {
            if !chosen.contains(&node.name) {
                chosen.push(node.name.clone());
            }
            if stored(&chosen) > CANARIES {
                chosen.pop();
                break;
            }
        }
        rolling.canaries = chosen;
    }

    /// Whether a node is not taken for the sake of a gang on it, as far as that is known.
    fn stays_with_its_gang(
        &self,
        index: &Index<'_>,
        rolling: &RollingStatus,
        node: &str,
        is_free: impl Fn(&str) -> bool,
    ) -> bool {
        if !self.minds_gangs(index) || !is_drained(index, node) {
            return false;
        }
        let unit = index.gangs.unit(node, |other| is_free(other) && is_drained(index, other));
        let limit = usize::try_from(rolling.max_unavailable).unwrap_or_default();
        stays(&index.gangs, &unit, self.options(), limit)
    }

    fn choice<'f>(
        &self,
        index: &'f Index<'f>,
        rolling: &RollingStatus,
        coverage: &Coverage,
    ) -> (Choice, Vec<Vec<&'f NodeState>>) {
        let free: Vec<&NodeState> = self.free(index, rolling).collect();
        let names: HashSet<&str> = free.iter().map(|node| node.name.as_str()).collect();
        let in_work: HashSet<&str> = rolling.in_work().collect();
        let trial = |name: &str, is_done| match () {
            () if is_done || in_work.contains(name) => Trial::Tried,
            () if names.contains(name) => Trial::Free,
            () => Trial::LeftOut,
        };
        let concerned = index.standings.concerned();
        let nodes = concerned.filter_map(|(name, done)| Some((index.fleet.node(name)?, trial(name, done))));
        let limit = usize::try_from(rolling.max_unavailable).unwrap_or_default();
        let drained = |node: &str| is_drained(index, node);
        let candidates = candidates(&index.gangs, drained, self.options(), limit, &free);
        (choose(coverage, nodes, &candidates, CHOSEN), candidates)
    }

    /// Which classes could not be tried, in a clause.
    pub(super) fn not_tried(
        &self,
        index: &Index<'_>,
        canary: &Canary,
        rolling: &RollingStatus,
    ) -> Option<String> {
        let (choice, _) = self.choice(index, rolling, canary.coverage.as_ref()?);
        let open = choice.missing;
        (!open.is_empty()).then(|| format!("not tried: {}", first_of(open.iter(), NAMED)))
    }

    /// Whether the pods of every node that is done have been ready for so long after the canary had ended.
    pub(super) fn soaked(
        &self,
        index: &Index<'_>,
        canary: &Canary,
        ended: Timestamp,
        rolling: &RollingStatus,
    ) -> Soak {
        let over = after(ended, canary.soak_seconds);
        if self.now < over {
            return Soak::Until(over);
        }
        if rolling.step_done == 0 {
            return Soak::Refused("nothing has been tried".to_owned());
        }
        if let Some(untried) = self.not_tried(index, canary, rolling) {
            return Soak::Refused(untried);
        }
        let done = index.standings.concerned().filter(|(_, done)| *done).map(|(node, _)| node);
        let mut latest = ended;
        for (_, pod) in done.flat_map(|node| index.pods(node)) {
            let Some(since) = pod.ready_since.filter(|_| !pod.is_deleting()) else {
                return Soak::Refused(format!(
                    "pod {}/{} on node {} is not ready after the soak",
                    pod.namespace, pod.name, pod.node
                ));
            };
            latest = latest.max(since.min(self.now));
        }
        let over = after(latest, canary.soak_seconds);
        if self.now < over { Soak::Until(over) } else { Soak::Over }
    }
}

/// What can be taken of these nodes: each of them, or all nodes of a gang together that are `drained`.
pub fn candidates<'f>(
    gangs: &KnownGangs,
    drained: impl Fn(&str) -> bool,
    options: &RollingUpdate,
    limit: usize,
    free: &[&'f NodeState],
) -> Vec<Vec<&'f NodeState>> {
    if !options.minds_gangs() || gangs.is_empty() {
        return free.iter().map(|node| vec![*node]).collect();
    }
    let by_name: BTreeMap<&str, &NodeState> = free.iter().map(|node| (node.name.as_str(), *node)).collect();
    let mut placed: HashSet<String> = HashSet::new();
    let mut all = Vec::new();
    for node in free {
        if placed.contains(&node.name) {
            continue;
        }
        let counts = |other: &str| by_name.contains_key(other) && drained(other) && !placed.contains(other);
        let unit = match drained(&node.name) {
            true => gangs.unit(&node.name, counts),
            false => BTreeSet::from([node.name.clone()]),
        };
        if stays(gangs, &unit, options, limit) {
            placed.extend(unit);
        } else if options.gangs.too_big == TooBig::Split && unit.len() > limit {
            all.push(vec![*node]);
        } else {
            all.push(unit.iter().filter_map(|name| by_name.get(name.as_str()).copied()).collect());
            placed.extend(unit);
        }
    }
    all
}

/// Whether nodes that are taken together are not taken at all: they are too many, or a gang on them would not survive
/// it.
fn stays(gangs: &KnownGangs, unit: &BTreeSet<String>, options: &RollingUpdate, limit: usize) -> bool {
    let too_big = options.gangs.too_big == TooBig::Wait && unit.len() > limit.max(1);
    let waits = options.gangs.no_restart_left == NoRestartLeft::Wait;
    too_big || (waits && gangs.spent(unit.iter().map(String::as_str)).is_some())
}
