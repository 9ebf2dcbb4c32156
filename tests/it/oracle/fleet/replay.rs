//! The changes of the cluster once more, one after the other, and what must hold after each.

use gcu_upgrade_manager::plan::impact::{Impact, impact_of};
use gcu_upgrade_manager::record::rolling::{
    Claim, ClaimState, LOCK_ANNOTATION, NODE_ANNOTATION, OnTimeout, Replaced, RollingStatus, SKIP_LABEL,
    TooBig,
};
use gcu_upgrade_manager::record::{GcuUpgrade, Goal, Intent, Step};

use super::*;

mod evictions;

/// Whether a claim names the pod, by the end of its name and the second of its creation.
fn is_named(replaces: &Replaced, pod: &Value) -> bool {
    let created: Option<jiff::Timestamp> =
        pod["metadata"]["creationTimestamp"].as_str().and_then(|at| at.parse().ok());
    replaces.pods().any(|(_, end, at)| name(pod).ends_with(end) && created == Some(at))
}

#[derive(Clone, Copy)]
enum What {
    Set,
    Node,
    Pod,
    Record,
}

/// The world at one moment.
#[derive(Default)]
struct Replay {
    asked: Asked,
    uncommanded: bool,
    nodes: BTreeMap<String, Value>,
    /// By UID.
    pods: BTreeMap<String, Value>,
    /// By UID: its strategy as first seen, its strategy now, and what is remembered of another.
    sets: BTreeMap<String, (Value, Value, Option<String>)>,
    /// UIDs of pods that we have deleted.
    gone: BTreeSet<String>,
    /// The workloads, by node, whose pod we have deleted and whose next is not ready yet.
    missing: BTreeMap<String, BTreeSet<String>>,
    active: Option<GcuUpgrade>,
    /// Nodes without a claim whose job was restarted for another node, with its name.
    left_behind: BTreeMap<String, String>,
    seen: Seen,
}

impl Logs {
    /// Replays everything. `happened`: faults and deaths, each of which may be the reason for a repeated call.
    pub(crate) fn check(
        &self,
        records: &[Entry],
        calls: &[Call],
        happened: usize,
        uncommanded: bool,
    ) -> Seen {
        let (nodes, pods, sets) =
            (self.nodes.lock().unwrap(), self.pods.lock().unwrap(), self.sets.lock().unwrap());
        let mut all: Vec<(What, &Entry)> = Vec::new();
        all.extend(sets.iter().map(|e| (What::Set, e)));
        all.extend(nodes.iter().map(|e| (What::Node, e)));
        all.extend(pods.iter().map(|e| (What::Pod, e)));
        all.extend(records.iter().map(|e| (What::Record, e)));
        all.sort_by_key(|(_, e)| e.version);
        let asked = Asked::of(calls);
        asked.each_pod_is_deleted_once(&pods, happened);
        let mut replay = Replay { asked, uncommanded, ..Replay::default() };
        for (what, entry) in all {
            match what {
                What::Set => replay.set(entry),
                What::Node => replay.node(entry),
                What::Pod => replay.pod(entry),
                What::Record => replay.record(entry),
            }
            replay.within_the_budget();
        }
        replay.strategies_are_back();
        replay.seen.deletes_each = replay.asked.deleted.values().map(Vec::len).max().unwrap_or_default();
        replay.seen
    }
}

fn ready_since(pod: &Value) -> Option<&str> {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|c| c["type"] == "Ready" && c["status"] == "True")?;
    ready["lastTransitionTime"].as_str()
}

/// A pod of the gr: those of users are in a namespace of their own.
fn is_component(pod: &Value) -> bool {
    owner(pod, "kind") == "DaemonSet" && pod["metadata"]["namespace"] != "default"
}

fn gcus(pod: &Value) -> i64 {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let asked = containers.filter_map(|c| c["resources"]["limits"][GCU].as_str());
    asked.filter_map(|n| n.parse::<i64>().ok()).sum()
}

impl Replay {
    fn rolling(&self) -> Option<&RollingStatus> {
        self.active.as_ref()?.status.as_ref()?.rolling.as_ref()
    }

