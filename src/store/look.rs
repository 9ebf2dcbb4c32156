//! A look at the whole cluster for readers, kept up to date by watches for as long as somebody looks: whoever looks
//! again and again costs the API server nothing.
//!
//! It only explains. What decides whether an upgrade may begin reads the cluster itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::view::Changes;
use super::{Reader, Stores, View};
use crate::observe::fleet::{
    Interest, SeenPod, SeenSet, Template, parse_component_pod, parse_tenant, with_hashes,
};
use crate::observe::live::leaving;
use crate::plan::fleet::{DaemonPod, Fleet, NodeState, Tenant};
use crate::record::rolling::RollingUpdate;

/// When nobody has looked for so long, its watches end.
const LINGERS: Duration = Duration::from_secs(60);
/// For the first lists.
const PATIENCE: Duration = Duration::from_secs(45);
/// Pods fetched with one call: of most of them nothing is kept.
const PAGE: u32 = 500;

/// The look that is open, if one is.
#[derive(Clone, Default)]
pub(super) struct OpenLook(Arc<Mutex<Option<Arc<Look>>>>);

/// What of a pod a plan asks.
#[derive(Clone, PartialEq)]
enum Bound {
    /// It is a component's.
    Component(Arc<DaemonPod>),
    /// It is a user's, and holds GCUs.
    Tenant(Arc<Tenant>),
}

/// The nodes, the pods of one gr's components on them, and the pods that hold GCUs.
struct Look {
    /// Of all who have asked since it is open.
    interest: Interest,
    nodes: Arc<View<Arc<NodeState>>>,
    sets: Arc<View<Arc<SeenSet>>>,
    templates: Vec<Arc<View<Template>>>,
    pods: View<Bound>,
    wake: Arc<Notify>,
    used: Mutex<Instant>,
    seen: Mutex<SeenSoFar>,
}

struct SeenSoFar {
    fleet: Fleet,
    nodes: Reader<Arc<NodeState>>,
    pods: Reader<Bound>,
}

impl OpenLook {
    /// What there is now; `None` where only the API server can tell.
    pub(super) async fn fleet(
        &self,
        stores: &Stores,
        asked: &Interest,
        options: &RollingUpdate,
    ) -> Option<Fleet> {
        let jobs = options.wait_for_jobs.as_ref().map(|jobs| &jobs.selector);
        if jobs.into_iter().chain([&options.drain.pod_selector]).any(|labels| !labels.is_empty()) {
            // Then pods matter that hold no GCU.
            return None;
        }
        let sets = stores.sets();
        if !sets.is_in_sync() {
            return None;
        }
        // By their owner, DaemonSets are of interest that nobody has named.
        let wanted = sets.items().into_iter().map(|set| set.state.clone()).filter(|set| asked.wants(set));
        let interest = asked.clone().with_sets(&wanted.collect::<Vec<_>>());
        let look = self.look(stores, &interest, sets);
        timeout(PATIENCE, look.ready()).await.ok().filter(|ready| *ready)?;
        look.fleet(&interest, options)
    }

    /// The look that is open, if that shows as much; else another.
    fn look(&self, stores: &Stores, interest: &Interest, sets: Arc<View<Arc<SeenSet>>>) -> Arc<Look> {
        let mut open = lock(&self.0);
        if let Some(look) = open.as_ref().filter(|look| look.interest.covers(interest)) {
            *lock(&look.used) = Instant::now();
            return look.clone();
        }
        // One who plans and one who looks at the page ask for a little less and a little more of the same gr.
        let before = open.as_ref().map(|look| look.interest.clone()).unwrap_or_default();
        let look = Arc::new(Look::begin(stores, interest.clone().and(&before), sets));
        *open = Some(look.clone());
        tokio::spawn(self.clone().close(look.clone()));
        look
    }

    /// Closes a look that nobody uses any more.
    async fn close(self, look: Arc<Look>) {
        loop {
            sleep(LINGERS).await;
            let mut open = lock(&self.0);
            let is_open = open.as_ref().is_some_and(|other| Arc::ptr_eq(other, &look));
            let rests = lock(&look.used).elapsed() >= LINGERS;
            if is_open && rests {
                *open = None;
            }
            if !is_open || rests {
                return;
            }
        }
    }
}

