//! Scenarios are data: a world, what people do, what goes wrong, and what is expected. Every file in
//! `tests/scenarios` runs on the sandbox in virtual time, on a real API server when there is one, and in the
//! crash matrix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use gcu_upgrade_manager::sandbox::operator::OnChange;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::faults::{Call, Faults, Rule, duration};
use crate::oracle::the_end_keeps_its_promise;
use crate::stage::{Backend, Stage};

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
    /// Blueprints by file name: changes to the documented gr, by JSON pointer; `null` removes.
    #[serde(default)]
    pub(crate) blueprints: BTreeMap<String, BTreeMap<String, Value>>,
    #[serde(default)]
    pub(crate) faults: Vec<Rule>,
    pub(crate) steps: Vec<Act>,
    pub(crate) expect: Expect,
}

/// How the world differs from the documented one; also what a step changes in it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WorldSpec {
    pub(crate) nodes: Option<usize>,
    pub(crate) group: Option<String>,
    /// Start without a gr.
    pub(crate) empty: bool,
    /// Changes to the documented gr that stands there at the start.
    pub(crate) gr: BTreeMap<String, Value>,
    pub(crate) bad_images: Option<Vec<String>>,
    pub(crate) crashing_images: Option<Vec<String>>,
    pub(crate) stuck_terminating: Option<Vec<String>>,
    pub(crate) dead_nodes: Option<Vec<String>>,
    pub(crate) finalizer_stuck: Option<bool>,
    pub(crate) stuck_components: Option<Vec<String>>,
    pub(crate) waits_for_pods: Option<bool>,
    pub(crate) reports_own_resources: Option<bool>,
    pub(crate) reports_observed_generation: Option<bool>,
    pub(crate) lower_case_phase: Option<bool>,
    pub(crate) ignores_changes: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Act {
    /// A request to the service. `{gr}` stands for the gr's name.
    Call {
        request: String,
        #[serde(default)]
        body: Value,
        status: u16,
        /// What the answer has to contain.
        #[serde(default)]
        says: Vec<String>,
    },
    /// Until record `record` is so.
    Until {
        record: u64,
        #[serde(default)]
        phase: Option<Phase>,
        #[serde(default)]
        step: Option<String>,
        #[serde(default)]
        waiting_on: Option<String>,
        /// What the status' message has to contain by then.
        #[serde(default)]
        says: Vec<String>,
    },
    /// Time passes.
    Pass(String),
    /// The world changes.
    World(Box<WorldSpec>),
    /// A person deletes the gr with kubectl.
    DeleteGr {},
    /// A person creates a gr: the documented one with these changes.
    CreateGr(BTreeMap<String, Value>),
    /// A person edits the gr.
    EditGr(BTreeMap<String, Value>),
    /// A person deletes a record.
    DeleteRecord(u64),
    /// A person patches a record with kubectl.
    PatchRecord { record: u64, patch: Value },
    /// A person writes a status by hand, `null` for none.
    CutStatus(u64),
    /// The blueprint file changes.
    Write { file: String, changes: BTreeMap<String, Value> },
    /// Further faults, from now on.
    Faults(Vec<Rule>),
    /// No more faults.
    Heal {},
    /// The process is killed and started again.
    Restart {},
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// The final phase of each record.
    #[serde(default)]
    pub(crate) records: BTreeMap<u64, Phase>,
    /// Words in the last record's message.
    #[serde(default)]
    pub(crate) says: Vec<String>,
    /// Grs created since the start, and grs whose deletion began, by whomever.
    pub(crate) created: usize,
    pub(crate) deleted: usize,
    /// What runs at the end: a blueprint's file name, `original`, `nothing`, or `other`.
    pub(crate) runs: String,
}

pub(crate) fn all() -> Vec<(String, Scenario)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| (f.file_stem().unwrap().to_str().unwrap().to_owned(), read(f))).collect()
}

