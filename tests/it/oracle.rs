//! The oracle: watches every change of grs and records, in the order in which the API server made them, and
//! checks what must hold at every one of them.

pub(crate) mod fleet;
pub(crate) mod lock;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use gcu_upgrade_manager::plan::standstill::Standstill;
use gcu_upgrade_manager::record::{GcuUpgrade, Goal, Phase, Step};
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::faults::Call;

/// A change of a gr or a record.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) deleted: bool,
    pub(crate) object: Value,
}

type Log = Arc<Mutex<Vec<Entry>>>;

pub(crate) struct Oracle {
    grs: Log,
    records: Log,
    fleet: fleet::Logs,
    /// Who made which change of a pod, by its version, where the API server tells.
    actors: Arc<Mutex<BTreeMap<u64, String>>>,
    /// UIDs of grs that the test itself deleted and of DaemonSets whose strategy it changed, names of records that it
    /// tampered with.
    forgiven: Mutex<BTreeSet<String>>,
    watching: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Oracle {
    /// Objects whose names do not begin with `prefix` are another test's.
    pub(crate) async fn start(client: Client, grs: Api<DynamicObject>, prefix: String) -> Self {
        let (gr_log, gr_task) = watch_grs(grs, prefix.clone()).await;
        let (fleet, mut tasks) = fleet::Logs::start(&client, &prefix).await;
        // The records' CRD may not be there yet: the watch starts when it is.
        let log = Log::default();
        let record_log = log.clone();
        let (watching_tx, watching) = watch::channel(false);
        let record_task = tokio::spawn(async move {
            // As plain objects: one that cannot be read as a record is an object all the same.
            let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::erase::<GcuUpgrade>(&()));
            while api.list(&ListParams::default()).await.is_err() {
                sleep(Duration::from_millis(2)).await;
            }
            let version = list(&api, &record_log, &prefix).await;
            watching_tx.send_replace(true);
            follow(api, record_log, version, prefix).await;
        });
        tasks.extend([gr_task, record_task]);
        let (actors, forgiven) = Default::default();
        Self { grs: gr_log, records: log, fleet, actors, forgiven, watching, tasks }
    }

    /// From now on the server itself tells who does what to pods.
    pub(crate) fn hear(&self, server: &ApiServer) {
        let actors = self.actors.clone();
        server.store().on_change(move |change| {
            if change.resource.1 == "pods"
                && let Some(actor) = &change.actor
            {
                actors.lock().unwrap().insert(change.resource_version, actor.clone());
            }
        });
    }

    /// Waits until no change of a record can be missed any more.
    pub(crate) async fn is_watching(&self) {
        self.watching.clone().wait_for(|watching| *watching).await.unwrap();
    }

    /// A person deletes this gr or changes the strategy of this DaemonSet (by their UID), or tampers with this record
    /// (by its name): not the service's doing.
    pub(crate) fn forgive(&self, which: &str) {
        self.forgiven.lock().unwrap().insert(which.to_owned());
    }

    /// Grs created since the start, and grs whose deletion began.
    pub(crate) fn effects(&self) -> (usize, usize) {
        let log = self.grs.lock().unwrap();
        let uids: BTreeSet<&str> = log.iter().skip(1).filter_map(|e| uid(&e.object)).collect();
        let first = log.first().and_then(|e| uid(&e.object));
        let created = uids.iter().filter(|u| Some(**u) != first).count();
        let deleted: BTreeSet<&str> =
            log.iter().filter(|e| is_going(e)).filter_map(|e| uid(&e.object)).collect();
        (created, deleted.len())
    }

    /// The number of changes of records seen, to tell silence from activity. The gr's are the operator's too.
    pub(crate) fn changes(&self) -> usize {
        self.records.lock().unwrap().len()
    }

    /// The record as it was written last, whichever it is; `None` when that was its end.
    pub(crate) fn newest_record(&self) -> Option<GcuUpgrade> {
        let records = self.records.lock().unwrap();
        let last = records.last().filter(|entry| !entry.deleted)?;
        serde_json::from_value(last.object.clone()).ok()
    }

    /// Checks the invariants over everything seen.
    pub(crate) fn check(&self) {
        let records = self.records.lock().unwrap().clone();
        let grs = self.grs.lock().unwrap().clone();
        self.only_recorded_grs_are_deleted(&grs, &records);
        one_active_record_a_gr(&records);
        for (name, history) in histories(&records) {
            if self.forgiven.lock().unwrap().contains(name.split('/').next().unwrap_or_default()) {
                continue;
            }
            status_moves_along_the_graph(&name, &history);
            spec_is_never_rewritten(&name, &history);
            standstills_are_told(&name, &history);
        }
    }

