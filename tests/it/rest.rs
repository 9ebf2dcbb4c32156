//! The REST service against its contract: each answer's status, shape and words, on the sandbox.

mod commands;
mod events;
mod fuzz;
mod gr_versions;
mod held;
mod jobs;
mod limits;
mod looks;
mod nodes;
mod options;
mod planning;
mod reads;
mod records;
mod refusals;
mod repeat;
mod sight;
mod steps;
mod streaming;
mod text;
mod unavailable;
mod unreadable;
mod versions;
mod walk;
mod watching;
mod windows;

use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
use http::{Method, Request};
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::faults::{Fault, Faults, Rule};
use crate::harness::{Answer, Backend, Harness};

const GR: &str = "/gum/v1/gr/enflame-gcu-resource";
const RECORD: &str = "/gum/v1/upgrades/enflame-gcu-resource-1";
/// The shipped blueprint: driver and toolkit alone.
const BLUEPRINT: &str = include_str!("../../blueprints/gr.json");
const PUT_BODY: &str = r#"{"file": "gr.json"}"#;

/// A settled world with the shipped blueprint, and the service in front of it.
async fn harness_of(world: World) -> Harness {
    let harness = Harness::set(Backend::Sandbox, world, Faults::new(Vec::new())).await.unwrap();
    harness.write("gr.json", BLUEPRINT);
    harness
}

async fn harness() -> Harness {
    harness_of(World { nodes: 1, ..World::default() }).await
}

/// The documented gr with some keys of its spec set; `null` removes.
fn gr_with(changes: &[(&str, Value)]) -> Value {
    let mut gr = documented_gr();
    let spec = gr["spec"].as_object_mut().unwrap();
    for (key, value) in changes {
        match value {
            Value::Null => drop(spec.remove(*key)),
            value => drop(spec.insert((*key).to_owned(), value.clone())),
        }
    }
    gr
}

async fn create_gr(harness: &Harness, gr: Value) {
    let object: DynamicObject = serde_json::from_value(gr).unwrap();
    harness.world.grs().create(&PostParams::default(), &object).await.unwrap();
}

/// Checks the one shape of every answer.
fn assert_envelope(answer: &Answer, operation: &str, success: bool) {
    let text = &answer.text;
    let result = if success { "Success" } else { "Failed" };
    let head = format!("{{\n    \"operation\": \"{operation}\",\n    \"result\": \"{result}\"");
    assert!(text.starts_with(&head), "begins with {head}: {text}");
    assert!(text.ends_with("\n}\n"), "ends in a line break: {text:?}");
    let rest = &text[head.len()..];
    let (expected, other) = if success { ("content", "error") } else { ("error", "content") };
    let field = |name: &str| answer.json().get(name).is_some();
    assert!(!field(other), "no {other}: {text}");
    assert!(
        rest == "\n}\n" && success || rest.starts_with(&format!(",\n    \"{expected}\": ")),
        "then {expected}: {text}"
    );
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        assert_eq!(indent % 4, 0, "four spaces: {line:?}");
    }
    assert_eq!(answer.headers["content-type"], "application/json; charset=utf-8");
}

struct Expected {
    request: &'static str,
    body: &'static str,
    operation: &'static str,
    status: u16,
    says: &'static str,
}

const fn case(
    request: &'static str,
    body: &'static str,
    operation: &'static str,
    status: u16,
    says: &'static str,
) -> Expected {
    Expected { request, body, operation, status, says }
}

/// Makes each call and checks its answer.
async fn assert_answers(harness: &Harness, cases: &[Expected]) {
    for c in cases {
        let (method, path) = c.request.split_once(' ').unwrap();
        let path = path.replace("{gr}", GR);
        let answer = harness.must(method, &path, c.body).await;
        let about = format!("{} {:.80}: {}", c.request, c.body, answer.text);
        assert_eq!(answer.status.as_u16(), c.status, "{about}");
        assert!(answer.text.contains(c.says), "says {:?}: {about}", c.says);
        assert_envelope(&answer, c.operation, c.status == 200);
    }
}

#[tokio::test(start_paused = true)]
async fn every_documented_path_is_served_with_and_without_a_slash_at_the_end() {
    let harness = harness().await;
    let paths = [
        ("List", "/gum/v1/gr".to_owned()),
        ("Get", GR.to_owned()),
        ("Get", format!("{GR}/resource/driver")),
        ("History", format!("{GR}/history")),
        ("List", "/gum/v1/upgrades".to_owned()),
        ("List", "/gum/v1/blueprints".to_owned()),
        ("Get", "/gum/v1/blueprints/gr.json".to_owned()),
        ("Get", "/livez".to_owned()),
        ("Get", "/readyz".to_owned()),
        ("Get", "/version".to_owned()),
    ];
    for (operation, path) in paths {
        let bare = harness.must("GET", &path, "").await;
        let slash = harness.must("GET", &format!("{path}/"), "").await;
        assert_eq!(bare.status, 200, "{path}: {}", bare.text);
        assert_envelope(&bare, operation, true);
        assert_eq!((bare.status, &bare.text), (slash.status, &slash.text), "{path}/");
    }
    let put = harness.must("PUT", &format!("{GR}/?dryRun=true"), PUT_BODY).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let delete = harness.must("DELETE", &format!("{GR}/?dryRun=true"), "").await;
    assert_eq!(delete.status, 200, "{}", delete.text);
}

