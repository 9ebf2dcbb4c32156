//! Alerts and dashboard speak of metrics that exist.

use std::collections::BTreeSet;

use serde_json::Value;

use super::chart;

/// Every metric, without the endings of histograms.
const METRICS: [&str; 17] = [
    "gum_api_call_duration_seconds",
    "gum_api_calls_total",
    "gum_blueprint_reloads_total",
    "gum_blueprints",
    "gum_build_info",
    "gum_connections",
    "gum_efficiency_ratio",
    "gum_http_request_duration_seconds",
    "gum_http_requests_total",
    "gum_leader",
    "gum_nodes",
    "gum_oldest_cordon_age_seconds",
    "gum_record_held_seconds",
    "gum_step_duration_seconds",
    "gum_upgrades",
    "gum_upgrades_ended_total",
    "gum_watch_restarts_total",
];

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
    let rules = file("alerts.yaml");
    let rules = array(&rules["groups"][0]["rules"]);
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "twice: {name}");
        for note in ["summary", "description", "action"] {
            assert!(rule["annotations"][note].as_str().is_some_and(|n| n.len() > 20), "{name}: {note}");
        }
        assert!(["warning", "critical"].iter().any(|s| rule["labels"]["severity"] == *s), "{name}");
        let unknown: Vec<String> = metrics_in(rule["expr"].as_str().unwrap())
            .into_iter()
            .filter(|m| !METRICS.contains(&m.as_str()))
            .collect();
        assert!(unknown.is_empty(), "{name}: there is no {unknown:?}");
    }
    assert_eq!(names.len(), 7);
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = file("dashboard.json");
    let targets = array(&dashboard["panels"]).iter().flat_map(|p| array(&p["targets"]));
    let shown: BTreeSet<String> = targets.flat_map(|t| metrics_in(t["expr"].as_str().unwrap())).collect();
    assert_eq!(shown, METRICS.map(str::to_owned).into());
}
