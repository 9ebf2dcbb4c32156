//! Gangs: pods on several nodes that their framework restarts together. Evicting one of them restarts all, so that
//! their nodes are emptied together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use jiff::Timestamp;

use super::drain::is_evicted;
use super::tenant::Tenant;
use crate::record::rolling::RollingUpdate;

/// The labels whose value names a gang within a namespace, in the order in which they are looked for. Each is set by a
/// framework that restarts the job as a whole: Volcano, Kubeflow's training operator and MPI, JobSet and Trainer,
/// LeaderWorkerSet, Kueue's pod groups.
pub const KEYS: [&str; 6] = [
    VOLCANO,
    "training.kubeflow.org/job-name",
    "jobset.sigs.k8s.io/jobset-uid",
    "jobset.sigs.k8s.io/jobset-name",
    "leaderworkerset.sigs.k8s.io/group-key",
    "kueue.x-k8s.io/pod-group-name",
];

/// The label that names a job of Volcano.
const VOLCANO: &str = "volcano.sh/job-name";

/// The annotation with the group that Volcano schedules a pod with, which every pod has that it schedules.
pub const VOLCANO_GROUP: &str = "scheduling.k8s.io/group-name";
/// The label with the group that the coscheduling plugin schedules a pod with.
pub const COSCHEDULING_GROUP: &str = "scheduling.x-k8s.io/pod-group";
/// The annotation with the group that Koordinator schedules a pod with, and that with how many of it have to run.
pub const KOORDINATOR_GROUP: [&str; 2] =
    ["gang.scheduling.koordinator.sh/name", "gang.scheduling.koordinator.sh/min-available"];

/// A gang.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gang {
    /// Where its pods are.
    pub namespace: String,
    /// The label or annotation that names it.
    pub key: String,
    /// The value of that.
    pub name: String,
}

impl fmt::Display for Gang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.key)
    }
}

impl Gang {
    /// The gang that a pod belongs to, if any; `more` are keys beside those of the frameworks known.
    fn of(pod: &Tenant, more: &[String]) -> Option<Self> {
        let labelled =
            |key: &str| Some((key.to_owned(), pod.labels.get(key).filter(|n| !n.is_empty())?.clone()));
        let known = KEYS.into_iter().find_map(labelled);
        let grouped = || {
            let group = pod.group.as_ref().filter(|group| group.minimum.is_none_or(|minimum| minimum > 1))?;
            Some((group.key.clone(), group.name.clone()))
        };
        let found = known.or_else(grouped).or_else(|| more.iter().find_map(|key| labelled(key)));
        let (key, name) = found?;
        Some(Self { namespace: pod.namespace.clone(), key, name })
    }

    /// Whether a label names it.
    pub fn is_labelled(&self) -> bool {
        ![VOLCANO_GROUP, KOORDINATOR_GROUP[0]].contains(&self.key.as_str())
    }

    /// Whether it is a gang only if its object says that several of its pods have to run at once.
    pub fn needs_minimum(&self) -> bool {
        [VOLCANO_GROUP, COSCHEDULING_GROUP].contains(&self.key.as_str())
    }

    /// Whether its framework counts its restarts where they can be read: it is a job of Volcano.
    pub fn counts_restarts(&self) -> bool {
        self.key == VOLCANO
    }

    /// The gang of a pod that would have to leave its node. Of others nothing is asked.
    pub fn of_leaving(pod: &Tenant, options: &RollingUpdate) -> Option<Self> {
        let asked = options.minds_gangs() && is_evicted(pod, &options.drain);
        asked.then(|| Self::of(pod, &options.gangs.keys)).flatten()
    }
}

/// The nodes of a gang.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Of each node when the first of the gang's pods on it was created.
    pub nodes: BTreeMap<String, Timestamp>,
    /// When its pods, and no others, were last read. `None`: they were seen among all pods, and may have moved.
    pub read_at: Option<Timestamp>,
    /// So many restarts it survives; `None`: that is not known, or not limited.
    pub restarts_left: Option<u32>,
}

impl Members {
    /// Adds a pod.
    pub fn add(&mut self, node: &str, created_at: Timestamp) {
        let first = self.nodes.entry(node.to_owned()).or_insert(created_at);
        *first = created_at.min(*first);
    }
}

/// The gangs that are known, with their nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownGangs {
    members: BTreeMap<Gang, Members>,
    by_node: BTreeMap<String, BTreeSet<Gang>>,
    /// Groups of which one pod may run without the others.
    loose: BTreeSet<Gang>,
}

