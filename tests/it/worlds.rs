//! Random worlds: operators of every temper, clusters of every size, every option, and whatever people and machines do
//! at random moments. Nothing is expected of one but what holds in all: the oracles, an end or a hold that says what a
//! person can do, and a record that stays small.
//!
//! `GUM_WORLDS=1000` says how many, `GUM_WORLD_FIRST=n` with which seed to begin; `GUM_WORLD_SEED=n` runs one.

mod events;
mod plan;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gcu_upgrade_manager::record::rolling::NODE_ANNOTATION;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase, WaitReason};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::faults::Faults;
use crate::scenario::{self, Scenario, WorldSpec};
use crate::scenarios::in_virtual_time;
use crate::stage::{Backend, Stage};
use plan::Plan;

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
    let (mut failed, mut tried) = (Vec::new(), 0);
    for seed in seeds().filter(|seed| asked("GUM_WORLD_SEED").is_some() || seed % parts == part) {
        let plan = Plan::of(seed);
        tried += 1;
        match catch_unwind(AssertUnwindSafe(|| in_virtual_time(run(&plan)))) {
            Ok(how) => println!("world {seed}: {how}"),
            Err(why) => {
                println!("world {seed} FAILED: {}\n{plan:#?}", message(&*why));
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "{} of {tried} worlds: GUM_WORLD_SEED={failed:?}", failed.len());
    println!("{tried} worlds");
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()).unwrap_or("")
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
async fn run(plan: &Plan) -> String {
    let scenario = scenario(plan);
    let faults = Faults::new(Vec::new());
    let (mut stage, _) = scenario::set(&scenario, Backend::Sandbox, None, faults).await.unwrap();
    serde_json::from_value::<WorldSpec>(plan.pace.clone()).unwrap().change(&stage).await;
    let path = format!("/gum/v1/gr/{}", stage.gr());
    let answer = stage.must("PUT", &path, &plan.request.to_string()).await;
    let begun = Instant::now();
    let mut repeats = 0;
    for (at, event) in &plan.events {
        tokio::time::sleep_until(begun + Duration::from_secs(*at)).await;
        repeats += event.happen(&mut stage, &plan.request).await;
    }
    let last_event = Instant::now();
    if let Some(seconds) = plan.mended_after {
        until_settled(&stage, Duration::from_secs(seconds)).await;
        sleep((last_event + Duration::from_secs(seconds)).saturating_duration_since(Instant::now())).await;
        events::mend(&stage);
    }
    until_settled(&stage, PATIENCE).await;
    let records = records(&stage).await;
    let ended = records.iter().all(|r| r.phase().is_final());
    if ended {
        it_is_silent_and_nothing_is_claimed(&stage).await;
    } else {
        sleep(AFTERWARDS).await;
    }
    judge(plan, &stage, repeats);
    records.iter().for_each(l6);
    match records.last() {
        Some(record) => {
            l5(&stage, record).await;
            format!("{:?}, {}", record.phase(), record.status_or_default().message)
        }
        None => format!("no record, {}", answer.status),
    }
}

/// The records of the world's gr, the newest last.
async fn records(stage: &Stage) -> Vec<GcuUpgrade> {
    let mut records = stage.records().list(&Default::default()).await.unwrap().items;
    records.sort_by_key(GcuUpgrade::number);
    records
}

fn judge(plan: &Plan, stage: &Stage, repeats: usize) {
    let calls = stage.faults.calls();
    let breaches = stage.oracle.breaches(&calls);
    assert!(breaches.is_empty(), "against the lock: {breaches:#?}");
    stage.oracle.check();
    stage.oracle.check_fleet(&calls, stage.faults.happened() + repeats, plan.is_meddled_with());
}

/// Until the upgrade has ended, or nothing moves any more. Steps that wait for a person are granted meanwhile.
async fn until_settled(stage: &Stage, patience: Duration) {
    let end = Instant::now() + patience;
    let mut held_since = None;
    while Instant::now() < end {
        let Some(record) = records(stage).await.pop() else { return };
        if record.phase().is_final() {
            return;
        }
        let status = record.status_or_default();
        let waits = status.waiting_on.as_ref().map(|waiting| waiting.reason);
        if record.phase() == Phase::Paused && waits == Some(WaitReason::AwaitingPromotion) {
            events::command(stage, "promote").await;
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

async fn it_is_silent_and_nothing_is_claimed(stage: &Stage) {
    // What an ended upgrade may still have to clear away.
    sleep(Duration::from_secs(240)).await;
    let writes = || stage.faults.calls().into_iter().filter(|call| call.is_write()).collect::<Vec<_>>();
    let before = writes().len();
    sleep(AFTERWARDS).await;
    let more = writes().split_off(before);
    assert!(more.is_empty(), "it writes after the end: {more:#?}");
    let nodes: Api<Node> = Api::all(stage.client.clone());
    for node in nodes.list(&Default::default()).await.unwrap().items {
        let name = node.name_any();
        assert!(!node.annotations().contains_key(NODE_ANNOTATION), "I10: {name} still carries a claim");
        let cordoned = node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or_default();
        let by_admin = node.annotations().get(scenario::tenants::ADMIN).is_some_and(|a| a == "cordoned");
        assert!(!cordoned || by_admin, "I10: {name} is still cordoned");
    }
}

/// Every upgrade ends, or is held with a sentence, and there is something that a person can do.
async fn l5(stage: &Stage, record: &GcuUpgrade) {
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
        let answer = events::command(stage, command).await;
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
