//! Alerts and dashboard speak of metrics that exist.

use std::collections::BTreeSet;
use std::time::Duration;

use gcu_upgrade_manager::metrics::{Metrics, Notified};
use gcu_upgrade_manager::record::{GcuUpgradeStatus, Step, Strategy};
use jiff::Timestamp;
use serde_json::Value;

use super::chart;

/// Every metric that there is, without the endings of histograms. One that has no value yet is not told of, so
/// each gets one.
fn metrics() -> BTreeSet<String> {
    let metrics = Metrics::default();
    metrics.upgrades(std::iter::empty());
    let step = |step, at| GcuUpgradeStatus {
        step,
        step_since: Some(Timestamp::from_second(at).unwrap()),
        ..GcuUpgradeStatus::default()
    };
    metrics.written(Strategy::Recreate, &step(Step::Recorded, 0), &step(Step::Deleting, 1));
    metrics.api_call("get", 200, Duration::ZERO);
    metrics.blueprints(0, 0);
    metrics.held(0, 0);
    metrics.notified("ops", Notified::Sent, 1);
    metrics.request(&http::Method::GET, 200, Duration::ZERO);
    let text = metrics.text(Timestamp::UNIX_EPOCH);
    let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    let in_queries = |line: &str| match line.split_once(' ').unwrap() {
        (name, "counter") => format!("{name}_total"),
        (name, "info") => format!("{name}_info"),
        (name, _) => name.to_owned(),
    };
    types.map(in_queries).collect()
}

fn file(name: &str) -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(chart().join("files").join(name)).unwrap()).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// The metrics in a query.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let bare = |w: &str| {
        let endings = ["_bucket", "_sum", "_count"];
        endings.iter().find_map(|e| w.strip_suffix(e)).unwrap_or(w).to_owned()
    };
    words.filter(|w| w.starts_with("gum_")).map(bare).collect()
}

#[test]
fn every_alert_tells_what_is_wrong_and_what_to_do() {
    let (rules, metrics) = (file("alerts.yaml"), metrics());
    let rules = array(&rules["groups"][0]["rules"]);
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "twice: {name}");
        for note in ["summary", "description", "action"] {
            assert!(rule["annotations"][note].as_str().is_some_and(|n| n.len() > 20), "{name}: {note}");
        }
        assert!(["warning", "critical"].iter().any(|s| rule["labels"]["severity"] == *s), "{name}");
        let unknown: Vec<String> =
            metrics_in(rule["expr"].as_str().unwrap()).into_iter().filter(|m| !metrics.contains(m)).collect();
        assert!(unknown.is_empty(), "{name}: there is no {unknown:?}");
    }
    assert_eq!(names.len(), 11);
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = file("dashboard.json");
    let targets = array(&dashboard["panels"]).iter().flat_map(|p| array(&p["targets"]));
    let shown: BTreeSet<String> = targets.flat_map(|t| metrics_in(t["expr"].as_str().unwrap())).collect();
    assert_eq!(shown, metrics());
}
