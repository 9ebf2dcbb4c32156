//! How a scenario ended, and whether that is as it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gcu_upgrade_manager::record::rolling::{LOCK_ANNOTATION, NODE_ANNOTATION};
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::core::DeserializeGuard;
use kube::{Api, ResourceExt};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use super::jobs;
use super::people;
use super::tenants::{ADMIN, NAMESPACE, is_ready};
use super::world::named;
use super::{Expect, Manifests, Scenario};
use crate::faults::Call;
use crate::harness::{Backend, Harness};
use crate::oracle::fleet::Seen;
use crate::oracle::the_end_keeps_its_promise;

/// What a run came to, for comparison with another run of the same scenario.
#[derive(Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) spec: Value,
    pub(crate) workloads: Vec<Value>,
    pub(crate) records: Vec<Value>,
    pub(crate) effects: (usize, usize),
    pub(crate) fleet: FleetEnd,
    pub(crate) evicted: BTreeSet<String>,
}

/// Nodes, the DaemonSets' strategies, and users' pods.
#[derive(Debug, PartialEq)]
pub(crate) struct FleetEnd {
    nodes: BTreeMap<String, NodeEnd>,
    /// Image, strategy and what is remembered of another, by name.
    sets: BTreeMap<String, (String, Value, Option<Value>)>,
    tenants: Vec<String>,
}

#[derive(Debug, PartialEq)]
struct NodeEnd {
    ready: bool,
    cordoned: bool,
    mark: Option<String>,
    admin: Option<String>,
    labels: BTreeMap<String, String>,
    gcus: Option<String>,
    /// Image and readiness, by the DaemonSet's name.
    pods: BTreeMap<String, (String, bool)>,
}

impl FleetEnd {
    /// I10: no claim is left on any node, and no cordon but an admin's. All pods are of their DaemonSet's
    /// template but on nodes that were left out, whose DaemonSets are still held because of that.
    fn is_at_rest(&self, left_out: &[String], nothing_runs: bool) {
        for (name, node) in &self.nodes {
            assert_eq!(node.mark, None, "I10: {name} still carries a claim");
            assert_eq!(node.cordoned, node.admin.as_deref() == Some("cordoned"), "I10: the cordon of {name}");
            let old: Vec<_> = node.pods.iter().filter(|(ds, pod)| pod.0 != self.sets[*ds].0).collect();
            assert_eq!(!old.is_empty(), left_out.contains(name), "{name} is left out with old pods: {old:?}");
            let down = node.pods.values().any(|(_, ready)| !ready) && node.ready;
            assert!(!down || nothing_runs, "{name} is well in the end: {node:?}");
        }
        for (name, (_, strategy, lock)) in &self.sets {
            let held = lock.is_some();
            assert!(!held || !left_out.is_empty(), "DaemonSet {name} is let go of: {lock:?}");
            assert!(!held || strategy["type"] == "OnDelete", "DaemonSet {name} is held: {strategy}");
        }
    }
}

