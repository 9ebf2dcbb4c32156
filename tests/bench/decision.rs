//! What one decision of a rollout costs in a large cluster: a whole rollout in memory, a few events at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gcu_upgrade_manager::gr::LiveGr;
use gcu_upgrade_manager::observe::intern::intern;
use gcu_upgrade_manager::plan::fleet::{DaemonPod, Fleet, Mark, NodeLabels, NodeState, SetState};
use gcu_upgrade_manager::plan::memo::Memo;
use gcu_upgrade_manager::plan::{Decision, FleetAction, Snapshot, decide, decide_with};
use gcu_upgrade_manager::record::rolling::{Amount, Hold, LockedSet, Order, RollingStatus, RollingUpdate};
use gcu_upgrade_manager::record::{
    GcuUpgrade, GcuUpgradeSpec, GcuUpgradeStatus, Goal, Phase, Step, Strategy,
};
use gcu_upgrade_manager::sandbox::world::documented_gr;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::table::{self, percentile, row};

/// The components with a DaemonSet, by the order in which they are replaced.
const COMPONENTS: [&str; 6] = ["driver", "toolkit", "devicePlugin", "exporter", "gfd", "nfd"];
/// Events between one decision and the next.
const EVENTS: usize = 20;
/// Decisions that are measured, while the window is full: so many, or those of a whole rollout.
const DECISIONS: usize = 2000;
/// Decisions that look at everything are measured every so often.
const WHOLE_EVERY: usize = 100;

struct Rollout {
    record: GcuUpgrade,
    seen: Snapshot,
    memo: Memo,
    now: Timestamp,
    /// What the cluster has yet to do about calls.
    answers: VecDeque<FleetAction>,
    made: usize,
}

fn record(at_once: usize) -> GcuUpgrade {
    let gr = documented_gr();
    let mut target = gr.clone();
    target["spec"]["driver"]["version"] = "next".into();
    let spec = json!({
        "gr": "gcu", "operation": "Upgrade", "strategy": Strategy::RollingUpdate,
        "target": { "manifest": target }, "previous": { "uid": "gr", "manifest": gr },
    });
    let mut spec: GcuUpgradeSpec = serde_json::from_value(spec).unwrap();
    let at_once = u32::try_from(at_once).unwrap();
    spec.rolling_update = Some(RollingUpdate {
        max_unavailable: Amount::Number(at_once),
        order: Order::Name,
        min_ready_seconds: 0,
        failure_threshold: Amount::Number(1),
        ..RollingUpdate::default()
    });
    spec.rolling_update.iter_mut().for_each(|options| options.drain.enabled = false);
    let mut record = GcuUpgrade::new("gcu-1", spec);
    record.metadata.uid = Some("record".to_owned());
    record.metadata.generation = Some(1);
    record
}

fn pod(component: &str, node: &str, number: usize, hash: &str, at: Timestamp) -> DaemonPod {
    DaemonPod {
        namespace: intern("kube-system"),
        name: format!("{component}-{number:05}"),
        uid: format!("{number:08x}-5d2c-4b6e-9a57-2f8a1c3e7b90"),
        workload: intern(component),
        owner: intern(&format!("uid-of-{component}")),
        node: intern(node),
        hash: intern(hash),
        deleted_at: None,
        created_at: at,
        ready_since: Some(at),
        failure: None,
    }
}

impl Rollout {
    fn of(nodes: usize, at_once: usize) -> Self {
        let mut record = record(at_once);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let before = now - SignedDuration::from_hours(1);
        let lock = json!({ "type": "RollingUpdate" });
        let pins = COMPONENTS.map(|component| LockedSet {
            component: component.to_owned(),
            namespace: "kube-system".to_owned(),
            name: component.to_owned(),
            uid: format!("uid-of-{component}"),
            strategy: lock.clone(),
            hash: "old".to_owned(),
            unfinished: false,
        });
        let mut fleet = Fleet::default();
        for component in COMPONENTS {
            fleet.sets.push(Arc::new(SetState {
                namespace: "kube-system".to_owned(),
                name: component.to_owned(),
                uid: format!("uid-of-{component}"),
                resource_version: "7".to_owned(),
                observed: true,
                owners: Vec::new(),
                strategy: json!({ "type": "OnDelete" }),
                lock: Some(lock.clone()),
                hold: Some(Hold {
                    gr: "gcu".to_owned(),
                    component: component.to_owned(),
                    record: "gcu-1".to_owned(),
                    uid: "record".to_owned(),
                    goal: Goal::Target,
                    guarded: false,
                }),
                labelled: true,
                hash: Some(if component == "driver" { "new" } else { "old" }.to_owned()),
                pods: nodes,
                refused: None,
            }));
        }
        let mut made = 0;
        for number in 0..nodes {
            let name = format!("gcu-node-{number:05}");
            for component in COMPONENTS {
                made += 1;
                fleet.pods.insert(Arc::new(pod(component, &name, made, "old", before)));
            }
            fleet.nodes.push(Arc::new(NodeState {
                name,
                resource_version: "1".to_owned(),
                ready: true,
                cordoned: false,
                opted_out: false,
                labels: NodeLabels::default(),
                info: NodeLabels::default(),
                mark: None,
                gcus: 8,
            }));
        }
        record.status = Some(GcuUpgradeStatus {
            phase: Phase::Running,
            step: Step::Rolling,
            started_at: Some(now),
            rolling: Some(RollingStatus {
                locked: pins.to_vec(),
                locked_since: Some(before),
                probed: true,
                ..RollingStatus::default()
            }),
            ..GcuUpgradeStatus::default()
        });
        let manifest = record.spec.target.manifest.clone();
        let mut served: Value = manifest;
        served["metadata"]["uid"] = "gr".into();
        served["metadata"]["resourceVersion"] = "1".into();
        served["status"] = json!({ "phase": "Running" });
        let mut gr = LiveGr::parse(&served).unwrap();
        gr.mark = Some(format!("{}:spec", record.mark(Goal::Target)));
        let seen = Snapshot { gr: Some(gr), fleet, ..Snapshot::default() };
        Self { record, seen, memo: Memo::default(), now, answers: VecDeque::new(), made }
    }

