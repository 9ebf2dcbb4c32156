//! Getting past a node, and past an upgrade: skip, retry of a node, close.

mod closing;

use std::time::Duration;

use gcu_upgrade_manager::record::rolling::ClaimState;
use gcu_upgrade_manager::record::{Phase, SkipNode};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::time::sleep;

use super::commands::{fleet, newer, start, until_phase, versions};
use super::watching::{budget, label, tenant};
use super::*;
use crate::faults::{Fault, Faults, Rule};

const LONG: Duration = Duration::from_secs(3600);

async fn of_node(harness: &Harness, node: &str, call: &str, body: &str) -> Answer {
    harness.must("POST", &format!("{GR}/nodes/{node}/{call}"), body).await
}

/// What a success says that it comes to.
fn effect(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["content"]["effect"].as_str().unwrap().to_owned()
}

/// Whether a node is cordoned, and whether it carries the mark of an upgrade.
async fn node(harness: &Harness, name: &str) -> (bool, bool) {
    let nodes: Api<Node> = Api::all(harness.client.clone());
    let node = nodes.get(name).await.unwrap();
    let marked = node.metadata.annotations.unwrap_or_default().contains_key("gum.enflame.com/upgrade");
    (node.spec.unwrap().unschedulable.unwrap_or_default(), marked)
}

/// An upgrade that is held because `node-2` cannot be drained; all else is done.
async fn held_at_node_2() -> Harness {
    let mut harness = fleet(3).await;
    tenant(&harness, "job-1", "node-2", true).await;
    budget(&harness).await;
    sleep(Duration::from_secs(30)).await;
    start(&harness, &json!({ "drain": { "timeout": "10m" } })).await;
    until_phase(&mut harness, 1, Phase::Held).await;
    assert_eq!(versions(&harness).await, ["9.9.9", "9.9.9", "latest"]);
    harness
}

/// An upgrade that waits for `promote` after one of its three nodes.
async fn at_the_canary() -> Harness {
    let mut harness = fleet(3).await;
    start(&harness, &json!({ "canary": 1 })).await;
    until_phase(&mut harness, 1, Phase::Paused).await;
    harness
}

