//! The calendar of maintenance windows in one time zone.

use std::sync::LazyLock;

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::Verdict;
use super::instant::{Twice, instant};
use crate::record::maintenance::{Maintenance, Window};
use crate::record::rolling::Labels;

/// The zones that are in the program: what a window means does not differ from machine to machine.
#[cfg(feature = "zones")]
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
/// Those of the machine: what is asked for is read with them, and decided with those of the service.
#[cfg(not(feature = "zones"))]
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::from_env);

/// Windows that follow each other without a gap are followed so far.
const FORESEEN: SignedDuration = SignedDuration::from_hours(24 * 31);
/// Every window opens once in such a time, whatever clocks do.
const WEEK: SignedDuration = SignedDuration::from_hours(24 * 9);

/// The windows that concern a node, as bits by their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Concerned(u32);

/// Windows and exclusions, as instants can be asked about.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    windows: Vec<Window>,
    /// From and to.
    exclusions: Vec<(Timestamp, Timestamp)>,
}

impl Calendar {
    /// The calendar of these windows.
    ///
    /// # Errors
    /// The zone is not known, or an exclusion ends before it begins.
    pub fn of(maintenance: &Maintenance) -> Result<Self, String> {
        let name = &maintenance.time_zone;
        let zone = ZONES.get(name).map_err(|_| {
            format!(
                "timeZone: {name:?} is not the IANA name of a time zone that this version knows, such as \
                 Asia/Shanghai or UTC"
            )
        })?;
        let mut exclusions = Vec::new();
        for exclusion in &maintenance.exclusions {
            if exclusion.to.date_time() <= exclusion.from.date_time() {
                return Err(format!(
                    "exclusions: {} ends at {}, which is not after {}",
                    exclusion.name, exclusion.to, exclusion.from
                ));
            }
            // Of two instants those that make the exclusion longer.
            let from = instant(&zone, exclusion.from.date_time(), Twice::First);
            let to = instant(&zone, exclusion.to.date_time(), Twice::Second);
            let (Some(from), Some(to)) = (from, to) else { continue };
            // Clocks may pass over the whole of it.
            if from < to {
                exclusions.push((from, to));
            }
        }
        exclusions.sort_unstable();
        Ok(Self { zone, windows: maintenance.windows.clone(), exclusions })
    }

    /// The windows whose labels are so.
    pub fn concerning(&self, selected: impl Fn(&Labels) -> bool) -> Concerned {
        let bits = self.windows.iter().enumerate().filter(|(_, w)| selected(&w.node_selector));
        Concerned(bits.fold(0, |set, (place, _)| set | 1_u32.checked_shl(bit(place)).unwrap_or_default()))
    }

    /// Whether something may be begun that takes so long.
    pub fn verdict(&self, concerned: Concerned, now: Timestamp, need: SignedDuration) -> Verdict {
        match self.open_until(concerned, now) {
            Some(until) if fits(now, until, need) => Verdict::Open { until },
            Some(until) => Verdict::WouldOutlast { until, opens: self.opens(concerned, until, need) },
            None => Verdict::Outside { opens: self.opens(concerned, now, need) },
        }
    }

    /// When what is open now ends: windows that overlap or follow each other are one. `None`: nothing is open.
    pub fn open_until(&self, concerned: Concerned, now: Timestamp) -> Option<Timestamp> {
        if self.excluded_until(now).is_some() {
            return None;
        }
        let excluded = self.exclusions.iter().map(|(from, _)| *from).find(|from| *from > now);
        let horizon = later(now, FORESEEN);
        let mut end = self.window_until(concerned, now)?;
        while end < horizon && excluded.is_none_or(|from| end < from) {
            match self.window_until(concerned, end) {
                Some(further) => end = further,
                None => break,
            }
        }
        Some(excluded.map_or(end, |from| end.min(from)))
    }

    /// The first instant from `from` on at which something that takes so long may be begun. `None`: there is none.
    pub fn opens(&self, concerned: Concerned, from: Timestamp, need: SignedDuration) -> Option<Timestamp> {
        let settled = self.exclusions.iter().map(|(_, to)| *to).max().map_or(from, |to| to.max(from));
        // What does not fit in two weeks without exclusions never does.
        let horizon = later(settled, WEEK.saturating_add(WEEK));
        let mut at = self.first_open(concerned, from)?;
        while at <= horizon {
            let until = self.open_until(concerned, at)?;
            if fits(at, until, need) {
                return Some(at);
            }
            at = self.first_open(concerned, until)?;
        }
        None
    }

    /// An instant for people and for programs.
    pub fn in_words(&self, at: Timestamp) -> String {
        let local = at.to_zoned(self.zone.clone());
        let name = self.zone.iana_name().unwrap_or_default();
        format!("{} {name} ({at})", local.strftime("%Y-%m-%d %H:%M"))
    }

    /// The first instant from `from` on at which a window is open.
    fn first_open(&self, concerned: Concerned, from: Timestamp) -> Option<Timestamp> {
        let mut at = from;
        loop {
            while let Some(end) = self.excluded_until(at) {
                at = end;
            }
            if self.window_until(concerned, at).is_some() {
                return Some(at);
            }
            // A start in an exclusion is not open: the next turn leaves it, and each is left once.
            at = self.next_start(concerned, at)?;
        }
    }

    /// When the exclusion ends that lasts longest of those that there are now.
    fn excluded_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.exclusions.iter().filter(|(from, to)| *from <= now && now < *to).map(|(_, to)| *to).max()
    }

    /// When the window ends that lasts longest of those that have begun.
    fn window_until(&self, concerned: Concerned, now: Timestamp) -> Option<Timestamp> {
        let ends = self.chosen(concerned).filter_map(|window| {
            let lasts = SignedDuration::from_secs(i64::from(window.duration_seconds));
            let earliest = now.checked_sub(lasts).ok()?;
            let begun = self.starts(window, earliest, now);
            begun.map(|start| later(start, lasts)).filter(|end| now < *end).max()
        });
        ends.max()
    }

    /// When the first window begins after now.
    fn next_start(&self, concerned: Concerned, now: Timestamp) -> Option<Timestamp> {
        let soon = later(now, WEEK);
        let starts =
            self.chosen(concerned).filter_map(|w| self.starts(w, now, soon).find(|start| *start > now));
        starts.min()
    }

    fn chosen(&self, concerned: Concerned) -> impl Iterator<Item = &Window> {
        let is_chosen = move |place: usize| concerned.0.checked_shr(bit(place)).unwrap_or_default() & 1 == 1;
        self.windows.iter().enumerate().filter(move |(place, _)| is_chosen(*place)).map(|(_, window)| window)
    }

    /// When a window begins, from `from` to `to` inclusively, in order.
    fn starts(&self, window: &Window, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
        // A day more on either side: clocks are put forward by up to one.
        let first = self.zone.to_datetime(from).date().saturating_sub(1.day());
        let last = self.zone.to_datetime(to).date().saturating_add(1.day());
        first
            .series(1.day())
            .take_while(move |date| *date <= last)
            .filter(|date| window.days.iter().any(|day| day.weekday() == date.weekday()))
            .filter_map(|date| {
                instant(&self.zone, DateTime::from_parts(date, window.start.time()), Twice::First)
            })
            .filter(move |start| from <= *start && *start <= to)
    }
}

fn bit(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn fits(now: Timestamp, until: Timestamp, need: SignedDuration) -> bool {
    until.duration_since(now) >= need
}
