//! Looking at the cluster, and what to say when that cannot be done.

use std::sync::PoisonError;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::{LoopOutcome, Worker};
use crate::cluster;
use crate::controller::act::Outcome;
use crate::controller::observe;
use crate::plan::fleet::Fleet;
use crate::plan::{Decision, Snapshot, cannot_look, decide, decide_with};
use crate::record::{GcuUpgrade, Strategy};

/// Lets a burst of watch events be looked at once: so long, and so much longer for each node. What is decided in a
/// large cluster is not in a hurry.
const DEBOUNCE: Duration = Duration::from_millis(10);
const DEBOUNCE_FOR_EACH_NODE: Duration = Duration::from_micros(10);
/// Decisions that take long, those of a Recreate over tens of thousands of pods, take a twentieth of the time.
const REST_FOR_THOUGHT: u32 = 19;
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(2);
/// By so much the clock may be put right without a word.
const JUMP: SignedDuration = SignedDuration::from_secs(10);
/// So many failures in a row are not worth a word in the record: an API server that restarts makes some.
const FAILURES_SAID: u32 = 3;

/// What was seen.
pub(super) enum Look {
    /// Everything.
    Seen(Box<Snapshot>),
    /// The views that are needed do not have their first lists yet.
    Incomplete,
    /// The record is gone.
    Gone,
}

impl Worker {
    /// Reads the record and what it concerns.
    pub(super) async fn look(&mut self) -> Result<Look, kube::Error> {
        let api: Api<GcuUpgrade> = Api::all(self.context.client.clone());
        match cluster::get(&api, &self.record.name_any()).await? {
            Some(record) if record.uid() == self.record.uid() => self.record = record,
            _ => return Ok(Look::Gone),
        }
        let seen = observe::look(&self.context.client, &self.record, &self.views).await?;
        let Some(mut seen) = seen else { return Ok(Look::Incomplete) };
        if self.record.spec.strategy == Strategy::RollingUpdate {
            seen.guard = self.look_at_guard().await?;
        }
        self.undisturbed_since.get_or_insert(self.context.clock.now());
        Ok(Look::Seen(Box::new(seen)))
    }

    /// Decides on what watches have shown: what has not changed since is not worked out again. `None` before all of
    /// them have listed once.
    pub(super) fn decide_on_views(&mut self) -> Option<Decision> {
        let begun = Instant::now();
        let mut seen = self.views.snapshot_of(&self.record, &mut self.sight, &mut self.memo)?;
        seen.guard = self.known_guard();
        let now = self.complete(&mut seen);
        let decision = decide_with(&self.record, &seen, now, &mut self.memo);
        debug_assert_eq!(decision, decide(&self.record, &seen, now), "what is kept changes no decision");
        // Without what is added to: it would be copied for that.
        let (refusals, gangs) = Default::default();
        self.sight.fleet = Fleet { refusals, gangs, ..seen.fleet };
        self.thought = begun.elapsed();
        Some(decision)
    }

    /// How long events are gathered before the next decision.
    pub(super) fn debounce(&self) -> Duration {
        let nodes = u32::try_from(self.views.nodes()).unwrap_or(u32::MAX);
        let gathered = DEBOUNCE.saturating_add(DEBOUNCE_FOR_EACH_NODE.saturating_mul(nodes));
        gathered.max(self.thought.saturating_mul(REST_FOR_THOUGHT).min(LONGEST_DEBOUNCE))
    }

    /// Adds what only the worker knows; answers the time.
    pub(super) fn complete(&mut self, seen: &mut Snapshot) -> Timestamp {
        let (now, instant) = (self.context.clock.now(), Instant::now());
        self.notice_a_jump(now, instant);
        self.refused.take_if(|(_, retry_at)| *retry_at <= instant);
        seen.refused = self.refused.as_ref().map(|(text, _)| text.clone());
        self.suppressed.expire(instant, &mut self.memo);
        seen.fleet.refusals = self.suppressed.why();
        seen.fleet.own_node.clone_from(&self.context.own_node);
        self.order.complete(&mut seen.fleet);
        seen.undisturbed_since = self.undisturbed_since;
        seen.not_released = self.context.not_released.lock().unwrap_or_else(PoisonError::into_inner).clone();
        now
    }

    /// Nothing is decided before the views have their first lists; why one cannot be had is said like any read that
    /// fails.
    pub(super) async fn wait_for_views(&mut self) -> Result<LoopOutcome, kube::Error> {
        let Some(trouble) = self.views.trouble() else { return Ok(LoopOutcome::Until(None)) };
        self.undisturbed_since = None;
        let error = kube::Error::Service(trouble.into());
        Err(self.say_that_it_cannot_look(error).await)
    }

    /// A read that keeps failing is said in the record, which can be written all the same where it is only that
    /// a right was taken away or an API is not served; and it is held like any other wait.
    /// Hands the error on.
    pub(super) async fn say_that_it_cannot_look(&mut self, error: kube::Error) -> kube::Error {
        let (Outcome::Refused(why) | Outcome::Unavailable(why)) = Outcome::of(&error) else { return error };
        if self.failures < FAILURES_SAID {
            return error;
        }
        let status = match cannot_look(&self.record, &why, self.context.clock.now()) {
            Decision::Record(status) => *status,
            Decision::Wait { status, .. } if *status != *self.record.known_status() => *status,
            _ => return error,
        };
        let failures = self.failures;
        if let Err(unwritten) = self.write(status).await {
            let why = cluster::error_text(&unwritten);
            debug!(record = %self.record.name_any(), "what is waited for was not recorded: {why}");
        }
        self.failures = failures;
        error
    }

    /// A clock that is put forward takes none of the operator's time.
    pub(super) fn notice_a_jump(&mut self, now: Timestamp, instant: Instant) {
        let (then, since) = self.looked.replace((now, instant)).unwrap_or((now, instant));
        let passed = SignedDuration::try_from(instant.duration_since(since)).unwrap_or_default();
        if now.duration_since(then).saturating_sub(passed).abs() > JUMP {
            warn!(record = %self.record.name_any(), "the clock was set from about {then} to {now}");
            self.undisturbed_since = Some(now);
        }
    }

    /// Waits before the next look after one that failed.
    pub(super) async fn pause_after(&mut self, error: &kube::Error) {
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
        self.say_trouble(&format!("the API server is not available: {why}"));
        sleep(pause).await;
    }

    /// For the log.
    pub(super) fn say_trouble(&mut self, text: &str) {
        if let Some(line) = self.trouble.again(text) {
            warn!(record = %self.record.name_any(), "{line}");
        }
    }
}
