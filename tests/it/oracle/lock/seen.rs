//! The oracle sees what it is for: a rollout of one node as it should be, and what is against the lock in others.

use serde_json::{Value, json};

use super::{Evidence, What, check};
use crate::oracle::Entry;

const NODE: &str = "node-1";

/// A change of the world, and whether it is ours.
#[derive(Clone)]
struct Event {
    what: What,
    ours: bool,
    deleted: bool,
    object: Value,
}

fn event(what: What, object: Value) -> Event {
    Event { what, ours: false, deleted: false, object }
}

fn ours(event: Event) -> Event {
    Event { ours: true, ..event }
}

fn gr(version: &str) -> Event {
    event(
        What::Gr,
        json!({ "metadata": { "name": "gcu", "uid": "g" }, "spec": { "driver": { "version": version } } }),
    )
}

fn set(version: &str, strategy: &str) -> Event {
    let mut annotations = json!({ "gcu-operator.enflame.com/component": "driver" });
    if strategy == "OnDelete" {
        annotations["gum.enflame.com/update-strategy"] = json!("{}");
    }
    let owners = json!([{ "kind": "GcuResource", "uid": "g" }]);
    event(
        What::Set,
        json!({
            "metadata": { "name": "driver", "uid": "d", "ownerReferences": owners, "annotations": annotations },
            "spec": {
                "updateStrategy": { "type": strategy },
                "template": { "spec": { "containers": [{ "name": "driver", "image": version }] } },
            },
        }),
    )
}

fn node(claimed: bool) -> Event {
    let annotations = if claimed { json!({ "gum.enflame.com/upgrade": "{}" }) } else { json!({}) };
    event(
        What::Node,
        json!({ "metadata": { "name": NODE, "annotations": annotations }, "spec": { "unschedulable": claimed } }),
    )
}

