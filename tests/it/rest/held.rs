//! What is held at OnDelete, in the status.

use std::time::Duration;

use gcu_upgrade_manager::record::Phase;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::time::sleep;

use super::commands::{fleet, start, until_phase};
use super::watching::label;
use super::*;
use crate::faults::{Fault, Rule};

async fn status(harness: &Harness) -> Value {
    let answer = harness.must("GET", &format!("{GR}/status"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["content"].clone()
}

async fn lines(harness: &Harness) -> Vec<String> {
    let request = Request::builder().uri(format!("{GR}/status")).header("accept", "text/plain");
    let answer = harness.ask(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text.lines().map(str::to_owned).collect()
}

/// Two nodes, of which `node-2` was left out: its pods are outdated.
async fn left_out() -> Harness {
    let mut harness = fleet(2).await;
    assert_eq!(status(&harness).await["held"], json!([]), "nothing is held before any upgrade");
    label(&harness, "node-2", json!({ "metadata": { "labels": { "gum.enflame.com/skip": "true" } } })).await;
    start(&harness, &json!({})).await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    sleep(Duration::from_secs(60)).await;
    harness
}

const LINE: &str = "held at updateStrategy OnDelete with no upgrade under way: ";

#[tokio::test(start_paused = true)]
async fn what_stays_held_after_an_upgrade_is_named_with_its_component_and_why() {
    let mut harness = left_out().await;
    let held = status(&harness).await["held"].clone();
    let driver = json!({
        "component": "driver", "namespace": "kube-system", "name": "enflame-gcu-driver",
        "record": "enflame-gcu-resource-1", "outdatedNodes": 1, "reason": "outdated pods on 1 nodes",
    });
    assert!(held.as_array().unwrap().contains(&driver), "{held:#}");
    let components: Vec<&str> =
        held.as_array().unwrap().iter().map(|h| h["component"].as_str().unwrap()).collect();
    assert!(components.contains(&"devicePlugin"), "{components:?}");
    assert!(components.contains(&"nfd"), "all DaemonSets of a gr are let go of together: {components:?}");
    let text = lines(&harness).await;
    assert_eq!(text.len(), 2, "{text:?}");
    assert!(text[0].starts_with("enflame-gcu-resource-1 succeeded"), "{text:?}");
    assert!(text[1].starts_with(LINE), "{text:?}");
    assert!(text[1].contains("kube-system/enflame-gcu-driver (outdated pods on 1 nodes)"), "{text:?}");

    // Without a record of the upgrade it is seen all the same.
    harness.records().delete(&harness.record_name(1), &Default::default()).await.unwrap();
    harness.until("no record", 1, Duration::from_secs(60), |r| r.is_none()).await;
    let never = status(&harness).await;
    assert_eq!(never["message"], "gr enflame-gcu-resource has never been upgraded");
    assert_eq!(never["held"], held);
    let text = lines(&harness).await;
    assert!(text.len() == 2 && text[1].starts_with(LINE), "{text:?}");

    // The next upgrade does the rest; then nothing is held.
    label(&harness, "node-2", json!({ "metadata": { "labels": { "gum.enflame.com/skip": null } } })).await;
    start(&harness, &json!({})).await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(status(&harness).await["held"], json!([]));
    assert_eq!(lines(&harness).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_an_upgrade_is_under_way_what_it_holds_is_listed_and_the_text_stays_one_line() {
    let mut harness = fleet(2).await;
    start(&harness, &json!({ "canary": 1 })).await;
    until_phase(&mut harness, 1, Phase::Paused).await;
    let said = status(&harness).await;
    let held = said["held"].as_array().unwrap();
    assert!(held.iter().any(|h| h["component"] == "driver" && h["outdatedNodes"] == 1), "{held:#?}");
    for one in held {
        assert_eq!(one["reason"], "upgrade enflame-gcu-resource-1 is under way", "{one:#}");
    }
    assert_eq!(lines(&harness).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_held_daemonsets_that_fails_leaves_the_rest_of_the_status_as_it_is() {
    let harness = left_out().await;
    let whole = status(&harness).await;
    let on = "GET daemonsets?&labelSelector=".to_owned();
    for fault in [Fault::Answer(403), Fault::Answer(500), Fault::Refuse] {
        harness.faults.add(Rule { on: on.clone(), skip: 0, times: usize::MAX, fault: fault.clone() });
        let mut rest = whole.clone();
        rest.as_object_mut().unwrap().remove("held");
        assert_eq!(status(&harness).await, rest, "{fault:?}");
        assert_eq!(lines(&harness).await.len(), 1, "{fault:?}");
        harness.faults.heal();
    }
    assert_eq!(status(&harness).await, whole);
}

#[tokio::test(start_paused = true)]
async fn what_another_gr_holds_is_not_shown_and_what_an_older_version_held_is() {
    let harness = left_out().await;
    let sets: Api<DaemonSet> = Api::namespaced(harness.client.clone(), "kube-system");
    let annotate = async |name: &str, hold: Value| {
        let patch = json!({ "metadata": { "annotations": { "gum.enflame.com/hold": hold } } });
        sets.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    };
    let hold =
        sets.get("enflame-gcu-driver").await.unwrap().metadata.annotations.unwrap()["gum.enflame.com/hold"]
            .clone();
    let others = hold.replace("\"enflame-gcu-resource\"", "\"another\"");
    assert_ne!(others, hold);
    annotate("enflame-gcu-driver", json!(others)).await;
    annotate("enflame-gcu-k8s-plugin", Value::Null).await;
    let held = status(&harness).await["held"].clone();
    let names: Vec<(&str, &str)> = held
        .as_array()
        .unwrap()
        .iter()
        .map(|h| (h["component"].as_str().unwrap(), h["record"].as_str().unwrap()))
        .collect();
    assert!(!names.iter().any(|(component, _)| *component == "driver"), "{names:?}");
    assert!(names.contains(&("devicePlugin", "enflame-gcu-resource-1")), "{names:?}");
}
