//! Every reachable state of a small rolling upgrade: a few nodes, a driver that changes, a device plugin that restarts
//! because of it, a harmless component to probe with, a tenant on each node. Whatever the cluster and people do, in
//! whatever order, and wherever the service dies: what must hold holds in every state, and from every state an end
//! can be reached.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use gcu_upgrade_manager::gr::LiveGr;
use gcu_upgrade_manager::plan::fleet::{
    DaemonPod, Fleet, Mark, NodeLabels, NodeState, RecreatedBy, SetState, Tenant,
};
use gcu_upgrade_manager::plan::hold::verdicts;
use gcu_upgrade_manager::plan::{Decision, FleetAction, GrAction, Snapshot, WorkloadState, decide};
use gcu_upgrade_manager::record::rolling::{Amount, Claim, Hold, Labels, NodeMark, PodId, RollingUpdate};
use gcu_upgrade_manager::record::{
    GcuUpgrade, GcuUpgradeStatus, Goal, Intent, OnFailure, Phase, Previous, Strategy,
};
use serde_json::{Value, json};

use super::{RECORDED, ago, now, record};

const DRIVER: usize = 0;
const PLUGIN: usize = 1;
const NAMES: [&str; 2] = ["driver", "plugin"];
/// The DaemonSets, with their components.
const SETS: [(&str, &str); 3] = [("driver", "driver"), ("plugin", "devicePlugin"), ("gfd", "gfd")];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Missing,
    Starting,
    Failing,
    Ready,
    Deleting,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pod {
    life: Life,
    /// 0: the template from before, 1: the new one.
    template: u8,
    serial: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TenantPod {
    There,
    Leaving,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Machine {
    marked: bool,
    ready: bool,
    pods: [Pod; 2],
    tenant: TenantPod,
}

/// The specs that the gr can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Spec {
    Previous,
    Probe,
    Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    spec: Spec,
    mark: Option<String>,
    /// Templates of the driver's and of the probed component's DaemonSet.
    driver: u8,
    probed: u8,
    /// For which goal each of [`SETS`] is held.
    held: [Option<Goal>; 3],
    /// The DaemonSet controller has taken a pod by itself.
    taken: bool,
    machines: Vec<Machine>,
    intent: u8,
    /// The status, with what only people read left out.
    status: String,
}

struct Config {
    on_failure: OnFailure,
    /// The operator never puts anything into its DaemonSets.
    ignores: bool,
    /// A person pauses, resumes and rolls back.
    people: bool,
    /// The second node comes and goes.
    readiness: bool,
    nodes: usize,
    at_once: u32,
}

fn manifest(version: &str, env: bool) -> Value {
    let mut gfd = json!({ "name": "gfd" });
    if env {
        gfd["env"] = json!([{ "name": "GUM_PROBE", "value": "gcu-1" }]);
    }
    json!({
        "apiVersion": "topsops.enflame.com/v1", "kind": "GcuResource", "metadata": { "name": "gcu" },
        "spec": { "driver": { "name": "driver", "version": version }, "devicePlugin": { "name": "plugin" }, "gfd": gfd },
    })
}

fn spec_of(spec: Spec) -> Value {
    match spec {
        Spec::Previous => manifest("1", false),
        Spec::Probe => manifest("1", true),
        Spec::Target => manifest("2", false),
    }
}

impl World {
    fn start(config: &Config) -> Self {
        let pod = || Pod { life: Life::Ready, template: 0, serial: 0 };
        let machine = Machine { marked: false, ready: true, pods: [pod(), pod()], tenant: TenantPod::There };
        Self {
            spec: Spec::Previous,
            mark: None,
            driver: 0,
            probed: 0,
            held: [None; 3],
            taken: false,
            machines: vec![machine; config.nodes],
            intent: 0,
            status: json!(GcuUpgradeStatus::default()).to_string(),
        }
    }

    fn status(&self) -> GcuUpgradeStatus {
        serde_json::from_str(&self.status).unwrap()
    }

    fn record(&self, config: &Config) -> GcuUpgrade {
        let mut record = record();
        record.spec.strategy = Strategy::RollingUpdate;
        let max_unavailable = Amount::Number(config.at_once);
        record.spec.rolling_update = Some(RollingUpdate { max_unavailable, ..RollingUpdate::default() });
        record.spec.on_failure = config.on_failure;
        record.spec.target.manifest = spec_of(Spec::Target);
        record.spec.previous = Some(Previous { uid: RECORDED.to_owned(), manifest: spec_of(Spec::Previous) });
        record.spec.intent = [Intent::Run, Intent::Pause, Intent::Rollback][usize::from(self.intent)];
        record.status = Some(self.status());
        record
    }

    fn snapshot(&self) -> Snapshot {
        let set = |which: usize, template: u8, pods: usize| {
            let (name, component) = SETS[which];
            let held = self.held[which];
            Arc::new(SetState {
                namespace: "kube-system".to_owned(),
                name: name.to_owned(),
                uid: format!("set-{name}"),
                resource_version: "7".to_owned(),
                observed: true,
                owners: Vec::new(),
                strategy: json!({ "type": if held.is_some() { "OnDelete" } else { "RollingUpdate" } }),
                lock: held.map(|_| json!({ "type": "RollingUpdate" })),
                hold: held.map(|goal| Hold {
                    gr: "gcu".to_owned(),
                    component: component.to_owned(),
                    record: "gcu-1".to_owned(),
                    uid: "u".to_owned(),
                    goal,
                    guarded: false,
                }),
                labelled: held.is_some(),
                hash: Some(format!("h{template}")),
                pods,
                refused: None,
            })
        };
        let there = |kind: usize| self.machines.iter().filter(|m| m.pods[kind].life != Life::Missing).count();
        let mut fleet = Fleet {
            sets: vec![set(0, self.driver, there(DRIVER)), set(1, 0, there(PLUGIN)), set(2, self.probed, 0)],
            ..Fleet::default()
        };
        for (number, machine) in self.machines.iter().enumerate() {
            let name = format!("n{number}");
            let mark = NodeMark {
                record: "gcu-1".to_owned(),
                uid: "u".to_owned(),
                state: "Claimed".to_owned(),
                attempt: 0,
                deadline: now(),
                pre_cordoned: false,
            };
            let serves = machine.pods[PLUGIN].life == Life::Ready && machine.ready;
            fleet.nodes.push(Arc::new(NodeState {
                name: name.clone(),
                resource_version: "7".to_owned(),
                ready: machine.ready,
                cordoned: machine.marked,
                opted_out: false,
                labels: NodeLabels::default(),
                mark: machine.marked.then_some(Mark::Claimed(mark)),
                gcus: if serves { 8 } else { 0 },
            }));
            for (kind, pod) in machine.pods.iter().enumerate().filter(|(_, p)| p.life != Life::Missing) {
                fleet.pods.push(Arc::new(DaemonPod {
                    namespace: "kube-system".to_owned(),
                    name: format!("{}-{number}-{}", NAMES[kind], pod.serial),
                    uid: format!("{}-{number}-{}", NAMES[kind], pod.serial),
                    workload: NAMES[kind].to_owned(),
                    owner: format!("set-{}", NAMES[kind]),
                    node: name.clone(),
                    hash: format!("h{}", pod.template),
                    deleted_at: (pod.life == Life::Deleting).then(now),
                    created_at: ago(1000),
                    ready_since: (pod.life == Life::Ready).then(|| ago(500)),
                    failure: (pod.life == Life::Failing).then(|| "image cannot be pulled".to_owned()),
                }));
            }
            // Who is on a node is looked at when it is seen to carry the claim.
            if machine.marked {
                fleet.tenants.insert(name.clone(), Vec::new());
            }
            if let Some(tenants) = fleet.tenants.get_mut(&name).filter(|_| machine.tenant != TenantPod::Gone)
            {
                tenants.push(Arc::new(Tenant {
                    namespace: "default".to_owned(),
                    name: format!("tenant-{number}"),
                    uid: format!("tenant-{number}"),
                    node: name,
                    labels: Labels::new(),
                    gcus: 1,
                    deleting: machine.tenant == TenantPod::Leaving,
                    workload: String::new(),
                    recreated_by: RecreatedBy::Controller,
                    empty_dir: false,
                    created_at: ago(5000),
                    tolerates_cordon: false,
                }));
            }
        }
        let gr = LiveGr {
            mark: self.mark.clone(),
            status: json!({ "phase": "Running" }),
            ..super::gr(RECORDED, &spec_of(self.spec))
        };
        let rolled_out = |name: &str| WorkloadState {
            kind: gcu_upgrade_manager::gr::WorkloadKind::DaemonSet,
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            uid: format!("set-{name}"),
            refused: None,
            observed: true,
            desired: 2,
            updated: 2,
            available: 2,
            selector: Labels::new(),
            owners: Vec::new(),
        };
        Snapshot {
            gr: Some(gr),
            workloads: ["driver", "plugin", "gfd"].map(rolled_out).to_vec(),
            fleet,
            ..Snapshot::default()
        }
    }

    /// What a write of this status leads to. Times are kept as "now" or "long ago", texts are dropped.
    fn with_status(&self, mut status: GcuUpgradeStatus) -> Self {
        status.timeline.clear();
        status.message.clear();
        status.conditions.retain(|c| c.type_ == "Progressing");
        for condition in &mut status.conditions {
            condition.message.clear();
            condition.last_transition_time = now();
        }
        status.waiting_on = None;
        (status.started_at, status.step_since, status.finished_at) = (None, None, None);
        if let Some(rolling) = &mut status.rolling {
            rolling.recent.clear();
            rolling.slots.clear();
            (rolling.ideal_ms, rolling.gated_ms) = (0, 0);
            (rolling.first_claim_at, rolling.last_done_at) = (None, None);
            rolling.nodes = Default::default();
            for claim in rolling.active.iter_mut().map(Arc::make_mut) {
                claim.ideal_start_ms = 0;
                if let Some(trouble) = &mut claim.trouble {
                    trouble.message = format!("node {}: ", claim.node);
                }
            }
        }
        Self { status: json!(status).to_string(), ..self.clone() }
    }

    /// Time passes, for whatever has a clock running.
    fn aged(&self, deadlines: bool) -> Self {
        let mut status = self.status();
        if deadlines {
            status.deadline = status.deadline.map(|_| ago(1));
        }
        if let Some(rolling) = &mut status.rolling {
            rolling.locked_since = rolling.locked_since.map(|_| ago(3600));
            for claim in rolling.active.iter_mut().map(Arc::make_mut) {
                if let Some(trouble) = &mut claim.trouble {
                    trouble.at = ago(3600);
                }
                if deadlines {
                    claim.deadline = ago(1);
                }
            }
        }
        self.with_status(status)
    }

    fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    /// The gr is changed.
    fn after(&self, action: &GrAction) -> Self {
        match action {
            GrAction::Patch { mark, change, .. } => self.changed(|w| {
                w.mark = Some(mark.clone());
                let wanted = [Spec::Previous, Spec::Probe, Spec::Target].into_iter().find(|spec| {
                    let now = spec_of(w.spec);
                    gcu_upgrade_manager::gr::merge_patch(&now["spec"], &spec_of(*spec)["spec"]) == *change
                });
                w.spec = wanted.unwrap_or_else(|| panic!("{change} leads nowhere"));
            }),
            other => panic!("{other:?} is no call of a rolling upgrade"),
        }
    }

    /// The call is made, if its preconditions hold.
    fn after_fleet(&self, action: &FleetAction) -> Self {
        let node = |name: &str| name.trim_start_matches('n').parse::<usize>().unwrap();
        match action {
            FleetAction::Hold { name, hold, .. } => {
                let which = SETS.iter().position(|(set, _)| set == name).unwrap();
                self.changed(|w| w.held[which] = Some(hold.goal))
            }
            FleetAction::Cordon { node: name, .. } => self.changed(|w| w.machines[node(name)].marked = true),
            FleetAction::ReleaseNode { node: name, uncordon, .. } => {
                assert!(uncordon);
                self.changed(|w| w.machines[node(name)].marked = false)
            }
            FleetAction::Evict { name, .. } => {
                let number: usize = name.trim_start_matches("tenant-").parse().unwrap();
                self.changed(|w| w.machines[number].tenant = TenantPod::Leaving)
            }
            FleetAction::DeletePod { uid, .. } => {
                let (number, kind) = self.whose(uid);
                self.changed(|w| w.machines[number].pods[kind].life = Life::Deleting)
            }
        }
    }

    fn whose(&self, uid: &str) -> (usize, usize) {
        let parts: Vec<&str> = uid.split('-').collect();
        let kind = NAMES.iter().position(|n| *n == parts[0]).unwrap_or_else(|| panic!("{uid} is deleted"));
        (parts[1].parse().unwrap(), kind)
    }

    /// What may not be done in this state.
    fn permits(&self, action: &FleetAction, status: &GcuUpgradeStatus) {
        let rolling = status.rolling.clone().unwrap_or_default();
        match action {
            FleetAction::DeletePod { uid, .. } => {
                let pod = PodId { name: uid, uid, created_at: ago(1000) };
                let is_its = |c: &&Arc<Claim>| c.components().any(|key| c.is_to_replace(key, pod));
                let claim = rolling.active.iter().find(is_its);
                let claim = claim.unwrap_or_else(|| panic!("{uid} is deleted without a claim: {self:#?}"));
                let (number, kind) = self.whose(uid);
                assert_eq!(claim.node, format!("n{number}"));
                assert!(
                    kind != DRIVER || self.machines[number].tenant == TenantPod::Gone,
                    "the driver is replaced under a tenant: {self:#?}"
                );
                assert!(self.machines[number].marked, "a pod is replaced without a cordon: {self:#?}");
            }
            FleetAction::Cordon { node, .. } => {
                assert!(rolling.active.iter().any(|c| c.node == *node), "cordon without a claim: {self:#?}");
                assert_ne!(self.intent, 1, "a cordon while paused: {self:#?}");
            }
            FleetAction::Evict { .. } => assert_ne!(self.intent, 1, "an eviction while paused: {self:#?}"),
            _ => {}
        }
    }

    /// What must hold in every state.
    fn check(&self, config: &Config) {
        let status = self.status();
        let down = |m: &&Machine| m.marked || m.pods[DRIVER].life != Life::Ready;
        let down = self.machines.iter().filter(down).count();
        assert!(
            down <= usize::try_from(config.at_once).unwrap(),
            "I2: {down} nodes are down because of us: {self:#?}"
        );
        assert!(!self.taken, "L3: the DaemonSet controller has taken a pod: {self:#?}");
        if status.phase.is_final() {
            assert!(self.machines.iter().all(|m| !m.marked), "I10: a cordon is left: {self:#?}");
            let wanted = if status.phase == Phase::Succeeded { Spec::Target } else { Spec::Previous };
            assert_eq!(self.spec, wanted, "I6, I7: {self:#?}");
            let old = self.machines.iter().any(|m| m.pods[DRIVER].template != self.driver);
            assert!(old || self.held == [None; 3], "a lock is left: {self:#?}");
            assert!(
                !old || self.machines.iter().any(|m| !m.ready),
                "a node that could have been done is left: {self:#?}"
            );
        }
    }

    fn next(&self, config: &Config) -> Vec<(bool, Self)> {
        let mut all = Vec::new();
        let record = self.record(config);
        let known = self.status();
        match decide(&record, &self.snapshot(), now()) {
            Decision::Record(status) => all.push((true, self.with_status(*status))),
            Decision::Wait { status, .. } => {
                let written = self.with_status(*status);
                if written != *self {
                    all.push((true, written));
                }
            }
            Decision::Act(GrAction::ReleaseRecord) | Decision::Finished => return Vec::new(),
            Decision::Act(action) => all.push((true, self.after(&action))),
            Decision::Guard(action) => panic!("{action:?}: nobody needs the webhook here"),
            Decision::ActAll(actions) => {
                for action in &actions {
                    self.permits(action, &known);
                    all.push((true, self.after_fleet(action)));
                }
            }
        }
        self.lets_go(&record, &mut all);
        self.clusters_moves(config, &mut all);
        if config.people {
            self.peoples_moves(&known, &mut all);
        }
        all
    }

    /// What the loop does that lets go of DaemonSets.
    fn lets_go(&self, record: &GcuUpgrade, all: &mut Vec<(bool, Self)>) {
        let seen = self.snapshot();
        let held: Vec<_> = seen.fleet.sets.iter().filter(|set| set.lock.is_some()).cloned().collect();
        let records = std::slice::from_ref(record);
        for (set, kept) in verdicts(&held, &seen.fleet.pods, records, &[]) {
            let which = SETS.iter().position(|(name, _)| *name == set.name).unwrap();
            if kept.is_none() {
                all.push((true, self.changed(|w| w.held[which] = None)));
            }
        }
    }

    fn clusters_moves(&self, config: &Config, all: &mut Vec<(bool, Self)>) {
        let mut push = |world: Self| all.push((false, world));
        if !config.ignores {
            let (driver, probed) = (u8::from(self.spec == Spec::Target), u8::from(self.spec == Spec::Probe));
            if (self.driver, self.probed) != (driver, probed) {
                push(self.changed(|w| (w.driver, w.probed) = (driver, probed)));
            }
        }
        for (number, machine) in self.machines.iter().enumerate() {
            if machine.tenant == TenantPod::Leaving {
                push(self.changed(|w| w.machines[number].tenant = TenantPod::Gone));
            }
            for (kind, pod) in machine.pods.iter().enumerate() {
                let template = if kind == DRIVER { self.driver } else { 0 };
                let mut becomes =
                    |life: Life| push(self.changed(|w| w.machines[number].pods[kind].life = life));
                match pod.life {
                    Life::Missing => push(self.changed(|w| {
                        let serial = pod.serial + 1;
                        w.machines[number].pods[kind] = Pod { life: Life::Starting, template, serial };
                    })),
                    Life::Starting => {
                        becomes(Life::Ready);
                        if kind == DRIVER && pod.template == 1 {
                            becomes(Life::Failing);
                        }
                    }
                    Life::Failing => becomes(Life::Ready),
                    Life::Deleting => becomes(Life::Missing),
                    Life::Ready if self.held[kind].is_none() && pod.template != template => {
                        push(self.changed(|w| {
                            w.machines[number].pods[kind].life = Life::Deleting;
                            w.taken = true;
                        }));
                    }
                    Life::Ready => {}
                }
            }
        }
        if config.readiness {
            push(self.changed(|w| w.machines[0].ready = !w.machines[0].ready));
        }
        push(self.aged(false));
        push(self.aged(true));
    }

    fn peoples_moves(&self, known: &GcuUpgradeStatus, all: &mut Vec<(bool, Self)>) {
        if known.goal == gcu_upgrade_manager::record::Goal::Target {
            for intent in (0..3).filter(|i| *i != self.intent) {
                all.push((false, self.changed(|w| w.intent = intent)));
            }
        } else if self.intent == 1 {
            all.push((false, self.changed(|w| w.intent = 0)));
        }
    }
}

/// Visits every reachable state; then sees that an end can be reached from each.
fn explore(config: &Config) -> usize {
    let mut numbers: HashMap<World, usize> = HashMap::new();
    let mut comes_from: Vec<Vec<usize>> = Vec::new();
    let mut ends = Vec::new();
    let mut queue = VecDeque::from([World::start(config)]);
    numbers.insert(World::start(config), 0);
    comes_from.push(Vec::new());
    while let Some(world) = queue.pop_front() {
        let number = numbers[&world];
        world.check(config);
        if world.status().phase.is_final() {
            ends.push(number);
            continue;
        }
        for (_, next) in world.next(config) {
            let count = numbers.len();
            let known = *numbers.entry(next.clone()).or_insert(count);
            if known == count {
                comes_from.push(Vec::new());
                queue.push_back(next);
            }
            comes_from[known].push(number);
        }
        assert!(numbers.len() < 3_000_000, "the model does not end: {world:#?}");
    }
    let mut can_end = vec![false; numbers.len()];
    let mut back = ends;
    while let Some(number) = back.pop() {
        if !std::mem::replace(&mut can_end[number], true) {
            back.extend(&comes_from[number]);
        }
    }
    // The one found last is the furthest on.
    if let Some((stuck, _)) = numbers.iter().filter(|(_, n)| !can_end[**n]).max_by_key(|(_, n)| **n) {
        let next: Vec<&str> =
            stuck.next(config).iter().map(|(ours, _)| if *ours { "ours" } else { "others'" }).collect();
        panic!(
            "no end can be reached from {stuck:#?}: moves {next:?}, {:#?}",
            decide(&stuck.record(config), &stuck.snapshot(), now())
        );
    }
    numbers.len()
}

fn states(config: &Config) {
    let states = explore(config);
    println!("{states} states");
    assert!(states > 1000, "only {states} states");
}

const ALL: Config = Config {
    on_failure: OnFailure::Hold,
    ignores: false,
    people: true,
    readiness: true,
    nodes: 2,
    at_once: 1,
};

#[test]
fn nothing_that_happens_breaks_a_rolling_upgrade_or_leaves_it_stuck() {
    states(&ALL);
}

#[test]
fn nothing_that_happens_breaks_a_rolling_upgrade_that_rolls_back_by_itself() {
    states(&Config { on_failure: OnFailure::Rollback, ..ALL });
}

#[test]
fn no_order_of_events_takes_more_nodes_than_allowed_out_of_three() {
    states(&Config { nodes: 3, at_once: 2, people: false, readiness: false, ..ALL });
}

#[test]
fn an_operator_that_ignores_changes_is_found_out_before_any_node_is_touched() {
    explore(&Config { ignores: true, readiness: false, ..ALL });
}
