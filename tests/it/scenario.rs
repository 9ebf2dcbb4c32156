//! Scenarios are data: a world, what people do, what goes wrong, and what is expected. Every file in
//! `tests/scenarios` runs on the sandbox in virtual time, on a real API server when there is one, and in the
//! crash matrix.

mod end;
mod jobs;
mod neighbours;
mod older;
mod people;
mod step;
pub(crate) mod tenants;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use end::End;
use gcu_upgrade_manager::record::Phase;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
use serde::Deserialize;
use serde_json::Value;
use step::Step;
pub(crate) use world::WorldSpec;
use world::named;

use crate::faults::{Faults, Rule};
use crate::harness::{Backend, Harness, free_address};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What the scenario shows, as a claim.
    pub(crate) claim: String,
    /// Why it does not run on a real API server, if so.
    #[serde(default)]
    pub(crate) sandbox_only: Option<String>,
    /// Why it is not in the crash matrix, if so.
    #[serde(default)]
    pub(crate) no_crashes: Option<String>,
    #[serde(default)]
    pub(crate) world: WorldSpec,
    /// The node that the service runs on.
    #[serde(default)]
    pub(crate) own_node: Option<String>,
    /// Blueprints by file name: changes to the documented gr, by JSON pointer; `null` removes.
    #[serde(default)]
    pub(crate) blueprints: BTreeMap<String, BTreeMap<String, Value>>,
    #[serde(default)]
    pub(crate) faults: Vec<Rule>,
    pub(crate) steps: Vec<Step>,
    pub(crate) expect: Expect,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// The final phase of each record.
    #[serde(default)]
    pub(crate) records: BTreeMap<u64, Phase>,
    /// The reason of the last record's end, for programs.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// Words in the last record's message.
    #[serde(default)]
    pub(crate) says: Vec<String>,
    /// Grs created since the start, and grs whose deletion began, by whomever.
    pub(crate) created: usize,
    pub(crate) deleted: usize,
    /// What runs at the end: a blueprint's file name, `original`, `nothing`, or `other`.
    pub(crate) runs: String,
    /// Nodes that are left with old pods.
    #[serde(default)]
    pub(crate) left_out: Vec<String>,
    /// The nodes on which anything was done, exactly.
    #[serde(default)]
    pub(crate) touched: Option<Vec<String>>,
    /// The order in which nodes were taken first.
    #[serde(default)]
    pub(crate) order: Option<Vec<String>>,
    /// The most nodes that were down at once because of the upgrade.
    #[serde(default)]
    pub(crate) together: Option<usize>,
    /// Users' pods that were evicted or deleted, exactly; those of controllers by the controller's name.
    #[serde(default)]
    pub(crate) evicted: Option<Vec<String>>,
    /// How many users' pods were evicted: one that comes back each time counts each time.
    #[serde(default)]
    pub(crate) evictions: Option<usize>,
    /// The DaemonSets of which we deleted pods, exactly.
    #[serde(default)]
    pub(crate) replaced: Option<Vec<String>>,
    /// How often jobs on several nodes were restarted as a whole.
    #[serde(default)]
    pub(crate) restarts: BTreeMap<String, usize>,
    /// How often a node was cordoned.
    #[serde(default)]
    pub(crate) cordons: Option<usize>,
    /// How often at most the deletion of one pod was asked for, where faults would allow it more often.
    #[serde(default)]
    pub(crate) deletes_each: Option<usize>,
    /// Things happen that nobody asked for any more: the operator puts back its strategies, a cordon lands late.
    #[serde(default)]
    pub(crate) uncommanded: bool,
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// The scenario of this name.
pub(crate) fn of(name: &str) -> Scenario {
    read(&dir().join(format!("{name}.yaml")))
}

pub(crate) fn all() -> Vec<(String, Scenario)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir()).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| (f.file_stem().unwrap().to_str().unwrap().to_owned(), read(f))).collect()
}

