//! The plan, before anything is written.

use super::commands::{fleet, newer, rolling, start};
use super::watching::{budget, label, tenant};
use super::*;
use crate::faults::{Fault, Rule};
use gcu_upgrade_manager::record::Phase;
use std::time::Duration;
use tokio::time::{Instant, sleep};

async fn plan(harness: &Harness, body: &Value) -> Value {
    let answer = harness.must("POST", &format!("{GR}/plan"), &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_envelope(&answer, "Plan", true);
    answer.json()["content"]["plan"].clone()
}

fn body(options: &Value) -> Value {
    json!({ "file": "newer.json", "strategy": "RollingUpdate", "rollingUpdate": options })
}

async fn text(harness: &Harness, body: &Value) -> String {
    let request =
        Request::builder().method(Method::POST).uri(format!("{GR}/plan")).header("accept", "text/plain");
    let answer = harness.ask(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    answer.text
}

fn names(nodes: &Value) -> Vec<&str> {
    nodes.as_array().unwrap().iter().map(|n| n["node"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_what_changes_what_restarts_and_who_has_to_leave() {
    let harness = fleet(5).await;
    tenant(&harness, "job-1", "node-1", true).await;
    tenant(&harness, "lone", "node-2", false).await;
    budget(&harness).await;
    sleep(Duration::from_secs(30)).await;
    label(&harness, "node-3", json!({ "metadata": { "labels": { "gum.enflame.com/skip": "true" } } })).await;
    label(&harness, "node-4", json!({ "spec": { "unschedulable": true } })).await;
    let said = plan(&harness, &body(&json!({ "maxUnavailable": "40%", "canary": 1 }))).await;
    let components: Vec<(&str, &str, &str)> = said["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            let text = |v: &Value| v.as_str().map(str::to_owned).unwrap_or_default().leak() as &str;
            (text(&c["component"]), text(&c["change"]), text(&c["impact"]))
        })
        .collect();
    assert_eq!(
        components,
        [
            ("driver", "changed", "evict"),
            ("toolkit", "", "evict"),
            ("devicePlugin", "changed", "cordon"),
            ("exporter", "", "restart"),
            ("gfd", "", "restart"),
        ]
    );
    assert_eq!(said["components"][0]["fields"], json!(["version: latest -> 9.9.9"]));
    assert_eq!(said["components"][1]["because"], "depends on driver, which changes");
    assert_eq!(names(&said["nodes"]), ["node-5", "node-1", "node-2"], "idle ones first");
    assert_eq!(names(&said["skipped"]), ["node-3", "node-4"]);
    assert_eq!(said["maxUnavailable"], 2);
    assert_eq!(said["steps"], json!({ "count": 2, "canary": 1 }));
    let steps: Vec<&Value> = said["nodes"].as_array().unwrap().iter().map(|n| &n["step"]).collect();
    assert_eq!(steps, [0, 1, 1]);
    assert!(said["nodes"][0].get("evicts").is_none(), "{said:#}");
    let blocked = &said["nodes"][1]["evicts"][0];
    assert_eq!((&blocked["pod"], &blocked["gcus"]), (&json!("default/job-1"), &json!(1)));
    assert!(
        blocked["blockedBy"].as_str().unwrap().starts_with("PodDisruptionBudget default/training needs 1"),
        "{said:#}"
    );
    let lone = &said["nodes"][2]["evicts"][0];
    assert!(lone["stays"].as_str().unwrap().starts_with("pod default/lone has no controller"), "{said:#}");
    // Three nodes, two at once; each is watched for 10 s beside what its pods took to start.
    let basis = "a guess, as no RollingUpdate is on record: the pods that a node restarts took 10s to \
                 start; without the waits for promote";
    assert_eq!((&said["expected"]["seconds"], &said["expected"]["basis"]), (&json!(40), &json!(basis)));
    let warnings = said["warnings"].to_string();
    for words in
        ["are not evicted: 1; their nodes wait", "would not let go now: 1", "left out: node-3, node-4; where"]
    {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
    let text = text(&harness, &body(&json!({ "maxUnavailable": "40%", "canary": 1 }))).await;
    for line in [
        "Plan (RollingUpdate): driver, devicePlugin of gr enflame-gcu-resource on 3 nodes, 2 at once.",
        "COMPONENT      CHANGE     IMPACT    WHAT",
        "driver         changed    evict     version: latest -> 9.9.9",
        "toolkit        restarts   evict     depends on driver, which changes",
        "1       0      node-5   evict    -",
        "node-4     it was cordoned by someone else",
        "Steps   2: a canary of 1, then promote; then the rest, 2 at once",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(
        harness.records().list(&Default::default()).await.unwrap().items.is_empty(),
        "nothing was started"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_the_same_plan_and_what_it_says_is_what_happens() {
    let mut harness = fleet(4).await;
    tenant(&harness, "job-1", "node-1", true).await;
    let options = json!({ "maxUnavailable": 1, "canary": { "kubernetes.io/hostname": "node-3" },
        "minReadySeconds": 3 });
    let planned = plan(&harness, &body(&options)).await;
    let dry = harness.must("PUT", &format!("{GR}?dryRun=true"), &rolling(&options)).await;
    assert_envelope(&dry, "Upgrade", true);
    let content = dry.json()["content"].clone();
    assert_eq!((&content["plan"], &content["dryRun"]), (&planned, &json!(true)));
    assert_eq!(content["rollingUpdate"]["minReadySeconds"], 3);
    assert_eq!(
        names(&planned["nodes"]),
        ["node-3", "node-2", "node-4", "node-1"],
        "the canary, idle ones, others"
    );
    start(&harness, &options).await;
    let mut taken: Vec<String> = Vec::new();
    loop {
        let record = harness.record(1).await.unwrap();
        for claim in record.status_or_default().rolling.unwrap_or_default().active {
            if !taken.contains(&claim.node) {
                taken.push(claim.node.clone());
            }
        }
        match record.phase() {
            Phase::Paused => drop(harness.must("POST", &format!("{GR}/promote"), "").await),
            phase if phase.is_final() => break,
            _ => {}
        }
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(taken, names(&planned["nodes"]));
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);

    harness.write("newer.json", &newer().to_string().replace("9.9.9", "9.9.10"));
    let next = plan(&harness, &body(&json!({ "maxUnavailable": 2, "pauseBetween": "1m" }))).await;
    let recent = harness.record(1).await.unwrap().status_or_default().rolling.unwrap().recent;
    let mut took: Vec<i64> = recent.iter().map(|n| n.at.duration_since(n.since).as_secs()).collect();
    took.sort_unstable();
    assert_eq!(next["expected"]["seconds"], took[2] * 2 + 60, "{next:#}");
    assert_eq!(next["steps"], json!({ "count": 2, "size": 2, "between": "60 s" }));
}

#[tokio::test(start_paused = true)]
async fn a_recreate_is_announced_with_its_outage() {
    let mut harness = fleet(3).await;
    tenant(&harness, "job-1", "node-1", true).await;
    let first = plan(&harness, &json!({ "file": "gr.json" })).await;
    assert_eq!(
        first["summary"],
        "the whole stack of gr enflame-gcu-resource goes down on all 3 nodes at once, for about 12s"
    );
    assert_eq!(names(&first["nodes"]).len(), 3);
    assert!(
        first["warnings"].to_string().contains("pods that hold a GCU: 1; they are not evicted"),
        "{first:#}"
    );
    harness.must("PUT", GR, PUT_BODY).await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let status = harness.record(1).await.unwrap().status_or_default();
    let took = status.finished_at.unwrap().duration_since(status.started_at.unwrap()).as_secs();
    let again = plan(&harness, &json!({ "file": "newer.json" })).await;
    assert_eq!(
        (&again["expected"]["seconds"], &again["expected"]["basis"]),
        (&json!(took), &json!("enflame-gcu-resource-1 took so long"))
    );
    let text = text(&harness, &json!({ "file": "newer.json" })).await;
    assert!(
        text.starts_with(
            "Plan (Recreate): the whole stack of gr enflame-gcu-resource goes down on all 3 nodes at once, \
                              for about "
        ),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_plan_warns_and_refuses_as_the_upgrade_would() {
    let harness = fleet(2).await;
    let mut gr = newer();
    gr["spec"]["exporter"]["notDeploy"] = json!(true);
    gr["spec"]["gcusharePlugin"] = json!({ "image": "x", "version": "1" });
    gr["spec"]["gfd"]["nodeSelector"] = json!({ "no": "such" });
    harness.write("newer.json", &gr.to_string());
    let options =
        json!({ "nodeSelector": { "kubernetes.io/hostname": "node-2" }, "drain": { "enabled": false } });
    let said = plan(&harness, &body(&options)).await;
    let warnings = said["warnings"].to_string();
    for words in [
        "gcusharePlugin: added on all nodes at once",
        "exporter: removed on all nodes at once",
        "gfd: no node has the labels of its nodeSelector",
        "drain is off",
        "left out: nodes without the labels of nodeSelector",
        "beside",
    ] {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
    assert_eq!(names(&said["nodes"]), ["node-2"]);
    for (request, body, status, says) in [
        ("plan", "{}", 400, "file: the name of the blueprint"),
        ("plan", r#"{"file": "absent.json"}"#, 404, "there is no blueprint"),
        (
            "plan?wait=1m",
            PUT_BODY,
            400,
            "wait: no such query parameter here: set and overrideWindow are known",
        ),
        (
            "plan",
            r#"{"file": "gr.json", "rollingUpdate": {}}"#,
            400,
            "rollingUpdate: has no meaning for strategy Recreate",
        ),
        ("plan", r#"{"file": "gr.json", "components": ["nonsense"]}"#, 400, "components: no component"),
    ] {
        let wrong = harness.must("POST", &format!("{GR}/{request}"), body).await;
        assert_eq!((wrong.status.as_u16(), wrong.error().contains(says)), (status, true), "{}", wrong.text);
        assert_envelope(&wrong, "Plan", false);
    }
    harness.must("PUT", GR, PUT_BODY).await;
    let busy = harness.must("POST", &format!("{GR}/plan"), PUT_BODY).await;
    assert_eq!(busy.status, 409, "{}", busy.text);
}

#[tokio::test(start_paused = true)]
async fn one_component_is_planned_with_those_after_it_and_a_long_list_is_cut_in_text() {
    let harness = fleet(60).await;
    let mut wanted = body(&json!({ "maxUnavailable": 2000 }));
    wanted["components"] = json!(["plugin"]);
    let said = plan(&harness, &wanted).await;
    let components: Vec<&Value> =
        said["components"].as_array().unwrap().iter().map(|c| &c["component"]).collect();
    assert_eq!(components, ["devicePlugin", "exporter", "gfd"]);
    assert!(said["warnings"].to_string().contains("never more than 1000"), "{}", said["warnings"]);
    assert_eq!((names(&said["nodes"]).len(), &said["maxUnavailable"]), (60, &json!(1000)));
    let text = text(&harness, &wanted).await;
    assert!(text.contains("\nand 10 more\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn budgets_of_clusters_before_policy_v1_are_read_too() {
    let clock = gcu_upgrade_manager::clock::Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
    let client = gcu_upgrade_manager::sandbox::apiserver::ApiServer::old(clock).client();
    let kind = kube::api::GroupVersionKind::gvk("policy", "v1beta1", "PodDisruptionBudget");
    let resource = kube::api::ApiResource::from_gvk_with_plural(&kind, "poddisruptionbudgets");
    let api: kube::Api<DynamicObject> = kube::Api::namespaced_with(client.clone(), "default", &resource);
    let budget = json!({
        "apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": { "name": "training" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "training" } } },
    });
    api.create(&PostParams::default(), &serde_json::from_value(budget).unwrap()).await.unwrap();
    let read = gcu_upgrade_manager::observe::budgets::read(&client).await.unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].name.as_str(), read[0].selector.labels.len()), ("training", 1));
    assert!(!read[0].selector.empty_is_all);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_takes_three_seconds_for_each_read_gives_a_plan_after_a_few_of_them() {
    let harness = fleet(5).await;
    for on in ["GET ", "PUT "] {
        let fault = Fault::Delay("3s".to_owned());
        harness.faults.add(Rule { on: on.to_owned(), skip: 0, times: usize::MAX, fault });
    }
    for (method, path, body, rounds) in [
        ("POST", format!("{GR}/plan"), body(&json!({ "maxUnavailable": 1 })).to_string(), 4),
        ("GET", format!("{GR}/nodes"), String::new(), 3),
    ] {
        let begun = Instant::now();
        let answer = harness.must(method, &path, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let took = begun.elapsed();
        assert!(took <= Duration::from_millis(3000 * rounds + 100), "{path}: {took:?}");
    }
}