#[tokio::test(start_paused = true)]
async fn methods_that_a_path_does_not_take_are_405_with_what_it_takes() {
    let harness = harness().await;
    for (method, path, operation, allow) in [
        ("PATCH", GR, "Patch", "GET,HEAD,PUT,DELETE"),
        ("POST", GR, "Post", "GET,HEAD,PUT,DELETE"),
        ("OPTIONS", GR, "Options", "GET,HEAD,PUT,DELETE"),
        ("DELETE", "/gum/v1/gr", "Delete", "GET,HEAD"),
        ("DELETE", RECORD, "Delete", "GET,HEAD"),
        ("PUT", "/readyz", "Upgrade", "GET,HEAD"),
        ("GET", "/gum/v1/gr/enflame-gcu-resource/rollback", "Get", "POST"),
    ] {
        let answer = harness.must(method, path, "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.headers["allow"], allow, "{method} {path}");
        assert_envelope(&answer, operation, false);
        assert!(answer.error().contains("this path does not take that method"), "{}", answer.text);
    }
    assert_eq!(harness.must("HEAD", GR, "").await.status, 200);
    assert_eq!(harness.must("HEAD", "/gum/v1/gr/absent", "").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_json_whatever_its_content_type_says() {
    let harness = harness().await;
    let path = format!("{GR}?dryRun=true");
    for content_type in [
        None,
        Some("application/x-www-form-urlencoded"),
        Some("application/json; charset=utf-16"),
        Some("text/plain"),
        Some("no media type at all"),
    ] {
        let mut request = Request::builder().method(Method::PUT).uri(&path);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = harness.ask(request.body(Body::from(PUT_BODY)).unwrap()).await.unwrap();
        assert_eq!(answer.status, 200, "{content_type:?}: {}", answer.text);
    }
    let with_mark = harness.must("PUT", &path, &format!("\u{feff}{PUT_BODY}\r\n")).await;
    assert_eq!(with_mark.status, 200, "{}", with_mark.text);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_whole_with_no_gr_with_one_and_with_two() {
    let harness = harness_of(World { nodes: 1, gr: None, ..World::default() }).await;
    for expected in [vec![], vec!["first"], vec!["first", "second"]] {
        if let Some(name) = expected.last() {
            create_gr(
                &harness,
                json!({
                    "apiVersion": "topsops.enflame.com/v1", "kind": "GcuResource",
                        "metadata": { "name": name }, "spec": {}
                }),
            )
            .await;
        }
        // What others have written is shown when the watch has told of it.
        sleep(Duration::from_millis(10)).await;
        let answer = harness.must("GET", "/gum/v1/gr", "").await;
        let list = answer.json()["content"].clone();
        assert_eq!(list["apiVersion"], "topsops.enflame.com/v1");
        assert_eq!(list["kind"], "GcuResourceList");
        assert!(list["metadata"]["resourceVersion"].is_string(), "{}", answer.text);
        let items = list["items"].as_array().unwrap();
        let names: Vec<&str> = items.iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected);
        for item in items {
            assert_eq!(item["apiVersion"], "topsops.enflame.com/v1");
            assert_eq!(item["kind"], "GcuResource");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_list_is_fetched_in_pages_and_shown_whole() {
    let harness = harness_of(World { nodes: 1, gr: None, ..World::default() }).await;
    for number in 0..250 {
        let metadata = json!({ "name": format!("gr-{number:03}") });
        let gr = json!({ "apiVersion": "topsops.enflame.com/v1", "kind": "GcuResource", "metadata": metadata,
            "spec": {} });
        create_gr(&harness, gr).await;
    }
    // What is shown now was listed: a watch lasts less than five minutes, and this one is not taken up again.
    harness.faults.add(Rule {
        on: "WATCH gcuresources".to_owned(),
        skip: 0,
        times: 1,
        fault: Fault::Answer(410),
    });
    sleep(Duration::from_secs(400)).await;
    let list = harness.must("GET", "/gum/v1/gr", "").await.json()["content"].clone();
    let items = list["items"].as_array().unwrap();
    let names: std::collections::BTreeSet<&str> =
        items.iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!((items.len(), names.len()), (250, 250));
    assert_eq!(list["metadata"].as_object().unwrap().keys().collect::<Vec<_>>(), ["resourceVersion"]);
    let calls = harness.faults.calls();
    let follows = |c: &&crate::faults::Call| {
        c.path.contains("/gcuresources?") && c.path.contains("limit=100") && c.path.contains("continue=")
    };
    let pages = calls.iter().filter(follows).count();
    assert!(pages > 0 && pages.is_multiple_of(2), "each list is of three pages: {calls:#?}");
}

#[tokio::test(start_paused = true)]
async fn each_component_shows_its_workload_under_every_name_it_goes_by() {
    let nightingale = json!({ "notDeploy": false, "namespace": "enflame", "image": "n9e", "version": "1" });
    let mut gr = gr_with(&[("nightingale", nightingale)]);
    gr["spec"]["exporter"]["notDeploy"] = json!(true);
    let harness = harness_of(World { nodes: 1, gr: Some(gr), ..World::default() }).await;
    for (kind, name) in [
        ("driver", "enflame-gcu-driver"),
        ("toolkit", "enflame-gcu-docker-plugin"),
        ("containerToolkit", "enflame-gcu-docker-plugin"),
        ("plugin", "enflame-gcu-k8s-plugin"),
        ("devicePlugin", "enflame-gcu-k8s-plugin"),
        ("gfd", "enflame-gcu-feature-discovery"),
        ("nfd", "enflame-node-feature-discovery"),
    ] {
        let answer = harness.must("GET", &format!("{GR}/resource/{kind}"), "").await;
        let content = &answer.json()["content"];
        assert_eq!(content["metadata"]["name"], name, "{kind}: {}", answer.text);
        assert_eq!((&content["apiVersion"], &content["kind"]), (&json!("apps/v1"), &json!("DaemonSet")));
    }
    for (kind, error) in [
        ("exporter", "daemonsets.apps \"enflame-gcu-exporter\" not found"),
        ("gcuExporter", "daemonsets.apps \"enflame-gcu-exporter\" not found"),
        ("volcano", "component volcano of gr \"enflame-gcu-resource\" is not deployed"),
    ] {
        let answer = harness.must("GET", &format!("{GR}/resource/{kind}"), "").await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (404, error), "{kind}");
    }
    let several = harness.must("GET", &format!("{GR}/resource/nightingale"), "").await.json();
    let items = several["content"]["items"].as_array().unwrap();
    let names: Vec<&str> = items.iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(several["content"]["kind"], "List");
    assert_eq!(names, ["nightingale-server", "nightingale-webapi"]);
    assert!(items.iter().all(|i| i["kind"] == "Deployment" && i["apiVersion"] == "apps/v1"));
}

#[tokio::test(start_paused = true)]
async fn the_components_of_operator_2_4_go_by_the_old_names_too() {
    let base = |image: &str| json!({ "image": image, "version": "2.4.6" });
    let gr = gr_with(&[
        ("toolkit", Value::Null),
        ("exporter", Value::Null),
        ("containerToolkit", base("container-toolkit")),
        ("gcuExporter", base("gcu-exporter")),
    ]);
    let world =
        World { nodes: 1, group: "topscloud.enflame.com".to_owned(), gr: Some(gr), ..World::default() };
    let harness = harness_of(world).await;
    for (kind, name) in [
        ("toolkit", "enflame-container-toolkit"),
        ("containerToolkit", "enflame-container-toolkit"),
        ("exporter", "enflame-gcu-exporter"),
        ("gcuExporter", "enflame-gcu-exporter"),
    ] {
        let answer = harness.must("GET", &format!("{GR}/resource/{kind}"), "").await;
        assert_eq!(answer.json()["content"]["metadata"]["name"], name, "{kind}: {}", answer.text);
    }
    let missing = harness.must("GET", "/gum/v1/gr/x", "").await;
    assert_eq!(missing.error(), "gcuresources.topscloud.enflame.com \"x\" not found");
    let list = harness.must("GET", "/gum/v1/gr", "").await.json();
    assert_eq!(list["content"]["apiVersion"], "topscloud.enflame.com/v1");
}

#[tokio::test(start_paused = true)]
async fn blueprints_are_listed_and_shown_with_what_is_wrong_with_them() {
    let harness = harness().await;
    harness.write("bad.yaml", "apiVersion: topsops.enflame.com/v1\nkind: GcuResource\nspec: [\n");
    let list = harness.must("GET", "/gum/v1/blueprints", "").await.json();
    let items = list["content"]["items"].as_array().unwrap();
    let valid: Vec<(&str, bool)> =
        items.iter().map(|i| (i["file"].as_str().unwrap(), i["valid"].as_bool().unwrap())).collect();
    assert_eq!(valid, [("bad.yaml", false), ("gr.json", true)]);
    let good = harness.must("GET", "/gum/v1/blueprints/gr.json", "").await.json()["content"].clone();
    assert_eq!(good["sha256"], items[1]["sha256"]);
    assert_eq!(good["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(good["gr"], "enflame-gcu-resource");
    assert_eq!(good["manifest"]["kind"], "GcuResource");
    let bad = harness.must("GET", "/gum/v1/blueprints/bad.yaml", "").await;
    assert_envelope(&bad, "Get", true);
    let finding = bad.json()["content"]["findings"][0].clone();
    assert_eq!(finding["file"], "bad.yaml");
    assert!(finding["line"].as_u64().unwrap() >= 3, "{finding}");
    assert_eq!(bad.json()["content"]["valid"], false);
    let absent = harness.must("GET", "/gum/v1/blueprints/no.json", "").await;
    assert_eq!(absent.status, 404);
    assert!(absent.error().contains("there are: bad.yaml, gr.json"), "{}", absent.text);
}
