//! Webhooks that answer: what the sandbox shows them, and what it makes of their answers. That they are asked at all,
//! and what happens when nobody answers, is recorded from a real server: see `tests/conformance/webhooks.yaml`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;

const URL: &str = "https://keeper.example.com:9443";

type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// A server that remembers what it is asked, and answers with what `answer` makes of a request.
fn listener(answer: impl Fn(&Value) -> Value + Clone + Send + Sync + 'static) -> (Router, Seen) {
    let seen = Seen::default();
    let log = seen.clone();
    let router = Router::new().fallback(move |request: Request| {
        let (log, answer) = (log.clone(), answer.clone());
        async move {
            let uri = request.uri().to_string();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap();
            log.lock().unwrap().push((uri, review.clone()));
            let mut response = answer(&review["request"]);
            let delay = response["delay"].as_u64().unwrap_or_default();
            sleep(Duration::from_secs(delay)).await;
            response.as_object_mut().unwrap().entry("uid").or_insert(review["request"]["uid"].clone());
            let version = response["version"].as_str().unwrap_or("admission.k8s.io/v1").to_owned();
            json!({ "apiVersion": version, "kind": "AdmissionReview", "response": response }).to_string()
        }
    });
    (router, seen)
}

/// An answer that changes the object.
fn patched(operations: &Value) -> Value {
    let patch = json!(ByteString(operations.to_string().into_bytes()));
    json!({ "allowed": true, "patchType": "JSONPatch", "patch": patch })
}

fn keep(_: &Value) -> Value {
    patched(&json!([{ "op": "add", "path": "/data/k", "value": "kept" }]))
}

async fn server(client_config: Value, policy: &str) -> (ApiServer, Client) {
    let server = ApiServer::new(Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap()));
    let client = server.client_as("somebody");
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let configuration = json!({
        "metadata": { "name": "keeper" },
        "webhooks": [{
            "name": "keep.example.com", "clientConfig": client_config, "failurePolicy": policy,
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 2,
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
                "operations": ["UPDATE"] }],
            "objectSelector": { "matchExpressions": [{ "key": "held", "operator": "Exists" }] },
        }],
    });
    configurations
        .create(&PostParams::default(), &serde_json::from_value(configuration).unwrap())
        .await
        .unwrap();
    let held = json!({ "metadata": { "name": "one", "labels": { "held": "yes" } }, "data": { "k": "v" } });
    maps(&client).create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    (server, client)
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

async fn set(client: &Client, value: &str) -> Result<String, String> {
    let patch = Patch::Merge(json!({ "data": { "k": value } }));
    let set = maps(client).patch("one", &PatchParams::default(), &patch).await;
    set.map(|map| map.data.unwrap()["k"].clone()).map_err(|error| match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.message),
        other => panic!("{other}"),
    })
}

