//! Steering a RollingUpdate: each command, and every pair of commands, on the sandbox.

use std::time::Duration;

use gcu_upgrade_manager::record::{Intent, Phase, Strategy};
use tokio::time::sleep;

use super::*;

const PATIENCE: Duration = Duration::from_secs(3600);

/// The documented gr with the driver and the device plugin in another version.
pub(super) fn newer() -> Value {
    let mut gr = documented_gr();
    gr["spec"]["driver"]["version"] = json!("9.9.9");
    gr["spec"]["devicePlugin"]["version"] = json!("9.9.9");
    gr
}

/// A settled world with so many nodes and a blueprint `newer.json`.
pub(super) async fn fleet(nodes: usize) -> Harness {
    let harness = harness_of(World { nodes, ..World::default() }).await;
    harness.write("newer.json", &newer().to_string());
    harness
}

pub(super) fn rolling(options: &Value) -> String {
    json!({ "file": "newer.json", "strategy": "RollingUpdate", "rollingUpdate": options }).to_string()
}

pub(super) async fn start(harness: &Harness, options: &Value) {
    let put = harness.must("PUT", GR, &rolling(options)).await;
    assert_eq!(put.status, 200, "{}", put.text);
}

pub(super) async fn until_phase(harness: &mut Harness, number: u64, phase: Phase) {
    harness.until(&format!("{phase:?}"), number, PATIENCE, |r| r.is_some_and(|r| r.phase() == phase)).await;
}

async fn say(harness: &Harness, command: &str) -> Answer {
    harness.must("POST", &format!("{GR}/{command}"), "").await
}

async fn done(harness: &Harness, number: u64) -> u32 {
    harness.record(number).await.unwrap().status_or_default().rolling.unwrap_or_default().nodes.done
}

