//! The places for connections. When all are taken, an idle connection gives way: one that has never asked for anything
//! before one that has, and of these the one that has been idle longest. A client that only holds connections open
//! keeps out nobody who asks for something.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// All places.
#[derive(Clone)]
pub(super) struct Slots(Arc<All>);

struct All {
    limit: usize,
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    open: usize,
    next: u64,
    /// The connections on which nothing is being answered, the one that gives way next first.
    idle: BTreeMap<Rank, CancellationToken>,
}

/// Whether the connection has ever asked for anything, and the ordinal with which it became idle.
type Rank = (bool, u64);

impl Slots {
    pub(super) fn new(limit: usize, metrics: Metrics) -> Self {
        Self(Arc::new(All { limit, state: Mutex::default(), metrics }))
    }

    /// A place for a connection; `None` when all are at work.
    pub(super) fn take(&self) -> Option<ConnectionSlot> {
        let mut state = self.0.lock();
        if state.open >= self.0.limit {
            let (_, longest_idle) = state.idle.pop_first()?;
            longest_idle.cancel();
        }
        state.open += 1;
        self.0.metrics.connections(state.open);
        let needed = CancellationToken::new();
        let rank = state.now_idle(false, needed.clone());
        let inner = Seat { all: self.0.clone(), needed, rank: Mutex::new(Some(rank)), worked: false.into() };
        Some(ConnectionSlot(Arc::new(inner)))
    }
}

impl All {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now_idle(&mut self, worked: bool, needed: CancellationToken) -> Rank {
        let rank = (worked, self.next);
        self.next += 1;
        self.idle.insert(rank, needed);
        rank
    }
}

/// One connection's place, free again when it is dropped.
pub(super) struct ConnectionSlot(Arc<Seat>);

struct Seat {
    all: Arc<All>,
    needed: CancellationToken,
    /// Its key among the idle, while it is one of them.
    rank: Mutex<Option<Rank>>,
    worked: AtomicBool,
}

impl ConnectionSlot {
    /// Returns when the connection has to give way.
    pub(super) async fn is_needed(&self) {
        self.0.needed.cancelled().await;
    }

    /// Not idle until what is returned is dropped.
    pub(super) fn at_work(&self) -> AtWork {
        self.0.worked.store(true, Ordering::Relaxed);
        let mut state = self.0.all.lock();
        if let Some(rank) = self.0.rank().take() {
            state.idle.remove(&rank);
        }
        AtWork(self.0.clone())
    }

    /// Whether it ever was.
    pub(super) fn was_at_work(&self) -> bool {
        self.0.worked.load(Ordering::Relaxed)
    }
}

impl Seat {
    fn rank(&self) -> MutexGuard<'_, Option<Rank>> {
        self.rank.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.all.lock();
        if let Some(rank) = self.rank().take() {
            state.idle.remove(&rank);
        }
        state.open = state.open.saturating_sub(1);
        self.all.metrics.connections(state.open);
    }
}

/// A request is being answered.
pub(super) struct AtWork(Arc<Seat>);

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut state = self.0.all.lock();
        // The connection itself may be over: then this is the last one to know of it.
        if Arc::strong_count(&self.0) > 1 {
            *self.0.rank() = Some(state.now_idle(true, self.0.needed.clone()));
        }
    }
}
