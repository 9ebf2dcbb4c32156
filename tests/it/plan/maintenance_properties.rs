//! No node is taken outside of its window, whatever the windows are: over 10,000 random schedules, against an oracle
//! that goes over time minute by minute as people read clocks, and knows nothing of the calendar.

use std::sync::Arc;

use gcu_upgrade_manager::plan::fleet::{DaemonPod, NodeLabels};
use gcu_upgrade_manager::plan::maintenance::{Verdict, Windows};
use gcu_upgrade_manager::record::maintenance::{Fit, Maintenance, Window};
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::rolling_properties::{Thrown, cluster};
use super::*;
use crate::dice::Dice;

const SCHEDULES: u64 = 10_000;
/// So long is looked at.
const DAYS: i64 = 5;
/// The longest window that is tried: what has begun so long before may be open.
const LONGEST: i64 = 2 * 24 * 60;

/// Zones whose clocks are changed by an hour, by half of one, at midnight, on the southern half, and never; and one
/// that left out a day.
const ZONES: [&str; 14] = [
    "UTC",
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Santiago",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Africa/Casablanca",
    "Asia/Beirut",
    "America/St_Johns",
    "Antarctica/Troll",
];

/// A schedule, and the minutes that are looked at.
struct Schedule {
    maintenance: Maintenance,
    zone: TimeZone,
    first: Timestamp,
}

fn schedule(dice: &mut Dice) -> Schedule {
    let name = dice.pick(&ZONES);
    let zone = TimeZoneDatabase::bundled().get(name).unwrap();
    let year = 2005 + i16::try_from(dice.below(40)).unwrap();
    let mut day = jiff::civil::date(year, 1, 1).saturating_add(jiff::Span::new().days(dice.between(0, 364)));
    // Where clocks are changed, leap days and the turn of the year are what matters.
    match dice.below(10) {
        0..=5 => {
            let from = day.to_zoned(zone.clone()).unwrap().timestamp();
            if let Some(change) = zone.following(from).next() {
                day = change.timestamp().to_zoned(zone.clone()).date();
            }
        }
        6 => day = jiff::civil::date(2028, 2, 28),
        7 => day = jiff::civil::date(year, 12, 30),
        _ => {}
    }
    let first = day.saturating_sub(jiff::Span::new().days(2)).to_zoned(zone.clone()).unwrap().timestamp();
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let windows: Vec<Value> = (0..=dice.below(3))
        .map(|number| {
            let mut begins: Vec<&str> = days.iter().copied().filter(|_| dice.below(2) == 0).collect();
            if begins.is_empty() {
                begins.push(dice.pick(&days));
            }
            // Clocks are changed in the night.
            let hour = if dice.below(2) == 0 { dice.below(5) } else { dice.below(24) };
            let minute = dice.pick(&[0, 1, 15, 29, 30, 45, 59]);
            let minutes = match dice.below(4) {
                0 => dice.between(1, 90),
                1 => dice.pick(&[60, 24 * 60, 23 * 60, 25 * 60, 8 * 60]),
                _ => dice.between(1, LONGEST),
            };
            let selector = dice.pick(&[None, None, Some("a"), Some("b")]);
            json!({
                "name": number.to_string(),
                "days": begins,
                "start": format!("{hour:02}:{minute:02}"),
                "durationSeconds": minutes * 60,
                "nodeSelector": selector.map_or(json!({}), |pool| json!({ "pool": pool })),
            })
        })
        .collect();
    let exclusions: Vec<Value> = (0..dice.below(3))
        .map(|number| {
            let local = |minutes: i64| {
                let at = day.to_datetime(jiff::civil::time(0, 0, 0, 0));
                at.saturating_add(jiff::Span::new().minutes(minutes)).strftime("%Y-%m-%dT%H:%M").to_string()
            };
            let from = dice.between(-DAYS * 1440, 2 * 1440);
            // Longer than clocks are ever put back by: else it might end before it begins.
            let to = from + dice.between(1, 3 * 1440);
            json!({ "name": number.to_string(), "from": local(from), "to": local(to) })
        })
        .collect();
    let fit = dice.pick(&["p50", "p90", "None"]);
    let at_end = dice.pick(&["Finish", "Return"]);
    let maintenance = json!({
        "timeZone": name, "windows": windows, "exclusions": exclusions, "fit": fit, "atEnd": at_end,
    });
    Schedule { maintenance: serde_json::from_value(maintenance).unwrap(), zone, first }
}

