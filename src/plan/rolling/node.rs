//! One claimed node: how far it is, and what has to happen to it next.
//!
//! Emptying: cordon (one patch with the claim's annotation), wait for jobs, evict. Swapping: one component after
//! the other, verify, soak, release (one patch again). Up to Swapping a node can be released untouched; from
//! then on there is no way back but forward, or rolling the node back.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::index::Index;
use super::maintenance::is_returned;
use super::trouble::opted_out;

use crate::plan::FleetAction;
pub use crate::plan::drain::{cannot_be_evicted, is_evicted, must_leave, needs_tenants};
use crate::plan::fleet::{DaemonPod, Mark, NodeState, Tenant};
use crate::plan::gangs::Gang;
use crate::plan::impact::Impact;
use crate::plan::names::first_of;
use crate::plan::status::after;
use crate::record::rolling::{Claim, ClaimState, PodId, Replaced, RollingUpdate};
use crate::record::{GcuUpgrade, Goal};

/// A node that is not ready while it is worked on may be on its way back: a driver or a container runtime restarts.
pub(super) const NOT_READY_SETTLES: SignedDuration = SignedDuration::from_secs(300);
/// GCUs that are missing may be on their way back: drivers and plugins take their time to find them.
const GCUS_SETTLE: SignedDuration = SignedDuration::from_secs(300);
/// Pods named in a message.
const PODS_NAMED: usize = 3;

/// What a claimed node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Stage {
    /// The cordon is on its way.
    Cordoning,
    /// Jobs on it are waited for.
    WaitingForJobs,
    /// Pods that hold a GCU are leaving.
    Evicting,
    /// A component's pod is being replaced.
    Swapping,
    /// Its pods are new; its GCUs are not back yet, or it is not ready.
    Verifying,
    /// Everything is well, and has to stay so for a while.
    Soaking,
    /// The cordon is being taken off.
    Releasing,
}

/// What has to happen to a claimed node next.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// These calls; none: wait.
    Call(Vec<FleetAction>),
    /// It is empty: its pods may be replaced.
    Swap,
    /// These pods are to be replaced as well.
    AddPods(Replaced),
    /// It is done.
    Done,
    /// It is to be released, and left out from now on, for this reason.
    Skip(String),
    /// It is to be released untouched: a person has taken it out, or it cannot be drained with the others of its gang.
    Return,
    /// It has been released: the claim can be dropped.
    GiveBack,
    /// There is no such node any more.
    Lost,
}

/// One look at a claimed node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeAssessment {
    /// What it is doing.
    pub stage: Stage,
    /// What it waits for, in a sentence.
    pub message: String,
    /// What has to happen.
    pub next: Move,
    /// A failure signal, and after how long it is believed.
    pub signal: Option<(String, SignedDuration)>,
    /// Its pods are new, and it offers fewer GCUs than before.
    pub missing_gcus: bool,
    /// By the cluster's clock, its pods became ready in the future.
    pub clock_was_set: bool,
    /// Gangs of which it has to be known first where their pods are now.
    pub unread: BTreeSet<Gang>,
    /// What it waits for is on other nodes, too.
    pub of_others: bool,
    /// What stands in its way is not known yet, and nothing says that it cannot be: it is not late.
    pub unknown: bool,
    /// When to look again though nothing has changed.
    pub until: Option<Timestamp>,
}

impl NodeAssessment {
    pub(super) fn new(stage: Stage, message: impl Into<String>, next: Move) -> Self {
        Self {
            stage,
            message: message.into(),
            next,
            signal: None,
            missing_gcus: false,
            clock_was_set: false,
            unread: BTreeSet::new(),
            of_others: false,
            unknown: false,
            until: None,
        }
    }

    pub(super) fn wait(stage: Stage, message: impl Into<String>) -> Self {
        Self::new(stage, message, Move::Call(Vec::new()))
    }
}

/// Looks at one claimed node. `stopping`: no node that has not begun to swap may go on; `abandon`: all are given
/// back as they are.
pub fn look(
    record: &GcuUpgrade,
    claim: &Claim,
    index: &Index<'_>,
    now: Timestamp,
    stopping: bool,
    abandon: bool,
) -> NodeAssessment {
    let Some(node) = index.fleet.node(&claim.node) else {
        return NodeAssessment::new(Stage::Releasing, "the node is gone", Move::Lost);
    };
    let there = Node { record, claim, node, index, now };
    let returned = is_returned(record, claim, node, now);
    if abandon || returned || (stopping && claim.state == ClaimState::Emptying) {
        return there.give_back();
    }
    if claim.state != ClaimState::Returning
        && let Some(why) = opted_out(node, &record.spec.skip)
    {
        return NodeAssessment::new(Stage::Releasing, why, Move::Return);
    }
    match claim.state {
        ClaimState::Returning => there.give_back(),
        // What called for it has been taken back meanwhile.
        ClaimState::Emptying if index.first_outdated(&node.name).is_none() => there.give_back(),
        ClaimState::Emptying => there.emptying(),
        ClaimState::Swapping => there.swapping(),
    }
}