    fn step(&self) -> Option<Step> {
        self.active.as_ref()?.status.as_ref().map(|s| s.step)
    }

    fn claim(&self, node: &str) -> Option<&Claim> {
        self.rolling()?.active.iter().map(AsRef::as_ref).find(|c: &&Claim| c.node == node)
    }

    /// I9: a pause has been taken into account.
    fn is_paused(&self) -> bool {
        let Some(record) = &self.active else { return false };
        let observed = record.status.as_ref().map(|s| s.observed_generation).unwrap_or_default();
        record.spec.intent == Intent::Pause && observed >= record.metadata.generation.unwrap_or_default()
    }

    fn goes_back(&self) -> bool {
        self.active.as_ref().and_then(|r| r.status.as_ref()).is_some_and(|s| s.goal == Goal::Previous)
    }

    fn node(&mut self, entry: &Entry) {
        let name = name(&entry.object);
        if entry.deleted {
            self.nodes.remove(&name);
            self.missing.remove(&name);
            return;
        }
        let new = &entry.object;
        let none = Value::Null;
        let old = self.nodes.get(&name).unwrap_or(&none);
        let (was, is) = (annotation(old, NODE_ANNOTATION), annotation(new, NODE_ANNOTATION));
        let by_admin = annotation(old, ADMIN) != annotation(new, ADMIN);
        let freed_by_admin = annotation(new, ADMIN) == Some("uncordoned");
        let pre = |mark: Option<&str>| {
            mark.and_then(|m| serde_json::from_str::<Value>(m).ok()).is_some_and(|m| m["preCordoned"] == true)
        };
        if !by_admin && !old.is_null() {
            match (is_cordoned(old), is_cordoned(new)) {
                (false, true) => {
                    assert!(was.is_none() && is.is_some(), "I10: {name} was cordoned without a word")
                }
                (true, false) => {
                    assert!(
                        was.is_some() && is.is_none() && !pre(was),
                        "I10: another's cordon of {name} was removed"
                    );
                }
                (true, true) => assert!(was == is || pre(is.or(was)), "I10: {name}: claim without cordon"),
                (false, false) => assert!(was == is || freed_by_admin, "I10: {name}: claim without cordon"),
            }
        }
        if was.is_none() && is.is_some() {
            assert!(!self.is_paused(), "I9: {name} was cordoned after the pause");
            match self.claim(&name) {
                Some(claim) => assert!(claim.cordon, "{name} was cordoned though nothing calls for it"),
                None => assert!(self.uncommanded, "I2: {name} was cordoned without a claim"),
            }
            assert!(
                self.uncommanded || !self.goes_back() || self.has_been_changed(&name),
                "I9: {name} was cordoned after the cancel"
            );
            self.seen.cordons += 1;
            self.seen.touched.insert(name.clone());
        }
        self.nodes.insert(name, new.clone());
    }

    /// Whether pods are there that are of another template than before the upgrade.
    fn has_been_changed(&self, node: &str) -> bool {
        let before: BTreeSet<&str> =
            self.rolling().into_iter().flat_map(|r| &r.locked).map(|l| l.hash.as_str()).collect();
        let locked: BTreeSet<&str> =
            self.rolling().into_iter().flat_map(|r| &r.locked).map(|l| l.uid.as_str()).collect();
        self.pods.values().any(|pod| {
            let hash = text(pod, "/metadata/labels/controller-revision-hash").unwrap_or_default();
            pod["spec"]["nodeName"] == node && locked.contains(owner(pod, "uid")) && !before.contains(hash)
        })
    }

    fn pod(&mut self, entry: &Entry) {
        let pod = &entry.object;
        let uid = uid(pod).unwrap_or_default().to_owned();
        let node = text(pod, "/spec/nodeName").unwrap_or_default().to_owned();
        let going = entry.deleted || pod["metadata"]["deletionTimestamp"].is_string();
        if going && self.asked.has(&uid) && self.gone.insert(uid.clone()) {
            if is_component(pod) {
                self.component_is_deleted(pod, &uid, &node);
            } else {
                self.tenant_is_evicted(pod, &uid, &node);
            }
        }
        if is_component(pod)
            && !going
            && is_ready(pod)
            && let Some(missing) = self.missing.get_mut(&node)
        {
            missing.remove(owner(pod, "name"));
            if missing.is_empty() {
                self.missing.remove(&node);
            }
        }
        if entry.deleted {
            self.pods.remove(&uid);
        } else {
            self.pods.insert(uid, pod.clone());
        }
    }

