//! What a decision may rest on: what watches have shown, or only the cluster as it is read now. Pure.

use std::sync::Arc;

use super::Decision;
use super::fleet::{NodeState, Tenant};
use super::rolling::node::{is_ours, must_leave};
use crate::record::rolling::{Claim, ClaimState};
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Reason, Step, Strategy};

/// What a decision may rest on.
#[derive(Clone, Debug, PartialEq)]
pub enum Basis {
    /// What watches have shown, once each of these is confirmed by a read.
    Views(Vec<Confirm>),
    /// The cluster as it is read now.
    Live,
}

/// What is read once more before a decision that rests on views is carried out. If it does not hold, the decision is
/// taken anew.
#[derive(Clone, Debug, PartialEq)]
pub enum Confirm {
    /// No pod that has to leave is on the node of this claim, which begins to swap: from there on is no way back, and a
    /// pod may have been bound to the node while the cordon was on its way.
    Emptied(Claim),
    /// The node does not carry our claim, which the record drops: the view may be from before our cordon. What this
    /// process has released itself is known.
    Released(String),
}

impl Confirm {
    /// Whether it holds, by the pods of users on the node.
    pub fn is_emptied(claim: &Claim, record: &GcuUpgrade, tenants: &[Arc<Tenant>]) -> bool {
        let drain = record.spec.rolling_update.clone().unwrap_or_default().drain;
        !tenants.iter().any(|tenant| must_leave(claim, tenant, &drain))
    }

    /// Whether it holds, by the node.
    pub fn is_released(record: &GcuUpgrade, node: &NodeState) -> bool {
        !is_ours(record, node)
    }
}

/// What this decision about the record may rest on.
///
/// Views only wake up and explain, but for the nodes in work: what is done to one is guarded by the record's version, the
/// node's version or a pod's UID, and reading thousands of nodes for each step of each would help nobody.
pub fn basis(record: &GcuUpgrade, decision: &Decision) -> Basis {
    let rolls = record.spec.strategy == Strategy::RollingUpdate
        && record.status.as_ref().is_some_and(|s| s.step == Step::Rolling);
    match decision {
        Decision::Wait { .. } => Basis::Views(Vec::new()),
        Decision::ActAll(_) if rolls => Basis::Views(Vec::new()),
        Decision::Record(status) if rolls && is_about_claims(status, record) => {
            Basis::Views(confirmations(record, status))
        }
        Decision::Record(_)
        | Decision::Act(_)
        | Decision::Guard(_)
        | Decision::ActAll(_)
        | Decision::Finished => Basis::Live,
    }
}

fn claims(status: &GcuUpgradeStatus) -> &[Claim] {
    status.rolling.as_ref().map(|r| r.active.as_slice()).unwrap_or_default()
}

fn confirmations(record: &GcuUpgrade, status: &GcuUpgradeStatus) -> Vec<Confirm> {
    let (known, new) = (record.status.as_ref().map(claims).unwrap_or_default(), claims(status));
    let begins = new.iter().filter(|claim| {
        let was = known.iter().find(|c| c.node == claim.node).map(|c| c.state);
        claim.state == ClaimState::Swapping && was == Some(ClaimState::Emptying)
    });
    let dropped = known.iter().filter(|c| c.cordon && !new.iter().any(|claim| claim.node == c.node));
    let begins = begins.map(|claim| Confirm::Emptied(claim.clone()));
    begins.chain(dropped.map(|c| Confirm::Released(c.node.clone()))).collect()
}

/// What is only about nodes. Whether the gr is still ours is not: after an outage its watch can be the last that is back,
/// and shows it as it was before our own change. Nor is whether a workload is gone, and what it is replaced by, nor that
/// somebody has put an update strategy back: a view from before our own hold looks just so.
fn is_about_claims(status: &GcuUpgradeStatus, record: &GcuUpgrade) -> bool {
    let of_lock = |s: &GcuUpgradeStatus| s.rolling.as_ref().map(|r| (r.giving_up.clone(), r.relocks));
    record.status.as_ref().is_some_and(|known| {
        status.step == Step::Rolling
            && of_lock(status) == of_lock(known)
            && !status.is_because_of(Reason::WorkloadChanged)
            && status.attempt == known.attempt
    })
}
