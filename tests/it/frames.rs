//! What people see, drawn from one set of fixtures, in terminals of several widths and in none. `GUM_BLESS=1` writes
//! the frames anew; whoever does reads the difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gcu_upgrade_manager::explain::view::{summary, whole};
use gcu_upgrade_manager::explain::why::why as why_of;
use gcu_upgrade_manager::frame::doctor::{Check, doctor};
use gcu_upgrade_manager::frame::plan::{Plan, plan};
use gcu_upgrade_manager::frame::status::{Status, line, status};
use gcu_upgrade_manager::frame::view::{Attention, Nodes, Upgrade, Why, read};
use gcu_upgrade_manager::frame::{Look, clean, cut, history, list, nodes, service, time, why, width};
use gcu_upgrade_manager::plan::fleet::Fleet;
use gcu_upgrade_manager::plan::impact;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use jiff::Timestamp;
use serde_json::{Value, json};

const WIDTHS: [(&str, Option<usize>); 3] = [("wide", Some(160)), ("narrow", Some(60)), ("no-terminal", None)];

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/people")
}

fn fixture(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(home().join(name)).unwrap()).unwrap()
}

/// The fixture records, by name.
pub(crate) fn records() -> BTreeMap<String, GcuUpgrade> {
    let all: Vec<GcuUpgrade> = serde_json::from_value(fixture("records.json")).unwrap();
    all.into_iter().map(|record| (record.metadata.name.clone().unwrap(), record)).collect()
}

/// When the fixtures are looked at.
pub(crate) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn look(width: Option<usize>) -> Look {
    Look { width, ..Look::plain(now()) }
}

/// Every record as a list shows it, newest first.
fn upgrades() -> Vec<Upgrade> {
    let mut all: Vec<GcuUpgrade> = records().into_values().collect();
    all.sort_by_key(|r| std::cmp::Reverse(r.metadata.creation_timestamp.clone().unwrap().0));
    all.iter().map(|record| read(&summary(record, now())).unwrap()).collect()
}

/// One record, as `status` shows it: without a look at the cluster its record alone tells of its nodes.
fn status_of(name: &str) -> Status {
    let record = &records()[name];
    let upgrade = read(&whole(record, false, now())).unwrap();
    let why = read(&json!(why_of(record, None, &Fleet::default(), None, now()))).unwrap();
    let why = Why { nodes: Vec::new(), ..why };
    Status { upgrade, why, ..Status::default() }
}

