//! What watches have shown of the cluster: one watch for each kind, shared by all upgrades and by the API. A watch
//! lasts as long as somebody uses it: in an idle service those of the grs and of the DaemonSets.
//!
//! Nothing here knows who reads it: what is kept of an object is the same for everybody.

mod grs;
mod look;
mod records;
mod scope;
mod sight;
mod view;
mod views;
mod written;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::DynamicObject;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::cluster::streaming::Streaming;
use crate::observe::deployment_state;
use crate::observe::fleet::{self, Interest, SeenPod, SeenSet, Template};
use crate::observe::refusals::{self, Refusal};
use crate::plan::WorkloadState;
use crate::plan::fleet::{Fleet, NodeState, Tenant};
use crate::record::GcuUpgrade;
use crate::record::rolling::RollingUpdate;
use look::OpenLook;

pub use grs::{Grs, ServedGr};
pub use records::{Records, StoredRecord};
pub use scope::Scope;
pub use sight::Sight;
pub use view::{Habits, Reader, View};
pub use views::{Views, concerns_nodes, join_refusals, pods_of};

/// Objects fetched with one call: whole objects are large, and only what is kept of them may stay in memory.
const PAGE: u32 = 200;

/// Every watch that is open.
#[derive(Clone)]
pub struct Stores {
    client: Client,
    open: Arc<Mutex<Open>>,
    look: OpenLook,
    /// The grs, for readers.
    pub grs: Grs,
    /// The records, for readers and for the controller.
    pub records: Records,
    streaming: Streaming,
}

/// By what each is about; `()` where there is one for the whole cluster.
#[derive(Default)]
struct Open {
    nodes: Slots<(), Arc<NodeState>>,
    sets: Slots<(), Arc<SeenSet>>,
    /// By namespace.
    deployments: Slots<String, WorkloadState>,
    /// By namespace.
    templates: Slots<String, Template>,
    /// By namespace.
    refusals: Slots<String, Refusal>,
    /// By namespace and label selector.
    pods: Slots<(String, String), SeenPod>,
    /// By node.
    tenants: Slots<String, Arc<Tenant>>,
    /// By the record's name.
    records: BTreeMap<String, Weak<Views>>,
}

type Slots<K, T> = BTreeMap<K, Weak<View<T>>>;

impl Stores {
    /// None is open yet.
    pub fn new(client: Client) -> Self {
        Self {
            grs: Grs::new(client.clone()),
            records: Records::new(client.clone()),
            client,
            open: Arc::default(),
            look: OpenLook::default(),
            streaming: Streaming::default(),
        }
    }

    /// What is watched for a record from now on; every change wakes this.
    pub fn watch(&self, record: &GcuUpgrade, wake: Arc<Notify>) -> Arc<Views> {
        let views = Arc::new(Views::start(&self.client, self.clone(), record, wake));
        let name = record.metadata.name.clone().unwrap_or_default();
        let mut open = self.open();
        open.records.retain(|_, views| views.strong_count() > 0);
        open.records.insert(name, Arc::downgrade(&views));
        views
    }

    /// What is watched for a record, if this replica works on it.
    fn watched(&self, record: &GcuUpgrade) -> Option<Arc<Views>> {
        self.open().records.get(record.metadata.name.as_ref()?)?.upgrade()
    }

    /// Every node.
    pub fn nodes(&self) -> Arc<View<Arc<NodeState>>> {
        // A kubelet reports every few minutes that nothing has changed: that is a new version of its node.
        let differs = |old: &Arc<NodeState>, new: &Arc<NodeState>| !old.is_alike(new);
        let api: Api<Node> = Api::all(self.client.clone());
        shared(&mut self.open().nodes, (), || {
            let habits = Habits { differs, ..self.habits() };
            View::start("nodes", api, pages(), |n| Some(fleet::parse_node(&n)), habits)
        })
    }

    /// Every DaemonSet.
    pub fn sets(&self) -> Arc<View<Arc<SeenSet>>> {
        let api: Api<DaemonSet> = Api::all(self.client.clone());
        shared(&mut self.open().sets, (), || {
            self.view("daemonsets", api, pages(), |d| Some(fleet::parse_seen_set(&d)))
        })
    }

