//! What an upgrade keeps of the fleet between decisions is what a look at everything shows, and its decisions are those
//! that such a look leads to.

use std::sync::Arc;

use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::plan::memo::Memo;
use gcu_upgrade_manager::plan::{decide, decide_with};
use gcu_upgrade_manager::record::rolling::SKIP_LABEL;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use gcu_upgrade_manager::store::{Sight, Stores};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Notify;

use super::commands::{fleet, start, until_phase};
use super::*;
use crate::faults::Rule;

/// A sequence of numbers that looks thrown, and is the same each time.
struct Thrown(u64);

impl Thrown {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Somebody does something to a node or to a pod on one.
async fn meddle(client: &Client, thrown: &mut Thrown) {
    let nodes: Api<Node> = Api::all(client.clone());
    let pods: Api<Pod> = Api::all(client.clone());
    let all = nodes.list(&ListParams::default()).await.unwrap().items;
    let node = &all[thrown.below(all.len())];
    let patch = |patch: Value| async {
        nodes.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
    };
    let (pool, skip) = (["a", "b"][thrown.below(2)], ["true", "no"][thrown.below(2)]);
    match thrown.below(7) {
        0 => drop(patch(json!({ "spec": { "unschedulable": thrown.below(2) == 0 } })).await),
        1 => drop(patch(json!({ "metadata": { "labels": { "pool": pool } } })).await),
        2 => drop(patch(json!({ "metadata": { "labels": { SKIP_LABEL: skip } } })).await),
        3 if all.len() > 4 => drop(nodes.delete(&node.name_any(), &DeleteParams::default()).await),
        4 => {
            let mut new = node.clone();
            new.metadata = serde_json::from_value(json!({
                "name": format!("new-{}", thrown.below(3)), "labels": node.metadata.labels,
            }))
            .unwrap();
            drop(nodes.create(&PostParams::default(), &new).await);
        }
        _ => {
            let all = pods.list(&ListParams::default()).await.unwrap().items;
            let pod = &all[thrown.below(all.len())];
            let of: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
            drop(of.delete(&pod.name_any(), &DeleteParams::default()).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_between_decisions_is_what_a_look_at_everything_shows() {
    let mut compared = 0;
    for seed in 0..4 {
        let mut harness = fleet(6).await;
        start(&harness, &json!({ "maxUnavailable": 2, "canary": 1 })).await;
        until_phase(&mut harness, 1, Phase::Paused).await;
        harness.must("POST", &format!("{GR}/promote"), "").await;
        // Watches end in the middle, and begin anew with a list.
        let cut = Fault::Cut(["7s", "40s"][seed % 2].to_owned());
        harness.faults.add(Rule { on: "WATCH ".to_owned(), skip: 0, times: usize::MAX, fault: cut });
        let stores = Stores::new(harness.faults.client(harness.person(), Metrics::default()));
        let record = harness.record(1).await.unwrap();
        let views = stores.watch(&record, Arc::new(Notify::new()));
        let (mut sight, mut memo) = (Sight::default(), Memo::default());
        let mut thrown = Thrown(u64::try_from(seed).unwrap());
        for round in 0..120 {
            meddle(&harness.client, &mut thrown).await;
            sleep(Duration::from_millis([0, 30, 3000][thrown.below(3)])).await;
            let records: Api<GcuUpgrade> = Api::all(harness.client.clone());
            let record = records.get(&record.name_any()).await.unwrap();
            views.follow(&record, views.gr().as_ref());
            let Some(seen) = views.snapshot_of(&record, &mut sight, &mut memo) else { continue };
            assert_eq!(Some(&seen), views.snapshot(&record).as_ref(), "seed {seed}, round {round}");
            let now = harness.clock.now();
            let decision = decide_with(&record, &seen, now, &mut memo);
            assert_eq!(decision, decide(&record, &seen, now), "seed {seed}, round {round}");
            sight.fleet = seen.fleet;
            compared += 1;
        }
    }
    assert!(compared > 200, "{compared}");
}