    fn carry_out(&mut self, decision: Decision) {
        match decision {
            Decision::Record(status) => self.record.status = Some(*status),
            Decision::ActAll(actions) => {
                for action in actions {
                    // It is not made again before its answer is seen.
                    let refusals = Arc::make_mut(&mut self.seen.fleet.refusals);
                    refusals.insert(action.subject(), "done, not seen yet".to_owned());
                    self.answers.push_back(action);
                }
            }
            Decision::Wait { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    /// The cluster does what it was asked for next.
    fn answer(&mut self) {
        let Some(action) = self.answers.pop_front() else { return };
        Arc::make_mut(&mut self.seen.fleet.refusals).remove(&action.subject());
        let fleet = &mut self.seen.fleet;
        let name = action.node().unwrap().to_owned();
        match &action {
            FleetAction::Cordon { mark, .. } => {
                let mut node = fleet.node(&name).unwrap().clone();
                (node.cordoned, node.mark) = (true, Some(Mark::Claimed(mark.clone())));
                node.resource_version.push('1');
                fleet.put_node(&name, Some(Arc::new(node)));
            }
            FleetAction::ReleaseNode { .. } => {
                let mut node = fleet.node(&name).unwrap().clone();
                (node.cordoned, node.mark) = (false, None);
                node.resource_version.push('2');
                fleet.put_node(&name, Some(Arc::new(node)));
            }
            FleetAction::DeletePod { uid, .. } => {
                let old = fleet.pods.on(&name).iter().find(|pod| pod.uid == *uid).unwrap().clone();
                let hash = fleet.set(&old.namespace, &old.workload).unwrap().hash.clone().unwrap();
                self.made += 1;
                fleet.pods.remove(&old);
                fleet.pods.insert(Arc::new(pod(&old.workload, &name, self.made, &hash, self.now)));
            }
            other => panic!("{other:?}"),
        }
        self.memo.touch(&name);
    }
}

struct Cost {
    nodes: usize,
    at_once: usize,
    kept: Vec<Duration>,
    whole: Vec<Duration>,
}

fn measure(nodes: usize, at_once: usize) -> Cost {
    let mut rollout = Rollout::of(nodes, at_once);
    let (mut kept, mut whole) = (Vec::new(), Vec::new());
    let in_work = |r: &Rollout| r.record.status.as_ref().unwrap().rolling.as_ref().unwrap().active.len();
    let rolls = |r: &Rollout| r.record.status.as_ref().unwrap().step == Step::Rolling;
    while kept.len() < DECISIONS && rolls(&rollout) {
        let Rollout { record, seen, now, memo, .. } = &mut rollout;
        let begun = Instant::now();
        let decision = decide_with(record, seen, *now, memo);
        let took = begun.elapsed();
        if in_work(&rollout) * 10 >= at_once * 9 {
            if kept.len() % WHOLE_EVERY == 0 {
                let begun = Instant::now();
                std::hint::black_box(decide(&rollout.record, &rollout.seen, rollout.now));
                whole.push(begun.elapsed());
            }
            kept.push(took);
        }
        let records = matches!(decision, Decision::Record(_));
        rollout.carry_out(decision);
        if !records {
            (0..EVENTS).for_each(|_| rollout.answer());
        }
        rollout.now += SignedDuration::from_millis(100);
    }
    Cost { nodes, at_once, kept, whole }
}

pub(crate) fn print() {
    let costs = [measure(1000, 25), measure(5000, 200), measure(15_000, 1000)];
    let mut rows = vec![row(&["CPU of one decision"])];
    let us = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1000.0);
    rows[0].extend(costs.iter().map(|c| format!("{} nodes, {} in work", c.nodes, c.at_once)));
    for (name, percent) in [("median", 50), ("p99", 99), ("longest", 100)] {
        let mut cells = row(&[name]);
        cells.extend(costs.iter().map(|c| us(percentile(&c.kept, percent))));
        rows.push(cells);
    }
    let mut cells = row(&["looking at every node, median"]);
    cells.extend(costs.iter().map(|c| us(percentile(&c.whole, 50))));
    rows.push(cells);
    table::print("A decision, a few events after the one before", &rows);
}
