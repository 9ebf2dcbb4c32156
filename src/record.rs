//! The record of an upgrade: the custom resource `GcuUpgrade`.
//!
//! One writer a field: whoever asks (the REST API, `kubectl`) writes `spec`, the controller writes `status`.
//! Doc comments on the types of the resource end up in the published CRD: they are for operators.

mod amount;
pub mod brief;
mod claim;
mod gangs;
mod limits;
pub mod maintenance;
mod marks;
mod reason;
mod request;
pub mod rolling;
pub mod size;
mod status;
mod steps;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt, ResourceExt};
use prometheus_client::encoding::EncodeLabelValue;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use maintenance::Maintenance;
use rolling::{Amount, RollingUpdate};

pub use limits::in_whole_seconds;
pub use reason::Reason;
pub use request::Request;
pub use status::*;

/// API group of the record.
pub const GROUP: &str = "gum.enflame.com";
/// Kept on a record until its upgrade has ended, so that deleting the record cannot lose the stack.
pub const FINALIZER: &str = "gum.enflame.com/upgrade";
/// Ended records kept for each gr: the revisions that can be returned to.
pub const HISTORY_LIMIT: usize = 10;
/// Grows with every change of the CRD's schema, so that an older replica never takes a newer CRD back.
pub const CRD_REVISION: u32 = 10;
/// Annotation on the CRD that carries [`CRD_REVISION`].
pub const CRD_REVISION_ANNOTATION: &str = "gum.enflame.com/crd-revision";

/// Spec is the desired upgrade: the requester writes it, through the REST API or kubectl.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gum.enflame.com",
    version = "v1",
    kind = "GcuUpgrade",
    plural = "gcuupgrades",
    shortname = "gu",
    category = "gcu",
    status = "GcuUpgradeStatus",
    derive = "PartialEq",
    doc = "GcuUpgrade is one upgrade of the GCU stack that a GcuResource (gr) describes: what was asked \
           for (`spec`), how far it is and how it ended (`status`). Create one through the REST API of \
           gcu-upgrade-manager, which pins both manifests in it. Steer it with `spec.intent`, \
           `spec.granted`, `spec.attempt` and `spec.skip`; `kubectl wait --for=condition=Finished` waits \
           for its end. The last ten that have ended are the gr's revision history.",
    printcolumn(name = "GR", json_path = ".spec.gr", type_ = "string"),
    printcolumn(name = "Operation", json_path = ".spec.operation", type_ = "string"),
    printcolumn(name = "Strategy", json_path = ".spec.strategy", type_ = "string"),
    printcolumn(name = "Phase", json_path = ".status.phase", type_ = "string"),
    printcolumn(name = "Step", json_path = ".status.step", type_ = "string"),
    printcolumn(name = "Nodes", json_path = ".status.nodesDone", type_ = "string"),
    printcolumn(name = "Waiting On", json_path = ".status.waitingOn.reason", type_ = "string"),
    printcolumn(name = "Message", json_path = ".status.message", type_ = "string", priority = 1),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct GcuUpgradeSpec {
    /// Name of the gr (GcuResource) to upgrade.
    pub gr: String,
    /// The kind of request.
    pub operation: Operation,
    /// How the change is made.
    #[serde(default)]
    pub strategy: Strategy,
    /// The version to upgrade to.
    pub target: Revision,
    /// The version before the upgrade; absent when the gr did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// The components asked for, when not all of the blueprint's: the target has the others as they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// How a RollingUpdate proceeds; absent for Recreate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
    /// Run: go for the target. Pause: take no further node. Rollback: put the previous version back, whatever
    /// was done so far. Close: end here, with the present state accepted.
    #[serde(default)]
    pub intent: Intent,
    /// Steps of a RollingUpdate that people have let begin after the first; `promote` raises it by one.
    #[serde(default)]
    pub granted: u32,
    /// Raise by one to retry the step that is held, with a fresh deadline.
    #[serde(default)]
    pub attempt: u32,
    /// Nodes that a person has taken out of this upgrade: each is released as it is and left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub skip: Vec<SkipNode>,
    /// By node: raise by one to retry a failed, late or left-out node, with a fresh deadline.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_attempts: BTreeMap<String, u32>,
    /// What to do when a component visibly cannot start. Slowness alone never rolls back.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Recreate: the number or percentage of nodes that have to fail before the upgrade is held or rolled back; below
    /// it the others go on. Absent: 10 %, at least one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<Amount>,
    /// How long each step may take before the upgrade is held.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// When nodes may be taken; absent: at any time. The way back waits for no window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Why nodes are taken outside of the windows too, in the words of the person who wants it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub override_window: Option<String>,
    /// How long it took before, in seconds, as of the request: the last nodes of this gr, or for Recreate its last
    /// upgrades. What `maintenance.fit` goes by, beside the nodes of this upgrade.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub took_before_seconds: Vec<u32>,
    /// Why, in the words of the person who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Risks that whoever asked had been told of and accepted, by the names that a plan gives them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub accepted: Vec<String>,
    /// The authenticated user who requested it; absent without authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The last command that changed this through the service, and whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steered_by: Option<Steered>,
    /// The request that began this upgrade: one that is repeated finds this record and begins no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

impl GcuUpgradeSpec {
    /// How a RollingUpdate proceeds; the defaults where nothing is said.
    pub fn rolling_options(&self) -> &RollingUpdate {
        static DEFAULTS: LazyLock<RollingUpdate> = LazyLock::new(RollingUpdate::default);
        self.rolling_update.as_ref().unwrap_or(&DEFAULTS)
    }
}

/// A node that a person has taken out of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkipNode {
    /// Name of the node to leave out.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Why, in the words of the person who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// The node stays cordoned when it is released: whoever repairs it uncordons it.
    #[serde(default)]
    pub keep_cordon: bool,
}

