//! The fleet, sorted by node for one decision.

use std::collections::HashSet;
use std::sync::Arc;

use super::sets::Sets;
use super::standing::{Standings, Touched};
use crate::plan::fleet::{DaemonPod, Fleet, NodeState, Tenant};
use crate::plan::gangs::KnownGangs;
use crate::plan::impact::{Impact, ScopedSet};
use crate::record::GcuUpgradeSpec;
use crate::record::rolling::{RollingStatus, RollingUpdate};
use crate::record::size::{Reserved, Room};

/// Pods by node, and the DaemonSets in the order in which they are swapped.
pub struct Index<'a> {
    /// The fleet itself.
    pub fleet: &'a Fleet,
    /// The DaemonSets concerned, in order.
    pub sets: Sets<'a>,
    /// The position of the first DaemonSet whose pods are replaced.
    pub first: usize,
    /// The gangs of users' pods, as far as they are known.
    pub gangs: Arc<KnownGangs>,
    /// How every node stands.
    pub(super) standings: Arc<Standings>,
}

impl<'a> Index<'a> {
    /// Sorts the fleet. Nodes are concerned by the first DaemonSet, in order, that changes or has outdated pods, and
    /// by all after it. Pods belong to the DaemonSet that controls them.
    pub fn of(fleet: &'a Fleet, scope: &'a [ScopedSet], options: &RollingUpdate) -> Self {
        let sets = Sets::of(fleet, scope, HashSet::new());
        let mut standings = Standings::default();
        standings.update(fleet, &sets, options, &Touched::All);
        Self::with(fleet, sets, Arc::new(standings))
    }

    /// The same, with standings that are up to date.
    pub(super) fn with(fleet: &'a Fleet, sets: Sets<'a>, standings: Arc<Standings>) -> Self {
        Self { fleet, sets, first: standings.first(), gangs: fleet.gangs.clone(), standings }
    }

    /// The pods of the DaemonSets concerned on a node, with the position of their DaemonSet.
    pub fn pods(&self, node: &str) -> impl Iterator<Item = (usize, &'a DaemonPod)> + use<'_, 'a> {
        self.concerned(self.fleet.pods.on(node))
    }

    /// Of these pods those of the DaemonSets concerned.
    fn concerned<'p>(
        &self,
        pods: &'p [Arc<DaemonPod>],
    ) -> impl Iterator<Item = (usize, &'p DaemonPod)> + use<'_, 'a, 'p> {
        let placed = pods.iter().filter_map(|pod| Some((self.sets.position(pod)?, pod.as_ref())));
        placed.filter(|(set, _)| *set >= self.first)
    }

    /// The other pods on a node, where they are known.
    pub fn tenants(&self, node: &str) -> Option<&'a [Arc<Tenant>]> {
        self.fleet.tenants.get(node).map(Vec::as_slice)
    }

    /// Nodes with pods of the DaemonSets concerned.
    pub fn populated(&self) -> impl Iterator<Item = &'a NodeState> + use<'_, 'a> {
        let all = self.fleet.by_node();
        all.filter(|(.., pods)| self.concerned(pods).next().is_some()).filter_map(|(_, node, _)| node)
    }

    /// Whether a pod is of another template than its changed DaemonSet has now. `false` while that is not known.
    pub fn is_outdated(&self, set: usize, pod: &DaemonPod) -> bool {
        self.sets.hash(set).is_some_and(|hash| !pod.is_from(hash))
    }

    /// The component of a DaemonSet.
    pub fn component(&self, set: usize) -> &'a str {
        self.sets.get(set).map(|(scoped, _)| scoped.component.as_str()).unwrap_or_default()
    }

    /// The room that the record has for further nodes in work, whatever becomes of those that are.
    pub fn room(&self, spec: &GcuUpgradeSpec, rolling: &RollingStatus, known: &mut Reserved) -> Room {
        Room::of(spec, rolling, self.sets.iter().skip(self.first).map(|(s, _)| s.component.as_str()), known)
    }

    /// Nodes that there are, with outdated pods.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.standings.outdated().filter(|node| self.fleet.node(node).is_some())
    }

    /// Whether a DaemonSet has an outdated pod on any node that there is.
    pub fn is_left_behind(&self, uid: &str) -> bool {
        let set = self.sets.iter().position(|(_, state)| state.is_some_and(|state| state.uid == uid));
        set.is_some_and(|set| self.left_out().any(|node| self.standings.is_outdated_on(set, node)))
    }

    /// On how many nodes a DaemonSet has outdated pods.
    pub fn outdated_nodes(&self, set: usize) -> usize {
        self.standings.outdated_nodes(set)
    }

    /// What replacing the outdated pods of this node does to it, with the pods that are replaced after them.
    pub(super) fn impact_on(&self, node: &str) -> Impact {
        let first = self.first_outdated(node).unwrap_or(usize::MAX);
        self.sets.iter().skip(first).map(|(set, _)| set.impact).max().unwrap_or(Impact::None)
    }

    /// The first DaemonSet, in order, with an outdated pod on this node.
    pub fn first_outdated(&self, node: &str) -> Option<usize> {
        self.standings.first_outdated(node)
    }
}
