//! Why an upgrade stands still or has ended, as one word that programs may rely on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The reason of a hold, a pause or an end, as it stands in the record's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// At the target version.
    Succeeded,
    /// Back at the previous version.
    RolledBack,
    /// Turned back before anything was touched.
    NothingTouched,
    /// At the target version, of which the operator renders nothing.
    NothingRendered,
    /// A step took longer than it may.
    DeadlineExceeded,
    /// A pod of the stack cannot start.
    PodFailing,
    /// As many nodes as `failureThreshold` visibly do not work.
    NodesFailed,
    /// More nodes were skipped than a record can name.
    TooManySkipped,
    /// Pods were replaced on nodes that nobody had claimed.
    UncommandedRollout,
    /// DaemonSets were deleted, recreated or added during the upgrade.
    WorkloadChanged,
    /// A person paused it.
    Paused,
    /// The canaries are done, and a person has to promote.
    AwaitingPromotion,
    /// The pause after a step.
    PauseBetween,
    /// No maintenance window is open.
    OutsideWindow,
    /// The maintenance window that is open ends too soon.
    WouldOutlastWindow,
    /// Only nodes are left whose gang is on more nodes than `maxUnavailable`.
    GangTooBig,
    /// The nodes that are left have pods of gangs that would not survive another restart.
    GangOutOfRestarts,
    /// The gr is somebody else's now.
    Conflict,
    /// A person closed it.
    Closed,
    /// The request does not fit into a record.
    TooLarge,
    /// A component's workload cannot be told for certain.
    NotResolved,
    /// There is nothing harmless to try the operator with.
    OperatorUnknown,
    /// The operator does not put a change into its DaemonSets.
    OperatorDoesNotRoll,
    /// Several nodes failed in the same way.
    SameCause,
    /// The operator recreates its DaemonSets for every change.
    OperatorRecreates,
    /// The operator writes its own update strategy.
    StrategyNotKept,
    /// What another version of this service has recorded.
    #[serde(other)]
    Other,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
