//! How the pods of one gang are treated: pods on several nodes that are restarted together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How gangs are treated. A framework that trains on several nodes restarts all pods of a job when one of them is
/// evicted, and gives a job up that was restarted too often: all nodes of a gang are emptied together, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Gangs {
    /// All nodes of a gang are taken together.
    pub enabled: bool,
    /// What happens to a gang on more nodes than `maxUnavailable`.
    pub too_big: TooBig,
    /// What happens to a gang that would not survive another restart.
    pub no_restart_left: NoRestartLeft,
    /// Further label keys whose value names a gang, beside those of the frameworks known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(max = 317)), length(max = 16))]
    pub keys: Vec<String>,
}

impl Default for Gangs {
    fn default() -> Self {
        Self {
            enabled: true,
            too_big: TooBig::default(),
            no_restart_left: NoRestartLeft::default(),
            keys: Vec::new(),
        }
    }
}

/// What happens to a gang on more nodes than `maxUnavailable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TooBig {
    /// Its nodes wait until it has ended, or is on fewer nodes; when no other node is left, the upgrade is held.
    #[default]
    Wait,
    /// Its nodes are taken one by one: it is restarted several times.
    Split,
    /// All its nodes are taken together, though these are more than `maxUnavailable`.
    Exceed,
}

/// What happens to a gang that would not survive another restart: its framework would give it up. That is known of the
/// jobs of Volcano, by their `maxRetry` and `retryCount`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoRestartLeft {
    /// Its nodes wait until it has ended; when no other node is left, the upgrade is held.
    #[default]
    Wait,
    /// Its nodes are taken like others, and it ends.
    Restart,
}
