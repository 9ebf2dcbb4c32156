//! The last step: until everything runs, or visibly cannot.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::describe_pod;
use crate::gr::{self, LiveGr, Source, Workload, WorkloadKind};
use crate::plan::turn::{Next, Turn, Wait};
use crate::plan::{Decision, PodState};
use crate::record::{Goal, OnFailure, Phase, WaitReason};

/// A failure signal counts once it has lasted this long: registries hiccup.
pub(in crate::plan) const FAILURE_SETTLES: SignedDuration = SignedDuration::from_secs(30);

impl Turn<'_> {
    /// Running means: the operator says so of this very spec, and every workload is fully rolled out. The
    /// operator's "n/m" says nothing: it ends at 2/5 when two of five components are wanted.
    pub(super) fn waiting_running(&self) -> Next {
        let Some(gr) = &self.seen.gr else {
            return self.conflict("the new gr was deleted by someone else while it was starting".to_owned());
        };
        if self.status.created_uid.as_ref() != Some(&gr.uid) {
            return self.stranger(gr);
        }
        if gr.deleting {
            let message = "the new gr is being deleted by someone else while it is starting";
            return self.conflict(message.to_owned());
        }
        let wanted =
            self.record.manifest_for(self.status.goal).and_then(|m| m.get("spec")).unwrap_or(&Value::Null);
        if !gr.manifest.get("spec").is_some_and(|live| gr::covers(live, wanted)) {
            return self.conflict("the gr was edited by someone else while it was starting".to_owned());
        }
        let mut heard_of = self.seen.pods.iter().filter(|p| !self.is_on_dead_node(p));
        if let Some((pod, failure)) = heard_of.find_map(|p| p.failure.as_ref().map(|f| (p, f))) {
            return self.failing(pod, failure);
        }
        self.not_running(gr).unwrap_or_else(|| self.finish())
    }

    /// What of the stack does not run yet, if anything: a workload, or by the operator's word.
    pub(in crate::plan) fn not_running(&self, gr: &LiveGr) -> Option<Next> {
        let by_its_word = || {
            Wait::next(
                WaitReason::OperatorDeploying,
                format!("gcu-operator reports phase `{}`, not yet Running", gr.phase()),
            )
        };
        let component = self.first_component_not_running(gr).map(Next::Wait);
        component.or_else(|| (!gr.operator_says_running()).then(by_its_word))
    }

    fn first_component_not_running(&self, gr: &LiveGr) -> Option<Wait> {
        for workload in gr::workloads(&gr.manifest, &gr.status) {
            let state = self.seen.workloads.iter().find(|s| {
                s.kind == workload.kind && s.namespace == workload.namespace && s.name == workload.name
            });
            let pending = match state {
                Some(state) => state.pending(self.excused(&workload)),
                // A documented default name that a later operator has changed: its own word has to do.
                None if workload.source == Source::Assumed
                    && gr.reports_component_running(&workload.component) =>
                {
                    None
                }
                None => Some("does not exist yet".to_owned()),
            };
            if let Some(pending) = pending {
                return Some(Wait {
                    reason: WaitReason::ComponentStarting,
                    message: format!(
                        "{}: {} is not fully rolled out",
                        workload.component,
                        workload.describe()
                    ),
                    detail: format!("{}: {} {pending}", workload.component, workload.describe()),
                    until: None,
                });
            }
        }
        None
    }

    /// A pod visibly cannot start. Once that has settled, roll back if asked to, else hold.
    pub(super) fn failing(&self, pod: &PodState, failure: &str) -> Next {
        let message = format!("{}: {failure}", describe_pod(pod));
        let since =
            self.status.waiting_on.as_ref().filter(|w| w.reason == WaitReason::PodFailing).map(|w| w.since);
        let settled = since.is_some_and(|s| self.now.duration_since(s) >= FAILURE_SETTLES);
        if settled && self.status.goal == Goal::Target && self.record.spec.on_failure == OnFailure::Rollback {
            return Next::Do(self.back(&format!("rolling back: {message}")));
        }
        if settled && self.status.phase != Phase::Held {
            return Next::Do(Decision::Record(self.draft().hold("PodFailing", &message)));
        }
        Next::Wait(Wait {
            reason: WaitReason::PodFailing,
            message: format!("pods of {}/{} cannot start", pod.namespace, pod.workload),
            detail: message,
            until: None,
        })
    }

    /// How many of its pods cannot become available. A daemon has one a node, beside which the old stack's
    /// may be left; a replica whose deletion has been asked for is started again elsewhere.
    pub(super) fn excused(&self, workload: &Workload) -> i32 {
        let theirs = |p: &&PodState| p.namespace == workload.namespace && p.workload == workload.name;
        let pods = self.seen.pods.iter().filter(theirs).filter(|p| self.is_on_dead_node(p));
        let count = match workload.kind {
            WorkloadKind::DaemonSet => pods.map(|p| &p.node).collect::<BTreeSet<_>>().len(),
            WorkloadKind::Deployment => pods.filter(|p| !p.deleting).count(),
        };
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    pub(in crate::plan) fn settles_at(&self) -> Timestamp {
        let since =
            self.status.waiting_on.as_ref().filter(|w| w.reason == WaitReason::PodFailing).map(|w| w.since);
        since.unwrap_or(self.now).saturating_add(FAILURE_SETTLES).unwrap_or(Timestamp::MAX)
    }
}
