//! The decision core, row by row: what is recorded, what is seen, and what is done about it.
//!
//! [`given`] starts a sentence about a record and one look at the cluster; [`Given::decision`] says in words
//! what `decide` makes of it.

use gcu_upgrade_manager::gr::{LiveGr, MARK_ANNOTATION, WorkloadKind};
use gcu_upgrade_manager::plan::{Decision, GrAction, PodState, Snapshot, WorkloadState, decide};
use gcu_upgrade_manager::record::{
    Deadlines, FINALIZER, GcuUpgrade, GcuUpgradeSpec, GcuUpgradeStatus, Goal, Intent, OnFailure, Operation,
    Phase, Previous, Revision, Step, Strategy, WaitReason, WaitingOn,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

mod basis;
mod breaker;
mod claims;
mod commands;
mod components;
mod coverage;
mod gangs;
mod lateness;
mod maintenance;
mod maintenance_properties;
mod model;
mod preflight;
mod progress;
mod properties;
mod recreate_matrix;
mod repeat;
mod rolling_model;
mod rolling_properties;
mod size;
mod skew;
mod starting;
mod turning;
mod waiting;

/// The uid of the gr that stood there when the upgrade was asked for.
const RECORDED: &str = "recorded";
/// The uid of the gr made for the target.
const MADE_FOR_TARGET: &str = "made-for-target";
/// The uid of the gr made for the way back.
const MADE_FOR_PREVIOUS: &str = "made-for-previous";
/// The uid of a gr that somebody else made.
const STRANGERS: &str = "strangers";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// A stack of one DaemonSet, `kube-system/driver`.
fn stack(version: &str) -> Value {
    json!({
        "apiVersion": "topsops.enflame.com/v1",
        "kind": "GcuResource",
        "metadata": { "name": "gcu" },
        "spec": { "driver": { "name": "driver", "version": version } },
    })
}

fn target() -> Value {
    stack("2")
}

fn previous() -> Value {
    stack("1")
}

/// Record `gcu-1` of an upgrade from [`previous`] to [`target`], not taken up yet.
fn record() -> GcuUpgrade {
    GcuUpgrade {
        metadata: ObjectMeta {
            name: Some("gcu-1".to_owned()),
            uid: Some("u".to_owned()),
            generation: Some(1),
            finalizers: Some(vec![FINALIZER.to_owned(), "example.com/other".to_owned()]),
            ..ObjectMeta::default()
        },
        spec: GcuUpgradeSpec {
            accepted: Vec::new(),
            gr: "gcu".to_owned(),
            operation: Operation::Upgrade,
            strategy: Strategy::Recreate,
            components: Vec::new(),
            rolling_update: None,
            granted: 0,
            target: Revision { blueprint: None, sha256: None, of_revision: None, manifest: target() },
            previous: Some(Previous { uid: RECORDED.to_owned(), manifest: previous() }),
            intent: Intent::Run,
            skip: Vec::new(),
            node_attempts: Default::default(),
            failure_threshold: None,
            attempt: 0,
            on_failure: OnFailure::Hold,
            deadlines: Deadlines::default(),
            maintenance: None,
            override_window: None,
            took_before_seconds: Vec::new(),
            reason: None,
            requested_by: None,
            steered_by: None,
            request: None,
        },
        status: None,
    }
}

/// A gr as served, with the operator at rest.
fn gr(uid: &str, manifest: &Value) -> LiveGr {
    LiveGr {
        uid: uid.to_owned(),
        resource_version: "7".to_owned(),
        generation: 1,
        deleting: false,
        finalizers: vec!["topsops.enflame.com/v1".to_owned()],
        mark: None,
        manifest: manifest.clone().into(),
        status: json!({ "phase": "Running", "observedGeneration": 1 }).into(),
    }
}

fn marked(uid: &str, manifest: &Value, goal: Goal) -> LiveGr {
    LiveGr { mark: Some(record().mark(goal)), ..gr(uid, manifest) }
}

fn terminating(gr: LiveGr) -> LiveGr {
    LiveGr { deleting: true, ..gr }
}

fn pod(name: &str) -> PodState {
    PodState {
        namespace: "kube-system".to_owned(),
        name: name.to_owned(),
        workload: "driver".to_owned(),
        node: Some(format!("node-of-{name}")),
        deleting: false,
        created_at: now(),
        failure: None,
    }
}

/// `kube-system/driver` on three nodes.
fn rollout(updated: i32, available: i32) -> WorkloadState {
    WorkloadState {
        kind: WorkloadKind::DaemonSet,
        namespace: "kube-system".to_owned(),
        name: "driver".to_owned(),
        uid: "set".to_owned(),
        refused: None,
        observed: true,
        desired: 3,
        updated,
        available,
        selector: Default::default(),
        owners: Vec::new(),
    }
}

/// A record and one look at the cluster, told as a sentence.
#[derive(Clone, Debug)]
struct Given {
    record: GcuUpgrade,
    seen: Snapshot,
}

/// A record that nobody has taken up, and a cluster with nothing in it.
fn given() -> Given {
    Given { record: record(), seen: Snapshot::default() }
}

impl Given {
    fn status(mut self, change: impl FnOnce(&mut GcuUpgradeStatus)) -> Self {
        change(self.record.status.get_or_insert_default());
        self
    }

    fn spec(mut self, change: impl FnOnce(&mut GcuUpgradeSpec)) -> Self {
        change(&mut self.record.spec);
        self
    }

    /// On the way to the target, in this step, with a minute left.
    fn step(self, step: Step) -> Self {
        self.status(|s| {
            let begun = step > Step::Recorded;
            s.phase = if begun { Phase::Running } else { Phase::Pending };
            s.step = step;
            s.deadline = begun.then(|| ago(-60));
            s.deleting_uid = begun.then(|| RECORDED.to_owned());
            s.created_uid = (step >= Step::WaitingRunning).then(|| MADE_FOR_TARGET.to_owned());
            s.workloads =
                if begun { gcu_upgrade_manager::gr::workloads(&previous(), &Value::Null) } else { vec![] };
        })
    }

    /// On the way back, after the gr for the target had been made.
    fn going_back(self, step: Step) -> Self {
        self.step(step).status(|s| {
            let back = step >= Step::WaitingRunning;
            s.goal = Goal::Previous;
            s.deleting_uid = Some(MADE_FOR_TARGET.to_owned());
            s.created_uid = Some(if back { MADE_FOR_PREVIOUS } else { MADE_FOR_TARGET }.to_owned());
        })
    }

    /// On the way back, turned before the recorded gr was seen to go.
    fn turned_early(self, step: Step) -> Self {
        self.step(step).status(|s| {
            s.goal = Goal::Previous;
            s.created_uid = (step >= Step::WaitingRunning).then(|| RECORDED.to_owned());
        })
    }

    fn held(self) -> Self {
        self.status(|s| s.phase = Phase::Held)
    }

    fn late(self) -> Self {
        self.status(|s| s.deadline = Some(ago(1)))
    }

    fn waiting_on(self, reason: WaitReason, seconds: i64) -> Self {
        let message = String::new();
        self.status(|s| s.waiting_on = Some(WaitingOn { reason, message, since: ago(seconds) }))
    }

    fn rollback_asked(self) -> Self {
        self.spec(|s| s.intent = Intent::Rollback)
    }

    fn retried(self) -> Self {
        self.spec(|s| s.attempt = 1)
    }

    fn rolls_back_on_failure(self) -> Self {
        self.spec(|s| s.on_failure = OnFailure::Rollback)
    }

    /// The gr did not exist when the upgrade was asked for.
    fn without_previous(self) -> Self {
        self.spec(|s| s.previous = None)
    }

    fn record_deleted(mut self) -> Self {
        self.record.metadata.deletion_timestamp = Some(Time(now()));
        self
    }

    fn gr(mut self, gr: LiveGr) -> Self {
        self.seen.gr = Some(gr);
        self
    }

    fn pods(mut self, pods: &[PodState]) -> Self {
        self.seen.pods = pods.to_vec();
        self
    }

    /// Every pod given so far is on a node that is not ready.
    fn on_dead_nodes(mut self) -> Self {
        self.seen.dead_nodes = self.seen.pods.iter().filter_map(|p| p.node.clone()).collect();
        self
    }

    fn workload(mut self, state: WorkloadState) -> Self {
        self.seen.workloads.push(state);
        self
    }

    fn refused(mut self) -> Self {
        self.seen.refused = Some("admission webhook says no".to_owned());
        self
    }

    fn decide(&self) -> Decision {
        decide(&self.record, &self.seen, now())
    }

    /// The status that the decision carries.
    fn new_status(&self) -> GcuUpgradeStatus {
        match self.decide() {
            Decision::Record(status) | Decision::Wait { status, .. } => *status,
            other => panic!("{other:?} carries no status"),
        }
    }

    /// The decision in a few words.
    fn decision(&self) -> String {
        let known = self.record.status_or_default();
        match self.decide() {
            Decision::Finished => "nothing".to_owned(),
            Decision::Act(GrAction::ReleaseRecord) => "release".to_owned(),
            Decision::Act(GrAction::Delete { uid, resource_version }) => {
                assert_eq!(resource_version, "7", "the version that was looked at");
                format!("delete {uid}")
            }
            Decision::Act(GrAction::Fence { uid, resource_version, mark }) => {
                assert_eq!(resource_version, "7", "the version that was looked at");
                assert_eq!(mark, "gcu-1:u:Previous");
                format!("fence {uid}")
            }
            Decision::Act(GrAction::Create { goal, manifest }) => {
                assert_eq!(
                    manifest["metadata"]["annotations"][MARK_ANNOTATION],
                    json!(self.record.mark(goal))
                );
                let asked = self.record.manifest_for(goal).unwrap();
                assert_eq!(
                    &gcu_upgrade_manager::gr::clean(&manifest),
                    asked,
                    "the mark aside, what was asked for"
                );
                format!("create {goal:?}")
            }
            Decision::Act(other) => panic!("{other:?} is no call of a Recreate"),
            Decision::Guard(other) => panic!("{other:?} is no call of a Recreate"),
            Decision::ActAll(all) => panic!("{all:?} are no calls of a Recreate"),
            Decision::Wait { status, .. } => format!("wait: {:?}", status.waiting_on.unwrap().reason),
            Decision::Record(new) if new.phase.is_final() => {
                let succeeded = new.conditions.iter().find(|c| c.type_ == "Succeeded").unwrap();
                format!("{:?}: {}", new.phase, succeeded.reason)
            }
            Decision::Record(new) if new.phase == Phase::Held => {
                let held = new.conditions.iter().find(|c| c.type_ == "Held").unwrap();
                format!("hold: {}", held.reason)
            }
            Decision::Record(new) if new.attempt > known.attempt && new.step == known.step => {
                format!("{:?} again", new.step)
            }
            Decision::Record(new) => {
                let uid = match new.step {
                    Step::Deleting => format!(" of {}", new.deleting_uid.unwrap()),
                    Step::WaitingRunning => format!(" of {}", new.created_uid.unwrap()),
                    _ => String::new(),
                };
                let turn = if new.goal == known.goal { "" } else { ", back" };
                format!("{:?}{uid}{turn}", new.step)
            }
        }
    }
}

/// Rows of `claim, given, decision`; every row that is wrong is named.
#[track_caller]
fn check(rows: Vec<(&str, Given, &str)>) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(claim, given, then)| {
            let got = given.decision();
            (got != *then).then(|| format!("{claim}: expected `{then}`, got `{got}`"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