#[tokio::test(start_paused = true)]
async fn a_node_in_work_is_released_as_it_is_and_the_upgrade_ends_without_it() {
    for keeps in [false, true] {
        let harness = held_at_node_2().await;
        assert_eq!(node(&harness, "node-2").await, (true, true));
        let body = json!({ "reason": "broken fan", "keepCordon": keeps }).to_string();
        let skipped = of_node(&harness, "node-2", "skip?wait=1h", &body).await;
        assert_envelope(&skipped, "SkipNode", true);
        assert_eq!(effect(&skipped), "node node-2 is released as it is, and left out");
        let content = skipped.json()["content"].clone();
        assert_eq!(
            (&content["name"], &content["phase"]),
            (&json!("enflame-gcu-resource-1"), &json!("Succeeded"))
        );
        assert_eq!(skipped.headers["location"], RECORD);
        assert_eq!(node(&harness, "node-2").await, (keeps, false), "cordoned, marked");
        assert_eq!(versions(&harness).await, ["9.9.9", "9.9.9", "latest"]);
        let said = harness.record(1).await.unwrap().spec.skip;
        let reason = Some("broken fan".to_owned());
        assert_eq!(said, [SkipNode { node: "node-2".to_owned(), reason, keep_cordon: keeps }]);
        for (call, says) in [("skip", "has ended: no node to skip"), ("retry", "has ended: no node to retry")]
        {
            let late = of_node(&harness, "node-2", call, "").await;
            assert_eq!(late.status, 409);
            assert!(late.error().contains(says), "{}", late.text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_not_taken_yet_is_left_out_until_it_is_retried() {
    let mut harness = at_the_canary().await;
    let before = harness.record(1).await;
    let dry = of_node(&harness, "node-3", "skip?dryRun=true", r#"{"reason": "fan"}"#).await;
    assert_eq!(effect(&dry), "node node-3 is left out");
    assert_eq!(dry.json()["content"]["dryRun"], true);
    assert_eq!(harness.record(1).await, before);
    assert_eq!(
        effect(&of_node(&harness, "node-3", "skip", r#"{"reason": "fan"}"#).await),
        "node node-3 is left out"
    );
    sleep(Duration::from_secs(5)).await;
    let record = harness.record(1).await.unwrap();
    for body in ["", "{}", r#"{"reason": "fan"}"#, r#"{"keepCordon": false}"#] {
        let again = of_node(&harness, "node-3", "skip", body).await;
        assert_eq!(effect(&again), "node node-3 is skipped already", "{body}");
    }
    assert_eq!(harness.record(1).await.unwrap(), record, "nothing was written");
    let why = harness.must("GET", &format!("{GR}/why"), "").await.json();
    assert_eq!(why["content"]["skipped"], json!([{ "node": "node-3", "reason": "skipped by request: fan" }]));
    let promoted = harness.must("POST", &format!("{GR}/promote"), "").await;
    assert_eq!(promoted.status, 200, "{}", promoted.text);
    // The last node has to be retried before the upgrade ends.
    harness
        .until("the node in between", 1, LONG, |r| {
            let rolling = r.unwrap().status_or_default().rolling.unwrap_or_default();
            rolling.active.iter().any(|c| c.node == "node-2")
        })
        .await;
    let retried = of_node(&harness, "node-3", "retry", "").await;
    assert_envelope(&retried, "RetryNode", true);
    assert_eq!(effect(&retried), "node node-3 is no longer left out");
    let spec = harness.record(1).await.unwrap().spec;
    assert_eq!((spec.skip.len(), spec.node_attempts["node-3"]), (0, 1));
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    assert_eq!(versions(&harness).await, ["9.9.9"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_late_node_gets_a_fresh_deadline() {
    let mut harness = held_at_node_2().await;
    let claim = |record: Option<gcu_upgrade_manager::record::GcuUpgrade>| {
        record.unwrap().status_or_default().rolling.unwrap().active[0].clone()
    };
    let late = claim(harness.record(1).await);
    assert!(late.trouble.is_some() && late.attempt == 0, "{late:?}");
    let retried = of_node(&harness, "node-2", "retry", "{}").await;
    assert_eq!(effect(&retried), "node node-2 goes on with a fresh deadline");
    until_phase(&mut harness, 1, Phase::Running).await;
    let fresh = claim(harness.record(1).await);
    assert_eq!((fresh.trouble.clone(), fresh.attempt, fresh.since), (None, 1, late.since));
    assert!(fresh.deadline.duration_since(late.deadline).as_secs() >= 600, "{:?}", fresh.deadline);
    let early = of_node(&harness, "node-2", "retry", "").await;
    assert_eq!(
        (early.status.as_u16(), early.error()),
        (
            409,
            "enflame-gcu-resource-1 has node node-2 in work, which has not failed and is not late: nothing to retry yet"
                .to_owned()
        )
    );
    until_phase(&mut harness, 1, Phase::Held).await;
    assert_eq!(effect(&of_node(&harness, "node-2", "retry", "").await), effect(&retried));
    assert_eq!(harness.record(1).await.unwrap().spec.node_attempts["node-2"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_given_up_is_taken_again() {
    let mut harness = fleet(2).await;
    tenant(&harness, "lone", "node-2", false).await;
    sleep(Duration::from_secs(30)).await;
    let canary = json!({ "kubernetes.io/hostname": "node-2" });
    start(&harness, &json!({ "canary": canary, "drain": { "timeout": "2m", "onTimeout": "Skip" } })).await;
    let given_up = |r: Option<&gcu_upgrade_manager::record::GcuUpgrade>| {
        let status = r.unwrap().status_or_default();
        let rolling = status.rolling.unwrap_or_default();
        status.phase == Phase::Paused && rolling.skipped.iter().any(|s| s.node == "node-2")
    };
    harness.until("a node that is given up", 1, LONG, given_up).await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(harness.client.clone(), "default");
    pods.delete("lone", &Default::default()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(given_up(harness.record(1).await.as_ref()), "it stays given up by itself");
    assert_eq!(effect(&of_node(&harness, "node-2", "retry", "").await), "node node-2 is no longer left out");
    harness
        .until("the canary's end", 1, LONG, |r| {
            let status = r.unwrap().status_or_default();
            status.phase == Phase::Paused && status.rolling.unwrap_or_default().nodes.done == 1
        })
        .await;
    assert_eq!(versions(&harness).await, ["9.9.9", "latest"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_said_of_a_node_is_refused_with_what_to_do() {
    let mut harness = harness_of(World { nodes: 2, ..World::default() }).await;
    harness.write("newer.json", &newer().to_string());
    harness.write("same.json", &documented_gr().to_string());
    for (call, verb) in [("skip", "skip"), ("retry", "retry")] {
        let nothing = of_node(&harness, "node-1", call, "").await;
        assert_eq!(nothing.status, 409);
        let says = format!("gr \"enflame-gcu-resource\" has never been upgraded: nothing to {verb}");
        assert_eq!(nothing.error(), says);
    }
    harness.must("PUT", GR, r#"{"file": "same.json", "force": true}"#).await;
    for call in ["skip", "retry"] {
        let recreate = of_node(&harness, "node-1", call, "").await;
        assert_eq!(recreate.status, 409, "{}", recreate.text);
        assert!(
            recreate.error().contains("is a Recreate, which takes all nodes at once"),
            "{}",
            recreate.text
        );
    }
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    start(&harness, &json!({ "canary": 1 })).await;
    until_phase(&mut harness, 2, Phase::Paused).await;
    label(&harness, "node-2", json!({ "metadata": { "labels": { "gum.enflame.com/skip": "true" } } })).await;
    let long = json!({ "reason": "x".repeat(257) }).to_string();
    for (target, body, status, says) in [
        (
            "nodes/node-9/skip",
            "",
            404,
            "the cluster has no node \"node-9\"; GET /gum/v1/gr/enflame-gcu-resource/nodes names",
        ),
        ("nodes/node-9/retry", "", 404, "the cluster has no node \"node-9\""),
        (
            "nodes/node-1/retry",
            "",
            409,
            "enflame-gcu-resource-2 has not skipped node node-1, and it is not in work",
        ),
        (
            "nodes/node-2/retry",
            "",
            409,
            "node node-2 is left out because of its label gum.enflame.com/skip=true: remove",
        ),
        ("nodes/Node-1/skip", "", 400, "\"Node-1\" cannot be a name"),
        ("nodes/..%2fx/skip", "", 400, "cannot be a name"),
        (
            "nodes/node-1/skip",
            r#"{"why": "x"}"#,
            400,
            "why: no such field here: reason and keepCordon are known",
        ),
        (
            "nodes/node-1/skip",
            r#"{"keepCordon": "yes"}"#,
            400,
            r#"keepCordon: must be true or false, not "yes""#,
        ),
        ("nodes/node-1/skip", &long, 400, "reason: at most 256 bytes"),
        ("nodes/node-1/retry", r#"{"reason": "x"}"#, 400, "reason: no such field here: none is known"),
        (
            "nodes/node-1/skip?force=true",
            "",
            400,
            "force: no such query parameter here: wait and dryRun are known",
        ),
        ("close", r#"{"reason": "x"}"#, 400, "reason: no such field here: none is known"),
    ] {
        let answer = harness.must("POST", &format!("{GR}/{target}"), body).await;
        assert_eq!(answer.status.as_u16(), status, "{target} {body:.40}: {}", answer.text);
        assert!(answer.error().contains(says), "{target} {body:.40}: {}", answer.text);
    }
    let get = harness.must("GET", &format!("{GR}/nodes/node-1/skip"), "").await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, Some("POST")));
    let full: Vec<Value> = (0..500).map(|n| json!({ "node": format!("gone-{n}") })).collect();
    let patch = json!({ "spec": { "skip": full } });
    let name = harness.record_name(2);
    harness.records().patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let full = of_node(&harness, "node-1", "skip", "").await;
    assert_eq!(full.status, 409, "{}", full.text);
    assert!(full.error().contains("set the label gum.enflame.com/skip=true on node node-1"), "{}", full.text);
    assert_eq!(effect(&of_node(&harness, "gone-1", "skip", "").await), "node gone-1 is skipped already");
    assert_eq!(effect(&of_node(&harness, "gone-1", "retry", "").await), "node gone-1 is no longer left out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_api_server_a_node_is_skipped_and_retried_and_the_rest_is_closed() {
    if crate::kube::real().await.is_none() {
        return;
    }
    let _alone = crate::kube::ALONE.lock().await;
    let world = World { nodes: 2, prefix: Some("past".to_owned()), ..World::default() };
    let target = world.adapt(newer());
    let mut harness =
        Harness::set(Backend::Real(crate::kube::SHARED), world, Faults::new(Vec::new())).await.unwrap();
    harness.write("newer.json", &target.to_string());
    let gr = format!("/gum/v1/gr/{}", harness.gr());
    let body = json!({
        "file": "newer.json", "strategy": "RollingUpdate", "rollingUpdate": { "canary": 1, "minReadySeconds": 0 },
    });
    let put = harness.must("PUT", &format!("{gr}?wait=2m"), &body.to_string()).await;
    assert_eq!(
        (put.status.as_u16(), &put.json()["content"]["phase"]),
        (200, &json!("Paused")),
        "{}",
        put.text
    );
    let (one, other) = ("past-node-1", "past-node-2");
    let unknown = harness.must("POST", &format!("{gr}/nodes/past-node-9/skip"), "").await;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    // Of the two nodes the canary is one: with the other skipped there would be nothing left to do.
    harness.faults.add(Rule {
        on: "PUT gcuupgrades".to_owned(),
        skip: 0,
        times: usize::MAX,
        fault: Fault::Answer(500),
    });
    for (node, call, says) in [
        (other, "skip", "is left out"),
        (other, "skip", "is skipped already"),
        (one, "skip", "is left out"),
        (other, "retry", "is no longer left out"),
    ] {
        let said = harness.must("POST", &format!("{gr}/nodes/{node}/{call}"), r#"{}"#).await;
        assert!(effect(&said).ends_with(says), "{call} of {node}: {}", said.text);
    }
    let spec = harness.record(1).await.unwrap().spec;
    let skipped: Vec<&str> = spec.skip.iter().map(|s| s.node.as_str()).collect();
    assert_eq!((skipped, spec.node_attempts[other]), (vec![one], 1), "as the API server keeps it");
    harness.faults.heal();
    let status = harness.must("GET", &format!("{gr}/status"), "").await.json();
    let held = status["content"]["held"].as_array().unwrap().clone();
    assert!(held.iter().any(|h| h["component"] == "driver"), "{held:#?}");
    let closed = harness.must("POST", &format!("{gr}/close?wait=1m"), "").await;
    assert_eq!(closed.status, 200, "{}", closed.text);
    assert_eq!(harness.until_final(1).await, Phase::Failed);
}

#[tokio::test(start_paused = true)]
async fn more_than_two_hundred_nodes_are_in_work_at_once_and_a_crash_forgets_none() {
    let mut harness = fleet(210).await;
    start(&harness, &json!({ "maxUnavailable": "100%" })).await;
    harness
        .until("all nodes in work", 1, LONG, |r| {
            let rolling = r.unwrap().status_or_default().rolling.unwrap_or_default();
            rolling.active.len() == 210 && rolling.active.iter().any(|c| c.state == ClaimState::Swapping)
        })
        .await;
    let record = harness.record(1).await.unwrap();
    for claim in record.status_or_default().rolling.unwrap().active {
        assert!(claim.pods.is_empty() && claim.components().any(|key| key == "driver"), "{claim:?}");
    }
    harness.kill();
    harness.start_service().await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    assert_eq!(versions(&harness).await, vec!["9.9.9"; 210]);
}
