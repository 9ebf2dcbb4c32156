//! Every reachable state of a small rolling upgrade: a few nodes, a driver that changes, a device plugin that restarts
//! because of it, a harmless component to probe with, a tenant on each node. Whatever the cluster and people do, in
//! whatever order, and wherever the service dies: what must hold holds in every state, and from every state an end
//! can be reached.

mod interference;
mod service;
mod world;

use std::collections::{HashMap, VecDeque};

use gcu_upgrade_manager::plan::decide;
use gcu_upgrade_manager::record::rolling::Hold;
use gcu_upgrade_manager::record::{Goal, OnFailure, Phase, Previous, Strategy};
use serde_json::{Value, json};

use super::{RECORDED, ago, gr, now, record};

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
        "spec": { "driver": { "name": "driver", "version": version }, "devicePlugin": { "name": "plugin" },
            "gfd": gfd },
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