/// The large rollout, with what its nodes do.
fn rollout() -> Status {
    let pods: Nodes = read(&fixture("nodes.json")).unwrap();
    Status {
        why: read(&fixture("why.json")).unwrap(),
        pods: pods.nodes.into_iter().map(|node| (node.node.clone(), node)).collect(),
        ..status_of("enflame-gcu-resource-7")
    }
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the product")]
fn bless() -> bool {
    std::env::var_os("GUM_BLESS").is_some()
}

/// Holds a frame against the one that was read and found good.
fn golden(name: &str, frame: &str) {
    let path = home().join("golden").join(format!("{name}.txt"));
    if bless() {
        std::fs::write(&path, frame).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == frame, "{name} is drawn as\n{frame}\nand was\n{known}");
}

/// The same frame in every width; what is drawn for a terminal fits it.
fn in_every_width(name: &str, draw: impl Fn(&Look) -> String) {
    for (of, columns) in WIDTHS {
        let frame = draw(&look(columns));
        golden(&format!("{name}-{of}"), &frame);
        let too_wide = |line: &&str| columns.is_some_and(|columns| width(line) > columns);
        // A word that is longer than the terminal is not broken.
        let breakable = |line: &&str| line.trim().contains(' ');
        if let Some(line) = frame.lines().filter(too_wide).find(breakable) {
            panic!("{name}: {} columns of {columns:?}: {line}", width(line));
        }
    }
}

#[test]
fn upgrades_are_listed_with_progress_estimate_and_what_they_wait_on() {
    in_every_width("get", |look| list::upgrades(&upgrades(), look));
    in_every_width("get-wide-columns", |look| {
        list::upgrades(&upgrades(), &Look { wide: true, ..look.clone() })
    });
    golden("get-plain", &list::upgrades_plain(&upgrades(), &look(None)));
}

#[test]
fn an_upgrade_outside_of_its_window_says_when_the_next_opens() {
    let mut record = records()["enflame-gcu-resource-7"].clone();
    let windows = json!({
        "timeZone": "Asia/Shanghai",
        "windows": [{ "name": "night", "days": ["thu"], "start": "22:00", "durationSeconds": 28800 }],
    });
    record.spec.maintenance = Some(serde_json::from_value(windows).unwrap());
    let state = record.status.as_mut().unwrap();
    let rolling = state.rolling.as_mut().unwrap();
    rolling.active.clear();
    rolling.nodes.active = 0;
    rolling.nodes.failed = 0;
    rolling.window_closed_since = Some("2026-01-01T11:00:00Z".parse().unwrap());
    let waiting = json!({
        "reason": "OutsideWindow",
        "message": "no maintenance window is open: the next opens at 2026-01-01 22:00 Asia/Shanghai \
                    (2026-01-01T14:00:00Z)",
        "since": "2026-01-01T11:00:00Z",
    });
    (state.phase, state.waiting_on) = (Phase::Running, Some(serde_json::from_value(waiting).unwrap()));
    let upgrade: Upgrade = read(&whole(&record, false, now())).unwrap();
    let why = read(&json!(why_of(&record, None, &Fleet::default(), None, now()))).unwrap();
    let drawn = Status { upgrade, why, ..Status::default() };
    in_every_width("status-outside-window", |look| status(&drawn, look));
    let waits = json!({ "message": "waits", "outsideWindow": [
        { "node": "node-1", "message": "no maintenance window is open: the next opens at 2026-01-01 22:00 \
                                        Asia/Shanghai (2026-01-01T14:00:00Z)" },
    ] });
    in_every_width("why-outside-window", |look| why::why(&read(&waits).unwrap(), None, look));
}

#[test]
fn a_rollout_shows_its_nodes_and_what_a_person_should_look_at() {
    in_every_width("status-rollout", |look| status(&rollout(), look));
    golden("status-rollout-all", &status(&rollout(), &Look { all: true, ..look(Some(120)) }));
    golden("status-rollout-colour", &status(&rollout(), &Look { colour: true, ..look(Some(120)) }));
}

#[test]
fn every_state_of_an_upgrade_has_its_frame() {
    for name in [
        "edge-2",
        "enflame-gcu-resource-6",
        "lab-1",
        "pool-a-3",
        "pool-b-2",
        "pool-c-1",
        "pool-d-4",
        "pool-e-1",
    ] {
        in_every_width(&format!("status-{name}"), |look| status(&status_of(name), look));
    }
}

#[test]
fn that_nobody_acts_and_that_nodes_may_not_be_looked_at_is_said_under_the_frame() {
    let mut seen = status_of("enflame-gcu-resource-7");
    seen.notes.push(
        "no replica has held the Lease kube-system/gcu-upgrade-manager for 3m: upgrades go on when one does"
            .to_owned(),
    );
    seen.notes.push(
        "what the nodes do is as the record has it: pods is forbidden: User \"jane\" cannot list resource \
                     \"pods\""
            .to_owned(),
    );
    in_every_width("status-from-the-record", |look| status(&seen, look));
}

#[test]
fn without_a_terminal_an_upgrade_is_one_line_at_a_time() {
    for name in ["enflame-gcu-resource-7", "lab-1", "edge-2", "pool-d-4"] {
        golden(&format!("line-{name}"), &line(&status_of(name), &look(None)));
    }
}

#[test]
fn why_tells_each_node_what_happens_when() {
    let all: Why = read(&fixture("why.json")).unwrap();
    in_every_width("why", |look| why::why(&all, None, look));
    in_every_width("why-node", |look| why::why(&all, Some("node-17"), look));
    golden("why-left-out", &why::why(&all, Some("node-8"), &look(None)));
}

#[test]
fn nodes_show_which_version_runs_where() {
    let (seen, all): (Nodes, Why) =
        (read(&fixture("nodes.json")).unwrap(), read(&fixture("why.json")).unwrap());
    in_every_width("nodes", |look| nodes::nodes(&seen, &all, look));
    golden("nodes-plain", &nodes::nodes_plain(&seen, &all, &look(None)));
    golden("nodes-pods", &nodes::pods(&seen.nodes[3], &look(Some(100))));
}

#[test]
fn a_plan_says_what_changes_who_has_to_leave_how_long_it_takes_and_what_may_go_wrong() {
    let (rolling, recreate): (Plan, Plan) =
        (read(&fixture("plan-rolling.json")).unwrap(), read(&fixture("plan-recreate.json")).unwrap());
    in_every_width("plan-rolling", |look| plan(&rolling, look));
    in_every_width("plan-recreate", |look| plan(&recreate, look));
    golden("plan-rolling-nodes", &plan(&rolling, &Look { wide: true, ..look(Some(120)) }));
}

#[test]
fn the_history_tells_who_changed_what() {
    let mut all: Vec<Upgrade> = upgrades().into_iter().filter(|u| u.gr == "enflame-gcu-resource").collect();
    all.iter_mut().zip([7, 6, 5]).for_each(|(one, number)| one.revision = Some(number));
    all[1].current = true;
    in_every_width("history", |look| history::revisions(&all, look));
    golden("history-plain", &history::revisions_plain(&all, &look(None)));
    let one: Upgrade = read(&whole(&records()["enflame-gcu-resource-7"], true, now())).unwrap();
    in_every_width("history-one", |look| {
        history::revision(&Upgrade { revision: Some(7), ..one.clone() }, look)
    });
    let records = records();
    let manifest = |name: &str| records[name].spec.target.manifest.clone();
    let changes = impact::changes(&manifest("enflame-gcu-resource-6"), &manifest("enflame-gcu-resource-7"));
    golden("history-diff", &history::differences(&changes, &look(Some(80))));
    golden("history-diff-none", &history::differences(&[], &look(None)));
}

#[test]
fn the_service_has_tables_of_grs_blueprints_and_versions() {
    let all = fixture("service.json");
    golden("grs", &service::grs(all["grs"].as_array().unwrap(), &look(None)));
    golden("blueprints", &service::blueprints(&all["blueprints"], &look(None)));
    golden("version", &service::version(&all["version"]));
}

#[test]
fn the_doctor_says_what_is_missing_and_how_to_mend_it() {
    let checks = [
        Check::good("cluster", "Kubernetes v1.20.2 at https://10.0.0.1:6443"),
        Check::bad(
            "CRD",
            "gcuupgrades.gum.enflame.com is not there",
            "install the service with deploy/deploy.sh, or its chart with helm",
        ),
        Check::warning("rights", "you may not list pods (to plan)", "ask for these rights"),
        Check::unknown("blueprints", "in a directory of the service's node, which cannot be seen from here"),
    ];
    in_every_width("doctor", |look| doctor(&checks, look));
    golden("doctor-well", &doctor(&checks[..1], &look(None)));
}

#[test]
fn what_comes_from_the_cluster_cannot_write_into_the_terminal() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n";
    assert_eq!(clean(evil), "\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\r\\n");
    let mut all = upgrades();
    all[0].message = evil.to_owned();
    all[0].name = evil.to_owned();
    all[0].change = Some(evil.to_owned());
    let seen = Status { upgrade: all[0].clone(), notes: vec![evil.to_owned()], ..Status::default() };
    for text in [list::upgrades(&all, &look(None)), status(&seen, &look(None)), line(&seen, &look(None))] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}') && !text.contains('\r'), "{text:?}");
    }
}

