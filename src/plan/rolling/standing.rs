//! How every node stands: what is to be done on it, and whether that may begin. It is kept between decisions, which
//! work out anew only what has changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::sets::Sets;
use crate::plan::fleet::{DaemonPod, Fleet, NodeState};
use crate::record::rolling::{Labels, Order, RollingUpdate};

/// The nodes of which something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Any may have.
    All,
    /// These.
    Some(BTreeSet<String>),
}

impl Default for Touched {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

/// What the standing of every node depends on beside the node itself.
#[derive(Clone, Debug, PartialEq)]
struct Terms {
    sets: Vec<SetTerms>,
    selector: Labels,
    own: Option<String>,
    /// The label by whose values nodes come one group after the other.
    topology: Option<String>,
    /// For the order of nodes; `None` where it is by name.
    busy: Option<Arc<BTreeMap<String, usize>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SetTerms {
    uid: Option<String>,
    /// Pods of another hash are outdated; `None`: none is.
    hash: Option<String>,
    /// Its pods are replaced, outdated or not.
    begins: bool,
}

/// What is to be done on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// The positions of the DaemonSets with outdated pods on it, in order.
    outdated: Vec<usize>,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// The rollout does not concern it.
    #[default]
    Elsewhere,
    /// Nothing is left to do.
    Done,
    /// Work may begin, but for what the record says.
    ToDo(Place),
    /// It is cordoned, claimed, not ready, or has opted out.
    LeftOut,
}

/// The place of a node in the order in which nodes are taken: the one that this service runs on comes last.
pub(super) type Place = (bool, Group, usize, Arc<str>);

/// By which nodes come one group after the other: those without a value come last. The same for all where no order of
/// groups is asked for.
pub(super) type Group = (bool, Option<Arc<str>>);

/// How every node stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standings {
    terms: Option<Terms>,
    nodes: HashMap<Arc<str>, Standing>,
    /// By the position of a DaemonSet: on how many nodes it has outdated pods.
    outdated: Vec<usize>,
    first: usize,
    done: usize,
    to_do: BTreeSet<Place>,
    left_out: BTreeSet<Arc<str>>,
}

impl Standings {
    /// Takes into account what has changed since the last time. Whether every node was looked at for that.
    pub(in crate::plan) fn update(
        &mut self,
        fleet: &Fleet,
        sets: &Sets<'_>,
        options: &RollingUpdate,
        touched: &Touched,
    ) -> bool {
        let terms = Terms::of(fleet, sets, options);
        let Touched::Some(touched) = touched else { return self.work_out(fleet, terms) };
        if self.terms.as_ref() != Some(&terms) {
            return self.work_out(fleet, terms);
        }
        for name in touched {
            let pods = fleet.pods.on(name);
            self.put(name, terms.standing(fleet.node(name), pods, terms.outdated(pods), self.first));
        }
        // What comes after the first DaemonSet concerned is replaced, too.
        if terms.first(&self.outdated) == self.first { false } else { self.work_out(fleet, terms) }
    }

    /// Looks at every node.
    fn work_out(&mut self, fleet: &Fleet, terms: Terms) -> bool {
        *self = Self { outdated: vec![0; terms.sets.len()], ..Self::default() };
        let nodes = fleet.by_node();
        let all: Vec<_> = nodes.map(|(name, node, pods)| (name, node, pods, terms.outdated(pods))).collect();
        for (.., outdated) in &all {
            outdated.iter().for_each(|position| add(&mut self.outdated, *position, 1));
        }
        self.first = terms.first(&self.outdated);
        self.outdated.fill(0);
        for (name, node, pods, outdated) in all {
            self.put(name, terms.standing(node, pods, outdated, self.first));
        }
        self.terms = Some(terms);
        true
    }

    fn put(&mut self, name: &str, standing: Standing) {
        let known = self.nodes.get_key_value(name);
        if known.is_some_and(|(_, known)| *known == standing) {
            return;
        }
        if let Some((name, before)) = self.nodes.remove_entry(name) {
            before.outdated.iter().for_each(|set| add(&mut self.outdated, *set, -1));
            match before.state {
                State::Elsewhere => {}
                State::Done => self.done = self.done.saturating_sub(1),
                State::ToDo(place) => drop(self.to_do.remove(&place)),
                State::LeftOut => drop(self.left_out.remove(&name)),
            }
        }
        if standing == Standing::default() {
            return;
        }
        standing.outdated.iter().for_each(|set| add(&mut self.outdated, *set, 1));
        let name: Arc<str> = name.into();
        match &standing.state {
            State::Elsewhere => {}
            State::Done => self.done = self.done.saturating_add(1),
            State::ToDo(place) => drop(self.to_do.insert(place.clone())),
            State::LeftOut => drop(self.left_out.insert(name.clone())),
        }
        self.nodes.insert(name, standing);
    }

    /// The position of the first DaemonSet whose pods are replaced.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// The first DaemonSet, in order, with an outdated pod on this node.
    pub(super) fn first_outdated(&self, node: &str) -> Option<usize> {
        self.nodes.get(node)?.outdated.first().copied()
    }

