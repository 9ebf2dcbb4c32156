//! Which pod may run on which node: the rules that the scheduler and the DaemonSet controller share.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Taint, Toleration,
};
use kube::ResourceExt;

/// Prefix of the resources that count as GCUs.
const GCU_PREFIX: &str = "enflame.com/";

/// Whether the node selector and the required node affinity of a pod accept the node.
pub(crate) fn selects(spec: &PodSpec, node: &Node) -> bool {
    let wanted = spec.node_selector.iter().flatten();
    if !wanted.into_iter().all(|(name, value)| node.labels().get(name) == Some(value)) {
        return false;
    }
    match required_terms(spec) {
        None => true,
        // Terms are alternatives, and what is in one term must all hold.
        Some(terms) => terms.iter().any(|term| term_matches(term, node)),
    }
}

fn required_terms(spec: &PodSpec) -> Option<&Vec<NodeSelectorTerm>> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    Some(&affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms)
}

fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let name: BTreeMap<String, String> = [("metadata.name".to_owned(), node.name_any())].into();
    let mut labels = term.match_expressions.iter().flatten();
    let mut fields = term.match_fields.iter().flatten();
    labels.all(|requirement| requirement_holds(requirement, node.labels()))
        && fields.all(|requirement| requirement_holds(requirement, &name))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, on: &BTreeMap<String, String>) -> bool {
    let value = on.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let bound = || values.first().and_then(|bound| bound.parse::<i64>().ok());
    let number = || value.and_then(|value| value.parse::<i64>().ok());
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().zip(bound()).is_some_and(|(number, bound)| number > bound),
        "Lt" => number().zip(bound()).is_some_and(|(number, bound)| number < bound),
        _ => false,
    }
}

/// The node that a daemon pod was made for, from its affinity to a node's name.
pub(crate) fn pinned_to(pod: &Pod) -> Option<&str> {
    let term = required_terms(pod.spec.as_ref()?)?.first()?;
    let field = term.match_fields.as_ref()?.iter().find(|field| field.key == "metadata.name")?;
    field.values.as_ref()?.first().map(String::as_str)
}

/// The node that a pod is on, or was made for.
pub(crate) fn home_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).or_else(|| pinned_to(pod))
}

/// The taints of a node.
pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Whether every taint with one of these effects is tolerated.
pub(crate) fn tolerates(tolerations: &[Toleration], node: &Node, effects: &[&str]) -> bool {
    let mut relevant = taints(node).iter().filter(|taint| effects.contains(&taint.effect.as_str()));
    relevant.all(|taint| tolerations.iter().any(|toleration| matches(toleration, taint)))
}

fn matches(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    if given(&toleration.key).is_some_and(|key| key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        _ => {
            given(&toleration.key).is_some()
                && toleration.value.clone().unwrap_or_default() == taint.value.clone().unwrap_or_default()
        }
    }
}

/// What the DaemonSet controller lets its pods tolerate, besides what the template says.
pub(crate) fn daemon_tolerations() -> Vec<Toleration> {
    let tolerate = |key: &str, effect: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    // Without `not-ready:NoSchedule`: no daemon pod is placed on a node that was never ready.
    vec![
        tolerate("not-ready", "NoExecute"),
        tolerate("unreachable", "NoExecute"),
        tolerate("disk-pressure", "NoSchedule"),
        tolerate("memory-pressure", "NoSchedule"),
        tolerate("pid-pressure", "NoSchedule"),
        tolerate("unschedulable", "NoSchedule"),
    ]
}

/// Which nodes the pods of a DaemonSet fit.
pub(crate) struct DaemonFit<'a> {
    spec: Option<&'a PodSpec>,
    tolerations: Vec<Toleration>,
}

impl<'a> DaemonFit<'a> {
    pub(crate) fn of(template: &'a PodTemplateSpec) -> Self {
        let spec = template.spec.as_ref();
        let mut tolerations = spec.and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
        tolerations.extend(daemon_tolerations());
        Self { spec, tolerations }
    }

    /// Whether the DaemonSet wants a pod on the node, and whether it lets one stay there.
    pub(crate) fn fit(&self, node: &Node) -> (bool, bool) {
        if !self.spec.is_some_and(|spec| selects(spec, node)) {
            return (false, false);
        }
        let stays = tolerates(&self.tolerations, node, &["NoExecute"]);
        (stays && tolerates(&self.tolerations, node, &["NoSchedule"]), stays)
    }
}

/// The extended resources of the pod that count as GCUs, summed over its containers.
pub(crate) fn gcus_asked(pod: &Pod) -> BTreeMap<String, i64> {
    let mut asked = BTreeMap::new();
    for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
        let Some(resources) = &container.resources else { continue };
        // An extended resource cannot be overcommitted: request and limit are one number.
        let amounts = resources.limits.as_ref().or(resources.requests.as_ref());
        for (name, amount) in amounts.into_iter().flatten().filter(|(name, _)| name.starts_with(GCU_PREFIX)) {
            *asked.entry(name.clone()).or_insert(0) += amount.0.parse::<i64>().unwrap_or(0);
        }
    }
    asked
}

/// How much of an extended resource the node has to give.
pub(crate) fn allocatable(node: &Node, resource: &str) -> i64 {
    let status = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    status.and_then(|all| all.get(resource)).and_then(|amount| amount.0.parse().ok()).unwrap_or(0)
}

/// The pod's `Ready` condition: whether it is true, and since when.
pub(crate) fn ready_since(pod: &Pod) -> Option<jiff::Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    if ready.status != "True" {
        return None;
    }
    Some(ready.last_transition_time.as_ref().map_or(jiff::Timestamp::MIN, |time| time.0))
}

/// The pod's phase, empty when it has none yet.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the pod has ended by itself and only its record remains.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}
