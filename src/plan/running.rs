//! What of the stack does not run yet, and since when something visibly cannot: of every strategy.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::PodState;
use super::step_context::{Next, StepContext, Wait};
use crate::gr::{self, LiveGr, Source, Workload, WorkloadKind};
use crate::record::WaitReason;

/// A failure signal counts once it has lasted this long: registries hiccup.
pub(super) const FAILURE_SETTLES: SignedDuration = SignedDuration::from_secs(30);

impl StepContext<'_> {
    /// What of the stack does not run yet, if anything: a workload, or by the operator's word.
    pub(super) fn not_running(&self, gr: &LiveGr) -> Option<Next> {
        let component = self.first_component_not_running(gr, &BTreeSet::new()).map(Next::Wait);
        component.or_else(|| self.operator_has_its_time(gr))
    }

    /// Every workload is rolled out. The operator's word is one more piece of evidence, and waited for until the
    /// deadline; then the cluster's own evidence has to do.
    pub(super) fn operator_has_its_time(&self, gr: &LiveGr) -> Option<Next> {
        let late = self.status.deadline.is_some_and(|d| self.now >= d);
        let waits = !gr.operator_says_running() && !late;
        waits.then(|| {
            let message = format!("gcu-operator reports phase `{}`, not yet Running", gr.phase());
            Wait::next(WaitReason::OperatorDeploying, message)
        })
    }

    pub(super) fn first_component_not_running(&self, gr: &LiveGr, failing: &BTreeSet<&str>) -> Option<Wait> {
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

    pub(super) fn settles_at(&self) -> Timestamp {
        let since =
            self.status.waiting_on.as_ref().filter(|w| w.reason == WaitReason::PodFailing).map(|w| w.since);
        since.unwrap_or(self.now).saturating_add(FAILURE_SETTLES).unwrap_or(Timestamp::MAX)
    }

    /// A kubelet that is away ends no pod and starts none: when it comes back it ends the old one first.
    pub(super) fn is_on_dead_node(&self, pod: &PodState) -> bool {
        pod.node.as_ref().is_some_and(|n| self.seen.dead_nodes.contains(n))
    }
}
