//! What is written on nodes and DaemonSets that an upgrade works on, and what they are asked for by.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::status::Goal;

/// What [`HOLD_ANNOTATION`] says on a held DaemonSet. The goal is part of it: holding a DaemonSet for another goal
/// writes it again, so that a release that was still on its way carries an older version and fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The gr.
    pub gr: String,
    /// The component's key.
    pub component: String,
    /// The name of the record that holds it.
    pub record: String,
    /// The UID of that record.
    pub uid: String,
    /// For which goal.
    pub goal: Goal,
    /// The admission webhook keeps it held.
    #[serde(default)]
    pub guarded: bool,
}

/// What [`NODE_ANNOTATION`] says on a node that an upgrade has cordoned: written and removed in one patch with
/// the cordon that it explains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeMark {
    /// The record's name.
    pub record: String,
    /// The record's UID.
    pub uid: String,
    /// Always `Claimed`; the record says more.
    pub state: String,
    /// The record's attempt.
    pub attempt: u32,
    /// Until when the node should be empty.
    pub deadline: Timestamp,
    /// The node was cordoned before: then it stays so.
    pub pre_cordoned: bool,
}

/// The annotation on a claimed node: see [`NodeMark`].
pub const NODE_ANNOTATION: &str = "gum.enflame.com/upgrade";
/// A node with this label set to `true` is left out of every rollout.
pub const SKIP_LABEL: &str = "gum.enflame.com/skip";
/// The annotation on a locked DaemonSet: the update strategy that it had, as JSON.
pub const LOCK_ANNOTATION: &str = "gum.enflame.com/update-strategy";
/// The label on a DaemonSet that is held at OnDelete: what selects held DaemonSets, and only those.
pub const HELD_LABEL: &str = "gum.enflame.com/held";
/// The annotation on a held DaemonSet: for which gr, component and upgrade it is held, as JSON.
pub const HOLD_ANNOTATION: &str = "gum.enflame.com/hold";
/// The annotation with which a held DaemonSet is let go of: its value is the `metadata.resourceVersion` of the object
/// that the writer has looked at, so that nobody who copies annotations forward lets go by accident.
pub const RELEASE_ANNOTATION: &str = "gum.enflame.com/release";
