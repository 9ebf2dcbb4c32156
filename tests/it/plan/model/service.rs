//! What `decide` makes of a world, told in the model's terms.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use super::super::*;
use super::world::{Gr, Intended, Left, Spec, World};

/// What kind of upgrade is explored, and what may go wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// A gr stands there when the upgrade is asked for.
    pub(super) previous: bool,
    pub(super) on_failure: OnFailure,
    /// The target asks for the very stack that is there.
    pub(super) same_spec: bool,
    pub(super) faults: Left,
}

/// One thing to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Write(Known),
    Call(Call),
    Release,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Delete(u8),
    Fence,
    Create(Goal),
}

/// The part of a status that `decide` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) phase: Phase,
    pub(super) goal: Goal,
    pub(super) step: Step,
    pub(super) late: bool,
    /// Pods fail; whether that has settled.
    pub(super) failing: Option<bool>,
    pub(super) attempt: u32,
    pub(super) deleting: Option<u8>,
    pub(super) created: Option<u8>,
    pub(super) workloads: bool,
}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.phase as u8, self.goal as u8, self.step as u8, self.late, self.failing).hash(state);
        (self.attempt, self.deleting, self.created, self.workloads).hash(state);
    }
}

/// `decide`, remembering its answers: most worlds differ in what it cannot see.
pub(super) struct ServiceModel {
    pub(super) config: Config,
    answers: RefCell<HashMap<World, Next>>,
}

impl ServiceModel {
    pub(super) fn of(config: Config) -> Self {
        Self { config, answers: RefCell::default() }
    }

    pub(super) fn next(&self, world: &World) -> Next {
        let visible = world.visible();
        let mut answers = self.answers.borrow_mut();
        *answers.entry(visible).or_insert_with_key(|w| {
            match decide(&self.record(w), &self.snapshot(w), now()) {
                Decision::Finished => Next::Nothing,
                Decision::Record(status) | Decision::Wait { status, .. } => Next::Write(Known::of(&status)),
                Decision::Act(GrAction::ReleaseRecord) => Next::Release,
                Decision::Act(GrAction::Delete { uid, .. }) => Next::Call(Call::Delete(uid.parse().unwrap())),
                Decision::Act(GrAction::Fence { .. }) => Next::Call(Call::Fence),
                Decision::Act(GrAction::Create { goal, .. }) => Next::Call(Call::Create(goal)),
                Decision::Act(other) => panic!("{other:?} is no call of a Recreate"),
                Decision::Guard(other) => panic!("{other:?} is no call of a Recreate"),
                Decision::ActAll(all) => panic!("{all:?} are no calls of a Recreate"),
            }
        })
    }

    fn record(&self, world: &World) -> GcuUpgrade {
        let mut record = record();
        record.status = Some(world.known.status());
        record.spec.previous =
            self.config.previous.then(|| Previous { uid: "0".to_owned(), manifest: previous() });
        record.spec.target.manifest = self.manifest(Spec::Target);
        record.spec.on_failure = self.config.on_failure;
        record.spec.intent = if world.intent == Intended::Rollback { Intent::Rollback } else { Intent::Run };
        record.spec.attempt = world.attempt;
        record.metadata.deletion_timestamp = (world.intent == Intended::Deleted).then(|| Time(now()));
        if world.released {
            record.metadata.finalizers = None;
        }
        record
    }

    fn snapshot(&self, world: &World) -> Snapshot {
        let live = |g: &Gr| {
            let mark = g.mark.map(|t| record().mark(if t { Goal::Target } else { Goal::Previous }));
            let phase = if g.running { "Running" } else { "deploying" };
            LiveGr {
                uid: g.uid.to_string(),
                deleting: g.terminating,
                mark,
                status: json!({ "phase": phase }).into(),
                ..gr("", &self.manifest(g.spec))
            }
        };
        let running = world.gr.as_ref().is_some_and(|g| g.running);
        let failure = world.failing.then(|| "image cannot be pulled".to_owned());
        Snapshot {
            gr: world.gr.as_ref().map(live),
            workloads: world.gr.iter().map(|_| if running { rollout(3, 3) } else { rollout(3, 0) }).collect(),
            pods: if world.pods { vec![PodState { failure, ..pod("a") }] } else { Vec::new() },
            dead_nodes: BTreeSet::new(),
            refused: world.refusing.then(|| "no".to_owned()),
            ..Snapshot::default()
        }
    }

    fn manifest(&self, spec: Spec) -> Value {
        match spec {
            Spec::Target if !self.config.same_spec => target(),
            Spec::Target | Spec::Previous => previous(),
            Spec::Other => stack("other"),
        }
    }
}

impl Known {
    pub(super) fn of(status: &GcuUpgradeStatus) -> Self {
        let uid = |uid: &Option<String>| uid.as_ref().map(|u| u.parse().unwrap());
        let failing = status.waiting_on.as_ref().filter(|w| w.reason == WaitReason::PodFailing);
        Self {
            phase: status.phase,
            goal: status.goal,
            step: status.step,
            late: status.deadline.is_some_and(|d| d <= now()),
            failing: failing.map(|w| w.since < now()),
            attempt: status.attempt,
            deleting: uid(&status.deleting_uid),
            created: uid(&status.created_uid),
            workloads: !status.workloads.is_empty(),
        }
    }

    fn status(&self) -> GcuUpgradeStatus {
        let waiting = |settled: bool| WaitingOn {
            reason: WaitReason::PodFailing,
            message: String::new(),
            since: if settled { ago(60) } else { now() },
        };
        let timed = !matches!(self.step, Step::Recorded | Step::Done);
        GcuUpgradeStatus {
            phase: self.phase,
            goal: self.goal,
            step: self.step,
            deadline: timed.then(|| if self.late { ago(1) } else { ago(-60) }),
            waiting_on: self.failing.map(waiting),
            attempt: self.attempt,
            deleting_uid: self.deleting.map(|u| u.to_string()),
            created_uid: self.created.map(|u| u.to_string()),
            workloads: if self.workloads {
                gcu_upgrade_manager::gr::workloads(&previous(), &Value::Null)
            } else {
                Vec::new()
            },
            ..GcuUpgradeStatus::default()
        }
    }
}
