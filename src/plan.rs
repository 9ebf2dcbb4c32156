//! The decision core: `decide(record, snapshot, now) -> Decision`.
//!
//! Synchronous, without I/O and without a clock of its own: what it answers depends on its arguments alone,
//! so that every step × observation × intent is a row of a test. It cannot fail and cannot block.

pub mod basis;
pub mod budget;
mod clock_rewind;
pub mod commands;
pub mod coverage;
pub mod drain;
pub mod fleet;
pub mod gangs;
pub mod hold;
pub mod impact;
pub mod maintenance;
pub mod memo;
pub mod names;
pub mod news;
pub mod pins;
pub mod preflight;
mod recreate;
pub mod repeat;
pub mod rolling;
mod running;
pub mod standstill;
mod status;
mod step_context;
pub mod tenant;

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use crate::gr::{LiveGr, Workload, WorkloadKind};
use crate::record::rolling::{Hold, Labels, NodeMark};
use crate::record::{FINALIZER, GcuUpgrade, GcuUpgradeStatus, Goal, Strategy};
use fleet::{Fleet, version_of};
use memo::Memo;
use step_context::StepContext;

/// One look at the part of the cluster that an upgrade concerns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The gr of the record's name, if there is one.
    pub gr: Option<LiveGr>,
    /// DaemonSets and Deployments in the namespaces concerned.
    pub workloads: Vec<WorkloadState>,
    /// Pods of the workloads concerned that still run or may run.
    pub pods: Vec<PodState>,
    /// Nodes that are not ready.
    pub dead_nodes: BTreeSet<String>,
    /// The API server's refusal of the last call, until a call succeeds.
    pub refused: Option<String>,
    /// Since when looks and calls have been answered without interruption. While they are not, the operator may be
    /// without an API server just as well: it is given its time again.
    pub undisturbed_since: Option<Timestamp>,
    /// What only a RollingUpdate looks at.
    pub fleet: Fleet,
    /// The admission webhook that keeps DaemonSets held.
    pub guard: Guard,
    /// Why DaemonSets are not let go of though they could be: a refusal of the API server.
    pub not_released: Option<String>,
}

/// What is known of the admission webhook that keeps DaemonSets held: see [`crate::keeper`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// This service has none.
    #[default]
    Off,
    /// The API server does not ask it, or asks it in another way than it should.
    NotInstalled,
    /// The API server is to ask it; that has not been tried.
    Installed,
    /// It was tried, and a held DaemonSet would not have stayed held: why.
    NotKept(String),
    /// It was tried, and a held DaemonSet would have stayed held.
    Proven,
}

/// A workload as the cluster reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadState {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Tells it from another of this name.
    pub uid: String,
    /// What the API server says against its next pod, if pods of it cannot be created.
    pub refused: Option<String>,
    /// Its controller has taken up its latest version.
    pub observed: bool,
    /// Pods that there should be.
    pub desired: i32,
    /// Pods of the latest version that there are.
    pub updated: i32,
    /// Pods that are available.
    pub available: i32,
    /// The labels that select its pods.
    pub selector: Labels,
    /// UIDs of the objects that own it.
    pub owners: Vec<String>,
}

impl WorkloadState {
    /// Whether this is the state of that workload.
    pub fn is(&self, workload: &Workload) -> bool {
        self.kind == workload.kind && self.namespace == workload.namespace && self.name == workload.name
    }

    /// Why it is not fully rolled out, if so. `excused` pods are on nodes that are not ready: they cannot
    /// become available, and waiting for them would let one dead node hold up a whole cluster.
    pub fn pending(&self, excused: i32) -> Option<String> {
        let Self { desired, updated, available, .. } = self;
        if !self.observed {
            Some("has not been taken up by its controller yet".to_owned())
        } else if updated < desired {
            Some(format!("has {updated} of {desired} pods of the latest version"))
        } else if available.saturating_add(excused) < *desired {
            Some(format!("has {available} of {desired} pods available"))
        } else {
            None
        }
    }
}

