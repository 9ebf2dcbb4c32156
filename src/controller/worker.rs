//! One worker for each active record: observe, decide, then act *or* record, until the record has ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::act::{self, Outcome};
use super::observe::{self, Scope, Views};
use super::{events, history};
use crate::clock::Clock;
use crate::plan::{Action, Decision, Snapshot, decide};
use crate::record::{GcuUpgrade, GcuUpgradeStatus};

/// Lets a burst of watch events be looked at once.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// Nothing polls; this only bounds the harm of a wake-up that was lost.
const SAFETY_NET: Duration = Duration::from_secs(300);
/// How long a watch may usually lag behind.
const NOTICE: Duration = Duration::from_secs(1);
/// First and longest pause after a call that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Carries one record through to its end.
pub(super) struct Worker {
    client: Client,
    clock: Clock,
    record: GcuUpgrade,
    updates: watch::Receiver<Arc<GcuUpgrade>>,
    wake: Arc<Notify>,
    views: Views,
    /// The last refusal, and when the call may be tried again.
    refused: Option<(String, Timestamp)>,
    /// Calls that failed since the last write that succeeded.
    failures: u32,
}

/// What a turn came to.
enum Turn {
    /// Something was done: look again at once.
    Again,
    /// Nothing to do before this moment, unless something changes.
    Until(Option<Timestamp>),
    /// The record has ended, or is gone.
    Over,
}

impl Worker {
    /// A worker for the record; `updates` brings its newer versions and `wake` is notified with each.
    pub(super) fn new(
        client: Client,
        clock: Clock,
        updates: watch::Receiver<Arc<GcuUpgrade>>,
        wake: Arc<Notify>,
    ) -> Self {
        let record = updates.borrow().as_ref().clone();
        let views = Views::start(&client, &record, wake.clone());
        Self { client, clock, record, updates, wake, views, refused: None, failures: 0 }
    }

    /// Runs until the record has ended, and tells in which version. Never fails: what goes wrong is retried,
    /// said and waited out.
    pub(super) async fn run(mut self) -> u64 {
        info!(record = %self.record.name_any(), step = ?self.record.status_or_default().step, "taking up upgrade");
        loop {
            match self.turn().await {
                Ok(Turn::Again) => {}
                Ok(Turn::Until(when)) => self.sleep_until(when).await,
                Ok(Turn::Over) => break,
                Err(error) => self.pause_after(&error).await,
            }
        }
        history::prune(&self.client, &self.record.spec.gr).await;
        version(&self.record)
    }

    /// One turn. Views are asked first: only when they call for something is the cluster read, and what is
    /// done is decided on that reading.
    async fn turn(&mut self) -> Result<Turn, kube::Error> {
        self.take_newer_record();
        self.views.follow(Scope::of(&self.record, self.views.gr().as_ref()));
        if let Some(seen) = self.views.snapshot()
            && let Decision::Wait { status, until } = self.decide(seen)
        {
            return self.wait(*status, until).await;
        }
        let api: Api<GcuUpgrade> = Api::all(self.client.clone());
        let Some(record) = api.get_opt(&self.record.name_any()).await? else {
            return Ok(self.gone().await);
        };
        if record.uid() != self.record.uid() {
            return Ok(self.gone().await);
        }
        self.record = record;
        let seen = observe::live(&self.client, &self.record, &self.views).await?;
        self.views.follow(Scope::of(&self.record, seen.gr.as_ref()));
        match self.decide(seen) {
            Decision::Record(status) => self.write(*status).await,
            Decision::Act(action) => Ok(self.act(&action).await),
            Decision::Wait { status, until } => self.wait(*status, until).await,
            Decision::Finished => Ok(Turn::Over),
        }
    }

    /// Gives the watch that still shows the record time to notice.
    async fn gone(&self) -> Turn {
        sleep(NOTICE).await;
        Turn::Over
    }

