//! What an entry of the timeline tells beside a step: the words with which it is written, and how they are read.

use super::standstill::Standstill;
use crate::record::{Step, TimelineEntry};

const ROLLING_BACK: &str = "rolling back: ";
const GIVING_UP: &str = "giving up: ";
/// What is said of windows that are open, and of such as are not minded any more.
pub(super) const WINDOW_OPEN: &str = "a maintenance window is open until ";
pub(super) const WINDOWS_OVERRIDDEN: &str = "maintenance windows are overridden: ";
pub(super) const WINDOWS_NOT_MINDED: &str = "maintenance windows are no longer minded";
/// What is said while none is open, and of one that ends too soon.
pub(super) const NO_WINDOW: &str = "no maintenance window is open: ";
pub(super) const WINDOW_ENDS: &str = "the maintenance window ends at ";

/// What an entry of the timeline tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The upgrade stands still from here on.
    StandsStill(Standstill),
    /// Nodes may be taken again.
    WindowOpened,
    /// No further node may be taken.
    WindowClosed,
    /// The previous version is put back.
    RollingBack,
}

impl News {
    /// What this entry tells; `None` where it tells of a step, or of an end.
    pub fn of(entry: &TimelineEntry) -> Option<Self> {
        if let Some(standstill) = Standstill::from(entry) {
            return Some(Self::StandsStill(standstill));
        }
        let begins = |words: &[&str]| words.iter().any(|words| entry.message.starts_with(words));
        // What is somebody else's now is given up in the step Rolling, and nothing is put back.
        let puts_back = entry.step != Step::Rolling && begins(&[GIVING_UP]);
        if begins(&[ROLLING_BACK]) || puts_back {
            Some(Self::RollingBack)
        } else if begins(&[WINDOW_OPEN, WINDOWS_OVERRIDDEN, WINDOWS_NOT_MINDED]) {
            Some(Self::WindowOpened)
        } else if begins(&[NO_WINDOW, WINDOW_ENDS]) {
            Some(Self::WindowClosed)
        } else {
            None
        }
    }

    /// Why, without the words that say what: what the entry of a hold or of a way back goes on with.
    pub fn why(message: &str) -> &str {
        let words = [super::standstill::HELD, ROLLING_BACK, GIVING_UP];
        words.iter().find_map(|words| message.strip_prefix(words)).unwrap_or(message)
    }
}

pub(super) fn rolling_back(cause: &str) -> String {
    format!("{ROLLING_BACK}{cause}")
}

pub(super) fn giving_up(why: &str) -> String {
    format!("{GIVING_UP}{why}")
}
