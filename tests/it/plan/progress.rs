//! How far an upgrade is, in numbers and in one line; and which budgets block.

use std::sync::Arc;

use gcu_upgrade_manager::explain::progress::{efficiency, progress};
use gcu_upgrade_manager::observe::budgets::parse_budget;
use gcu_upgrade_manager::plan::budget::{Budget, blocking};
use gcu_upgrade_manager::plan::fleet::{RecreatedBy, Tenant};
use gcu_upgrade_manager::record::rolling::{
    Claim, ClaimState, DoneNode, NodeCounts, Replaced, RollingStatus, RollingUpdate,
};

use super::*;

fn claim(since: Timestamp, ideal_start_ms: u64) -> Arc<Claim> {
    Arc::new(Claim {
        node: "n".to_owned(),
        since,
        state: ClaimState::Swapping,
        deadline: now(),
        cordon: true,
        pods: Vec::new(),
        replaces: Replaced::default(),
        gcus: 8,
        trouble: None,
        ideal_start_ms,
        attempt: 0,
        lost_gcus: false,
        soaking_since: None,
    })
}

/// Begun 100 s ago, the first node done after 40 s.
fn begun() -> RollingStatus {
    RollingStatus {
        max_unavailable: 1,
        first_claim_at: Some(ago(100)),
        last_done_at: Some(ago(60)),
        ideal_ms: 40_000,
        nodes: NodeCounts { total: 4, done: 1, active: 1, waiting: 2, ..NodeCounts::default() },
        recent: vec![DoneNode {
            node: "a".to_owned(),
            since: ago(100),
            at: ago(60),
            pods: Vec::new(),
            replaces: Replaced::default(),
        }],
        ..RollingStatus::default()
    }
}

#[test]
fn efficiency_counts_nodes_in_work_and_leaves_waits_for_people_aside() {
    assert_eq!(efficiency(&RollingStatus::default(), now()), None, "nothing has begun");
    let at_once = RollingStatus { active: vec![claim(ago(60), 40_000)], ..begun() };
    assert_eq!(efficiency(&at_once, now()), Some(1.0), "the next began when the first was done");
    let late = RollingStatus { active: vec![claim(ago(35), 40_000)], ..begun() };
    assert_eq!(efficiency(&late, now()), Some(0.75), "it began 25 s late");
    assert_eq!(efficiency(&begun(), now()), Some(1.0), "none in work: up to the last that was done");
    let gated = RollingStatus { gated_since: Some(ago(60)), ..begun() };
    assert_eq!(efficiency(&gated, now()), Some(1.0), "a gate that is closed");
    let went_on = RollingStatus { gated_ms: 50_000, active: vec![claim(ago(10), 40_000)], ..begun() };
    assert_eq!(efficiency(&went_on, now()), Some(1.0), "a gate that was closed for 50 s");
    let one_only = RollingStatus {
        first_claim_at: Some(now()),
        active: vec![claim(now(), 0)],
        ..RollingStatus::default()
    };
    assert_eq!(efficiency(&one_only, now()), None, "no time has passed");
}

fn rolling(status: RollingStatus, change: impl FnOnce(&mut GcuUpgrade)) -> GcuUpgrade {
    let mut record = record();
    record.spec.strategy = Strategy::RollingUpdate;
    record.spec.rolling_update = Some(RollingUpdate::default());
    record.status = Some(GcuUpgradeStatus {
        phase: Phase::Running,
        step: Step::Rolling,
        rolling: Some(status),
        ..GcuUpgradeStatus::default()
    });
    change(&mut record);
    record
}

#[test]
fn the_end_is_estimated_from_the_nodes_that_were_done() {
    let status = || RollingStatus { active: vec![claim(ago(10), 0)], ..begun() };
    let estimate = |change: fn(&mut GcuUpgrade)| {
        progress(&rolling(status(), change), now()).estimated_end.map(|at| at.duration_since(now()).as_secs())
    };
    assert_eq!(estimate(|_| {}), Some(30 + 2 * 40), "what is left of one, and two more");
    let pause = |r: &mut GcuUpgrade| {
        r.spec.rolling_update.as_mut().unwrap().pause_between_seconds = 60;
        r.status.as_mut().unwrap().rolling.as_mut().unwrap().step_left = Some(0);
    };
    assert_eq!(estimate(pause), Some(110 + 2 * 60), "and two pauses");
    assert_eq!(estimate(|r| r.status.as_mut().unwrap().phase = Phase::Held), None);
    assert_eq!(estimate(|r| r.spec.intent = Intent::Pause), None);
    assert_eq!(estimate(|r| r.status.as_mut().unwrap().rolling.as_mut().unwrap().recent.clear()), None);
    let many =
        |r: &mut GcuUpgrade| r.status.as_mut().unwrap().rolling.as_mut().unwrap().max_unavailable = 100;
    assert_eq!(estimate(many), Some(40), "never less than one node takes");
}

