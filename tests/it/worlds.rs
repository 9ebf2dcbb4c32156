//! Random worlds: operators of every temper, clusters of every size, every option, and whatever people and machines do
//! at random moments. Nothing is expected of one but what holds in all: the oracles, an end or a hold that says what a
//! person can do, and a record that stays small.
//!
//! `GUM_WORLDS=1000` says how many, `GUM_WORLD_FIRST=n` with which seed to begin; `GUM_WORLD_SEED=n` runs one.

mod events;
mod plan;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gcu_upgrade_manager::record::rolling::{LOCK_ANNOTATION, NODE_ANNOTATION};
use gcu_upgrade_manager::record::{GcuUpgrade, Phase, WaitReason};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::faults::Faults;
use crate::harness::{Backend, Harness};
use crate::oracle::lock;
use crate::scenario::{self, Scenario, WorldSpec};
use crate::scenarios::tried;
use plan::Plan;
use tally::Tally;

/// How many worlds there are unless said otherwise.
const USUAL: u64 = 40;
/// By then every deadline has passed, those of a way back too.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// A hold that has lasted so long, with everything mended, is what is left.
const HELD_FOR_GOOD: Duration = Duration::from_secs(2400);
/// The lock has to hold for so long after the end.
const AFTERWARDS: Duration = Duration::from_secs(600);
/// Records stay below it.
const RECORD_LIMIT: usize = 512 * 1024;

#[expect(clippy::disallowed_methods, reason = "switches of the test run, not of the product")]
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn seeds() -> std::ops::Range<u64> {
    match asked("GUM_WORLD_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = asked("GUM_WORLD_FIRST").unwrap_or_default();
            first..first + asked("GUM_WORLDS").unwrap_or(USUAL)
        }
    }
}

fn worlds(part: u64, parts: u64) {
    let (mut failed, mut tally) = (Vec::new(), Tally::default());
    for seed in seeds().filter(|seed| asked("GUM_WORLD_SEED").is_some() || seed % parts == part) {
        let plan = Plan::of(seed);
        match tried(run(&plan, &mut tally)) {
            Ok(how) => println!("world {seed}: {how}"),
            Err(why) => {
                println!("world {seed} FAILED: {why}\n{plan:#?}");
                failed.push(seed);
            }
        }
    }
    println!("{tally}");
    assert!(failed.is_empty(), "{} worlds fail: GUM_WORLD_SEED={failed:?}", failed.len());
}

#[test]
fn whatever_happens_in_a_world_the_lock_holds_first_half() {
    worlds(0, 2);
}

#[test]
fn whatever_happens_in_a_world_the_lock_holds_second_half() {
    worlds(1, 2);
}

fn scenario(plan: &Plan) -> Scenario {
    serde_json::from_value(json!({
        "claim": format!("world {}", plan.seed),
        "world": plan.world,
        "blueprints": { "gr.json": plan.blueprint },
        "steps": [],
        "expect": { "created": 0, "deleted": 0, "runs": "other" },
    }))
    .unwrap()
}

/// Plays a world to its end and judges it. How it ended.
async fn run(plan: &Plan, tally: &mut Tally) -> String {
    tally.begins(plan);
    let scenario = scenario(plan);
    let faults = Faults::new(Vec::new());
    let (mut harness, _) = scenario::set(&scenario, Backend::Sandbox, None, faults).await.unwrap();
    serde_json::from_value::<WorldSpec>(plan.pace.clone()).unwrap().change(&harness).await;
    let path = format!("/gum/v1/gr/{}", harness.gr());
    let answer = harness.must("PUT", &path, &plan.request.to_string()).await;
    let begun = Instant::now();
    let mut repeats = 0;
    for (when, event) in &plan.events {
        when.comes(&harness, begun).await;
        tally.happens(event, harness.oracle.newest_record().as_ref());
        repeats += event.happen(&mut harness, &plan.request).await;
    }
    let last_event = Instant::now();
    if let Some(seconds) = plan.mended_after {
        until_settled(&harness, Duration::from_secs(seconds)).await;
        sleep((last_event + Duration::from_secs(seconds)).saturating_duration_since(Instant::now())).await;
        events::mend(&harness);
    }
    until_settled(&harness, PATIENCE).await;
    let records = records(&harness).await;
    let ended = records.iter().all(|r| r.phase().is_final());
    if ended {
        it_is_silent_and_nothing_is_claimed(&harness).await;
    } else {
        sleep(AFTERWARDS).await;
    }
    judge(plan, &harness, repeats);
    if ended {
        nothing_is_held_without_a_reason(&harness).await;
    }
    records.iter().for_each(l6);
    let Some(record) = records.last() else {
        tally.ends(None);
        return format!("no record, {}", answer.status);
    };
    l5(&harness, record).await;
    tally.ends(Some(record));
    format!("{:?}, {}", record.phase(), record.status_or_default().message)
}

/// The records of the world's gr, the newest last.
async fn records(harness: &Harness) -> Vec<GcuUpgrade> {
    let mut records = harness.records().list(&Default::default()).await.unwrap().items;
    records.sort_by_key(GcuUpgrade::number);
    records
}

fn judge(plan: &Plan, harness: &Harness, repeats: usize) {
    let calls = harness.faults.calls();
    let breaches = harness.oracle.breaches(&calls);
    assert!(breaches.is_empty(), "against the lock: {breaches:#?}");
    harness.oracle.check();
    harness.oracle.check_fleet(&calls, harness.faults.happened() + repeats, plan.is_meddled_with());
}