    fn decide(&mut self, mut seen: Snapshot) -> Decision {
        let now = self.clock.now();
        self.refused.take_if(|(_, retry_at)| *retry_at <= now);
        seen.refused = self.refused.as_ref().map(|(text, _)| text.clone());
        decide(&self.record, &seen, now)
    }

    async fn write(&mut self, status: GcuUpgradeStatus) -> Result<Turn, kube::Error> {
        let noted = status.timeline.len() != self.record.status_or_default().timeline.len()
            || status.timeline.last() != self.record.status_or_default().timeline.last();
        self.record = act::write_status(&self.client, &self.record, status).await?;
        self.failures = 0;
        let status = self.record.status_or_default();
        if noted {
            info!(record = %self.record.name_any(), phase = ?status.phase, step = ?status.step, "{}", status.message);
            events::publish(&self.client, &self.record, self.clock.now()).await;
        }
        Ok(Turn::Again)
    }

    async fn act(&mut self, action: &Action) -> Turn {
        let outcome = act::act(&self.client, &self.record, action).await;
        debug!(record = %self.record.name_any(), ?action, ?outcome, "acted");
        match outcome {
            Outcome::Done => {
                self.failures = 0;
                Turn::Again
            }
            Outcome::LookAgain => self.look_again_soon().await,
            Outcome::Unavailable(text) | Outcome::Refused(text) => {
                let wait = self.next_backoff().max(Duration::from_secs(5));
                warn!(record = %self.record.name_any(), "the call was not done, trying again: {text}");
                let retry_at = self.clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX);
                self.refused = Some((text, retry_at));
                Turn::Until(Some(self.clock.now()))
            }
        }
    }

    /// Says what is waited for, where that is news, and waits.
    async fn wait(
        &mut self,
        status: GcuUpgradeStatus,
        until: Option<Timestamp>,
    ) -> Result<Turn, kube::Error> {
        let known = self.record.status_or_default();
        if status.waiting_on != known.waiting_on || status.phase != known.phase {
            return self.write(status).await;
        }
        let retry_at = self.refused.as_ref().map(|(_, at)| *at);
        Ok(Turn::Until(until.into_iter().chain(retry_at).min()))
    }

    /// Takes over a version that somebody else wrote.
    fn take_newer_record(&mut self) {
        let newer = self.updates.borrow_and_update().clone();
        if version(&newer) > version(&self.record) && newer.uid() == self.record.uid() {
            self.record = newer.as_ref().clone();
        }
    }

    async fn sleep_until(&mut self, when: Option<Timestamp>) {
        let left = when.map(|w| w.duration_since(self.clock.now())).map(|d| d.unsigned_abs().min(SAFETY_NET));
        let left = if when.is_some_and(|w| w <= self.clock.now()) {
            Duration::ZERO
        } else {
            left.unwrap_or(SAFETY_NET)
        };
        if timeout(left, self.wake.notified()).await.is_ok() {
            sleep(DEBOUNCE).await;
        }
    }

    /// A call met a cluster that differs from what was looked at: rare, and bounded in pace when it is not.
    async fn look_again_soon(&mut self) -> Turn {
        let pause = self.next_backoff();
        sleep(pause).await;
        Turn::Until(Some(self.clock.now()))
    }

    async fn pause_after(&mut self, error: &kube::Error) {
        match Outcome::of(error) {
            Outcome::Done | Outcome::LookAgain => {
                let pause = self.next_backoff();
                sleep(pause).await;
            }
            Outcome::Refused(text) | Outcome::Unavailable(text) => self.pause(&text).await,
        }
    }

    async fn pause(&mut self, why: &str) {
        let pause = self.next_backoff();
        warn!(record = %self.record.name_any(), ?pause, "the API server is not available: {why}");
        sleep(pause).await;
    }

    fn next_backoff(&mut self) -> Duration {
        let (first, longest) = BACKOFF;
        let pause = first.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        pause.min(longest)
    }
}

/// Versions of one object only ever grow.
pub(super) fn version(record: &GcuUpgrade) -> u64 {
    record.resource_version().and_then(|v| v.parse().ok()).unwrap_or_default()
}
