//! Stand-in for gcu-operator, as its documents describe it.
//!
//! For every GcuResource it deploys the components in dependency order, each when the one before runs, keeps the
//! status, and on deletion takes everything down in reverse order before it lets go of its finalizer. What the
//! documents leave open is a switch in [`OperatorBehaviour`].
//!
//! A workload *runs* when its status is up to date and no pod that it should have is missing or unavailable. Pods
//! of an older template count, unless `waits_for_updated_pods`. Once a gr is `Running` it stays so until its spec
//! or a workload changes: a pod that restarts shows in `readyResource` alone.

mod behaviour;
mod components;
mod deploy;
mod status;
mod teardown;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio::{
    sync::{Barrier, watch},
    time::Instant,
};

pub use self::behaviour::{OnChange, OperatorBehaviour, UpdateStrategy};
pub(crate) use self::components::default_name;
use self::{
    components::{Component, Kind, components},
    status::Report,
};
use super::queue::{Change, Key, Queue, is_moot, key_of, lock, observe, work};
use gcu_clock::Clock;

/// Which GcuResources an operator is responsible for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The API group: `topsops.enflame.com`, or since 2.4 `topscloud.enflame.com`.
    pub group: String,
    /// The API version.
    pub version: String,
    /// In a cluster shared by several worlds, the one whose grs (by the start of their name) and nodes it manages.
    pub world: Option<String>,
}

impl Settings {
    /// The group and version, which is also the name of the operator's finalizer.
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// The GcuResource as this operator serves it.
    pub fn resource(&self) -> ApiResource {
        let kind = GroupVersionKind::gvk(&self.group, &self.version, "GcuResource");
        ApiResource::from_gvk_with_plural(&kind, "gcuresources")
    }

    fn manages(&self, name: &str) -> bool {
        let Some(world) = &self.world else { return true };
        name.strip_prefix(world.as_str()).is_some_and(|rest| rest.starts_with('-'))
    }
}

type WorkloadKey = (Kind, Key);

#[derive(Default)]
struct Index {
    grs: BTreeMap<String, Arc<DynamicObject>>,
    workloads: BTreeMap<WorkloadKey, Arc<DynamicObject>>,
    gcu_nodes: BTreeSet<String>,
    /// When something that was decided is due, by the gr's UID and what it is.
    due: HashMap<(String, String), Instant>,
    /// The generation of a gr for which `Running` was said, by UID, for an operator that does not publish it.
    settled: HashMap<String, i64>,
}

struct Operator {
    client: Client,
    clock: Clock,
    settings: Settings,
    resource: ApiResource,
    behaviour: watch::Receiver<OperatorBehaviour>,
    index: Mutex<Index>,
    queue: Arc<Queue<String>>,
}

/// Runs the operator for ever.
pub async fn run(
    client: Client,
    clock: Clock,
    settings: Settings,
    behaviour: watch::Receiver<OperatorBehaviour>,
) {
    let resource = settings.resource();
    let grs = Api::all_with(client.clone(), &resource);
    let daemon_sets = Api::all_with(client.clone(), &Kind::DaemonSet.resource());
    let deployments = Api::all_with(client.clone(), &Kind::Deployment.resource());
    let nodes = Api::all(client.clone());
    let gcu_nodes = match &settings.world {
        Some(world) => format!("enflame.com/gcu.present=true,{}={world}", crate::WORLD_LABEL),
        None => "enflame.com/gcu.present=true".to_owned(),
    };
    let (index, queue) = (Mutex::new(Index::default()), Queue::new());
    let operator = Operator { client, clock, settings, resource, behaviour, index, queue };
    let synced = Arc::new(Barrier::new(5));
    let all = watcher::Config::default;
    // Its own workloads only: in a large cluster most others are none of its business.
    let label = operator.behaviour.borrow().label();
    let own = || all().labels(label);
    tokio::join!(
        observe(grs, all(), Arc::clone(&synced), |change| operator.saw_gr(change)),
        observe(daemon_sets, own(), Arc::clone(&synced), |it| operator.saw_workload(Kind::DaemonSet, it)),
        observe(deployments, own(), Arc::clone(&synced), |it| operator.saw_workload(Kind::Deployment, it)),
        observe(nodes, all().labels(&gcu_nodes), Arc::clone(&synced), |change| operator.saw_node(change)),
        operator.follow_behaviour(),
        async {
            synced.wait().await;
            work(Arc::clone(&operator.queue), 4, |name| operator.reconcile(name)).await;
        },
    );
}

impl Operator {
    async fn follow_behaviour(&self) {
        let mut behaviour = self.behaviour.clone();
        while behaviour.changed().await.is_ok() {
            self.look_at_all(&lock(&self.index));
        }
        // Nobody can change it any more.
        std::future::pending::<()>().await;
    }

    fn look_at_all(&self, index: &Index) {
        for name in index.grs.keys() {
            self.queue.add(name.clone());
        }
    }

    fn saw_gr(&self, change: Change<DynamicObject>) {
        let mut index = lock(&self.index);
        match change {
            Change::Applied { new, .. } if self.settings.manages(&new.name_any()) => {
                self.queue.add(new.name_any());
                index.grs.insert(new.name_any(), new);
            }
            Change::Applied { .. } => {}
            Change::Gone(old) => {
                let uid = old.uid().unwrap_or_default();
                index.grs.remove(&old.name_any());
                index.settled.remove(&uid);
                index.due.retain(|(gr, _), _| *gr != uid);
            }
        }
    }

