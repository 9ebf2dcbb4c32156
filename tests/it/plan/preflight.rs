//! What is said before anything is written.

use gcu_upgrade_manager::plan::preflight::{
    Refusal, Wanted, active, may_start, records_of, revision, revision_numbers,
};

use super::*;

/// Number, stack before, stack wanted, end.
type Past<'a> = (u64, &'a str, &'a str, Phase);

/// Record `gcu-<n>` from stack `from` to stack `to`.
fn past(n: u64, from: &str, to: &str, phase: Phase) -> GcuUpgrade {
    let mut record = record();
    record.metadata.name = Some(format!("gcu-{n}"));
    record.spec.previous = Some(Previous { uid: "x".to_owned(), manifest: stack(from) });
    record.spec.target.manifest = stack(to);
    record.spec.target.blueprint = Some(format!("{to}.json"));
    record.status = Some(GcuUpgradeStatus { phase, ..GcuUpgradeStatus::default() });
    record
}

fn history(all: &[Past]) -> Vec<GcuUpgrade> {
    records_of("gcu", all.iter().map(|(n, from, to, phase)| past(*n, from, to, *phase)).collect())
}

fn version(manifest: &Value) -> &str {
    manifest["spec"]["driver"]["version"].as_str().unwrap()
}

#[test]
fn records_are_numbered_and_newest_first() {
    let mut other = past(9, "1", "2", Phase::Failed);
    other.spec.gr = "another".to_owned();
    let mut by_hand = past(1, "1", "2", Phase::Failed);
    by_hand.metadata.name = Some("by-hand".to_owned());
    let (second, tenth) = (past(2, "1", "2", Phase::Failed), past(10, "1", "2", Phase::Failed));
    let numbers: Vec<u64> =
        records_of("gcu", vec![second, other, by_hand, tenth]).iter().map(GcuUpgrade::number).collect();
    assert_eq!(numbers, [10, 2, 0]);
}

#[test]
fn a_job_is_named_after_the_highest_number() {
    let live = gr("u", &previous());
    assert_eq!(may_start("gcu", Some(&live), &[], &target()), Ok("gcu-1".to_owned()));
    let pruned = history(&[(7, "1", "2", Phase::Succeeded), (12, "2", "3", Phase::Failed)]);
    assert_eq!(may_start("gcu", Some(&live), &pruned, &target()), Ok("gcu-13".to_owned()));
    assert_eq!(may_start("gcu", None, &pruned, &target()), Ok("gcu-13".to_owned()));
}

#[test]
fn one_job_at_a_time() {
    for phase in [Phase::Pending, Phase::Running, Phase::Held] {
        let records = history(&[(1, "1", "2", phase), (2, "2", "3", Phase::Succeeded)]);
        assert_eq!(active(&records).map(GcuUpgrade::number), Some(1));
        let refusal = may_start("gcu", None, &records, &target()).unwrap_err();
        assert_eq!(refusal, Refusal::Busy { gr: "gcu".to_owned(), record: "gcu-1".to_owned(), phase });
        assert!(refusal.to_string().contains("see /gum/v1/upgrades/gcu-1"), "{refusal}");
    }
}

#[test]
fn a_job_that_could_not_be_carried_through_does_not_start() {
    let going = terminating(gr("u", &previous()));
    assert_eq!(may_start("gcu", Some(&going), &[], &target()), Err(Refusal::Deleting("gcu".to_owned())));
    let (half, more) = (stack(&"x".repeat(48_000)), stack(&"x".repeat(52_000)));
    assert!(may_start("gcu", None, &[], &more).is_ok());
    assert!(may_start("gcu", Some(&gr("u", &half)), &[], &half).is_ok(), "both together count");
    let refusal = may_start("gcu", Some(&gr("u", &half)), &[], &more).unwrap_err();
    assert!(matches!(refusal, Refusal::TooLarge { bytes, .. } if bytes > 100_000), "{refusal}");
    assert!(refusal.to_string().ends_with("more than the 98304 that a record can hold"), "{refusal}");
    let (longest, too_long) = ("g".repeat(251), "g".repeat(252));
    assert!(may_start(&longest, None, &[], &target()).is_ok());
    assert_eq!(may_start(&too_long, None, &[], &target()), Err(Refusal::NameTooLong(too_long)));
}

