//! Waits, deadlines, holds, refusals and retries.

use super::*;

const TIMED: [Step; 4] = [Step::Deleting, Step::WaitingGone, Step::Creating, Step::WaitingRunning];

fn waiting_for_pods() -> Given {
    given().step(Step::WaitingGone).pods(&[pod("a"), pod("b")])
}

#[test]
fn gone_means_that_the_pods_are_gone_too() {
    let other = PodState { workload: "somebody-elses".to_owned(), ..pod("a") };
    let elsewhere = PodState { namespace: "default".to_owned(), ..pod("a") };
    check(vec![
        ("pods of the old stack are left", waiting_for_pods(), "wait: PodsTerminating"),
        ("no pods are left", waiting_for_pods().pods(&[]), "Creating"),
        ("pods of something else", waiting_for_pods().pods(&[other]), "Creating"),
        ("pods of the same name elsewhere", waiting_for_pods().pods(&[elsewhere]), "Creating"),
        ("all of them on nodes that are not ready", waiting_for_pods().on_dead_nodes(), "Creating"),
        (
            "one more on a node that is ready",
            given().step(Step::WaitingGone).pods(&[pod("a")]).on_dead_nodes().pods(&[pod("a"), pod("b")]),
            "wait: PodsTerminating",
        ),
        (
            "a pod on no node",
            given().step(Step::WaitingGone).pods(&[PodState { node: None, ..pod("a") }]),
            "wait: PodsTerminating",
        ),
        ("on the way back", given().going_back(Step::WaitingGone).pods(&[pod("a")]), "wait: PodsTerminating"),
        (
            "on the way back to no gr",
            given().going_back(Step::WaitingGone).without_previous().pods(&[pod("a")]),
            "wait: PodsTerminating",
        ),
        (
            "on the way back to no gr, and none left",
            given().going_back(Step::WaitingGone).without_previous(),
            "RolledBack: RolledBack",
        ),
    ]);
}

/// Found by the model: a delete that was on its way arrives before the fence, or somebody deletes the gr
/// that was to be kept; the create then met pods of the old stack.
#[test]
fn nothing_is_created_while_pods_of_the_old_stack_are_left() {
    let left = [pod("a")];
    check(vec![
        ("creating", given().step(Step::Creating).pods(&left), "wait: PodsTerminating"),
        ("creating, late", given().step(Step::Creating).pods(&left).late(), "hold: DeadlineExceeded"),
        (
            "creating, pods on dead nodes",
            given().step(Step::Creating).pods(&left).on_dead_nodes(),
            "create Target",
        ),
        ("creating again", given().turned_early(Step::Creating).pods(&left), "wait: PodsTerminating"),
        (
            "the gr to be kept goes after all",
            given().turned_early(Step::Creating).gr(terminating(gr(RECORDED, &previous()))).pods(&left),
            "WaitingGone",
        ),
    ]);
}

/// Found by the model: after a failure the gr may be gone and its pods not yet.
#[test]
fn a_first_install_waits_for_pods_that_somebodys_gr_left_behind() {
    let taken_up = given().without_previous();
    check(vec![("no gr, and none before", taken_up.clone(), "Creating")]);
    let workloads = taken_up.new_status().workloads;
    let mut creating = taken_up.step(Step::Creating);
    creating = creating.status(|s| s.workloads = workloads);
    check(vec![
        ("pods are left", creating.clone().pods(&[pod("a")]), "wait: PodsTerminating"),
        ("none are left", creating, "create Target"),
    ]);
}

#[test]
fn the_way_back_waits_for_pods_of_a_target_that_came_and_went() {
    let mut turned = given().step(Step::Creating).rollback_asked();
    turned.record.spec.target.manifest["spec"] = json!({ "driver": { "name": "new-driver" } });
    let names: Vec<String> = turned.new_status().workloads.into_iter().map(|w| w.name).collect();
    assert_eq!(names, ["driver", "new-driver"]);
}

#[test]
fn a_wait_beyond_the_deadline_is_held_and_goes_on_when_the_obstacle_is_gone() {
    check(vec![
        ("in time", waiting_for_pods(), "wait: PodsTerminating"),
        ("late", waiting_for_pods().late(), "hold: DeadlineExceeded"),
        ("without a deadline", waiting_for_pods().status(|s| s.deadline = None), "hold: DeadlineExceeded"),
        ("late and held already", waiting_for_pods().late().held(), "wait: PodsTerminating"),
        ("held, and the pods are gone", waiting_for_pods().late().held().pods(&[]), "Creating"),
        ("held before the deadline", waiting_for_pods().held(), "WaitingGone"),
    ]);
    let on = waiting_for_pods().held().new_status();
    assert_eq!(on.phase, Phase::Running);
    assert_eq!(on.deadline, Some(ago(-60)), "the deadline stays what it was");
}

