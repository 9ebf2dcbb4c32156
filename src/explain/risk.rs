//! What may go wrong with an upgrade, by name: whoever asks for it can accept a risk by its name, and the record says
//! so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::blueprint::Finding;

/// The risks that a plan can name. Names never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum RiskName {
    /// A tag such as `latest` may name another image tomorrow.
    MutableTag,
    /// An image reference that the kubelet may refuse.
    BadImage,
    /// A component that no release of the operator is known to deploy.
    UnknownComponent,
    /// A field that no release of the operator is known to read.
    UnknownField,
    /// A character that looks like another.
    Lookalike,
    /// A version of the gr's API that is not known here.
    UnknownApiVersion,
    /// The blueprint deploys nothing, or no node has the labels that a component asks for.
    NothingRuns,
    /// Two device plugins offer the same GCUs.
    TwoDevicePlugins,
    /// The blueprint says what is there already.
    NothingChanged,
    /// Another finding about the blueprint.
    Blueprint,
    /// Versions around the service that do not fit each other.
    VersionSkew,
    /// The gr is of another operator than the blueprint.
    OtherOperator,
    /// A RollingUpdate of these components is refused.
    Refused,
    /// DaemonSets that belong to the gr, and to no component known.
    UnmanagedDaemonSet,
    /// The operator writes its own update strategy: the keeper is needed.
    StrategyNotKept,
    /// A component comes or goes on all nodes at once.
    AllNodesAtOnce,
    /// Whether anything restarts is for the operator to say.
    UnknownEffect,
    /// Deployments roll by themselves.
    DeploymentsRoll,
    /// Pods lose their GCU without having been evicted.
    GcuLost,
    /// Pods have to leave and cannot be evicted: their nodes wait.
    PodsStay,
    /// A disruption budget does not let pods go now.
    BudgetBlocks,
    /// Nodes keep the old version.
    NodesLeftOut,
    /// A gang is on more nodes than may be in work at once.
    GangTooBig,
    /// A gang would not survive another restart.
    GangOutOfRestarts,
    /// The canary does not try every class of nodes.
    CoverageGap,
    /// Fewer nodes are in work at once than asked for.
    WindowCapped,
    /// Which disruption budgets would block is not known.
    BudgetsUnreadable,
}

/// A risk of one upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Risk {
    /// Its name.
    pub name: RiskName,
    /// What may go wrong, in a sentence.
    pub message: String,
    /// Whoever asks has accepted it.
    pub accepted: bool,
}

impl Risk {
    /// One that nobody has accepted.
    pub fn new(name: RiskName, message: impl Into<String>) -> Self {
        Self { name, message: message.into(), accepted: false }
    }

    /// The same about a blueprint that nobody has written as a file: a place in it would help nobody.
    pub fn of_finding_without_place(finding: &Finding) -> Self {
        Self { message: finding.without_place(), ..Self::of_finding(finding) }
    }

    /// What a warning about a blueprint comes to.
    pub fn of_finding(finding: &Finding) -> Self {
        let name = match finding.code {
            "mutable-tag" => RiskName::MutableTag,
            "bad-image" => RiskName::BadImage,
            "unknown-component" => RiskName::UnknownComponent,
            "unknown-field" => RiskName::UnknownField,
            "lookalike" => RiskName::Lookalike,
            "unknown-api-version" => RiskName::UnknownApiVersion,
            "nothing-deployed" => RiskName::NothingRuns,
            "two-device-plugins" => RiskName::TwoDevicePlugins,
            "nothing-changed" => RiskName::NothingChanged,
            _ => RiskName::Blueprint,
        };
        Self::new(name, finding.to_string())
    }
}

/// The sentences alone.
pub fn messages(risks: &[Risk]) -> Vec<String> {
    risks.iter().map(|risk| risk.message.clone()).collect()
}