impl Look {
    fn begin(stores: &Stores, interest: Interest, sets: Arc<View<Arc<SeenSet>>>) -> Self {
        let nodes = stores.nodes();
        let namespaces: BTreeSet<&String> = interest.workloads.keys().collect();
        let templates: Vec<_> = namespaces.into_iter().map(|namespace| stores.templates(namespace)).collect();
        let (api, config) = (Api::<Pod>::all(stores.client.clone()), watcher::Config::default());
        let wanted = interest.clone();
        let pods = stores.view("all pods", api, config.page_size(PAGE), move |pod| bound(&wanted, &pod));
        let wake = Arc::new(Notify::new());
        nodes.wakes(&wake);
        templates.iter().for_each(|view| view.wakes(&wake));
        pods.wakes(&wake);
        let seen = SeenSoFar { fleet: Fleet::default(), nodes: nodes.reader(), pods: pods.reader() };
        Self {
            interest,
            nodes,
            sets,
            templates,
            pods,
            wake,
            used: Mutex::new(Instant::now()),
            seen: Mutex::new(seen),
        }
    }

    /// Waits for the first lists; false where they cannot be had.
    async fn ready(&self) -> bool {
        loop {
            let views = || self.templates.iter();
            if self.nodes.is_ready() && self.pods.is_ready() && views().all(|view| view.is_ready()) {
                return true;
            }
            let in_the_way = self.nodes.trouble().or_else(|| self.pods.trouble());
            if in_the_way.is_some() || views().any(|view| view.trouble().is_some()) {
                return false;
            }
            // Several may wait; a view wakes one.
            let _ = timeout(Duration::from_millis(20), self.wake.notified()).await;
        }
    }

    fn fleet(&self, interest: &Interest, options: &RollingUpdate) -> Option<Fleet> {
        let in_sync = self.nodes.is_in_sync() && self.pods.is_in_sync() && self.sets.is_in_sync();
        if !in_sync || !self.templates.iter().all(|view| view.is_in_sync()) {
            return None;
        }
        let mut fleet = {
            let mut seen = lock(&self.seen);
            seen.take_in();
            seen.fleet.clone()
        };
        if *interest != self.interest {
            fleet.pods = fleet.pods.iter().filter(|pod| interest.has(pod)).cloned().collect();
        }
        let sets = self.sets.items().into_iter().map(|set| set.state.clone());
        let templates: Vec<Template> = self.templates.iter().flat_map(|view| view.items()).collect();
        fleet.sets = with_hashes(sets.filter(|set| interest.wants(set)).collect(), &templates);
        fleet.busy = Some(Arc::new(leaving(&fleet.tenants, &options.drain)));
        Some(fleet)
    }
}

impl SeenSoFar {
    fn take_in(&mut self) {
        match self.nodes.changes() {
            None => {}
            Some(Changes::All(nodes)) => self.fleet.nodes = nodes,
            Some(Changes::Some(changes)) => {
                for (before, now) in changes {
                    let name = before.as_ref().or(now.as_ref()).map(|node| node.name.clone());
                    self.fleet.put_node(&name.unwrap_or_default(), now);
                }
            }
        }
        match self.pods.changes() {
            None => {}
            Some(Changes::All(pods)) => {
                (self.fleet.pods, self.fleet.tenants) = Default::default();
                pods.into_iter().for_each(|pod| self.put(pod));
            }
            Some(Changes::Some(changes)) => {
                for (before, now) in changes {
                    before.into_iter().for_each(|pod| self.take_away(&pod));
                    now.into_iter().for_each(|pod| self.put(pod));
                }
            }
        }
    }

    fn put(&mut self, pod: Bound) {
        match pod {
            Bound::Component(pod) => self.fleet.pods.insert(pod),
            Bound::Tenant(pod) => self.fleet.tenants.entry(pod.node.clone()).or_default().push(pod),
        }
    }

    fn take_away(&mut self, pod: &Bound) {
        let tenants: &mut BTreeMap<String, Vec<Arc<Tenant>>> = &mut self.fleet.tenants;
        match pod {
            Bound::Component(pod) => self.fleet.pods.remove(pod),
            Bound::Tenant(pod) => {
                if let Some(others) = tenants.get_mut(&pod.node) {
                    others.retain(|other| other.uid != pod.uid);
                    if others.is_empty() {
                        tenants.remove(&pod.node);
                    }
                }
            }
        }
    }
}

fn bound(interest: &Interest, pod: &Pod) -> Option<Bound> {
    if let Some(SeenPod::Daemon(component)) = parse_component_pod(pod)
        && interest.has(&component)
    {
        return Some(Bound::Component(component));
    }
    let tenant = parse_tenant(pod).filter(|tenant| tenant.gcus > 0)?;
    interest.tenants([tenant]).pop().map(Bound::Tenant)
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
