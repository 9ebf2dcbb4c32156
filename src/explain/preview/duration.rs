//! How long it should take, from what it took in this cluster before.

use super::{Ask, Expected, Steps};
pub(super) use crate::plan::maintenance::in_words;
use crate::record::{GcuUpgrade, Phase, Strategy};

/// How long an upgrade of so many nodes should take.
pub(super) fn expected(
    ask: &Ask<'_>,
    nodes: usize,
    at_once: usize,
    steps: Option<&Steps>,
    starts: Option<u64>,
) -> Expected {
    match ask.strategy {
        Strategy::Recreate => recreate(ask, starts),
        Strategy::RollingUpdate => rolling(ask, nodes, at_once, steps, starts),
    }
}

fn ended<'a>(ask: &Ask<'a>, strategy: Strategy) -> impl Iterator<Item = &'a GcuUpgrade> {
    let succeeded = move |r: &&GcuUpgrade| r.spec.strategy == strategy && r.phase() == Phase::Succeeded;
    ask.records.iter().filter(succeeded)
}

fn unknown(strategy: Strategy) -> Expected {
    Expected { seconds: None, basis: format!("unknown: no completed {strategy:?} to estimate from") }
}

fn recreate(ask: &Ask<'_>, starts: Option<u64>) -> Expected {
    let took = ended(ask, Strategy::Recreate).find_map(|record| {
        let status = record.status.as_ref()?;
        let took = status.finished_at?.duration_since(status.started_at?);
        Some((record, u64::try_from(took.as_secs()).ok()?))
    });
    match took {
        Some((record, seconds)) => Expected {
            seconds: Some(seconds),
            basis: format!("{} took so long", record.metadata.name.as_deref().unwrap_or_default()),
        },
        None => match starts {
            Some(seconds) => Expected {
                seconds: Some(seconds),
                basis: "a guess, as no Recreate is on record: its pods took so long to start, one component \
                        after the other"
                    .to_owned(),
            },
            None => unknown(Strategy::Recreate),
        },
    }
}

fn rolling(
    ask: &Ask<'_>,
    nodes: usize,
    at_once: usize,
    steps: Option<&Steps>,
    starts: Option<u64>,
) -> Expected {
    let Some((each, basis)) = each(ask, starts) else { return unknown(Strategy::RollingUpdate) };
    let rounds = u64::try_from(nodes.div_ceil(at_once.max(1))).unwrap_or(u64::MAX);
    let gaps = steps.filter(|s| s.between.is_some()).map_or(0, |s| s.count.saturating_sub(1));
    let pauses =
        u64::try_from(gaps).unwrap_or(u64::MAX).saturating_mul(u64::from(ask.options.pause_between_seconds));
    let soak = steps.and_then(|s| s.soak_seconds);
    let promoted =
        |s: &Steps| (s.canary.is_some() && soak.is_none()) || s.between.as_deref() == Some("promote");
    let waits = steps.is_some_and(promoted);
    let people = if waits { "; without the waits for promote" } else { "" };
    Expected {
        seconds: Some(
            each.saturating_mul(rounds)
                .saturating_add(pauses)
                .saturating_add(u64::from(soak.unwrap_or_default())),
        ),
        basis: format!("{basis}{people}"),
    }
}

/// How many seconds a node should take, and where that comes from.
pub(super) fn each(ask: &Ask<'_>, starts: Option<u64>) -> Option<(u64, String)> {
    let before = ended(ask, Strategy::RollingUpdate).find_map(|record| {
        let recent = &record.status.as_ref()?.rolling.as_ref()?.recent;
        let took = recent.iter().filter_map(|n| u64::try_from(n.at.duration_since(n.since).as_secs()).ok());
        Some((record, median(took.collect())?))
    });
    let soak = u64::from(ask.options.min_ready_seconds);
    match (before, starts) {
        (Some((record, each)), _) => {
            let name = record.metadata.name.as_deref().unwrap_or_default();
            Some((each, format!("a node took {} in {name}", in_words(each))))
        }
        (None, Some(starts)) => {
            let began = in_words(starts);
            let basis = format!(
                "a guess, as no RollingUpdate is on record: the pods that a node restarts took {began} to start"
            );
            Some((starts.saturating_add(soak), basis))
        }
        (None, None) => None,
    }
}

pub(super) fn median(mut all: Vec<u64>) -> Option<u64> {
    let middle = all.len() / 2;
    (!all.is_empty()).then(|| *all.select_nth_unstable(middle).1)
}
