//! How many maintenance windows an upgrade takes, and when the first opens: by the calendar that decides, and by how
//! long nodes took before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Ask, Expected, PlannedNode, duration};
use crate::plan::maintenance::calendar::{Calendar, Concerned};
use crate::plan::maintenance::{Verdict, Windows};
use crate::record::Strategy;

/// The maintenance windows of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedWindows {
    /// The time zone of the windows.
    pub time_zone: String,
    /// Whether the upgrade can begin now.
    pub open: bool,
    /// When it can begin; absent when it never can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub opens: Option<Timestamp>,
    /// In so many windows nodes are taken; absent when there is no history to tell from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// When all nodes should be done; absent when there is no history to tell from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ends: Option<Timestamp>,
    /// In a sentence.
    pub message: String,
}

/// What the windows mean for this plan.
pub(super) fn windows(
    ask: &Ask<'_>,
    nodes: &[PlannedNode],
    at_once: usize,
    starts: Option<u64>,
    expected: &Expected,
) -> Option<PlannedWindows> {
    let maintenance = ask.maintenance?;
    let windows = Windows::of(maintenance, ask.need, ask.now);
    let verdict = match ask.strategy {
        Strategy::Recreate => windows.of_all_nodes(),
        Strategy::RollingUpdate => windows.of_any_node(),
    };
    let open = matches!(verdict, Verdict::Open { .. });
    let opens = if open { Some(ask.now) } else { verdict.opens() };
    let foreseen = match (ask.strategy, opens) {
        (_, None) => None,
        (Strategy::Recreate, Some(opens)) => {
            expected.seconds.map(|seconds| Foreseen { count: 1, ends: after(opens, seconds) })
        }
        (Strategy::RollingUpdate, Some(_)) => {
            let each = duration::each(ask, starts).map(|(seconds, _)| seconds);
            each.and_then(|each| foreseen(ask, nodes, at_once, each))
        }
    };
    let how_many = match &foreseen {
        Some(Foreseen { count: 0, .. }) => "; no node has to be taken".to_owned(),
        Some(Foreseen { count: 1, ends }) => format!("; one window is enough, until about {ends}"),
        Some(Foreseen { count, ends }) => format!("; it takes {count} windows, until about {ends}"),
        None if opens.is_none() => String::new(),
        None => "; how many windows it takes is not known: there is no history to tell from".to_owned(),
    };
    Some(PlannedWindows {
        time_zone: maintenance.time_zone.clone(),
        open,
        opens,
        message: format!("{}{how_many}", windows.in_words(verdict)),
        count: foreseen.as_ref().map(|f| f.count),
        ends: foreseen.as_ref().map(|f| f.ends),
    })
}

struct Foreseen {
    count: usize,
    ends: Timestamp,
}

/// Takes the nodes as the rollout would, each for as long as nodes took. Waits for people are not foreseen.
fn foreseen(ask: &Ask<'_>, nodes: &[PlannedNode], at_once: usize, each: u64) -> Option<Foreseen> {
    let calendar = Calendar::of(ask.maintenance?).ok()?;
    let mut left: BTreeMap<Concerned, usize> = BTreeMap::new();
    for node in nodes.iter().filter_map(|n| ask.fleet.node(&n.node)) {
        let concerned = calendar.concerning(|wanted| node.labels.match_all(wanted));
        let count = left.entry(concerned).or_default();
        *count = count.saturating_add(1);
    }
    let need = SignedDuration::from_secs(i64::from(ask.need.unwrap_or_default()));
    let mut slots = vec![ask.now; at_once.min(nodes.len()).max(1)];
    let mut used = BTreeSet::new();
    let mut ends = ask.now;
    // Nodes that the same windows concern are alike. What is open is asked once for each window.
    let mut open: BTreeMap<Concerned, Timestamp> = BTreeMap::new();
    while !left.is_empty() {
        let slot = slots.iter_mut().min()?;
        let mut soonest: Option<(Timestamp, Concerned, Timestamp)> = None;
        for concerned in left.keys() {
            let fits = |until: &&Timestamp| until.duration_since(*slot) >= need && **until > *slot;
            let at = match open.get(concerned).filter(fits) {
                Some(until) => Some((*slot, *concerned, *until)),
                None => {
                    let at = match calendar.verdict(*concerned, *slot, need) {
                        Verdict::Open { .. } => Some(*slot),
                        verdict => verdict.opens(),
                    };
                    at.and_then(|at| Some((at, *concerned, calendar.open_until(*concerned, at)?)))
                }
            };
            soonest = [soonest, at].into_iter().flatten().min();
        }
        let (at, concerned, until) = soonest?;
        open.insert(concerned, until);
        used.insert(until);
        *slot = after(at, each);
        ends = ends.max(*slot);
        if let Some(count) = left.get_mut(&concerned) {
            *count = count.saturating_sub(1);
        }
        left.retain(|_, count| *count > 0);
    }
    Some(Foreseen { count: used.len(), ends })
}

fn after(at: Timestamp, seconds: u64) -> Timestamp {
    let by = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}
