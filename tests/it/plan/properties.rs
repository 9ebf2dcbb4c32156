//! What holds for any record, however it was edited, and any look at the cluster.

use std::collections::BTreeSet;

use gcu_upgrade_manager::gr::workloads;
use gcu_upgrade_manager::record::{Condition, TimelineEntry};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Strategy;

use super::*;

const UIDS: [&str; 4] = [RECORDED, MADE_FOR_TARGET, MADE_FOR_PREVIOUS, STRANGERS];

/// Around now, and at both ends of time.
fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => (-100_i64..100).prop_map(ago),
        1 => Just(Timestamp::MIN),
        1 => Just(Timestamp::MAX),
    ]
}

fn any_uid() -> impl Strategy<Value = Option<String>> {
    prop::option::of(select(UIDS.map(str::to_owned).to_vec()))
}

fn any_manifest() -> impl Strategy<Value = Value> {
    let odd = [
        Value::Null,
        json!(1),
        json!({}),
        json!({ "metadata": 1, "spec": [] }),
        json!({ "spec": { "driver": {} } }),
    ];
    let odd = odd.into_iter().chain([json!({ "metadata": { "annotations": [] } })]).collect::<Vec<_>>();
    prop_oneof![3 => Just(target()), 3 => Just(previous()), 1 => Just(stack("other")), 1 => select(odd)]
}

fn any_step() -> impl Strategy<Value = Step> {
    use Step::*;
    select(vec![Recorded, Deleting, WaitingGone, Creating, WaitingRunning, Done])
}