pub(super) struct Node<'a> {
    pub(super) record: &'a GcuUpgrade,
    pub(super) claim: &'a Claim,
    pub(super) node: &'a NodeState,
    pub(super) index: &'a Index<'a>,
    pub(super) now: Timestamp,
}

impl Node<'_> {
    pub(super) fn options(&self) -> &RollingUpdate {
        self.record.spec.rolling_options()
    }

    pub(super) fn is_ours(&self) -> bool {
        is_ours(self.record, self.node)
    }

    fn give_back(&self) -> NodeAssessment {
        if self.is_ours() {
            return self.release("being released");
        }
        NodeAssessment::new(Stage::Releasing, "released", Move::GiveBack)
    }

    fn release(&self, why: &str) -> NodeAssessment {
        let refused = self.index.fleet.refusals.get(&self.node.subject());
        let mut action = release(self.node);
        let kept = self.record.spec.skip.iter().any(|s| s.node == self.node.name && s.keep_cordon);
        if let FleetAction::ReleaseNode { uncordon, .. } = &mut action {
            *uncordon &= !kept;
        }
        match refused {
            Some(refusal) => NodeAssessment::wait(Stage::Releasing, format!("{why}: {refusal}")),
            None => NodeAssessment::new(Stage::Releasing, why, Move::Call(vec![action])),
        }
    }

    fn swapping(&self) -> NodeAssessment {
        if let Some(more) = self.newly_outdated() {
            let mut pods = self.index.pods(&self.node.name);
            let well = pods.all(|(_, pod)| pod.ready_since.is_some() && !pod.is_deleting());
            if self.claim.cordon && !self.is_ours() && well {
                // It was done and released, and then the gr was put back: it has to be emptied again.
                return NodeAssessment::new(Stage::Releasing, "released", Move::GiveBack);
            }
            return NodeAssessment::new(Stage::Swapping, "more pods are outdated", Move::AddPods(more));
        }
        let pods: Vec<(usize, &DaemonPod)> = self.index.pods(&self.node.name).collect();
        let mut newest_ready: Option<Timestamp> = None;
        for (position, (scoped, state)) in self.index.sets.iter().enumerate() {
            let claimed = self.claim.components().any(|component| component == scoped.component);
            let here: Vec<&DaemonPod> =
                pods.iter().filter(|(s, _)| *s == position).map(|(_, p)| *p).collect();
            let nothing = !claimed && (!scoped.changed || here.is_empty());
            if nothing || self.index.sets.is_unsettled(position) {
                continue;
            }
            if let Some(old) = here.iter().find(|p| self.claim.is_to_replace(&scoped.component, id(p))) {
                if scoped.impact == Impact::Evict
                    && !old.is_deleting()
                    && let Some(look) = self.arrived()
                {
                    return look;
                }
                return self.replace(&scoped.component, old);
            }
            let hash = state.and_then(|s| s.hash.as_ref());
            let new = here.iter().find(|p| hash.is_some_and(|hash| p.is_from(hash)) && !p.is_deleting());
            match new {
                None => {
                    let refused = state.and_then(|s| s.refused.as_ref());
                    let text = match refused {
                        Some(why) => format!("{}: no pod can be created: {why}", scoped.component),
                        None => format!("{}: its new pod has not been made", scoped.component),
                    };
                    let mut look = self.swap_wait(text.clone());
                    if refused.is_some() && here.is_empty() {
                        look.signal = Some((text, crate::plan::running::FAILURE_SETTLES));
                    }
                    return look;
                }
                Some(pod) => match (pod.ready_since, &pod.failure) {
                    (_, Some(failure)) => {
                        let text =
                            format!("{}: {failure} (pod {}/{})", scoped.component, pod.namespace, pod.name);
                        let mut look = self.swap_wait(text.clone());
                        look.signal = Some((text, crate::plan::running::FAILURE_SETTLES));
                        return look;
                    }
                    (None, None) => {
                        return self
                            .swap_wait(format!("{}: pod {} is not ready", scoped.component, pod.name));
                    }
                    (Some(since), None) => newest_ready = newest_ready.max(Some(since)),
                },
            }
        }
        self.verify(newest_ready)
    }

    /// Pods from another template than the DaemonSets' present one that the claim does not name: the gr was put
    /// back meanwhile. They are replaced too, with those after them.
    fn newly_outdated(&self) -> Option<Replaced> {
        let known =
            |set: usize, pod: &DaemonPod| self.claim.is_to_replace(self.index.component(set), id(pod));
        let pods = self.index.pods(&self.node.name);
        let new = pods.filter(|(set, pod)| self.index.is_outdated(*set, pod) && !known(*set, pod));
        let first = new.map(|(set, _)| set).min()?;
        Some(replaced(self.index, &self.node.name, |set, pod| set >= first && !known(set, pod)))
    }

    fn replace(&self, component: &str, old: &DaemonPod) -> NodeAssessment {
        if old.is_deleting() {
            return self.swap_wait(format!("{component}: pod {} is terminating", old.name));
        }
        if let Some(refusal) = self.index.fleet.refusals.get(&old.uid) {
            return self.swap_wait(format!("{component}: pod {} cannot be deleted: {refusal}", old.name));
        }
        let action = FleetAction::DeletePod {
            node: old.node.to_string(),
            namespace: old.namespace.to_string(),
            name: old.name.clone(),
            uid: old.uid.clone(),
        };
        let mut look = self.swap_wait(format!("{component}: replacing pod {}", old.name));
        look.next = Move::Call(vec![action]);
        look
    }

    fn swap_wait(&self, message: String) -> NodeAssessment {
        let mut look = NodeAssessment::wait(Stage::Swapping, message);
        look.until = Some(self.claim.deadline);
        if !self.node.ready {
            look.message = format!("{}; the node is not ready", look.message);
            look.signal = Some((look.message.clone(), NOT_READY_SETTLES));
        }
        look
    }

    fn verify(&self, newest_ready: Option<Timestamp>) -> NodeAssessment {
        if !self.node.ready {
            let mut look = self.swap_wait("its pods are new".to_owned());
            look.stage = Stage::Verifying;
            return look;
        }
        // On the way back, what was lost before is not waited for.
        let lost_before = self.claim.lost_gcus && self.record.known_status().goal == Goal::Previous;
        if self.claim.cordon && self.node.gcus < self.claim.gcus && !lost_before {
            let (has, had) = (self.node.gcus, self.claim.gcus);
            let mut look = self.swap_wait(format!("its pods are new; it offers {has} of {had} GCUs"));
            look.stage = Stage::Verifying;
            look.signal = Some((look.message.clone(), GCUS_SETTLE));
            look.missing_gcus = true;
            return look;
        }
        let soak = self.options().min_ready_seconds;
        // Ready in the future: our clock was set back. Then the time counts from when that was noticed.
        let ahead = newest_ready.is_some_and(|since| since > after(self.now, soak));
        let since = if ahead { Some(self.claim.soaking_since.unwrap_or(self.now)) } else { newest_ready };
        let soaked = since.map(|since| after(since, soak));
        if soak > 0 && soaked.is_some_and(|at| self.now < at) {
            let mut look = NodeAssessment::wait(Stage::Soaking, format!("ready; watched for {soak} s"));
            look.until = soaked;
            look.clock_was_set = ahead;
            return look;
        }
        if self.claim.cordon && self.is_ours() {
            return self.release("done, being released");
        }
        NodeAssessment::new(Stage::Releasing, "done", Move::Done)
    }
}