fn read(file: &Path) -> Scenario {
    let text = std::fs::read_to_string(file).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Runs a scenario to its end and checks everything, last that the service is silent for so long. `None`
/// without a real cluster.
pub(crate) async fn run(
    scenario: &Scenario,
    backend: Backend,
    prefix: Option<String>,
    faults: Faults,
    silence: Duration,
) -> Option<End> {
    let (mut harness, manifests) = set(scenario, backend, prefix, faults).await?;
    for (number, step) in scenario.steps.iter().enumerate() {
        harness.revive_if_dead().await;
        step.play(&mut harness, &manifests, &format!("step {}", number + 1)).await;
    }
    for (number, phase) in &scenario.expect.records {
        let ended = harness.until_final(*number).await;
        let said = harness.record(*number).await.map(|r| r.status_or_default().timeline);
        assert_eq!(ended, *phase, "record {number} ends so: {said:#?}");
    }
    for step in &scenario.steps {
        if let Step::DeleteRecord(number) = step {
            harness.until("its going", *number, backend.patience(), |record| record.is_none()).await;
        }
    }
    harness.settle(silence).await;
    let end = scenario.judge(&harness, &manifests).await;
    if scenario.world.keeper {
        // What stays held stays guarded, and others share a real cluster.
        people::remove_keeper(&harness).await;
    }
    Some(end)
}

/// The scenario's world with the service in front of it, before anything has happened. `None` without a real cluster.
pub(crate) async fn set(
    scenario: &Scenario,
    backend: Backend,
    prefix: Option<String>,
    faults: Faults,
) -> Option<(Harness, Manifests)> {
    scenario.faults.iter().for_each(|rule| faults.add(rule.clone()));
    let world = scenario.world(backend, prefix);
    let manifests = Manifests::of(scenario, &world);
    let mut harness = Harness::set_on(scenario.world.old, backend, world, faults).await?;
    scenario.world.change(&harness).await;
    for (file, manifest) in &manifests.blueprints {
        std::fs::write(harness.blueprints.path().join(file), manifest.to_string()).unwrap();
    }
    harness.keeper = scenario.world.keeper.then(free_address);
    harness.lease = scenario.world.lease;
    harness.own_node = scenario.own_node.as_ref().map(|node| named(&harness.prefix(), node));
    harness.start_service().await;
    harness.ready().await;
    Some((harness, manifests))
}

/// Every manifest of a scenario, made one of its world's.
pub(crate) struct Manifests {
    world: World,
    original: Option<Value>,
    blueprints: BTreeMap<String, Value>,
}

impl Manifests {
    fn of(scenario: &Scenario, world: &World) -> Self {
        let blueprints =
            scenario.blueprints.iter().map(|(file, changes)| (file.clone(), made(world, changes))).collect();
        Self { original: world.manifest(), blueprints, world: world.clone() }
    }

    fn made(&self, changes: &BTreeMap<String, Value>) -> Value {
        made(&self.world, changes)
    }
}

fn made(world: &World, changes: &BTreeMap<String, Value>) -> Value {
    world.adapt(changed(documented_gr(), changes))
}

/// Sets each pointer to its value, `null` removing it.
fn changed(mut manifest: Value, changes: &BTreeMap<String, Value>) -> Value {
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = manifest.pointer_mut(parent).unwrap_or_else(|| panic!("no {pointer} in the gr"));
        let parent = parent.as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(key);
        } else {
            parent.insert(key.to_owned(), value.clone());
        }
    }
    manifest
}

impl Scenario {
    fn world(&self, backend: Backend, prefix: Option<String>) -> World {
        let mut world = World { nodes: self.world.nodes.unwrap_or(2), prefix, ..World::default() };
        if let Some(group) = &self.world.group {
            world.group.clone_from(group);
        }
        world.gr = (!self.world.empty).then(|| changed(documented_gr(), &self.world.gr));
        if backend.is_real() {
            world.kubelet.pod_start = Duration::from_millis(50);
            world.kubelet.pod_stop = Duration::from_millis(50);
            world.operator.component_delay = Duration::from_millis(20);
        }
        // What would keep the world from settling is for later.
        let at_first = WorldSpec {
            stuck_components: None,
            never_says_running: None,
            full_nodes: None,
            ..self.world.clone()
        };
        at_first.apply(&mut world.operator, &mut world.kubelet, |name| named(&world.prefix, name));
        world
    }
}
