//! When the new stack counts as running, and when as failing.

use std::sync::Arc;

use super::*;

fn made() -> LiveGr {
    marked(MADE_FOR_TARGET, &target(), Goal::Target)
}

fn starting() -> Given {
    given().step(Step::WaitingRunning).gr(made())
}

fn operator(status: Value) -> Given {
    starting().gr(LiveGr { generation: 2, status: status.into(), ..made() }).workload(rollout(3, 3))
}

fn failing_pod(name: &str) -> PodState {
    PodState { failure: Some("container driver: ErrImagePull".to_owned()), ..pod(name) }
}

#[test]
fn running_means_that_every_workload_is_fully_rolled_out() {
    let deployment = WorkloadState { kind: WorkloadKind::Deployment, ..rollout(3, 3) };
    let elsewhere = WorkloadState { namespace: "default".to_owned(), ..rollout(3, 3) };
    check(vec![
        ("no workload yet", starting(), "wait: ComponentStarting"),
        ("none of that kind", starting().workload(deployment), "wait: ComponentStarting"),
        ("none in that namespace", starting().workload(elsewhere), "wait: ComponentStarting"),
        (
            "not taken up by its controller",
            starting().workload(WorkloadState { observed: false, ..rollout(3, 3) }),
            "wait: ComponentStarting",
        ),
        ("rolling", starting().workload(rollout(2, 2)), "wait: ComponentStarting"),
        ("old pods available", starting().workload(rollout(2, 3)), "wait: ComponentStarting"),
        ("not yet available", starting().workload(rollout(3, 2)), "wait: ComponentStarting"),
        ("rolled out", starting().workload(rollout(3, 3)), "Succeeded: Succeeded"),
        (
            "for no node at all",
            starting().workload(WorkloadState { desired: 0, ..rollout(0, 0) }),
            "Succeeded: Succeeded",
        ),
        ("late", starting().workload(rollout(2, 2)).late(), "hold: DeadlineExceeded"),
        ("rolled out while held", starting().workload(rollout(3, 3)).late().held(), "Succeeded: Succeeded"),
    ]);
}

#[test]
fn running_means_that_the_operator_says_so_of_this_very_spec() {
    check(vec![
        ("running", operator(json!({ "phase": "Running", "observedGeneration": 2 })), "Succeeded: Succeeded"),
        (
            "in lower case",
            operator(json!({ "phase": "running", "observedGeneration": 2 })),
            "Succeeded: Succeeded",
        ),
        ("of no generation", operator(json!({ "phase": "Running" })), "Succeeded: Succeeded"),
        (
            "of an older spec",
            operator(json!({ "phase": "Running", "observedGeneration": 1 })),
            "wait: OperatorDeploying",
        ),
        ("deploying", operator(json!({ "phase": "deploying" })), "wait: OperatorDeploying"),
        ("nothing", operator(Value::Null), "wait: OperatorDeploying"),
        ("garbage", operator(json!({ "phase": 5, "observedGeneration": "x" })), "wait: OperatorDeploying"),
        ("2/5", operator(json!({ "phase": "Running", "readyResource": "2/5" })), "Succeeded: Succeeded"),
        ("5/5", operator(json!({ "phase": "deploying", "readyResource": "5/5" })), "wait: OperatorDeploying"),
    ]);
}

#[test]
fn a_default_name_that_a_later_operator_changed_takes_the_operators_word() {
    let unnamed = json!({ "spec": { "driver": { "version": "2" } } });
    let reported = |status: &str| {
        let status =
            json!({ "phase": "Running", "resourceStatuses": [{ "name": "driver", "status": status }] });
        let gr = LiveGr { manifest: unnamed.clone().into(), status: status.into(), ..made() };
        starting().spec(|s| s.target.manifest = unnamed.clone()).gr(gr)
    };
    check(vec![
        ("reported running", reported("Running"), "Succeeded: Succeeded"),
        ("reported otherwise", reported("deploying"), "wait: ComponentStarting"),
    ]);
}

