//! The last step: until everything runs, or visibly cannot.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::describe_pod;
use crate::gr::{self, LiveGr, Source, Workload, WorkloadKind};
use crate::plan::step_context::{Next, StepContext, Wait};
use crate::plan::{Decision, PodState};
use crate::record::rolling::Amount;
use crate::record::{Goal, OnFailure, Phase, Reason, WaitReason};

/// So many nodes decide over a Recreate when the request does not say: one broken machine of thousands does not.
const DEFAULT_THRESHOLD: Amount = Amount::Percent(10);
/// A failure signal counts once it has lasted this long: registries hiccup.
pub(in crate::plan) const FAILURE_SETTLES: SignedDuration = SignedDuration::from_secs(30);

/// What visibly cannot work: in few words for a wait, and in full.
struct Failure {
    subject: String,
    message: String,
}

impl StepContext<'_> {
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

    /// What of the stack does not run yet, if anything: a workload, or by the operator's word.
    pub(in crate::plan) fn not_running(&self, gr: &LiveGr) -> Option<Next> {
        let component = self.first_component_not_running(gr, &BTreeSet::new()).map(Next::Wait);
        component.or_else(|| self.operator_has_its_time(gr))
    }

    /// Every workload is rolled out. The operator's word is one more piece of evidence, and waited for until the
    /// deadline; then the cluster's own evidence has to do.
    fn operator_has_its_time(&self, gr: &LiveGr) -> Option<Next> {
        let late = self.status.deadline.is_some_and(|d| self.now >= d);
        let waits = !gr.operator_says_running() && !late;
        waits.then(|| {
            let message = format!("gcu-operator reports phase `{}`, not yet Running", gr.phase());
            Wait::next(WaitReason::OperatorDeploying, message)
        })
    }

    fn first_component_not_running(&self, gr: &LiveGr, failing: &BTreeSet<&str>) -> Option<Wait> {
        gr::workloads(&gr.manifest, &gr.status).iter().find_map(|w| self.not_rolled_out(gr, w, failing))
    }

    fn not_rolled_out(&self, gr: &LiveGr, workload: &Workload, failing: &BTreeSet<&str>) -> Option<Wait> {
        let find = |workload: &Workload| self.seen.workloads.iter().find(|s| s.is(workload));
        let pending = |workload: &Workload| match find(workload) {
            Some(state) => state.pending(self.excused(workload, failing)),
            // A documented default name that a later operator has changed: its own word has to do.
            None if workload.source == Source::Assumed
                && gr.reports_component_running(&workload.component) =>
            {
                None
            }
            None => Some("does not exist yet".to_owned()),
        };
        // The operator may give its workload another name than the spec does: then its word counts.
        let reported = gr::reported_workloads(&workload.component, &gr.status);
        let other_name = find(workload).is_none() && reported.iter().any(|w| find(w).is_some());
        let workloads = if other_name { reported.as_slice() } else { std::slice::from_ref(workload) };
        let (workload, pending) = workloads.iter().find_map(|w| Some((w, pending(w)?)))?;
        Some(Wait {
            reason: WaitReason::ComponentStarting,
            message: format!("{}: {} is not fully rolled out", workload.component, workload.describe()),
            detail: format!("{}: {} {pending}", workload.component, workload.describe()),
            until: None,
        })
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

    /// How many of its pods cannot become available: those on nodes that are not ready, or that have failed. A daemon
    /// has one a node, beside which the old stack's may be left; a replica whose deletion has been asked for is started
    /// again elsewhere.
    pub(super) fn excused(&self, workload: &Workload, failing: &BTreeSet<&str>) -> i32 {
        let theirs = |p: &&PodState| p.namespace == workload.namespace && p.workload == workload.name;
        let pods = self.seen.pods.iter().filter(theirs).filter(|p| {
            self.is_on_dead_node(p) || p.node.as_deref().is_some_and(|node| failing.contains(node))
        });
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