    fn component_is_deleted(&mut self, pod: &Value, uid: &str, node: &str) {
        let name = name(pod);
        self.seen.replaced.insert(owner(pod, "name").to_owned());
        // A pod whose node has vanished is deleted by whoever comes first.
        if self.nodes.contains_key(node) {
            let claim =
                self.claim(node).unwrap_or_else(|| panic!("I1: {name} was deleted, {node} is not claimed"));
            assert!(
                claim.pods.iter().any(|p| p.uid == uid) || is_named(&claim.replaces, pod),
                "I1: {name} was deleted and is not in the claim"
            );
            assert_eq!(claim.state, ClaimState::Swapping, "I1: {name} was deleted too early");
            assert!(
                !claim.cordon || annotation(&self.nodes[node], NODE_ANNOTATION).is_some(),
                "{name} was deleted on {node}, which is not cordoned"
            );
            self.missing.entry(node.to_owned()).or_default().insert(owner(pod, "name").to_owned());
        }
        self.seen.touched.insert(node.to_owned());
    }

    fn record(&mut self, entry: &Entry) {
        let Ok(record) = serde_json::from_value::<GcuUpgrade>(entry.object.clone()) else { return };
        let is_active = self.active.as_ref().is_some_and(|a| a.metadata.uid == record.metadata.uid);
        if entry.deleted || record.phase().is_final() {
            if is_active {
                self.done_nodes_are_well(&record);
                self.active = None;
            }
            return;
        }
        if is_active {
            self.done_nodes_are_well(&record);
        }
        let rolling = record.status.as_ref().and_then(|s| s.rolling.clone()).unwrap_or_default();
        self.jobs_are_not_split(&rolling);
        for claim in &rolling.active {
            if !self.seen.order.contains(&claim.node) {
                self.seen.order.push(claim.node.clone());
            }
        }
        let excused = rolling.uncommanded > 0;
        let exceeds = record.spec.rolling_options().gangs.too_big == TooBig::Exceed;
        assert!(!excused || self.uncommanded, "nobody replaced pods behind our back");
        let most = rolling.max_unavailable as usize;
        assert!(
            excused || exceeds || rolling.active.len() <= most,
            "I2: {} of {most} claims",
            rolling.active.len()
        );
        self.active = Some(record);
    }

    /// A node is done only when it is ready, its pods are, and its GCUs are back.
    fn done_nodes_are_well(&self, now: &GcuUpgrade) {
        let Some(before) = self.rolling() else { return };
        let soak = now.spec.rolling_update.as_ref().map(|o| o.min_ready_seconds).unwrap_or_default();
        let after = now.status.as_ref().and_then(|s| s.rolling.clone()).unwrap_or_default();
        for claim in &before.active {
            let done = after.recent.iter().find(|d| d.node == claim.node && d.since == claim.since);
            let (Some(done), Some(node)) = (done, self.nodes.get(&claim.node)) else { continue };
            assert!(is_ready(node), "{} was done and is not ready", claim.node);
            assert!(
                annotation(node, NODE_ANNOTATION).is_none(),
                "{} was done before its release",
                claim.node
            );
            let offered = node["status"]["allocatable"][GCU].as_str().and_then(|n| n.parse::<i64>().ok());
            let lost = claim.lost_gcus && self.goes_back();
            let enough = !claim.cordon || lost || offered.unwrap_or_default() >= claim.gcus;
            assert!(enough, "{} was done with {offered:?} of {} GCUs", claim.node, claim.gcus);
            for pod in
                self.pods.values().filter(|p| p["spec"]["nodeName"] == claim.node.as_str() && is_component(p))
            {
                let since: Option<jiff::Timestamp> = ready_since(pod).and_then(|at| at.parse().ok());
                // Without a time to wait, clocks that differ do not matter; a clock that was set back counts anew.
                let soaked = since.is_some_and(|at| {
                    soak == 0 || done.at < at || done.at.duration_since(at).as_secs() >= i64::from(soak)
                });
                assert!(
                    soaked,
                    "{}: done at {}, pod {} ready since {since:?}",
                    claim.node,
                    done.at,
                    name(pod)
                );
            }
            assert!(!self.missing.contains_key(&claim.node), "{} was done and lacks pods", claim.node);
        }
    }

