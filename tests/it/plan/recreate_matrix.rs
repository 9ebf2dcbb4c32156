//! Every step towards either goal × every gr that may stand there.

use super::*;

/// Everything that may stand there under the gr's name.
fn observations() -> Vec<(&'static str, Option<LiveGr>)> {
    let edited = stack("edited");
    let (target, previous) = (target(), previous());
    let recorded = gr(RECORDED, &previous);
    let for_target = marked(MADE_FOR_TARGET, &target, Goal::Target);
    let for_previous = marked(MADE_FOR_PREVIOUS, &previous, Goal::Previous);
    vec![
        ("nothing", None),
        ("recorded", Some(recorded.clone())),
        ("recorded, terminating", Some(terminating(recorded.clone()))),
        ("recorded, edited", Some(gr(RECORDED, &edited))),
        ("recorded, fenced", Some(marked(RECORDED, &previous, Goal::Previous))),
        ("made for target", Some(for_target.clone())),
        ("made for target, terminating", Some(terminating(for_target))),
        ("made for target, edited", Some(marked(MADE_FOR_TARGET, &edited, Goal::Target))),
        ("made for target twice", Some(marked("another", &target, Goal::Target))),
        ("made for previous", Some(for_previous.clone())),
        ("made for previous, terminating", Some(terminating(for_previous))),
        ("stranger, same as target", Some(gr(STRANGERS, &target))),
        ("stranger, same as previous", Some(gr(STRANGERS, &previous))),
        ("stranger, different", Some(gr(STRANGERS, &edited))),
        ("stranger, terminating", Some(terminating(gr(STRANGERS, &target)))),
    ]
}

/// Judges one record against every observation: the exceptions as listed, `otherwise` for the rest. A held
/// upgrade is judged alike, since a hold only says that something takes long.
#[track_caller]
fn judge(before: &Given, exceptions: &[(&str, &str)], otherwise: &str) {
    let mut rows = Vec::new();
    for (seen, gr) in observations() {
        let then = exceptions.iter().find(|(o, _)| *o == seen).map_or(otherwise, |(_, then)| *then);
        let mut now = before.clone().workload(rollout(3, 3));
        now.seen.gr = gr;
        rows.push((seen, now.clone(), then));
        if now.record.phase() == Phase::Running {
            rows.push((seen, now.late().held(), then));
        }
    }
    let known: Vec<&str> = rows.iter().map(|(seen, ..)| *seen).collect();
    assert!(exceptions.iter().all(|(o, _)| known.contains(o)), "an exception that is no observation");
    check(rows);
}

#[test]
fn only_the_recorded_gr_as_it_was_recorded_is_going_to_be_deleted() {
    judge(
        &given(),
        &[("recorded", "Deleting of recorded"), ("recorded, fenced", "Deleting of recorded")],
        "Failed: Conflict",
    );
}

#[test]
fn only_the_recorded_gr_is_deleted_and_never_one_that_was_edited_since() {
    judge(
        &given().step(Step::Deleting),
        &[
            ("recorded", "delete recorded"),
            ("recorded, edited", "Failed: Conflict"),
            ("recorded, fenced", "delete recorded"),
        ],
        "WaitingGone",
    );
}

#[test]
fn a_free_name_or_the_wanted_gr_ends_the_wait_for_the_old_one() {
    judge(
        &given().step(Step::WaitingGone),
        &[
            ("recorded", "wait: ViewSettling"),
            ("recorded, terminating", "wait: GrTerminating"),
            ("recorded, edited", "wait: ViewSettling"),
            ("recorded, fenced", "wait: ViewSettling"),
            ("made for previous", "Failed: Conflict"),
            ("made for previous, terminating", "Failed: Conflict"),
            ("stranger, same as previous", "Failed: Conflict"),
            ("stranger, different", "Failed: Conflict"),
        ],
        "Creating",
    );
}

#[test]
fn the_target_is_created_once_or_adopted() {
    judge(
        &given().step(Step::Creating),
        &[
            ("nothing", "create Target"),
            ("recorded", "wait: ViewSettling"),
            ("recorded, terminating", "WaitingGone"),
            ("recorded, edited", "wait: ViewSettling"),
            ("recorded, fenced", "wait: ViewSettling"),
            ("made for target", "WaitingRunning of made-for-target"),
            ("made for target, edited", "WaitingRunning of made-for-target"),
            ("made for target twice", "WaitingRunning of another"),
            ("stranger, same as target", "WaitingRunning of strangers"),
        ],
        "Failed: Conflict",
    );
}

#[test]
fn only_the_gr_that_was_made_and_as_it_was_made_succeeds() {
    judge(
        &given().step(Step::WaitingRunning),
        &[("made for target", "Succeeded: Succeeded")],
        "Failed: Conflict",
    );
}

#[test]
fn on_the_way_back_what_was_made_for_the_target_is_deleted() {
    judge(
        &given().going_back(Step::Deleting),
        &[
            ("made for target", "delete made-for-target"),
            ("made for target, edited", "delete made-for-target"),
        ],
        "WaitingGone",
    );
}

