//! One sink: what it has not been told yet, a message at a time, until the receiver has taken it.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::config::Sink;
use super::event::{Event, EventKind};
use super::feed::Known;
use super::ledger::Ledger;
use super::pace::Backoff;
use super::post::Post;
use super::sink::{Failure, Message, Now};
use crate::clock::Clock;
use crate::metrics::{Metrics, Notified};
use crate::telemetry::trouble::Trouble;

/// What happens at about the same time goes into one message.
const TOGETHER: Duration = Duration::from_secs(1);
/// Nodes that fail for one reason do so over a while.
const NODES_TOGETHER: Duration = Duration::from_secs(10);
/// An event that could not be told for so long is dropped.
pub(super) const GIVE_UP: SignedDuration = SignedDuration::from_hours(24);
/// A receiver that refuses a message, and not just now, refuses it for good.
const REFUSED: Duration = Duration::from_secs(600);

/// Tells one sink.
pub(super) struct Sender {
    pub(super) sink: Sink,
    pub(super) external_url: Option<String>,
    pub(super) post: Post,
    pub(super) ledger: Arc<Ledger>,
    pub(super) known: watch::Receiver<Known>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Sender {
    /// Runs until dropped.
    pub(super) async fn run(mut self) {
        let (mut pace, mut backoff, mut trouble) = (self.sink.pace(), Backoff::default(), Trouble::default());
        let mut refused: Option<Instant> = None;
        // What is pending from before need not be waited for.
        let mut is_news = false;
        loop {
            let pending = self.pending().await;
            if pending.is_empty() {
                if self.known.changed().await.is_err() {
                    return;
                }
                is_news = true;
                continue;
            }
            if std::mem::take(&mut is_news) {
                let only_nodes = pending.iter().all(|event| event.kind == EventKind::NodeFailed);
                sleep(if only_nodes { NODES_TOGETHER } else { TOGETHER }).await;
            }
            pace.take().await;
            let pending = self.pending().await;
            let (wanted, unwanted): (Vec<_>, Vec<_>) =
                pending.into_iter().partition(|event| self.sink.wants(event.kind));
            if wanted.is_empty() {
                self.told(&unwanted).await;
                continue;
            }
            let (events, outcome) = self.tell(&wanted).await;
            let Err(failure) = outcome else {
                if let Some(times) = trouble.over() {
                    info!(sink = %self.sink.name, "notifications arrive again, after {times} failures");
                }
                (backoff, refused) = (Backoff::default(), None);
                self.told(&[unwanted, events].concat()).await;
                continue;
            };
            self.metrics.notified(&self.sink.name, Notified::Failed, 1);
            if let Some(line) = trouble.again(&failure.message) {
                warn!(sink = %self.sink.name, "a notification did not arrive, trying again: {line}");
            }
            let since = failure.refused.then(|| *refused.get_or_insert_with(Instant::now));
            refused = since.filter(|since| since.elapsed() < REFUSED);
            let for_good = since.is_some() && refused.is_none();
            self.drop_old(events, for_good).await;
            sleep(backoff.at_least(failure.pause)).await;
        }
    }

    /// What this sink has not been told yet, the oldest first.
    async fn pending(&mut self) -> Vec<Arc<Event>> {
        let all = self.known.borrow_and_update().events();
        self.ledger.untold(&self.sink.name, all).await
    }

    /// Sends the next message; which events are in it, and whether it has arrived.
    async fn tell(&self, pending: &[Arc<Event>]) -> (Vec<Arc<Event>>, Result<(), Failure>) {
        let now = Now { at: self.clock.precisely(), external_url: self.external_url.as_deref() };
        let Message { events, request } = match self.sink.message(pending, now) {
            Ok(message) => message,
            Err(error) => {
                return (pending.to_vec(), Err(Failure::passing(self.sink.scrub(&error.to_string()))));
            }
        };
        let Some(request) = request else { return (events, Ok(())) };
        let outcome = deliver(&self.sink, &self.post, request).await.map(|_| ());
        if outcome.is_ok() {
            debug!(sink = %self.sink.name, events = events.len(), "notified");
            self.metrics.notified(&self.sink.name, Notified::Sent, events.len());
        }
        (events, outcome)
    }

    /// Gives up on what has been tried for long enough.
    async fn drop_old(&self, mut events: Vec<Arc<Event>>, all: bool) {
        let now = self.clock.now();
        events.retain(|event| all || now.duration_since(event.at) >= GIVE_UP);
        if events.is_empty() {
            return;
        }
        self.metrics.notified(&self.sink.name, Notified::Dropped, events.len());
        for event in &events {
            warn!(sink = %self.sink.name, id = %event.id, kind = event.kind.word(), "dropped a notification");
        }
        self.told(&events).await;
    }

    async fn told(&self, events: &[Arc<Event>]) {
        if events.is_empty() {
            return;
        }
        // Not held during the write: whoever brings news would wait for it.
        let known = self.known.borrow().clone();
        self.ledger.told(&self.sink.name, events, &known).await;
    }
}

/// Sends one request; what the receiver has answered, once it says that the message has arrived.
///
/// # Errors
/// Why it has not arrived.
pub(super) async fn deliver(
    sink: &Sink,
    post: &Post,
    request: http::Request<bytes::Bytes>,
) -> Result<super::sink::Answer, Failure> {
    let answer = post(request).await.map_err(|why| Failure::passing(sink.scrub(&why)))?;
    sink.judge(&answer).map(|()| answer)
}
