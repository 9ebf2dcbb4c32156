//! Before its first step an upgrade waits for a window: until then nothing is touched.

use super::{Verdict, next_of, windows};
use crate::plan::Decision;
use crate::plan::step_context::StepContext;
use crate::record::{Phase, WaitReason};

impl StepContext<'_> {
    /// What is waited for, while the upgrade may not begin. This has no deadline: it says until when it lasts.
    pub(in crate::plan) fn waits_to_begin(&self) -> Option<Decision> {
        let windows = windows(self.record, self.now)?;
        let verdict = next_of(self.record, &windows);
        let reason = wait_reason(verdict)?;
        let message = windows.in_words(verdict);
        // It is taken up, and that is told. Or the cluster could not be read for a while, and can be again.
        if self.status.phase != Phase::Running {
            return Some(Decision::Record(self.draft().go_on(&message)));
        }
        let status = self.draft().waiting(reason, &message);
        Some(Decision::Wait { status, until: verdict.opens() })
    }
}

/// What is waited for; `None`: nothing.
pub(in crate::plan) fn wait_reason(verdict: Verdict) -> Option<WaitReason> {
    match verdict {
        Verdict::Open { .. } => None,
        Verdict::Outside { .. } => Some(WaitReason::OutsideWindow),
        Verdict::WouldOutlast { .. } => Some(WaitReason::WouldOutlastWindow),
    }
}