    /// I2, at every instant.
    fn within_the_budget(&mut self) {
        let marked =
            self.nodes.iter().filter(|(_, n)| annotation(n, NODE_ANNOTATION).is_some()).map(|(n, _)| n);
        // A node that a person takes out is released as it is, and is theirs.
        let Some(rolling) = self.rolling() else { return };
        let most = rolling.max_unavailable as usize;
        // Of a record that has not worked out its numbers yet, what misses a pod is an earlier one's.
        let missing = self.missing.keys().filter(|node| most > 0 && !self.is_taken_out(node));
        let down: BTreeSet<&String> = marked.chain(missing).collect();
        let together = down.len();
        let exceeds =
            self.active.as_ref().is_some_and(|r| r.spec.rolling_options().gangs.too_big == TooBig::Exceed);
        assert!(
            together <= most || rolling.uncommanded > 0 || exceeds,
            "I2: {together} nodes are down because of us, {most} may be: {down:?}; pods are missing on {:?}",
            self.missing
        );
        self.seen.together = self.seen.together.max(together);
    }

    fn is_taken_out(&self, node: &str) -> bool {
        let labelled = self.nodes.get(node).is_some_and(|n| n["metadata"]["labels"][SKIP_LABEL] == "true");
        labelled || self.active.as_ref().is_some_and(|r| r.spec.skip.iter().any(|s| s.node == node))
    }

    /// DaemonSets that are held stay held until the nodes are done.
    fn set(&mut self, entry: &Entry) {
        let set = &entry.object;
        let uid = uid(set).unwrap_or_default().to_owned();
        if entry.deleted {
            self.sets.remove(&uid);
            return;
        }
        let holding =
            matches!(self.step(), Some(Step::Probing | Step::Patching | Step::Propagating | Step::Rolling));
        // An operator may be found to insist by a component that no node is cordoned for.
        let matters = |component: &str| impact_of(component) > Impact::Restart;
        let pins = self.rolling().map(|r| r.locked.as_slice()).unwrap_or_default();
        let locked = pins.iter().any(|l| l.uid == uid && matters(&l.component));
        // An upgrade whose gr somebody else has edited holds nothing anew: what it had let go of by then stays let go
        // of. That nothing with outdated pods is let go of is seen to by the oracle of the lock.
        let abandoned =
            self.rolling().and_then(|r| r.giving_up.as_ref()).is_some_and(|giving_up| giving_up.abandon);
        if holding && locked && !abandoned && !self.uncommanded {
            let strategy = &set["spec"]["updateStrategy"]["type"];
            assert_eq!(strategy, "OnDelete", "DaemonSet {} was let go of too early", name(set));
        }
        let now = set["spec"]["updateStrategy"].clone();
        let first = self.sets.get(&uid).map_or_else(|| now.clone(), |s| s.0.clone());
        let lock = annotation(set, LOCK_ANNOTATION).map(str::to_owned);
        if let Some(lock) = &lock {
            let remembered: Value = serde_json::from_str(lock).unwrap();
            assert!(self.uncommanded || remembered == first, "{}: remembers {remembered}", name(set));
        }
        self.sets.insert(uid, (first, now, lock));
    }

    fn strategies_are_back(&self) {
        if self.uncommanded || self.active.is_some() {
            return;
        }
        for (uid, (original, now, lock)) in &self.sets {
            let held = lock.is_some() && now["type"] == "OnDelete";
            assert!(original == now || held, "DaemonSet {uid}: {now} instead of {original}");
        }
    }
}