/// A pod as the cluster reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The name of the workload that it belongs to.
    pub workload: String,
    /// The node it is bound to.
    pub node: Option<String>,
    /// Its deletion has been asked for.
    pub deleting: bool,
    /// When it was created, by the cluster's clock.
    pub created_at: Timestamp,
    /// Why it visibly cannot start, if so.
    pub failure: Option<String>,
}

/// What to do next: exactly one thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Write this status: a step forward, a hold or the end.
    Record(Box<GcuUpgradeStatus>),
    /// Make this call.
    Act(GrAction),
    /// Make this call about the admission webhook.
    Guard(GuardAction),
    /// Make these calls, each about another object, in any order.
    ActAll(Vec<FleetAction>),
    /// Nothing, until the cluster changes or `until` comes. The status says what is waited for; it differs
    /// from the recorded one only when that has changed.
    Wait {
        /// With the reason.
        status: Box<GcuUpgradeStatus>,
        /// When to look again even if nothing changes.
        until: Option<Timestamp>,
    },
    /// The upgrade has ended and nothing is left to do.
    Finished,
}

/// The calls that change the gr or let go of the record. Each can be repeated after a crash or a lost answer without
/// harm.
#[derive(Clone, PartialEq)]
pub enum GrAction {
    /// Delete the gr, if it is still this very object in this very version: a change that nobody recorded
    /// makes the call fail instead of being lost.
    Delete {
        /// Precondition.
        uid: String,
        /// Precondition.
        resource_version: String,
    },
    /// Create the gr with our mark.
    Create {
        /// For which goal.
        goal: Goal,
        /// The whole manifest, mark included.
        manifest: Value,
    },
    /// Put the mark of the way back on the gr, guarded by its version: a delete of ours that is still on its
    /// way has the older version as precondition and can no longer succeed.
    Fence {
        /// Precondition.
        uid: String,
        /// Precondition.
        resource_version: String,
        /// The mark.
        mark: String,
    },
    /// Make the gr's spec another, and put our mark on it.
    Patch {
        /// Precondition.
        uid: String,
        /// Precondition.
        resource_version: String,
        /// What to change in the spec, as a merge patch.
        change: Value,
        /// The mark.
        mark: String,
    },
    /// Take our finalizer off the ended record.
    ReleaseRecord,
}

/// The calls that change DaemonSets, nodes and pods, as repeatable as [`GrAction`].
#[derive(Clone, Debug, PartialEq)]
pub enum FleetAction {
    /// Put a DaemonSet at OnDelete and say why, in one patch.
    Hold {
        /// Which.
        namespace: String,
        /// Which.
        name: String,
        /// Precondition.
        uid: String,
        /// Precondition.
        resource_version: String,
        /// The update strategy that it gets back in the end.
        strategy: Value,
        /// For what it is held.
        hold: Hold,
    },
    /// Cordon a node and say why, in one patch.
    Cordon {
        /// Which.
        node: String,
        /// Precondition.
        resource_version: String,
        /// Why.
        mark: NodeMark,
    },
    /// Take the claim off a node, and the cordon with it, in one patch.
    ReleaseNode {
        /// Which.
        node: String,
        /// Precondition.
        resource_version: String,
        /// Not when it was cordoned before.
        uncordon: bool,
    },
    /// Evict a pod, as its disruption budget allows.
    Evict {
        /// On which node.
        node: String,
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// Precondition.
        uid: String,
    },
    /// Delete a pod.
    DeletePod {
        /// On which node.
        node: String,
        /// Where.
        namespace: String,
        /// Which.
        name: String,
        /// Precondition.
        uid: String,
    },
}

/// The calls about the admission webhook.
#[derive(Clone, Debug, PartialEq)]
pub enum GuardAction {
    /// Have the API server ask the admission webhook about held DaemonSets.
    Install,
    /// Try, in a dry run, whether this held DaemonSet would stay held.
    Prove {
        /// Which.
        namespace: String,
        /// Which.
        name: String,
        /// Precondition.
        uid: String,
    },
}

