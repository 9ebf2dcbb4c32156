//! What records tell.

use gcu_upgrade_manager::notifications::event::events;
use gcu_upgrade_manager::notifications::feed::Known;
use gcu_upgrade_manager::record::{GcuUpgrade, Step};
use serde_json::{Value, json};

use super::*;

/// A record of this status, with a timeline of these entries a minute apart.
fn record(entries: &[(&str, &str)], status: &Value, spec: &Value) -> GcuUpgrade {
    let at = |n: usize| format!("2026-01-01T10:{n:02}:00Z");
    let timeline: Vec<Value> = entries
        .iter()
        .enumerate()
        .map(|(n, (step, message))| json!({ "at": at(n), "step": step, "message": message }))
        .collect();
    let mut record = json!({
        "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade",
        "metadata": { "name": "pool-3", "uid": "u" },
        "spec": { "gr": "pool", "operation": "Upgrade", "target": { "manifest": {} }, "requestedBy": "ann" },
        "status": { "timeline": timeline },
    });
    for (part, more) in [("status", status), ("spec", spec)] {
        record[part].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    serde_json::from_value(record).unwrap()
}

fn kinds(record: &GcuUpgrade) -> Vec<EventKind> {
    events(record).iter().map(|event| event.kind).collect()
}

const LOCK: (&str, &str) = ("Locking", "setting 4 DaemonSets to updateStrategy OnDelete");
const GATE: &str = "the canary nodes are done; call promote to continue";
const PAUSED: &str = "paused; call resume to continue";

fn begun() -> Value {
    json!({ "phase": "Running", "startedAt": "2026-01-01T10:00:00Z" })
}

#[test]
fn a_rollout_tells_each_turn_once() {
    let entries = [
        LOCK,
        ("Rolling", "3 nodes to do, 1 at once"),
        ("Rolling", GATE),
        ("Rolling", "going on"),
        ("Rolling", PAUSED),
        ("Rolling", "held: node b: pod x cannot start"),
        ("Rolling", "retrying Rolling (attempt 1)"),
        ("Rolling", "no maintenance window is open: the next opens at 22:00"),
        ("Rolling", "a maintenance window is open until 06:00"),
        ("Locking", "rolling back: rollback was asked for"),
        ("Restoring", "3 nodes done: restoring update strategies"),
        ("Done", "rollback was asked for; back at the previous version"),
    ];
    let mut status = begun();
    let all = record(&entries, &status, &json!({}));
    use EventKind::*;
    let expected =
        [Started, AwaitingPromotion, Resumed, Paused, Held, Resumed, WindowClosed, WindowOpened, RollingBack];
    assert_eq!(kinds(&all), expected);
    status["phase"] = "RolledBack".into();
    let ended = events(&record(&entries, &status, &json!({})));
    assert_eq!(ended.last().unwrap().kind, Ended);
    assert_eq!(ended.last().unwrap().phase, Phase::RolledBack);
    assert_eq!(ended[..9].iter().map(|e| e.kind).collect::<Vec<_>>(), expected);
    let phases: Vec<Phase> = ended[..5].iter().map(|e| e.phase).collect();
    assert_eq!(phases, [Phase::Running, Phase::Paused, Phase::Running, Phase::Paused, Phase::Held]);
    assert_eq!(ended[4].reason, "node b: pod x cannot start");
    assert_eq!(ended[8].reason, "rollback was asked for");
    assert_eq!(ended[0].by.as_deref(), Some("ann"));
}

#[test]
fn an_upgrade_that_waits_for_its_window_starts_when_it_does() {
    let entries = [("Recorded", "no maintenance window is open: the next opens at 22:00"), LOCK];
    let status = json!({ "phase": "Running", "startedAt": "2026-01-01T10:01:00Z" });
    assert_eq!(kinds(&record(&entries, &status, &json!({}))), [EventKind::WindowClosed, EventKind::Started]);
    let untouched = [("Done", "rollback was asked for; nothing had been touched")];
    let status = json!({ "phase": "RolledBack", "startedAt": "2026-01-01T10:00:00Z" });
    assert_eq!(kinds(&record(&untouched, &status, &json!({}))), [EventKind::Ended]);
}

#[test]
fn what_is_given_up_is_put_back_unless_it_is_somebody_elses() {
    let back = [LOCK, ("Locking", "giving up: the operator does not put changes in")];
    assert_eq!(kinds(&record(&back, &begun(), &json!({}))), [EventKind::Started, EventKind::RollingBack]);
    let left = [LOCK, ("Rolling", "giving up: the gr was edited by someone else")];
    assert_eq!(kinds(&record(&left, &begun(), &json!({}))), [EventKind::Started]);
}

#[test]
fn only_the_last_command_is_known_by_its_giver() {
    let entries = [LOCK, ("Rolling", PAUSED), ("Rolling", "going on"), ("Rolling", PAUSED)];
    let by = |entries: &[(&str, &str)], command: &str| -> Vec<Option<String>> {
        let spec = json!({ "steeredBy": { "command": command, "by": "bob" } });
        events(&record(entries, &begun(), &spec)).into_iter().map(|event| event.by).collect()
    };
    let (ann, bob) = (Some("ann".to_owned()), Some("bob".to_owned()));
    assert_eq!(by(&entries, "pause"), [ann.clone(), None, None, bob.clone()]);
    assert_eq!(by(&entries[..3], "pause"), [ann.clone(), None, None], "asked for, not taken up yet");
    assert_eq!(by(&entries[..3], "resume"), [ann.clone(), None, bob.clone()]);
    let back = [LOCK, ("Rolling", PAUSED), ("Locking", "rolling back: rollback was asked for")];
    assert_eq!(by(&back, "cancel"), [ann, None, bob]);
}

fn failing(kind: &str, node: &str) -> Value {
    json!({
        "node": node, "since": "2026-01-01T10:00:00Z", "state": "Swapping",
        "deadline": "2026-01-01T11:00:00Z", "cordon": true, "gcus": 8,
        "trouble": { "kind": kind, "message": format!("node {node}: image not found"), "at": "2026-01-01T10:07:00Z" },
    })
}

#[test]
fn nodes_that_fail_or_are_late_are_told_and_those_that_may_recover_are_not() {
    let mut status = begun();
    let nodes = ["Failed", "Late", "Settling"].map(|kind| failing(kind, &kind.to_lowercase()));
    status["rolling"] = json!({
        "maxUnavailable": 3, "active": nodes,
        "nodes": { "total": 9, "done": 4, "active": 3, "waiting": 2, "skipped": 0, "failed": 2 },
    });
    let all = events(&record(&[LOCK], &status, &json!({})));
    let told: Vec<_> =
        all[1..].iter().map(|e| (e.kind, e.node.as_deref().unwrap(), e.reason.as_str())).collect();
    let node = |name| (EventKind::NodeFailed, name, "image not found");
    assert_eq!(told, [node("failed"), node("late")]);
    assert_eq!(all[1].nodes.as_ref().unwrap().done, 4);
    assert_ne!(all[1].id, all[2].id);
}

#[test]
fn an_event_keeps_its_id_when_old_entries_are_dropped() {
    let entries = [LOCK, ("Rolling", GATE), ("Rolling", "going on"), ("Rolling", PAUSED)];
    let whole = record(&entries, &begun(), &json!({}));
    let mut cut = whole.clone();
    cut.status.as_mut().unwrap().timeline.remove(0);
    let ids = |record: &GcuUpgrade| events(record).into_iter().map(|e| e.id).collect::<Vec<_>>();
    assert_eq!(ids(&cut), ids(&whole)[1..]);
    assert!(ids(&whole)[0].starts_with("u/2026-01-01T10:00:00Z-"));
    // What is the same in the same second is told apart.
    let mut twice = whole.clone();
    let timeline = &mut twice.status.as_mut().unwrap().timeline;
    let entry = timeline[3].clone();
    timeline.push(entry);
    let ids = ids(&twice);
    assert_eq!(ids[4], format!("{}-2", ids[3]));
}

#[test]
fn what_the_record_has_no_room_for_any_more_stays_known() {
    let mut known = Known::default();
    let mut record = record(&[LOCK, ("Rolling", GATE)], &begun(), &json!({}));
    assert!(known.take(&record), "news");
    assert!(!known.take(&record), "no news");
    let status = record.status.as_mut().unwrap();
    status.timeline.remove(0);
    status.timeline[0].step = Step::Rolling;
    assert!(!known.take(&record));
    assert_eq!(known.events().len(), 2);
    assert_eq!(known.records["u"].now.len(), 1);
}
