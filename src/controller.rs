//! The controller: one worker for each active record, one active record for each gr.
//!
//! A record's life is written down in the record alone. A worker that dies with its process is replaced by
//! one that reads the record and looks at the cluster; nothing else is remembered anywhere.

mod act;
mod events;
mod history;
mod holds;
mod observe;
mod sweep;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::{Client, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::clock::Clock;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::record::{FINALIZER, GcuUpgrade};
use crate::store::{StoredRecord, Stores};
use worker::Worker;

/// Before a worker that ended unexpectedly is replaced.
const RESPAWN_PAUSE: Duration = Duration::from_secs(1);

struct Running {
    uid: Option<String>,
    updates: watch::Sender<Arc<GcuUpgrade>>,
    wake: Arc<Notify>,
}

/// What the controller works with.
#[derive(Clone)]
pub struct Context {
    /// The cluster.
    pub client: Client,
    /// What watches have shown of it.
    pub stores: Stores,
    /// The time.
    pub clock: Clock,
    /// The node that this service runs on: it is upgraded last.
    pub own_node: Option<String>,
    /// The admission webhook that keeps DaemonSets held, if there is one.
    pub keeper: Option<Keeper>,
    /// Why DaemonSets are not let go of, for the upgrades that wait for it.
    pub not_released: Arc<Mutex<Option<String>>>,
    /// Where it counts.
    pub metrics: Metrics,
    /// Once cancelled, no worker begins another turn: each call that was begun is finished.
    pub stop: CancellationToken,
}

/// Runs until it is told to stop and no call is under way any more; dropping it cuts everything off at once, which
/// harms no upgrade either. `seen` turns true when the records have been listed for the first time.
pub async fn run(context: Context, seen: watch::Sender<bool>) {
    let client = context.client.clone();
    let wake = Arc::new(Notify::new());
    // As of now: another may have written them until this replica came to act.
    let records = context.stores.records.anew();
    records.wakes(&wake);
    let mut legible = Legible::default();
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    // The version in which a record ended: the view may lag behind and still show it as active.
    let mut ended: BTreeMap<String, u64> = BTreeMap::new();
    let mut workers: JoinSet<(String, u64)> = JoinSet::new();
    let mut sweeping = JoinSet::from_iter([sweep::run(client.clone())]);
    let (active, active_seen) = watch::channel(Vec::new());
    let holding = JoinSet::from_iter([holds::run(context.clone(), active_seen)]);
    loop {
        tokio::select! {
            () = context.stop.cancelled() => break,
            () = wake.notified() => {}
            Some(_) = sweeping.join_next() => {}
            Some(done) = workers.join_next() => {
                match done {
                    Ok((name, version)) => {
                        running.remove(&name);
                        ended.insert(name, version);
                    }
                    Err(failure) => {
                        error!(%failure, "a worker died, starting another");
                        sleep(RESPAWN_PAUSE).await;
                        running.retain(|_, r| !r.updates.is_closed());
                    }
                }
            }
        }
        if records.is_ready() {
            seen.send_replace(true);
        }
        let unfinished = legible.unfinished(records.items());
        active.send_replace(unfinished.clone());
        context.metrics.upgrades(unfinished.iter().map(AsRef::as_ref));
        ended.retain(|name, version| {
            unfinished.iter().any(|r| r.name_any() == *name && worker::version(r) <= *version)
        });
        for record in first_of_each_gr(unfinished) {
            let name = record.name_any();
            if ended.contains_key(&name) {
                continue;
            }
            match running.get(&name) {
                Some(r) if r.uid == record.uid() => {
                    r.updates.send_replace(record);
                    r.wake.notify_one();
                }
                // A record made again under the same name: its worker ends by itself when it sees the other uid.
                Some(_) => {}
                None => {
                    let (uid, worker_wake) = (record.uid(), Arc::new(Notify::new()));
                    let (updates, receiver) = watch::channel(record);
                    let worker = Worker::new(context.clone(), receiver, worker_wake.clone());
                    running.insert(name.clone(), Running { uid, updates, wake: worker_wake });
                    workers.spawn(async move { (name, worker.run().await) });
                }
            }
        }
    }
    drop((sweeping, holding));
    while workers.join_next().await.is_some() {}
}

/// The records as they were read last, by name: each version is read once.
#[derive(Default)]
struct Legible(BTreeMap<String, (Arc<StoredRecord>, Option<Arc<GcuUpgrade>>)>);

impl Legible {
    /// Those with something left to do.
    fn unfinished(&mut self, all: Vec<Arc<StoredRecord>>) -> Vec<Arc<GcuUpgrade>> {
        let mut before = std::mem::take(&mut self.0);
        for stored in all {
            let record = match before.remove(stored.name()) {
                Some((same, record)) if Arc::ptr_eq(&same, &stored) => record,
                _ => unfinished(&stored),
            };
            self.0.insert(stored.name().to_owned(), (stored, record));
        }
        self.0.values().filter_map(|(_, record)| record.clone()).collect()
    }
}

/// A record with something left to do; one that this version cannot read is said and left alone.
fn unfinished(stored: &StoredRecord) -> Option<Arc<GcuUpgrade>> {
    match stored.read::<GcuUpgrade>() {
        Ok(record) => {
            let held = record.finalizers().iter().any(|f| f == FINALIZER);
            (!record.phase().is_final() || held).then(|| Arc::new(record))
        }
        Err(invalid) => {
            warn!(record = stored.name(), "cannot read this record, leaving it alone: {invalid}");
            None
        }
    }
}

/// Of several active records of one gr (only possible when made by hand) the one with the lowest number
/// runs; the others wait for it to end.
fn first_of_each_gr(records: Vec<Arc<GcuUpgrade>>) -> Vec<Arc<GcuUpgrade>> {
    let mut first: BTreeMap<String, Arc<GcuUpgrade>> = BTreeMap::new();
    for record in records {
        let rank = |r: &GcuUpgrade| (!r.phase().is_final(), r.status.is_none(), r.number(), r.name_any());
        match first.get(&record.spec.gr) {
            Some(other) if rank(other) <= rank(&record) => {}
            _ => {
                first.insert(record.spec.gr.clone(), record);
            }
        }
    }
    first.into_values().collect()
}