    /// Whether a DaemonSet has outdated pods on this node.
    pub(super) fn is_outdated_on(&self, set: usize, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|standing| standing.outdated.contains(&set))
    }

    /// On how many nodes a DaemonSet has outdated pods.
    pub(super) fn outdated_nodes(&self, set: usize) -> usize {
        self.outdated.get(set).copied().unwrap_or_default()
    }

    /// Nodes with outdated pods.
    pub(super) fn outdated(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, standing)| !standing.outdated.is_empty()).map(|(name, _)| name.as_ref())
    }

    /// Nodes on which work may begin, but for what the record says, in the order in which they are taken.
    pub(super) fn to_do(&self) -> impl Iterator<Item = &str> {
        self.to_do.iter().map(|(.., name)| name.as_ref())
    }

    /// How many nodes have nothing left to do, may be taken, and are left out as they are, without these ones.
    pub(super) fn counts_without<'n>(&self, nodes: impl IntoIterator<Item = &'n str>) -> Counts {
        let (mut done, mut to_do, mut left_out) = (self.done, self.to_do.len(), self.left_out.len());
        for node in nodes {
            match self.nodes.get(node).map(|standing| &standing.state) {
                Some(State::Done) => done = done.saturating_sub(1),
                Some(State::ToDo(_)) => to_do = to_do.saturating_sub(1),
                Some(State::LeftOut) => left_out = left_out.saturating_sub(1),
                Some(State::Elsewhere) | None => {}
            }
        }
        Counts { done, to_do, left_out }
    }

    /// The nodes that the rollout concerns, with whether nothing is left to do on them.
    pub(super) fn concerned(&self) -> impl Iterator<Item = (&str, bool)> {
        let concerned = self.nodes.iter().filter(|(_, standing)| standing.state != State::Elsewhere);
        concerned.map(|(name, standing)| (name.as_ref(), standing.state == State::Done))
    }

    /// Whether nothing is left to do on this node.
    pub(super) fn is_done(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|standing| standing.state == State::Done)
    }

    /// Whether work may begin on this node, but for what the record says.
    pub(super) fn is_to_do(&self, node: &str) -> bool {
        matches!(self.nodes.get(node), Some(Standing { state: State::ToDo(_), .. }))
    }
}

/// Of the nodes that a rollout concerns.
pub(super) struct Counts {
    /// Nothing is left to do on them.
    pub(super) done: usize,
    /// Work may begin, but for what the record says.
    pub(super) to_do: usize,
    /// Left out for what they are.
    pub(super) left_out: usize,
}

impl Terms {
    fn of(fleet: &Fleet, sets: &Sets<'_>, options: &RollingUpdate) -> Self {
        let of_set = |position: usize| {
            let (scoped, state) = sets.get(position)?;
            Some(SetTerms {
                uid: state.map(|s| s.uid.clone()),
                hash: sets.hash(position).cloned(),
                begins: scoped.changed || scoped.unfinished,
            })
        };
        Self {
            sets: (0..sets.len()).filter_map(of_set).collect(),
            selector: options.node_selector.clone(),
            own: fleet.own_node.clone(),
            topology: options.topology().map(str::to_owned),
            busy: fleet.busy.clone().filter(|_| options.order != Order::Name),
        }
    }

    /// The position of the DaemonSet that a pod belongs to: there are few of them.
    fn position(&self, pod: &DaemonPod) -> Option<usize> {
        self.sets.iter().position(|set| set.uid.as_ref().is_some_and(|uid| pod.is_of(uid)))
    }

    fn first(&self, outdated: &[usize]) -> usize {
        let begins = self.sets.iter().position(|set| set.begins);
        let outdated = outdated.iter().position(|nodes| *nodes > 0);
        begins.into_iter().chain(outdated).min().unwrap_or(self.sets.len())
    }

    fn is_outdated(&self, position: usize, pod: &DaemonPod) -> bool {
        let hash = self.sets.get(position).and_then(|set| set.hash.as_ref());
        hash.is_some_and(|hash| !pod.is_from(hash))
    }

    /// The DaemonSets of which one of these pods is outdated.
    fn outdated(&self, pods: &[Arc<DaemonPod>]) -> Vec<usize> {
        let placed = pods.iter().filter_map(|pod| Some((self.position(pod)?, pod)));
        let mut outdated: Vec<usize> = placed
            .filter(|(position, pod)| self.is_outdated(*position, pod))
            .map(|(position, _)| position)
            .collect();
        outdated.sort_unstable();
        outdated.dedup();
        outdated
    }

    /// How a node with these pods stands, if there is such a node.
    fn standing(
        &self,
        node: Option<&NodeState>,
        pods: &[Arc<DaemonPod>],
        outdated: Vec<usize>,
        first: usize,
    ) -> Standing {
        let concerns = |pod: &Arc<DaemonPod>| self.position(pod).is_some_and(|set| set >= first);
        let node = node.filter(|node| node.labels.match_all(&self.selector));
        let state = match node.filter(|_| pods.iter().any(concerns)) {
            None => State::Elsewhere,
            Some(_) if outdated.is_empty() => State::Done,
            Some(node) if is_left_out(node) => State::LeftOut,
            Some(node) => State::ToDo(self.place(node)),
        };
        Standing { outdated, state }
    }

    fn place(&self, node: &NodeState) -> Place {
        place(node, self.own.as_deref(), self.topology.as_deref(), self.busy.as_deref())
    }
}

/// Where a node comes in the order in which nodes are taken.
pub(super) fn place(
    node: &NodeState,
    own: Option<&str>,
    topology: Option<&str>,
    busy: Option<&BTreeMap<String, usize>>,
) -> Place {
    let value = topology.and_then(|key| node.labels.get(key));
    let group = (topology.is_some() && value.is_none(), value.map(Into::into));
    let leaving = busy.and_then(|busy| busy.get(&node.name)).copied().unwrap_or_default();
    (own == Some(node.name.as_str()), group, leaving, node.name.as_str().into())
}

/// Whether no work may begin on a node for what it is itself.
fn is_left_out(node: &NodeState) -> bool {
    node.opted_out || node.mark.is_some() || node.cordoned || !node.ready
}

fn add(counts: &mut [usize], position: usize, by: isize) {
    if let Some(count) = counts.get_mut(position) {
        *count = count.saturating_add_signed(by);
    }
}
