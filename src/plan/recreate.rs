//! Recreate: delete the gr, wait until it and its pods are gone, create the new one, wait until it runs.
//!
//! ```text
//! Recorded ─► Deleting(uid) ─► WaitingGone ─► Creating ─► WaitingRunning ─► Done
//!                 ▲                 ▲                           │
//!                 └── what we made ─┴──── rollback ─────────────┘   (goal: Previous, the same steps again)
//! ```
//!
//! What makes a lost stack impossible:
//! * Before the delete, both manifests are in the record; after it, every way out of `WaitingGone` leads to a
//!   create, or to a visible failure because somebody else has put another gr in its place.
//! * Only a gr whose UID is in the record is deleted, and only in the version that was looked at.
//! * A create whose answer was lost is recognised by our mark, or by the manifest being the same.
//! * A rollback that finds the old gr still alive fences it: see [`GrAction::Fence`].
//!
//! Nodes that are not ready are left aside, both for the end of old pods and for the start of new ones:
//! with thousands of nodes some are always down, and none of them may keep the others without a stack.
//!
//! A step that takes too long is *held*: that is said, and the step goes on being watched. A hold in the
//! middle must not keep the stack down once the obstacle is gone, so it ends by itself then.

mod identity;
mod starting;

use std::ops::Deref;

use kube::Resource;

use self::identity::GrIdentity;
use super::news::rolling_back;
use super::status::{Draft, goal_name};
use super::step_context::{Next, StepContext, Wait};
use super::{Decision, GrAction, PodState};
use crate::gr::{self, LiveGr, Source, Workload};
use crate::record::size::{WORKLOADS, stored};
use crate::record::{GcuUpgradeStatus, Goal, Intent, Phase, Reason, Step, WaitReason};

/// Pods named in a message.
const PODS_NAMED: usize = 3;

/// One decision about a Recreate.
struct Recreate<'a> {
    context: StepContext<'a>,
}

/// What every strategy does alike.
impl<'a> Deref for Recreate<'a> {
    type Target = StepContext<'a>;

    fn deref(&self) -> &Self::Target {
        &self.context
    }
}

pub(super) fn decide(context: StepContext<'_>) -> Decision {
    Recreate { context }.decide()
}