/// Whether the annotation on a node is of this very record.
pub fn is_ours(record: &GcuUpgrade, node: &NodeState) -> bool {
    matches!(&node.mark, Some(Mark::Claimed(mark)) if Some(&mark.uid) == record.metadata.uid.as_ref())
}

/// Takes a claim off a node.
pub fn release(node: &NodeState) -> FleetAction {
    let pre_cordoned = matches!(&node.mark, Some(Mark::Claimed(mark)) if mark.pre_cordoned);
    FleetAction::ReleaseNode {
        node: node.name.clone(),
        resource_version: node.resource_version.clone(),
        uncordon: !pre_cordoned,
    }
}

/// The pods of a node that are wanted, as a claim names them.
pub fn replaced(index: &Index<'_>, node: &str, wanted: impl Fn(usize, &DaemonPod) -> bool) -> Replaced {
    let mut all = Replaced::default();
    for (set, pod) in index.pods(node).filter(|(set, pod)| wanted(*set, pod)) {
        all.add(index.component(set), id(pod));
    }
    all
}

fn id(pod: &DaemonPod) -> PodId<'_> {
    PodId { name: &pod.name, uid: &pod.uid, created_at: pod.created_at }
}

pub(super) fn named(pods: &[&Tenant]) -> String {
    first_of(pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)), PODS_NAMED)
}