impl KnownGangs {
    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The gangs of these pods, as if all of their pods were among them.
    pub fn among<'p>(
        pods: impl IntoIterator<Item = &'p Tenant>,
        options: &RollingUpdate,
        read_at: Timestamp,
    ) -> Self {
        let mut known = Self::default();
        pods.into_iter().for_each(|pod| known.see(pod, options));
        known.members.values_mut().for_each(|members| members.read_at = Some(read_at));
        known
    }

    /// Adds a pod that was seen among others.
    pub fn see(&mut self, pod: &Tenant, options: &RollingUpdate) {
        let Some(gang) = Gang::of_leaving(pod, options) else { return };
        self.by_node.entry(pod.node.clone()).or_default().insert(gang.clone());
        self.members.entry(gang).or_default().add(&pod.node, pod.created_at);
    }

    /// Puts what was read of a gang in the place of what was known of it.
    pub fn put(&mut self, gang: Gang, members: Members) {
        for node in self.members.remove(&gang).iter().flat_map(|old| old.nodes.keys()) {
            if let Some(gangs) = self.by_node.get_mut(node) {
                gangs.remove(&gang);
            }
        }
        self.loose.remove(&gang);
        for node in members.nodes.keys() {
            self.by_node.entry(node.clone()).or_default().insert(gang.clone());
        }
        self.members.insert(gang, members);
    }

    /// Notes of the groups whose object has to say whether they are gangs which of them are: no others are.
    pub fn keep(&mut self, is_gang: impl Fn(&Gang) -> bool) {
        let loose: Vec<Gang> =
            self.members.keys().filter(|gang| gang.needs_minimum() && !is_gang(gang)).cloned().collect();
        loose.into_iter().for_each(|gang| self.is_none(gang));
    }

    /// Of a group one pod may run without the others.
    pub fn is_none(&mut self, gang: Gang) {
        self.put(gang.clone(), Members::default());
        self.members.remove(&gang);
        self.loose.insert(gang);
    }

    /// Whether one pod of a group may run without the others.
    pub fn is_loose(&self, gang: &Gang) -> bool {
        self.loose.contains(gang)
    }

    /// The gangs.
    pub fn all(&self) -> impl Iterator<Item = &Gang> {
        self.members.keys()
    }

    /// A gang on these nodes that is known not to survive another restart.
    pub fn spent<'g>(&'g self, mut nodes: impl Iterator<Item = &'g str>) -> Option<&'g Gang> {
        let is_spent = |gang: &&Gang| self.members(gang).is_some_and(|m| m.restarts_left == Some(0));
        nodes.find_map(|node| self.on(node).find(is_spent))
    }

    /// Notes how many restarts a gang survives.
    pub fn survives(&mut self, gang: &Gang, restarts: u32) {
        self.members.get_mut(gang).into_iter().for_each(|members| members.restarts_left = Some(restarts));
    }

    /// The nodes of a gang.
    pub fn members(&self, gang: &Gang) -> Option<&Members> {
        self.members.get(gang)
    }

    /// The gangs with pods on a node.
    pub fn on(&self, node: &str) -> impl Iterator<Item = &Gang> {
        self.by_node.get(node).into_iter().flatten()
    }

    /// The nodes that have to be taken together with this one, itself included, in the order of their names: all of
    /// every gang that has a pod on it, of those that are on these, and so on. Of other nodes than those that `counts`
    /// holds for nothing is asked: no work is done on them.
    pub fn unit(&self, node: &str, counts: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut unit = BTreeSet::from([node.to_owned()]);
        let mut open = VecDeque::from([node.to_owned()]);
        while let Some(node) = open.pop_front() {
            for other in self.on(&node).filter_map(|gang| self.members(gang)).flat_map(|m| m.nodes.keys()) {
                if !unit.contains(other) && counts(other) {
                    unit.insert(other.clone());
                    open.push_back(other.clone());
                }
            }
        }
        unit
    }
}

/// Gangs for a sentence: the first of them, and how many more there are.
pub fn in_words<'g>(gangs: impl IntoIterator<Item = &'g Gang>) -> String {
    let all: BTreeSet<&Gang> = gangs.into_iter().collect();
    let more = all.len().saturating_sub(1);
    let first = all.first().map(ToString::to_string).unwrap_or_default();
    if more > 0 { format!("{first} and {more} more") } else { first }
}
