//! What a decision may rest on: what watches have shown, or the cluster as it is read now.

use std::sync::Arc;

use gcu_upgrade_manager::plan::basis::{Basis, basis, dropped};
use gcu_upgrade_manager::plan::{Decision, FleetAction, GrAction, GuardAction};
use gcu_upgrade_manager::record::rolling::{Claim, ClaimState, GivingUp, Replaced, RollingStatus};
use gcu_upgrade_manager::record::{GcuUpgradeStatus, Reason};

use super::*;

fn claim(node: &str, state: ClaimState, cordon: bool) -> Arc<Claim> {
    Arc::new(Claim {
        node: node.to_owned(),
        since: now(),
        state,
        deadline: now(),
        cordon,
        pods: Vec::new(),
        replaces: Replaced::default(),
        gcus: 8,
        trouble: None,
        ideal_start_ms: 0,
        attempt: 0,
        soaking_since: None,
        lost_gcus: false,
    })
}

fn rolling(active: Vec<Arc<Claim>>) -> GcuUpgradeStatus {
    GcuUpgradeStatus {
        step: Step::Rolling,
        rolling: Some(RollingStatus { active, ..RollingStatus::default() }),
        ..record().status_or_default()
    }
}

/// A RollingUpdate whose nodes are in work, with these claims on record.
fn in_work(active: Vec<Arc<Claim>>) -> GcuUpgrade {
    let mut record = record();
    record.spec.strategy = Strategy::RollingUpdate;
    record.status = Some(rolling(active));
    record
}

fn of(record: &GcuUpgrade, status: GcuUpgradeStatus) -> Basis {
    basis(record, &Decision::Record(Box::new(status)))
}

#[test]
fn calls_on_nodes_in_work_rest_on_views_and_every_other_call_on_a_read() {
    let evict = FleetAction::Evict {
        node: "a".to_owned(),
        namespace: "n".to_owned(),
        name: "p".to_owned(),
        uid: "u".to_owned(),
    };
    let all = Decision::ActAll(vec![evict]);
    assert_eq!(basis(&in_work(Vec::new()), &all), Basis::Views);
    let mut locking = in_work(Vec::new());
    locking.status = Some(GcuUpgradeStatus { step: Step::Locking, ..rolling(Vec::new()) });
    for (record, decision) in [
        (&locking, all),
        (&in_work(Vec::new()), Decision::Act(GrAction::ReleaseRecord)),
        (&in_work(Vec::new()), Decision::Guard(GuardAction::Install)),
        (&in_work(Vec::new()), Decision::Finished),
    ] {
        assert_eq!(basis(record, &decision), Basis::Live, "{decision:?}");
    }
    let wait = Decision::Wait { status: Box::default(), until: None };
    assert_eq!(basis(&record(), &wait), Basis::Views, "whoever waits changes nothing");
}

#[test]
fn a_claim_that_is_dropped_is_confirmed() {
    let emptying = claim("a", ClaimState::Emptying, true);
    let swapping = claim("a", ClaimState::Swapping, true);
    let record = in_work(vec![emptying.clone()]);
    assert_eq!(of(&record, rolling(vec![emptying])), Basis::Views);
    assert_eq!(of(&record, rolling(vec![swapping])), Basis::Views);
    assert_eq!(of(&record, rolling(Vec::new())), Basis::Views);
    assert_eq!(dropped(&record, &rolling(Vec::new())), ["a"]);
    // Nothing was put on a node that was not cordoned.
    let uncordoned = in_work(vec![claim("a", ClaimState::Swapping, false)]);
    assert_eq!(of(&uncordoned, rolling(Vec::new())), Basis::Views);
    assert!(dropped(&uncordoned, &rolling(Vec::new())).is_empty());
}

#[test]
fn what_is_about_more_than_nodes_rests_on_a_read() {
    let record = in_work(Vec::new());
    let mut gives_up = rolling(Vec::new());
    gives_up.rolling.as_mut().unwrap().giving_up =
        Some(GivingUp { reason: Reason::Conflict, message: "edited".to_owned(), abandon: true });
    let mut relocked = rolling(Vec::new());
    relocked.rolling.as_mut().unwrap().relocks = 1;
    let another_step = GcuUpgradeStatus { step: Step::Restoring, ..rolling(Vec::new()) };
    let retried = GcuUpgradeStatus { attempt: 1, ..rolling(Vec::new()) };
    for status in [gives_up, relocked, another_step, retried] {
        assert_eq!(of(&record, status.clone()), Basis::Live, "{status:?}");
    }
    let mut recreate = in_work(Vec::new());
    recreate.spec.strategy = Strategy::Recreate;
    assert_eq!(of(&recreate, rolling(Vec::new())), Basis::Live);
}