impl Scenario {
    /// Checks everything that there is to check at the end.
    pub(super) async fn judge(&self, harness: &Harness, manifests: &Manifests) -> End {
        let prefix = harness.prefix();
        let named = |names: &[String]| names.iter().map(|n| named(&prefix, n)).collect::<Vec<_>>();
        harness.oracle.check();
        if self.expect.runs == "nothing" {
            // A gr that a person deleted goes when the operator has taken its stack down: nobody here waits for it.
            let gone = async {
                while harness.world.grs().get_opt(harness.gr()).await.unwrap().is_some() {
                    sleep(Duration::from_millis(200)).await;
                }
            };
            timeout(harness.backend.patience(), gone).await.expect("the deleted gr does not go");
        }
        let gr = harness.world.grs().get_opt(harness.gr()).await.unwrap();
        // A neighbour's may be one that cannot be read.
        let all: Api<DeserializeGuard<GcuUpgrade>> = Api::all(harness.client.clone());
        let all = all.list(&Default::default()).await.unwrap().items;
        let mut records: Vec<GcuUpgrade> = all.into_iter().filter_map(|record| record.0.ok()).collect();
        records.retain(|r| r.spec.gr == harness.gr());
        records.sort_by_key(GcuUpgrade::number);
        let spec = gr.as_ref().map(|g| g.data["spec"].clone()).unwrap_or_default();
        match self.expect.runs.as_str() {
            "original" => {
                assert_eq!(Some(&spec), manifests.original.as_ref().map(|m| &m["spec"]), "the original runs")
            }
            "nothing" => assert!(gr.is_none(), "nothing runs"),
            "other" => assert!(gr.is_some(), "something else runs"),
            file => assert_eq!(spec, manifests.blueprints[file]["spec"], "{file} runs"),
        }
        let (effects, calls) = (harness.oracle.effects(), harness.calls());
        nobodys_finalizer_is_touched(&calls);
        people::the_keeper_is_there_as_long_as_it_guards(harness).await;
        let writes: Vec<_> = calls.iter().filter(|c| c.is_write()).collect();
        assert_eq!(
            effects,
            (self.expect.created, self.expect.deleted),
            "(grs created, grs deleted): {writes:#?}"
        );
        if let Some(last) = records.last() {
            if self.expect.runs != "other" && last.phase() != Phase::Failed {
                the_end_keeps_its_promise(last, gr.as_ref());
            }
            if let Some(reason) = &self.expect.reason {
                let status = last.status_or_default();
                assert_eq!(
                    status.holding("Finished").map(|c| &c.reason),
                    Some(reason),
                    "the reason of the end"
                );
            }
            for words in &self.expect.says {
                let message = last.status_or_default().message;
                assert!(message.contains(words), "the end says {words:?}: {message}");
            }
            assert!(last.finalizers().is_empty(), "the ended record is let go of");
        }
        let fleet = harness.fleet().await;
        // Each of two processes may ask for the same: one that has died did not hear what became of its last calls.
        let others = self.steps.iter().filter(|step| step.makes_another_process()).count();
        let happened = harness.faults.happened() + others;
        fleet.is_at_rest(&named(&self.expect.left_out), self.expect.runs == "nothing");
        let seen = harness.oracle.check_fleet(&calls, happened, self.expect.uncommanded);
        self.expect.compare(&seen, named);
        for (job, times) in &self.expect.restarts {
            assert_eq!(jobs::restarts(harness, job).await, *times, "how often {job} was restarted");
        }
        let breaches = harness.oracle.breaches(&calls);
        assert!(breaches.is_empty(), "against the lock: {breaches:#?}");
        End {
            fleet,
            evicted: seen.evicted,
            spec,
            workloads: harness.workloads().await,
            records: records.iter().map(essence).collect(),
            effects: harness.oracle.effects(),
        }
    }
}

impl Expect {
    fn compare(&self, seen: &Seen, named: impl Fn(&[String]) -> Vec<String>) {
        let sorted = |names: &[String]| named(names).into_iter().collect::<BTreeSet<_>>();
        if let Some(touched) = &self.touched {
            assert_eq!(seen.touched, sorted(touched), "the nodes on which anything was done");
        }
        if let Some(order) = &self.order {
            assert_eq!(seen.order, named(order), "the order in which nodes were taken");
        }
        if let Some(together) = self.together {
            assert_eq!(seen.together, together, "the most nodes that were down at once");
        }
        if let Some(replaced) = &self.replaced {
            assert_eq!(seen.replaced, sorted(replaced), "the DaemonSets of which pods were deleted");
        }
        if let Some(evicted) = &self.evicted {
            assert_eq!(seen.evicted, sorted(evicted), "the users' pods that were evicted");
        }
        if let Some(evictions) = self.evictions {
            assert_eq!(seen.evictions, evictions, "how many users' pods were evicted");
        }
        if let Some(most) = self.deletes_each {
            let times = seen.deletes_each;
            assert!(times <= most, "the deletion of a pod was asked for {times} times");
        }
        if let Some(cordons) = self.cordons {
            assert_eq!(seen.cordons, cordons, "how often a node was cordoned");
        }
    }
}

/// I8: no write of ours to a gr mentions finalizers.
fn nobodys_finalizer_is_touched(calls: &[Call]) {
    for call in calls.iter().filter(|c| c.is_write() && c.path.contains("/gcuresources")) {
        assert!(!call.body.contains("finalizers"), "I8: {} {}: {}", call.method, call.path, call.body);
    }
}

/// A record without what differs from run to run.
fn essence(record: &GcuUpgrade) -> Value {
    let status = record.status_or_default();
    let conditions: Map<String, Value> =
        status.conditions.iter().map(|c| (c.type_.clone(), json!([c.status, c.reason]))).collect();
    json!({
        "name": record.name_any(), "operation": record.spec.operation, "phase": status.phase, "goal": status.goal,
        "step": status.step, "target": record.spec.target.manifest["spec"], "conditions": conditions,
    })
}

