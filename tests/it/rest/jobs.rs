//! Calls that start or steer a job.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gcu_upgrade_manager::record::Phase;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use tokio::time::sleep;

use super::*;

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_answered_at_once_with_its_record_and_can_be_followed() {
    let mut harness = harness().await;
    let put = harness
        .must(
            "PUT",
            GR,
            r#"{"file": "gr.json", "reason": "ticket 7", "deadlines": {"gone": "90s", "create": 60}}"#,
        )
        .await;
    assert_eq!(put.status, 200, "{}", put.text);
    assert_eq!(put.headers["location"], RECORD);
    let content = put.json()["content"].clone();
    assert_eq!(content["name"], "enflame-gcu-resource-1");
    assert_eq!(content["upgrade"], RECORD);
    let deadlines = json!({
        "goneSeconds": 90, "createSeconds": 60, "runningSeconds": 1800, "propagateSeconds": 600, "nodeSeconds": 1800
    });
    assert_eq!(content["deadlines"], deadlines);
    sleep(Duration::from_secs(2)).await;
    let running =
        harness.must("GET", &format!("{RECORD}?manifests=true"), "").await.json()["content"].clone();
    assert_eq!((&running["phase"], &running["reason"]), (&json!("Running"), &json!("ticket 7")));
    for field in ["step", "stepSince", "deadline", "waitingOn", "timeline", "startedAt", "target", "previous"]
    {
        assert!(!running[field].is_null(), "{field}: {running:#}");
    }
    for field in ["reason", "message", "since", "until"] {
        assert!(!running["waitingOn"][field].is_null(), "waitingOn.{field}: {running:#}");
    }
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let ended = harness.must("GET", RECORD, "").await.json()["content"].clone();
    assert_eq!(ended["outcome"]["phase"], "Succeeded");
    assert!(ended.get("waitingOn").is_none(), "{ended:#}");
    let list = harness.must("GET", "/gum/v1/upgrades", "").await.json();
    assert_eq!(list["content"][0]["name"], "enflame-gcu-resource-1");
}

#[tokio::test(start_paused = true)]
async fn a_gr_that_is_created_again_does_not_belong_to_an_owner_that_may_be_gone() {
    let mut harness = harness().await;
    let teams: Api<Namespace> = Api::all(harness.client.clone());
    let team = serde_json::from_value(json!({ "metadata": { "name": "team" } })).unwrap();
    let uid = teams.create(&PostParams::default(), &team).await.unwrap().uid().unwrap();
    let owner = json!([{ "apiVersion": "v1", "kind": "Namespace", "name": "team", "uid": uid }]);
    let owned = Patch::Merge(json!({ "metadata": { "ownerReferences": owner } }));
    harness.world.grs().patch(harness.gr(), &PatchParams::default(), &owned).await.unwrap();
    assert_eq!(harness.must("PUT", GR, PUT_BODY).await.status, 200);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);

    teams.delete("team", &DeleteParams::default()).await.unwrap();
    assert_eq!(harness.must("POST", &format!("{GR}/rollback"), "").await.status, 200);
    assert_eq!(harness.until_final(2).await, Phase::Succeeded);
    sleep(Duration::from_secs(600)).await;
    let back = harness.world.gr().await.expect("the garbage collector leaves it alone");
    assert_eq!((back.metadata.owner_references, back.metadata.deletion_timestamp), (None, None));
}

