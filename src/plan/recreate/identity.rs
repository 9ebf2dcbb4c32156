//! Whose gr, and whose pod, it is that stands there.

use super::Recreate;
use crate::gr::{self, LiveGr};
use crate::plan::PodState;
use crate::record::Goal;

/// Whose gr it is that stands there.
pub(super) enum GrIdentity {
    /// The one that is to go: its UID is recorded.
    Old,
    /// Made by this record for the present goal.
    Ours,
    /// Made by this record for the target, while the goal is the previous version.
    Orphaned,
    /// Somebody else's, which asks for the very stack that we want.
    Equivalent,
    /// Somebody else's.
    Foreign,
}

impl Recreate<'_> {
    pub(super) fn identify(&self, gr: &LiveGr) -> GrIdentity {
        let wanted = self.record.manifest_for(self.status.goal);
        if gr.mark.as_deref() == Some(self.record.mark(self.status.goal).as_str()) {
            GrIdentity::Ours
        } else if self.status.deleting_uid.as_ref() == Some(&gr.uid) {
            GrIdentity::Old
        } else if self.status.goal == Goal::Previous && self.is_made_for_target(gr) {
            GrIdentity::Orphaned
        } else if wanted.is_some_and(|m| gr::same_spec(&gr.manifest, m)) {
            GrIdentity::Equivalent
        } else {
            GrIdentity::Foreign
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
}