impl Recreate<'_> {
    fn decide(&self) -> Decision {
        // The command is refused while the stack is down; a record that was edited by hand goes on until it is up.
        if self.record.spec.intent == Intent::Close
            && matches!(self.status.step, Step::Recorded | Step::WaitingRunning)
        {
            let message = "closed by request; the gr is left as it is".to_owned();
            return self.end(Phase::Failed, Reason::Closed, message);
        }
        if self.status.goal == Goal::Target {
            if self.record.meta().deletion_timestamp.is_some() {
                return self.back("the record was deleted");
            }
            if self.record.spec.intent == Intent::Rollback {
                return self.back("rollback was asked for");
            }
        }
        if self.status.step != Step::Recorded && self.record.spec.attempt > self.status.attempt {
            let seconds = self.seconds_for(self.status.step);
            return Decision::Record(self.draft().retry(self.record.spec.attempt, seconds));
        }
        self.carry_out(self.step())
    }

    fn step(&self) -> Next {
        match self.status.step {
            Step::Recorded => self.recorded(),
            Step::Deleting => self.deleting(),
            Step::WaitingGone => self.waiting_gone(),
            Step::Creating => self.creating(),
            Step::WaitingRunning => self.waiting_running(),
            // A hand-edited status ends up here, and ends visibly.
            step => self.conflict(format!("the status says {step:?}, which is no step of a Recreate")),
        }
    }

    /// Nothing has been touched yet: check that the cluster still is what the request saw.
    fn recorded(&self) -> Next {
        let there = self.seen.gr.as_ref().map(|gr| self.workloads_of(gr)).unwrap_or_default();
        // What the way back may add has to fit, too.
        if stored(&there).saturating_add(stored(&self.workloads_of_target())) > WORKLOADS / 2 {
            let message = format!(
                "the gr has {} workloads, more than a record can name; nothing was touched",
                there.len().max(self.workloads_of_target().len())
            );
            return Next::Do(self.end(Phase::Failed, Reason::TooLarge, message));
        }
        match (&self.seen.gr, &self.record.spec.previous) {
            (None, None) => {
                if let Some(wait) = self.waits_to_begin() {
                    return Next::Do(wait);
                }
                let draft = self.draft().with(|s| s.workloads = self.workloads_of_target());
                Next::Do(Decision::Record(draft.step(
                    Step::Creating,
                    self.seconds_for(Step::Creating),
                    "there is no gr to delete: creating it",
                )))
            }
            (None, Some(_)) => self.conflict(
                "the gr was deleted by someone else before the upgrade began; nothing was touched".to_owned(),
            ),
            (Some(gr), Some(previous)) if gr.uid == previous.uid && !gr.deleting => {
                if !gr::same_spec(&gr.manifest, &previous.manifest) {
                    return self.edited_before();
                }
                if let Some(wait) = self.waits_to_begin() {
                    return Next::Do(wait);
                }
                let draft = self.draft().with(|s| {
                    s.deleting_uid = Some(gr.uid.clone());
                    s.workloads = there.clone();
                    s.attempt = self.record.spec.attempt;
                });
                let message = format!("deleting gr {} (uid {})", self.record.spec.gr, gr.uid);
                Next::Do(Decision::Record(draft.step(
                    Step::Deleting,
                    self.seconds_for(Step::Deleting),
                    message,
                )))
            }
            (Some(gr), _) => self.conflict(format!(
                "the gr changed hands before the upgrade began: {}; nothing was touched",
                describe(gr)
            )),
        }
    }

    /// The delete may or may not have been sent: what counts is what stands there.
    fn deleting(&self) -> Next {
        let Some(gr) = &self.seen.gr else { return self.wait_for_the_end() };
        if self.status.deleting_uid.as_ref() != Some(&gr.uid) || gr.deleting {
            return self.wait_for_the_end();
        }
        let recorded = self.record.spec.previous.as_ref().map(|p| &p.manifest);
        if self.status.goal == Goal::Target && !recorded.is_some_and(|m| gr::same_spec(&gr.manifest, m)) {
            return self.edited_before();
        }
        Next::Call(GrAction::Delete { uid: gr.uid.clone(), resource_version: gr.resource_version.clone() })
    }

    fn wait_for_the_end(&self) -> Next {
        self.enter(
            Step::WaitingGone,
            "the delete was accepted: waiting until the gr and its pods are gone".to_owned(),
        )
    }

    /// Gone means: the gr is gone **and** the pods of its workloads are gone. A DaemonSet that is made again
    /// under the same name does not wait for the pods of the old one (kubernetes#131684).
    fn waiting_gone(&self) -> Next {
        let Some(gr) = &self.seen.gr else { return self.waiting_for_pods() };
        match self.identify(gr) {
            GrIdentity::Old if gr.deleting => Wait::next(
                WaitReason::GrTerminating,
                format!(
                    "gr {} is terminating, held by finalizer {}",
                    self.record.spec.gr,
                    gr.finalizers.join(", ")
                ),
            ),
            // The way back finds the old gr unharmed; forward, it is a view from before the delete.
            GrIdentity::Old if self.is_previous(gr) => self.creating_step(),
            GrIdentity::Old => self.view_settling(),
            GrIdentity::Orphaned => self.delete_abandoned(gr),
            GrIdentity::Ours | GrIdentity::Equivalent => self.creating_step(),
            GrIdentity::Foreign => self.stranger(gr),
        }
    }

    fn waiting_for_pods(&self) -> Next {
        self.pods_left().map_or_else(|| self.creating_step(), Next::Wait)
    }

    fn pods_left(&self) -> Option<Wait> {
        let left: Vec<&PodState> =
            self.seen.pods.iter().filter(|p| self.is_leaving(p) && !self.is_on_dead_node(p)).collect();
        let first = left.first()?;
        let named: Vec<String> = left.iter().take(PODS_NAMED).map(|p| describe_pod(p)).collect();
        Some(Wait {
            reason: WaitReason::PodsTerminating,
            message: format!("pods of {}/{} have not ended", first.namespace, first.workload),
            detail: format!("{} pods have not ended: {}", left.len(), named.join(", ")),
            until: None,
        })
    }

    fn creating_step(&self) -> Next {
        if self.record.manifest_for(self.status.goal).is_none() {
            return self.finish();
        }
        self.enter(
            Step::Creating,
            format!("creating gr {} for {}", self.record.spec.gr, goal_name(self.status.goal)),
        )
    }

    /// The create may or may not have been sent: adopt what is ours or the same, refuse what is not.
    fn creating(&self) -> Next {
        let Some(manifest) = self.record.manifest_for(self.status.goal) else { return self.finish() };
        let Some(gr) = &self.seen.gr else {
            // A delete that arrived late, or somebody's gr that came and went, leaves pods behind as well.
            if let Some(wait) = self.pods_left() {
                return Next::Wait(wait);
            }
            let manifest = gr::marked(manifest, &self.record.mark(self.status.goal));
            return Next::Call(GrAction::Create { goal: self.status.goal, manifest });
        };
        match self.identify(gr) {
            GrIdentity::Old if self.is_previous(gr) => Next::Call(GrAction::Fence {
                uid: gr.uid.clone(),
                resource_version: gr.resource_version.clone(),
                mark: self.record.mark(self.status.goal),
            }),
            // The old gr was to be kept, and a delete that was on its way came before the fence.
            GrIdentity::Old if gr.deleting => self.wait_for_the_end(),
            GrIdentity::Old => self.view_settling(),
            GrIdentity::Orphaned => self.delete_abandoned(gr),
            GrIdentity::Ours | GrIdentity::Equivalent if !gr.deleting => {
                let draft = self.draft().with(|s| s.created_uid = Some(gr.uid.clone()));
                let message = format!(
                    "gr {} (uid {}) created; waiting for all components to become ready",
                    self.record.spec.gr, gr.uid
                );
                let seconds = self.seconds_for(Step::WaitingRunning);
                Next::Do(Decision::Record(draft.step(Step::WaitingRunning, seconds, message)))
            }
            GrIdentity::Ours | GrIdentity::Equivalent | GrIdentity::Foreign => self.stranger(gr),
        }
    }

    /// Turns towards the previous version.
    fn back(&self, cause: &str) -> Decision {
        if self.status.step == Step::Recorded {
            return self.end(
                Phase::RolledBack,
                Reason::NothingTouched,
                format!("{cause}; nothing had been touched"),
            );
        }
        let why = &rolling_back(cause);
        // The gr for the target may have been made and gone again, unseen: its pods count as well.
        let draft =
            self.draft().back_because(cause).with(|s| add(&mut s.workloads, self.workloads_of_target()));
        let made_here = self.seen.gr.as_ref().filter(|gr| self.is_made_for_target(gr));
        match made_here {
            Some(gr) => Decision::Record(self.start_delete(draft, gr, why)),
            None => Decision::Record(draft.step(Step::WaitingGone, self.seconds_for(Step::WaitingGone), why)),
        }
    }

    fn delete_abandoned(&self, gr: &LiveGr) -> Next {
        Next::Do(Decision::Record(self.start_delete(self.draft(), gr, "deleting the gr made for the target")))
    }

    fn start_delete(&self, draft: Draft<'_>, gr: &LiveGr, why: &str) -> Box<GcuUpgradeStatus> {
        let draft = draft.with(|s| {
            s.deleting_uid = Some(gr.uid.clone());
            add(&mut s.workloads, self.workloads_of(gr));
        });
        draft.step(Step::Deleting, self.seconds_for(Step::Deleting), why)
    }

    /// The workloads of a gr that stands there, each with the labels that select its pods: what its spec and status
    /// name, and whatever else it owns.
    fn workloads_of(&self, gr: &LiveGr) -> Vec<Workload> {
        let mut all = gr::workloads(&gr.manifest, &gr.status);
        for state in self.seen.workloads.iter().filter(|w| w.owners.contains(&gr.uid)) {
            if !all.iter().any(|w| state.is(w)) {
                all.push(Workload {
                    component: state.name.clone(),
                    kind: state.kind,
                    namespace: state.namespace.clone(),
                    name: state.name.clone(),
                    selector: state.selector.clone(),
                    source: Source::Reported,
                });
            }
        }
        for workload in &mut all {
            if let Some(state) = self.seen.workloads.iter().find(|s| s.is(workload)) {
                workload.selector.clone_from(&state.selector);
            }
        }
        all
    }

    /// As far as its manifest tells.
    fn workloads_of_target(&self) -> Vec<Workload> {
        gr::workloads(&self.record.spec.target.manifest, &serde_json::Value::Null)
    }

    fn stranger(&self, gr: &LiveGr) -> Next {
        self.conflict(format!("{} stands in the way; it was left alone", describe(gr)))
    }

    fn edited_before(&self) -> Next {
        self.conflict(
            "the gr was edited after the upgrade was asked for; it was left alone: ask again to upgrade \
             from what it is now"
                .to_owned(),
        )
    }

    fn conflict(&self, message: String) -> Next {
        let where_to_find = format!(
            "{message}. Both manifests are kept in this record (spec.target, spec.previous); POST \
             .../rollback or .../retry starts again from what is there"
        );
        Next::Do(self.end(Phase::Failed, Reason::Conflict, where_to_find))
    }

    fn finish(&self) -> Next {
        let (phase, reason, message) = self.at_the_goal();
        Next::Do(self.well_ended(phase, reason, message))
    }

    fn view_settling(&self) -> Next {
        Wait::next(WaitReason::ViewSettling, "an older view of the gr is still being served")
    }
}

/// Adds the workloads whose pods are not waited for yet.
fn add(known: &mut Vec<Workload>, more: Vec<Workload>) {
    for workload in more {
        let same = |w: &&Workload| w.namespace == workload.namespace && w.name == workload.name;
        if !known.iter().filter(same).any(|w| workload.selector.is_empty() || w.selector == workload.selector)
        {
            known.push(workload);
        }
    }
}

fn describe(gr: &LiveGr) -> String {
    let terminating = if gr.deleting { ", terminating" } else { "" };
    format!("a gr of uid {}{terminating} that this upgrade did not make", gr.uid)
}

fn describe_pod(pod: &PodState) -> String {
    let node = pod.node.as_deref().unwrap_or("no node");
    let deleting = if pod.deleting { ", terminating" } else { "" };
    format!("pod {}/{} ({node}{deleting})", pod.namespace, pod.name)
}
