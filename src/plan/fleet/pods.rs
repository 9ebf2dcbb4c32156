//! The pods of a gr's DaemonSets, by node.

use std::collections::BTreeMap;
use std::collections::btree_map::Values;
use std::iter::Flatten;
use std::sync::Arc;

use super::DaemonPod;

/// The pods of the gr's DaemonSets that have not ended, by the node that they are bound to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DaemonPods(BTreeMap<Arc<str>, Vec<Arc<DaemonPod>>>);

impl DaemonPods {
    /// All of them.
    pub fn iter(&self) -> Flatten<Values<'_, Arc<str>, Vec<Arc<DaemonPod>>>> {
        self.0.values().flatten()
    }

    /// Those that the DaemonSet of this UID controls.
    pub fn of<'p>(&'p self, uid: &'p str) -> impl Iterator<Item = &'p DaemonPod> {
        self.iter().map(AsRef::as_ref).filter(move |pod: &&DaemonPod| pod.is_of(uid))
    }

    /// Those on a node, by namespace and name.
    pub fn on(&self, node: &str) -> &[Arc<DaemonPod>] {
        self.0.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// The nodes that have one, each with those on it.
    pub fn by_node(&self) -> impl Iterator<Item = (&str, &[Arc<DaemonPod>])> {
        self.0.iter().map(|(node, pods)| (node.as_ref(), pods.as_slice()))
    }

    /// Adds a pod, in the place of one of its name.
    pub fn insert(&mut self, pod: Arc<DaemonPod>) {
        if !self.0.contains_key(&pod.node) {
            self.0.insert(pod.node.clone(), Vec::new());
        }
        let Some(pods) = self.0.get_mut(&pod.node) else { return };
        match place(pods, &pod) {
            Ok(at) => pods.get_mut(at).into_iter().for_each(|place| *place = pod.clone()),
            Err(at) => pods.insert(at, pod),
        }
    }

    /// Takes away the pod of this name on this node.
    pub fn remove(&mut self, pod: &DaemonPod) {
        let Some(pods) = self.0.get_mut(&pod.node) else { return };
        if let Ok(at) = place(pods, pod) {
            pods.remove(at);
        }
        if pods.is_empty() {
            self.0.remove(&pod.node);
        }
    }
}

fn place(pods: &[Arc<DaemonPod>], pod: &DaemonPod) -> Result<usize, usize> {
    pods.binary_search_by(|other| (&other.namespace, &other.name).cmp(&(&pod.namespace, &pod.name)))
}

impl Extend<Arc<DaemonPod>> for DaemonPods {
    fn extend<I: IntoIterator<Item = Arc<DaemonPod>>>(&mut self, pods: I) {
        pods.into_iter().for_each(|pod| self.insert(pod));
    }
}

impl FromIterator<Arc<DaemonPod>> for DaemonPods {
    fn from_iter<I: IntoIterator<Item = Arc<DaemonPod>>>(pods: I) -> Self {
        let mut all = Self::default();
        all.extend(pods);
        all
    }
}

impl<'a> IntoIterator for &'a DaemonPods {
    type Item = &'a Arc<DaemonPod>;
    type IntoIter = Flatten<Values<'a, Arc<str>, Vec<Arc<DaemonPod>>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
