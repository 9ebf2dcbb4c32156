//! Pods of users on the nodes.

use jiff::Timestamp;

use crate::record::rolling::Labels;

/// A pod that may have to leave a node before its components restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Only this very pod is evicted.
    pub uid: String,
    /// The node it is bound to.
    pub node: String,
    /// Its labels.
    pub labels: Labels,
    /// GCUs that it holds.
    pub gcus: i64,
    /// Its deletion has been asked for.
    pub deleting: bool,
    /// The name of the workload that it belongs to.
    pub workload: String,
    /// Who makes another when it is gone.
    pub recreated_by: RecreatedBy,
    /// It keeps data in an emptyDir volume on disk.
    pub empty_dir: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// It tolerates a cordon: the scheduler may bind its successor to the same node.
    pub tolerates_cordon: bool,
    /// The group that it is scheduled with, if it names one.
    pub group: Option<PodGroup>,
}

/// A group of pods that a scheduler starts together. It is a gang if at least two of them have to run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGroup {
    /// The label or annotation that names it.
    pub key: String,
    /// Its name.
    pub name: String,
    /// So many of its pods have to run at once, where they say so themselves; else its object does.
    pub minimum: Option<u32>,
}

/// Who makes another pod when one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecreatedBy {
    /// Nobody: evicting it loses it.
    Nobody,
    /// A DaemonSet, or the kubelet itself, on the same node again: evicting it is useless.
    Node,
    /// A controller that makes another one anywhere.
    Controller,
}

/// Whether all of `wanted` is among `labels`.
pub fn matches(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
