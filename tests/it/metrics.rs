//! What `/metrics` says, read by a Prometheus text parser and held against what happened.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use gcu_upgrade_manager::sandbox::world::World;
use serde_json::json;
use tokio::time::sleep;

use crate::faults::{Fault, Faults, Rule};
use crate::harness::{Backend, Harness};
use crate::skip::skipped;

const TARGET: &str = include_str!("../../blueprints/gr-full.yaml");

async fn harness() -> Harness {
    let world = World { nodes: 4, ..World::default() };
    let harness = Harness::set(Backend::Sandbox, world, Faults::new(Vec::new())).await.unwrap();
    harness.write("full.yaml", TARGET);
    harness
}

/// Every sample by its name with labels.
async fn samples(harness: &Harness) -> BTreeMap<String, f64> {
    let answer = harness.must("GET", "/metrics", "").await;
    assert_eq!(answer.status, 200);
    let content_type = answer.headers["content-type"].to_str().unwrap();
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let lines = answer.text.lines().filter(|l| !l.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(pair).collect()
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_what_happened() {
    let mut harness = harness().await;
    harness.write("bad.yaml", "spec: [");
    sleep(Duration::from_secs(60)).await;
    let before = samples(&harness).await;
    for name in [
        "gum_upgrades{phase=\"Held\"}",
        "gum_upgrades_ended_total{outcome=\"Failed\",strategy=\"RollingUpdate\"}",
        "gum_oldest_cordon_age_seconds",
        "gum_record_held_seconds",
        "gum_maintenance_window_opens_seconds",
        "gum_watch_restarts_total",
    ] {
        assert_eq!(before.get(name), Some(&0.0), "{name} is there before anything happened");
    }
    assert_eq!(before["gum_leader"], 1.0);
    assert_eq!(before["gum_blueprints{state=\"valid\"}"], 1.0);
    assert_eq!(before["gum_blueprints{state=\"invalid\"}"], 1.0);
    assert_eq!(before["gum_blueprint_reloads_total{result=\"rejected\"}"], 1.0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(before[&format!("gum_build_info{{version=\"{version}\"}}")], 1.0);

    let body = json!({ "file": "full.yaml", "components": ["driver"], "strategy": "RollingUpdate",
        "rollingUpdate": { "canary": 1 } });
    let path = format!("/gum/v1/gr/{}", harness.gr());
    assert_eq!(harness.must("PUT", &path, &body.to_string()).await.status, 200);
    let in_work = |r: Option<&gcu_upgrade_manager::record::GcuUpgrade>| {
        r.and_then(|r| r.status_or_default().rolling).is_some_and(|r| !r.active.is_empty())
    };
    harness.until("a node in work", 1, Duration::from_secs(600), in_work).await;
    sleep(Duration::from_secs(3)).await;
    let during = samples(&harness).await;
    assert_eq!(during["gum_upgrades{phase=\"Running\"}"], 1.0);
    assert_eq!(during["gum_nodes{state=\"active\"}"], 1.0);
    assert_eq!(during["gum_nodes{state=\"waiting\"}"], 3.0);
    let age = during["gum_oldest_cordon_age_seconds"];
    assert!((1.0..60.0).contains(&age), "{age}");
    harness.must("POST", &format!("{path}/promote?wait=1h"), "").await;
    sleep(Duration::from_secs(600)).await;
    harness.must("POST", &format!("{path}/promote?wait=1h"), "").await;
    assert_eq!(harness.until_final(1).await, gcu_upgrade_manager::record::Phase::Succeeded);
    sleep(Duration::from_secs(5)).await;
    let after = samples(&harness).await;
    assert_eq!(after["gum_upgrades{phase=\"Running\"}"], 0.0);
    assert_eq!(after["gum_oldest_cordon_age_seconds"], 0.0);
    assert_eq!(after["gum_upgrades_ended_total{outcome=\"Succeeded\",strategy=\"RollingUpdate\"}"], 1.0);
    assert!((0.5..=1.0).contains(&after["gum_efficiency_ratio"]));
    assert_eq!(after["gum_step_duration_seconds_count{step=\"Rolling\"}"], 1.0);
    assert!(after["gum_api_calls_total{verb=\"patch\",code=\"200\"}"] >= 8.0, "cordons and releases");
    assert!(after["gum_http_requests_total{method=\"PUT\",code=\"200\"}"] >= 1.0);
    // Claims of a closed set, whatever is asked.
    for path in ["/a/b", "/gum/v1/gr/x\"y", "/gum/v1/gr/%0aevil"] {
        harness.must("GET", path, "").await;
    }
    assert!(samples(&harness).await.keys().all(|name| !name.contains("evil") && !name.contains("x\\\"y")));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_off_and_a_hold_are_counted() {
    let mut harness = harness().await;
    harness.faults.add(Rule {
        on: "WATCH gcuupgrades".to_owned(),
        skip: 0,
        times: 3,
        fault: Fault::Silence("1s".to_owned()),
    });
    harness.world.change_operator(|o| o.finalizer_stuck = true);
    let path = format!("/gum/v1/gr/{}", harness.gr());
    let body = json!({ "file": "full.yaml", "deadlines": { "gone": "1m" } });
    assert_eq!(harness.must("PUT", &path, &body.to_string()).await.status, 200);
    let held = |r: Option<&gcu_upgrade_manager::record::GcuUpgrade>| {
        r.is_some_and(|r| r.phase() == gcu_upgrade_manager::record::Phase::Held)
    };
    harness.until("a hold", 1, Duration::from_secs(600), held).await;
    sleep(Duration::from_secs(900)).await;
    let samples = samples(&harness).await;
    assert_eq!(samples["gum_upgrades{phase=\"Held\"}"], 1.0);
    let age = samples["gum_record_held_seconds"];
    assert!((890.0..920.0).contains(&age), "{age}");
    assert!(samples["gum_watch_restarts_total"] >= 1.0);
    harness.world.change_operator(|o| o.finalizer_stuck = false);
    harness.until_final(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_prometheus_text_parser_reads_it() {
    let harness = harness().await;
    let path = format!("/gum/v1/gr/{}?wait=1h", harness.gr());
    assert_eq!(harness.must("PUT", &path, r#"{"file": "full.yaml"}"#).await.status, 200);
    let text = harness.must("GET", "/metrics", "").await.text;
    let parser = "import sys
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
except ImportError:
    sys.exit(77)
for family in parse(sys.stdin.read()):
    assert family.documentation, family.name
    print(family.name, family.type, len(family.samples))";
    let python = Command::new("python3")
        .args(["-c", parser])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut python) = python else { return skipped("no python3 to parse metrics with") };
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    if output.status.code() == Some(77) {
        return skipped("install PyPI's prometheus-client to parse metrics with");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("gum_step_duration_seconds histogram"), "{said}");
}