fn read(file: &Path) -> Scenario {
    let text = std::fs::read_to_string(file).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// What a run came to, for comparison with another run of the same scenario.
#[derive(Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) spec: Value,
    pub(crate) workloads: Vec<Value>,
    pub(crate) records: Vec<Value>,
    pub(crate) effects: (usize, usize),
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
    scenario.faults.iter().for_each(|rule| faults.add(rule.clone()));
    let world = scenario.world(backend, prefix);
    let manifests = Manifests::of(scenario, &world);
    let mut stage = Stage::set_without_service(backend, world, faults).await?;
    scenario.world.change(&stage);
    for (file, manifest) in &manifests.blueprints {
        std::fs::write(stage.blueprints.path().join(file), manifest.to_string()).unwrap();
    }
    stage.start_service().await;
    stage.ready().await;
    for (number, act) in scenario.steps.iter().enumerate() {
        stage.revive_if_dead().await;
        act.play(&mut stage, &manifests, &format!("step {}", number + 1)).await;
    }
    for (number, phase) in &scenario.expect.records {
        assert_eq!(stage.until_final(*number).await, *phase, "record {number} ends so");
    }
    for step in &scenario.steps {
        if let Act::DeleteRecord(number) = step {
            stage.until("its going", *number, backend.patience(), |record| record.is_none()).await;
        }
    }
    stage.settle(silence).await;
    Some(scenario.judge(&stage, &manifests).await)
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
        if backend == Backend::Real {
            world.kubelet.pod_start = Duration::from_millis(50);
            world.kubelet.pod_stop = Duration::from_millis(50);
            world.operator.component_delay = Duration::from_millis(20);
        }
        // A component that never comes up would keep the world from settling: that one is for later.
        let at_first = WorldSpec { stuck_components: None, ..self.world.clone() };
        at_first.apply(&mut world.operator, &mut world.kubelet, |name| named(&world.prefix, name));
        world
    }

    async fn judge(&self, stage: &Stage, manifests: &Manifests) -> End {
        stage.oracle.check();
        let gr = stage.world.grs().get_opt(stage.gr()).await.unwrap();
        let mut records = stage.records().list(&Default::default()).await.unwrap().items;
        records.retain(|r| r.spec.gr == stage.gr());
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
        nobodys_finalizer_is_touched(&stage.faults.calls());
        let (effects, calls) = (stage.oracle.effects(), stage.faults.calls());
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
            for words in &self.expect.says {
                let message = last.status_or_default().message;
                assert!(message.contains(words), "the end says {words:?}: {message}");
            }
            assert!(last.finalizers().is_empty(), "the ended record is let go of");
        }
        End {
            spec,
            workloads: stage.workloads().await,
            records: records.iter().map(essence).collect(),
            effects: stage.oracle.effects(),
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

/// With the prefix of the world, where several share a cluster.
fn named(prefix: &Option<String>, name: &str) -> String {
    prefix.as_ref().map_or_else(|| name.to_owned(), |prefix| format!("{prefix}-{name}"))
}

impl WorldSpec {
    fn change(&self, stage: &Stage) {
        let prefix = stage.gr().strip_suffix("-enflame-gcu-resource").map(str::to_owned);
        let name = |name: &str| named(&prefix, name);
        stage.world.change_operator(|operator| self.apply(operator, &mut Default::default(), name));
        stage.world.change_kubelet(|kubelet| self.apply(&mut Default::default(), kubelet, name));
    }

    fn apply(
        &self,
        operator: &mut gcu_upgrade_manager::sandbox::operator::OperatorBehaviour,
        kubelet: &mut gcu_upgrade_manager::sandbox::kubelet::KubeletBehaviour,
        named: impl Fn(&str) -> String,
    ) {
        let all = |names: &Option<Vec<String>>| names.as_ref().map(|l| l.iter().map(|n| named(n)).collect());
        fn set<T: Clone>(slot: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                slot.clone_from(value);
            }
        }
        set(&mut kubelet.bad_images, &self.bad_images);
        set(&mut kubelet.crashing_images, &self.crashing_images);
        set(&mut kubelet.stuck_terminating, &all(&self.stuck_terminating));
        set(&mut kubelet.dead_nodes, &all(&self.dead_nodes));
        set(&mut operator.finalizer_stuck, &self.finalizer_stuck);
        set(&mut operator.stuck_components, &self.stuck_components.clone().map(|l| l.into_iter().collect()));
        set(&mut operator.waits_for_pods, &self.waits_for_pods);
        set(&mut operator.reports_own_resources, &self.reports_own_resources);
        set(&mut operator.reports_observed_generation, &self.reports_observed_generation);
        set(&mut operator.lower_case_phase, &self.lower_case_phase);
        if self.ignores_changes == Some(true) {
            operator.on_change = OnChange::Ignore;
        }
    }
}