#[test]
fn defaults_added_by_others_are_no_edit() {
    let mut defaulted = made();
    Arc::make_mut(&mut defaulted.manifest)["spec"]["driver"]["imagePullPolicy"] = json!("IfNotPresent");
    Arc::make_mut(&mut defaulted.manifest)["spec"]["nfd"] = json!({ "notDeploy": true });
    check(vec![("defaulted", starting().gr(defaulted).workload(rollout(3, 3)), "Succeeded: Succeeded")]);
}

#[test]
fn nodes_that_are_not_ready_keep_nobody_from_success() {
    let dead = starting().pods(&[pod("a")]).on_dead_nodes();
    check(vec![
        ("its pod is excused", dead.clone().workload(rollout(3, 2)), "Succeeded: Succeeded"),
        ("another is not", dead.clone().workload(rollout(3, 1)), "wait: ComponentStarting"),
        ("an older version is not", dead.workload(rollout(2, 2)), "wait: ComponentStarting"),
    ]);
}

/// The pod of the old stack stays on a dead node until it returns, beside the new one.
#[test]
fn a_dead_node_excuses_one_pod_however_many_it_holds() {
    let node = Some("dead".to_owned());
    let old = PodState { node: node.clone(), deleting: true, ..pod("old") };
    let new = PodState { node, ..pod("new") };
    let dead = starting().pods(&[old, new]).on_dead_nodes();
    check(vec![
        ("the others are available", dead.clone().workload(rollout(3, 2)), "Succeeded: Succeeded"),
        ("one of the others is not", dead.workload(rollout(3, 1)), "wait: ComponentStarting"),
    ]);
}

/// Replicas are started again elsewhere, and the one that left is no longer missing.
#[test]
fn a_replica_that_has_left_its_dead_node_excuses_nobody() {
    let status = json!({ "phase": "Running", "resourceStatuses": [{
        "name": "driver", "namespace": "kube-system", "ownResources": [{ "kind": "Deployment", "name": "driver" }],
    }] });
    let deployment = |available| WorkloadState { kind: WorkloadKind::Deployment, ..rollout(3, available) };
    let starting = starting().gr(LiveGr { status: status.into(), ..made() });
    let left = starting.clone().pods(&[PodState { deleting: true, ..pod("a") }]).on_dead_nodes();
    let there = starting.pods(&[pod("a")]).on_dead_nodes();
    check(vec![
        ("it has left", left.workload(deployment(2)), "wait: ComponentStarting"),
        ("it is still there", there.workload(deployment(2)), "Succeeded: Succeeded"),
    ]);
}

#[test]
fn a_failure_counts_once_it_has_settled() {
    let failing = |seconds| {
        starting()
            .workload(rollout(3, 2))
            .pods(&[failing_pod("a")])
            .waiting_on(WaitReason::PodFailing, seconds)
    };
    let other = starting().pods(&[failing_pod("a")]).waiting_on(WaitReason::ComponentStarting, 600);
    check(vec![
        ("first seen", starting().pods(&[failing_pod("a")]), "wait: PodFailing"),
        ("after another wait", other, "wait: PodFailing"),
        ("not settled", failing(29), "wait: PodFailing"),
        ("settled", failing(30), "hold: PodFailing"),
        ("settled and held", failing(30).held(), "wait: PodFailing"),
        ("held, late", failing(30).late().held(), "wait: PodFailing"),
        ("not settled, late", failing(1).late(), "hold: DeadlineExceeded"),
        ("held, recovered", failing(30).pods(&[pod("a")]).held(), "WaitingRunning of made-for-target"),
        ("held, recovered, late", failing(30).pods(&[pod("a")]).late().held(), "wait: ComponentStarting"),
        ("not settled, may roll back", failing(29).rolls_back_on_failure(), "wait: PodFailing"),
        ("settled, may roll back", failing(30).rolls_back_on_failure(), "Deleting of made-for-target, back"),
        (
            "settled while held, may roll back",
            failing(30).held().rolls_back_on_failure(),
            "Deleting of made-for-target, back",
        ),
        ("retried", failing(30).held().retried(), "WaitingRunning again"),
    ]);
}

