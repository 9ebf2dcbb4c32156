//! A node's conditions, taints and GCUs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Taint},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Index, Kubelet, WorkItem};
use crate::{
    actors::fit,
    actors::queue::{is_moot, label, lock},
};

/// The resource that a GCU device plugin reports.
const GCU: &str = "enflame.com/gcu";
/// The label that says how many GCUs the node has.
const GCU_COUNT: &str = "enflame.com/gcu.count";
/// The taints that follow from the node's state, and nobody else's.
const OWN_TAINTS: [&str; 3] =
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node.kubernetes.io/unschedulable"];

impl Kubelet {
    /// Brings the node's status and taints in line with its state.
    pub(super) async fn sync_node(&self, name: &str) -> Result<Option<Duration>, kube::Error> {
        let (node, served) = {
            let index = lock(&self.index);
            let Some(node) = index.nodes.get(name).cloned() else { return Ok(None) };
            let served =
                index.pods_on(name).any(|pod| self.is_device_plugin(pod) && fit::ready_since(pod).is_some());
            (node, served)
        };
        let dead = self.is_dead(name);
        let nodes: Api<Node> = Api::all(self.client.clone());
        let taints = taints_of(&node, dead);
        if taints != fit::taints(&node) {
            // A list is replaced as a whole: only if nobody has changed the node meanwhile.
            let patch = json!({
                "metadata": { "resourceVersion": node.metadata.resource_version },
                "spec": { "taints": taints },
            });
            match nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                // The watch tells what is there now, and wakes us.
                Err(error) if is_moot(&error) => return Ok(None),
                result => drop(result?),
            }
        }
        let mut status = serde_json::Map::new();
        if let Some(conditions) = self.conditions_of(&node, dead) {
            status.insert("conditions".to_owned(), json!(conditions));
            self.wake_pods(&lock(&self.index), name);
        }
        if !dead && let Some((capacity, allocatable)) = gcus_of(&node, served) {
            status.insert("capacity".to_owned(), json!({ GCU: capacity }));
            status.insert("allocatable".to_owned(), json!({ GCU: allocatable }));
        }
        if status.is_empty() {
            return Ok(None);
        }
        match nodes
            .patch_status(name, &PatchParams::default(), &Patch::Merge(json!({ "status": status })))
            .await
        {
            Err(error) if !is_moot(&error) => Err(error),
            _ => Ok(None),
        }
    }

    fn conditions_of(&self, node: &Arc<Node>, dead: bool) -> Option<Vec<NodeCondition>> {
        let mut conditions =
            node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let (status, reason, message) = match dead {
            false => ("True", "KubeletReady", "kubelet is posting ready status"),
            true => ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."),
        };
        if conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == status) {
            return None;
        }
        conditions.retain(|condition| condition.type_ != "Ready");
        let now = Some(Time(self.clock.precisely()));
        conditions.push(NodeCondition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: now.clone(),
            last_transition_time: now,
        });
        Some(conditions)
    }

    /// A node that died or came back changes what is to be said of its pods.
    fn wake_pods(&self, index: &Index, node: &str) {
        for pod in index.on_node.get(node).into_iter().flatten() {
            self.queue.add(WorkItem::Pod(pod.clone()));
        }
    }
}

/// The taints that the node should have: those of others, and those that its state calls for.
fn taints_of(node: &Node, dead: bool) -> Vec<Taint> {
    let [_, unreachable, unschedulable] = OWN_TAINTS;
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let mut wanted = Vec::new();
    if dead {
        wanted.extend([(unreachable, "NoSchedule"), (unreachable, "NoExecute")]);
    }
    if cordoned {
        wanted.push((unschedulable, "NoSchedule"));
    }
    let is = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut taints = fit::taints(node).to_vec();
    taints.retain(|taint| {
        !OWN_TAINTS.contains(&taint.key.as_str()) || wanted.iter().any(|want| is(taint, want))
    });
    for want in wanted {
        if !taints.iter().any(|taint| is(taint, &want)) {
            let (key, effect) = want;
            taints.push(Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() });
        }
    }
    taints
}

/// The GCUs to report, capacity and allocatable, if that differs from what is reported.
///
/// Nothing is known of them before a device plugin has served them once. When it goes, the capacity stays and
/// none is allocatable: this is what a real kubelet says of devices that nobody vouches for.
fn gcus_of(node: &Node, served: bool) -> Option<(String, String)> {
    let reported = |list: Option<&BTreeMap<String, Quantity>>| list.and_then(|list| list.get(GCU)).cloned();
    let status = node.status.as_ref();
    let capacity = reported(status.and_then(|status| status.capacity.as_ref()));
    let allocatable = reported(status.and_then(|status| status.allocatable.as_ref()));
    let count = label(node, GCU_COUNT);
    let wanted = match (served, &capacity) {
        (_, None) if !served || count.is_empty() => return None,
        (true, _) => (count.to_owned(), count.to_owned()),
        (false, capacity) => (capacity.as_ref().map_or("0", |amount| &amount.0).to_owned(), "0".to_owned()),
    };
    let current = (capacity.map(|amount| amount.0), allocatable.map(|amount| amount.0));
    (current != (Some(wanted.0.clone()), Some(wanted.1.clone()))).then_some(wanted)
}