/// Versions of the driver that run on the nodes.
pub(super) async fn versions(harness: &Harness) -> Vec<String> {
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(harness.client.clone(), "kube-system");
    let only = kube::api::ListParams::default().labels("app.kubernetes.io/name=enflame-gcu-driver");
    let pods = pods.list(&only).await.unwrap().items;
    let image = |p: &k8s_openapi::api::core::v1::Pod| {
        let image = p.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        image.rsplit(':').next().unwrap().to_owned()
    };
    let mut all: Vec<String> = pods.iter().map(image).collect();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn a_pause_takes_no_further_node_and_a_resume_goes_on() {
    let mut harness = fleet(4).await;
    start(&harness, &json!({ "maxUnavailable": 1 })).await;
    harness
        .until("a node", 1, PATIENCE, |r| {
            r.unwrap().status_or_default().rolling.is_some_and(|r| r.nodes.done == 1)
        })
        .await;
    let paused = harness.must("POST", &format!("{GR}/pause?wait=1h"), "").await;
    assert_eq!(paused.status, 200, "{}", paused.text);
    assert_envelope(&paused, "Pause", true);
    let content = paused.json()["content"].clone();
    assert_eq!((&content["name"], &content["phase"]), (&json!("enflame-gcu-resource-1"), &json!("Paused")));
    assert!(content["effect"].as_str().unwrap().starts_with("no further node is taken"), "{content:#}");
    sleep(Duration::from_secs(600)).await;
    let before = done(&harness, 1).await;
    assert!(before < 4, "it is paused before its end");
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(done(&harness, 1).await, before);
    let again = say(&harness, "pause").await;
    assert_eq!(
        (again.status.as_u16(), again.error()),
        (409, "enflame-gcu-resource-1 is paused already".to_owned())
    );
    let resumed = harness.must("POST", &format!("{GR}/resume?wait=1h"), "").await;
    assert_eq!(resumed.status, 200, "{}", resumed.text);
    assert_envelope(&resumed, "Resume", true);
    assert_eq!(resumed.json()["content"]["phase"], "Succeeded");
    assert_eq!(versions(&harness).await, ["9.9.9"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_canary_waits_for_promote_and_its_end_ends_a_wait() {
    let mut harness = fleet(4).await;
    let put = harness
        .must("PUT", &format!("{GR}?wait=1h"), &rolling(&json!({ "maxUnavailable": 2, "canary": 1 })))
        .await;
    assert_eq!(
        (put.status.as_u16(), &put.json()["content"]["phase"]),
        (200, &json!("Paused")),
        "{}",
        put.text
    );
    assert_eq!(put.json()["content"]["message"], "the canary nodes are done; call promote to continue");
    assert_eq!(versions(&harness).await.iter().filter(|v| *v == "9.9.9").count(), 1);
    let resume = say(&harness, "resume").await;
    assert_eq!(resume.status, 409);
    assert!(resume.error().ends_with("waits for its next step: promote it instead"), "{}", resume.text);
    let before = harness.record(1).await;
    let dry = say(&harness, "promote?dryRun=true").await;
    assert_eq!((dry.status.as_u16(), &dry.json()["content"]["dryRun"]), (200, &json!(true)), "{}", dry.text);
    assert_eq!(harness.record(1).await, before);
    let promoted = say(&harness, "promote").await;
    assert_eq!(promoted.status, 200, "{}", promoted.text);
    assert_envelope(&promoted, "Promote", true);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    assert_eq!(harness.record(1).await.unwrap().spec.granted, 1);
    assert_eq!(versions(&harness).await, ["9.9.9"; 4]);
}

#[tokio::test(start_paused = true)]
async fn manual_steps_are_promoted_one_by_one() {
    let mut harness = fleet(3).await;
    start(&harness, &json!({ "maxUnavailable": 1, "manual": true })).await;
    for step in 0..2 {
        harness
            .until("the step's end", 1, PATIENCE, |r| {
                let status = r.unwrap().status_or_default();
                status.phase == Phase::Paused && status.rolling.is_some_and(|r| r.step == step)
            })
            .await;
        assert_eq!(done(&harness, 1).await, step + 1);
        assert_eq!(say(&harness, "promote").await.status, 200);
    }
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let late = say(&harness, "promote").await;
    assert_eq!(late.error(), "enflame-gcu-resource-1 has ended: nothing to promote");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_puts_the_old_version_back_on_every_node_that_was_touched() {
    let mut harness = fleet(4).await;
    let before = versions(&harness).await;
    start(&harness, &json!({ "maxUnavailable": 1, "canary": 2 })).await;
    until_phase(&mut harness, 1, Phase::Paused).await;
    assert_eq!(versions(&harness).await.iter().filter(|v| *v == "9.9.9").count(), 2);
    let cancelled = harness.must("POST", &format!("{GR}/cancel?wait=1h"), "").await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    assert_envelope(&cancelled, "Cancel", true);
    assert_eq!(cancelled.json()["content"]["phase"], "RolledBack");
    assert_eq!(versions(&harness).await, before);
    let gr = harness.must("GET", GR, "").await.json();
    assert_eq!(gr["content"]["spec"], documented_gr()["spec"]);
    let late = say(&harness, "cancel").await;
    assert!(late.error().contains("has ended: nothing to cancel; rollback returns to"), "{}", late.text);
}

#[tokio::test(start_paused = true)]
async fn a_retry_and_a_rollback_go_as_the_last_upgrade_went_unless_told_otherwise() {
    let mut harness = fleet(2).await;
    start(&harness, &json!({ "maxUnavailable": 2, "minReadySeconds": 7 })).await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let back = harness.must("POST", &format!("{GR}/rollback?wait=1h"), "").await;
    assert_eq!(back.status, 200, "{}", back.text);
    let content = back.json()["content"].clone();
    assert_eq!(content["strategy"], "RollingUpdate");
    assert_eq!(content["rollingUpdate"]["minReadySeconds"], 7, "{content:#}");

    let body = r#"{"revision": 1, "rollingUpdate": {"maxUnavailable": "50%"}}"#;
    let forth = harness.must("POST", &format!("{GR}/rollback?wait=1h"), body).await;
    assert_eq!(forth.status, 200, "{}", forth.text);
    let content = forth.json()["content"].clone();
    assert_eq!(content["rollingUpdate"]["maxUnavailable"], "50%");
    assert_eq!(content["rollingUpdate"]["minReadySeconds"], 10, "other options, and no more of the old ones");

    let body = r#"{"revision": 0, "strategy": "RollingUpdate", "components": ["driver"]}"#;
    let part = harness.must("POST", &format!("{GR}/rollback?wait=1h"), body).await;
    assert_eq!(part.status, 200, "{}", part.text);
    let record = harness.record(4).await.unwrap();
    assert_eq!(record.spec.components, ["driver"]);
    assert_eq!(record.spec.target.manifest["spec"]["driver"], documented_gr()["spec"]["driver"]);
    assert_eq!(record.spec.target.manifest["spec"]["devicePlugin"]["version"], "9.9.9");

    harness.world.change_kubelet(|k| k.bad_images = vec!["gcu-driver:9.9.9".to_owned()]);
    let body = json!({ "file": "newer.json", "strategy": "RollingUpdate", "onFailure": "Rollback" });
    assert_eq!(harness.must("PUT", GR, &body.to_string()).await.status, 200);
    assert_eq!(harness.until_final(5).await, Phase::RolledBack);
    harness.world.change_kubelet(|k| k.bad_images.clear());
    let again = harness.must("POST", &format!("{GR}/retry?wait=1h"), "").await;
    assert_eq!((again.status.as_u16(), &again.json()["content"]["strategy"]), (200, &json!("RollingUpdate")));
    let recreated = harness
        .must("POST", &format!("{GR}/rollback?wait=1h"), r#"{"revision": 0, "strategy": "Recreate"}"#)
        .await;
    assert_eq!(recreated.status, 200, "{}", recreated.text);
    assert_eq!(harness.record(7).await.unwrap().spec.strategy, Strategy::Recreate);
    let wrong =
        harness.must("POST", &format!("{GR}/rollback"), r#"{"rollingUpdate": {"maxUnavailable": 1}}"#).await;
    assert_eq!(wrong.status, 400, "the last one was a Recreate: {}", wrong.text);
}

#[tokio::test(start_paused = true)]
async fn a_held_node_is_retried_and_what_a_job_takes_is_refused_while_it_runs() {
    let mut harness = fleet(2).await;
    harness.world.change_kubelet(|k| k.bad_images = vec!["gcu-driver:9.9.9".to_owned()]);
    start(&harness, &json!({})).await;
    until_phase(&mut harness, 1, Phase::Held).await;
    for (call, body, status, says) in [
        ("retry", r#"{"strategy": "Recreate"}"#, 400, "strategy: has no meaning here"),
        ("rollback", r#"{"rollingUpdate": {}}"#, 400, "rollingUpdate: has no meaning here"),
        ("rollback", r#"{"components": ["driver"]}"#, 400, "components: has no meaning here"),
        ("rollback", r#"{"revision": 0}"#, 409, "is already upgrading"),
        ("resume", "", 409, "is held, not paused: retry it instead"),
        ("promote", "", 409, "is held: see /why, then retry it"),
        ("pause", r#"{"file": "x"}"#, 400, "file: no such field here: none is known"),
        ("pause?why=1", "", 400, "why: no such query parameter here"),
    ] {
        let answer = harness.must("POST", &format!("{GR}/{call}"), body).await;
        assert_eq!(answer.status.as_u16(), status, "{call} {body}: {}", answer.text);
        assert!(answer.error().contains(says), "{call} {body}: {}", answer.text);
    }
    harness.world.change_kubelet(|k| k.bad_images.clear());
    let retried = harness.must("POST", &format!("{GR}/retry?wait=1h"), "").await;
    assert_eq!(retried.status, 200, "{}", retried.text);
    assert_envelope(&retried, "Retry", true);
}

#[tokio::test(start_paused = true)]
async fn a_recreate_takes_cancel_and_no_pause() {
    let mut harness = harness().await;
    for command in ["pause", "resume", "cancel", "promote", "close"] {
        let nothing = say(&harness, command).await;
        assert_eq!(nothing.status, 409, "{}", nothing.text);
        assert!(nothing.error().contains("has never been upgraded: nothing to"), "{}", nothing.text);
    }
    harness.must("PUT", GR, PUT_BODY).await;
    sleep(Duration::from_secs(2)).await;
    let pause = say(&harness, "pause").await;
    assert_eq!(pause.status, 409);
    assert!(pause.error().contains("the stack would stay down"), "{}", pause.text);
    assert_eq!(say(&harness, "cancel").await.status, 200);
    let twice = say(&harness, "cancel").await;
    assert_eq!(twice.error(), "enflame-gcu-resource-1 is rolling back already");
    assert_eq!(harness.until_final(1).await, Phase::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn every_pair_of_commands_comes_to_an_end_that_its_answers_announced() {
    let commands = ["pause", "resume", "cancel", "promote", "rollback", "retry"];
    for first in commands {
        for second in commands {
            come_to_the_end_that_was_announced(first, second).await;
        }
    }
}

/// Nothing but `close` is legal after a `close`, and a node's commands do not change what others come to: each is tried
/// with those alone that it could meet.
#[tokio::test(start_paused = true)]
async fn closing_and_skipping_go_together_with_other_commands() {
    for (first, second) in [
        ("pause", "close"),
        ("cancel", "close"),
        ("close", "cancel"),
        ("close", "close"),
        (SKIP, "close"),
        (SKIP, SKIP),
        (SKIP, RETRY),
        (RETRY, SKIP),
        (SKIP, "pause"),
        ("pause", SKIP),
        (SKIP, "cancel"),
        ("cancel", SKIP),
    ] {
        come_to_the_end_that_was_announced(first, second).await;
    }
}

const SKIP: &str = "nodes/node-2/skip";
const RETRY: &str = "nodes/node-2/retry";

/// Says the two after the canary, and holds the end against what was answered.
async fn come_to_the_end_that_was_announced(first: &str, second: &str) {
    let mut harness = fleet(2).await;
    start(&harness, &json!({ "canary": 1 })).await;
    until_phase(&mut harness, 1, Phase::Paused).await;
    let one = say(&harness, first).await;
    let two = say(&harness, second).await;
    let about = format!("{first}: {}{second}: {}", one.text, two.text);
    let said = |words: &[&str]| {
        let all = [(first, &one), (second, &two)];
        all.iter().any(|(c, a)| words.contains(c) && a.status == 200)
    };
    let (turned, closed) = (said(&["cancel", "rollback"]), said(&["close"]));
    let skipped = said(&[SKIP]) && !(second == RETRY && two.status == 200);
    for answer in [&one, &two] {
        assert!([200, 409].contains(&answer.status.as_u16()), "{about}");
    }
    sleep(Duration::from_secs(600)).await;
    let record = harness.record(1).await.unwrap();
    // Without node-2 there is nothing left to do, paused or not.
    if record.spec.intent == Intent::Pause && !skipped {
        assert_eq!(record.phase(), Phase::Paused, "{about}");
        assert_eq!(say(&harness, "resume").await.status, 200, "{about}");
        sleep(Duration::from_secs(60)).await;
    }
    if harness.record(1).await.unwrap().phase() == Phase::Paused {
        assert_eq!(say(&harness, "promote").await.status, 200, "{about}");
    }
    let (phase, new) = match (closed, turned) {
        (true, _) => (Phase::Failed, None),
        (false, true) => (Phase::RolledBack, Some(0)),
        (false, false) => (Phase::Succeeded, Some(if skipped { 1 } else { 2 })),
    };
    assert_eq!(harness.until_final(1).await, phase, "{about}");
    let there = versions(&harness).await.iter().filter(|v| *v == "9.9.9").count();
    assert!(new.is_none_or(|new| new == there), "{new:?} {there}: {about}");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_does_not_wait_for_a_node_that_was_only_being_emptied() {
    let mut harness = fleet(2).await;
    super::watching::tenant(&harness, "job-1", "node-2", true).await;
    super::watching::budget(&harness).await;
    sleep(Duration::from_secs(30)).await;
    start(&harness, &json!({ "drain": { "timeout": "20m" } })).await;
    until_phase(&mut harness, 1, Phase::Held).await;
    let cancelled = harness.must("POST", &format!("{GR}/cancel?wait=1h"), "").await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    assert!(!versions(&harness).await.contains(&"9.9.9".to_owned()));
}
