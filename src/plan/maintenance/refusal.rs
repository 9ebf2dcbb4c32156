//! Windows that can never be met: said before anything is written.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::calendar::Calendar;
use super::lasting;
use crate::record::Strategy;
use crate::record::maintenance::Maintenance;
use crate::record::rolling::Labels;

/// What opens later than this is as good as never.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 366);

/// Checks that an upgrade can be made in these windows. `need`: how many seconds the next thing takes.
///
/// # Errors
/// Why it cannot, by field.
pub fn refuse(
    maintenance: &Maintenance,
    strategy: Strategy,
    need: Option<u32>,
    now: Timestamp,
) -> Result<(), String> {
    let calendar = Calendar::of(maintenance)?;
    if strategy == Strategy::Recreate && maintenance.windows.iter().all(|w| !w.node_selector.is_empty()) {
        return Err(
            "windows: a Recreate takes all nodes down, and every window has a nodeSelector: add one \
             without, or use strategy RollingUpdate"
                .to_owned(),
        );
    }
    let horizon = now.saturating_add(HORIZON).unwrap_or(Timestamp::MAX);
    let need = SignedDuration::from_secs(i64::from(need.unwrap_or_default()));
    for window in &maintenance.windows {
        let name = &window.name;
        // A Recreate has no use for the windows of some nodes.
        if strategy == Strategy::Recreate && !window.node_selector.is_empty() {
            continue;
        }
        let its_nodes = |wanted: &Labels| wanted.iter().all(|(k, v)| window.node_selector.get(k) == Some(v));
        let concerned = calendar.concerning(its_nodes);
        let opens = |need| calendar.opens(concerned, now, need).filter(|at| *at <= horizon);
        if opens(SignedDuration::ZERO).is_none() {
            return Err(format!(
                "windows: {name} does not open within a year, because of exclusions: end them earlier"
            ));
        }
        if opens(need).is_none() {
            let what = match strategy {
                Strategy::Recreate => "this Recreate",
                Strategy::RollingUpdate => "a node",
            };
            return Err(format!(
                "windows: {name} lasts {}, and {what} takes {} by this gr's history: use a longer window, or fit None",
                lasting(SignedDuration::from_secs(i64::from(window.duration_seconds))),
                lasting(need)
            ));
        }
    }
    Ok(())
}

/// The nodes, by their labels, that no window is for.
pub fn uncovered<'n, L>(
    maintenance: &Maintenance,
    nodes: impl Iterator<Item = (&'n str, L)>,
    matches: impl Fn(&L, &BTreeMap<String, String>) -> bool,
) -> Vec<&'n str> {
    let covered = |labels: &L| maintenance.windows.iter().any(|w| matches(labels, &w.node_selector));
    nodes.filter(|(_, labels)| !covered(labels)).map(|(name, _)| name).collect()
}