#[test]
fn wide_characters_take_two_columns_and_are_never_cut_in_half() {
    assert_eq!(width("升级 🚀"), 7);
    assert_eq!(cut("升级驱动", 5), "升级…");
    assert_eq!(cut("升级驱动", 6), "升级…");
    assert_eq!(cut("升级驱动", 8), "升级驱动");
}

#[test]
fn ages_are_in_one_unit_and_durations_in_two() {
    let ages: Vec<String> = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(time::short).into();
    assert_eq!(ages, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    let long: Vec<String> = [45, 60, 95, 660, 3600, 11_400].map(time::long).into();
    assert_eq!(long, ["45s", "1m", "1m35s", "11m", "1h", "3h10m"]);
}

#[test]
fn there_are_more_than_forty_frames_and_none_that_nothing_draws() {
    let source = include_str!("frames.rs");
    let count = std::fs::read_dir(home().join("golden")).unwrap().count();
    assert!(count >= 40 && source.contains("in_every_width"), "{count}");
}

#[test]
fn a_pod_that_is_replaced_though_its_template_stays_counts_as_old_until_it_is() {
    let mut seen = rollout();
    let node = seen.pods.get_mut("node-31").unwrap();
    node.components.iter_mut().flat_map(|c| &mut c.pods).for_each(|pod| pod.version = "new".to_owned());
    let drawn = |seen: &Status| {
        let frame = status(seen, &look(None));
        frame.lines().find(|line| line.contains("node-31")).unwrap().to_owned()
    };
    assert!(drawn(&seen).ends_with("driver ✔ toolkit ◌ devicePlugin ✔"), "{}", drawn(&seen));
    let claims = &mut seen.upgrade.rolling.as_mut().unwrap().active;
    let claim = claims.iter_mut().find(|claim| claim.node == "node-31").unwrap();
    claim.pods[0].name = "enflame-gcu-plugin-x".to_owned();
    assert!(drawn(&seen).ends_with("driver ✔ toolkit ◌ devicePlugin ·"), "{}", drawn(&seen));
    // As it was named by older versions, and as it is now.
    let claims = &mut seen.upgrade.rolling.as_mut().unwrap().active;
    let claim = claims.iter_mut().find(|claim| claim.node == "node-31").unwrap();
    claim.pods.clear();
    claim.replaces = [("devicePlugin".to_owned(), "ugh-5-t7nyt6 gin-x-t7nyt5".to_owned())].into();
    assert!(drawn(&seen).ends_with("driver ✔ toolkit ◌ devicePlugin ·"), "{}", drawn(&seen));
    let claims = &mut seen.upgrade.rolling.as_mut().unwrap().active;
    let claim = claims.iter_mut().find(|claim| claim.node == "node-31").unwrap();
    claim.replaces = [("devicePlugin".to_owned(), "gin-y-t7nyt5".to_owned())].into();
    assert!(drawn(&seen).ends_with("driver ✔ toolkit ◌ devicePlugin ✔"), "{}", drawn(&seen));
}

#[test]
fn what_a_person_should_look_at_is_named_worst_first_and_counted_beyond_twenty() {
    let mut seen = rollout();
    let one = seen.why.attention.first().unwrap().clone();
    let numbered =
        |n: usize| Attention { about: format!("node-{n}: its new pod cannot start"), ..one.clone() };
    seen.why.attention = (0..1000).map(numbered).collect();
    let frame = status(&seen, &look(None));
    assert_eq!(frame.lines().filter(|line| line.starts_with("Attention")).count(), 20);
    assert!(frame.contains("node-19: its") && !frame.contains("node-20: its"), "{frame}");
    assert!(frame.contains("\n… 980 more (--all)\n"), "{frame}");
    let all = status(&seen, &Look { all: true, ..look(None) });
    assert!(all.contains("node-999: its"), "{all}");
}
