//! Which request finds which job.

use gcu_upgrade_manager::plan::preflight::Refusal;
use gcu_upgrade_manager::plan::repeat::begun_by;
use gcu_upgrade_manager::record::Request;

use super::*;

fn asked(what: &str, key: Option<&str>) -> Request {
    Request::of(&json!(what), key.map(str::to_owned))
}

/// A record that a request began, which ended so long ago; `None`: it has not.
fn begun(number: u64, request: Request, ended: Option<(Phase, i64)>) -> GcuUpgrade {
    let mut record = record();
    record.metadata.name = Some(format!("gcu-{number}"));
    record.spec.request = Some(request);
    let mut status = record.status_or_default();
    status.phase = ended.map_or(Phase::Running, |(phase, _)| phase);
    status.finished_at = ended.map(|(_, seconds)| ago(seconds));
    record.status = Some(status);
    record
}

fn found(records: &[GcuUpgrade], request: &Request) -> Option<String> {
    begun_by("gcu", records, request, now()).unwrap().and_then(|r| r.metadata.name.clone())
}

#[test]
fn without_a_key_the_newest_record_is_found_while_it_is_active_and_for_ten_minutes() {
    let cases = [
        (None, true),
        (Some((Phase::Succeeded, 1)), true),
        (Some((Phase::RolledBack, 600)), true),
        (Some((Phase::Failed, -5)), true),
        (Some((Phase::Failed, 601)), false),
    ];
    for (ended, is_found) in cases {
        let records =
            [begun(2, asked("a", None), ended), begun(1, asked("b", None), Some((Phase::Succeeded, 700)))];
        assert_eq!(found(&records, &asked("a", None)).is_some(), is_found, "{ended:?}");
        assert_eq!(found(&records, &asked("b", None)), None, "another upgrade came after it");
        assert_eq!(found(&records, &asked("c", None)), None);
    }
}

#[test]
fn a_key_finds_its_record_as_long_as_that_exists_and_is_of_no_use_for_anything_else() {
    let records = [
        begun(2, asked("a", Some("k2")), Some((Phase::Succeeded, 9000))),
        begun(1, asked("a", Some("k1")), Some((Phase::Failed, 90_000))),
    ];
    assert_eq!(found(&records, &asked("a", Some("k1"))).as_deref(), Some("gcu-1"));
    assert_eq!(found(&records, &asked("a", Some("k2"))).as_deref(), Some("gcu-2"));
    assert_eq!(found(&records, &asked("a", Some("k3"))), None);
    let refused = begun_by("gcu", &records, &asked("b", Some("k1")), now()).unwrap_err();
    assert!(matches!(&refused, Refusal::KeyReused { record, .. } if record == "gcu-1"), "{refused}");
    let running = [begun(3, asked("a", Some("k1")), None)];
    assert_eq!(found(&running, &asked("a", None)).as_deref(), Some("gcu-3"), "the same, without its key");
    assert_eq!(found(&running, &asked("a", Some("k2"))), None, "a key of its own is a request of its own");
}

#[test]
fn what_a_person_has_ended_is_begun_anew() {
    for (intent, is_found) in
        [(Intent::Run, true), (Intent::Pause, true), (Intent::Close, false), (Intent::Rollback, false)]
    {
        let mut ended = begun(1, asked("a", None), Some((Phase::Failed, 1)));
        ended.spec.intent = intent;
        assert_eq!(found(&[ended], &asked("a", None)).is_some(), is_found, "{intent:?}");
    }
}

#[test]
fn a_gr_that_is_being_deleted_stands_for_nothing() {
    assert!(gr("u", &target()).stands_at(&target()));
    assert!(!gr("u", &previous()).stands_at(&target()));
    assert!(!terminating(gr("u", &target())).stands_at(&target()));
}
