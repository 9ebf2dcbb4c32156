//! How long a node takes, or for a Recreate the whole of it, by this gr's own history.

use crate::record::maintenance::Fit;
use crate::record::rolling::DoneNode;
use crate::record::{Deadlines, GcuUpgrade, Phase, Strategy};

/// So many of the last are looked at.
const KEPT: usize = 30;

/// How long the last of them took, newest first, in seconds: nodes of a RollingUpdate, or whole Recreates. `records`
/// are the gr's own, newest first. What did not succeed tells of its trouble, not of how long it takes.
pub fn took(records: &[GcuUpgrade], strategy: Strategy) -> Vec<u32> {
    let ended = records.iter().filter(|r| r.spec.strategy == strategy && r.phase() == Phase::Succeeded);
    let all = ended.flat_map(|record| match strategy {
        Strategy::RollingUpdate => nodes(record),
        Strategy::Recreate => whole(record).into_iter().collect(),
    });
    all.take(KEPT).collect()
}

/// The seconds that the next thing should take that this upgrade does. `None`: it is not asked, or not known.
pub fn need(record: &GcuUpgrade) -> Option<u32> {
    let fit = record.spec.maintenance.as_ref()?.fit;
    let mut all = record.spec.took_before_seconds.clone();
    if record.spec.strategy == Strategy::RollingUpdate {
        all.extend(nodes(record));
    }
    need_of(fit, record.spec.strategy, all, &record.spec.deadlines)
}

/// The same before there is a record.
pub fn need_of(fit: Fit, strategy: Strategy, took: Vec<u32>, deadlines: &Deadlines) -> Option<u32> {
    if fit == Fit::None {
        return None;
    }
    let known = percentile(fit, took);
    match strategy {
        Strategy::RollingUpdate => known,
        // The whole stack is down meanwhile: of the first it is known that it is held after its deadlines.
        Strategy::Recreate => known.or_else(|| {
            let Deadlines { gone_seconds, create_seconds, running_seconds, .. } = deadlines;
            Some(gone_seconds.saturating_add(*create_seconds).saturating_add(*running_seconds))
        }),
    }
}

/// So many of all were as fast or faster.
fn percentile(fit: Fit, mut all: Vec<u32>) -> Option<u32> {
    all.sort_unstable();
    let hundredths = match fit {
        Fit::P50 => 50,
        Fit::P90 => 90,
        Fit::None => return None,
    };
    let place = all.len().saturating_mul(hundredths).div_ceil(100);
    all.get(place.checked_sub(1)?).copied()
}

fn nodes(record: &GcuUpgrade) -> Vec<u32> {
    let recent = record.status.as_ref().and_then(|s| s.rolling.as_ref()).map(|r| r.recent.as_slice());
    let took = |node: &DoneNode| u32::try_from(node.at.duration_since(node.since).as_secs()).ok();
    recent.unwrap_or_default().iter().rev().filter_map(took).collect()
}

fn whole(record: &GcuUpgrade) -> Option<u32> {
    let status = record.status.as_ref()?;
    u32::try_from(status.finished_at?.duration_since(status.started_at?).as_secs()).ok()
}
