//! How far an upgrade is, why it is not progressing, and what runs where.

use std::time::Duration;

use gcu_upgrade_manager::record::Phase;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::commands::{fleet, start, until_phase};
use super::*;

async fn see(harness: &Harness, view: &str) -> Value {
    let answer = harness.must("GET", &format!("{GR}/{view}"), "").await;
    assert_eq!(answer.status, 200, "{view}: {}", answer.text);
    answer.json()["content"].clone()
}

async fn as_text(harness: &Harness, view: &str) -> String {
    let request = Request::builder().uri(format!("{GR}/{view}")).header("accept", "text/plain");
    let answer = harness.ask(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert!(answer.text.ends_with('\n'), "{:?}", answer.text);
    answer.text
}

/// Creates an object in the default namespace.
pub(super) async fn create<K>(harness: &Harness, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + serde::Serialize
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(harness.client.clone(), "default");
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// A pod that holds a GCU of a node, with a controller that makes another or without one.
pub(super) async fn tenant(harness: &Harness, name: &str, node: &str, controlled: bool) {
    let mut pod = json!({
        "metadata": { "name": name, "labels": { "app": if controlled { "training" } else { "lone" } } },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": "c", "image": "i", "resources": { "limits": { "enflame.com/gcu": "1" } } }],
        },
    });
    if controlled {
        pod["metadata"]["ownerReferences"] = json!([{ "apiVersion": "batch/v1", "kind": "Job",
            "name": "training", "uid": "j", "controller": true }]);
    }
    create::<Pod>(harness, pod).await;
}

pub(super) async fn budget(harness: &Harness) {
    let budget = json!({
        "metadata": { "name": "training" },
        "spec": { "minAvailable": 1, "selector": { "matchExpressions": [{ "key": "app", "operator": "In",
            "values": ["training"] }] } },
    });
    create::<PodDisruptionBudget>(harness, budget).await;
}

pub(super) async fn label(harness: &Harness, node: &str, patch: Value) {
    let nodes: Api<Node> = Api::all(harness.client.clone());
    nodes.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn before_any_upgrade_every_view_says_so() {
    let harness = fleet(1).await;
    let never = "gr enflame-gcu-resource has never been upgraded";
    assert_eq!(see(&harness, "status").await["message"], never);
    assert_eq!(as_text(&harness, "status").await, format!("{never}\n"));
    assert_eq!(see(&harness, "why").await["message"], never);
    assert_eq!(see(&harness, "nodes").await["nodes"].as_array().unwrap().len(), 1);
    for view in ["status", "why", "nodes", "history", "history/1"] {
        let absent = harness.must("GET", &format!("/gum/v1/gr/absent/{view}"), "").await;
        assert_eq!(absent.status, 404, "{view}: {}", absent.text);
    }
    for view in ["status", "why", "nodes", "history/1"] {
        let wrong = harness.must("GET", &format!("{GR}/{view}?al=true"), "").await;
        assert_eq!(wrong.status, 400, "{view}: {}", wrong.text);
        assert!(wrong.error().starts_with("al: no such query parameter"), "{}", wrong.text);
    }
    let twice = harness.must("GET", &format!("{GR}/nodes?all=true&all=true"), "").await;
    assert_eq!(twice.error(), "all: given twice");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_one_line_with_counts_efficiency_and_an_estimate() {
    let mut harness = fleet(4).await;
    start(&harness, &json!({ "maxUnavailable": 1 })).await;
    harness
        .until("a node", 1, Duration::from_secs(600), |r| {
            r.unwrap().status_or_default().rolling.is_some_and(|r| r.nodes.done == 2)
        })
        .await;
    let status = see(&harness, "status").await;
    let line = status["message"].as_str().unwrap();
    assert!(
        line.starts_with(
            "Waiting for enflame-gcu-resource-1 to finish: 2 of 4 nodes done, 1 in work, 1 to come; done at \
                              about 2026-01-01T00:"
        ),
        "{line}"
    );
    assert_eq!(as_text(&harness, "status").await, format!("{line}\n"));
    assert_eq!(status["nodes"]["done"], 2);
    assert_eq!((&status["strategy"], &status["step"]), (&json!("RollingUpdate"), &json!("Rolling")));
    let efficiency = status["efficiency"].as_f64().unwrap();
    assert!((0.5..=1.0).contains(&efficiency), "{efficiency}");
    let estimated: jiff::Timestamp = status["estimatedEnd"].as_str().unwrap().parse().unwrap();
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let rolling = harness.record(1).await.unwrap().status_or_default().rolling.unwrap();
    let off = rolling.last_done_at.unwrap().duration_since(estimated).as_secs().abs();
    assert!(off <= 5, "estimated {estimated}, done {:?}", rolling.last_done_at);
    let ended = see(&harness, "status").await;
    assert_eq!(
        ended["message"],
        "enflame-gcu-resource-1 succeeded: gr enflame-gcu-resource is now at the target version"
    );
    assert!(ended.get("estimatedEnd").is_none() && ended["finishedAt"].is_string(), "{ended:#}");
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_blocks_is_named_with_what_happens_when() {
    let mut harness = fleet(3).await;
    tenant(&harness, "job-1", "node-2", true).await;
    budget(&harness).await;
    sleep(Duration::from_secs(30)).await;
    label(&harness, "node-3", json!({ "metadata": { "labels": { "gum.enflame.com/skip": "true" } } })).await;
    start(&harness, &json!({ "drain": { "timeout": "20m" } })).await;
    harness
        .until("a stuck node", 1, Duration::from_secs(600), |r| {
            r.unwrap()
                .status_or_default()
                .rolling
                .is_some_and(|r| r.active.iter().any(|c| c.node == "node-2"))
        })
        .await;
    sleep(Duration::from_secs(60)).await;
    let why = see(&harness, "why").await;
    assert_eq!(why["nodes"].as_array().unwrap().len(), 1, "{why:#}");
    let stuck = &why["nodes"][0];
    assert_eq!((&stuck["node"], &stuck["stage"]), (&json!("node-2"), &json!("Evicting")));
    assert_eq!(
        stuck["message"],
        "pod default/job-1 cannot be evicted: PodDisruptionBudget default/training needs 1 healthy pods and has 1"
    );
    assert!(stuck["since"].is_string() && stuck["until"].is_string(), "{why:#}");
    assert_eq!(stuck["then"], "the upgrade is Held; it resumes by itself once the node is empty");
    assert_eq!(
        why["skipped"],
        json!([{ "node": "node-3", "reason": "its label gum.enflame.com/skip is true" }])
    );
    let text = as_text(&harness, "why").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[1].starts_with("node-2 (Evicting since 2026-01-01T00:")
            && lines[1].contains("default/training"),
        "{text}"
    );
    until_phase(&mut harness, 1, Phase::Held).await;
    let why = see(&harness, "why").await;
    assert!(
        why["message"].as_str().unwrap().contains(
            "is held at Rolling (1 of 3 nodes done, 1 in work, 1 of these failed or late, 1 left out): node \
                       node-2:"
        ),
        "{why:#}"
    );
    assert_eq!(why["nodes"][0]["trouble"], "Late");
    let pods: Api<Pod> = Api::namespaced(harness.client.clone(), "default");
    pods.delete("job-1", &Default::default()).await.unwrap();
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let over = see(&harness, "why").await;
    let said = over["message"].as_str().unwrap();
    assert!(
        said.starts_with(
            "no upgrade of gr enflame-gcu-resource is under way; the last: enflame-gcu-resource-1 succeeded"
        ),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreate_is_explained_by_what_its_record_waits_for() {
    let harness = harness().await;
    harness.world.change_operator(|o| o.finalizer_stuck = true);
    harness.must("PUT", GR, PUT_BODY).await;
    sleep(Duration::from_secs(60)).await;
    let why = see(&harness, "why").await;
    assert_eq!(why["nodes"], json!([]));
    let said = "gr enflame-gcu-resource is terminating, held by finalizer topsops.enflame.com/v1";
    assert_eq!(why["waitingOn"]["message"], said);
    assert!(why["waitingOn"]["until"].is_string(), "{why:#}");
    let wanted = format!("Waiting for enflame-gcu-resource-1 to finish: WaitingGone: {said}");
    assert_eq!(why["message"], wanted);
    assert_eq!(as_text(&harness, "status").await, format!("{wanted}\n"));
}

/// Phases and versions of a node's driver.
fn drivers(nodes: &Value, node: &str) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let of_node = nodes["nodes"].as_array().unwrap().iter().find(|n| n["node"] == node).unwrap();
    let components = of_node["components"].as_array().unwrap();
    let driver = components.iter().find(|c| c["component"] == "driver").unwrap();
    let pods = driver["pods"].as_array().unwrap();
    pods.iter().map(|p| (text(&p["version"]), text(&p["phase"]))).collect()
}

fn pair(version: &str, phase: &str) -> (String, String) {
    (version.to_owned(), phase.to_owned())
}

#[tokio::test(start_paused = true)]
async fn each_node_shows_its_pods_old_and_new_and_those_that_were_replaced() {
    let mut harness = fleet(2).await;
    let before = see(&harness, "nodes").await;
    start(&harness, &json!({ "canary": 1 })).await;
    until_phase(&mut harness, 1, Phase::Paused).await;
    let nodes = see(&harness, "nodes").await;
    assert_eq!(nodes["name"], "enflame-gcu-resource-1");
    assert_eq!(drivers(&nodes, "node-1"), [pair("new", "ready")], "{nodes:#}");
    assert_eq!(drivers(&nodes, "node-2"), [pair("old", "ready")]);
    let all = see(&harness, "nodes?all=true").await;
    assert_eq!(drivers(&all, "node-1"), [pair("old", "deleted"), pair("new", "ready")], "{all:#}");
    let of_node = all["nodes"][0]["components"].as_array().unwrap().clone();
    for pod in of_node.iter().flat_map(|c| c["pods"].as_array().unwrap()) {
        assert!(pod["createdAt"].is_string(), "{pod}");
        assert_eq!(pod["deletedAt"].is_string(), pod["phase"] == "deleted", "{pod}");
    }
    let old = |all: &Value| {
        let components = all["nodes"][0]["components"].as_array().unwrap().clone();
        let pods =
            components.iter().map(|c| (c["pods"][0]["pod"].clone(), c["pods"][0]["createdAt"].clone()));
        pods.collect::<Vec<_>>()
    };
    assert_eq!(old(&all), old(&before), "those that are gone have the names and ages that they had");
    let only = see(&harness, "nodes?node=node-2").await;
    assert_eq!(only["nodes"].as_array().unwrap().len(), 1);
    harness.world.change_kubelet(|k| k.bad_images = vec!["gcu-driver:9.9.9".to_owned()]);
    harness.must("POST", &format!("{GR}/promote"), "").await;
    until_phase(&mut harness, 1, Phase::Held).await;
    let held = see(&harness, "nodes?all=true").await;
    assert_eq!(drivers(&held, "node-2"), [pair("old", "deleted"), pair("new", "starting")], "{held:#}");
    assert!(held.to_string().contains("ImagePull"), "the failure is shown: {held:#}");
}

#[tokio::test(start_paused = true)]
async fn one_revision_is_shown_whole_down_to_the_one_before_the_first() {
    let mut harness = fleet(1).await;
    start(&harness, &json!({})).await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let first = see(&harness, "history/1").await;
    assert_eq!((&first["revision"], &first["current"]), (&json!(1), &json!(true)));
    assert_eq!(first["target"]["spec"]["driver"]["version"], "9.9.9");
    assert!(first["timeline"].is_array() && first["rollingUpdate"]["maxUnavailable"] == 1, "{first:#}");
    let before = see(&harness, "history/0").await;
    assert_eq!((&before["revision"], &before["outcome"]), (&json!(0), &json!("Replaced")));
    assert_eq!(before["target"]["spec"], documented_gr()["spec"]);
    for (number, status, says) in
        [("2", 404, "has no revision 2; available: 1, 0"), ("x", 400, "is no revision")]
    {
        let wrong = harness.must("GET", &format!("{GR}/history/{number}"), "").await;
        assert_eq!((wrong.status.as_u16(), wrong.error().contains(says)), (status, true), "{}", wrong.text);
        assert_envelope(&wrong, "History", false);
    }
}
