//! Maintenance windows: whether one is open, when the next opens, and whether what is to be done ends inside.
//!
//! The core is a calendar ([`calendar`]) of one time zone: pure, as all of the plan is. Beside it stand what an
//! upgrade's own history says of how long a node takes ([`usual`]), what a request is refused for ([`refusal`]), and
//! how an upgrade waits until it may begin.

mod begin;
pub mod calendar;
mod instant;
pub mod refusal;
pub mod usual;

use std::cell::RefCell;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::Resource;

use self::calendar::{Calendar, Concerned};
use super::fleet::NodeLabels;
use super::news::{NO_WINDOW, WINDOW_ENDS, WINDOW_OPEN};
use crate::record::maintenance::{AtEnd, Maintenance};
use crate::record::{GcuUpgrade, Goal, Intent, Strategy};

/// Whether a node may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Open {
        /// When its window ends.
        until: Timestamp,
    },
    /// No window is open for it.
    Outside {
        /// When the next one opens in which it fits; `None`: none does.
        opens: Option<Timestamp>,
    },
    /// A window is open, and it should not be done before that ends.
    WouldOutlast {
        /// When the window ends.
        until: Timestamp,
        /// When the next one opens in which it fits; `None`: none does.
        opens: Option<Timestamp>,
    },
}

impl Verdict {
    /// When there is something new to say.
    pub fn opens(self) -> Option<Timestamp> {
        match self {
            Self::Open { .. } => None,
            Self::Outside { opens } | Self::WouldOutlast { opens, .. } => opens,
        }
    }

    /// When the window ends that is open.
    pub fn until(self) -> Option<Timestamp> {
        match self {
            Self::Open { until } | Self::WouldOutlast { until, .. } => Some(until),
            Self::Outside { .. } => None,
        }
    }
}

/// The windows of one upgrade, at one moment.
pub struct Windows {
    /// Why there is no telling, if so: then no window is open.
    calendar: Result<Calendar, String>,
    now: Timestamp,
    need: SignedDuration,
    at_end: AtEnd,
    known: RefCell<BTreeMap<Concerned, Verdict>>,
}

impl Windows {
    /// What is asked for in `maintenance`, for something that takes so many seconds.
    pub fn of(maintenance: &Maintenance, need: Option<u32>, now: Timestamp) -> Self {
        Self {
            calendar: Calendar::of(maintenance),
            now,
            need: SignedDuration::from_secs(i64::from(need.unwrap_or_default())),
            at_end: maintenance.at_end,
            known: RefCell::default(),
        }
    }

    /// Whether a node with these labels may be taken.
    pub fn of_node(&self, labels: &NodeLabels) -> Verdict {
        self.verdict(|calendar| calendar.concerning(|wanted| labels.match_all(wanted)))
    }

    /// Whether something may be begun that concerns all nodes.
    pub fn of_all_nodes(&self) -> Verdict {
        self.verdict(|calendar| calendar.concerning(BTreeMap::is_empty))
    }

    /// Whether a window is open for any node.
    pub fn of_any_node(&self) -> Verdict {
        self.verdict(|calendar| calendar.concerning(|_| true))
    }

    /// When a node that is claimed and not swapped yet is given back, if that is asked for.
    pub fn returns(&self, labels: &NodeLabels) -> Option<Timestamp> {
        (self.at_end == AtEnd::Return).then(|| self.of_node(labels).until().unwrap_or(self.now))
    }

    /// Why nothing may be begun, with the moment at which that ends.
    pub fn in_words(&self, verdict: Verdict) -> String {
        let calendar = match &self.calendar {
            Ok(calendar) => calendar,
            Err(wrong) => return format!("{NO_WINDOW}{wrong}"),
        };
        let next = match verdict.opens() {
            Some(at) => format!("the next opens at {}", calendar.in_words(at)),
            None if self.need.is_zero() => "none opens any more".to_owned(),
            None => format!("none is long enough for {}", lasting(self.need)),
        };
        match verdict {
            Verdict::Open { until } => {
                format!("{WINDOW_OPEN}{}", calendar.in_words(until))
            }
            Verdict::Outside { .. } => format!("{NO_WINDOW}{next}"),
            Verdict::WouldOutlast { until, .. } => format!(
                "{WINDOW_ENDS}{}, and what is next takes {}: {next}",
                calendar.in_words(until),
                lasting(self.need)
            ),
        }
    }

    fn verdict(&self, concerned: impl Fn(&Calendar) -> Concerned) -> Verdict {
        let Ok(calendar) = &self.calendar else { return Verdict::Outside { opens: None } };
        let concerned = concerned(calendar);
        if let Some(known) = self.known.borrow().get(&concerned) {
            return *known;
        }
        let verdict = calendar.verdict(concerned, self.now, self.need);
        self.known.borrow_mut().insert(concerned, verdict);
        verdict
    }
}

/// The windows that an upgrade minds now; `None` where it minds none: none were asked for, they are overridden, or it
/// is on its way back or to its end.
pub fn windows(record: &GcuUpgrade, now: Timestamp) -> Option<Windows> {
    let maintenance = record.spec.maintenance.as_ref()?;
    let ends = matches!(record.spec.intent, Intent::Rollback | Intent::Close)
        || record.meta().deletion_timestamp.is_some()
        || record.status.as_ref().is_some_and(|s| {
            s.goal == Goal::Previous || s.rolling.as_ref().is_some_and(|r| r.giving_up.is_some())
        });
    if ends || record.spec.override_window.is_some() {
        return None;
    }
    Some(Windows::of(maintenance, usual::need(record), now))
}

/// Whether the next thing that an upgrade does may be done now. Before its first step it looks at all windows; a
/// Recreate takes all nodes down.
pub fn next_of(record: &GcuUpgrade, windows: &Windows) -> Verdict {
    match record.spec.strategy {
        Strategy::Recreate => windows.of_all_nodes(),
        Strategy::RollingUpdate => windows.of_any_node(),
    }
}

/// `1h 5m`, `3m 20s`, `45s`.
pub fn in_words(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, _) => format!("{rest}s"),
        (0, _, 0) => format!("{minutes}m"),
        (0, _, _) => format!("{minutes}m {rest}s"),
        (_, 0, _) => format!("{hours}h"),
        _ => format!("{hours}h {minutes}m"),
    }
}

fn lasting(time: SignedDuration) -> String {
    in_words(time.unsigned_abs().as_secs())
}