/// What clocks show, minute by minute, from [`LONGEST`] and a day before the first minute on: as minutes that a clock
/// would have counted that was never changed.
struct Clocks {
    shown: Vec<i64>,
    before: usize,
}

/// A local time as such minutes.
fn counted(local: DateTime) -> i64 {
    local.duration_since(jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_mins()
}

impl Clocks {
    fn of(thrown: &Schedule) -> Self {
        let before = LONGEST + 1440;
        let shown = |n: i64| {
            let at = thrown.first + SignedDuration::from_mins(n);
            (at.as_second() + i64::from(thrown.zone.to_offset(at).seconds())).div_euclid(60)
        };
        Self { shown: (-before..DAYS * 1440).map(shown).collect(), before: usize::try_from(before).unwrap() }
    }

    /// Whether a window begins at this minute: its start is shown for the first time, or is passed over.
    fn begins(&self, window: &Window, minute: usize) -> bool {
        let start = i64::from(window.start.time().hour()) * 60 + i64::from(window.start.time().minute());
        let is_start = |shown: i64| {
            // The first day of those minutes was a Thursday.
            let weekday = (shown.div_euclid(1440) + 3).rem_euclid(7);
            shown.rem_euclid(1440) == start && window.days.iter().any(|day| *day as i64 == weekday)
        };
        let Some(last) = minute.checked_sub(1).map(|last| self.shown[last]) else { return false };
        let shown = self.shown[minute];
        (last + 1..shown).any(is_start) || (is_start(shown) && self.is_first(minute))
    }

    /// Clocks did not show this before.
    fn is_first(&self, minute: usize) -> bool {
        let shown = self.shown[minute];
        !self.shown[minute.saturating_sub(300)..minute].contains(&shown)
    }

    /// When the windows of nodes with each label are open, for each minute that is looked at.
    fn open(&self, maintenance: &Maintenance, pools: [Option<&str>; 3]) -> [Vec<bool>; 3] {
        let mut all = pools.map(|_| vec![false; self.shown.len()]);
        for window in &maintenance.windows {
            let minutes = usize::try_from(window.duration_seconds / 60).unwrap();
            for minute in (0..self.shown.len()).filter(|minute| self.begins(window, *minute)) {
                for (open, pool) in all.iter_mut().zip(pools) {
                    let selected = window.node_selector.get("pool").map(String::as_str);
                    if selected.is_none() || selected == pool {
                        let end = (minute + minutes).min(open.len());
                        open[minute..end].fill(true);
                    }
                }
            }
        }
        for exclusion in &maintenance.exclusions {
            // From the first time that clocks show its beginning or more, to the last time that they show its end, or
            // have passed over it.
            let (from, to) = (counted(exclusion.from.date_time()), counted(exclusion.to.date_time()));
            let first = self.shown.iter().position(|shown| *shown >= from);
            let at = self.shown.iter().rposition(|shown| *shown == to);
            let last = self.shown.iter().rposition(|shown| *shown < to);
            let end = at.or(last.map(|last| last + 1));
            if let (Some(first), Some(end)) = (first, end)
                && first < end
            {
                all.iter_mut().for_each(|open| open[first..end].fill(false));
            }
        }
        all.map(|mut open| open.split_off(self.before))
    }
}

#[test]
fn no_node_is_taken_outside_of_its_window() {
    let (mut taken, mut kept) = (0, 0);
    for seed in 0..SCHEDULES {
        let mut dice = Dice(seed);
        let thrown = schedule(&mut dice);
        let clocks = Clocks::of(&thrown);
        let pools = [None, Some("a"), Some("b")];
        let open = clocks.open(&thrown.maintenance, pools);
        for _ in 0..4 {
            let minute = dice.between(0, DAYS * 1440 - 1);
            let second = dice.pick(&[0, 0, 1, 59]);
            let now = thrown.first + SignedDuration::from_secs(minute * 60 + second);
            let need = u32::try_from(dice.between(0, 600)).unwrap() * 60;
            let told = format!("seed {seed} at {now} with {need}s: {:?}", thrown.maintenance);
            for (open, pool) in open.iter().zip(pools) {
                agrees(&thrown, open, pool, minute, now, &told);
            }
            let claimed = claimed(&thrown.maintenance, now, need);
            for (open, pool) in open.iter().zip(pools) {
                let name = pool.unwrap_or("none");
                let is_taken = claimed.iter().any(|node| node == name);
                if is_taken {
                    taken += 1
                } else {
                    kept += 1
                }
                if !is_taken {
                    continue;
                }
                assert!(open[usize::try_from(minute).unwrap()], "{name} was taken outside, {told}");
                if thrown.maintenance.fit != Fit::None {
                    let last = (minute * 60 + second + i64::from(need) - 1).div_euclid(60).max(minute);
                    let through =
                        usize::try_from(minute).unwrap()..=usize::try_from(last).unwrap().min(open.len() - 1);
                    assert!(open[through].iter().all(|open| *open), "{name} outlasts its window, {told}");
                }
            }
        }
    }
    // It would be easy never to take one.
    assert!(taken > 15_000 && kept > 15_000, "{taken} taken, {kept} not");
}

/// The calendar says of this moment what clocks say: open or not, until when, and when the next opens.
fn agrees(thrown: &Schedule, open: &[bool], pool: Option<&str>, minute: i64, now: Timestamp, told: &str) {
    let labels: NodeLabels = pool.iter().map(|pool| (Arc::from("pool"), Arc::from(*pool))).collect();
    let verdict = Windows::of(&thrown.maintenance, None, now).of_node(&labels);
    let minute = usize::try_from(minute).unwrap();
    let end = open.len();
    let at = |minute: usize| thrown.first + SignedDuration::from_mins(i64::try_from(minute).unwrap());
    let changes = (minute..end).find(|later| open[*later] != open[minute]);
    match (open[minute], verdict, changes) {
        (true, Verdict::Open { until }, Some(closes)) => assert_eq!(until, at(closes), "{told}"),
        (true, Verdict::Open { until }, None) => assert!(until >= at(end), "{told}"),
        (false, Verdict::Outside { opens }, Some(next)) => assert_eq!(opens, Some(at(next)), "{told}"),
        (false, Verdict::Outside { opens }, None) => {
            assert!(opens.is_none_or(|opens| opens >= at(end)), "{opens:?} {told}");
        }
        (is_open, verdict, _) => panic!("open is {is_open}, and it says {verdict:?}, {told}"),
    }
}

/// The nodes that a rollout takes now, of one of no pool and one of each.
fn claimed(maintenance: &Maintenance, now: Timestamp, need: u32) -> Vec<String> {
    let nodes = [Thrown::idle(), Thrown::idle(), Thrown::idle()];
    let (mut record, mut seen) = cluster(&nodes, 3, Intent::Run);
    let names = ["a", "b", "none"];
    for (place, name) in names.into_iter().enumerate() {
        let node = Arc::make_mut(&mut seen.fleet.nodes[place]);
        node.name = name.to_owned();
        if name != "none" {
            node.labels = [(Arc::from("pool"), Arc::from(name))].into_iter().collect();
        }
    }
    let moved = seen
        .fleet
        .pods
        .iter()
        .zip(names)
        .map(|(pod, name)| Arc::new(DaemonPod { node: name.into(), ..pod.as_ref().clone() }));
    seen.fleet.pods = moved.collect();
    record.spec.maintenance = Some(maintenance.clone());
    record.spec.took_before_seconds = vec![need];
    let rolling = record.status.as_mut().unwrap().rolling.as_mut().unwrap();
    rolling.locked_since = Some(now - SignedDuration::from_secs(60));
    match decide(&record, &seen, now) {
        Decision::Record(status) => {
            status.rolling.unwrap().active.into_iter().map(|claim| claim.node.clone()).collect()
        }
        _ => Vec::new(),
    }
}
