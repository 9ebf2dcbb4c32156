//! Records that this version cannot read: they harm no other gr, are shown, and say how to get rid of them.

use std::time::Duration;

use gcu_upgrade_manager::cluster::{Pages, gr_resource};
use gcu_upgrade_manager::record::rolling::NODE_ANNOTATION;
use gcu_upgrade_manager::record::{CRD_REVISION_ANNOTATION, FINALIZER, Phase};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, ListParams, Patch, PatchParams};
use tokio::time::sleep;

use super::*;

const CRD: &str = "gcuupgrades.gum.enflame.com";

fn any_records(harness: &Harness) -> Api<DynamicObject> {
    let resource = ApiResource {
        kind: "GcuUpgrade".to_owned(),
        plural: "gcuupgrades".to_owned(),
        ..gr_resource("gum.enflame.com/v1")
    };
    Api::all_with(harness.client.clone(), &resource)
}

/// As another version, or a person, may have left it.
async fn without_schema(harness: &Harness) {
    let crds: Api<CustomResourceDefinition> = Api::all(harness.client.clone());
    let mut crd = crds.get(CRD).await.unwrap();
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema =
        serde_json::from_value(anything).unwrap();
    let newer = (CRD_REVISION_ANNOTATION.to_owned(), "999".to_owned());
    crd.metadata.annotations.get_or_insert_default().extend([newer]);
    crds.replace(CRD, &PostParams::default(), &crd).await.unwrap();
}

async fn put_record(harness: &Harness, name: &str, gr: Value, phase: Option<&str>) {
    let record = json!({
        "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade",
        "metadata": { "name": name },
        "spec": {
            "gr": gr, "operation": "Upgrade", "target": { "manifest": {} },
            "rollingUpdate": { "maxUnavailable": "150%" },
        },
    });
    let records = any_records(harness);
    records.create(&PostParams::default(), &serde_json::from_value(record).unwrap()).await.unwrap();
    if let Some(phase) = phase {
        let status = Patch::Merge(json!({ "status": { "phase": phase } }));
        records.patch_status(name, &PatchParams::default(), &status).await.unwrap();
    }
}

/// A gr that was upgraded once, in a cluster where records are not checked any more.
async fn upgraded() -> Harness {
    let mut harness = harness().await;
    assert_eq!(harness.must("PUT", GR, PUT_BODY).await.status, 200);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    without_schema(&harness).await;
    harness
}

const CALLS: [(&str, &str, &str); 7] = [
    ("GET", "status", ""),
    ("GET", "why", ""),
    ("GET", "nodes", ""),
    ("POST", "plan", PUT_BODY),
    ("POST", "retry", ""),
    ("POST", "rollback?dryRun=true", ""),
    ("POST", "pause", ""),
];

