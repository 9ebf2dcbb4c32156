//! The DaemonSets that a rollout concerns.

use std::collections::HashSet;
use std::ops::Deref;

use crate::plan::fleet::{DaemonPod, Fleet, SetState};
use crate::plan::impact::ScopedSet;

/// The DaemonSets concerned, in the order in which they are swapped, with what the cluster says of each.
pub struct Sets<'a> {
    all: Vec<(&'a ScopedSet, Option<&'a SetState>)>,
    unsettled: HashSet<String>,
}

impl<'a> Sets<'a> {
    /// `unsettled` are the UIDs of DaemonSets whose present template is not the one that is wanted: nothing is done
    /// about their pods.
    pub fn of(fleet: &'a Fleet, scope: &'a [ScopedSet], unsettled: HashSet<String>) -> Self {
        Self { all: scope.iter().map(|s| (s, fleet.set(&s.namespace, &s.name))).collect(), unsettled }
    }

    /// Whether nothing is to be done about the pods of a DaemonSet now.
    pub fn is_unsettled(&self, set: usize) -> bool {
        matches!(self.all.get(set), Some((_, Some(state))) if self.unsettled.contains(&state.uid))
    }

    /// Pods of another hash are outdated; `None`: none is, or that is not known.
    pub fn hash(&self, set: usize) -> Option<&'a String> {
        let (scoped, state) = self.all.get(set)?;
        state.filter(|_| scoped.may_be_outdated() && !self.is_unsettled(set))?.hash.as_ref()
    }

    /// The position of the DaemonSet that a pod belongs to.
    pub fn position(&self, pod: &DaemonPod) -> Option<usize> {
        self.all.iter().position(|(_, state)| state.is_some_and(|s| pod.is_of(&s.uid)))
    }
}

impl<'a> Deref for Sets<'a> {
    type Target = [(&'a ScopedSet, Option<&'a SetState>)];

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}
