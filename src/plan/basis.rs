//! What a decision may rest on: what watches have shown, or only the cluster as it is read now. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use super::Decision;
use crate::record::rolling::Claim;
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Reason, Step, Strategy};

/// What a decision may rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// What watches have shown.
    Views,
    /// The cluster as it is read now.
    Live,
}

/// What this decision about the record may rest on.
///
/// Views only wake up and explain, but for the nodes in work: what is done to one is guarded by the record's version,
/// the node's version or a pod's UID, and reading thousands of nodes for each step of each would help nobody.
pub fn basis(record: &GcuUpgrade, decision: &Decision) -> Basis {
    let rolls = record.spec.strategy == Strategy::RollingUpdate
        && record.status.as_ref().is_some_and(|s| s.step == Step::Rolling);
    match decision {
        Decision::Wait { .. } => Basis::Views,
        Decision::ActAll(_) if rolls => Basis::Views,
        Decision::Record(status) if rolls && is_about_claims(status, record) => Basis::Views,
        Decision::Record(_)
        | Decision::Act(_)
        | Decision::Guard(_)
        | Decision::ActAll(_)
        | Decision::Finished => Basis::Live,
    }
}

fn claims(status: &GcuUpgradeStatus) -> &[Arc<Claim>] {
    status.rolling.as_ref().map(|r| r.active.as_slice()).unwrap_or_default()
}

/// The nodes that the record knows as in work, and no more with this status. Whatever it rests on, each is read once
/// more before: it may not carry our claim, and what is known of it may be from before our cordon. What this process
/// has released itself is known. If one does, the decision is taken anew.
pub fn dropped(record: &GcuUpgrade, status: &GcuUpgradeStatus) -> Vec<String> {
    let (known, new) = (record.status.as_ref().map(claims).unwrap_or_default(), claims(status));
    let left: HashSet<&str> = new.iter().map(|claim| claim.node.as_str()).collect();
    let dropped = known.iter().filter(|c| c.cordon && !left.contains(c.node.as_str()));
    dropped.map(|c| c.node.clone()).collect()
}

/// What is only about nodes. Whether the gr is still ours is not: after an outage its watch can be the last that is
/// back, and shows it as it was before our own change. Nor is whether a workload is gone, and what it is replaced by,
/// nor that somebody has put an update strategy back: a view from before our own hold looks just so.
fn is_about_claims(status: &GcuUpgradeStatus, record: &GcuUpgrade) -> bool {
    let of_lock = |s: &GcuUpgradeStatus| s.rolling.as_ref().map(|r| (r.giving_up.clone(), r.relocks));
    record.status.as_ref().is_some_and(|known| {
        status.step == Step::Rolling
            && of_lock(status) == of_lock(known)
            && !status.is_because_of(Reason::WorkloadChanged)
            && status.attempt == known.attempt
    })
}