    /// Checks what was done to nodes, pods and DaemonSets: see [`fleet`]. `happened` faults have.
    pub(crate) fn check_fleet(&self, calls: &[Call], happened: usize, uncommanded: bool) -> fleet::Seen {
        self.fleet.check(&self.records.lock().unwrap(), calls, happened, uncommanded)
    }

    /// What was done against the lock: see [`lock`].
    pub(crate) fn breaches(&self, calls: &[Call]) -> Vec<lock::Breach> {
        let asked = fleet::Asked::of(calls);
        let evidence = lock::Evidence {
            ours: calls.iter().filter_map(|c| c.version).collect(),
            asked: asked.deleted.into_keys().chain(asked.evicted).collect(),
            actors: self.actors.lock().unwrap().clone(),
            forgiven: self.forgiven.lock().unwrap().clone(),
        };
        let logs = [
            (lock::What::Gr, self.grs.lock().unwrap().clone()),
            (lock::What::Set, self.fleet.sets.lock().unwrap().clone()),
            (lock::What::Node, self.fleet.nodes.lock().unwrap().clone()),
            (lock::What::Pod, self.fleet.pods.lock().unwrap().clone()),
            (lock::What::Record, self.records.lock().unwrap().clone()),
        ];
        let all = logs.iter().flat_map(|(what, log)| log.iter().map(|entry| (*what, entry)));
        lock::check(all.collect(), evidence)
    }

    /// I1 and I3: by the time a gr's deletion begins, a record with this very UID, the target and the previous
    /// manifest is stored.
    fn only_recorded_grs_are_deleted(&self, grs: &[Entry], records: &[Entry]) {
        let forgiven = self.forgiven.lock().unwrap();
        let mut begun = BTreeSet::new();
        for going in grs.iter().filter(|e| is_going(e)) {
            let uid = uid(&going.object).unwrap_or_default();
            if forgiven.contains(uid) || !begun.insert(uid.to_owned()) {
                continue;
            }
            let safe = records.iter().filter(|r| r.version < going.version).any(|r| {
                r.object["status"]["deletingUid"] == uid
                    && r.object["spec"]["target"]["manifest"]["spec"].is_object()
            });
            let known: Vec<_> =
                records.iter().map(|r| (r.version, &r.object["status"]["deletingUid"])).collect();
            assert!(
                safe,
                "I1/I3: gr {uid} began to go at version {} without being recorded: {known:?}",
                going.version
            );
        }
    }
}

fn is_going(entry: &Entry) -> bool {
    entry.deleted || entry.object["metadata"]["deletionTimestamp"].is_string()
}

fn uid(object: &Value) -> Option<&str> {
    object["metadata"]["uid"].as_str()
}

fn histories(records: &[Entry]) -> BTreeMap<String, Vec<GcuUpgrade>> {
    let mut all: BTreeMap<String, Vec<GcuUpgrade>> = BTreeMap::new();
    for entry in records {
        // A record that a test wrote by hand may be unreadable: then the service left it alone.
        if let Ok(record) = serde_json::from_value::<GcuUpgrade>(entry.object.clone()) {
            let key =
                format!("{}/{}", record.metadata.name.clone().unwrap(), record.metadata.uid.clone().unwrap());
            all.entry(key).or_default().push(record);
        }
    }
    all
}

/// I4.
fn one_active_record_a_gr(records: &[Entry]) {
    let mut active: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut entries = records.to_vec();
    entries.sort_by_key(|e| e.version);
    for entry in &entries {
        let Ok(record) = serde_json::from_value::<GcuUpgrade>(entry.object.clone()) else { continue };
        let set = active.entry(record.spec.gr.clone()).or_default();
        let name = record.metadata.name.clone().unwrap();
        let by_hand = record.metadata.labels.as_ref().is_some_and(|l| l.contains_key("by-hand"));
        if entry.deleted || record.phase().is_final() || by_hand {
            set.remove(&name);
        } else {
            set.insert(name);
        }
        assert!(set.len() <= 1, "I4: several active records: {set:?}");
    }
}

