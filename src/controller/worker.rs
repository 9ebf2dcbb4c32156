//! One worker for each active record: observe, decide, then act *or* record, until the record has ended.

mod guard;
mod look;
mod order;
mod suppressed;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::act::{self, Outcome};
use super::{Context, events, history, sweep};
use crate::cluster;
use crate::observe::fleet as observe_fleet;
use crate::plan::basis::{Basis, basis, dropped};
use crate::plan::fleet::{CHANGED, NOT_SEEN_YET};
use crate::plan::memo::Memo;
use crate::plan::rolling::node::is_ours;
use crate::plan::{Decision, FleetAction, Guard, decide};
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Strategy};
use crate::store::{Sight, Views, concerns_nodes};
use crate::telemetry::trouble::Trouble;
use crate::telemetry::v1;
use look::Look;
use order::Order;
use suppressed::Suppressed;

/// Nothing polls; this only bounds the harm of a wake-up that was lost.
const SAFETY_NET: Duration = Duration::from_secs(300);
/// How long a watch may usually lag behind.
const WATCH_LAG: Duration = Duration::from_secs(1);
/// A call on a node or pod that was refused, by a disruption budget for example, is tried again after this.
const REFUSAL_BACKOFF: Duration = Duration::from_secs(5);
/// Calls under way at the same time.
const AT_ONCE: usize = 16;
/// First and longest pause after a call that failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Carries one record through to its end.
pub(super) struct Worker {
    context: Context,
    record: GcuUpgrade,
    updates: watch::Receiver<Arc<GcuUpgrade>>,
    wake: Arc<Notify>,
    views: Arc<Views>,
    /// The last refusal, and when the call may be tried again.
    refused: Option<(String, Instant)>,
    /// The same for calls on nodes, pods and DaemonSets, by what they were about. Calls that were done are here
    /// too, until the watches have had time to show it.
    suppressed: Suppressed,
    /// What was seen of the fleet, and what is known from that.
    sight: Sight,
    memo: Memo,
    /// What the last trial of the webhook came to, and for how long that is believed.
    guard: Option<(Guard, Instant)>,
    /// How many pods would have to leave each node, for the order of nodes.
    order: Order,
    eviction: Option<&'static str>,
    /// Nodes that this worker has released.
    released: BTreeSet<String>,
    /// How long the last decision on views took.
    thought: Duration,
    /// When the last decision was taken, by both clocks.
    looked: Option<(Timestamp, Instant)>,
    /// See [`Snapshot::undisturbed_since`].
    undisturbed_since: Option<Timestamp>,
    /// Calls that failed since the last write that succeeded.
    failures: u32,
    /// What stands in the way of calls, for the log.
    trouble: Trouble,
}

