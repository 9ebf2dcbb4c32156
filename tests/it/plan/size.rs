//! The record stays under 512 KiB whatever happens in a cluster of 15,000 nodes, with the worst names and texts.

mod largest;

use std::sync::Arc;

use gcu_upgrade_manager::plan::commands::nodes::{self};
use gcu_upgrade_manager::plan::preflight::{Refusal, fits_a_record, may_start};
use gcu_upgrade_manager::record::rolling::{
    Claim, ClaimState, ClaimedPod, GivingUp, Replaced, RollingStatus, RollingUpdate, SkippedNode, Trouble,
    TroubleKind, WINDOW_LIMIT,
};
use gcu_upgrade_manager::record::size::{MANIFESTS, NODE_REQUESTS, REQUEST, bound, shortened, stored};
use gcu_upgrade_manager::record::{Condition, Reason, TimelineEntry};
use proptest::prelude::*;
use proptest::strategy::Strategy;

use super::*;

const NODES: usize = 15_000;
/// Each grows in another way when it is stored.
const WORST: [&str; 2] = ["<", "𝄞"];

/// What Go's encoder makes of it: written out once more, so that the product is not compared with itself.
fn as_go_writes(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().replace("\\b", "\\u0008").replace("\\f", "\\u000c").chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text += &format!("\\u{:04x}", u32::from(c)),
            c => text.push(c),
        }
    }
    text
}

fn any_text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("([a-z<>&\"\\\\𝄞é \u{2028}\u{1}\n\u{7f}]|\\PC){0,300}").unwrap()
}

proptest! {
    #[test]
    fn a_size_is_counted_as_an_api_server_stores_it(text in any_text(), key in any_text()) {
        // The naive writer takes an escaped backslash before a `b` or an `f` for another escape.
        let text = text.replace('\\', "");
        let value = json!({ key.replace('\\', ""): [text, 1, -2, true, null] });
        prop_assert_eq!(stored(&value), as_go_writes(&value).len());
    }

    #[test]
    fn a_text_takes_up_no_more_than_it_may(text in any_text(), limit in 3..500_usize) {
        let cut = shortened(&text, limit);
        prop_assert!(stored(&cut) - 2 <= limit, "{cut:?}");
        prop_assert!(!cut.contains(char::is_control));
        prop_assert_eq!(shortened(&cut, limit), cut.clone(), "cutting it again changes nothing");
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let fits = stored(&plain) - 2 <= limit;
        prop_assert_eq!(cut == plain, fits);
        prop_assert!(fits || cut.ends_with('…'));
    }
}

/// A name of 253 characters.
fn name(what: &str, number: usize) -> String {
    format!("{what}-{number:0>width$}", width = 252 - what.len())
}

/// A UID as an API server makes them.
fn uid_of(what: &str, number: usize) -> String {
    format!("{what}-{number:0>width$}", width = 35 - what.len())
}

