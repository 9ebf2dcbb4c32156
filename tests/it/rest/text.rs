//! What is asked by hand can be asked for as text: tables as `kubectl` prints them; and what a request says of risks
//! and versions.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use super::{GR, harness};
use crate::harness::Harness;

/// An answer as text.
async fn text(harness: &Harness, path: &str) -> String {
    let request = Request::get(path).header("accept", "text/plain").body(Body::empty()).unwrap();
    let answer = harness.ask(request).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8", "{path}");
    answer.text
}

#[tokio::test(start_paused = true)]
async fn lists_of_all_kinds_are_tables_for_whoever_asks_for_text() {
    let harness = harness().await;
    harness.must("PUT", &format!("{GR}?wait=1h"), r#"{"file": "gr.json"}"#).await;
    for (path, head, line) in [
        (
            "/gum/v1/gr".to_owned(),
            "NAME                   READY   STATUS    AGE\n",
            "enflame-gcu-resource   ",
        ),
        (GR.to_owned(), "NAME                   READY   STATUS    AGE\n", "enflame-gcu-resource   "),
        (
            format!("{GR}/nodes"),
            "NODE     STATE       SINCE   COMPONENTS\n",
            "node-1   ✔ Current   -       driver ✔ toolkit ✔",
        ),
        (format!("{GR}/history"), "REVISION   CHANGE ", "1 *        "),
        (format!("{GR}/history/1"), "Revision   1\n", "Phase      ✔ Succeeded"),
        (
            "/gum/v1/upgrades".to_owned(),
            "NAME                     STRATEGY   PHASE ",
            "enflame-gcu-resource-1   Recreate   ✔ Succeeded",
        ),
        (
            "/gum/v1/upgrades/enflame-gcu-resource-1".to_owned(),
            "Name       enflame-gcu-resource-1\n",
            "Phase      ✔ Succeeded",
        ),
        ("/gum/v1/blueprints".to_owned(), "FILE ", "gr.json "),
        ("/version".to_owned(), "service     ", "records     gum.enflame.com/v1"),
    ] {
        let said = text(&harness, &path).await;
        assert!(said.starts_with(head), "{path}:\n{said}");
        assert!(said.lines().any(|l| l.starts_with(line)), "{path}:\n{said}");
        assert!(!said.contains('\u{1b}'), "{path}: no colours");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_is_set_without_a_blueprint_in_the_query_or_in_the_body() {
    let harness = harness().await;
    let plan = harness.must("POST", &format!("{GR}/plan?set=driver.version=9.1"), "").await.json()["content"]
        .clone();
    let driver =
        plan["plan"]["components"].as_array().unwrap().iter().find(|c| c["component"] == "driver").cloned();
    assert_eq!(driver.unwrap()["fields"], json!(["version: latest -> 9.1"]), "{plan:#}");
    let by_body = harness.must("POST", &format!("{GR}/plan"), r#"{"set": {"driver.version": "9.1"}}"#).await;
    assert_eq!(by_body.json()["content"]["plan"]["components"], plan["plan"]["components"]);
    let several = harness
        .must("POST", &format!("{GR}/plan?set=driver.version=9.1,toolkit.version=8&set=plugin.version=7"), "")
        .await;
    let changed = several.json()["content"]["plan"]["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["change"] == "changed")
        .count();
    assert_eq!(changed, 3, "aliases are components too: {}", several.text);
    harness
        .must(
            "PUT",
            &format!("{GR}?set=driver.version=9.1&wait=1h"),
            r#"{"accept": ["MutableTag", "GcuLost", "MutableTag"]}"#,
        )
        .await;
    let record = harness.record(1).await.unwrap();
    assert_eq!(record.spec.target.manifest["spec"]["driver"]["version"], "9.1");
    assert_eq!((record.spec.target.blueprint, record.spec.target.sha256), (None, None));
    assert_eq!(record.spec.accepted, ["GcuLost", "MutableTag"]);
    let gr = harness.must("GET", GR, "").await.json();
    assert_eq!(gr["content"]["spec"]["driver"]["version"], "9.1");
    let repeated = harness.must("PUT", &format!("{GR}?set=driver.version=9.1"), "").await.json();
    assert_eq!(repeated["content"]["repeated"], true, "{repeated:#}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_set_is_named_and_nothing_is_changed() {
    let harness = harness().await;
    for (query, body, status, says) in [
        ("?set=drivr.version=1", "", 400, "set: drivr: no such component here"),
        ("?set=driver.image=x", "", 400, "a version alone can be set"),
        ("?set=driver", "", 400, "not of the form driver.version=1.3.0"),
        ("?set=driver.version=1&set=driver.version=2", "", 400, "driver.version is given twice"),
        (
            "?set=driver.version=1",
            r#"{"set": {"driver.version": "2"}}"#,
            400,
            "given in the query and in the body",
        ),
        ("?set=volcano.version=1", "", 400, "does not deploy it"),
        ("?set=driver.version=a:b", "", 422, "a version is a tag alone"),
        ("", r#"{"manifest": {"kind": "Pod"}}"#, 422, "the manifest cannot be used"),
        ("", r#"{"file": "gr.json", "accept": ["Nonsense"]}"#, 400, "accept[0]: must be MutableTag"),
        ("/rollback", r#"{"set": {"driver.version": "2"}}"#, 400, "set has no meaning in this call"),
        ("/rollback", r#"{"manifest": {}}"#, 400, "manifest has no meaning in this call"),
    ] {
        let method = if query.starts_with('/') { "POST" } else { "PUT" };
        let said = harness.must(method, &format!("{GR}{query}"), body).await;
        assert_eq!(
            (said.status.as_u16(), said.error().contains(says)),
            (status, true),
            "{query} {body}: {}",
            said.text
        );
    }
    assert!(harness.record(1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_blueprint_may_come_with_the_request_and_is_checked_like_a_file() {
    let harness = harness().await;
    let manifest: Value = serde_json::from_str(include_str!("../../../blueprints/gr.json")).unwrap();
    let body = json!({ "manifest": manifest, "file": "mine.json" }).to_string();
    harness.must("PUT", &format!("{GR}?wait=1h"), &body).await;
    let record = harness.record(1).await.unwrap();
    assert_eq!(
        (record.spec.target.blueprint.as_deref(), record.spec.target.sha256.as_deref()),
        (Some("mine.json"), None)
    );
    assert_eq!(record.phase(), gcu_upgrade_manager::record::Phase::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_plan_names_its_risks_and_marks_those_that_are_accepted() {
    let harness = harness().await;
    let plan = |body: Value| {
        let (harness, body) = (&harness, body.to_string());
        async move { harness.must("POST", &format!("{GR}/plan"), &body).await.json()["content"]["plan"].clone() }
    };
    let open = plan(json!({ "set": { "driver.version": "9" } })).await;
    let risks = open["risks"].as_array().unwrap();
    assert!(!risks.is_empty() && risks.iter().all(|r| r["accepted"] == false), "{open:#}");
    let warnings: Vec<&Value> = risks.iter().map(|r| &r["message"]).collect();
    assert_eq!(open["warnings"], json!(warnings), "the same sentences");
    let accepted = plan(json!({ "set": { "driver.version": "9" }, "accept": ["MutableTag"] })).await;
    for risk in accepted["risks"].as_array().unwrap() {
        assert_eq!(risk["accepted"], risk["name"] == "MutableTag", "{accepted:#}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_tells_what_changes_how_far_it_is_and_whether_it_has_been_taken_up() {
    let harness = harness().await;
    harness
        .must("PUT", &format!("{GR}?set=devicePlugin.version=9.1"), r#"{"strategy": "RollingUpdate"}"#)
        .await;
    harness.must("GET", "/gum/v1/upgrades/enflame-gcu-resource-1?wait=1h", "").await;
    let list = harness.must("GET", "/gum/v1/upgrades", "").await.json()["content"].clone();
    assert_eq!(list[0]["change"], "devicePlugin latest → 9.1");
    assert_eq!(list[0]["acknowledged"], true);
    assert_eq!(list[0]["nodes"]["done"], list[0]["nodes"]["total"]);
}