impl Act {
    async fn play(&self, stage: &mut Stage, manifests: &Manifests, at: &str) {
        match self {
            Self::Call { request, body, status, says } => call(stage, request, body, *status, says, at).await,
            Self::Until { record, phase, step, waiting_on, says } => {
                let wanted = |r: Option<&GcuUpgrade>| {
                    let Some(status) = r.map(GcuUpgrade::status_or_default) else { return false };
                    let on = status.waiting_on.as_ref().map(|w| format!("{:?}", w.reason));
                    phase.is_none_or(|p| p == status.phase)
                        && step.as_ref().is_none_or(|s| *s == format!("{:?}", status.step))
                        && waiting_on.as_ref().is_none_or(|w| Some(w) == on.as_ref())
                        && says.iter().all(|words| status.message.contains(words))
                };
                stage.until(&format!("{at}: {self:?}"), *record, stage.backend.patience(), wanted).await;
            }
            Self::Pass(time) => sleep(duration(time)).await,
            Self::World(change) => change.change(stage),
            Self::DeleteGr {} => {
                let gr = stage.world.gr().await.unwrap();
                stage.oracle.forgive(&gr.uid().unwrap());
                stage.world.grs().delete(stage.gr(), &DeleteParams::default()).await.unwrap();
            }
            Self::CreateGr(changes) => {
                let object: DynamicObject = serde_json::from_value(manifests.made(changes)).unwrap();
                stage.world.grs().create(&PostParams::default(), &object).await.unwrap();
            }
            Self::EditGr(changes) => {
                let mut gr = serde_json::to_value(stage.world.gr().await.unwrap()).unwrap();
                gr = changed(gr, changes);
                gr["metadata"].as_object_mut().unwrap().remove("resourceVersion");
                gr["metadata"].as_object_mut().unwrap().remove("managedFields");
                let patch = json!({ "spec": gr["spec"] });
                let params = PatchParams::default();
                stage.world.grs().patch(stage.gr(), &params, &Patch::Merge(&patch)).await.unwrap();
            }
            Self::DeleteRecord(number) => {
                stage.records().delete(&stage.record_name(*number), &DeleteParams::default()).await.unwrap();
            }
            Self::PatchRecord { record, patch } => {
                let (name, params) = (stage.record_name(*record), PatchParams::default());
                stage.records().patch(&name, &params, &Patch::Merge(patch)).await.unwrap();
            }
            Self::CutStatus(record) => {
                let (name, params) = (stage.record_name(*record), PatchParams::default());
                stage.oracle.forgive(&name);
                let patch = json!({ "status": null });
                stage.records().patch_status(&name, &params, &Patch::Merge(&patch)).await.unwrap();
            }
            Self::Write { file, changes } => {
                std::fs::write(stage.blueprints.path().join(file), manifests.made(changes).to_string())
                    .unwrap();
            }
            Self::Faults(rules) => rules.iter().for_each(|rule| stage.faults.add(rule.clone())),
            Self::Heal {} => stage.faults.heal(),
            Self::Restart {} => {
                stage.kill();
                stage.start_service().await;
                stage.ready().await;
            }
        }
    }
}

/// A call that starts a job and is lost with the process is what a client retries, after a look whether it
/// was taken: the record tells.
async fn call(stage: &mut Stage, request: &str, body: &Value, status: u16, says: &[String], at: &str) {
    let (method, path) = request.split_once(' ').unwrap();
    let path = path.replace("{gr}", stage.gr());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let before = stage.newest().await;
    if method == "DELETE"
        && let Ok(gr) = stage.world.gr().await
    {
        stage.oracle.forgive(&gr.uid().unwrap());
    }
    loop {
        if let Some(answer) = stage.call(method, &path, &body).await {
            assert_eq!(answer.status.as_u16(), status, "{at}: {request}: {}", answer.text);
            for words in says {
                assert!(
                    answer.text.contains(words.as_str()),
                    "{at}: {request} says {words:?}: {}",
                    answer.text
                );
            }
            return;
        }
        stage.revive_if_dead().await;
        if method != "GET" && stage.newest().await != before {
            return;
        }
        if method == "DELETE" && stage.world.gr().await.is_ok_and(|g| g.metadata.deletion_timestamp.is_some())
        {
            while body.contains("foreground") && stage.world.gr().await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
            return;
        }
    }
}

impl Stage {
    /// The newest record's name, intent and attempt: changes with every job that is taken.
    async fn newest(&self) -> Option<String> {
        let records = self.records().list(&Default::default()).await.ok()?.items;
        let mine = records.iter().filter(|r| r.spec.gr == self.gr());
        mine.max_by_key(|r| r.number())
            .map(|r| format!("{} {:?} {}", r.name_any(), r.spec.intent, r.spec.attempt))
    }

    /// Nothing is left to do: the records' finalizers are gone, and then the service is silent.
    async fn settle(&mut self, silence: Duration) {
        let rest = silence / 5;
        sleep(rest).await;
        self.revive_if_dead().await;
        sleep(rest).await;
        let writes = |stage: &Self| stage.faults.calls().iter().filter(|c| c.is_write()).count();
        let before = (writes(self), self.oracle.changes());
        sleep(silence).await;
        let calls = self.faults.calls();
        assert_eq!(
            (writes(self), self.oracle.changes()),
            before,
            "no write for a while after the end: {:#?}",
            calls.last()
        );
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
}
