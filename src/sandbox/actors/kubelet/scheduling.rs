//! The scheduler: finds a node for a pod and binds it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};

use super::{Index, Kubelet};
use crate::{
    WORLD_LABEL,
    actors::fit,
    actors::queue::{Key, is_moot, lock},
};

impl Kubelet {
    /// Binds a pod that has no node. When none fits, it waits until a node changes or GCUs are given back.
    pub(super) async fn schedule(&self, key: &Key, pod: &Pod) -> Result<Option<Duration>, kube::Error> {
        let node = {
            let mut index = lock(&self.index);
            if index.home.contains_key(key) {
                return Ok(None);
            }
            let Some(node) = self.choose(&index, pod) else { return Ok(None) };
            // Taken before the API server knows, so that no other pod is promised the same GCUs.
            index.place(key, &node);
            node
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.0);
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": key.1, "namespace": key.0 },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let bound: Result<Value, _> =
            pods.create_subresource("binding", &key.1, &PostParams::default(), &binding).await;
        let Err(error) = bound else { return Ok(None) };
        let mut index = lock(&self.index);
        // The watch may have told meanwhile that it was bound after all, or is gone.
        let current = index.pods.get(key).cloned();
        if current.as_ref().is_none_or(|pod| pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none())) {
            index.unplace(key);
            if let Some(pod) = current {
                index.wait(key, fit::pinned_to(&pod).map(str::to_owned));
            }
        }
        if is_moot(&error) { Ok(Some(Duration::from_secs(1))) } else { Err(error) }
    }

    fn choose(&self, index: &Index, pod: &Pod) -> Option<String> {
        if let Some(name) = fit::pinned_to(pod) {
            return index.nodes.get(name).filter(|node| fits(index, pod, node)).map(|node| node.name_any());
        }
        if let Some(world) = &self.world {
            let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
            if selector.and_then(|selector| selector.get(WORLD_LABEL)) != Some(world) {
                return None;
            }
        }
        let fitting = index.nodes.values().filter(|node| fits(index, pod, node));
        fitting
            .map(|node| node.name_any())
            .min_by_key(|name| index.on_node.get(name).map_or(0, |on| on.len()))
    }
}

fn fits(index: &Index, pod: &Pod, node: &Arc<Node>) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let tolerates_cordon = || {
        let name = Some("node.kubernetes.io/unschedulable");
        tolerations.iter().any(|toleration| toleration.key.as_deref() == name)
    };
    fit::selects(spec, node)
        && fit::tolerates(tolerations, node, &["NoSchedule", "NoExecute"])
        && (!unschedulable || tolerates_cordon())
        && fit::gcus_asked(pod).iter().all(|(resource, asked)| {
            let name = node.name_any();
            let running = index.pods_on(&name).filter(|other| !fit::is_over(other));
            let used: i64 = running.filter_map(|other| fit::gcus_asked(other).get(resource).copied()).sum();
            used.saturating_add(*asked) <= fit::allocatable(node, resource)
        })
}
