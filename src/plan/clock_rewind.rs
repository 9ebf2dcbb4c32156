//! A clock that was set back: what the record says began in the future began now.
//!
//! Otherwise a wait of seconds would last until the clock is where it was, hours later. Another node's clock, when
//! the service moves, is no different.

use jiff::{SignedDuration, Timestamp};

use crate::record::GcuUpgradeStatus;

/// Clocks are put right by so much all the time: that is waited out.
const TOLERATED: SignedDuration = SignedDuration::from_mins(1);

/// The status with every time of its waits moved to where it would be by the present clock; `None` when that is
/// where they are. What has happened keeps the time that it was told with.
pub(super) fn rebase_timestamps(status: &GcuUpgradeStatus, now: Timestamp) -> Option<GcuUpgradeStatus> {
    let mut status = status.clone();
    let latest = began(&mut status).into_iter().map(|at| *at).max()?;
    let by = latest.duration_since(now);
    if by <= TOLERATED {
        return None;
    }
    let ends = status.rolling.iter_mut().flat_map(|r| &mut r.active).map(|c| &mut c.deadline);
    for at in ends.chain(&mut status.deadline) {
        *at = at.saturating_sub(by).unwrap_or(now);
    }
    for at in began(&mut status) {
        *at = at.saturating_sub(by).unwrap_or(now);
    }
    Some(status)
}

/// Since when what is under way is.
fn began(status: &mut GcuUpgradeStatus) -> Vec<&mut Timestamp> {
    let mut all: Vec<&mut Timestamp> = Vec::new();
    all.extend(&mut status.step_since);
    all.extend(status.waiting_on.iter_mut().map(|w| &mut w.since));
    if let Some(rolling) = &mut status.rolling {
        all.extend(&mut rolling.locked_since);
        all.extend(&mut rolling.step_ended_at);
        all.extend(&mut rolling.gated_since);
        all.extend(&mut rolling.window_closed_since);
        all.extend(&mut rolling.first_claim_at);
        all.extend(&mut rolling.last_done_at);
        for claim in &mut rolling.active {
            all.push(&mut claim.since);
            all.extend(&mut claim.soaking_since);
            all.extend(claim.trouble.iter_mut().map(|t| &mut t.at));
        }
    }
    all
}
