//! Over 1,000 random clusters with jobs on several nodes: each job is restarted once, with all of its nodes cordoned,
//! within the budget, however old what was known of it was. What restarts a job is simulated here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gcu_upgrade_manager::plan::FleetAction;
use gcu_upgrade_manager::plan::decide_with;
use gcu_upgrade_manager::plan::fleet::{DaemonPod, Mark, NodeState, RecreatedBy, Tenant};
use gcu_upgrade_manager::plan::gangs::{Gang, KnownGangs, Members};
use gcu_upgrade_manager::plan::memo::Memo;
use gcu_upgrade_manager::record::rolling::{Gangs, Labels, TooBig};

use super::rolling_properties::{Thrown, cluster};
use super::*;
use crate::dice::Dice;

const WORLDS: u64 = 1_000;
const KEY: &str = "volcano.sh/job-name";
/// More decisions than any of these clusters takes.
const DECISIONS: usize = 2_000;

struct World {
    record: GcuUpgrade,
    seen: Snapshot,
    memo: Memo,
    now: Timestamp,
    seed: u64,
    restarts: BTreeMap<String, usize>,
    too_big: TooBig,
    dice: Dice,
    /// A restarted job is put on nodes again at once.
    comes_back: bool,
    /// Of jobs that are given up when they have been restarted too often: how many restarts they survive.
    restarts_left: BTreeMap<String, u32>,
}

fn job_of(pod: &Tenant) -> Option<&String> {
    pod.labels.get(KEY)
}

fn member(job: &str, node: &str, serial: usize, created_at: Timestamp) -> Arc<Tenant> {
    Arc::new(Tenant {
        namespace: "default".to_owned(),
        name: format!("{job}-{serial}"),
        uid: format!("{job}-{serial}"),
        node: node.to_owned(),
        labels: Labels::from([(KEY.to_owned(), job.to_owned())]),
        gcus: 1,
        deleting: false,
        workload: job.to_owned(),
        recreated_by: RecreatedBy::Controller,
        empty_dir: false,
        created_at,
        tolerates_cordon: false,
        group: None,
    })
}