#[test]
fn every_phase_has_its_line() {
    let line = |change: fn(&mut GcuUpgradeStatus)| {
        let record = rolling(begun(), |r| change(r.status.as_mut().unwrap()));
        progress(&record, now()).message
    };
    assert_eq!(line(|s| s.phase = Phase::Pending), "Waiting for gcu-1 to be taken up");
    assert!(
        line(|_| {}).starts_with(
            "Waiting for gcu-1 to finish: 1 of 4 nodes done, 1 in work, 2 to come; done at about"
        )
    );
    let back = line(|s| (s.goal, s.rolling.as_mut().unwrap().recent) = (Goal::Previous, Vec::new()));
    assert_eq!(back, "Waiting for gcu-1 to roll back: 1 of 4 nodes done, 1 in work, 2 to come");
    let propagating = line(|s| (s.step, s.message) = (Step::Propagating, "waiting".to_owned()));
    assert_eq!(propagating, "Waiting for gcu-1 to finish: Propagating: waiting");
    let held = line(|s| (s.phase, s.message) = (Phase::Held, "it is late".to_owned()));
    assert_eq!(held, "gcu-1 is held at Rolling (1 of 4 nodes done, 1 in work, 2 to come): it is late");
    let failed = line(|s| (s.phase, s.message) = (Phase::Failed, "no".to_owned()));
    assert_eq!(failed, "gcu-1 failed: no");
}

fn budget_of(selector: Value, status: Value, v1: bool) -> Budget {
    let object = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "namespace": "a", "name": "b" }, "spec": { "selector": selector }, "status": status,
    });
    parse_budget(&serde_json::from_value(object).unwrap(), v1)
}

#[test]
fn a_budget_blocks_the_pods_that_it_selects_while_it_allows_none() {
    let pod = Tenant {
        namespace: "a".to_owned(),
        name: "p".to_owned(),
        uid: "u".to_owned(),
        node: "n".to_owned(),
        labels: [("app".to_owned(), "x".to_owned())].into(),
        gcus: 1,
        deleting: false,
        workload: String::new(),
        recreated_by: RecreatedBy::Controller,
        empty_dir: false,
        created_at: ago(100),
        tolerates_cordon: false,
        group: None,
    };
    let none = || json!({ "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 2 });
    let rule = |operator: &str, values: Value| {
        let rule = json!({ "key": "app", "operator": operator, "values": values });
        json!({ "matchExpressions": [rule] })
    };
    for (selector, v1, blocks) in [
        (json!({ "matchLabels": { "app": "x" } }), true, true),
        (json!({ "matchLabels": { "app": "y" } }), true, false),
        (json!({ "matchLabels": { "app": "x", "tier": "z" } }), true, false),
        (rule("In", json!(["x", "y"])), true, true),
        (rule("NotIn", json!(["x"])), true, false),
        (rule("NotIn", json!(["y"])), true, true),
        (rule("Exists", json!([])), true, true),
        (rule("DoesNotExist", json!([])), true, false),
        (rule("Gt", json!(["1"])), true, false),
        (json!({}), true, true),
        (json!({}), false, false),
        (Value::Null, true, false),
    ] {
        let budget = budget_of(selector.clone(), none(), v1);
        assert_eq!(blocking(&[budget], &pod).is_some(), blocks, "{selector} v1: {v1}");
    }
    let all = || json!({ "matchLabels": { "app": "x" } });
    let why = blocking(&[budget_of(all(), none(), true)], &pod).unwrap();
    assert_eq!(why, "PodDisruptionBudget a/b needs 2 healthy pods and has 1");
    let free = || budget_of(all(), json!({ "disruptionsAllowed": 1 }), true);
    assert_eq!(blocking(&[free()], &pod), None);
    let elsewhere = Budget { namespace: "other".to_owned(), ..budget_of(all(), none(), true) };
    assert_eq!(blocking(&[elsewhere], &pod), None);
    assert!(
        blocking(&[free(), free()], &pod).unwrap().contains("both cover it"),
        "evictions of it are refused"
    );
}