/// What an older version, or a person, may have left.
fn left_by_others() -> impl Strategy<Value = GcuUpgradeStatus> {
    let much = 0..300_usize;
    (any_text(), 1..40_usize, much.clone(), much.clone(), much.clone(), much).prop_map(
        |(text, times, entries, claims, skipped, done)| {
            let reason = text.clone();
            let text = text.repeat(times);
            let trouble = Trouble { kind: TroubleKind::Failed, message: text.clone(), at: now() };
            let claim = |n: usize| {
                Arc::new(Claim {
                    node: name("node", n),
                    since: now(),
                    state: ClaimState::Emptying,
                    deadline: now(),
                    cordon: true,
                    pods: Vec::new(),
                    replaces: Replaced::default(),
                    gcus: 8,
                    trouble: Some(trouble.clone()),
                    ideal_start_ms: u64::MAX,
                    attempt: u32::MAX,
                    soaking_since: Some(now()),
                    lost_gcus: true,
                })
            };
            let pod = || ClaimedPod {
                component: "driver".to_owned(),
                name: name("pod", 0),
                uid: uid_of("pod", 0),
                created_at: now(),
            };
            let finished = |n: usize| gcu_upgrade_manager::record::rolling::DoneNode {
                node: name("node", n),
                since: now(),
                at: now(),
                pods: (0..20).map(|_| pod()).collect(),
                replaces: Replaced::default(),
            };
            let entry = |_| TimelineEntry { at: now(), step: Step::Rolling, message: text.clone() };
            let condition = |n: usize| Condition {
                type_: format!("Type{n}{text}"),
                status: "True".to_owned(),
                reason: text.clone(),
                message: text.clone(),
                last_transition_time: now(),
            };
            GcuUpgradeStatus {
                message: text.clone(),
                cause: Some(text.clone()),
                waiting_on: Some(WaitingOn {
                    reason: WaitReason::PodFailing,
                    message: text.clone(),
                    since: now(),
                }),
                timeline: (0..entries).map(entry).collect(),
                conditions: (0..entries / 10).map(condition).collect(),
                rolling: Some(RollingStatus {
                    active: (0..claims.min(WINDOW_LIMIT)).map(claim).collect(),
                    skipped: (0..skipped * 10)
                        .map(|n| SkippedNode { node: name("node", n), reason: reason.clone(), attempt: 1 })
                        .collect(),
                    recent: (0..done).map(finished).collect(),
                    slots: vec![u64::MAX; done * 10],
                    giving_up: Some(GivingUp {
                        reason: Reason::UncommandedRollout,
                        message: text.clone(),
                        abandon: false,
                    }),
                    ..RollingStatus::default()
                }),
                ..GcuUpgradeStatus::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_status_that_others_left_is_brought_within_its_bounds(status in left_by_others()) {
        // As much asked for as may be.
        let mut spec = record().spec;
        spec.target.manifest = json!("x".repeat(MANIFESTS + REQUEST + NODE_REQUESTS));
        let mut bounded = status.clone();
        bound(&mut bounded, &spec);
        prop_assert!(stored(&bounded) < 310 * 1024, "{}", stored(&bounded));
        let (before, after) = (status.rolling.unwrap(), bounded.rolling.clone().unwrap());
        let nodes = |r: &RollingStatus| r.active.iter().map(|c| c.node.clone()).collect::<Vec<_>>();
        prop_assert_eq!(nodes(&after), nodes(&before), "no claim is forgotten");
        prop_assert_eq!(bounded.timeline.last().map(|e| e.at), status.timeline.last().map(|e| e.at));
        let mut again = bounded.clone();
        bound(&mut again, &spec);
        prop_assert_eq!(again, bounded);
    }
}

#[test]
fn what_a_request_asks_for_is_bounded_beside_the_manifests() {
    let mut spec = record().spec;
    assert_eq!(fits_a_record(&spec), Ok(()));
    let labels = (0..200).map(|n| (format!("{n}{}", "<".repeat(10)), String::new()));
    spec.rolling_update = Some(RollingUpdate { node_selector: labels.collect(), ..RollingUpdate::default() });
    let refusal = fits_a_record(&spec).unwrap_err();
    assert!(matches!(refusal, Refusal::RequestTooLarge(bytes) if bytes > 12_288), "{refusal}");
    let text = refusal.to_string();
    assert!(text.ends_with("beside the manifests: use shorter labels, or a shorter reason"), "{text}");
}

#[test]
fn manifests_are_counted_as_they_are_stored() {
    let (plain, escaped) = (stack(&"x".repeat(90_000)), stack(&"<".repeat(17_000)));
    assert!(may_start("gcu", None, &[], &plain).is_ok());
    let refusal = may_start("gcu", None, &[], &escaped).unwrap_err();
    assert!(matches!(refusal, Refusal::TooLarge { bytes, .. } if bytes > 102_000), "{refusal}");
}
