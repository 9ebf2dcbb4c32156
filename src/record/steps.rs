//! In which steps a rollout proceeds, and what stops it early.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Amount;

/// The nodes that come first: so many, those with these labels, or as many as it takes to try every kind of node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Canary {
    /// A number or a percentage of the nodes concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Amount>,
    /// Nodes with these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The smallest set of nodes in which every class of nodes is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// Who lets the rollout go on after these nodes.
    #[serde(skip_serializing_if = "Promote::is_manual")]
    pub promote: Promote,
    /// With `AfterSoak`: how long the pods of these nodes have to have been ready, in seconds.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(max = 604800))]
    pub soak_seconds: u32,
}

/// Which kinds of node are to be tried first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// What tells nodes apart: `kernelVersion`, `osImage`, `containerRuntimeVersion`, `kubeletVersion`, `architecture`,
    /// or the key of a label. Nodes with the same value, and those without any, are a class.
    #[schemars(inner(length(max = 317)), length(min = 1, max = 8))]
    pub keys: Vec<String>,
    /// So many nodes of each class, or all if it has fewer.
    #[schemars(range(min = 1, max = 10))]
    pub per_class: u32,
}

/// Who lets a rollout go on after the canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Promote {
    /// A person, by `promote`.
    #[default]
    Manual,
    /// Time: the rollout goes on when the pods of every node that is done have been ready for `soak`, and waits for
    /// `promote` where one is not ready by then, or where a class of nodes could not be tried.
    AfterSoak,
}

impl Promote {
    fn is_manual(&self) -> bool {
        *self == Self::Manual
    }
}

/// Stops a rollout when several nodes fail in the same way, before `failureThreshold` does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// On so many nodes.
    #[schemars(range(min = 2, max = 10))]
    pub same_cause: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
