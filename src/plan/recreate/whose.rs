//! Whose gr, and whose pod, it is that stands there.

use crate::gr::{self, LiveGr};
use crate::plan::PodState;
use crate::plan::turn::Turn;
use crate::record::Goal;

/// Whose gr it is that stands there.
pub(super) enum Whose {
    /// The one that is to go: its UID is recorded.
    Leaving,
    /// Made by this record for the present goal.
    Ours,
    /// Made by this record for the target, while the goal is the previous version.
    Abandoned,
    /// Somebody else's, which asks for the very stack that we want.
    Same,
    /// Somebody else's.
    Stranger,
}

impl Turn<'_> {
    pub(super) fn whose(&self, gr: &LiveGr) -> Whose {
        let wanted = self.record.manifest_for(self.status.goal);
        if gr.mark.as_deref() == Some(self.record.mark(self.status.goal).as_str()) {
            Whose::Ours
        } else if self.status.deleting_uid.as_ref() == Some(&gr.uid) {
            Whose::Leaving
        } else if self.status.goal == Goal::Previous && self.is_made_for_target(gr) {
            Whose::Abandoned
        } else if wanted.is_some_and(|m| gr::same_spec(&gr.manifest, m)) {
            Whose::Same
        } else {
            Whose::Stranger
        }
    }

    pub(super) fn is_made_for_target(&self, gr: &LiveGr) -> bool {
        self.status.created_uid.as_ref() == Some(&gr.uid)
            || gr.mark.as_deref() == Some(self.record.mark(Goal::Target).as_str())
    }

    /// Going back, and the gr from before the upgrade stands there unharmed.
    pub(super) fn is_previous(&self, gr: &LiveGr) -> bool {
        let previous = self.record.spec.previous.as_ref();
        self.status.goal == Goal::Previous && !gr.deleting && previous.is_some_and(|p| p.uid == gr.uid)
    }

    pub(super) fn is_leaving(&self, pod: &PodState) -> bool {
        self.status.workloads.iter().any(|w| w.namespace == pod.namespace && w.name == pod.workload)
    }

    /// A kubelet that is away ends no pod and starts none: when it comes back it ends the old one first.
    pub(super) fn is_on_dead_node(&self, pod: &PodState) -> bool {
        pod.node.as_ref().is_some_and(|n| self.seen.dead_nodes.contains(n))
    }
}
