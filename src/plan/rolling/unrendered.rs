//! What of a change the operator does not put into its DaemonSets: a field that it does not know, or knows and does
//! not render. Nothing restarts for it, so there is nothing to wait for.
//!
//! An operator that is merely slow must not be taken for one that is done: its DaemonSets would be let go of, and its
//! change would then replace pods on nodes that nobody has cordoned. So its own word is needed, of this very version of
//! the gr; where it does not say which version it speaks of, it has to have been seen at work just before, and a while
//! has to pass. And where the image changes there is always something to wait for.

use jiff::{SignedDuration, Timestamp};

use super::Rollout;
use crate::gr::LiveGr;
use crate::plan::fleet::SetState;
use crate::plan::impact::{Certainty, Change, ChangeKind};
use crate::record::Goal;
use crate::record::rolling::{LockedSet, RollingStatus};

/// How long the operator's word has to last.
const WORD_SETTLES: SignedDuration = SignedDuration::from_secs(30);
/// How long nothing may have moved where the operator does not say of which version it speaks.
const QUIET: SignedDuration = SignedDuration::from_secs(60);

/// Whether a DaemonSet has another template than when it was held.
pub(super) fn has_moved(pin: &LockedSet, set: &SetState) -> bool {
    set.hash.as_ref().is_some_and(|hash| *hash != pin.hash)
}

impl Rollout<'_> {
    /// Whether a DaemonSet may stay as it is though its component changes.
    pub(super) fn may_stay(&self, pin: &LockedSet) -> bool {
        let is_its = |c: &&Change| c.component == pin.component && c.kind == ChangeKind::Changed;
        self.changes(Goal::Target).iter().find(is_its).is_some_and(|c| c.certainty < Certainty::Image)
    }

    /// When the operator is taken to be done with a change of which nothing has moved, if it says that it is.
    pub(super) fn taken_as_done_at(&self) -> Option<Timestamp> {
        let gr = self.seen.gr.as_ref().filter(|gr| gr.operator_says_running())?;
        let settles = if says_which(gr) {
            WORD_SETTLES
        } else {
            // It was seen to put a change into a DaemonSet, and to take it out again, a moment ago.
            self.status.rolling.as_ref().filter(|r| r.probed)?;
            QUIET
        };
        let since = self.status.step_since.max(self.seen.undisturbed_since)?;
        since.saturating_add(settles).ok()
    }

    /// The components of which the operator has rendered nothing, as a clause for people; and whether nothing at all
    /// has moved.
    pub(super) fn unrendered(&self, rolling: &RollingStatus) -> Option<(String, bool)> {
        if self.status.goal == Goal::Previous {
            return None;
        }
        let changes = self.changes(Goal::Target);
        let stays = |change: &&Change| {
            let mut pins = rolling.locked.iter().filter(|pin| pin.component == change.component).peekable();
            change.kind == ChangeKind::Changed
                && pins.peek().is_some()
                && pins.all(|pin| self.seen.fleet.locked(pin).is_some_and(|set| !has_moved(pin, set)))
        };
        let still: Vec<&Change> = changes.iter().filter(stays).collect();
        let what: Vec<String> =
            still.iter().map(|c| format!("{} ({})", c.component, c.fields.join(", "))).collect();
        let nothing = still.len() == changes.len();
        (!what.is_empty()).then(|| {
            let what = what.join(", ");
            (
                format!(
                    "the operator put nothing of this into its DaemonSets, so no pod was replaced for \
                      it: {what}"
                ),
                nothing,
            )
        })
    }
}

fn says_which(gr: &LiveGr) -> bool {
    gr.status.get("observedGeneration").is_some_and(|seen| !seen.is_null())
}