    /// The Deployments of a namespace.
    pub fn deployments(&self, namespace: &str) -> Arc<View<WorkloadState>> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        shared(&mut self.open().deployments, namespace.to_owned(), || {
            self.view("deployments", api, pages(), |d| Some(deployment_state(&d)))
        })
    }

    /// The templates of the DaemonSets of a namespace.
    pub fn templates(&self, namespace: &str) -> Arc<View<Template>> {
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
        shared(&mut self.open().templates, namespace.to_owned(), || {
            self.view("revisions", api, pages(), |r| fleet::parse_template(&r))
        })
    }

    /// Pods that DaemonSets of a namespace could not create.
    pub fn refusals(&self, namespace: &str) -> Arc<View<Refusal>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        shared(&mut self.open().refusals, namespace.to_owned(), || {
            self.view("events", api, pages().fields(refusals::SELECTOR), |e| refusals::parse_refusal(&e))
        })
    }

    /// The pods of components, by namespace and label selector.
    pub fn pods(&self, namespace: &str, selector: &str) -> Arc<View<SeenPod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        shared(&mut self.open().pods, (namespace.to_owned(), selector.to_owned()), || {
            self.view("pods", api, pages().labels(selector), |p| fleet::parse_component_pod(&p))
        })
    }

    /// Every pod on a node, listed anew: whoever has to know who is there from a certain moment on needs a list of a
    /// later one.
    pub fn list_tenants(&self, node: &str) -> Arc<View<Arc<Tenant>>> {
        let api: Api<Pod> = Api::all(self.client.clone());
        let on_it = pages().fields(&format!("spec.nodeName={node}"));
        let mut open = self.open();
        open.tenants.remove(node);
        shared(&mut open.tenants, node.to_owned(), || {
            self.view("the pods of a node", api, on_it, |p| fleet::parse_tenant(&p))
        })
    }

    fn view<K, T>(
        &self,
        what: &'static str,
        api: Api<K>,
        config: watcher::Config,
        parse: impl Fn(K) -> Option<T> + Send + 'static,
    ) -> View<T>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
        T: Clone + PartialEq + Send + 'static,
    {
        View::start(what, api, config, parse, self.habits())
    }

    fn habits<T: PartialEq>(&self) -> Habits<T> {
        let streaming = Some(self.streaming.clone());
        Habits { differs: |old, new| old != new, lists_again: false, streaming }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What readers are answered from, where it is known.
pub trait Known: Send + Sync {
    /// A gr as it stands.
    fn gr(&self, name: &str) -> Option<Arc<ServedGr>>;
    /// Every gr as it stands, API by API.
    fn grs(&self) -> Option<Vec<(String, Vec<Arc<ServedGr>>)>>;
    /// The nodes and pods that an upgrade under way sees.
    fn fleet(&self, record: &GcuUpgrade) -> Option<Fleet>;
    /// All nodes, the pods of this interest on them, and those that such a rollout may have to wait for or to evict:
    /// to explain, and never to decide.
    fn look<'k>(&'k self, interest: &'k Interest, options: &'k RollingUpdate)
    -> BoxFuture<'k, Option<Fleet>>;
    /// Notes that this process has deleted a gr; `left` is what finalizers keep of it.
    fn deleted(&self, name: &str, uid: &str, left: Option<&DynamicObject>);
    /// A record as it stands.
    fn record(&self, name: &str) -> Option<Arc<StoredRecord>>;
    /// Every record as it stands.
    fn records(&self) -> Option<Vec<Arc<StoredRecord>>>;
    /// Notes that this process has written a record, or has told somebody of this version: nothing older is shown from
    /// now on.
    fn at_least(&self, record: &GcuUpgrade);
}

impl Known for Stores {
    fn gr(&self, name: &str) -> Option<Arc<ServedGr>> {
        self.grs.get(name)
    }

    fn grs(&self) -> Option<Vec<(String, Vec<Arc<ServedGr>>)>> {
        self.grs.list()
    }

    fn fleet(&self, record: &GcuUpgrade) -> Option<Fleet> {
        let seen = self.watched(record)?.snapshot(record)?;
        concerns_nodes(record).then_some(seen.fleet)
    }

    fn look<'k>(
        &'k self,
        interest: &'k Interest,
        options: &'k RollingUpdate,
    ) -> BoxFuture<'k, Option<Fleet>> {
        Box::pin(self.look.fleet(self, interest, options))
    }

    fn deleted(&self, name: &str, uid: &str, left: Option<&DynamicObject>) {
        self.grs.deleted(name, uid, left);
    }

    fn record(&self, name: &str) -> Option<Arc<StoredRecord>> {
        self.records.get(name)
    }

    fn records(&self) -> Option<Vec<Arc<StoredRecord>>> {
        self.records.list()
    }

    fn at_least(&self, record: &GcuUpgrade) {
        self.records.at_least(record);
    }
}

/// For a process that watches nothing: every read is of the cluster as it is.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Known for Nothing {
    fn gr(&self, _: &str) -> Option<Arc<ServedGr>> {
        None
    }

    fn grs(&self) -> Option<Vec<(String, Vec<Arc<ServedGr>>)>> {
        None
    }

    fn fleet(&self, _: &GcuUpgrade) -> Option<Fleet> {
        None
    }

    fn look<'k>(&'k self, _: &'k Interest, _: &'k RollingUpdate) -> BoxFuture<'k, Option<Fleet>> {
        Box::pin(std::future::ready(None))
    }

    fn deleted(&self, _: &str, _: &str, _: Option<&DynamicObject>) {}

    fn record(&self, _: &str) -> Option<Arc<StoredRecord>> {
        None
    }

    fn records(&self) -> Option<Vec<Arc<StoredRecord>>> {
        None
    }

    fn at_least(&self, _: &GcuUpgrade) {}
}

fn pages() -> watcher::Config {
    watcher::Config::default().page_size(PAGE)
}

fn shared<K: Ord, T>(slots: &mut Slots<K, T>, key: K, start: impl FnOnce() -> View<T>) -> Arc<View<T>> {
    if let Some(open) = slots.get(&key).and_then(Weak::upgrade) {
        return open;
    }
    slots.retain(|_, slot| slot.strong_count() > 0);
    let view = Arc::new(start());
    slots.insert(key, Arc::downgrade(&view));
    view
}