impl World {
    fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let nodes = 3 + dice.below(6) as usize;
        let at_once = 1 + dice.below(4) as u32;
        let thrown: Vec<Thrown> = (0..nodes).map(|_| Thrown::idle()).collect();
        let (mut record, mut seen) = cluster(&thrown, at_once, Intent::Run);
        let too_big = dice.pick(&[TooBig::Wait, TooBig::Wait, TooBig::Split, TooBig::Exceed]);
        let gangs = Gangs { too_big, ..Gangs::default() };
        record.spec.rolling_update.as_mut().unwrap().gangs = gangs;
        let mut serial = 0;
        for job in 0..dice.below(4) {
            for node in 0..nodes {
                if dice.below(nodes as u64) < 2 {
                    let pod = member(&format!("job-{job}"), &format!("n{node}"), serial, ago(5000));
                    seen.fleet.tenants.entry(format!("n{node}")).or_default().push(pod);
                    serial += 1;
                }
            }
        }
        let mut known = KnownGangs::default();
        for pod in seen.fleet.tenants.values().flatten() {
            // What is known is from before: of some it is not known, and others have been elsewhere.
            if dice.below(4) > 0 {
                known.see(pod, record.spec.rolling_options());
            }
            if dice.below(8) == 0 {
                let moved = Tenant { node: format!("n{}", dice.below(nodes as u64)), ..pod.as_ref().clone() };
                known.see(&moved, record.spec.rolling_options());
            }
        }
        seen.fleet.gangs = Arc::new(known);
        let comes_back = dice.below(2) == 0;
        let restarts = BTreeMap::new();
        let memo = Memo::default();
        let mut restarts_left = BTreeMap::new();
        for job in 0..4 {
            match dice.below(8) {
                0 => drop(restarts_left.insert(format!("job-{job}"), 0)),
                1 => drop(restarts_left.insert(format!("job-{job}"), 1)),
                _ => {}
            }
        }
        Self { record, seen, memo, now: now(), seed, restarts, too_big, dice, comes_back, restarts_left }
    }

    fn marked(&self) -> usize {
        self.seen.fleet.nodes.iter().filter(|node| node.mark.is_some()).count()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut NodeState)) {
        let mut node = self.seen.fleet.node(name).unwrap().clone();
        change(&mut node);
        node.resource_version.push('+');
        self.seen.fleet.put_node(name, Some(Arc::new(node)));
    }

    /// Whether anything is left to be done on a node.
    fn is_old(&self, node: &str) -> bool {
        self.seen.fleet.pods.on(node).iter().any(|pod| pod.is_from("old"))
    }

    fn nodes_of(&self, job: &str) -> BTreeSet<String> {
        let pods = self.seen.fleet.tenants.values().flatten();
        pods.filter(|pod| job_of(pod).is_some_and(|j| j == job)).map(|pod| pod.node.clone()).collect()
    }

    /// One pod of a job is evicted: the job is restarted.
    fn restart(&mut self, job: &str) {
        let nodes = self.nodes_of(job);
        let split = self.too_big == TooBig::Split;
        for node in nodes.iter().filter(|node| self.is_old(node) && !split) {
            let marked = self.seen.fleet.node(node).unwrap().mark.is_some();
            assert!(marked, "seed {}: {job} was restarted while {node} was not cordoned", self.seed);
        }
        if let Some(left) = self.restarts_left.get_mut(job) {
            assert!(*left > 0, "seed {}: {job} does not survive it", self.seed);
            *left -= 1;
        }
        *self.restarts.entry(job.to_owned()).or_default() += 1;
        for pods in self.seen.fleet.tenants.values_mut() {
            pods.retain(|pod| job_of(pod).is_none_or(|j| j != job));
        }
        if self.comes_back {
            // On nodes that are done, or the scheduler's choice would be restarted again for good reason.
            let fleet = &self.seen.fleet;
            let free = fleet.nodes.iter().filter(|node| !node.cordoned && !self.is_old(&node.name));
            let free: Vec<String> = free.map(|node| node.name.clone()).collect();
            for (place, node) in free.iter().take(nodes.len()).enumerate() {
                let pod = member(job, node, 1000 + place, self.now);
                self.seen.fleet.tenants.entry(node.clone()).or_default().push(pod);
            }
        }
    }

    fn act(&mut self, action: FleetAction) {
        match action {
            FleetAction::Cordon { node, mark, .. } => self.change(&node, |node| {
                (node.cordoned, node.mark) = (true, Some(Mark::Claimed(mark)));
            }),
            FleetAction::ReleaseNode { node, .. } => self.change(&node, |node| {
                (node.cordoned, node.mark) = (false, None);
            }),
            FleetAction::Evict { uid, .. } => {
                let mut pods = self.seen.fleet.tenants.values().flatten();
                let job = pods.find(|pod| pod.uid == uid).and_then(|pod| job_of(pod).cloned());
                // It may have gone with the first of its job.
                if let Some(job) = job {
                    self.restart(&job);
                }
            }
            FleetAction::DeletePod { node, uid, .. } => {
                let old = self.seen.fleet.pods.on(&node).iter().find(|pod| pod.uid == uid).unwrap().clone();
                self.seen.fleet.pods.remove(&old);
                self.seen.fleet.pods.insert(Arc::new(DaemonPod {
                    uid: format!("{uid}-new"),
                    hash: "new".into(),
                    created_at: self.now,
                    ready_since: Some(self.now),
                    ..old.as_ref().clone()
                }));
            }
            other => panic!("{other:?}"),
        }
        self.memo.touch_all();
    }

    /// What a worker does about gangs of which it is not known where they are.
    fn read(&mut self) -> bool {
        let unread = self.memo.take_unread();
        let any = !unread.is_empty();
        for gang in unread {
            let pods = self.seen.fleet.tenants.values().flatten();
            let restarts_left = self.restarts_left.get(&gang.name).copied();
            let mut members = Members { read_at: Some(self.now), restarts_left, ..Members::default() };
            let options = self.record.spec.rolling_options();
            for pod in pods.filter(|pod| Gang::of_leaving(pod, options).as_ref() == Some(&gang)) {
                members.add(&pod.node, pod.created_at);
            }
            Arc::make_mut(&mut self.seen.fleet.gangs).put(gang, members);
        }
        any
    }

    /// Decides until nothing is left to be done; whether it is held for jobs that are too big.
    fn run(&mut self) -> bool {
        let mut last = None;
        for _ in 0..DECISIONS {
            self.now = self.now.saturating_add(SignedDuration::from_secs(1)).unwrap();
            let decision = decide_with(&self.record, &self.seen, self.now, &mut self.memo);
            assert_eq!(decision, decide(&self.record, &self.seen, self.now), "what is kept changes nothing");
            last = Some(format!("{decision:?}"));
            if self.read() {
                continue;
            }
            match decision {
                Decision::Record(status) => {
                    let held = status.phase == Phase::Held;
                    let over = status.step != Step::Rolling;
                    self.record.status = Some(*status);
                    if over || (held && self.dice.below(4) == 0) {
                        return held;
                    }
                }
                Decision::ActAll(actions) => actions.into_iter().for_each(|action| self.act(action)),
                Decision::Wait { status, .. } if status.phase == Phase::Held => return true,
                Decision::Wait { .. } => {}
                other => panic!("{other:?}"),
            }
            let most =
                usize::try_from(self.record.status_or_default().rolling.unwrap().max_unavailable).unwrap();
            assert!(self.marked() <= most || self.too_big == TooBig::Exceed, "over the budget");
        }
        panic!("seed {}: it does not end: {last:?}", self.seed);
    }
}