fn refused(updated: i32, available: i32) -> WorkloadState {
    WorkloadState { refused: Some("exceeded quota".to_owned()), ..rollout(updated, available) }
}

#[test]
fn a_pod_that_cannot_be_created_is_a_failure_like_one_that_cannot_start() {
    let none = WorkloadState { observed: false, desired: 0, ..refused(0, 0) };
    let settled = |workload: WorkloadState| {
        starting().workload(workload).waiting_on(WaitReason::PodFailing, 30).rolls_back_on_failure()
    };
    check(vec![
        ("first seen", starting().workload(none.clone()).rolls_back_on_failure(), "wait: PodFailing"),
        ("settled", settled(none.clone()), "Deleting of made-for-target, back"),
        (
            "its controller counts no node",
            settled(WorkloadState { observed: true, ..none.clone() }),
            "Deleting of made-for-target, back",
        ),
        ("some pods were created", settled(refused(1, 1)), "Deleting of made-for-target, back"),
        ("all pods are there", settled(refused(3, 3)), "Succeeded: Succeeded"),
    ]);
    let turned = settled(none).new_status();
    assert_eq!(
        turned.cause.as_deref(),
        Some("driver: no pod can be created: exceeded quota (DaemonSet kube-system/driver)")
    );
}

/// One place makes the text, and everything that shows an end shows it.
#[test]
fn why_it_turned_back_is_part_of_the_end() {
    let mut back = given().going_back(Step::WaitingRunning).workload(rollout(3, 3));
    back = back.gr(marked(MADE_FOR_PREVIOUS, &previous(), Goal::Previous));
    back.record.status.as_mut().unwrap().cause =
        Some("driver on node-2: image d:2 cannot be pulled".to_owned());
    let end = back.new_status();
    let message = "driver on node-2: image d:2 cannot be pulled; gr gcu is back at the previous version";
    assert_eq!((end.phase, end.message.as_str()), (Phase::RolledBack, message));
    for kind in ["Finished", "Succeeded", "Progressing"] {
        assert_eq!(end.conditions.iter().find(|c| c.type_ == kind).unwrap().message, message, "{kind}");
    }
    assert_eq!(end.timeline.last().unwrap().message, message);
}

#[test]
fn slowness_alone_never_rolls_back() {
    check(vec![(
        "late",
        starting().workload(rollout(1, 1)).late().rolls_back_on_failure(),
        "hold: DeadlineExceeded",
    )]);
}

#[test]
fn the_way_back_that_fails_is_held_and_never_turned_again() {
    let back = given()
        .going_back(Step::WaitingRunning)
        .gr(marked(MADE_FOR_PREVIOUS, &previous(), Goal::Previous))
        .pods(&[failing_pod("a")])
        .waiting_on(WaitReason::PodFailing, 60)
        .rolls_back_on_failure();
    check(vec![
        ("settled", back.clone(), "hold: PodFailing"),
        ("rollback asked for as well", back.clone().rollback_asked(), "hold: PodFailing"),
        ("record deleted as well", back.record_deleted(), "hold: PodFailing"),
    ]);
}

#[test]
fn a_pod_on_a_node_that_is_not_ready_is_no_failure() {
    let dead = starting().pods(&[failing_pod("a")]).on_dead_nodes().waiting_on(WaitReason::PodFailing, 60);
    check(vec![
        ("all others run", dead.clone().workload(rollout(3, 2)), "Succeeded: Succeeded"),
        ("others start", dead.clone().workload(rollout(3, 1)), "wait: ComponentStarting"),
        ("may roll back", dead.rolls_back_on_failure().workload(rollout(3, 1)), "wait: ComponentStarting"),
    ]);
}

#[test]
fn a_failure_is_quoted_with_its_pod_and_node() {
    let held = starting().pods(&[failing_pod("a")]).waiting_on(WaitReason::PodFailing, 60).new_status();
    assert_eq!(held.message, "held: driver on node-of-a: container driver: ErrImagePull (pod kube-system/a)");
}
