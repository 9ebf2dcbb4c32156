//! Scheduler, kubelet and node controller of every node of a world, in one actor.
//!
//! It binds pending pods, runs them, lets images and containers fail as told, ends deleted pods, keeps the
//! nodes' conditions and taints, and reports the GCUs of a node for as long as a device plugin serves them.
//! What it knows besides the API's objects are timers; a restarted kubelet starts those anew, as a real one
//! does not. It leaves out: probes, init containers, resources other than GCUs, eviction for taints.

mod nodes;
mod pods;
mod scheduling;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, Resource, ResourceExt, runtime::watcher};
use tokio::{
    sync::{Barrier, watch},
    time::Instant,
};

use super::{
    fit,
    queue::{Change, Key, Queue, key_of, lock, observe, work, workload_of},
};
use crate::WORLD_LABEL;
use gcu_clock::Clock;

/// An annotation with a number of seconds: the pod's containers end by themselves after that long, well.
pub const RUNS_FOR: &str = "sandbox.enflame.com/runs-for";
/// An annotation with a number of seconds: a deleted pod takes that long to end.
pub const STOPS_IN: &str = "sandbox.enflame.com/stops-in";

/// How the nodes of a world behave. May be changed while they run; a fault healed is healed at once.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeletBehaviour {
    /// From binding to ready.
    pub pod_start: Duration,
    /// From the delete of a pod to its end.
    pub pod_stop: Duration,
    /// Images that contain one of these cannot be pulled.
    pub bad_images: Vec<String>,
    /// Nodes on which no further image can be pulled.
    pub full_nodes: BTreeSet<String>,
    /// Containers of images that contain one of these end as soon as they start.
    pub crashing_images: Vec<String>,
    /// Workloads (by name) whose deleted pods never end.
    pub stuck_terminating: BTreeSet<String>,
    /// Nodes that are not ready, and on which nothing happens any more.
    pub dead_nodes: BTreeSet<String>,
    /// A pod whose workload's name contains one of these serves the GCUs of its node.
    pub device_plugins: Vec<String>,
}

