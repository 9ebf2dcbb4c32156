//! The only source of "now".
//!
//! Everything that is stored or compared (deadlines, timelines, creation times of the sandbox) asks a
//! [`Clock`], never the system. In tests the clock follows tokio's paused time, so that an upgrade of
//! hours is a test of milliseconds.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time. Cheap to copy; handed down from the composition root.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// `None`: the system's clock. `Some`: this wall time at this instant of tokio's clock.
    anchor: Option<(Timestamp, Instant)>,
    /// Milliseconds by which it is set wrong.
    off: Option<&'static AtomicI64>,
}

impl Clock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Self { anchor: None, off: None }
    }

    /// A clock that starts at `start` and advances with tokio's time, paused or not.
    pub fn following_tokio(start: Timestamp) -> Self {
        Self { anchor: Some((start, Instant::now())), off: None }
    }

    /// The same clock, but wrong by so many milliseconds, which may change while it runs.
    pub fn off_by(self, milliseconds: &'static AtomicI64) -> Self {
        Self { off: Some(milliseconds), ..self }
    }

    /// The present second: what is stored and shown is in whole seconds, as Kubernetes' own times are.
    pub fn now(&self) -> Timestamp {
        let now = self.precisely();
        // Of a moment before 1970 too it is the second that has begun.
        Timestamp::from_second(now.as_millisecond().div_euclid(1000)).unwrap_or(now)
    }

    /// The present millisecond, for what is waited for and never stored.
    pub fn precisely(&self) -> Timestamp {
        let now = match self.anchor {
            None => system_now(),
            Some((start, since)) => {
                let passed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
                start.saturating_add(passed).unwrap_or(Timestamp::MAX)
            }
        };
        let off = self.off.map_or(0, |off| off.load(Ordering::Relaxed));
        Timestamp::from_millisecond(now.as_millisecond().saturating_add(off)).unwrap_or(now)
    }
}

#[expect(clippy::disallowed_methods, reason = "this module is the one place that reads the system's clock")]
fn system_now() -> Timestamp {
    Timestamp::now()
}
