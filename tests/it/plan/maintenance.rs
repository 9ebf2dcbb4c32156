//! The calendar of maintenance windows: known cases, written down from calendars and not from the code.

use gcu_upgrade_manager::plan::fleet::NodeLabels;
use gcu_upgrade_manager::plan::maintenance::{Verdict, Windows, refusal, usual};
use gcu_upgrade_manager::record::maintenance::{Fit, Maintenance};
use gcu_upgrade_manager::record::rolling::{DoneNode, Replaced, RollingStatus};

use super::*;

/// Windows as they stand in a record.
fn windows(zone: &str, windows: Value, exclusions: Value) -> Maintenance {
    serde_json::from_value(json!({ "timeZone": zone, "windows": windows, "exclusions": exclusions })).unwrap()
}

fn nightly(zone: &str, days: &[&str], start: &str, hours: u32) -> Maintenance {
    let window = json!({ "name": "night", "days": days, "start": start, "durationSeconds": hours * 3600 });
    windows(zone, json!([window]), json!([]))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Whether a node without labels may be taken.
fn of(maintenance: &Maintenance, when: &str) -> Verdict {
    Windows::of(maintenance, None, at(when)).of_node(&NodeLabels::default())
}

fn open(until: &str) -> Verdict {
    Verdict::Open { until: at(until) }
}

fn outside(opens: &str) -> Verdict {
    Verdict::Outside { opens: Some(at(opens)) }
}

fn labels(all: &[(&str, &str)]) -> NodeLabels {
    all.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

const WEEKDAYS: [&str; 5] = ["mon", "tue", "wed", "thu", "fri"];
const EVERY_DAY: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[test]
fn a_window_belongs_to_the_day_on_which_it_begins_and_runs_over_midnight() {
    let nights = nightly("Asia/Shanghai", &WEEKDAYS, "22:00", 8);
    // 2027-02-05 is a Friday. 22:00 in Shanghai is 14:00 in UTC.
    assert_eq!(of(&nights, "2027-02-05T13:59:59Z"), outside("2027-02-05T14:00:00Z"));
    assert_eq!(of(&nights, "2027-02-05T14:00:00Z"), open("2027-02-05T22:00:00Z"));
    // Saturday 05:59 is still Friday's window, and 06:00 no more.
    assert_eq!(of(&nights, "2027-02-05T21:59:59Z"), open("2027-02-05T22:00:00Z"));
    assert_eq!(of(&nights, "2027-02-05T22:00:00Z"), outside("2027-02-08T14:00:00Z"));
    // Nothing begins on Saturday and Sunday evening.
    assert_eq!(of(&nights, "2027-02-06T15:00:00Z"), outside("2027-02-08T14:00:00Z"));
    assert_eq!(of(&nights, "2027-02-07T15:00:00Z"), outside("2027-02-08T14:00:00Z"));
    // Early on Monday is Sunday's window, which there is not.
    assert_eq!(of(&nights, "2027-02-07T18:00:00Z"), outside("2027-02-08T14:00:00Z"));
}

#[test]
fn a_start_that_clocks_pass_over_is_the_first_instant_after() {
    let nights = nightly("Europe/Berlin", &["sun"], "02:30", 2);
    // 2027-03-28: at 02:00 clocks are put to 03:00, which is 01:00 in UTC.
    assert_eq!(of(&nights, "2027-03-28T00:59:59Z"), outside("2027-03-28T01:00:00Z"));
    assert_eq!(of(&nights, "2027-03-28T01:00:00Z"), open("2027-03-28T03:00:00Z"));
    // Samoa had no 30th of December 2011: its Friday begins with the Saturday.
    let samoa = nightly("Pacific/Apia", &["fri"], "12:00", 1);
    assert_eq!(of(&samoa, "2011-12-30T09:59:59Z"), outside("2011-12-30T10:00:00Z"));
    assert_eq!(of(&samoa, "2011-12-30T10:30:00Z"), open("2011-12-30T11:00:00Z"));
}

#[test]
fn a_start_that_clocks_show_twice_is_the_first_of_the_two() {
    let nights = nightly("Europe/Berlin", &["sun"], "02:30", 1);
    // 2027-10-31: at 03:00 clocks are put back to 02:00. 02:30 is at 00:30 and at 01:30 in UTC.
    assert_eq!(of(&nights, "2027-10-31T00:29:00Z"), outside("2027-10-31T00:30:00Z"));
    assert_eq!(of(&nights, "2027-10-31T00:30:00Z"), open("2027-10-31T01:30:00Z"));
    assert_eq!(of(&nights, "2027-10-31T01:30:00Z"), outside("2027-11-07T01:30:00Z"));
}

#[test]
fn a_duration_is_time_that_passes_whatever_clocks_do() {
    let nights = nightly("Europe/Berlin", &["sat"], "22:00", 8);
    assert_eq!(of(&nights, "2027-03-27T21:00:00Z"), open("2027-03-28T05:00:00Z"));
    assert_eq!(of(&nights, "2027-10-30T20:00:00Z"), open("2027-10-31T04:00:00Z"));
    assert_eq!(of(&nights, "2027-06-05T20:00:00Z"), open("2027-06-06T04:00:00Z"));
}

#[test]
fn leap_days_and_midnight_are_days_like_others() {
    let leap = nightly("UTC", &["tue"], "00:00", 1);
    // 2028-02-29 is a Tuesday.
    assert_eq!(of(&leap, "2028-02-28T23:59:59Z"), outside("2028-02-29T00:00:00Z"));
    assert_eq!(of(&leap, "2028-02-29T00:59:59Z"), open("2028-02-29T01:00:00Z"));
    let over = nightly("Asia/Shanghai", &["mon"], "23:30", 1);
    assert_eq!(of(&over, "2028-02-28T15:30:00Z"), open("2028-02-28T16:30:00Z"));
    // In Cairo clocks are put forward at midnight: 2027-04-30 begins at 01:00.
    let cairo = nightly("Africa/Cairo", &["fri"], "00:00", 1);
    assert_eq!(of(&cairo, "2027-04-29T21:59:59Z"), outside("2027-04-29T22:00:00Z"));
    assert_eq!(of(&cairo, "2027-04-29T22:00:00Z"), open("2027-04-29T23:00:00Z"));
}

#[test]
fn windows_that_follow_each_other_are_one() {
    let days = nightly("UTC", &EVERY_DAY, "00:00", 24);
    let Verdict::Open { until } = of(&days, "2027-02-05T12:00:00Z") else { panic!("it is open") };
    assert!(until > at("2027-03-01T00:00:00Z"), "{until}");
    let two = json!([
        { "name": "a", "days": ["fri"], "start": "10:00", "durationSeconds": 7200 },
        { "name": "b", "days": ["fri"], "start": "11:00", "durationSeconds": 7200 },
    ]);
    assert_eq!(of(&windows("UTC", two, json!([])), "2027-02-05T10:30:00Z"), open("2027-02-05T13:00:00Z"));
}

#[test]
fn an_exclusion_closes_what_would_be_open() {
    let spring = json!([{ "name": "spring-festival", "from": "2027-02-05T00:00", "to": "2027-02-21T00:00" }]);
    let night = json!([{ "name": "night", "days": WEEKDAYS, "start": "22:00", "durationSeconds": 28800 }]);
    let nights = windows("Asia/Shanghai", night, spring);
    // The window of Thursday ends when the exclusion begins, at midnight.
    assert_eq!(of(&nights, "2027-02-04T14:00:00Z"), open("2027-02-04T16:00:00Z"));
    assert_eq!(of(&nights, "2027-02-04T16:00:00Z"), outside("2027-02-22T14:00:00Z"));
    // It ends on a Sunday: the next window begins on Monday.
    assert_eq!(of(&nights, "2027-02-20T16:00:00Z"), outside("2027-02-22T14:00:00Z"));
    // One that ends within a window opens it.
    let late = json!([{ "name": "e", "from": "2027-02-05T00:00", "to": "2027-02-06T01:00" }]);
    let night = json!([{ "name": "night", "days": WEEKDAYS, "start": "22:00", "durationSeconds": 28800 }]);
    assert_eq!(
        of(&windows("Asia/Shanghai", night, late), "2027-02-05T15:00:00Z"),
        outside("2027-02-05T17:00:00Z")
    );
}

#[test]
fn a_window_is_for_the_nodes_that_have_its_labels() {
    let two = json!([
        {
            "name": "train", "days": ["fri"], "start": "10:00", "durationSeconds": 3600,
            "nodeSelector": { "pool": "train" },
        },
        {
            "name": "serve", "days": ["fri"], "start": "12:00", "durationSeconds": 3600,
            "nodeSelector": { "pool": "serve" },
        },
    ]);
    let both = windows("UTC", two, json!([]));
    let now = Windows::of(&both, None, at("2027-02-05T10:30:00Z"));
    assert_eq!(now.of_node(&labels(&[("pool", "train"), ("zone", "a")])), open("2027-02-05T11:00:00Z"));
    assert_eq!(now.of_node(&labels(&[("pool", "serve")])), outside("2027-02-05T12:00:00Z"));
    assert_eq!(now.of_node(&NodeLabels::default()), Verdict::Outside { opens: None });
    assert_eq!(now.of_any_node(), open("2027-02-05T11:00:00Z"));
    assert_eq!(now.of_all_nodes(), Verdict::Outside { opens: None });
}

#[test]
fn what_takes_longer_than_what_is_left_waits_for_a_window_in_which_it_fits() {
    let two = json!([
        { "name": "short", "days": ["fri"], "start": "10:00", "durationSeconds": 1800 },
        { "name": "long", "days": ["sat"], "start": "10:00", "durationSeconds": 7200 },
    ]);
    let both = windows("UTC", two, json!([]));
    let of = |need, when: &str| Windows::of(&both, Some(need), at(when)).of_node(&NodeLabels::default());
    let (until, opens) = (at("2027-02-05T10:30:00Z"), Some(at("2027-02-06T10:00:00Z")));
    assert_eq!(of(1800, "2027-02-05T10:00:00Z"), Verdict::Open { until });
    assert_eq!(of(1800, "2027-02-05T10:00:01Z"), Verdict::WouldOutlast { until, opens });
    assert_eq!(of(3600, "2027-02-05T10:00:00Z"), Verdict::WouldOutlast { until, opens });
    assert_eq!(of(3600, "2027-02-05T09:00:00Z"), Verdict::Outside { opens });
    assert_eq!(of(7201, "2027-02-05T10:00:00Z"), Verdict::WouldOutlast { until, opens: None });
}

#[test]
fn what_can_never_be_met_is_refused_with_the_reason() {
    let now = at("2027-01-01T00:00:00Z");
    let refused = |m: &Maintenance, how, need| refusal::refuse(m, how, need, now).unwrap_err();
    let forever = json!([{ "name": "always", "from": "2000-01-01T00:00", "to": "2199-12-31T00:00" }]);
    let night = json!([{ "name": "night", "days": ["fri"], "start": "22:00", "durationSeconds": 1800 }]);
    let never = windows("UTC", night.clone(), forever);
    assert!(refused(&never, Strategy::RollingUpdate, None).contains("night does not open within a year"));
    let short = windows("UTC", night, json!([]));
    assert!(refused(&short, Strategy::RollingUpdate, Some(3600)).contains("lasts 30m, and a node takes 1h"));
    assert!(refusal::refuse(&short, Strategy::RollingUpdate, Some(1800), now).is_ok());
    let pool = json!([{
        "name": "p", "days": ["fri"], "start": "22:00", "durationSeconds": 1800, "nodeSelector": { "a": "b" },
    }]);
    let pool = windows("UTC", pool, json!([]));
    assert!(refused(&pool, Strategy::Recreate, None).contains("takes all nodes down"));
    assert!(refusal::refuse(&pool, Strategy::RollingUpdate, None, now).is_ok());
    let nowhere = nightly("Europe/Nowhere", &["fri"], "22:00", 1);
    assert!(refused(&nowhere, Strategy::Recreate, None).contains("is not the IANA name"));
    let backwards = json!([{ "name": "e", "from": "2027-02-05T00:00", "to": "2027-02-05T00:00" }]);
    let night = json!([{ "name": "night", "days": ["fri"], "start": "22:00", "durationSeconds": 1800 }]);
    assert!(refused(&windows("UTC", night, backwards), Strategy::Recreate, None).contains("is not after"));
}

#[test]
fn how_long_a_node_takes_is_told_by_the_nodes_of_this_gr() {
    let ten: Vec<u32> = (1..=10).map(|n| n * 60).collect();
    let deadlines = Deadlines::default();
    let of = |fit, how, took: &[u32]| usual::need_of(fit, how, took.to_vec(), &deadlines);
    assert_eq!(of(Fit::P50, Strategy::RollingUpdate, &ten), Some(300));
    assert_eq!(of(Fit::P90, Strategy::RollingUpdate, &ten), Some(540));
    assert_eq!(of(Fit::P90, Strategy::RollingUpdate, &[60]), Some(60));
    assert_eq!(of(Fit::None, Strategy::RollingUpdate, &ten), None);
    // Of the first node nothing is known; of the first Recreate, after what time it is held.
    assert_eq!(of(Fit::P90, Strategy::RollingUpdate, &[]), None);
    assert_eq!(of(Fit::P90, Strategy::Recreate, &[]), Some(600 + 300 + 1800));
    assert_eq!(of(Fit::P90, Strategy::Recreate, &[100]), Some(100));

    let mut ended = record();
    ended.spec.strategy = Strategy::RollingUpdate;
    let done = |seconds| DoneNode {
        node: "n".to_owned(),
        since: ago(seconds),
        at: now(),
        pods: Vec::new(),
        replaces: Replaced::default(),
    };
    let rolling = RollingStatus { recent: vec![done(60), done(90)], ..RollingStatus::default() };
    let status =
        GcuUpgradeStatus { phase: Phase::Succeeded, rolling: Some(rolling), ..GcuUpgradeStatus::default() };
    ended.status = Some(status.clone());
    let mut failed = ended.clone();
    failed.status = Some(GcuUpgradeStatus { phase: Phase::Failed, ..status });
    assert_eq!(usual::took(&[failed.clone(), ended.clone()], Strategy::RollingUpdate), [90, 60]);
    assert_eq!(usual::took(&[ended], Strategy::Recreate), [0_u32; 0]);
}

#[test]
fn texts_of_times_are_read_strictly_and_written_as_they_were() {
    use gcu_upgrade_manager::record::maintenance::{LocalTime, TimeOfDay};
    for text in ["00:00", "09:05", "23:59"] {
        assert_eq!(TimeOfDay::parse(text).unwrap().to_string(), text);
    }
    for text in ["24:00", "9:05", "09:5", "09:60", "+9:05", "09:05:00", "", "0a:00"] {
        assert_eq!(TimeOfDay::parse(text), None, "{text}");
    }
    for text in ["2027-02-05T00:00", "2028-02-29T23:59", "2000-02-29T12:00", "2199-12-31T00:00"] {
        assert_eq!(LocalTime::parse(text).unwrap().to_string(), text);
    }
    for text in [
        "2027-02-29T00:00",
        "2100-02-29T00:00",
        "1999-12-31T00:00",
        "2200-01-01T00:00",
        "2027-2-05T00:00",
        "2027-02-05",
        "2027-02-05T00:00Z",
        "2027-04-31T00:00",
    ] {
        assert_eq!(LocalTime::parse(text), None, "{text}");
    }
}

/// An API server lets in exactly what a reader of records can read.
#[test]
fn the_patterns_of_the_crd_are_those_of_the_reader() {
    use gcu_upgrade_manager::record::maintenance::LocalTime;
    use schemars::JsonSchema;
    let schema = LocalTime::json_schema(&mut schemars::SchemaGenerator::default()).to_value();
    let pattern = regex::Regex::new(schema["pattern"].as_str().unwrap()).unwrap();
    for year in [1999, 2000, 2001, 2004, 2027, 2028, 2096, 2100, 2104, 2196, 2199, 2200] {
        for month in 0..=13 {
            for day in 0..=32 {
                let text = format!("{year:04}-{month:02}-{day:02}T12:30");
                assert_eq!(pattern.is_match(&text), LocalTime::parse(&text).is_some(), "{text}");
            }
        }
    }
}