impl Default for KubeletBehaviour {
    fn default() -> Self {
        Self {
            pod_start: Duration::from_secs(2),
            pod_stop: Duration::from_secs(1),
            bad_images: Vec::new(),
            full_nodes: BTreeSet::new(),
            crashing_images: Vec::new(),
            stuck_terminating: BTreeSet::new(),
            dead_nodes: BTreeSet::new(),
            device_plugins: vec!["gcu-k8s-plugin".to_owned(), "gcushare-device-plugin".to_owned()],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum WorkItem {
    Node(String),
    Pod(Key),
}

/// The timers of one pod, by its UID.
#[derive(Default)]
struct Life {
    start_at: Option<Instant>,
    stop_at: Option<Instant>,
    next_crash: Option<Instant>,
    ended: bool,
}

/// What the watches have seen, by the keys that the work asks for.
#[derive(Default)]
struct Index {
    nodes: BTreeMap<String, Arc<Node>>,
    pods: HashMap<Key, Arc<Pod>>,
    /// Pods by the node they are on, or are being bound to.
    on_node: HashMap<String, BTreeSet<Key>>,
    home: HashMap<Key, String>,
    /// Pods without a node, by the node they were made for, if by any.
    waiting: BTreeMap<Option<String>, BTreeSet<Key>>,
    lives: HashMap<String, Life>,
    /// When nodes of this world were deleted.
    lost_nodes: HashMap<String, Instant>,
}

struct Kubelet {
    client: Client,
    clock: Clock,
    behaviour: watch::Receiver<KubeletBehaviour>,
    /// Only pods that select this world's nodes are bound to any of them.
    world: Option<String>,
    index: Mutex<Index>,
    queue: Arc<Queue<WorkItem>>,
}

/// Runs the nodes of the world for ever; with no world, those of the whole cluster.
pub async fn run(
    client: Client,
    clock: Clock,
    behaviour: watch::Receiver<KubeletBehaviour>,
    world: Option<String>,
) {
    let mut nodes = watcher::Config::default();
    if let Some(world) = &world {
        nodes = nodes.labels(&format!("{WORLD_LABEL}={world}"));
    }
    let (node_api, pod_api) = (Api::all(client.clone()), Api::all(client.clone()));
    let (index, queue) = (Mutex::new(Index::default()), Queue::new());
    let kubelet = Kubelet { client, clock, behaviour, world, index, queue };
    let synced = Arc::new(Barrier::new(3));
    tokio::join!(
        observe(node_api, nodes, Arc::clone(&synced), |change| kubelet.saw_node(change)),
        observe(pod_api, watcher::Config::default(), Arc::clone(&synced), |change| kubelet.saw_pod(change)),
        kubelet.follow_behaviour(),
        async {
            synced.wait().await;
            work(Arc::clone(&kubelet.queue), 64, |job| kubelet.sync(job)).await;
        },
    );
}

impl Kubelet {
    async fn sync(&self, job: WorkItem) -> Result<Option<Duration>, kube::Error> {
        match job {
            WorkItem::Node(name) => self.sync_node(&name).await,
            WorkItem::Pod(key) => self.sync_pod(&key).await,
        }
    }

    async fn follow_behaviour(&self) {
        let mut behaviour = self.behaviour.clone();
        while behaviour.changed().await.is_ok() {
            let index = lock(&self.index);
            for name in index.nodes.keys() {
                self.queue.add(WorkItem::Node(name.clone()));
            }
            for key in index.home.keys().chain(index.waiting.values().flatten()) {
                self.queue.add(WorkItem::Pod(key.clone()));
            }
        }
        // Nobody can change it any more.
        std::future::pending::<()>().await;
    }

    fn saw_node(&self, change: Change<Node>) {
        let mut index = lock(&self.index);
        match change {
            Change::Applied { old, new } => {
                let name = new.name_any();
                self.queue.add(WorkItem::Node(name.clone()));
                index.lost_nodes.remove(&name);
                index.nodes.insert(name.clone(), Arc::clone(&new));
                if old.is_none_or(|old| placement(&old) != placement(&new)) {
                    for waiting in [Some(name), None] {
                        for key in index.waiting.get(&waiting).into_iter().flatten() {
                            self.queue.add(WorkItem::Pod(key.clone()));
                        }
                    }
                }
            }
            Change::Gone(old) => {
                let name = old.name_any();
                index.nodes.remove(&name);
                for key in index.on_node.get(&name).into_iter().flatten() {
                    self.queue.add(WorkItem::Pod(key.clone()));
                }
                index.lost_nodes.insert(name, Instant::now());
            }
        }
    }

    fn saw_pod(&self, change: Change<Pod>) {
        let mut index = lock(&self.index);
        let (pod, there) = match change {
            Change::Applied { new, .. } => (new, true),
            Change::Gone(old) => (old, false),
        };
        let key = key_of(&*pod);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        if there {
            match &node {
                Some(node) => index.place(&key, node),
                None => index.wait(&key, fit::pinned_to(&pod).map(str::to_owned)),
            }
            self.queue.add(WorkItem::Pod(key.clone()));
            index.pods.insert(key, Arc::clone(&pod));
        } else {
            index.pods.remove(&key);
            index.unplace(&key);
            index.wait_no_more(&key, fit::pinned_to(&pod).map(str::to_owned));
            index.lives.remove(pod.meta().uid.as_deref().unwrap_or_default());
        }
        let Some(node) = node else { return };
        if self.is_device_plugin(&pod) {
            self.queue.add(WorkItem::Node(node));
        }
        // GCUs may have been given back.
        if (!there || fit::is_over(&pod)) && !fit::gcus_asked(&pod).is_empty() {
            for key in index.waiting.get(&None).into_iter().flatten() {
                self.queue.add(WorkItem::Pod(key.clone()));
            }
        }
    }

    fn is_device_plugin(&self, pod: &Pod) -> bool {
        let workload = workload_of(pod);
        self.behaviour.borrow().device_plugins.iter().any(|plugin| workload.contains(plugin.as_str()))
    }

    fn is_dead(&self, node: &str) -> bool {
        self.behaviour.borrow().dead_nodes.contains(node)
    }
}

/// What decides which pods may come to a node.
fn placement(node: &Node) -> impl PartialEq + use<> {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.clone());
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    (node.labels().clone(), fit::taints(node).to_vec(), unschedulable, allocatable)
}

impl Index {
    fn place(&mut self, key: &Key, node: &str) {
        if self.home.get(key).is_some_and(|home| home == node) {
            return;
        }
        self.unplace(key);
        // It waited for this node, or for any.
        self.wait_no_more(key, Some(node.to_owned()));
        self.wait_no_more(key, None);
        self.home.insert(key.clone(), node.to_owned());
        self.on_node.entry(node.to_owned()).or_default().insert(key.clone());
    }

    fn unplace(&mut self, key: &Key) {
        if let Some(node) = self.home.remove(key)
            && let Some(keys) = self.on_node.get_mut(&node)
        {
            keys.remove(key);
        }
    }

    fn wait(&mut self, key: &Key, pinned: Option<String>) {
        // A pod that is being bound is not waiting any more, though the watch has not said so yet.
        if !self.home.contains_key(key) {
            self.waiting.entry(pinned).or_default().insert(key.clone());
        }
    }

    fn wait_no_more(&mut self, key: &Key, pinned: Option<String>) {
        if let Some(keys) = self.waiting.get_mut(&pinned) {
            keys.remove(key);
            if keys.is_empty() {
                self.waiting.remove(&pinned);
            }
        }
    }

    fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.on_node.get(node).into_iter().flatten().filter_map(|key| self.pods.get(key))
    }
}