#[tokio::test(start_paused = true)]
async fn of_two_upgrades_at_the_same_moment_one_wins_and_the_other_is_told_which() {
    let mut harness = harness().await;
    let other = r#"{"file": "gr.json", "onFailure": "Rollback"}"#;
    let (one, two) = tokio::join!(harness.must("PUT", GR, PUT_BODY), harness.must("PUT", GR, other));
    let (won, lost) = if one.status == 200 { (one, two) } else { (two, one) };
    assert_eq!((won.status.as_u16(), lost.status.as_u16()), (200, 409), "{} {}", won.text, lost.text);
    assert!(lost.error().contains("enflame-gcu-resource-1 is already upgrading"), "{}", lost.text);
    assert_envelope(&lost, "Upgrade", false);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    assert!(harness.record(2).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing_at_all() {
    let mut harness = harness().await;
    assert_eq!(harness.must("PUT", &format!("{GR}?wait=10m"), PUT_BODY).await.status, 200);
    harness.world.change_kubelet(|k| k.bad_images = vec!["gcu-runtime:broken".to_owned()]);
    harness.write("broken.json", &BLUEPRINT.replace("\"2.1.0\"", "\"broken\""));
    let store = harness.api.as_ref().unwrap().store().clone();
    let written = Arc::new(Mutex::new(Vec::new()));
    let sink = written.clone();
    store.on_change(move |change| {
        if change.actor.as_deref() == Some("gum") {
            sink.lock().unwrap().push(change.clone());
        }
    });
    sleep(Duration::from_secs(120)).await;
    dry(&harness, &["PUT {gr}", "POST {gr}/rollback", "DELETE {gr}"]).await;
    let foreground = harness.must("DELETE", &format!("{GR}?dryRun"), r#"{"policy": "foreground"}"#).await;
    assert_eq!(foreground.status, 200, "{}", foreground.text);
    assert!(written.lock().unwrap().is_empty(), "{:?}", written.lock().unwrap());

    assert_eq!(harness.must("PUT", GR, r#"{"file": "broken.json"}"#).await.status, 200);
    harness.until("a hold", 2, Duration::from_secs(3600), |r| r.unwrap().phase() == Phase::Held).await;
    let before = harness.record(2).await;
    dry(&harness, &["POST {gr}/rollback", "POST {gr}/retry"]).await;
    assert_eq!(harness.record(2).await, before);
}

async fn dry(harness: &Harness, requests: &[&str]) {
    for request in requests {
        let (method, path) =
            request.replace("{gr}", GR).split_once(' ').map(|(m, p)| (m.to_owned(), p.to_owned())).unwrap();
        let body = if method == "PUT" { PUT_BODY } else { "" };
        let before = everything(harness);
        let answer = harness.must(&method, &format!("{path}?dryRun=true"), body).await;
        assert_eq!(answer.status, 200, "{request}: {}", answer.text);
        assert!(!answer.headers.contains_key("location"), "{request}: nothing to look at");
        let plans = answer.json()["content"].get("plan").is_some() || answer.text.contains("\"effect\"");
        assert_eq!(method == "DELETE", !plans, "{request}: {}", answer.text);
        assert_eq!(answer.json()["content"]["dryRun"], true, "{request}: {}", answer.text);
        assert_eq!(everything(harness), before, "{request}");
    }
}

/// The whole store.
fn everything(harness: &Harness) -> Vec<Value> {
    let store = harness.api.as_ref().unwrap().store();
    [
        ("", "events"),
        ("", "namespaces"),
        ("", "nodes"),
        ("", "pods"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("apps", "controllerrevisions"),
        ("apps", "daemonsets"),
        ("apps", "deployments"),
        ("coordination.k8s.io", "leases"),
        ("events.k8s.io", "events"),
        ("gum.enflame.com", "gcuupgrades"),
        ("topsops.enflame.com", "gcuresources"),
    ]
    .iter()
    .flat_map(|(group, plural)| store.list_all(group, plural))
    .collect()
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_job_with_its_failure_or_with_409_while_it_goes_on() {
    let mut harness = harness().await;
    harness.world.change_operator(|o| o.stuck_components = ["toolkit".to_owned()].into());
    let late = harness.must("PUT", &format!("{GR}?wait=60"), PUT_BODY).await;
    assert_eq!(late.status, 409, "{}", late.text);
    assert_envelope(&late, "Upgrade", false);
    assert_eq!(late.headers["location"], RECORD);
    for words in ["enflame-gcu-resource-1 has not ended after 60s and goes on", RECORD] {
        assert!(late.error().contains(words), "{words}: {}", late.text);
    }
    harness.world.change_operator(|o| o.stuck_components.clear());
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);

    harness.world.change_kubelet(|k| k.bad_images = vec!["gcu-runtime:broken".to_owned()]);
    harness.write("broken.json", &BLUEPRINT.replace("\"2.1.0\"", "\"broken\""));
    let held = harness.must("PUT", &format!("{GR}?wait=1h"), r#"{"file": "broken.json"}"#).await;
    assert_eq!(held.status, 422, "{}", held.text);
    assert!(
        held.error().contains("is held at") && held.error().contains("gcu-runtime:broken"),
        "{}",
        held.text
    );
    let back = harness.must("POST", &format!("{GR}/rollback?wait=1h"), "").await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_envelope(&back, "Rollback", true);
    assert_eq!(back.json()["content"]["phase"], "RolledBack");

    harness.world.change_kubelet(|k| k.bad_images.clear());
    let again = harness.must("POST", &format!("{GR}/retry?wait=1h"), "").await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_envelope(&again, "Retry", true);
    let history = harness.must("GET", &format!("{GR}/history"), "").await;
    assert_envelope(&history, "History", true);
    let entries = history.json()["content"].clone();
    let revisions: Vec<&Value> = entries.as_array().unwrap().iter().map(|e| &e["revision"]).collect();
    assert_eq!(revisions, [3, 2, 1, 0]);
    let current: Vec<&Value> = entries.as_array().unwrap().iter().map(|e| &e["current"]).collect();
    assert_eq!(current, [true, false, false, false]);
    let first = harness.must("POST", &format!("{GR}/rollback?wait=1h"), r#"{"revision": 0}"#).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let status = harness.must("GET", GR, "").await.json()["content"]["status"]["readyResource"].clone();
    assert_eq!(status, "5/5", "the first version runs again");
}
