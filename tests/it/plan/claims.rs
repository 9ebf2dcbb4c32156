//! How a claim names the pods that it replaces.

use gcu_upgrade_manager::record::rolling::{Claim, PodId, Replaced, name_of_pod};
use proptest::prelude::*;

use super::*;

fn pod(name: &str, created_at: Timestamp) -> PodId<'_> {
    PodId { name, uid: "a UID", created_at }
}

/// As 2.0.0 wrote it.
fn older() -> Value {
    json!({
        "node": "n1", "since": "2026-01-01T00:00:00Z", "state": "Swapping", "deadline": "2026-01-01T00:10:00Z",
        "cordon": true, "gcus": 8, "idealStartMs": 0,
        "pods": [
            { "component": "driver", "name": "driver-x7k2p", "uid": "u1", "createdAt": "2025-12-01T00:00:00Z" },
            { "component": "toolkit", "name": "toolkit-abcde", "uid": "u2", "createdAt": "2025-12-01T00:00:00Z" },
        ],
    })
}

#[test]
fn a_claim_of_an_older_version_is_read_and_its_pods_are_written_as_they_were() {
    let claim: Claim = serde_json::from_value(older()).unwrap();
    assert!(claim.components().eq(["driver", "toolkit"]));
    let uid = |uid| PodId { name: "driver-x7k2p", uid, created_at: now() };
    assert!(claim.is_to_replace("driver", uid("u1")) && !claim.is_to_replace("driver", uid("u3")));
    let mut expected = older();
    expected.as_object_mut().unwrap().remove("idealStartMs");
    assert_eq!(json!(claim), expected);
}

#[test]
fn what_is_as_usual_is_not_written() {
    let mut claim: Claim = serde_json::from_value(older()).unwrap();
    claim.pods.clear();
    claim.replaces.add("driver", pod("enflame-gcu-driver-x7k2p", now()));
    claim.replaces.add("toolkit", pod("enflame-gcu-toolkit-abcde", ago(1)));
    let expected = json!({
        "node": "n1", "since": "2026-01-01T00:00:00Z", "state": "Swapping", "deadline": "2026-01-01T00:10:00Z",
        "cordon": true, "gcus": 8, "replaces": { "driver": "x7k2p-t85s00", "toolkit": "abcde-t85rzz" },
    });
    assert_eq!(json!(claim), expected);
    assert_eq!(serde_json::from_value::<Claim>(expected).unwrap(), claim);
}

#[test]
fn the_pods_that_were_there_are_told_from_those_that_came_after_them() {
    let mut replaced = Replaced::default();
    assert!(replaced.is_empty());
    replaced.add("driver", pod("driver-x7k2p", ago(900)));
    replaced.add("driver", pod("driver-x7k2p", ago(900)));
    replaced.add("driver", pod("driver-lmnop", ago(800)));
    assert!(replaced.pods().eq([("driver", "x7k2p", ago(900)), ("driver", "lmnop", ago(800))]));
    for (component, name, at, is) in [
        ("driver", "driver-x7k2p", ago(900), true),
        ("driver", "driver-lmnop", ago(800), true),
        ("toolkit", "driver-x7k2p", ago(900), false),
        ("driver", "driver-x7k2q", ago(900), false),
        ("driver", "driver-x7k2p", ago(899), false),
        ("driver", "7k2p", ago(900), false),
    ] {
        assert_eq!(replaced.names(component, pod(name, at)), is, "{component} {name} {at}");
    }
    // The first has gone, and a third has come: what is gone need not be known any more.
    let mut there = Replaced::default();
    there.add("driver", pod("driver-lmnop", ago(800)));
    there.add("driver", pod("driver-third", ago(1)));
    let mut more = Replaced::default();
    more.add("driver", pod("driver-third", ago(1)));
    more.add("gfd", pod("gfd", ago(2)));
    replaced.retain_of("driver", &there);
    replaced.extend(more);
    let all = [("driver", "lmnop", ago(800)), ("driver", "third", ago(1)), ("gfd", "gfd", ago(2))];
    assert!(replaced.pods().eq(all), "{replaced:?}");
    replaced.retain_of("driver", &Replaced::default());
    assert!(replaced.components().eq(["gfd"]) && !replaced.has("driver"), "{replaced:?}");
}

#[test]
fn the_name_of_a_pod_that_is_gone_is_known_by_its_end() {
    assert_eq!(name_of_pod("enflame-gcu-driver", "x7k2p"), "enflame-gcu-driver-x7k2p");
    let long = "d".repeat(63);
    assert_eq!(name_of_pod(&long, "x7k2p"), format!("{}x7k2p", "d".repeat(58)));
}

proptest! {
    #[test]
    fn every_pod_is_named_by_what_is_recorded_of_it(
        pods in prop::collection::vec(("[a-c]", "[a-z0-9.-]{0,12}", -5..4_000_000_000_i64), 0..12),
        other in ("[a-c]", "[a-z0-9.-]{0,12}", 0..4_000_000_000_i64),
    ) {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut replaced = Replaced::default();
        pods.iter().for_each(|(component, name, created)| replaced.add(component, pod(name, at(*created))));
        let again: Replaced = serde_json::from_value(json!(replaced)).unwrap();
        for (component, name, created) in &pods {
            prop_assert!(again.names(component, pod(name, at(*created))), "{again:?}");
            let is_it = |(c, end, when): (&str, &str, Timestamp)| {
                c == component && name.ends_with(end) && when == at((*created).max(0))
            };
            prop_assert!(again.pods().any(is_it), "{again:?}");
        }
        let (component, name, created) = &other;
        let end = |name: &str| name.get(name.len().saturating_sub(5)..).unwrap().to_owned();
        let known = pods.iter().any(|(c, n, at)| c == component && end(n) == end(name) && at.max(&0) == created);
        prop_assert_eq!(again.names(component, pod(name, at(*created))), known);
    }
}