/// What a tick came to.
enum LoopOutcome {
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
        context: Context,
        updates: watch::Receiver<Arc<GcuUpgrade>>,
        wake: Arc<Notify>,
    ) -> Self {
        let record = updates.borrow().as_ref().clone();
        let views = context.stores.watch(&record, wake.clone());
        Self {
            context,
            record,
            updates,
            wake,
            views,
            refused: None,
            suppressed: Suppressed::default(),
            sight: Sight::default(),
            memo: Memo::default(),
            guard: None,
            order: Order::default(),
            eviction: None,
            released: BTreeSet::new(),
            thought: Duration::ZERO,
            looked: None,
            undisturbed_since: None,
            failures: 0,
            trouble: Trouble::default(),
        }
    }

    /// Runs until the record has ended, and tells in which version; or until the service stops. Never fails: what
    /// goes wrong is retried, said and waited out.
    pub(super) async fn run(mut self) -> u64 {
        info!(record = %self.record.name_any(), step = ?self.record.known_status().step, "taking up upgrade");
        let stop = self.context.stop.clone();
        while !stop.is_cancelled() {
            match self.tick().await {
                Ok(LoopOutcome::Again) => {}
                Ok(LoopOutcome::Until(when)) => {
                    stop.run_until_cancelled(self.sleep_until(when)).await.unwrap_or_default()
                }
                Ok(LoopOutcome::Over) => {
                    let _ = stop.run_until_cancelled(self.clean_up()).await;
                    break;
                }
                Err(error) => stop.run_until_cancelled(self.pause_after(&error)).await.unwrap_or_default(),
            }
        }
        version(&self.record)
    }

    /// What follows an end.
    async fn clean_up(&self) {
        history::prune(&self.context.client, &self.context.stores.records, &self.record.spec.gr).await;
        if self.record.spec.strategy == Strategy::RollingUpdate {
            sweep::after_the_end(&self.context.client).await;
        }
    }

    /// One tick. Views are asked first: only when they call for something is the cluster read, and what is
    /// done is decided on that reading.
    async fn tick(&mut self) -> Result<LoopOutcome, kube::Error> {
        self.take_newer_record();
        let gr = self.views.gr();
        self.views.follow(&self.record, gr.as_ref());
        if self.counts_tenants()
            && let Err(error) = self.order.count(&self.context.client, &self.record).await
        {
            return Err(self.say_that_it_cannot_look(error).await);
        }
        let mut called = false;
        match self.decide_on_views() {
            Some(decision) => {
                let unread = self.memo.take_unread();
                if !unread.is_empty() {
                    return self.read_gangs(unread).await;
                }
                if basis(&self.record, &decision) == Basis::Views {
                    return self.carry_out(decision).await;
                }
                called = true;
            }
            // Of thousands of nodes and pods nothing is known yet: the end of the first list wakes.
            None if concerns_nodes(&self.record) && gr.is_some() => return self.wait_for_views().await,
            None => {}
        }
        let seen = match self.look().await {
            Ok(Look::Seen(seen)) => *seen,
            Ok(Look::Incomplete) => return self.wait_for_views().await,
            Ok(Look::Gone) => return Ok(self.gone().await),
            Err(error) => {
                self.undisturbed_since = None;
                return Err(self.say_that_it_cannot_look(error).await);
            }
        };
        self.views.follow(&self.record, seen.gr.as_ref());
        let mut seen = seen;
        let now = self.complete(&mut seen);
        let decision = decide(&self.record, &seen, now);
        match self.carry_out(decision).await? {
            // The views are ahead of what was read: nothing need wake when that has caught up.
            LoopOutcome::Until(when) if called => {
                let soon = self.context.clock.precisely().saturating_add(self.next_backoff()).ok();
                Ok(LoopOutcome::Until(when.into_iter().chain(soon).min()))
            }
            outcome => Ok(outcome),
        }
    }

    async fn carry_out(&mut self, decision: Decision) -> Result<LoopOutcome, kube::Error> {
        match decision {
            Decision::Record(status) => {
                if !self.are_released(&dropped(&self.record, &status)).await? {
                    return Ok(self.look_again_soon().await);
                }
                let outcome = self.write(*status).await?;
                let rolling = self.record.status.as_ref().and_then(|s| s.rolling.as_ref());
                self.released
                    .retain(|node| rolling.is_some_and(|r| r.active.iter().any(|c| c.node == *node)));
                Ok(outcome)
            }
            Decision::Act(action) => {
                let outcome =
                    act::act(&self.context.client, &self.context.stores, &self.record, &action).await;
                Ok(self.acted(&action, outcome).await)
            }
            Decision::Guard(action) => {
                let outcome = self.guard(&action).await;
                Ok(self.acted(&action, outcome).await)
            }
            Decision::ActAll(actions) => self.act_all(&actions).await,
            Decision::Wait { status, until } => self.wait(*status, until).await,
            Decision::Finished => Ok(LoopOutcome::Over),
        }
    }

    /// Whether none of these nodes carries our claim now.
    async fn are_released(&self, dropped: &[String]) -> Result<bool, kube::Error> {
        let nodes: Api<Node> = Api::all(self.context.client.clone());
        for node in dropped.iter().filter(|node| !self.released.contains(*node)) {
            let node = cluster::get(&nodes, node).await?;
            if node.is_some_and(|node| is_ours(&self.record, &observe_fleet::parse_node(&node))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes calls that do not concern each other side by side.
    async fn act_all(&mut self, actions: &[FleetAction]) -> Result<LoopOutcome, kube::Error> {
        if self.eviction.is_none() && actions.iter().any(|a| matches!(a, FleetAction::Evict { .. })) {
            self.eviction = Some(act::rolling::eviction_version(&self.context.client).await?);
        }
        let eviction = self.eviction.unwrap_or_default();
        let calls = actions.iter().cloned().map(|action| {
            let client = self.context.client.clone();
            async move { act::act_on_fleet(&client, eviction, &action).await }
        });
        let outcomes: Vec<Outcome> = stream::iter(calls).buffered(AT_ONCE).collect().await;
        // When nothing gets through, what fails next waits longer.
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Done)) {
            self.failures = 0;
        }
        for (action, outcome) in actions.iter().zip(outcomes) {
            debug!(record = %self.record.name_any(), ?action, ?outcome, "acted");
            if let (Outcome::Done, FleetAction::ReleaseNode { node, .. }) = (&outcome, action) {
                self.released.insert(node.clone());
            }
            // What is remembered by a UID is done once and for all, and what is remembered by a version can only
            // be done to that version: to ask again before a watch has shown something newer is of no use, and
            // a watch that is refused may take minutes to. An eviction can meet a change of its budget; and a
            // strategy may be put back by others.
            let (text, rest) = match (outcome, action) {
                (Outcome::Done, FleetAction::Hold { .. }) => (NOT_SEEN_YET.to_owned(), WATCH_LAG),
                (Outcome::Done, _) => (NOT_SEEN_YET.to_owned(), SAFETY_NET),
                // A new version of a node in which nothing has changed wakes nobody.
                (
                    Outcome::LookAgain,
                    FleetAction::Hold { .. }
                    | FleetAction::Evict { .. }
                    | FleetAction::Cordon { .. }
                    | FleetAction::ReleaseNode { .. },
                ) => (CHANGED.to_owned(), WATCH_LAG),
                (Outcome::LookAgain, FleetAction::DeletePod { .. }) => (CHANGED.to_owned(), SAFETY_NET),
                (Outcome::Refused(text) | Outcome::Unavailable(text), _) => (text, REFUSAL_BACKOFF),
            };
            self.suppressed.add(action, text, rest, &mut self.memo);
        }
        Ok(LoopOutcome::Again)
    }

    /// Gives the watch that still shows the record time to notice.
    async fn gone(&self) -> LoopOutcome {
        sleep(WATCH_LAG).await;
        LoopOutcome::Over
    }

    async fn write(&mut self, status: GcuUpgradeStatus) -> Result<LoopOutcome, kube::Error> {
        let noted = {
            let (known, new) = (&self.record.known_status().timeline, &status.timeline);
            new.len() != known.len() || new.last() != known.last()
        };
        let shared = status.rolling.as_ref().map(|rolling| rolling.active.clone());
        let mut written = act::write_status(&self.context.client, &self.record, status).await?;
        self.context.stores.records.at_least(&written);
        // The answer has claims of its own, which are these.
        if let (Some(mine), Some(answered)) =
            (shared, written.status.as_mut().and_then(|s| s.rolling.as_mut()))
            && mine == answered.active
        {
            answered.active = mine;
        }
        let before = std::mem::replace(&mut self.record, written);
        self.failures = 0;
        let (old, status) = (before.known_status(), self.record.known_status());
        self.context.metrics.written(self.record.spec.strategy, &old, &status);
        self.trouble.over();
        v1::written(&self.record, &old, &status);
        if noted {
            info!(record = %self.record.name_any(), phase = ?status.phase, step = ?status.step, "{}", status.message);
            events::publish(&self.context.client, &self.record, self.context.clock.now()).await;
        }
        Ok(LoopOutcome::Again)
    }

    /// What follows a call that is made alone.
    async fn acted(&mut self, action: &(dyn fmt::Debug + Sync), outcome: Outcome) -> LoopOutcome {
        debug!(record = %self.record.name_any(), ?action, ?outcome, "acted");
        match outcome {
            Outcome::Done => {
                self.failures = 0;
                LoopOutcome::Again
            }
            Outcome::LookAgain => self.look_again_soon().await,
            Outcome::Unavailable(text) | Outcome::Refused(text) => {
                let wait = self.next_backoff().max(Duration::from_secs(5));
                self.say_trouble(&format!("the call was not done, trying again: {text}"));
                self.refused = Some((text, Instant::now() + wait));
                self.undisturbed_since = None;
                LoopOutcome::Until(Some(self.context.clock.now()))
            }
        }
    }

    /// Says what is waited for, where that is news, and waits.
    async fn wait(
        &mut self,
        status: GcuUpgradeStatus,
        until: Option<Timestamp>,
    ) -> Result<LoopOutcome, kube::Error> {
        let known = self.record.known_status();
        let heard = status.observed_generation == known.observed_generation;
        if status.waiting_on != known.waiting_on || status.phase != known.phase || !heard {
            return self.write(status).await;
        }
        let retry_at = self.refused.iter().map(|(_, at)| *at).chain(self.suppressed.first()).min();
        let left = retry_at.map(|at| at.saturating_duration_since(Instant::now()));
        let retry_at = left.and_then(|left| self.context.clock.precisely().saturating_add(left).ok());
        Ok(LoopOutcome::Until(until.into_iter().chain(retry_at).min()))
    }

    /// Takes over a version that somebody else wrote.
    fn take_newer_record(&mut self) {
        let newer = self.updates.borrow_and_update().clone();
        if version(&newer) > version(&self.record) && newer.uid() == self.record.uid() {
            self.record = newer.as_ref().clone();
        }
    }

    async fn sleep_until(&mut self, when: Option<Timestamp>) {
        let left = when
            .map(|w| w.duration_since(self.context.clock.precisely()))
            .map(|d| d.unsigned_abs().min(SAFETY_NET));
        let left = if when.is_some_and(|w| w <= self.context.clock.precisely()) {
            Duration::ZERO
        } else {
            left.unwrap_or(SAFETY_NET)
        };
        if timeout(left, self.wake.notified()).await.is_ok() {
            sleep(self.debounce()).await;
        }
    }

    /// A call met a cluster that differs from what was looked at: rare, and bounded in pace when it is not.
    async fn look_again_soon(&mut self) -> LoopOutcome {
        let pause = self.next_backoff();
        sleep(pause).await;
        LoopOutcome::Until(Some(self.context.clock.now()))
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
