//! How fast a receiver may be told, and how long is waited after it could not be.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// First and longest pause after a message that did not arrive.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// A token bucket: so many messages at once, and from then on one each `every`.
#[derive(Debug)]
pub struct Pace {
    burst: u32,
    every: Duration,
    /// When the bucket is full again.
    full_at: Instant,
}

impl Pace {
    /// In any minute that comes to `burst` and as many as fit into the minute.
    pub fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, full_at: Instant::now() }
    }

    /// Waits until another message may be sent, and counts it.
    pub async fn take(&mut self) {
        let now = Instant::now();
        let allowed = self.every.saturating_mul(self.burst.saturating_sub(1));
        let at = self.full_at.checked_sub(allowed).unwrap_or(now).max(now);
        self.full_at = self.full_at.max(at) + self.every;
        sleep_until(at).await;
    }
}

/// Pauses that grow.
#[derive(Debug, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// How long to wait this time.
    pub fn pause(&mut self) -> Duration {
        let (first, longest) = BACKOFF;
        let pause = first.saturating_mul(1 << self.0.min(16)).min(longest);
        self.0 = self.0.saturating_add(1);
        pause
    }

    /// How long to wait when the receiver has said a time: at least that, as long as it is not too long.
    pub fn at_least(&mut self, said: Option<Duration>) -> Duration {
        self.pause().max(said.unwrap_or_default()).min(BACKOFF.1)
    }
}
