//! The versions around the service: in `/version`, and as warnings before an upgrade.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::time::{Instant, sleep};

use super::*;
use crate::faults::{Fault, Rule};

/// After this a reading is made anew.
const ANEW: Duration = Duration::from_secs(31);

async fn version(harness: &Harness) -> Value {
    let answer = harness.must("GET", "/version", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["content"].clone()
}

/// Puts another image into the operator's Deployment, and lets the last reading grow old.
async fn operator_is(harness: &Harness, image: &str) {
    let api: Api<Deployment> = Api::namespaced(harness.client.clone(), "kube-system");
    let containers = json!([{ "name": "gcu-operator", "image": image }]);
    let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
    api.patch("gcu-operator", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    sleep(ANEW).await;
}

/// Calls that read versions, so far.
fn readings(harness: &Harness) -> usize {
    let reads = |path: &str| path == "/version" || path.contains("/deployments?&fieldSelector=metadata.name");
    harness.faults.calls().iter().filter(|c| c.method == "GET" && reads(&c.path)).count()
}

#[tokio::test(start_paused = true)]
async fn a_version_tells_of_the_cluster_and_its_operator_and_is_read_twice_a_minute() {
    let harness = harness().await;
    let first = version(&harness).await;
    assert_eq!(first["kubernetes"], json!({ "version": "v1.20.2-sandbox", "tested": "1.20" }));
    let image = "artifact.enflame.cn/enflame_docker_images/enflame/gcu-operator:2.0.1";
    let operator = json!({ "namespace": "kube-system", "image": image, "version": "2.0.1" });
    assert_eq!((&first["operator"], &first["warnings"]), (&operator, &json!([])));
    for _ in 0..5 {
        assert_eq!(version(&harness).await, first);
    }
    assert_eq!(readings(&harness), 2, "{:?}", harness.faults.calls());
    operator_is(&harness, "x/gcu-operator@sha256:0123").await;
    let unknown = version(&harness).await;
    assert_eq!(
        unknown["operator"],
        json!({ "namespace": "kube-system", "image": "x/gcu-operator@sha256:0123" })
    );
    assert_eq!((&unknown["warnings"], readings(&harness)), (&json!([]), 4));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_left_out_and_costs_two_seconds_once() {
    let harness = harness().await;
    for (on, fault, left_out) in [
        ("GET deployments", Fault::Answer(403), "operator"),
        ("GET /version", Fault::Answer(500), "kubernetes"),
        ("GET deployments", Fault::Hang, "operator"),
        ("GET /version", Fault::Hang, "kubernetes"),
    ] {
        harness.faults.add(Rule { on: on.to_owned(), skip: 0, times: usize::MAX, fault });
        let begun = Instant::now();
        let said = version(&harness).await;
        assert!(begun.elapsed() <= Duration::from_millis(2100), "{:?}", begun.elapsed());
        let other = if left_out == "operator" { "kubernetes" } else { "operator" };
        assert!(said.get(left_out).is_none() && said.get(other).is_some(), "{on}: {said:#}");
        let begun = Instant::now();
        assert_eq!(version(&harness).await, said);
        assert!(begun.elapsed() < Duration::from_millis(100), "not asked again: {:?}", begun.elapsed());
        harness.faults.heal();
        sleep(ANEW).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_and_its_plan_warn_of_an_operator_that_does_not_fit_and_go_on() {
    let mut harness = harness().await;
    operator_is(&harness, "x/gcu-operator:2.4.6").await;
    let says = "gcu-operator 2.4.6 is known to serve topscloud.enflame.com";
    let warned = |answer: &Answer, at: &str| {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let warnings = answer.json().pointer(at).unwrap().to_string();
        assert_eq!(warnings.matches(says).count(), 1, "{at}: {warnings}");
    };
    assert!(version(&harness).await["warnings"][0].as_str().unwrap().starts_with(says));
    let before = readings(&harness);
    warned(&harness.must("POST", &format!("{GR}/plan"), PUT_BODY).await, "/content/plan/warnings");
    warned(&harness.must("PUT", &format!("{GR}?dryRun=true"), PUT_BODY).await, "/content/warnings");
    warned(&harness.must("PUT", GR, PUT_BODY).await, "/content/warnings");
    assert_eq!(readings(&harness), before, "one reading serves all of it");
    assert_eq!(harness.until_final(1).await, gcu_upgrade_manager::record::Phase::Succeeded);
    sleep(ANEW).await;
    warned(&harness.must("POST", &format!("{GR}/rollback"), "").await, "/content/warnings");
    assert_eq!(readings(&harness), before + 2, "two calls at most");
}

#[tokio::test(start_paused = true)]
async fn two_groups_at_once_are_an_update_that_is_half_done() {
    let harness = harness().await;
    let world = World { nodes: 0, gr: None, group: "topscloud.enflame.com".to_owned(), ..World::default() };
    let _second = world.start(harness.client.clone(), harness.clock).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let said = version(&harness).await;
    assert_eq!(said["grApis"], json!(["topscloud.enflame.com/v1", "topsops.enflame.com/v1"]));
    assert_eq!(said["warnings"].as_array().unwrap().len(), 1, "{said:#}");
    assert!(said["warnings"][0].as_str().unwrap().contains("half done"), "{said:#}");
}