/// Until the upgrade has ended, or nothing moves any more. Steps that wait for a person are granted meanwhile.
async fn until_settled(harness: &Harness, patience: Duration) {
    let end = Instant::now() + patience;
    let mut held_since = None;
    while Instant::now() < end {
        let Some(record) = records(harness).await.pop() else { return };
        if record.phase().is_final() {
            return;
        }
        let status = record.status_or_default();
        let waits = status.waiting_on.as_ref().map(|waiting| waiting.reason);
        if record.phase() == Phase::Paused && waits == Some(WaitReason::AwaitingPromotion) {
            events::command(harness, "promote").await;
        }
        match (record.phase(), held_since) {
            (Phase::Held, None) => held_since = Some(Instant::now()),
            (Phase::Held, Some(since)) if since.elapsed() > HELD_FOR_GOOD => return,
            (Phase::Held, Some(_)) => {}
            _ => held_since = None,
        }
        sleep(Duration::from_secs(20)).await;
    }
}

async fn it_is_silent_and_nothing_is_claimed(harness: &Harness) {
    // What an ended upgrade may still have to clear away.
    sleep(Duration::from_secs(240)).await;
    let writes = || harness.faults.calls().into_iter().filter(|call| call.is_write()).collect::<Vec<_>>();
    let before = writes().len();
    sleep(AFTERWARDS).await;
    let more = writes().split_off(before);
    assert!(more.is_empty(), "it writes after the end: {more:#?}");
    let nodes: Api<Node> = Api::all(harness.client.clone());
    for node in nodes.list(&Default::default()).await.unwrap().items {
        let name = node.name_any();
        assert!(!node.annotations().contains_key(NODE_ANNOTATION), "I10: {name} still carries a claim");
        let cordoned = node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or_default();
        let by_admin = node.annotations().get(scenario::tenants::ADMIN).is_some_and(|a| a == "cordoned");
        assert!(!cordoned || by_admin, "I10: {name} is still cordoned");
    }
}

/// L2, the other way round: no DaemonSet stays held once there are no outdated pods on any node, and the keeper is
/// there only while something is held.
async fn nothing_is_held_without_a_reason(harness: &Harness) {
    let (sets, pods, nodes): (Api<DaemonSet>, Api<Pod>, Api<Node>) = (
        Api::all(harness.client.clone()),
        Api::all(harness.client.clone()),
        Api::all(harness.client.clone()),
    );
    let all = Default::default();
    let (pods, nodes) = (pods.list(&all).await.unwrap().items, nodes.list(&all).await.unwrap().items);
    let nodes: BTreeSet<String> = nodes.iter().map(ResourceExt::name_any).collect();
    let held: Vec<DaemonSet> = sets.list(&all).await.unwrap().items;
    let held: Vec<_> = held.iter().filter(|s| s.annotations().contains_key(LOCK_ANNOTATION)).collect();
    let is_outdated = |pod: &Pod, set: &DaemonSet| {
        let is_on = pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some_and(|n| nodes.contains(n));
        let is_of = pod.owner_references().iter().any(|owner| Some(&owner.uid) == set.metadata.uid.as_ref());
        is_on && is_of && lock::is_outdated(&json!(pod), &json!(set))
    };
    let reason = held.iter().any(|set| pods.iter().any(|pod| is_outdated(pod, set)));
    let names: Vec<String> = held.iter().map(|set| set.name_any()).collect();
    assert!(held.is_empty() || reason, "L2: held without outdated pods: {names:?}");
    let webhooks: Api<MutatingWebhookConfiguration> = Api::all(harness.client.clone());
    let webhooks = webhooks.list(&all).await.unwrap().items.len();
    assert!(webhooks == 0 || !held.is_empty(), "the keeper is there and nothing is held");
}

/// Every upgrade ends, or is held with a sentence, and there is something that a person can do.
async fn l5(harness: &Harness, record: &GcuUpgrade) {
    let status = record.status_or_default();
    let commands: &[&str] = match record.phase() {
        phase if phase.is_final() => return,
        Phase::Held => &["retry", "cancel", "close"],
        Phase::Paused => &["resume", "promote", "cancel", "close"],
        phase => panic!("L5: still {phase:?} in {:?}: {:#?}", status.step, status.timeline),
    };
    assert!(!status.message.is_empty(), "L5: {:?} without a word", record.phase());
    let mut answers = Vec::new();
    for command in commands {
        let answer = events::command(harness, command).await;
        if answer.status.is_success() {
            return;
        }
        answers.push(format!("{command}: {}", answer.text));
    }
    panic!("L5: nothing can be done about {:?} ({}): {answers:#?}", record.phase(), status.message);
}

fn l6(record: &GcuUpgrade) {
    let size = serde_json::to_string(record).unwrap().len();
    assert!(size < RECORD_LIMIT, "L6: the record has {size} bytes");
}

#[test]
fn every_kind_of_intervention_comes_often_in_a_thousand_worlds() {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for (_, event) in (0..1000).flat_map(|seed| Plan::of(seed).events) {
        *times.entry(event.kind()).or_default() += 1;
    }
    let words = "Edit DeleteGr DeleteRecord Options Restart Die Away SecondService NotReady Ready Vanish \
                 Cordon Uncordon NewNode Arrive PutBack BadImage Full Skip Again";
    let commands =
        ["cancel", "pause", "resume", "rollback", "retry", "close"].map(|c| format!("Command {c}"));
    let of_node = ["skip", "retry"].map(|c| format!("OfNode {c}"));
    for kind in words.split_whitespace().map(str::to_owned).chain(commands).chain(of_node) {
        let times = times.get(&kind).copied().unwrap_or_default();
        assert!(times >= 20, "{kind}: {times} times in a thousand worlds");
    }
}