fn pod(version: &str, going: bool) -> Event {
    let mut pod = json!({
        "metadata": { "name": version, "uid": version, "ownerReferences": [{ "kind": "DaemonSet", "uid": "d" }] },
        "spec": { "nodeName": NODE, "containers": [{ "name": "driver", "image": version }] },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    if going {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    event(What::Pod, pod)
}

fn record(phase: &str, claim: &str) -> Event {
    let at = "2026-01-01T00:00:00Z";
    let pods = json!([{ "component": "driver", "name": "1", "uid": "1", "createdAt": at }]);
    let mut rolling = json!({
        "locked": [{ "namespace": "kube-system", "name": "driver", "uid": "d", "strategy": {}, "hash": "h" }],
    });
    match claim {
        "active" => {
            let claim = json!({
                "node": NODE, "since": at, "state": "Swapping", "deadline": at, "cordon": true, "pods": pods, "gcus": 8,
            });
            rolling["active"] = json!([claim]);
        }
        "done" => rolling["recent"] = json!([{ "node": NODE, "since": at, "at": at, "pods": pods }]),
        _ => {}
    }
    event(
        What::Record,
        json!({
            "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade", "metadata": { "name": "gcu-1", "uid": "r" },
            "spec": {
                "gr": "gcu", "operation": "Upgrade", "strategy": "RollingUpdate",
                "target": { "manifest": {} }, "previous": { "uid": "g", "manifest": {} },
            },
            "status": { "phase": phase, "rolling": rolling },
        }),
    )
}

/// As it should be.
fn rollout() -> Vec<(&'static str, Event)> {
    vec![
        ("gr", gr("1")),
        ("node", node(false)),
        ("set", set("1", "RollingUpdate")),
        ("pod", pod("1", false)),
        ("record", record("Running", "")),
        ("hold", ours(set("1", "OnDelete"))),
        ("change", ours(gr("2"))),
        ("template", set("2", "OnDelete")),
        ("claim", ours(node(true))),
        ("work", record("Running", "active")),
        ("delete", pod("1", true)),
        ("gone", Event { deleted: true, ..pod("1", true) }),
        ("next", pod("2", false)),
        ("release", ours(node(false))),
        ("done", record("Running", "done")),
        ("let go", ours(set("2", "RollingUpdate"))),
        ("end", record("Succeeded", "done")),
    ]
}

/// The laws that are broken; pods of these UIDs were deleted by us.
fn broken(log: Vec<(&'static str, Event)>, asked: &[&str]) -> Vec<&'static str> {
    broken_with(log, asked, "actors")
}

fn broken_with(log: Vec<(&'static str, Event)>, asked: &[&str], actor: &str) -> Vec<&'static str> {
    let all: Vec<(Event, Entry)> = log
        .into_iter()
        .zip(1..)
        .map(|((_, event), version)| {
            let entry = Entry { version, deleted: event.deleted, object: event.object.clone() };
            (event, entry)
        })
        .collect();
    let evidence = Evidence {
        ours: all.iter().filter(|(event, _)| event.ours).map(|(_, entry)| entry.version).collect(),
        asked: asked.iter().map(|uid| (*uid).to_owned()).collect(),
        actors: all.iter().map(|(_, entry)| (entry.version, actor.to_owned())).collect(),
        ..Evidence::default()
    };
    let entries = all.iter().map(|(event, entry)| (event.what, entry)).collect();
    let mut laws: Vec<_> = check(entries, evidence).into_iter().map(|breach| breach.law).collect();
    laws.dedup();
    laws
}

fn without(dropped: &[&str]) -> Vec<(&'static str, Event)> {
    let mut log = rollout();
    log.retain(|(name, _)| !dropped.contains(name));
    log
}

/// Something more, before what has this name.
fn with(event: Event, before: &str) -> Vec<(&'static str, Event)> {
    let mut log = rollout();
    let at = log.iter().position(|(name, _)| *name == before).unwrap();
    log.insert(at, ("more", event));
    log
}

#[test]
fn a_rollout_as_it_should_be_is_within_the_law() {
    assert_eq!(broken(rollout(), &["1"]), Vec::<&str>::new());
}

#[test]
fn a_change_of_the_gr_before_the_hold_breaks_l1() {
    assert_eq!(broken(without(&["hold", "let go"]), &["1"]), ["L1"]);
    let put_back = with(set("1", "RollingUpdate"), "change");
    assert_eq!(broken(put_back, &["1"])[0], "L1", "held no more by then");
    let again = with(set("1", "RollingUpdate"), "hold");
    assert_eq!(broken(again, &["1"]), Vec::<&str>::new(), "held since");
}

#[test]
fn a_set_that_is_deleted_because_of_a_change_breaks_l1() {
    let deleted = Event { deleted: true, ..set("1", "OnDelete") };
    assert_eq!(broken(with(deleted, "template"), &["1"])[0], "L1");
}

#[test]
fn letting_go_with_an_outdated_pod_breaks_l2() {
    let never_replaced = without(&["claim", "work", "delete", "gone", "next", "release", "done"]);
    assert_eq!(broken(never_replaced.clone(), &[]), ["L2"]);
    let mut without_a_record = never_replaced;
    without_a_record.retain(|(name, _)| *name != "record" && *name != "end");
    assert_eq!(broken(without_a_record, &[]), ["L2"]);
}

#[test]
fn a_pod_that_ends_without_a_claim_breaks_l3() {
    let unclaimed = without(&["claim"]);
    assert_eq!(broken(unclaimed.clone(), &["1"]), ["L3"], "by us");
    assert_eq!(broken(unclaimed.clone(), &[]), ["L3"], "by the DaemonSet controller");
    assert_eq!(broken_with(unclaimed.clone(), &[], "person"), Vec::<&str>::new(), "by a person");
    let mut lost = unclaimed;
    let at = lost.iter().position(|(name, _)| *name == "delete").unwrap();
    lost.insert(at, ("lost", Event { deleted: true, ..node(false) }));
    assert_eq!(broken(lost, &[]), Vec::<&str>::new(), "with its node");
}

#[test]
fn a_pod_that_is_taken_after_the_end_because_of_us_breaks_l3() {
    let mut log = without(&["claim", "work", "delete", "gone", "next", "release", "done"]);
    log.push(("taken", pod("1", true)));
    assert_eq!(broken(log, &[]), ["L2", "L3"]);
}

#[test]
fn a_node_that_is_done_without_its_pod_breaks_l4() {
    assert_eq!(broken(without(&["next"]), &["1"]), ["L4"]);
    let mut vanished = without(&["next", "done"]);
    let at = vanished.iter().position(|(name, _)| *name == "release").unwrap();
    vanished.insert(at, ("vanished", Event { deleted: true, ..set("2", "OnDelete") }));
    let at = vanished.iter().position(|(name, _)| *name == "let go").unwrap();
    vanished.insert(at, ("released", record("Running", "")));
    assert!(broken(vanished, &["1"]).contains(&"L4"));
}
