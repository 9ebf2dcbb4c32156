//! Upgrades whose records are as large as they can be.

mod usual;

use std::sync::Arc;

use gcu_upgrade_manager::plan::FleetAction;
use gcu_upgrade_manager::plan::commands::nodes::Skipping;
use gcu_upgrade_manager::plan::fleet::{
    DaemonPod, Fleet, Mark, NodeLabels, NodeState, RecreatedBy, SetState, Tenant,
};
use gcu_upgrade_manager::record::rolling::{Amount, Drain, Hold, Labels, LockedSet, OnTimeout};
use gcu_upgrade_manager::record::size::{LOCKED, MANIFESTS, RECORD};
use gcu_upgrade_manager::record::{Steered, Strategy as How};

use super::*;

struct World {
    record: GcuUpgrade,
    seen: Snapshot,
    now: Timestamp,
    worst: &'static str,
    /// Pods that were made.
    made: usize,
}

impl World {
    /// As many DaemonSets as a record takes, on every node; as much asked for as a request takes.
    fn new(worst: &'static str, on_timeout: OnTimeout) -> Self {
        let mut locked: Vec<LockedSet> = Vec::new();
        loop {
            let number = locked.len();
            let set = LockedSet {
                component: if number == 0 { "driver".to_owned() } else { format!("{worst}{number}") },
                namespace: "n".repeat(63),
                name: name("set", number),
                uid: uid_of("set", number),
                strategy: json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "100%" } }),
                hash: "o".repeat(10),
                unfinished: false,
            };
            if stored(&locked) + stored(&set) > LOCKED {
                break;
            }
            locked.push(set);
        }
        let manifest = |version: &str| {
            let component =
                |l: &LockedSet| (l.component.clone(), json!({ "name": l.name, "version": version }));
            let mut manifest =
                json!({ "spec": locked.iter().map(component).collect::<serde_json::Map<_, _>>() });
            let left = MANIFESTS / 2 - stored(&manifest) - 10;
            let each = stored(&worst.repeat(100)) - 2;
            manifest["pad"] = json!(worst.repeat(left * 100 / each));
            manifest
        };
        let mut record = record();
        record.metadata.name = Some(name("gcu", 1));
        record.metadata.uid = Some(uid_of("u", 1));
        record.spec.strategy = How::RollingUpdate;
        record.spec.target.manifest = manifest("2");
        record.spec.previous = Some(Previous { uid: RECORDED.to_owned(), manifest: manifest("1") });
        record.spec.rolling_update = Some(RollingUpdate {
            max_unavailable: Amount::Percent(100),
            failure_threshold: Amount::Percent(100),
            drain: Drain { on_timeout, ..Drain::default() },
            ..RollingUpdate::default()
        });
        record.spec.reason = Some(worst.repeat(1024 / worst.len()));
        record.spec.requested_by = Some(shortened(&worst.repeat(2000), 512));
        record.spec.steered_by =
            Some(Steered { command: "retry-node".to_owned(), by: shortened(&worst.repeat(2000), 512) });
        while fits_a_record(&record.spec).is_ok() {
            record.spec.components.push(worst.repeat(20));
        }
        record.spec.components.pop();
        for number in 0.. {
            let reason = Some(worst.repeat(256 / worst.len()));
            let asked = Skipping { node: name("gone", number), reason, keep_cordon: Some(true) };
            match nodes::skip(&record, &asked) {
                Ok(change) => record.spec.skip = change.skip.unwrap(),
                Err(_) => break,
            }
        }
        let canaries = (0..200).map(|number| name("canary", number)).collect();
        let status = record.status.get_or_insert_default();
        (status.phase, status.step, status.observed_generation) = (Phase::Running, Step::Rolling, 1);
        let rolling = RollingStatus {
            locked: locked.clone(),
            locked_since: Some(now()),
            canaries,
            ..Default::default()
        };
        status.rolling = Some(rolling);
        let live = LiveGr {
            status: json!({ "phase": "Running" }).into(),
            ..gr(RECORDED, &record.spec.target.manifest)
        };
        let seen = Snapshot { gr: Some(live), fleet: Self::fleet(&record, &locked), ..Snapshot::default() };
        Self { record, seen, now: now(), worst, made: 0 }
    }

    fn fleet(record: &GcuUpgrade, locked: &[LockedSet]) -> Fleet {
        let set = |l: &LockedSet| {
            Arc::new(SetState {
                namespace: l.namespace.clone(),
                name: l.name.clone(),
                uid: l.uid.clone(),
                resource_version: "7".to_owned(),
                observed: true,
                strategy: json!({ "type": "OnDelete" }),
                owners: Vec::new(),
                lock: Some(l.strategy.clone()),
                hold: Some(Hold {
                    gr: "gcu".to_owned(),
                    component: l.component.clone(),
                    record: record.metadata.name.clone().unwrap(),
                    uid: record.metadata.uid.clone().unwrap(),
                    goal: Goal::Target,
                    guarded: false,
                }),
                labelled: true,
                hash: Some("new".to_owned()),
                refused: None,
                pods: 1,
            })
        };
        let mut fleet = Fleet { sets: locked.iter().map(set).collect(), ..Fleet::default() };
        for number in 0..NODES {
            let node = name("node", number);
            fleet.nodes.push(Arc::new(NodeState {
                name: node.clone(),
                resource_version: "7".to_owned(),
                ready: true,
                cordoned: false,
                opted_out: false,
                labels: NodeLabels::default(),
                info: NodeLabels::default(),
                mark: None,
                gcus: 8,
            }));
            // One pod makes a node one of the rollout's; those that are taken have all.
            let pods = if number < 1000 { locked } else { locked.get(..1).unwrap() };
            fleet.pods.extend(pods.iter().enumerate().map(|(n, l)| {
                Arc::new(DaemonPod {
                    namespace: l.namespace.as_str().into(),
                    name: name(&format!("pod-{n}"), number),
                    uid: uid_of(&format!("p{n}"), number),
                    workload: l.name.as_str().into(),
                    owner: l.uid.as_str().into(),
                    node: node.as_str().into(),
                    hash: "old".into(),
                    deleted_at: None,
                    created_at: ago(900),
                    ready_since: Some(ago(500)),
                    failure: None,
                })
            }));
        }
        fleet
    }

    /// A pod on every node that may not be evicted.
    fn with_tenants(mut self) -> Self {
        let tenant = |node: &Arc<NodeState>| {
            Arc::new(Tenant {
                namespace: "t".repeat(63),
                name: name("tenant", 0),
                uid: format!("tenant-{}", node.name),
                node: node.name.clone(),
                labels: Labels::new(),
                gcus: 1,
                deleting: false,
                workload: String::new(),
                recreated_by: RecreatedBy::Nobody,
                empty_dir: false,
                created_at: ago(5000),
                tolerates_cordon: false,
                group: None,
            })
        };
        let of_node = |node: &Arc<NodeState>| (node.name.clone(), vec![tenant(node)]);
        self.seen.fleet.tenants = self.seen.fleet.nodes.iter().map(of_node).collect();
        self
    }

    fn rolling(&self) -> &RollingStatus {
        self.record.status.as_ref().unwrap().rolling.as_ref().unwrap()
    }

    /// Decides and does what was decided, so often; the largest record on the way.
    fn turns(&mut self, count: usize) -> usize {
        let mut largest = stored(&self.record);
        for _ in 0..count {
            match decide(&self.record, &self.seen, self.now) {
                Decision::Record(status) => self.record.status = Some(*status),
                Decision::Wait { status, .. } => {
                    self.record.status = Some(*status);
                    self.now += SignedDuration::from_secs(4000);
                }
                Decision::ActAll(actions) => actions.iter().for_each(|action| self.act(action)),
                other => panic!("{other:?}"),
            }
            largest = largest.max(stored(&self.record));
            assert!(largest < RECORD, "{:?}: {largest} bytes", self.worst);
            assert!(self.rolling().active.len() <= WINDOW_LIMIT);
        }
        largest
    }

    fn act(&mut self, action: &FleetAction) {
        let fleet = &mut self.seen.fleet;
        match action {
            FleetAction::Cordon { node, mark, .. } => {
                let node = fleet.nodes.iter_mut().find(|n| n.name == *node).unwrap();
                let node = Arc::make_mut(node);
                (node.cordoned, node.mark) = (true, Some(Mark::Claimed(mark.clone())));
            }
            FleetAction::ReleaseNode { node, .. } => {
                let node = fleet.nodes.iter_mut().find(|n| n.name == *node).unwrap();
                let node = Arc::make_mut(node);
                (node.cordoned, node.mark) = (false, None);
            }
            // Its successor cannot start, and says much about it.
            FleetAction::DeletePod { uid, .. } => {
                let old = fleet.pods.iter().find(|p| p.uid == *uid).unwrap().clone();
                let mut pod = old.as_ref().clone();
                self.made += 1;
                pod.uid = uid_of("new", self.made);
                pod.name = name("new", self.made);
                pod.created_at = self.now;
                let set = fleet.sets.iter().find(|s| pod.is_of(&s.uid)).unwrap();
                pod.hash = set.hash.as_deref().unwrap().into();
                (pod.ready_since, pod.failure) = (None, Some(self.worst.repeat(10_000)));
                fleet.pods.remove(&old);
                fleet.pods.insert(Arc::new(pod));
            }
            FleetAction::Hold { uid, hold, .. } => {
                let set = fleet.sets.iter_mut().find(|s| s.uid == *uid).unwrap();
                Arc::make_mut(set).hold = Some(hold.clone());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_record_stays_writable_while_every_node_in_work_fails() {
    for worst in WORST {
        let mut world = World::new(worst, OnTimeout::Hold).with_tenants();
        let largest = world.turns(9);
        let rolling = world.rolling();
        let failed = rolling.active.iter().filter(|c| c.trouble.is_some()).count();
        assert!(failed > 10 && failed == rolling.active.len(), "{worst:?}: {failed}");
        println!("{worst:?}: {failed} nodes failed, {largest} bytes");
        // And back: all that has been replaced, and what has not.
        world.record.spec.intent = Intent::Rollback;
        let status = world.record.status.as_mut().unwrap();
        status.goal = Goal::Previous;
        for set in &mut world.seen.fleet.sets {
            let set = Arc::make_mut(set);
            set.hash = Some("o".repeat(10));
            set.hold.as_mut().unwrap().goal = Goal::Previous;
        }
        world.seen.gr.as_mut().unwrap().manifest =
            world.record.spec.previous.clone().unwrap().manifest.into();
        let largest = world.turns(5);
        println!("{worst:?}: back, {} nodes in work, {largest} bytes", world.rolling().active.len());
    }
}

#[test]
fn the_record_stays_writable_when_no_node_can_be_drained() {
    let mut world = World::new("<", OnTimeout::Skip).with_tenants();
    let before = 110;
    let skipped =
        (0..before).map(|n| SkippedNode { node: name("gone", n), reason: "<".repeat(20), attempt: 1 });
    world.record.status.as_mut().unwrap().rolling.as_mut().unwrap().skipped = skipped.collect();
    let largest = world.turns(26);
    let given_up = world.rolling().skipped.len();
    assert!(given_up > before + 40, "{given_up}");
    assert!(world.record.status_or_default().is_because_of(Reason::TooManySkipped));
    println!("{given_up} nodes given up, {largest} bytes");
}