#[test]
fn a_hold_names_the_pods_and_a_wait_does_not() {
    let many = waiting_for_pods().pods(&["a", "b", "c", "d"].map(pod));
    assert_eq!(many.new_status().message, "pods of kube-system/driver have not ended");
    assert_eq!(
        many.late().new_status().message,
        "held: 4 pods have not ended: pod kube-system/a (node-of-a), pod kube-system/b (node-of-b), pod \
         kube-system/c (node-of-c)"
    );
}

#[test]
fn a_wait_ends_at_the_deadline_and_a_hold_when_something_changes() {
    let until = |given: Given| match given.decide() {
        Decision::Wait { until, .. } => until,
        other => panic!("{other:?}"),
    };
    assert_eq!(until(waiting_for_pods()), Some(ago(-60)));
    assert_eq!(until(waiting_for_pods().late().held()), None);
}

#[test]
fn a_refused_call_is_waited_out_then_held_and_made_as_soon_as_it_may_be() {
    let calls = [
        (given().step(Step::Deleting).gr(gr(RECORDED, &previous())), "delete recorded"),
        (given().step(Step::Creating), "create Target"),
        (given().turned_early(Step::Creating).gr(gr(RECORDED, &previous())), "fence recorded"),
        (given().going_back(Step::Creating), "create Previous"),
    ];
    for (given, call) in calls {
        check(vec![
            ("not refused", given.clone(), call),
            ("refused", given.clone().refused(), "wait: CallRefused"),
            ("refused, late", given.clone().refused().late(), "hold: DeadlineExceeded"),
            ("refused, held", given.clone().refused().late().held(), "wait: CallRefused"),
            ("held, no longer refused", given.clone().late().held(), call),
            ("late, not refused", given.late(), call),
        ]);
    }
}

#[test]
fn a_refusal_is_quoted() {
    let refused = given().step(Step::Creating).refused();
    assert_eq!(refused.new_status().message, "admission webhook says no");
    assert_eq!(
        refused.late().new_status().message,
        "held: the API server refuses: admission webhook says no"
    );
}

#[test]
fn a_retry_gives_the_step_a_fresh_deadline() {
    for step in TIMED {
        let again = format!("{step:?} again");
        for given in [given().step(step), given().step(step).late().held(), given().going_back(step).late()] {
            let given = given.pods(&[pod("a")]).retried();
            check(vec![("retried", given.clone(), &again)]);
            let status = given.new_status();
            assert_eq!((status.phase, status.attempt), (Phase::Running, 1));
            assert!(status.deadline > Some(now()));
            assert_eq!(status.deleting_uid, given.record.status_or_default().deleting_uid);
        }
    }
}

#[test]
fn each_step_has_the_deadline_that_was_asked_for() {
    let deadlines =
        Deadlines { gone_seconds: 1, create_seconds: 2, running_seconds: 3, ..Deadlines::default() };
    for (step, seconds) in TIMED.into_iter().zip([1, 1, 2, 3]) {
        let given = given().spec(|s| s.deadlines = deadlines).step(step).retried();
        assert_eq!(given.new_status().deadline, Some(ago(-seconds)), "{step:?}");
    }
}

#[test]
fn an_attempt_that_is_taken_into_account_or_older_is_no_retry() {
    let known = given().step(Step::WaitingGone).pods(&[pod("a")]).retried();
    check(vec![
        ("known", known.clone().status(|s| s.attempt = 1), "wait: PodsTerminating"),
        ("older", known.status(|s| s.attempt = 2), "wait: PodsTerminating"),
        ("before the first step", given().gr(gr(RECORDED, &previous())).retried(), "Deleting of recorded"),
    ]);
}

#[test]
fn a_terminating_gr_is_waited_for_with_its_finalizers_named() {
    let waiting = given().step(Step::WaitingGone).gr(terminating(gr(RECORDED, &previous())));
    assert_eq!(
        waiting.new_status().message,
        "gr gcu is terminating, held by finalizer topsops.enflame.com/v1"
    );
    check(vec![("late", waiting.late(), "hold: DeadlineExceeded")]);
}