/// I5: along the written graph, and final is final.
fn status_moves_along_the_graph(name: &str, history: &[GcuUpgrade]) {
    for pair in history.windows(2) {
        let (from, to) = (pair[0].status_or_default(), pair[1].status_or_default());
        if from.phase.is_final() {
            let (mut a, mut b) = (from.clone(), to.clone());
            (a.observed_generation, b.observed_generation) = (0, 0);
            assert_eq!(a, b, "I5: {name} changed after its end");
            continue;
        }
        assert!(!(from.goal == Goal::Previous && to.goal == Goal::Target), "I5: {name} turned forward again");
        let ok = from.step == to.step
            || to.phase.is_final()
            || matches!(
                (from.step, to.step),
                (Step::Recorded, Step::Deleting | Step::Creating)
                    | (Step::Deleting, Step::WaitingGone)
                    | (Step::WaitingGone, Step::Creating | Step::Deleting)
                    | (Step::Creating, Step::WaitingRunning | Step::Deleting | Step::WaitingGone)
                    | (Step::WaitingRunning, Step::Deleting | Step::WaitingGone)
                    | (Step::Recorded, Step::Locking)
                    | (Step::Locking, Step::Probing | Step::Patching | Step::Restoring | Step::Rolling)
                    | (Step::Probing, Step::Patching | Step::Rolling | Step::Locking)
                    | (Step::Patching, Step::Propagating | Step::Rolling | Step::Locking)
                    | (Step::Propagating, Step::Rolling | Step::Locking)
                    | (Step::Rolling, Step::Restoring | Step::Locking)
                    | (Step::Restoring, Step::Locking | Step::Rolling)
            );
        assert!(ok, "I5: {name} went from {:?} to {:?}", from.step, to.step);
    }
}

/// An upgrade is paused or held exactly while its timeline says so last: whoever draws it later relies on that.
fn standstills_are_told(name: &str, history: &[GcuUpgrade]) {
    for record in history {
        let told = record.status.iter().flat_map(|s| s.timeline.last()).next();
        let Some(told) = told else { continue };
        let fits = match Standstill::from(told) {
            Some(Standstill::Held) => record.phase() == Phase::Held,
            Some(_) => record.phase() == Phase::Paused,
            None => !matches!(record.phase(), Phase::Held | Phase::Paused),
        };
        assert!(fits, "{name} is {:?}, and its timeline ends with {told:?}", record.phase());
    }
}

/// The target and the previous manifest are pinned.
fn spec_is_never_rewritten(name: &str, history: &[GcuUpgrade]) {
    for pair in history.windows(2) {
        assert_eq!(pair[0].spec.target, pair[1].spec.target, "{name}: the target was rewritten");
        assert_eq!(
            pair[0].spec.previous, pair[1].spec.previous,
            "{name}: the previous version was rewritten"
        );
    }
}

/// I6 and I7 for one ended record, against the gr as it stands.
pub(crate) fn the_end_keeps_its_promise(record: &GcuUpgrade, gr: Option<&DynamicObject>) {
    let spec = gr.map(|g| g.data["spec"].clone());
    match record.phase() {
        Phase::Succeeded => {
            assert_eq!(spec, Some(record.spec.target.manifest["spec"].clone()), "I6: the target runs")
        }
        Phase::RolledBack => {
            let previous = record.spec.previous.as_ref().map(|p| p.manifest["spec"].clone());
            assert_eq!(spec, previous, "I7: the previous version is back exactly");
        }
        Phase::Failed => {
            assert!(
                record.spec.target.manifest["spec"].is_object(),
                "I6: the manifest can be had from the record"
            );
            assert!(!record.status_or_default().message.is_empty(), "I6: visibly failed");
        }
        other => panic!("not ended: {other:?}"),
    }
}

async fn watch_grs(api: Api<DynamicObject>, prefix: String) -> (Log, JoinHandle<()>) {
    let log = Log::default();
    let version = list(&api, &log, &prefix).await;
    let task = tokio::spawn(follow(api, log.clone(), version, prefix));
    (log, task)
}

async fn list<K>(api: &Api<K>, log: &Log, prefix: &str) -> String
where
    K: Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let list = api.list(&ListParams::default()).await.unwrap();
    list.items.iter().for_each(|item| push(log, prefix, false, item));
    list.metadata.resource_version.unwrap_or_default()
}

async fn follow<K>(api: Api<K>, log: Log, mut version: String, prefix: String)
where
    K: Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    loop {
        let Ok(stream) = api.watch(&WatchParams::default(), &version).await else {
            sleep(Duration::from_millis(200)).await;
            continue;
        };
        let mut stream = stream.boxed();
        while let Some(Ok(event)) = stream.next().await {
            let (deleted, object) = match event {
                WatchEvent::Added(o) | WatchEvent::Modified(o) => (false, o),
                WatchEvent::Deleted(o) => (true, o),
                WatchEvent::Bookmark(b) => {
                    version = b.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(_) => break,
            };
            version = object.meta().resource_version.clone().unwrap_or_default();
            push(&log, &prefix, deleted, &object);
        }
    }
}

fn push<K: serde::Serialize + Resource>(log: &Log, prefix: &str, deleted: bool, object: &K) {
    if !object.meta().name.as_deref().is_some_and(|n| n.starts_with(prefix)) {
        return;
    }
    let version = object.meta().resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default();
    log.lock().unwrap().push(Entry { version, deleted, object: serde_json::to_value(object).unwrap() });
}