#[tokio::test(start_paused = true)]
async fn one_of_another_gr_is_shown_and_changes_nothing_else() {
    let harness = upgraded().await;
    let mut before = Vec::new();
    for (method, call, body) in CALLS {
        before.push(harness.must(method, &format!("{GR}/{call}"), body).await);
    }
    put_record(&harness, "other-1", json!("other"), None).await;
    put_record(&harness, "nobody-knows", json!(7), None).await;
    for ((method, call, body), before) in CALLS.into_iter().zip(before) {
        let after = harness.must(method, &format!("{GR}/{call}"), body).await;
        assert_eq!((after.status, &after.text), (before.status, &before.text), "{method} {call}");
    }
    assert_eq!(harness.must("GET", &format!("{GR}/history/1"), "").await.status, 200);
    let list = harness.must("GET", "/gum/v1/upgrades", "").await.json();
    let list = list["content"].as_array().unwrap();
    let mut names: Vec<&str> = list.iter().map(|e| e["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["enflame-gcu-resource-1", "nobody-knows", "other-1"]);
    let other = list.iter().find(|e| e["name"] == "other-1").unwrap();
    assert_eq!((&other["unreadable"], &other["gr"]), (&json!(true), &json!("other")), "{other:#}");
    assert!(other["message"].as_str().unwrap().contains("\"150%\", expected a number of nodes"), "{other:#}");
    let one = harness.must("GET", "/gum/v1/upgrades/other-1", "").await;
    assert_eq!((one.status.as_u16(), &one.json()["content"]), (200, other), "{}", one.text);
    let put = harness.must("PUT", GR, PUT_BODY).await;
    assert_eq!(put.status, 200, "{}", put.text);
}

#[tokio::test(start_paused = true)]
async fn the_newest_of_a_gr_is_named_by_every_call_that_needs_it_until_it_is_gone() {
    let harness = upgraded().await;
    put_record(&harness, "enflame-gcu-resource-2", json!("enflame-gcu-resource"), Some("Succeeded")).await;
    let mut calls: Vec<(&str, String, &str)> =
        CALLS.iter().map(|(method, call, body)| (*method, format!("{GR}/{call}"), *body)).collect();
    calls.push(("PUT", GR.to_owned(), PUT_BODY));
    calls.push(("DELETE", GR.to_owned(), ""));
    calls.push(("GET", "/gum/v1/upgrades/enflame-gcu-resource-2/events".to_owned(), ""));
    for (method, path, body) in &calls {
        let refused = harness.must(method, path, body).await;
        assert_eq!(refused.status, 409, "{method} {path}: {}", refused.text);
        for words in
            ["enflame-gcu-resource-2 cannot be read", "150%", "kubectl get gcuupgrade enflame-gcu-resource-2"]
        {
            assert!(refused.error().contains(words), "{method} {path} says {words}: {}", refused.text);
        }
    }
    let history = harness.must("GET", &format!("{GR}/history"), "").await.json();
    let shown: Vec<(u64, bool, Option<bool>)> = history["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (e["revision"].as_u64().unwrap(), e["current"].as_bool().unwrap(), e["unreadable"].as_bool())
        })
        .collect();
    assert_eq!(shown, [(2, false, Some(true)), (1, true, None), (0, false, None)], "{history:#}");
    let revision = harness.must("GET", &format!("{GR}/history/2"), "").await.json();
    assert_eq!(revision["content"]["unreadable"], true, "{revision:#}");
    any_records(&harness).delete("enflame-gcu-resource-2", &DeleteParams::default()).await.unwrap();
    let put = harness.must("PUT", GR, r#"{"file": "gr.json", "force": true}"#).await;
    assert_eq!(
        (put.status.as_u16(), &put.json()["content"]["name"]),
        (200, &json!("enflame-gcu-resource-2"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_old_one_is_in_the_way_only_while_it_may_be_active() {
    let harness = upgraded().await;
    put_record(&harness, "enflame-gcu-resource-0", json!("enflame-gcu-resource"), None).await;
    let refused = harness.must("PUT", GR, PUT_BODY).await;
    assert_eq!((refused.status.as_u16(), refused.error().contains("resource-0 cannot be read")), (409, true));
    let (records, params) = (any_records(&harness), PatchParams::default());
    let ended = Patch::Merge(json!({ "status": { "phase": "Failed" } }));
    records.patch_status("enflame-gcu-resource-0", &params, &ended).await.unwrap();
    let hold = |finalizers: Value| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    records.patch("enflame-gcu-resource-0", &params, &hold(json!([FINALIZER]))).await.unwrap();
    let held = harness.must("PUT", &format!("{GR}?dryRun=true"), PUT_BODY).await;
    assert_eq!(held.status, 409, "something is left to be done for it: {}", held.text);
    records.patch("enflame-gcu-resource-0", &params, &hold(Value::Null)).await.unwrap();
    let put = harness.must("PUT", GR, PUT_BODY).await;
    assert_eq!(put.status, 200, "{}", put.text);
}

#[tokio::test(start_paused = true)]
async fn a_wait_and_a_stream_end_when_their_record_becomes_unreadable() {
    let harness = harness_of(World { nodes: 2, ..World::default() }).await;
    harness.write("newer.json", &super::commands::newer().to_string());
    without_schema(&harness).await;
    super::commands::start(&harness, &json!({ "canary": 1 })).await;
    let spoil = async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let bad = Patch::Merge(json!({ "spec": { "rollingUpdate": { "maxUnavailable": "150%" } } }));
        any_records(&harness).patch("enflame-gcu-resource-1", &PatchParams::default(), &bad).await.unwrap();
    };
    let wait = format!("{GR}/pause?wait=10m");
    let events = format!("{RECORD}/events");
    let (waited, told, ()) =
        tokio::join!(harness.must("POST", &wait, ""), harness.must("GET", &events, ""), spoil);
    assert_eq!(
        (waited.status.as_u16(), waited.error().contains("cannot be read")),
        (409, true),
        "{}",
        waited.text
    );
    let last = told.text.trim_end().rsplit("\n\n").next().unwrap().to_owned();
    assert!(last.contains("event: closing") && last.contains("\"status\":409"), "{}", told.text);
    assert!(last.contains("cannot be read"), "{last}");
}

/// Ended by a version that this one can read, or not.
async fn put_ended(harness: &Harness, number: u64, readable: bool) {
    let name = harness.record_name(number);
    put_record(harness, &name, json!(harness.gr()), Some("Succeeded")).await;
    if readable {
        let mend = Patch::Merge(json!({ "spec": { "rollingUpdate": null } }));
        any_records(harness).patch(&name, &PatchParams::default(), &mend).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_history_is_pruned_beside_records_that_cannot_be_read_and_of_those() {
    let mut harness = upgraded().await;
    put_record(&harness, "other-1", json!("other"), None).await;
    put_record(&harness, "nobody-knows", json!(7), Some("Succeeded")).await;
    for number in 2..14 {
        put_ended(&harness, number, number != 3 && number != 7).await;
    }
    let body = PUT_BODY.replace('}', r#", "force": true}"#);
    let put = harness.must("PUT", GR, &body).await;
    assert_eq!(put.status, 200, "{}", put.text);
    assert_eq!(harness.until_final(14).await, Phase::Succeeded);
    sleep(Duration::from_secs(5)).await;
    let all = any_records(&harness).list(&Default::default()).await.unwrap();
    let left: Vec<String> = all.items.into_iter().map(|r| r.metadata.name.unwrap()).collect();
    let mut wanted: Vec<String> = (5..15).map(|number| harness.record_name(number)).collect();
    wanted.extend(["other-1".to_owned(), "nobody-knows".to_owned()]);
    wanted.sort_unstable();
    assert_eq!(left, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_left_is_taken_off_beside_records_that_cannot_be_read() {
    let mut harness = upgraded().await;
    put_record(&harness, "other-1", json!("other"), None).await;
    put_ended(&harness, 2, false).await;
    let uid = async |name: &str| any_records(&harness).get(name).await.unwrap().metadata.uid.unwrap();
    let nodes: Api<Node> = Api::all(harness.client.clone());
    let (ended, active) = (uid(&harness.record_name(2)).await, uid("other-1").await);
    let mark = |uid: &str| {
        let mark = json!({
            "record": "x-1", "uid": uid, "state": "Claimed", "attempt": 0,
            "deadline": "2026-01-01T00:00:00Z", "preCordoned": false,
        });
        let annotations = json!({ NODE_ANNOTATION: mark.to_string() });
        Patch::Merge(json!({ "metadata": { "annotations": annotations }, "spec": { "unschedulable": true } }))
    };
    let cordoned = async || nodes.get("node-1").await.unwrap().spec.unwrap().unschedulable == Some(true);
    for (uid, given_back) in [(active, false), (ended, true)] {
        nodes.patch("node-1", &PatchParams::default(), &mark(&uid)).await.unwrap();
        harness.kill();
        harness.start_service().await;
        sleep(Duration::from_secs(120)).await;
        assert_eq!(
            cordoned().await,
            !given_back,
            "a record that cannot be read may be active until it says it ended"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_goes_on_when_its_history_is_gone() {
    let harness = upgraded().await;
    for number in 10..16 {
        put_ended(&harness, number, true).await;
    }
    let (mut pages, mut seen, mut expired) = (Pages::of(ListParams::default().limit(2)), Vec::new(), 0);
    while let Some(params) = pages.next() {
        match pages.take(any_records(&harness).list(&params).await).unwrap() {
            Some(page) => seen.extend(page.items.into_iter().map(|r| r.metadata.name.unwrap())),
            None => expired += 1,
        }
        // The API server forgets, and something changes.
        let _ = any_records(&harness).delete(&harness.record_name(15), &DeleteParams::default()).await;
        harness.api.as_ref().unwrap().store().compact();
    }
    assert!(expired > 0);
    let mut wanted: Vec<String> = (10..15).map(|number| harness.record_name(number)).collect();
    wanted.insert(0, harness.record_name(1));
    assert_eq!(seen, wanted, "each that was there all the time, once");
}