fn any_reason() -> impl Strategy<Value = WaitReason> {
    use WaitReason::*;
    let all = [
        GrTerminating,
        PodsTerminating,
        OperatorDeploying,
        ComponentStarting,
        PodFailing,
        CallRefused,
        ViewSettling,
    ];
    select(all.to_vec())
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let text = |all: &[&'static str]| select(all.to_vec()).prop_map(str::to_owned);
    (
        text(&["Progressing", "Held", "Finished", "Succeeded", "Mine"]),
        text(&["True", "False", "Unknown"]),
        any_time(),
    )
        .prop_map(|(type_, status, last_transition_time)| Condition {
            type_,
            status,
            reason: "Reason".to_owned(),
            message: String::new(),
            last_transition_time,
        })
}

prop_compose! {
    fn any_status()(
        phase in select(vec![Phase::Pending, Phase::Running, Phase::Running, Phase::Held, Phase::Failed]),
        goal in select(vec![Goal::Target, Goal::Previous]),
        step in any_step(),
        times in (prop::option::of(any_time()), prop::option::of(any_time()), prop::option::of(any_time())),
        waiting in prop::option::of((any_reason(), any_time())),
        uids in (any_uid(), any_uid()),
        attempt in 0_u32..3,
        of in prop::option::of(any_manifest()),
        entries in 0_usize..60,
        conditions in prop::collection::btree_map("[a-d]", any_condition(), 0..4),
    ) -> GcuUpgradeStatus {
        let entry = TimelineEntry { at: now(), step, message: "edited".to_owned() };
        let mut seen = BTreeSet::new();
        GcuUpgradeStatus {
            phase,
            goal,
            step,
            step_since: times.0,
            deadline: times.1,
            started_at: times.2,
            waiting_on: waiting.map(|(reason, since)| WaitingOn { reason, message: "edited".to_owned(), since }),
            attempt,
            deleting_uid: uids.0,
            created_uid: uids.1,
            workloads: of.map(|m| workloads(&m, &Value::Null)).unwrap_or_default(),
            timeline: vec![entry; entries],
            conditions: conditions.into_values().filter(|c| seen.insert(c.type_.clone())).collect(),
            ..GcuUpgradeStatus::default()
        }
    }
}

prop_compose! {
    fn any_gr()(
        uid in select(UIDS.to_vec()),
        mark in prop::option::of(select(vec![Goal::Target, Goal::Previous])),
        manifest in any_manifest(),
        deleting in any::<bool>(),
        running in any::<bool>(),
    ) -> LiveGr {
        let phase = if running { "Running" } else { "deploying" };
        let mark = mark.map(|goal| record().mark(goal));
        LiveGr { mark, deleting, status: json!({ "phase": phase }).into(), ..gr(uid, &manifest) }
    }
}

prop_compose! {
    fn any_pod()(name in "[a-c]", failing in any::<bool>(), bound in any::<bool>(), ours in any::<bool>(),
        deleting in any::<bool>()) -> PodState {
        let pod = pod(&name);
        PodState {
            failure: failing.then(|| "cannot start".to_owned()),
            node: pod.node.clone().filter(|_| bound),
            workload: if ours { pod.workload.clone() } else { "another".to_owned() },
            deleting,
            ..pod
        }
    }
}

prop_compose! {
    fn any_given()(
        status in prop::option::of(any_status()),
        gr in prop::option::of(any_gr()),
        pods in prop::collection::vec(any_pod(), 0..4),
        rollout in prop::option::of((any::<bool>(), 0..4_i32, 0..4_i32)),
        long in any::<bool>(),
        asked in (any::<bool>(), any::<bool>(), any::<bool>(), 0_u32..3),
        no_previous in any::<bool>(),
        target in any_manifest(),
        seconds in select(vec![0, 1, 600, u32::MAX]),
        refused in prop::option::of("[a-z é\u{4e00}]{0,30}"),
        dead in prop::collection::btree_set("node-of-[a-c]", 0..3),
    ) -> Given {
        let mut given = given().spec(|s| {
            let (rollback, on_failure, _, attempt) = asked;
            s.intent = if rollback { Intent::Rollback } else { Intent::Run };
            s.on_failure = if on_failure { OnFailure::Rollback } else { OnFailure::Hold };
            s.attempt = attempt;
            s.target.manifest = target;
            s.deadlines = Deadlines { gone_seconds: seconds, create_seconds: seconds,
                running_seconds: seconds, ..Deadlines::default() };
        });
        if asked.2 {
            given = given.record_deleted();
        }
        if no_previous {
            given = given.without_previous();
        }
        given.record.status = status;
        given.seen.gr = gr;
        given.seen.pods = pods;
        given.seen.dead_nodes = dead;
        given.seen.refused = refused.map(|r| if long { r.repeat(20_000) } else { r });
        given.seen.workloads = rollout
            .map(|(observed, updated, available)| WorkloadState { observed, ..super::rollout(updated, available) })
            .into_iter()
            .collect();
        given
    }
}

fn applied(given: &Given, status: GcuUpgradeStatus) -> Given {
    let mut next = given.clone();
    next.record.status = Some(status);
    next
}

/// How much one decision may add to a record.
const GROWTH: usize = 64 * 1024;

fn size(status: &GcuUpgradeStatus) -> usize {
    serde_json::to_string(status).unwrap().len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_status_stays_bounded_and_its_conditions_unique(given in any_given()) {
        let decision = given.decide();
        if let Decision::Record(status) = &decision {
            prop_assert!(status.timeline.len() <= 40);
        }
        if let Decision::Record(status) | Decision::Wait { status, .. } = decision {
            let types: BTreeSet<&str> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
            prop_assert_eq!(types.len(), status.conditions.len());
            prop_assert!(size(&status) < size(&given.record.status_or_default()) + GROWTH);
        }
    }

    #[test]
    fn a_wait_that_has_been_said_is_not_written_again(given in any_given()) {
        if let Decision::Wait { status, until } = given.decide() {
            let again = applied(&given, *status.clone()).decide();
            prop_assert_eq!(again, Decision::Wait { status, until });
        }
    }

    #[test]
    fn with_nothing_changing_there_is_soon_nothing_to_write(given in any_given()) {
        let mut given = given;
        for _ in 0..12 {
            match given.decide() {
                Decision::Record(status) => given = applied(&given, *status),
                Decision::Wait { status, .. } if given.record.status.as_ref() != Some(&status) => {
                    given = applied(&given, *status);
                }
                _ => return Ok(()),
            }
        }
        prop_assert!(false, "still writing: {:?}", given.decide());
    }

    #[test]
    fn only_the_gr_in_the_record_is_deleted_in_the_version_that_was_seen(given in any_given()) {
        let seen = given.seen.gr.as_ref();
        match given.decide() {
            Decision::Act(GrAction::Delete { uid, resource_version }) => {
                prop_assert_eq!(given.record.status_or_default().deleting_uid, Some(uid.clone()));
                prop_assert_eq!(seen.map(|g| (&g.uid, &g.resource_version)), Some((&uid, &resource_version)));
            }
            Decision::Act(GrAction::Create { .. }) => prop_assert!(seen.is_none()),
            _ => {}
        }
    }
}
