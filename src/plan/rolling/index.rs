//! The fleet, sorted by node once for each decision.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::plan::fleet::{DaemonPod, Fleet, SetState, Tenant};
use crate::plan::impact::ScopedSet;
use crate::record::GcuUpgradeSpec;
use crate::record::rolling::RollingStatus;
use crate::record::size::Room;

/// Pods by node, and the DaemonSets in the order in which they are swapped.
pub struct Index<'a> {
    /// The fleet itself.
    pub fleet: &'a Fleet,
    /// The DaemonSets concerned, in order, with what the cluster says of each.
    pub sets: Vec<(&'a ScopedSet, Option<&'a SetState>)>,
    /// UIDs of DaemonSets whose present template is not the one that is wanted: nothing is done about their pods.
    pub unsettled: HashSet<String>,
    /// The position of the first DaemonSet whose pods are replaced.
    pub first: usize,
    pods: HashMap<&'a str, Vec<(usize, &'a DaemonPod)>>,
}

impl<'a> Index<'a> {
    /// Sorts the fleet. Nodes are concerned by the first DaemonSet, in order, that changes or has outdated pods, and
    /// by all after it. Pods belong to the DaemonSet that controls them. `unsettled`: see there.
    pub fn of(fleet: &'a Fleet, scope: &'a [ScopedSet], unsettled: HashSet<String>) -> Self {
        let sets: Vec<_> = scope.iter().map(|s| (s, fleet.set(&s.namespace, &s.name))).collect();
        let positions: HashMap<&str, usize> = sets
            .iter()
            .enumerate()
            .filter_map(|(position, (_, state))| Some((state.as_ref()?.uid.as_str(), position)))
            .collect();
        let mut index = Self { fleet, sets, unsettled, first: 0, pods: HashMap::new() };
        let position = |pod: &DaemonPod| positions.get(pod.owner.as_str()).copied();
        let changes = index.sets.iter().position(|(s, _)| s.changed || s.unfinished);
        let outdated = fleet.pods.iter().filter_map(|pod| Some((position(pod)?, pod)));
        let outdated = outdated.filter(|(set, pod)| index.is_outdated(*set, pod)).map(|(set, _)| set).min();
        index.first = changes.into_iter().chain(outdated).min().unwrap_or(index.sets.len());
        for pod in &fleet.pods {
            if let Some(set) = position(pod).filter(|set| *set >= index.first) {
                index.pods.entry(&pod.node).or_default().push((set, pod));
            }
        }
        index
    }

    /// The pods of the DaemonSets concerned on a node, with the position of their DaemonSet.
    pub fn pods(&self, node: &str) -> &[(usize, &'a DaemonPod)] {
        self.pods.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// The other pods on a node, where they are known.
    pub fn tenants(&self, node: &str) -> Option<&'a [Arc<Tenant>]> {
        self.fleet.tenants.get(node).map(Vec::as_slice)
    }

    /// Nodes with pods of the DaemonSets concerned.
    pub fn populated(&self) -> impl Iterator<Item = &'a str> {
        self.pods.keys().copied()
    }

    /// Whether a pod is of another template than its changed DaemonSet has now. `false` while that is not known.
    pub fn is_outdated(&self, set: usize, pod: &DaemonPod) -> bool {
        let Some((scoped, Some(state))) = self.sets.get(set) else { return false };
        scoped.may_be_outdated()
            && !self.unsettled.contains(&state.uid)
            && state.hash.as_ref().is_some_and(|hash| *hash != pod.hash)
    }

    /// Whether nothing is to be done about the pods of a DaemonSet now: see [`Index::unsettled`].
    pub fn is_unsettled(&self, set: usize) -> bool {
        matches!(self.sets.get(set), Some((_, Some(state))) if self.unsettled.contains(&state.uid))
    }

    /// The component of a DaemonSet.
    pub fn component(&self, set: usize) -> &'a str {
        self.sets.get(set).map(|(scoped, _)| scoped.component.as_str()).unwrap_or_default()
    }

    /// The room that the record has for further nodes in work, whatever becomes of those that are.
    pub fn room(&self, spec: &GcuUpgradeSpec, rolling: &RollingStatus) -> Room {
        Room::of(spec, rolling, self.sets.iter().skip(self.first).map(|(s, _)| s.component.as_str()))
    }

    /// Nodes that there are, with outdated pods.
    pub fn left_out(&self) -> impl Iterator<Item = &'a str> {
        let there = self.populated().filter(|node| self.fleet.node(node).is_some());
        there.filter(|node| self.first_outdated(node).is_some())
    }

    /// Whether a DaemonSet has an outdated pod on any node that there is.
    pub fn is_left_behind(&self, uid: &str) -> bool {
        self.left_out().any(|node| {
            let is_its = |set: usize| {
                self.sets.get(set).and_then(|(_, state)| *state).is_some_and(|state| state.uid == uid)
            };
            self.pods(node).iter().any(|(set, pod)| is_its(*set) && self.is_outdated(*set, pod))
        })
    }

    /// On how many nodes a DaemonSet has outdated pods.
    pub fn outdated_nodes(&self, set: usize) -> usize {
        let has =
            |pods: &&Vec<(usize, &DaemonPod)>| pods.iter().any(|(s, p)| *s == set && self.is_outdated(*s, p));
        self.pods.values().filter(has).count()
    }

    /// The first DaemonSet, in order, with an outdated pod on this node.
    pub fn first_outdated(&self, node: &str) -> Option<usize> {
        self.pods(node).iter().filter(|(set, pod)| self.is_outdated(*set, pod)).map(|(set, _)| *set).min()
    }
}
