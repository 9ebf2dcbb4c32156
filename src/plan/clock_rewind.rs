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

/// The status with every time of its waits moved to where it would be by the present clock; `None` when that is
/// where they are. What has happened keeps the time that it was told with.
pub(super) fn rebase_timestamps(status: &GcuUpgradeStatus, now: Timestamp) -> Option<GcuUpgradeStatus> {
    let mut status = status.clone();
    let claims = status.rolling.iter().flat_map(|r| &r.active).flat_map(|claim| began_in_work(claim));
    let latest = claims.max().into_iter().chain(began(&mut status).into_iter().map(|at| *at)).max()?;
    let by = latest.duration_since(now);
    if by <= TOLERATED {
        return None;
    }
    let move_back = |at: &mut Timestamp| *at = at.saturating_sub(by).unwrap_or(now);
    for claim in status.rolling.iter_mut().flat_map(|r| &mut r.active).map(Arc::make_mut) {
        move_back(&mut claim.deadline);
        move_back(&mut claim.since);
        claim.soaking_since.iter_mut().for_each(move_back);
        claim.trouble.iter_mut().for_each(|t| move_back(&mut t.at));
    }
    status.deadline.iter_mut().for_each(move_back);
    began(&mut status).into_iter().for_each(move_back);
    Some(status)
}

/// Since when a node is in work, and what is under way on it. Claims are only read where the clock is right: every
/// decision begins with this.
fn began_in_work(claim: &Claim) -> impl Iterator<Item = Timestamp> {
    let trouble = claim.trouble.as_ref().map(|t| t.at);
    [Some(claim.since), claim.soaking_since, trouble].into_iter().flatten()
}

/// Since when what else is under way is.
fn began(status: &mut GcuUpgradeStatus) -> Vec<&mut Timestamp> {
    let mut all: Vec<&mut Timestamp> = Vec::new();
    all.extend(&mut status.step_since);
    all.extend(status.waiting_on.iter_mut().map(|w| &mut w.since));
    if let Some(rolling) = &mut status.rolling {
        all.extend(&mut rolling.locked_since);
        all.extend(&mut rolling.step_ended_at);
        all.extend(&mut rolling.gated_since);
        all.extend(&mut rolling.gang_waits_since);
        all.extend(&mut rolling.window_closed_since);
        all.extend(&mut rolling.first_claim_at);
        all.extend(&mut rolling.last_done_at);
    }
    all
}
