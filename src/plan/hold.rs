//! Whether a DaemonSet that is held at OnDelete stays held. One pure function says so, for the loop that lets go and
//! for the step of an upgrade that waits for it.
//!
//! With its own update strategy back, the DaemonSet controller replaces every outdated pod by itself, on nodes that
//! nobody has cordoned. So a DaemonSet is let go of only when none of its pods is outdated, however the upgrade ended
//! that held it, and also when there is no record of one any more. The DaemonSets of a gr are let go of together: while
//! one of them has outdated pods, a change of the gr may still be on its way into the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::fleet::{DaemonPod, SetState};
use super::names::first_of;
use crate::record::rolling::RollingStatus;
use crate::record::{GcuUpgrade, Step};

/// Why a DaemonSet stays held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// This upgrade is under way.
    Upgrading(String),
    /// This record cannot be read, and may be that of an upgrade under way.
    UnreadableRecord(String),
    /// Its controller has not taken up its latest version, so it is not known which pods are outdated.
    Unsettled,
    /// Its controller counts more pods than are seen.
    PodsUnseen {
        /// Nodes on which pods are seen.
        seen: usize,
        /// Nodes on which its controller counts a pod.
        counted: usize,
    },
    /// It has outdated pods on these nodes.
    Outdated(BTreeSet<String>),
    /// This other DaemonSet of the gr stays held.
    Together(String),
}

impl Kept {
    /// A sentence for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Upgrading(record) => format!("upgrade {record} is under way"),
            Self::UnreadableRecord(record) => {
                format!("record {record} cannot be read and may be an upgrade under way")
            }
            Self::Unsettled => "its controller has not taken up its latest version yet".to_owned(),
            Self::PodsUnseen { seen, counted } => {
                format!("its controller counts pods on {counted} nodes, {seen} are seen")
            }
            Self::Together(other) => format!("DaemonSet {other} of the same gr stays held"),
            Self::Outdated(nodes) => {
                format!("outdated pods on {} nodes: {}", nodes.len(), first_of(nodes.iter(), 3))
            }
        }
    }
}

/// A record that cannot be read: its name and UID.
pub type Unreadable = (String, String);

/// Of each held DaemonSet why it stays held; `None`: it is to be let go of. `pods` are those of all of them.
pub fn verdicts<'s>(
    sets: &'s [Arc<SetState>],
    pods: &[Arc<DaemonPod>],
    records: &[GcuUpgrade],
    unreadable: &[Unreadable],
) -> Vec<(&'s SetState, Option<Kept>)> {
    let by_itself = |set: &SetState| {
        let own = pods.iter().map(AsRef::as_ref).filter(|p: &&DaemonPod| p.is_of(&set.uid));
        needed_by(set, records, unreadable).or_else(|| kept_by_pods(set, own))
    };
    let mut all: Vec<_> = sets.iter().map(|set| (set.as_ref(), by_itself(set))).collect();
    let kept: Vec<&SetState> = all.iter().filter(|(_, kept)| kept.is_some()).map(|(set, _)| *set).collect();
    for (set, verdict) in all.iter_mut().filter(|(_, kept)| kept.is_none()) {
        let other = kept.iter().find(|other| same_gr(set, other));
        *verdict = other.map(|other| Kept::Together(format!("{}/{}", other.namespace, other.name)));
    }
    all
}

/// A DaemonSet that was held by an older version does not say for which gr.
fn same_gr(a: &SetState, b: &SetState) -> bool {
    matches!((&a.hold, &b.hold), (Some(a), Some(b)) if a.gr == b.gr)
}

/// Which upgrade needs this DaemonSet held, if one does. While an upgrade restores strategies, the pods alone decide.
pub fn needed_by<'r>(
    set: &SetState,
    records: impl IntoIterator<Item = &'r GcuUpgrade>,
    unreadable: &[Unreadable],
) -> Option<Kept> {
    let pins = |rolling: &RollingStatus| rolling.locked.iter().any(|pin| pin.uid == set.uid);
    let holds = |record: &&'r GcuUpgrade| {
        let status = record.known_status();
        !status.phase.is_final()
            && status.step != Step::Restoring
            && status.rolling.as_ref().is_some_and(pins)
    };
    if let Some(record) = records.into_iter().find(holds) {
        return Some(Kept::Upgrading(record.metadata.name.clone().unwrap_or_default()));
    }
    // A DaemonSet that was held by an older version does not say for which record.
    let may_hold = |(_, uid): &&Unreadable| set.hold.as_ref().is_none_or(|hold| hold.uid == *uid);
    unreadable.iter().find(may_hold).map(|(name, _)| Kept::UnreadableRecord(name.clone()))
}

/// What of its pods keeps a DaemonSet held, if anything does. `pods` are all that it controls.
pub fn kept_by_pods<'p>(set: &SetState, pods: impl IntoIterator<Item = &'p DaemonPod>) -> Option<Kept> {
    let Some(hash) = set.hash.as_ref().filter(|_| set.observed) else { return Some(Kept::Unsettled) };
    let (mut seen, mut outdated) = (BTreeSet::new(), BTreeSet::new());
    for pod in pods {
        seen.insert(&*pod.node);
        // One whose deletion has been asked for is replaced in any case.
        if !pod.is_from(hash) && !pod.is_deleting() {
            outdated.insert(pod.node.to_string());
        }
    }
    if !outdated.is_empty() {
        return Some(Kept::Outdated(outdated));
    }
    let (seen, counted) = (seen.len(), set.pods);
    (seen < counted).then_some(Kept::PodsUnseen { seen, counted })
}
