//! One claimed node, before its pods are replaced: cordon, wait for jobs, evict; and what comes to it meanwhile.

use std::sync::Arc;

use super::node::{Move, NOT_READY_SETTLES, Node, NodeAssessment, Stage, named};
use super::node::{cannot_be_evicted, must_leave, needs_tenants};
use crate::plan::FleetAction;
use crate::plan::fleet::{Tenant, matches};
use crate::plan::status::after;
use crate::record::rolling::{Drain, NodeMark, OnTimeout};

/// What is said of a node before why its pods are not known.
pub(super) const UNREAD: &str = "the pods on it cannot be read: ";

impl Node<'_> {
    pub(super) fn emptying(&self) -> NodeAssessment {
        if !self.is_ours() {
            return self.cordon();
        }
        let mut look = self.empty();
        if !self.node.ready && !matches!(look.next, Move::Swap) {
            look.message = format!("{}; the node is not ready", look.message);
            look.signal = Some((look.message.clone(), NOT_READY_SETTLES));
        }
        look
    }

    /// Waits for jobs, then evicts.
    fn empty(&self) -> NodeAssessment {
        let options = self.options();
        let Some(tenants) = self.tenants() else { return self.being_read() };
        if let Some(jobs) = &options.wait_for_jobs {
            let until = after(self.claim.since, jobs.timeout_seconds);
            let running: Vec<&Tenant> = tenants
                .iter()
                .map(AsRef::as_ref)
                .filter(|t: &&Tenant| matches(&t.labels, &jobs.selector))
                .collect();
            if !running.is_empty() && self.now < until {
                let mut look = NodeAssessment::wait(
                    Stage::WaitingForJobs,
                    format!("waiting for jobs to end: {}", named(&running)),
                );
                look.until = Some(until);
                return look;
            }
        }
        let leaving: Vec<&Tenant> = tenants
            .iter()
            .map(AsRef::as_ref)
            .filter(|t: &&Tenant| must_leave(self.claim, t, &options.drain))
            .collect();
        if leaving.is_empty() {
            // A node that is not ready is not known to be empty, and nothing would start on it.
            let next = if self.node.ready { Move::Swap } else { Move::Call(Vec::new()) };
            let mut look = NodeAssessment::new(Stage::Evicting, "empty", next);
            look.until = Some(self.claim.deadline);
            return look;
        }
        self.waits_for_gangs(&leaving).unwrap_or_else(|| self.evict(&leaving, &options.drain, true))
    }

    /// The pods of users on the node; `None` while it is not known whether there are any.
    fn tenants(&self) -> Option<&[Arc<Tenant>]> {
        let known = self.index.tenants(&self.node.name);
        known.or_else(|| (!needs_tenants(self.claim, self.options())).then_some(&[]))
    }

    fn being_read(&self) -> NodeAssessment {
        let why = self.index.fleet.unread.get(&self.node.name);
        let message = match why {
            Some(why) => format!("{UNREAD}{why}"),
            None => "the pods on it are being read".to_owned(),
        };
        let mut look = NodeAssessment::wait(Stage::Evicting, message);
        look.unknown = why.is_none();
        look.until = Some(self.claim.deadline);
        look
    }

    fn cordon(&self) -> NodeAssessment {
        if self.node.cordoned || self.node.mark.is_some() || !self.node.ready {
            return NodeAssessment::new(Stage::Cordoning, "no longer free to be worked on", Move::GiveBack);
        }
        if let Some(refusal) = self.index.fleet.refusals.get(&self.node.subject()) {
            return NodeAssessment::wait(Stage::Cordoning, format!("the cordon is refused: {refusal}"));
        }
        let mark = NodeMark {
            record: self.record.metadata.name.clone().unwrap_or_default(),
            uid: self.record.metadata.uid.clone().unwrap_or_default(),
            state: "Claimed".to_owned(),
            attempt: self.record.spec.attempt,
            deadline: self.claim.deadline,
            pre_cordoned: false,
        };
        let action = FleetAction::Cordon {
            node: self.node.name.clone(),
            resource_version: self.node.resource_version.clone(),
            mark,
        };
        NodeAssessment::new(Stage::Cordoning, "being cordoned", Move::Call(vec![action]))
    }

    /// Has these pods leave; while nothing of the node has been replaced yet, it may be skipped instead.
    fn evict(&self, leaving: &[&Tenant], drain: &Drain, untouched: bool) -> NodeAssessment {
        let late = self.now >= self.claim.deadline;
        let (mut calls, mut blocked) = (Vec::new(), Vec::new());
        for tenant in leaving {
            let (namespace, name, uid) = (tenant.namespace.clone(), tenant.name.clone(), tenant.uid.clone());
            let node = tenant.node.clone();
            let refusal = self.index.fleet.refusals.get(&uid);
            if tenant.deleting {
                blocked.push(format!("pod {namespace}/{name} is terminating"));
            } else if let Some(why) = self.is_not_ours_to_end(tenant) {
                blocked.push(why);
            } else if late && drain.on_timeout == OnTimeout::Force && refusal.is_none() {
                calls.push(FleetAction::DeletePod { node, namespace, name, uid });
            } else if let Some(why) = self.comes_back(tenant).or_else(|| cannot_be_evicted(tenant, drain)) {
                blocked.push(why);
            } else if let Some(refusal) = refusal {
                blocked.push(format!("pod {namespace}/{name} cannot be evicted: {refusal}"));
            } else {
                calls.push(FleetAction::Evict { node, namespace, name, uid });
            }
        }
        if late && untouched && drain.on_timeout == OnTimeout::Skip {
            let reason = format!("not drained in time: {}", blocked.join("; "));
            return NodeAssessment::new(Stage::Evicting, reason.clone(), Move::Skip(reason));
        }
        let message = match blocked.first() {
            Some(first) if blocked.len() > 1 => format!("{first}; and {} more", blocked.len() - 1),
            Some(first) => first.clone(),
            None => format!("evicting {}", named(leaving)),
        };
        let mut look = NodeAssessment::new(Stage::Evicting, message, Move::Call(calls));
        look.until = Some(self.claim.deadline);
        look
    }

    /// Why this pod stays: its node does not carry our claim any more.
    fn is_not_ours_to_end(&self, tenant: &Tenant) -> Option<String> {
        let Tenant { namespace, name, .. } = tenant;
        (!self.is_ours()).then(|| {
            format!(
                "the claim was taken off the node by another party, and pod {namespace}/{name} is there: \
                 it is not evicted; end the pod, or skip the node"
            )
        })
    }

    /// Why it is of no use to evict this pod: it came after the node was claimed, and the next one would come too.
    fn comes_back(&self, tenant: &Tenant) -> Option<String> {
        let Tenant { namespace, name, .. } = tenant;
        // Times are in whole seconds: what was created in the same one may have come after.
        if tenant.created_at < self.claim.since {
            return None;
        }
        if tenant.tolerates_cordon {
            return Some(format!(
                "pod {namespace}/{name} tolerates the cordon and came after it: it is not evicted again \
                 and again; stop its controller"
            ));
        }
        (!self.node.cordoned).then(|| {
            format!(
                "the node was uncordoned by another party, and pod {namespace}/{name} came: cordon the \
                 node again, or end the pod"
            )
        })
    }

    /// Pods that have come since the node was emptied: they would lose their GCU with the next pod that is replaced.
    pub(super) fn arrived(&self) -> Option<NodeAssessment> {
        let drain = &self.options().drain;
        let Some(here) = self.tenants() else { return Some(self.being_read()) };
        let arrived: Vec<&Tenant> =
            here.iter().map(AsRef::as_ref).filter(|t: &&Tenant| must_leave(self.claim, t, drain)).collect();
        (!arrived.is_empty()).then(|| self.evict(&arrived, drain, false))
    }
}
