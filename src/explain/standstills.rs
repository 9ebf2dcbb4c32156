//! When an upgrade stood still, from when to when and why.

use jiff::Timestamp;

use crate::plan::standstill::Standstill;
use crate::record::{GcuUpgradeStatus, WaitReason};

/// A stretch of time in which an upgrade stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Why.
    pub cause: Standstill,
    /// Since when.
    pub from: Timestamp,
    /// Until when; `None` while it still does.
    pub to: Option<Timestamp>,
}

/// Every one that the record tells of, in order. Of the pauses between steps, which begin and end by themselves, it
/// tells the one that is under way.
pub fn standstills(status: &GcuUpgradeStatus) -> Vec<Block> {
    let mut all: Vec<Block> = Vec::new();
    for entry in &status.timeline {
        let cause = Standstill::from(entry);
        let open = all.last_mut().filter(|block| block.to.is_none());
        match open {
            // Held for another reason is held all the same.
            Some(block) if Some(block.cause) == cause => continue,
            Some(block) => block.to = Some(entry.at),
            None => {}
        }
        all.extend(cause.map(|cause| Block { cause, from: entry.at, to: None }));
    }
    let waits = status.waiting_on.as_ref().filter(|w| w.reason == WaitReason::PauseBetween);
    let since = waits.map(|w| status.rolling.as_ref().and_then(|r| r.step_ended_at).unwrap_or(w.since));
    all.extend(since.map(|from| Block { cause: Standstill::BetweenSteps, from, to: None }));
    all
}
