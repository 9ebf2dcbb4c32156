//! The walk of v1.0.0's documentation, answer by answer.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_documented_walk_gets_the_documented_answers() {
    let harness = harness().await;
    let list = harness.must("GET", "/gum/v1/gr", "").await.text;
    let begin = r#"{
    "operation": "List",
    "result": "Success",
    "content": {
        "apiVersion": "topsops.enflame.com/v1",
        "items": [
            {
                "apiVersion": "topsops.enflame.com/v1",
                "kind": "GcuResource",
                "metadata": {
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "finalizers": [
                        "topsops.enflame.com/v1"
                    ],
                    "generation": 1,
"#;
    assert!(list.starts_with(begin), "{list}");
    let get = harness.must("GET", GR, "").await.text;
    let begin = r#"{
    "operation": "Get",
    "result": "Success",
    "content": {
        "apiVersion": "topsops.enflame.com/v1",
        "kind": "GcuResource",
        "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": [
                "topsops.enflame.com/v1"
            ],
            "generation": 1,
"#;
    assert!(get.starts_with(begin), "{get}");
    driver_as_documented(&harness.must("GET", &format!("{GR}/resource/driver"), "").await);

    let put = harness.must("PUT", GR, PUT_BODY).await;
    assert_eq!(put.status, 200);
    let documented = "{\n    \"operation\": \"Upgrade\",\n    \"result\": \"Success\",\n    \"content\": {";
    assert!(put.text.starts_with(documented), "{}", put.text);
    sleep(Duration::from_secs(300)).await;
    let status = harness.must("GET", GR, "").await.json()["content"]["status"].clone();
    assert_eq!((&status["phase"], &status["readyResource"]), (&json!("Running"), &json!("2/5")));
    let names: Vec<&Value> =
        status["resourceStatuses"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["driver", "toolkit"]);

    let delete = harness.must("DELETE", GR, "").await;
    assert_eq!(delete.status, 200);
    assert_eq!(delete.text, "{\n    \"operation\": \"Delete\",\n    \"result\": \"Success\"\n}\n");
    sleep(Duration::from_secs(120)).await;
    let gone = harness.must("GET", GR, "").await;
    assert_eq!(gone.status, 404);
    assert_eq!(
        gone.text,
        "{\n    \"operation\": \"Get\",\n    \"result\": \"Failed\",\n    \"error\": \
         \"gcuresources.topsops.enflame.com \\\"enflame-gcu-resource\\\" not found\"\n}\n"
    );
}

fn driver_as_documented(driver: &Answer) {
    assert_envelope(driver, "Get", true);
    let content = driver.json()["content"].clone();
    assert_eq!((&content["apiVersion"], &content["kind"]), (&json!("apps/v1"), &json!("DaemonSet")));
    let labels = json!({ "app.kubernetes.io/name": "enflame-gcu-driver" });
    let meta = &content["metadata"];
    assert_eq!((&meta["name"], &meta["namespace"]), (&json!("enflame-gcu-driver"), &json!("kube-system")));
    assert_eq!(meta["labels"], labels);
    assert_eq!(meta["annotations"]["deprecated.daemonset.template.generation"], "1");
    assert_eq!(content["spec"]["selector"]["matchLabels"], labels);
    let container = &content["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"], json!([{ "name": "WITH_REBOOT", "value": "false" }]));
    assert_eq!(container["image"], "artifact.enflame.cn/galaxy_docker_hub/gcu/gcu-driver:latest");
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["name"], "enflame-gcu-driver");
}

#[tokio::test(start_paused = true)]
async fn a_background_delete_answers_at_once_and_a_foreground_delete_when_the_gr_is_gone() {
    for (path, body, waits) in [
        (GR.to_owned(), r#"{"policy": "background"}"#, false),
        (GR.to_owned(), r#"{"policy": "foreground"}"#, true),
        (format!("{GR}?wait=10m"), "", true),
    ] {
        let harness = harness().await;
        let begun = Instant::now();
        let answer = harness.must("DELETE", &path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.text, "{\n    \"operation\": \"Delete\",\n    \"result\": \"Success\"\n}\n");
        assert_eq!(begun.elapsed() > Duration::from_millis(500), waits, "{:?}", begun.elapsed());
        let after = harness.must("GET", GR, "").await;
        assert_eq!(after.status, if waits { 404 } else { 200 }, "{}", after.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_takes_longer_than_the_wait_is_409_and_goes_on() {
    let harness = harness().await;
    harness.world.change_operator(|o| o.finalizer_stuck = true);
    let late = harness.must("DELETE", &format!("{GR}?wait=20s"), r#"{"policy": "foreground"}"#).await;
    assert_eq!(late.status, 409);
    assert_envelope(&late, "Delete", false);
    assert!(late.error().contains("still being deleted after 20s; the delete goes on"), "{}", late.text);
    let put = harness.must("PUT", GR, PUT_BODY).await;
    assert_eq!((put.status.as_u16(), put.error().contains("is being deleted")), (409, true), "{}", put.text);
    harness.world.change_operator(|o| o.finalizer_stuck = false);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(harness.must("GET", GR, "").await.status, 404);
}
