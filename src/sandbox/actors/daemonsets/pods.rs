//! Which nodes need a pod, which pods must go, and how the whole stands.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{Resource, ResourceExt};

use super::{HASH_LABEL, Index, status::Status};
use crate::{
    actors::fit,
    actors::queue::{label, owned_by},
};

/// The annotation and label in which old clients look for the template's generation.
const TEMPLATE_GENERATION: &str = "pod-template-generation";

/// What is to be done.
#[derive(Default)]
pub(super) struct Plan {
    /// Nodes that need a pod.
    pub(super) create: Vec<String>,
    /// Names and UIDs of pods that must go.
    pub(super) delete: Vec<(String, String)>,
}

/// One look at a DaemonSet, its nodes and its pods.
pub(super) struct View<'a> {
    set: &'a DaemonSet,
    index: &'a Index,
    hash: &'a str,
    now: Timestamp,
    nodes: Vec<OnNode<'a>>,
}

/// A node, as the DaemonSet sees it.
struct OnNode<'a> {
    name: &'a str,
    /// It wants a pod.
    wants: bool,
    /// It may keep one.
    keeps: bool,
    /// The DaemonSet's pods there, the oldest first.
    pods: &'a [Arc<Pod>],
}

impl<'a> View<'a> {
    pub(super) fn new(set: &'a DaemonSet, index: &'a Index, hash: &'a str, now: Timestamp) -> Self {
        let all = index.pods.get(set.meta().uid.as_deref().unwrap_or_default());
        // Both are in order.
        let mut by_node = all.into_iter().flatten().peekable();
        let fit = fit::DaemonFit::of(&set.spec.template);
        let nodes = index.nodes.iter().map(|(name, node)| {
            while by_node.next_if(|(other, _)| *other < name).is_some() {}
            let pods = by_node.next_if(|(other, _)| *other == name).map_or(&[][..], |(_, pods)| pods);
            let (wants, keeps) = fit.fit(node);
            OnNode { name, wants, keeps, pods }
        });
        Self { set, nodes: nodes.collect(), index, hash, now }
    }

    fn going(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_some()
            || pod.meta().uid.as_ref().is_some_and(|uid| self.index.deleting.contains(uid))
    }

    fn is_new(&self, pod: &Pod) -> bool {
        label(pod, HASH_LABEL) == self.hash
    }

    /// When the pod becomes available: for some pods in the past, for others never.
    fn available_at(&self, pod: &Pod) -> Option<Timestamp> {
        let wait = self.set.spec.min_ready_seconds.unwrap_or(0);
        fit::ready_since(pod)?.checked_add(SignedDuration::from_secs(i64::from(wait))).ok()
    }

    fn is_available(&self, pod: &Pod) -> bool {
        !self.going(pod) && self.available_at(pod).is_some_and(|at| at <= self.now)
    }

    /// What is to be done now.
    pub(super) fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let mut doom = |pod: &Pod| plan.delete.push((pod.name_any(), pod.uid().unwrap_or_default()));
        for OnNode { name, wants, keeps, pods } in &self.nodes {
            match (*wants, *keeps) {
                (true, _) if pods.is_empty() => plan.create.push((*name).to_owned()),
                (_, true) => {
                    let staying: Vec<_> = pods.iter().filter(|pod| !self.going(pod)).collect();
                    staying.iter().filter(|pod| fit::is_over(pod)).for_each(|pod| doom(pod));
                    // Of several that run, the oldest stays.
                    staying.iter().filter(|pod| !fit::is_over(pod)).skip(1).for_each(|pod| doom(pod));
                }
                (_, false) => pods.iter().filter(|pod| !self.going(pod)).for_each(|pod| doom(pod)),
            }
        }
        if plan.create.is_empty() && plan.delete.is_empty() {
            plan.delete = self.roll();
        }
        plan
    }

    /// The old pods that a rolling update may delete now.
    fn roll(&self) -> Vec<(String, String)> {
        let strategy = self.set.spec.update_strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return Vec::new();
        }
        let limit = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.max_unavailable.clone());
        let nodes = self.nodes.iter().filter(|node| node.wants);
        let mut desired = 0_usize;
        let mut unavailable = 0_usize;
        let (mut broken, mut candidates) = (Vec::new(), Vec::new());
        for node in nodes {
            desired += 1;
            let mut staying = node.pods.iter().filter(|pod| !self.going(pod));
            match (staying.next(), staying.next()) {
                (Some(pod), None) if self.is_new(pod) => unavailable += usize::from(!self.is_available(pod)),
                (Some(pod), None) if self.is_available(pod) => candidates.push(pod),
                // An old pod that does not serve anyway may be replaced at once.
                (Some(pod), None) => {
                    unavailable += 1;
                    broken.push(pod);
                }
                _ => unavailable += 1,
            }
        }
        let allowed = resolve(limit.as_ref(), desired).saturating_sub(unavailable);
        let chosen = broken.into_iter().chain(candidates.into_iter().take(allowed));
        chosen.map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect()
    }

    /// How the DaemonSet stands.
    pub(super) fn status(&self) -> Status {
        let mut status = Status::default();
        for node in &self.nodes {
            match (node.wants, node.pods.first()) {
                (true, None) => status.desired += 1,
                (true, Some(pod)) => {
                    status.desired += 1;
                    status.current += 1;
                    status.ready += i32::from(fit::ready_since(pod).is_some());
                    status.updated += i32::from(self.is_new(pod));
                    match self.available_at(pod) {
                        Some(at) if at <= self.now => status.available += 1,
                        Some(at) => {
                            status.note(Duration::try_from(self.now.duration_until(at)).unwrap_or_default())
                        }
                        None => {}
                    }
                }
                (false, Some(_)) => status.misscheduled += 1,
                (false, None) => {}
            }
        }
        status
    }
}

/// `maxUnavailable`, a number or a percentage rounded up; one when not said.
fn resolve(limit: Option<&IntOrString>, of: usize) -> usize {
    match limit {
        None => 1,
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(0);
            of.saturating_mul(percent).div_ceil(100)
        }
    }
}

/// The pod of the DaemonSet for a node.
pub(super) fn pod_for(set: &DaemonSet, hash: &str, node: &str) -> Option<Pod> {
    let template = &set.spec.template;
    let own = template.metadata.clone().unwrap_or_default();
    let mut labels = own.labels.unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    labels.insert(TEMPLATE_GENERATION.to_owned(), set.metadata.generation.unwrap_or_default().to_string());
    let mut spec = template.spec.clone()?;
    // The name decides: whatever nodes the template's affinity asks for have been sorted out already.
    let this_node = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        ..NodeSelectorTerm::default()
    };
    spec.affinity = Some(Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![this_node],
            }),
            ..NodeAffinity::default()
        }),
        ..spec.affinity.unwrap_or_default()
    });
    spec.tolerations.get_or_insert_default().extend(fit::daemon_tolerations());
    Some(Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: Some(labels),
            annotations: own.annotations,
            owner_references: owned_by(set),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}