/// A command, and who gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Steered {
    /// pause, resume, cancel, promote, rollback, retry, close, skip or retry-node.
    pub command: String,
    /// The user's name in the cluster.
    pub by: String,
}

/// The kinds of request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operation {
    /// To a blueprint.
    #[default]
    Upgrade,
    /// Back to an earlier revision.
    Rollback,
    /// Once more to the target of a failed upgrade.
    Retry,
}

/// How the change is made.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, EncodeLabelValue,
)]
pub enum Strategy {
    /// Delete the gr, wait until it and its pods are gone, create the new one.
    #[default]
    Recreate,
    /// Change the gr in place and replace its pods node by node.
    RollingUpdate,
}

/// What is wanted of a running upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Intent {
    /// Go for the target.
    #[default]
    Run,
    /// Take no further node; those whose pods are being replaced are finished, the others released.
    Pause,
    /// Put the previous version back.
    Rollback,
    /// End here: nodes in work are released as they are, the gr stays as it is, and DaemonSets stay held while they
    /// have outdated pods.
    Close,
}

/// What to do when a component visibly cannot start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// Stop, say why, and wait for a person (or for the fault to go away).
    #[default]
    Hold,
    /// Put the previous version back.
    Rollback,
}

/// A version of the whole stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// The blueprint file that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blueprint: Option<String>,
    /// SHA-256 of that file's bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The revision that this one repeats, for a rollback or a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_revision: Option<u64>,
    /// The gr's manifest, pinned: later changes of the file change nothing here.
    #[schemars(schema_with = "any_object")]
    pub manifest: Value,
}

/// The gr that was there when the upgrade was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    /// Its UID: only this very object is ever deleted.
    pub uid: String,
    /// Its manifest, for a rollback.
    #[schemars(schema_with = "any_object")]
    pub manifest: Value,
}

/// How long each step may take, in seconds, before the upgrade is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Deadlines {
    /// From the delete until the gr and all its pods are gone.
    #[schemars(range(min = 1, max = 604800))]
    pub gone_seconds: u32,
    /// From then until the API server has accepted the new gr.
    #[schemars(range(min = 1, max = 604800))]
    pub create_seconds: u32,
    /// From the create until every component runs.
    #[schemars(range(min = 1, max = 604800))]
    pub running_seconds: u32,
    /// RollingUpdate: from the change of the gr until the operator has put it into its DaemonSets.
    #[schemars(range(min = 1, max = 604800))]
    pub propagate_seconds: u32,
    /// RollingUpdate: from the first pod that is replaced on a node until all are ready.
    #[schemars(range(min = 1, max = 604800))]
    pub node_seconds: u32,
}

impl Default for Deadlines {
    /// v1.0.0's log shows 91 s to be gone and 100 s to run for one node; images are large.
    fn default() -> Self {
        Self {
            gone_seconds: 600,
            create_seconds: 300,
            running_seconds: 1800,
            propagate_seconds: 600,
            node_seconds: 1800,
        }
    }
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

impl GcuUpgrade {
    /// The status, or that of a record which nobody has taken up yet.
    pub fn status_or_default(&self) -> GcuUpgradeStatus {
        self.status.clone().unwrap_or_default()
    }

    /// The same in place: with a thousand nodes in work it is not copied just to be read.
    pub fn known_status(&self) -> Cow<'_, GcuUpgradeStatus> {
        self.status.as_ref().map(Cow::Borrowed).unwrap_or_default()
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.status.as_ref().map(|s| s.phase).unwrap_or_default()
    }

    /// The number `n` of a record named `<gr>-<n>`; 0 for one named otherwise by hand.
    pub fn number(&self) -> u64 {
        number_of(&self.spec.gr, &self.name_any()).unwrap_or_default()
    }

    /// The manifest that the goal asks for; `None` when the way back is "no gr".
    pub fn manifest_for(&self, goal: Goal) -> Option<&Value> {
        match goal {
            Goal::Target => Some(&self.spec.target.manifest),
            Goal::Previous => self.spec.previous.as_ref().map(|p| &p.manifest),
        }
    }

    /// What [`crate::gr::MARK_ANNOTATION`] says on a gr that this record made for `goal`.
    pub fn mark(&self, goal: Goal) -> String {
        format!("{}:{}:{goal:?}", self.name_any(), self.uid().unwrap_or_default())
    }
}

/// `<gr>-<n>`: creating it is the lock, since a second request gets 409 from the API server itself.
pub fn record_name(gr: &str, number: u64) -> String {
    format!("{gr}-{number}")
}

/// The number `n` of a record of this gr that is named `<gr>-<n>`.
pub fn number_of(gr: &str, name: &str) -> Option<u64> {
    name.strip_prefix(gr)?.strip_prefix('-')?.parse().ok()
}

/// The CRD as this version publishes it.
pub fn crd() -> CustomResourceDefinition {
    // Its schema is derived from the types, which takes longer than all else that a service does when it starts.
    static CRD: LazyLock<CustomResourceDefinition> = LazyLock::new(|| {
        let mut crd = GcuUpgrade::crd();
        limits::tighten(&mut crd);
        let revision = (CRD_REVISION_ANNOTATION.to_owned(), CRD_REVISION.to_string());
        crd.metadata.annotations.get_or_insert_default().extend([revision]);
        crd
    });
    CRD.clone()
}
