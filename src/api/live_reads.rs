//! Looks at the whole cluster: whoever asks for the same at the same time shares one, and only a few are taken at once.
//!
//! In a cluster of thousands of nodes a look costs tens of megabytes while it lasts. Fifty callers who each took one
//! would take the service's memory away from the upgrades.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::envelope::{ApiError, Reply};
use super::fleet::WholeFleet;
use super::nodes::Nodes;
use crate::plan::budget::Budget;
use crate::plan::fleet::{Fleet, NodeState};

/// Live reads at once.
const AT_ONCE: usize = 2;
/// Callers that may wait for their turn.
const QUEUE: usize = 64;
/// So long a look that has been taken is shown to those who come after it.
const FRESH: Duration = Duration::from_secs(1);
/// How long a turn is waited for.
const PATIENCE: Duration = Duration::from_secs(45);
/// What callers beyond the queue are told to wait.
const RETRY_SECONDS: u32 = 5;

/// What those who look share.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveReads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    turns: Semaphore,
    waiting: AtomicUsize,
    /// For working out and writing an answer. Whoever has looked waits for it without a limit of its own.
    writing: Semaphore,
    /// Counts calls that may have changed something: nobody is shown a look from before a change of their own.
    changes: AtomicU64,
    nodes: Flights<Arc<Nodes>>,
    fleets: Flights<Arc<Seen>>,
    whole: Flights<Arc<WholeFleet>>,
    replies: Flights<Reply>,
    pages: Flights<Arc<str>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            waiting: AtomicUsize::new(0),
            writing: Semaphore::new(AT_ONCE),
            changes: AtomicU64::new(0),
            nodes: Flights::default(),
            fleets: Flights::default(),
            whole: Flights::default(),
            replies: Flights::default(),
            pages: Flights::default(),
        }
    }
}

impl LiveReads {
    /// A turn to look; or 503 when too many wait for theirs.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        let Shared { turns, waiting, .. } = self.0.as_ref();
        if let Ok(turn) = turns.try_acquire() {
            return Ok(turn);
        }
        let counted = Waiting(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            return Err(busy());
        }
        let turn = timeout(PATIENCE, turns.acquire()).await;
        drop(counted);
        turn.ok().and_then(Result::ok).ok_or_else(busy)
    }

    /// A turn to work out and write an answer from what was seen.
    pub(super) async fn turn_to_write(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.0.writing.acquire().await.map_err(|_| busy())
    }

    /// Something may have changed: who comes from now on looks anew.
    pub(super) fn changed(&self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// The components' pods of a gr.
    pub(super) async fn nodes(
        &self,
        gr: &str,
        look: impl Future<Output = Result<Nodes, ApiError>>,
    ) -> Result<Arc<Nodes>, ApiError> {
        let look = async { look.await.map(Arc::new) };
        self.0.nodes.share(self.key("nodes", gr), FRESH, look).await
    }

    /// The fleet as a plan needs it. Shared only while it is looked at: a plan is of the moment.
    pub(super) async fn fleet(
        &self,
        words: &str,
        look: impl Future<Output = Result<Seen, ApiError>>,
    ) -> Result<Arc<Seen>, ApiError> {
        let look = async { look.await.map(Arc::new) };
        self.0.fleets.share(self.key("fleet", words), Duration::ZERO, look).await
    }

    /// All nodes of a gr.
    pub(super) async fn whole_fleet(
        &self,
        words: &str,
        look: impl Future<Output = Result<WholeFleet, ApiError>>,
    ) -> Result<Arc<WholeFleet>, ApiError> {
        let look = async { look.await.map(Arc::new) };
        self.0.whole.share(self.key("whole fleet", words), FRESH, look).await
    }

    /// A whole answer, which is the same to all who ask in these words.
    pub(super) async fn reply(
        &self,
        call: &str,
        words: &str,
        look: impl Future<Output = Result<Reply, ApiError>>,
    ) -> Result<Reply, ApiError> {
        self.0.replies.share(self.key(call, words), FRESH, look).await
    }

    /// The same, shared only while it is being made: it depends on more than the cluster.
    pub(super) async fn reply_of_the_moment(
        &self,
        call: &str,
        words: &str,
        look: impl Future<Output = Result<Reply, ApiError>>,
    ) -> Result<Reply, ApiError> {
        self.0.replies.share(self.key(call, words), Duration::ZERO, look).await
    }

    /// A page for people, shared only while it is being made. `words` say all that is in it.
    pub(super) async fn page(
        &self,
        words: &str,
        look: impl Future<Output = Result<String, ApiError>>,
    ) -> Result<Arc<str>, ApiError> {
        let look = async { look.await.map(Arc::from) };
        self.0.pages.share(self.key("page", words), Duration::ZERO, look).await
    }

    fn key(&self, call: &str, words: &str) -> String {
        format!("{} {call} {words}", self.0.changes.load(Ordering::Relaxed))
    }
}

fn busy() -> ApiError {
    let message = format!(
        "too many callers wait for a look at the whole cluster: at most {QUEUE} may, and each for \
         {PATIENCE:?}; try again later"
    );
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(RETRY_SECONDS)
}

/// A place in the queue, which is free again when its holder goes.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Cell<T> = Arc<OnceCell<Result<T, ApiError>>>;

/// What is under way, and what has just been found, by what was asked.
struct Flights<T>(Arc<Mutex<HashMap<String, Cell<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> fmt::Debug for Flights<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights")
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    async fn share(
        &self,
        key: String,
        fresh: Duration,
        look: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let cell = {
            let mut all = self.lock();
            // Those whose callers have all gone before the end.
            all.retain(|_, cell| cell.initialized() || Arc::strong_count(cell) > 1);
            all.entry(key.clone()).or_default().clone()
        };
        // When the caller who looks goes away, the next of those who wait looks in its place.
        let found = cell.get_or_init(async || {
            let found = look.await;
            self.forget(key, &cell, if found.is_ok() { fresh } else { Duration::ZERO });
            found
        });
        found.await.clone()
    }

    fn forget(&self, key: String, cell: &Cell<T>, after: Duration) {
        let (all, cell) = (Self(self.0.clone()), cell.clone());
        let forget = move || {
            if let Entry::Occupied(entry) = all.lock().entry(key)
                && Arc::ptr_eq(entry.get(), &cell)
            {
                entry.remove();
            }
        };
        if after.is_zero() {
            return forget();
        }
        tokio::spawn(async move {
            sleep(after).await;
            forget();
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Cell<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is seen of the cluster for a plan.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) fleet: Fleet,
    /// `None` when they cannot be read, or when nothing is evicted.
    pub(super) budgets: Option<Vec<Budget>>,
}

impl Seen {
    /// What is seen of a node.
    pub(super) fn node(&self, name: &str) -> Option<&NodeState> {
        self.fleet.node(name)
    }
}
