//! The last step: until everything runs, or visibly cannot.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Recreate, describe_pod};
use crate::gr::{self, LiveGr, WorkloadKind};
use crate::plan::running::FAILURE_SETTLES;
use crate::plan::step_context::{Next, Wait};
use crate::plan::{Decision, PodState};
use crate::record::rolling::Amount;
use crate::record::{Goal, OnFailure, Phase, Reason, WaitReason};

/// So many nodes decide over a Recreate when the request does not say: one broken machine of thousands does not.
const DEFAULT_THRESHOLD: Amount = Amount::Percent(10);
/// What visibly cannot work: in few words for a wait, and in full.
struct Failure {
    subject: String,
    message: String,
}

impl Recreate<'_> {
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
        if let Some(what) = self.added(gr) {
            return self.conflict(format!("the gr was edited by someone else while it was starting: {what}"));
        }
        if let Some(Failure { subject, message }) = self.refused_workload(gr) {
            return self.failing(&subject, &message, true);
        }
        let failing = self.failing_pods();
        let nodes: BTreeSet<&str> = failing.iter().filter_map(|(pod, _)| pod.node.as_deref()).collect();
        let decides = nodes.len() >= self.failures_that_decide()
            || failing.iter().any(|(pod, _)| self.is_of_a_deployment(pod));
        match failing.first() {
            Some((pod, failure)) if decides => return self.failing_pod(gr, pod, failure, true),
            _ => {}
        }
        if let Some(mut wait) = self.first_component_not_running(gr, &nodes) {
            if let Some((pod, failure)) = failing.first() {
                wait.detail = format!("{}; {}: {failure}", wait.detail, describe_pod(pod));
            }
            return Next::Wait(wait);
        }
        match failing.first() {
            // All the others run: a person has to see to these.
            Some((pod, failure)) => self.failing_pod(gr, pod, failure, false),
            None => self.operator_has_its_time(gr).unwrap_or_else(|| self.finish()),
        }
    }

    fn added(&self, gr: &LiveGr) -> Option<String> {
        let wanted = self.record.manifest_for(self.status.goal)?;
        let other = match self.status.goal {
            Goal::Target => self.record.manifest_for(Goal::Previous).unwrap_or(&Value::Null),
            Goal::Previous => &self.record.spec.target.manifest,
        };
        gr::added(&gr.manifest, wanted, other)
    }

    /// Pods that visibly cannot start, but for those on nodes that are not ready.
    fn failing_pods(&self) -> Vec<(&PodState, &str)> {
        let heard_of = self.seen.pods.iter().filter(|p| !self.is_on_dead_node(p));
        heard_of.filter_map(|p| Some((p, p.failure.as_deref()?))).collect()
    }

    /// On how many nodes pods have to fail before that holds, or turns back, a Recreate.
    fn failures_that_decide(&self) -> usize {
        let desired = self.seen.workloads.iter().filter(|w| w.kind == WorkloadKind::DaemonSet);
        let nodes = desired.map(|w| usize::try_from(w.desired).unwrap_or_default()).max().unwrap_or_default();
        self.record.spec.failure_threshold.unwrap_or(DEFAULT_THRESHOLD).of(nodes)
    }

    fn is_of_a_deployment(&self, pod: &PodState) -> bool {
        let deployments = self.seen.workloads.iter().filter(|w| w.kind == WorkloadKind::Deployment);
        deployments.into_iter().any(|w| w.namespace == pod.namespace && w.name == pod.workload)
    }

    /// A workload of which the API server accepts no further pod.
    fn refused_workload(&self, gr: &LiveGr) -> Option<Failure> {
        gr::workloads(&gr.manifest, &gr.status).iter().find_map(|w| {
            let state = self.seen.workloads.iter().find(|s| s.is(w))?;
            let refusal = state.refused.as_ref()?;
            // Its controller may not have written its status since: then it counts none, and misses none.
            (state.desired == 0 || state.pending(0).is_some()).then(|| Failure {
                subject: format!("pods of {}/{} cannot be created", w.namespace, w.name),
                message: format!("{}: no pod can be created: {refusal} ({})", w.component, w.describe()),
            })
        })
    }

    fn failing_pod(&self, gr: &LiveGr, pod: &PodState, failure: &str, decides: bool) -> Next {
        let PodState { namespace, name, workload, .. } = pod;
        let all = gr::workloads(&gr.manifest, &gr.status);
        let component = all.iter().find(|w| w.namespace == *namespace && w.name == *workload);
        let component = component.map_or(workload, |w| &w.component);
        let on = pod.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        let message = format!("{component}{on}: {failure} (pod {namespace}/{name})");
        self.failing(&format!("pods of {namespace}/{workload} cannot start"), &message, decides)
    }

    /// Something visibly cannot work. Once that has settled, roll back if asked to and if it `decides`, else hold.
    fn failing(&self, subject: &str, message: &str, decides: bool) -> Next {
        let since =
            self.status.waiting_on.as_ref().filter(|w| w.reason == WaitReason::PodFailing).map(|w| w.since);
        let settled = since.is_some_and(|s| self.now.duration_since(s) >= FAILURE_SETTLES);
        let may_turn = decides && self.status.goal == Goal::Target;
        if settled && may_turn && self.record.spec.on_failure == OnFailure::Rollback {
            return Next::Do(self.back(message));
        }
        if settled && self.status.phase != Phase::Held {
            return Next::Do(Decision::Record(self.draft().hold(Reason::PodFailing, message)));
        }
        Next::Wait(Wait {
            reason: WaitReason::PodFailing,
            message: subject.to_owned(),
            detail: message.to_owned(),
            until: None,
        })
    }
}