#[tokio::test(start_paused = true)]
async fn whoever_writes_a_webhook_has_the_last_word() {
    let (server, client) = server(json!({ "url": format!("{URL}/keep") }), "Fail").await;
    let (router, seen) = listener(keep);
    server.webhook(URL, router);
    assert_eq!(set(&client, "w").await.unwrap(), "kept");
    // A client that replaces the whole object, and drops what selects it.
    let mut map = maps(&client).get("one").await.unwrap();
    map.labels_mut().clear();
    map.data = Some([("k".to_owned(), "x".to_owned())].into());
    let put = maps(&client).replace("one", &PostParams::default(), &map).await.unwrap();
    assert_eq!((put.labels().len(), put.data.unwrap()["k"].as_str()), (0, "kept"));
    assert_eq!(seen.lock().unwrap().len(), 2);
    let shown = seen.lock().unwrap()[1].1["request"]["object"].clone();
    assert_eq!(
        shown["metadata"].get("labels"),
        None,
        "what is shown of a replaced object is what its writer sent"
    );
    // It is not selected any more, neither before nor after.
    assert_eq!(set(&client, "free").await.unwrap(), "free");
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_is_shown_who_does_what_to_which_object() {
    let (server, client) = server(json!({ "url": format!("{URL}/keep") }), "Fail").await;
    let (router, seen) = listener(keep);
    server.webhook(URL, router);
    let before = maps(&client).get("one").await.unwrap();
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let answer =
        maps(&client).patch("one", &dry, &Patch::Merge(json!({ "data": { "k": "w" } }))).await.unwrap();
    assert_eq!(answer.data.unwrap()["k"], "kept", "a dry run shows what would be");
    assert_eq!(maps(&client).get("one").await.unwrap(), before, "and changes nothing");
    let (uri, review) = seen.lock().unwrap()[0].clone();
    assert_eq!(uri, "/keep?timeout=2s");
    assert_eq!(
        (&review["apiVersion"], &review["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    let request = &review["request"];
    assert_eq!(request["uid"].as_str().unwrap().len(), 36);
    assert_eq!(request["kind"], json!({ "group": "", "version": "v1", "kind": "ConfigMap" }));
    assert_eq!(request["resource"], json!({ "group": "", "version": "v1", "resource": "configmaps" }));
    assert_eq!((&request["name"], &request["namespace"]), (&json!("one"), &json!("default")));
    assert_eq!((&request["operation"], &request["dryRun"]), (&json!("UPDATE"), &json!(true)));
    assert_eq!(request["userInfo"]["username"], "somebody");
    assert_eq!(
        request["options"],
        json!({ "kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"] })
    );
    assert_eq!(
        (&request["object"]["data"]["k"], &request["oldObject"]["data"]["k"]),
        (&json!("w"), &json!("v"))
    );
    assert_eq!(request["object"]["kind"], "ConfigMap");
}

/// As a real server 1.20 shows it.
#[tokio::test(start_paused = true)]
async fn of_an_object_that_is_replaced_a_webhook_sees_what_was_sent() {
    let (server, client) = server(json!({ "url": URL }), "Fail").await;
    let (router, seen) = listener(|_| json!({ "allowed": true }));
    server.webhook(URL, router);
    let body = json!({ "metadata": { "name": "one" }, "data": { "k": "w" } });
    let request = http::Request::put("/api/v1/namespaces/default/configmaps/one")
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .unwrap();
    let stored: Value = client.request(request).await.unwrap();
    let object = seen.lock().unwrap()[0].1["request"]["object"].clone();
    let sent = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "one", "creationTimestamp": null },
        "data": { "k": "w" },
    });
    assert_eq!(object, sent);
    assert_eq!((&stored["metadata"]["namespace"], &stored["data"]["k"]), (&json!("default"), &json!("w")));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_may_refuse() {
    let (server, client) = server(json!({ "url": format!("{URL}/keep") }), "Ignore").await;
    let (router, _) =
        listener(|_| json!({ "allowed": false, "status": { "code": 403, "message": "not now" } }));
    server.webhook(URL, router);
    let refused = set(&client, "w").await.unwrap_err();
    assert_eq!(refused, "403 admission webhook \"keep.example.com\" denied the request: not now");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_used_is_none() {
    for (answer, why) in [
        (json!({ "allowed": true, "uid": "another" }), "expected response.uid="),
        (
            json!({ "allowed": true, "version": "admission.k8s.io/v9" }),
            "expected webhook response of admission.k8s.io/v1",
        ),
        (json!({ "allowed": true, "delay": 3 }), "context deadline exceeded"),
        (json!({ "allowed": true, "patch": "W10=" }), "patchType"),
    ] {
        for (policy, passes) in [("Fail", false), ("Ignore", true)] {
            let (server, client) = server(json!({ "url": format!("{URL}/keep") }), policy).await;
            let answer = answer.clone();
            let (router, _) = listener(move |_| answer.clone());
            server.webhook(URL, router);
            let result = set(&client, "w").await;
            assert_eq!(result.is_ok(), passes, "{why}, {policy}");
            if let Err(said) = result {
                let begins = "500 Internal error occurred: failed calling webhook \"keep.example.com\": ";
                assert!(said.starts_with(begins) && said.contains(why), "{said}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_behind_a_service_is_reached_by_its_name_and_away_when_that_is_closed() {
    let config = json!({ "service": { "namespace": "kube-system", "name": "keeper", "path": "/keep" } });
    let (server, client) = server(config, "Fail").await;
    let (router, seen) = listener(keep);
    server.webhook("kube-system/keeper", router);
    assert_eq!(set(&client, "w").await.unwrap(), "kept");
    assert_eq!(seen.lock().unwrap()[0].0, "/keep?timeout=2s");
    server.close_webhook("kube-system/keeper");
    assert!(set(&client, "w").await.unwrap_err().ends_with("service \"keeper\" not found"));
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    let service = json!({ "metadata": { "name": "keeper" }, "spec": { "ports": [{ "port": 443 }] } });
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    assert!(set(&client, "w").await.unwrap_err().ends_with("no endpoints available for service \"keeper\""));
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    configurations.delete("keeper", &DeleteParams::default()).await.unwrap();
    assert_eq!(set(&client, "w").await.unwrap(), "w");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_overtaken_while_a_webhook_thinks_is_looked_at_anew() {
    let (server, client) = server(json!({ "url": URL }), "Fail").await;
    let (router, seen) = listener(|request| {
        let slow = request["object"]["data"]["k"] == "slow";
        json!({ "allowed": true, "delay": u64::from(slow) })
    });
    server.webhook(URL, router);
    let slow = tokio::spawn({
        let client = client.clone();
        async move { set(&client, "slow").await }
    });
    sleep(Duration::from_millis(500)).await;
    let other = Patch::Merge(json!({ "data": { "other": "quick" } }));
    maps(&client).patch("one", &PatchParams::default(), &other).await.unwrap();
    assert_eq!(slow.await.unwrap().unwrap(), "slow");
    let data = maps(&client).get("one").await.unwrap().data.unwrap();
    assert_eq!((data["k"].as_str(), data["other"].as_str()), ("slow", "quick"), "nothing is lost");
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_webhook_makes_of_an_object_is_checked_like_what_anybody_writes() {
    let (server, client) = server(json!({ "url": URL }), "Fail").await;
    let (router, _) =
        listener(|_| patched(&json!([{ "op": "replace", "path": "/metadata/uid", "value": "stolen" }])));
    server.webhook(URL, router);
    assert!(set(&client, "w").await.unwrap_err().starts_with("422 "));
}
