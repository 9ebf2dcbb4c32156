//! The nodes that are in work no more: left out, or done.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rolling::ClaimedPod;

/// A node that was released untouched and left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedNode {
    /// Name of the node that was left out.
    pub node: String,
    /// Why it was left out, in a sentence.
    pub reason: String,
    /// The `spec.nodeAttempts` of this node at that time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A node that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoneNode {
    /// Name of the node that was done.
    pub node: String,
    /// When work on it started.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// When it was done.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The pods that were replaced.
    pub pods: Vec<ClaimedPod>,
}
