//! How an upgrade ends or turns back, and what it then says.

use std::sync::Arc;

use super::*;

fn condition<'a>(status: &'a GcuUpgradeStatus, type_: &str) -> &'a str {
    &status.conditions.iter().find(|c| c.type_ == type_).unwrap().status
}

#[test]
fn a_delete_records_what_it_takes_before_it_is_sent() {
    let status = given().gr(gr(RECORDED, &previous())).retried().new_status();
    assert_eq!(status.deleting_uid.as_deref(), Some(RECORDED));
    assert_eq!(status.workloads, gcu_upgrade_manager::gr::workloads(&previous(), &Value::Null));
    assert_eq!(status.attempt, 1, "an attempt from before the first step is no retry");
    assert_eq!(status.started_at, Some(now()));
    assert_eq!(status.deadline, Some(ago(-600)));
}

#[test]
fn every_way_back_ends_where_it_began() {
    check(vec![
        ("record deleted before the first step", given().record_deleted(), "RolledBack: NothingTouched"),
        ("there was no gr", given().without_previous(), "Creating"),
        (
            "a gr appeared meanwhile",
            given().without_previous().gr(gr(STRANGERS, &target())),
            "Failed: Conflict",
        ),
        (
            "back to no gr, one was made",
            given()
                .without_previous()
                .step(Step::WaitingRunning)
                .gr(marked(MADE_FOR_TARGET, &target(), Goal::Target))
                .rollback_asked(),
            "Deleting of made-for-target, back",
        ),
        (
            "back to no gr, none was made",
            given().without_previous().going_back(Step::Creating),
            "RolledBack: RolledBack",
        ),
        (
            "an adopted gr goes on the way back",
            given()
                .step(Step::WaitingRunning)
                .status(|s| s.created_uid = Some(STRANGERS.to_owned()))
                .gr(gr(STRANGERS, &target()))
                .rollback_asked(),
            "Deleting of strangers, back",
        ),
        (
            "turned and retried at once",
            given().step(Step::Creating).rollback_asked().retried(),
            "WaitingGone, back",
        ),
        (
            "turned while held",
            given().step(Step::Creating).late().held().rollback_asked(),
            "WaitingGone, back",
        ),
    ]);
}

#[test]
fn a_turn_keeps_the_workloads_of_both_stacks() {
    let mut made = marked(MADE_FOR_TARGET, &target(), Goal::Target);
    Arc::make_mut(&mut made.manifest)["spec"]["extra"] = json!({ "name": "extra" });
    let turned = given().step(Step::WaitingRunning).gr(made).rollback_asked().new_status();
    let names: Vec<&str> = turned.workloads.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["driver", "extra"]);
}

#[test]
fn an_end_is_said_in_phase_conditions_and_message() {
    let made = |goal| match goal {
        Goal::Target => given().step(Step::WaitingRunning).gr(marked(MADE_FOR_TARGET, &target(), goal)),
        Goal::Previous => {
            given().going_back(Step::WaitingRunning).gr(marked(MADE_FOR_PREVIOUS, &previous(), goal))
        }
    };
    let running = rollout(3, 3);
    let ends = [
        (
            made(Goal::Target).workload(running.clone()),
            Phase::Succeeded,
            "True",
            "gr gcu is now at the target version",
        ),
        (
            made(Goal::Previous).workload(running),
            Phase::RolledBack,
            "False",
            "gr gcu is back at the previous version",
        ),
        (
            given().step(Step::WaitingRunning),
            Phase::Failed,
            "False",
            "the new gr was deleted by someone else",
        ),
    ];
    for (given, phase, succeeded, message) in ends {
        let status = given.waiting_on(WaitReason::OperatorDeploying, 5).new_status();
        assert_eq!((status.phase, status.step), (phase, Step::Done));
        assert_eq!((status.deadline, &status.waiting_on, status.finished_at), (None, &None, Some(now())));
        assert_eq!(condition(&status, "Succeeded"), succeeded);
        assert_eq!(condition(&status, "Finished"), "True");
        assert_eq!((condition(&status, "Progressing"), condition(&status, "Held")), ("False", "False"));
        assert!(status.message.starts_with(message), "{}", status.message);
        assert_eq!(status.timeline.last().unwrap().message, status.message);
    }
}

#[test]
fn a_conflict_says_where_the_manifests_are() {
    let status = given().step(Step::Creating).gr(gr(STRANGERS, &stack("x"))).new_status();
    assert!(
        status.message.starts_with("a gr of uid strangers that this upgrade did not make stands in the way")
    );
    assert!(status.message.contains("spec.target, spec.previous"), "{}", status.message);
}

#[test]
fn a_new_gr_that_somebody_deletes_is_not_called_a_strangers() {
    let made = terminating(marked(MADE_FOR_TARGET, &target(), Goal::Target));
    let status = given().step(Step::WaitingRunning).gr(made).new_status();
    assert!(status.message.starts_with("the new gr is being deleted by someone else"), "{}", status.message);
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let first = given().gr(gr(RECORDED, &previous())).new_status();
    let mut next = given().status(|s| *s = first.clone());
    next.record.status.as_mut().unwrap().conditions.iter_mut().for_each(|c| c.last_transition_time = ago(9));
    let second = next.new_status();
    let time =
        |type_: &str| second.conditions.iter().find(|c| c.type_ == type_).unwrap().last_transition_time;
    assert_eq!(second.step, Step::WaitingGone);
    assert_eq!(time("Progressing"), ago(9));
}