impl Harness {
    /// Nothing is left to do: the records' finalizers are gone, and then the service is silent.
    pub(super) async fn settle(&mut self, silence: Duration) {
        let rest = silence / 5;
        sleep(rest).await;
        self.revive_if_dead().await;
        sleep(rest).await;
        // A Lease is renewed for as long as there is a service.
        let tells = |c: &&Call| c.is_write() && !c.path.contains("/leases");
        let writes = |harness: &Self| harness.calls().iter().filter(tells).count();
        // What is left to be cleared away takes its time on a machine that is busy.
        let mut patience = if self.backend.is_real() { 15 } else { 1 };
        loop {
            let before = (writes(self), self.oracle.changes());
            sleep(silence).await;
            let after = (writes(self), self.oracle.changes());
            patience -= 1;
            if after == before {
                break;
            }
            assert!(
                patience > 0,
                "no write for a while after the end: {before:?}, then {after:?}: {:#?}",
                self.calls().iter().rfind(tells)
            );
        }
    }

    /// The templates of the workloads that run, by name.
    async fn workloads(&self) -> Vec<Value> {
        let api: kube::Api<k8s_openapi::api::apps::v1::DaemonSet> =
            kube::Api::namespaced(self.client.clone(), "kube-system");
        let mut all: Vec<Value> = Vec::new();
        for ds in api.list(&Default::default()).await.unwrap().items {
            if self.backend == Backend::Sandbox
                || ds.name_any().starts_with(self.gr().trim_end_matches("-enflame-gcu-resource"))
            {
                let image = ds.spec.template.spec.as_ref().map(|s| s.containers[0].image.clone());
                let ready = ds.status.as_ref().map(|s| (s.desired_number_scheduled, s.number_available));
                all.push(json!([ds.name_any(), image, format!("{ready:?}")]));
            }
        }
        all.sort_by_key(Value::to_string);
        all
    }

    /// Nodes, DaemonSets and pods of this world as they stand.
    async fn fleet(&self) -> FleetEnd {
        let prefix = self.prefix().map(|p| format!("{p}-")).unwrap_or_default();
        let all = Default::default();
        let mine = |name: &str| name.starts_with(&prefix);
        let api: Api<DaemonSet> = Api::all(self.client.clone());
        let sets = api
            .list(&all)
            .await
            .unwrap()
            .items
            .into_iter()
            .filter(|d| mine(&d.name_any()) && d.namespace().as_deref() != Some(NAMESPACE));
        let sets: BTreeMap<_, _> = sets
            .map(|d| {
                let lock = d.annotations().get(LOCK_ANNOTATION).map(|l| serde_json::from_str(l).unwrap());
                let images = images(d.spec.template.spec.as_ref());
                (d.name_any(), (images, json!(d.spec.update_strategy), lock))
            })
            .collect();
        let api: Api<Node> = Api::all(self.client.clone());
        let mut nodes: BTreeMap<String, NodeEnd> = BTreeMap::new();
        for node in api.list(&all).await.unwrap().items.iter().filter(|n| mine(&n.name_any())) {
            let status = node.status.as_ref();
            let conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
            let annotation = |key: &str| node.annotations().get(key).cloned();
            let end = NodeEnd {
                ready: conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True"),
                cordoned: node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or_default(),
                mark: annotation(NODE_ANNOTATION),
                admin: annotation(ADMIN),
                labels: node.labels().clone(),
                gcus: status
                    .and_then(|s| s.allocatable.as_ref()?.get("enflame.com/gcu"))
                    .map(|q| q.0.clone()),
                pods: BTreeMap::new(),
            };
            nodes.insert(node.name_any(), end);
        }
        let api: Api<Pod> = Api::all(self.client.clone());
        let mut tenants = Vec::new();
        for pod in api.list(&all).await.unwrap().items.iter().filter(|p| mine(&p.name_any())) {
            let owner = pod.owner_references().first().map(|o| o.name.clone()).unwrap_or_default();
            if pod.namespace().as_deref() == Some(NAMESPACE) {
                tenants.push(pod.labels().get("app").cloned().unwrap_or(owner));
                continue;
            }
            let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
            if let Some(node) = nodes.get_mut(&node).filter(|_| sets.contains_key(&owner)) {
                node.pods.insert(owner, (images(pod.spec.as_ref()), is_ready(pod)));
            }
        }
        tenants.sort();
        FleetEnd { nodes, sets, tenants }
    }
}

fn images(pod: Option<&k8s_openapi::api::core::v1::PodSpec>) -> String {
    let images: Vec<String> =
        pod.iter().flat_map(|s| &s.containers).filter_map(|c| c.image.clone()).collect();
    images.join(" ")
}