#[test]
fn on_the_way_back_a_target_that_was_made_late_is_deleted_too() {
    judge(
        &given().going_back(Step::WaitingGone),
        &[
            ("recorded, edited", "Failed: Conflict"),
            ("made for target", "wait: ViewSettling"),
            ("made for target, terminating", "wait: GrTerminating"),
            ("made for target, edited", "wait: ViewSettling"),
            ("made for target twice", "Deleting of another"),
            ("stranger, same as target", "Failed: Conflict"),
            ("stranger, different", "Failed: Conflict"),
            ("stranger, terminating", "Failed: Conflict"),
        ],
        "Creating",
    );
}

#[test]
fn the_previous_version_is_created_once_or_adopted() {
    judge(
        &given().going_back(Step::Creating),
        &[
            ("nothing", "create Previous"),
            ("recorded", "WaitingRunning of recorded"),
            ("recorded, fenced", "WaitingRunning of recorded"),
            ("made for target", "wait: ViewSettling"),
            ("made for target, terminating", "WaitingGone"),
            ("made for target, edited", "wait: ViewSettling"),
            ("made for target twice", "Deleting of another"),
            ("made for previous", "WaitingRunning of made-for-previous"),
            ("stranger, same as previous", "WaitingRunning of strangers"),
        ],
        "Failed: Conflict",
    );
}

#[test]
fn only_the_gr_that_was_put_back_ends_the_way_back() {
    judge(
        &given().going_back(Step::WaitingRunning),
        &[("made for previous", "RolledBack: RolledBack")],
        "Failed: Conflict",
    );
}

#[test]
fn turned_early_the_recorded_gr_is_kept_or_waited_for() {
    judge(
        &given().turned_early(Step::WaitingGone),
        &[
            ("recorded, terminating", "wait: GrTerminating"),
            ("made for target", "Deleting of made-for-target"),
            ("made for target, terminating", "Deleting of made-for-target"),
            ("made for target, edited", "Deleting of made-for-target"),
            ("made for target twice", "Deleting of another"),
            ("stranger, same as target", "Failed: Conflict"),
            ("stranger, different", "Failed: Conflict"),
            ("stranger, terminating", "Failed: Conflict"),
        ],
        "Creating",
    );
}

#[test]
fn turned_early_the_recorded_gr_is_fenced_before_it_is_kept() {
    judge(
        &given().turned_early(Step::Creating),
        &[
            ("nothing", "create Previous"),
            ("recorded", "fence recorded"),
            ("recorded, terminating", "WaitingGone"),
            ("recorded, edited", "fence recorded"),
            ("recorded, fenced", "WaitingRunning of recorded"),
            ("made for target", "Deleting of made-for-target"),
            ("made for target, terminating", "Deleting of made-for-target"),
            ("made for target, edited", "Deleting of made-for-target"),
            ("made for target twice", "Deleting of another"),
            ("made for previous", "WaitingRunning of made-for-previous"),
            ("stranger, same as previous", "WaitingRunning of strangers"),
        ],
        "Failed: Conflict",
    );
}

#[test]
fn turned_early_the_kept_gr_ends_the_way_back() {
    judge(
        &given().turned_early(Step::WaitingRunning),
        &[("recorded", "RolledBack: RolledBack"), ("recorded, fenced", "RolledBack: RolledBack")],
        "Failed: Conflict",
    );
}

#[test]
fn turned_back_before_the_first_step_nothing_is_touched() {
    judge(&given().rollback_asked(), &[], "RolledBack: NothingTouched");
}

#[test]
fn turned_back_what_was_made_here_is_deleted_and_nothing_else() {
    let made_here = [
        ("made for target", "Deleting of made-for-target, back"),
        ("made for target, terminating", "Deleting of made-for-target, back"),
        ("made for target, edited", "Deleting of made-for-target, back"),
        ("made for target twice", "Deleting of another, back"),
    ];
    for step in [Step::Deleting, Step::WaitingGone, Step::Creating, Step::WaitingRunning] {
        judge(&given().step(step).rollback_asked(), &made_here, "WaitingGone, back");
        judge(&given().step(step).record_deleted(), &made_here, "WaitingGone, back");
    }
}

#[test]
fn a_step_done_without_an_outcome_ends_visibly() {
    judge(&given().step(Step::Done), &[], "Failed: Conflict");
    judge(&given().going_back(Step::Done), &[], "Failed: Conflict");
}

#[test]
fn an_ended_upgrade_does_nothing_but_let_go_of_its_record() {
    for phase in [Phase::Succeeded, Phase::RolledBack, Phase::Failed] {
        for step in [Step::Recorded, Step::Deleting, Step::Creating, Step::WaitingRunning, Step::Done] {
            let ended = given().step(step).status(|s| s.phase = phase).retried().rollback_asked().late();
            judge(&ended, &[], "release");
            let mut released = ended.record_deleted();
            released.record.metadata.finalizers = Some(vec!["example.com/other".to_owned()]);
            judge(&released, &[], "nothing");
        }
    }
}
