//! The commands about one node: skip and retry.

use gcu_upgrade_manager::plan::commands::nodes::{NodeChange, Skipping, is_named};
use gcu_upgrade_manager::record::SkipNode;
use gcu_upgrade_manager::record::rolling::TroubleKind;

use super::*;

/// A RollingUpdate with `node-1` in work, in this trouble if in any, at attempt 2; `given-up` was not drained in time.
fn rolling(trouble: Option<&str>) -> GcuUpgrade {
    let mut record = record();
    record.spec.strategy = Strategy::RollingUpdate;
    let trouble = trouble.map(|kind| json!({ "kind": kind, "message": "m", "at": now() }));
    let rolling = json!({
        "active": [{
            "node": "node-1", "since": now(), "state": "Swapping", "deadline": now(), "cordon": true, "pods": [],
            "gcus": 8, "attempt": 2, "trouble": trouble,
        }],
        "skipped": [{ "node": "given-up", "reason": "not drained in time" }],
    });
    let status = record.status.get_or_insert_default();
    status.rolling = Some(serde_json::from_value(rolling).unwrap());
    record
}

fn named(node: &str) -> Skipping {
    Skipping { node: node.to_owned(), ..Skipping::default() }
}

fn entry(node: &str, reason: Option<&str>, keep_cordon: bool) -> SkipNode {
    SkipNode { node: node.to_owned(), reason: reason.map(str::to_owned), keep_cordon }
}

#[test]
fn a_node_is_skipped_once_and_what_is_said_anew_takes_the_place_of_what_was_said() {
    let mut record = rolling(None);
    let because = Skipping { reason: Some("fan".to_owned()), ..named("node-1") };
    let change = skip(&record, &because).unwrap();
    assert_eq!(change.skip, Some(vec![entry("node-1", Some("fan"), false)]));
    assert_eq!(change.attempt, None);
    record.spec.skip = change.skip.unwrap();
    record.spec.skip.push(entry("node-2", None, true));
    for same in [&because, &named("node-1"), &named("node-2")] {
        assert!(skip(&record, same).unwrap().is_empty(), "{same:?}");
    }
    let keeps = Skipping { keep_cordon: Some(true), ..named("node-1") };
    let change = skip(&record, &keeps).unwrap();
    assert_eq!(
        change.skip,
        Some(vec![entry("node-1", Some("fan"), true), entry("node-2", None, true)]),
        "in its place, with what was said before"
    );
}

#[test]
fn a_retried_node_is_skipped_no_more_and_counts_above_every_attempt_before() {
    let both = |change: Result<NodeChange, String>| change.map(|c| (c.skip, c.attempt));
    for kind in [TroubleKind::Failed, TroubleKind::Late] {
        let mut record = rolling(Some(&format!("{kind:?}")));
        assert_eq!(both(retry(&record, "node-1")), Ok((None, Some(3))), "above the claim's");
        record.spec.node_attempts.insert("node-1".to_owned(), 7);
        assert_eq!(both(retry(&record, "node-1")), Ok((None, Some(8))), "above the record's");
    }
    let mut record = rolling(None);
    assert_eq!(both(retry(&record, "given-up")), Ok((None, Some(1))));
    record.spec.skip = vec![entry("node-9", None, false), entry("node-1", Some("fan"), true)];
    assert_eq!(
        both(retry(&record, "node-1")),
        Ok((Some(vec![entry("node-9", None, false)]), Some(3))),
        "the others stay skipped"
    );
    assert_eq!(both(retry(&record, "node-9")).unwrap().1, Some(1));
    for node in ["node-1", "node-9", "given-up"] {
        assert!(is_named(&record, node), "{node}");
    }
    assert!(!is_named(&record, "node-2"));
}

#[test]
fn only_a_node_that_is_left_out_or_stuck_is_retried() {
    for (trouble, node, says) in [
        (
            None,
            "node-1",
            "has node node-1 in work, which has not failed and is not late: nothing to retry yet",
        ),
        (
            Some("Settling"),
            "node-1",
            "has node node-1 in work, which has not failed and is not late: nothing to retry yet",
        ),
        (None, "node-2", "has not skipped node node-2, and it is not in work: nothing to retry"),
    ] {
        assert_eq!(retry(&rolling(trouble), node), Err(says.to_owned()), "{trouble:?} {node}");
    }
}

#[test]
fn a_record_names_five_hundred_nodes_and_says_what_to_do_beyond() {
    let mut record = rolling(Some("Failed"));
    record.spec.skip = (0..499).map(|n| entry(&format!("n-{n}"), None, false)).collect();
    let change = skip(&record, &named("one-more")).unwrap();
    record.spec.skip = change.skip.unwrap();
    let refused = skip(&record, &named("too-many")).unwrap_err();
    assert_eq!(
        refused,
        "names 500 nodes that are skipped by request, and can hold no more: set the label \
         gum.enflame.com/skip=true on node too-many, which does the same"
    );
    assert!(skip(&record, &named("n-7")).unwrap().is_empty(), "one that is there already is no more");
    record.spec.node_attempts = (0..500).map(|n| (format!("n-{n}"), 1)).collect();
    let refused = retry(&record, "node-1").unwrap_err();
    assert!(
        refused.starts_with("has retried 500 nodes, and can count no more: retry the upgrade"),
        "{refused}"
    );
    assert_eq!(retry(&record, "n-7").unwrap().attempt, Some(2), "one that is counted already is no more");
    let taken = retry(&record, "one-more").unwrap();
    assert_eq!((taken.skip.unwrap().len(), taken.attempt), (499, None), "it is taken again all the same");
}

#[test]
fn what_people_say_of_nodes_is_bounded_in_bytes_too() {
    let mut record = rolling(None);
    let worst = |n: usize| Skipping {
        node: format!("{n:0>253}"),
        reason: Some("\u{1}".repeat(256)),
        keep_cordon: Some(true),
    };
    let mut said = 0;
    while let Ok(change) = skip(&record, &worst(said)) {
        record.spec.skip = change.skip.unwrap();
        said += 1;
    }
    let bytes = serde_json::to_vec(&record.spec.skip).unwrap().len();
    assert!((50..500).contains(&said) && bytes <= 96 * 1024, "{said} nodes, {bytes} bytes");
    let usual = Skipping {
        reason: Some("being repaired, ticket 12345".to_owned()),
        ..named("gcu-node-0001.rack-12")
    };
    record.spec.skip.clear();
    for n in 0..500 {
        let node = format!("{}{n}", usual.node);
        record.spec.skip = skip(&record, &Skipping { node, ..usual.clone() }).unwrap().skip.unwrap();
    }
    assert_eq!(record.spec.skip.len(), 500, "names and reasons as they are fit 500 times");
}