#[test]
fn a_numbered_revision_is_the_target_of_that_record() {
    let records = history(&[
        (3, "1", "2", Phase::Succeeded),
        (4, "2", "3", Phase::Failed),
        (5, "2", "4", Phase::RolledBack),
    ]);
    assert_eq!(revision_numbers(&records), [5, 4, 3, 2]);
    for (number, wanted) in [(5, "4"), (4, "3"), (3, "2"), (2, "1")] {
        let found = revision("gcu", &records, Some(number), None).unwrap();
        assert_eq!((version(&found.manifest), found.of_revision), (wanted, Some(number)));
    }
    let blueprint = |number| revision("gcu", &records, Some(number), None).unwrap().blueprint;
    assert_eq!((blueprint(3).as_deref(), blueprint(2)), (Some("2.json"), None));
}

#[test]
fn a_revision_that_was_pruned_or_never_was_is_refused_with_what_there_is() {
    let records = history(&[(3, "1", "2", Phase::Succeeded)]);
    for number in [0, 1, 4, u64::MAX] {
        let refusal = revision("gcu", &records, Some(number), None).unwrap_err().to_string();
        assert_eq!(refusal, format!("gr \"gcu\" has no revision {number}; available: 3, 2"));
    }
    let refusal = revision("gcu", &[], Some(1), None).unwrap_err().to_string();
    assert_eq!(refusal, "gr \"gcu\" has no revision 1; available: none");
}

#[test]
fn a_first_install_has_nothing_before_it() {
    let mut first = past(1, "1", "2", Phase::Succeeded);
    first.spec.previous = None;
    let records = records_of("gcu", vec![first]);
    assert_eq!(revision_numbers(&records), [1]);
    assert!(revision("gcu", &records, Some(0), None).is_err());
    assert!(matches!(revision("gcu", &records, None, None), Err(Refusal::Nothing(_))));
}

#[test]
fn without_a_number_it_is_what_stood_there_before_the_last_upgrade_that_took_hold() {
    let cases: [(&str, &[Past], &str, Option<u64>); 5] = [
        ("one", &[(1, "1", "2", Phase::Succeeded)], "1", None),
        ("two", &[(1, "1", "2", Phase::Succeeded), (2, "2", "3", Phase::Succeeded)], "2", Some(1)),
        (
            "the last was rolled back",
            &[(1, "1", "2", Phase::Succeeded), (2, "2", "3", Phase::RolledBack)],
            "1",
            None,
        ),
        ("the last failed", &[(1, "1", "2", Phase::Succeeded), (2, "2", "3", Phase::Failed)], "2", Some(1)),
        (
            "edited in between",
            &[(1, "1", "2", Phase::Succeeded), (2, "2x", "3", Phase::Succeeded)],
            "2x",
            None,
        ),
    ];
    for (what, records, wanted, of_revision) in cases {
        let found = revision("gcu", &history(records), None, None).unwrap();
        assert_eq!((version(&found.manifest), found.of_revision), (wanted, of_revision), "{what}");
    }
    let only_rolled_back = history(&[(1, "1", "2", Phase::RolledBack)]);
    assert!(matches!(revision("gcu", &only_rolled_back, None, None), Err(Refusal::Nothing(_))));
    assert!(matches!(revision("gcu", &[], None, None), Err(Refusal::Nothing(_))));
}

#[test]
fn a_job_succeeds_when_it_ends_as_asked() {
    for phase in
        [Phase::Pending, Phase::Running, Phase::Held, Phase::Failed, Phase::Succeeded, Phase::RolledBack]
    {
        assert_eq!(Wanted::Target.is_reached(phase), phase == Phase::Succeeded, "{phase:?}");
        assert_eq!(Wanted::Previous.is_reached(phase), phase == Phase::RolledBack, "{phase:?}");
        assert_eq!(Wanted::End.is_reached(phase), phase.is_final(), "{phase:?}");
        let paused = matches!(phase, Phase::Succeeded | Phase::RolledBack);
        assert_eq!(Wanted::Pause.is_reached(phase), paused, "{phase:?}");
    }
}

#[test]
fn what_is_the_same_as_the_gr_that_is_there_is_passed_over() {
    let records = history(&[(1, "1", "2", Phase::Succeeded), (2, "2", "2", Phase::Succeeded)]);
    let live = |version: &str| gr("u", &stack(version));
    let found = |at: &str| revision("gcu", &records, None, Some(&live(at)));
    assert_eq!(version(&found("2").unwrap().manifest), "1", "not the 2 that stands there");
    assert_eq!(version(&found("3").unwrap().manifest), "2", "somebody has changed it since");
    let only = history(&[(1, "1", "1", Phase::Succeeded)]);
    let refusal = revision("gcu", &only, None, Some(&live("1"))).unwrap_err().to_string();
    assert_eq!(refusal, "gr \"gcu\" has no other version on record than the one that is there to go back to");
}
