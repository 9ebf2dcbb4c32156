//! The content of REST's answers, as far as it is drawn. Fields that an answer has not are as by default, and what it
//! has besides is passed over: the service may be of another version.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::Phase;
use crate::record::rolling::NodeCounts;

/// Reads an answer's content.
///
/// # Errors
/// A field that is of another type than it has here.
pub fn read<T: DeserializeOwned>(content: &impl Serialize) -> Result<T, String> {
    serde_json::to_value(content).and_then(serde_json::from_value).map_err(|e| e.to_string())
}

/// Nothing will change any more of what is in this phase. One that is not known is of a newer service.
pub fn is_final(phase: &str) -> bool {
    Phase::deserialize(StrDeserializer::<Error>::new(phase)).is_ok_and(Phase::is_final)
}

/// An upgrade, in a list or by itself; a revision of a history.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upgrade {
    /// The record.
    pub name: String,
    /// The gr.
    pub gr: String,
    /// Upgrade, Rollback or Retry.
    pub operation: String,
    /// Recreate or RollingUpdate.
    pub strategy: String,
    /// The upgrade as a whole.
    pub phase: String,
    /// What is being done.
    pub step: String,
    /// The last thing worth knowing.
    pub message: String,
    /// What changes, in a few words.
    pub change: Option<String>,
    /// Which version is being brought about.
    pub goal: String,
    /// What is wanted of it.
    pub intent: String,
    /// Why it turned back.
    pub cause: Option<String>,
    /// The blueprint.
    pub blueprint: Option<String>,
    /// Why, in the words of who asked.
    pub reason: Option<String>,
    /// Who asked.
    pub requested_by: Option<String>,
    /// Risks that whoever asked has accepted.
    pub accepted: Vec<String>,
    /// When it was asked for.
    pub requested_at: Option<Timestamp>,
    /// When it was taken up.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Nodes by state.
    pub nodes: Option<NodeCounts>,
    /// The worst of what is waited for.
    pub waiting_on: Option<Waiting>,
    /// Window without our delays, divided by the time taken.
    pub efficiency: Option<f64>,
    /// When all nodes should be done, if they take as long as the fastest so far.
    pub estimated_end_earliest: Option<Timestamp>,
    /// The same by the slowest.
    pub estimated_end_latest: Option<Timestamp>,
    /// The controller has taken the last change of the request into account.
    pub acknowledged: Option<bool>,
    /// How far a rollout is.
    pub rolling: Option<Rolling>,
    /// How it proceeds.
    pub rolling_update: Option<Value>,
    /// What happened.
    pub timeline: Vec<Entry>,
    /// The number of the revision.
    pub revision: Option<u64>,
    /// The revision runs.
    pub current: bool,
    /// The service cannot read the record.
    pub unreadable: bool,
}

impl Upgrade {
    /// Nothing will change any more.
    pub fn is_final(&self) -> bool {
        is_final(&self.phase)
    }
}

/// What is waited for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Until when.
    pub until: Option<Timestamp>,
}

/// How far a rollout is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rolling {
    /// The step, from 0.
    pub step: u32,
    /// The nodes in work.
    pub active: Vec<Claim>,
    /// Nodes that were given up.
    pub skipped: Vec<LeftOut>,
}

/// A node in work.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Its name.
    pub node: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// How far.
    pub state: String,
    /// Until when.
    pub deadline: Option<Timestamp>,
    /// What is wrong.
    pub trouble: Option<Trouble>,
    /// The pods that are replaced, as older versions name them.
    pub pods: Vec<ClaimedPod>,
    /// The pods that are replaced, by component: `end of the name`-`when it was created`.
    pub replaces: BTreeMap<String, String>,
}

impl Claim {
    /// Whether a pod is one of those that are replaced.
    pub(super) fn is_to_replace(&self, component: &str, pod: &Pod) -> bool {
        let ends = self.replaces.get(component).into_iter().flat_map(|all| all.split(' '));
        let is_it = |one: &str| one.rsplit_once('-').is_some_and(|(end, _)| pod.pod.ends_with(end));
        self.pods.iter().any(|known| known.name == pod.pod) || ends.into_iter().any(is_it)
    }
}

/// A pod that is replaced.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClaimedPod {
    /// Its name.
    pub name: String,
}

/// What is wrong with a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Trouble {
    /// Settling, Failed or Late.
    pub kind: String,
    /// In a sentence.
    pub message: String,
}

/// An event in the course of an upgrade.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// When.
    pub at: Option<Timestamp>,
    /// During which step.
    pub step: String,
    /// What.
    pub message: String,
}

/// Why an upgrade is not progressing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Why {
    /// The record.
    pub name: Option<String>,
    /// In one sentence.
    pub message: String,
    /// The nodes in work.
    pub nodes: Vec<Stuck>,
    /// The nodes that are left out.
    pub skipped: Vec<LeftOut>,
    /// The nodes that wait for a maintenance window.
    #[serde(rename = "outsideWindow")]
    pub outside_window: Vec<Outside>,
    /// What a person should look at, worst first.
    pub attention: Vec<Attention>,
}

impl Why {
    /// What the record alone knows of the nodes in work.
    pub fn of_record(rolling: &Rolling) -> Self {
        let stuck = |claim: &Claim| {
            let Trouble { kind, message } = claim.trouble.clone().unwrap_or_default();
            Stuck {
                node: claim.node.clone(),
                stage: claim.state.clone(),
                message: if message.is_empty() { state(&claim.state).to_owned() } else { message },
                since: claim.since,
                trouble: Some(kind).filter(|k| !k.is_empty()),
                until: claim.deadline,
                then: String::new(),
            }
        };
        let nodes = rolling.active.iter().map(stuck).collect();
        Self { nodes, skipped: rolling.skipped.clone(), ..Self::default() }
    }
}

/// What the record knows of a node without trouble.
fn state(state: &str) -> &'static str {
    match state {
        "Emptying" => "being emptied",
        "Swapping" => "its pods are being replaced",
        "Returning" => "being released untouched",
        _ => "in work",
    }
}

/// A node in work, looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Stuck {
    /// Its name.
    pub node: String,
    /// What it is doing.
    pub stage: String,
    /// What it waits for.
    pub message: String,
    /// Since when it is in work.
    pub since: Option<Timestamp>,
    /// Settling, Failed or Late.
    pub trouble: Option<String>,
    /// Until when.
    pub until: Option<Timestamp>,
    /// What happens then.
    pub then: String,
}

/// A node that is left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LeftOut {
    /// Its name.
    pub node: String,
    /// Why.
    pub reason: String,
}

/// A node that waits for a maintenance window.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Outside {
    /// Its name.
    pub node: String,
    /// What it waits for.
    pub message: String,
}

/// What a person should look at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attention {
    /// Since when.
    pub since: Option<Timestamp>,
    /// What it is about.
    pub about: String,
    /// What it does to the upgrade.
    pub effect: String,
    /// What helps: arguments of the command line.
    pub r#try: Option<String>,
}

/// The components' pods on every node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Nodes {
    /// The record that they are compared with.
    pub name: Option<String>,
    /// Node by node.
    pub nodes: Vec<Node>,
}

/// The components' pods on one node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// Its components.
    pub components: Vec<NodeComponent>,
}

/// A component's pods on a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeComponent {
    /// Its key.
    pub component: String,
    /// Old and new.
    pub pods: Vec<Pod>,
}

/// A pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Its name.
    pub pod: String,
    /// starting, ready, terminating, deleted.
    pub phase: String,
    /// new, old, or not known.
    pub version: String,
    /// Why it cannot start.
    pub failure: Option<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
}
