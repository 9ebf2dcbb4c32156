//! A clock that was set back: what the record says began in the future began now.
//!
//! Otherwise a wait of seconds would last until the clock is where it was, hours later. Another node's clock, when
//! the service moves, is no different.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::record::GcuUpgradeStatus;
use crate::record::rolling::Claim;

/// Clocks are put right by so much all the time: that is waited out.
const TOLERATED: SignedDuration = SignedDuration::from_mins(1);

/// Since when what else is under way is. Every decision begins with reading these, and copies nothing for it; a few
/// write them.
macro_rules! began {
    ($status:ident $(, $mut:tt)?) => {{
        let rolling = (& $($mut)? $status.rolling).into_iter().flat_map(|r| {
            [
                & $($mut)? r.locked_since,
                & $($mut)? r.step_ended_at,
                & $($mut)? r.gated_since,
                & $($mut)? r.gang_waits_since,
                & $($mut)? r.window_closed_since,
                & $($mut)? r.first_claim_at,
                & $($mut)? r.last_done_at,
            ]
        });
        let waits = (& $($mut)? $status.waiting_on).into_iter().map(|w| & $($mut)? w.since);
        (& $($mut)? $status.step_since).into_iter().chain(waits).chain(rolling.flatten())
    }};
}

/// The status with every time of its waits moved to where it would be by the present clock; `None` when that is
/// where they are. What has happened keeps the time that it was told with.
pub(super) fn rebase_timestamps(status: &GcuUpgradeStatus, now: Timestamp) -> Option<GcuUpgradeStatus> {
    let claims = status.rolling.iter().flat_map(|r| &r.active).flat_map(|claim| began_in_work(claim));
    let latest = claims.chain(began!(status).copied()).max()?;
    let by = latest.duration_since(now);
    if by <= TOLERATED {
        return None;
    }
    let mut status = status.clone();
    let move_back = |at: &mut Timestamp| *at = at.saturating_sub(by).unwrap_or(now);
    for claim in status.rolling.iter_mut().flat_map(|r| &mut r.active).map(Arc::make_mut) {
        move_back(&mut claim.deadline);
        move_back(&mut claim.since);
        claim.soaking_since.iter_mut().for_each(move_back);
        claim.trouble.iter_mut().for_each(|t| move_back(&mut t.at));
    }
    status.deadline.iter_mut().for_each(move_back);
    began!(status, mut).for_each(move_back);
    Some(status)
}

/// Since when a node is in work, and what is under way on it.
fn began_in_work(claim: &Claim) -> impl Iterator<Item = Timestamp> {
    let trouble = claim.trouble.as_ref().map(|t| t.at);
    [Some(claim.since), claim.soaking_since, trouble].into_iter().flatten()
}