#[test]
fn each_job_is_restarted_once_if_it_survives_that_with_all_its_nodes_cordoned_in_1000_random_clusters() {
    let (mut jobs, mut together, mut held) = (0, 0, 0);
    for seed in 0..WORLDS {
        let mut world = World::of(seed);
        let before: Vec<(String, BTreeSet<String>)> = (0..4)
            .map(|job| (format!("job-{job}"), world.nodes_of(&format!("job-{job}"))))
            .filter(|(_, nodes)| !nodes.is_empty())
            .collect();
        let is_held = world.run();
        let old: Vec<String> =
            world.seen.fleet.nodes.iter().map(|n| n.name.clone()).filter(|n| world.is_old(n)).collect();
        assert_eq!(is_held, !old.is_empty(), "seed {seed}: held, with {old:?} left");
        let spent = before.iter().any(|(job, _)| world.restarts_left.get(job) == Some(&0));
        assert!(
            !is_held || world.too_big == TooBig::Wait || spent,
            "seed {seed}: {:?} is held",
            world.too_big
        );
        for (job, nodes) in &before {
            let times = world.restarts.get(job).copied().unwrap_or_default();
            let left = nodes.iter().any(|node| old.contains(node));
            match world.too_big {
                TooBig::Split => {
                    assert!(times <= nodes.len(), "seed {seed}: {job} was restarted {times} times")
                }
                _ => assert_eq!(
                    times,
                    usize::from(!left),
                    "seed {seed}: {job}, {old:?} are left of {before:?}; restarts left: {:?}",
                    world.restarts_left
                ),
            }
            jobs += 1;
            together += usize::from(times == 1 && nodes.len() > 1);
        }
        held += usize::from(is_held);
    }
    println!("{WORLDS} clusters, {jobs} jobs, {together} on several nodes restarted once, {held} held");
    assert!(together > 500 && held > 50, "{together} and {held}: the clusters show too little");
}