/// For logs: without manifests, whose environment variables may be secrets.
impl fmt::Debug for GrAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete { uid, resource_version } => write!(f, "Delete({uid} at {resource_version})"),
            Self::Create { goal, .. } => write!(f, "Create({goal:?})"),
            Self::Fence { uid, resource_version, mark } => {
                write!(f, "Fence({uid} at {resource_version}: {mark})")
            }
            Self::Patch { uid, resource_version, mark, .. } => {
                write!(f, "Patch({uid} at {resource_version}: {mark})")
            }
            Self::ReleaseRecord => f.write_str("ReleaseRecord"),
        }
    }
}

impl FleetAction {
    /// The node on which it is made.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Hold { .. } => None,
            Self::Cordon { node, .. }
            | Self::ReleaseNode { node, .. }
            | Self::Evict { node, .. }
            | Self::DeletePod { node, .. } => Some(node),
        }
    }

    /// What an answer to this call is remembered by: see [`Fleet::refusals`].
    pub fn subject(&self) -> String {
        match self {
            // However often somebody puts a strategy back, it is put aside again in a pace that leaves room.
            Self::Evict { uid, .. } | Self::DeletePod { uid, .. } | Self::Hold { uid, .. } => uid.clone(),
            Self::Cordon { node, resource_version, .. }
            | Self::ReleaseNode { node, resource_version, .. } => version_of(node, resource_version),
        }
    }
}

/// Decides the next step of an upgrade.
pub fn decide(record: &GcuUpgrade, seen: &Snapshot, now: Timestamp) -> Decision {
    decide_with(record, seen, now, &mut Memo::default())
}

/// The same, faster: `memo` is what earlier decisions about this record have left, and has been told since of every
/// node on which something has changed.
pub fn decide_with(record: &GcuUpgrade, seen: &Snapshot, now: Timestamp, memo: &mut Memo) -> Decision {
    let context = StepContext::new(record, seen, now, memo);
    if context.status.phase.is_final() {
        let held = record.finalizers().iter().any(|f| f == FINALIZER);
        return if held { Decision::Act(GrAction::ReleaseRecord) } else { Decision::Finished };
    }
    if let Some(status) = clock_rewind::rebase_timestamps(&context.status, now) {
        return Decision::Record(context.draft().with(|s| *s = status).quietly());
    }
    match record.spec.strategy {
        Strategy::Recreate => recreate::decide(context),
        Strategy::RollingUpdate => rolling::decide(context),
    }
}

/// What to say when the cluster cannot be looked at. Nothing is done then but to hold what is late.
pub fn cannot_look(record: &GcuUpgrade, why: &str, now: Timestamp) -> Decision {
    let nothing = Snapshot::default();
    let mut memo = Memo::default();
    let context = StepContext::new(record, &nothing, now, &mut memo);
    if context.status.phase.is_final() {
        return Decision::Finished;
    }
    context.cannot_look(why)
}

/// The workloads whose rollout or end an upgrade to or from this gr waits for.
pub fn workloads_concerned(record: &GcuUpgrade, gr: Option<&LiveGr>) -> Vec<Workload> {
    let no_status = Value::Null;
    let status = record.known_status();
    let live = gr.map(|gr| crate::gr::workloads(&gr.manifest, &gr.status)).unwrap_or_default();
    let wanted =
        record.manifest_for(status.goal).map(|m| crate::gr::workloads(m, &no_status)).unwrap_or_default();
    let mut all = status.workloads.clone();
    for workload in live.into_iter().chain(wanted) {
        let known = all
            .iter()
            .any(|w| w.kind == workload.kind && w.namespace == workload.namespace && w.name == workload.name);
        if !known {
            all.push(workload);
        }
    }
    all
}
