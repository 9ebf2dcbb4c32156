//! What stands in the way of an upgrade, as it is answered.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::plan::rolling::node::Stage;
use crate::record::rolling::{SkippedNode, TroubleKind};

/// Why an upgrade is not progressing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// In one sentence.
    pub message: String,
    /// The nodes in work: those with trouble first, then by how long.
    pub nodes: Vec<Stuck>,
    /// The nodes that are left out, and why.
    pub skipped: Vec<SkippedNode>,
    /// The nodes to come for which no maintenance window is open, or none that is long enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside_window: Vec<OutsideWindow>,
    /// What a person should look at, worst first.
    pub attention: Vec<Attention>,
}

/// A node that waits for a maintenance window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OutsideWindow {
    /// The node.
    pub node: String,
    /// What it waits for.
    pub message: String,
    /// When the next window opens in which it fits; absent when none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub opens: Option<Timestamp>,
}

/// A node in work.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// The node.
    pub node: String,
    /// What it is doing.
    pub stage: Stage,
    /// What it waits for.
    pub message: String,
    /// Since when it is in work.
    pub since: Timestamp,
    /// What is known to be wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<TroubleKind>,
    /// Until when that is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What happens then.
    pub then: String,
}

impl Stuck {
    /// Whether a pod on it may not be evicted.
    pub fn keeps_a_pod(&self) -> bool {
        self.message.contains("cannot be evicted")
    }
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Attention {
    /// Since when it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What it is.
    pub about: String,
    /// What it does to the upgrade.
    pub effect: String,
    /// What helps: the arguments of `kubectl gcu-upgrade`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#try: Option<String>,
}