    fn saw_workload(&self, kind: Kind, change: Change<DynamicObject>) {
        let mut index = lock(&self.index);
        let workload = match change {
            Change::Applied { new, .. } => {
                index.workloads.insert((kind, key_of(&*new)), Arc::clone(&new));
                new
            }
            Change::Gone(old) => {
                index.workloads.remove(&(kind, key_of(&*old)));
                // Whoever it belonged to: its name may be what another gr waits for.
                self.look_at_all(&index);
                old
            }
        };
        for owner in workload.owner_references().iter().filter(|owner| owner.kind == "GcuResource") {
            if index.grs.contains_key(&owner.name) {
                self.queue.add(owner.name.clone());
            }
        }
    }

    fn saw_node(&self, change: Change<Node>) {
        let mut index = lock(&self.index);
        let changed = match change {
            Change::Applied { new, .. } => index.gcu_nodes.insert(new.name_any()),
            Change::Gone(old) => index.gcu_nodes.remove(&old.name_any()),
        };
        if changed {
            self.look_at_all(&index);
        }
    }

    async fn reconcile(&self, name: String) -> Result<Option<Duration>, kube::Error> {
        let Some(gr) = lock(&self.index).grs.get(&name).cloned() else { return Ok(None) };
        let behaviour = self.behaviour.borrow().clone();
        let components = components(&gr, &self.settings, &behaviour);
        if gr.metadata.deletion_timestamp.is_some() {
            return self.tear_down(&gr, &components, &behaviour).await;
        }
        if !gr.finalizers().contains(&self.settings.api_version()) {
            let mut finalizers = gr.finalizers().to_vec();
            finalizers.push(self.settings.api_version());
            return self.set_finalizers(&gr, &finalizers).await;
        }
        self.deploy(&gr, &components, &behaviour).await
    }

    async fn set_finalizers(
        &self,
        gr: &DynamicObject,
        wanted: &[String],
    ) -> Result<Option<Duration>, kube::Error> {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &self.resource);
        // The version makes sure that no finalizer of others is lost.
        let patch = json!({
            "metadata": { "finalizers": wanted, "resourceVersion": gr.resource_version(), "uid": gr.uid() },
        });
        match api.patch(&gr.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            // The watch tells what is there now, and wakes us.
            Err(error) if !is_moot(&error) => Err(error),
            _ => Ok(None),
        }
    }

    /// Writes the status, if it says anything new.
    async fn report(
        &self,
        gr: &DynamicObject,
        report: &Report<'_>,
        behaviour: &OperatorBehaviour,
    ) -> Result<(), kube::Error> {
        let Some(status) = report.render(gr, behaviour, self.clock.precisely()) else { return Ok(()) };
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &self.resource);
        let patch = json!({ "metadata": { "uid": gr.uid() }, "status": status });
        match api.patch_status(&gr.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(written) => {
                // So that the next look does not write it again because the watch is late. A gr that is no longer
                // known has gone meanwhile and must not come back to life here.
                let mut index = lock(&self.index);
                if let Some(known) = index.grs.get_mut(&gr.name_any()).filter(|known| known.uid() == gr.uid())
                {
                    *known = Arc::new(written);
                }
                Ok(())
            }
            Err(error) if is_moot(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How long until `what` is due, the delay counted from when it was first asked for; `None` when it is.
    fn not_yet(&self, gr: &DynamicObject, what: &str, delay: Duration) -> Option<Duration> {
        let now = Instant::now();
        let key = (gr.uid().unwrap_or_default(), what.to_owned());
        let mut index = lock(&self.index);
        let due = *index.due.entry(key.clone()).or_insert(now + delay);
        if now < due {
            return Some(due - now);
        }
        index.due.remove(&key);
        None
    }

    fn gcu_nodes(&self) -> Vec<String> {
        lock(&self.index).gcu_nodes.iter().cloned().collect()
    }

    fn live(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<DynamicObject>> {
        lock(&self.index).workloads.get(&(kind, (namespace.to_owned(), name.to_owned()))).cloned()
    }

    /// The workloads that belong to the gr, whatever its spec says.
    fn owned(&self, gr: &DynamicObject) -> Vec<(Kind, Arc<DynamicObject>)> {
        let index = lock(&self.index);
        let own = index.workloads.iter().filter(|(_, workload)| belongs_to(workload, gr));
        own.map(|((kind, _), workload)| (*kind, Arc::clone(workload))).collect()
    }
}

fn belongs_to(workload: &DynamicObject, gr: &DynamicObject) -> bool {
    workload.owner_references().iter().any(|owner| Some(&owner.uid) == gr.metadata.uid.as_ref())
}

/// Whether the workload is up to date and lacks no pod.
fn runs(workload: &DynamicObject, kind: Kind, behaviour: &OperatorBehaviour) -> bool {
    let number = |path: &str| workload.data.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    if number("/status/observedGeneration") < workload.metadata.generation.unwrap_or(0) {
        return false;
    }
    match kind {
        Kind::DaemonSet => {
            let desired = number("/status/desiredNumberScheduled");
            number("/status/numberAvailable") >= desired
                && (!behaviour.waits_for_updated_pods || number("/status/updatedNumberScheduled") >= desired)
        }
        Kind::Deployment => {
            let desired = workload.data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
            number("/status/availableReplicas") >= desired && number("/status/updatedReplicas") >= desired
        }
    }
}

/// The components and whether all workloads of each run.
fn standing<'a>(
    operator: &Operator,
    gr: &DynamicObject,
    components: &'a [Component],
    behaviour: &OperatorBehaviour,
) -> Vec<(&'a Component, bool)> {
    let up = |component: &Component| {
        component.workloads.iter().all(|workload| {
            let live = operator.live(workload.kind, &workload.namespace, &workload.name);
            live.is_some_and(|live| {
                live.metadata.deletion_timestamp.is_none()
                    && belongs_to(&live, gr)
                    && runs(&live, workload.kind, behaviour)
            })
        })
    };
    components.iter().map(|component| (component, up(component))).collect()
}
