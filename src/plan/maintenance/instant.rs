//! From a local time to the instant that it is. Twice a year clocks are changed in most zones: a local time then does
//! not exist, or exists twice.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// Which of two instants of the same local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twice {
    First,
    Second,
}

/// The instant of a local time: of one that clocks pass over, the first after; of one that they show twice, the one
/// asked for. `None` beyond the end of time.
pub(super) fn instant(zone: &TimeZone, local: DateTime, twice: Twice) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, after } => {
            let offset = if twice == Twice::First { before } else { after };
            offset.to_timestamp(local).ok()
        }
        AmbiguousOffset::Gap { before, after } => first_after(zone, local, before, after),
    }
}

/// The instant at which clocks are put forward over a local time.
fn first_after(zone: &TimeZone, local: DateTime, before: Offset, after: Offset) -> Option<Timestamp> {
    // By the new offset the local time lies before the change, by the old one not.
    let mut earlier = after.to_timestamp(local).ok()?.as_second();
    let mut later = before.to_timestamp(local).ok()?.as_second();
    while later.saturating_sub(earlier) > 1 {
        let middle = earlier.midpoint(later);
        let at = Timestamp::from_second(middle).ok()?;
        if zone.to_offset(at) == before { earlier = middle } else { later = middle }
    }
    Timestamp::from_second(later).ok()
}
