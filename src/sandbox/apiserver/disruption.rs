//! Disruption budgets: what a cluster's disruption controller keeps in their status, kept at once.

use serde_json::{Value, json};

use super::{error::ApiError, selector::Selector};
use crate::{
    json,
    resources::TypeKey,
    store::{Change, Tx},
};

fn budgets() -> TypeKey {
    ("policy".to_owned(), "poddisruptionbudgets".to_owned())
}

fn pods() -> TypeKey {
    (String::new(), "pods".to_owned())
}

/// Keeps the status of budgets in step with pods and with the budgets themselves.
pub(crate) fn follow(tx: &mut Tx<'_>, change: &Change) {
    if change.resource == budgets() {
        if let Some(budget) = &change.new {
            recount(tx, &change.namespace, &change.name, budget);
        }
        return;
    }
    if change.resource != pods() {
        return;
    }
    for ((namespace, name), budget) in tx.state.objects(&budgets(), &change.namespace) {
        let selector = Selector::from_object(json::at(&budget, &["spec", "selector"]));
        let concerns =
            |pod: &Option<std::sync::Arc<Value>>| pod.as_ref().is_some_and(|pod| selector.matches(pod));
        if concerns(&change.old) || concerns(&change.new) {
            recount(tx, &namespace, &name, &budget);
        }
    }
}

fn recount(tx: &mut Tx<'_>, namespace: &str, name: &str, budget: &Value) {
    let selector = Selector::from_object(json::at(budget, &["spec", "selector"]));
    let all = tx.state.objects(&pods(), namespace);
    let selected: Vec<_> = all.iter().filter(|(_, pod)| selector.matches(pod)).collect();
    let mut disrupted = json::at(budget, &["status", "disruptedPods"]).clone();
    if let Some(disrupted) = disrupted.as_object_mut() {
        disrupted.retain(|name, _| selected.iter().any(|(key, pod)| key.1 == *name && !is_terminating(pod)));
    }
    let is_disrupted = |name: &str| disrupted.get(name).is_some();
    let healthy = selected.iter().filter(|(key, pod)| is_healthy(pod) && !is_disrupted(&key.1)).count();
    let expected = expected(tx, namespace, selected.iter().map(|(_, pod)| pod.as_ref()));
    let (healthy, expected) = (as_integer(healthy), expected);
    let desired = desired(json::at(budget, &["spec"]), expected);
    let mut new = budget.clone();
    for (field, value) in [
        ("observedGeneration", json::integer(budget, &["metadata", "generation"])),
        ("currentHealthy", healthy),
        ("desiredHealthy", desired),
        ("expectedPods", expected),
        ("disruptionsAllowed", (healthy - desired).max(0)),
    ] {
        json::set(&mut new, &["status", field], value);
    }
    if disrupted.as_object().is_none_or(serde_json::Map::is_empty) {
        json::remove(&mut new, &["status", "disruptedPods"]);
    } else {
        json::set(&mut new, &["status", "disruptedPods"], disrupted);
    }
    if new != *budget {
        tx.put(&budgets(), namespace, name, new);
    }
}

fn is_terminating(pod: &Value) -> bool {
    !json::text(pod, &["metadata", "deletionTimestamp"]).is_empty()
}

fn is_healthy(pod: &Value) -> bool {
    let conditions = json::items(pod, &["status", "conditions"]);
    !is_terminating(pod)
        && conditions.iter().any(|condition| {
            json::text(condition, &["type"]) == "Ready" && json::text(condition, &["status"]) == "True"
        })
}

/// How many pods there should be: what their controllers ask for, or the pods themselves when none does.
fn expected<'a>(tx: &Tx<'_>, namespace: &str, pods: impl Iterator<Item = &'a Value>) -> i64 {
    let mut counted: Vec<&str> = Vec::new();
    let mut expected = 0;
    for pod in pods {
        let owners = json::items(pod, &["metadata", "ownerReferences"]);
        let owner = owners.iter().find(|owner| json::at(owner, &["controller"]) == &json!(true));
        let uid = owner.map_or("", |owner| json::text(owner, &["uid"]));
        let replicas = owner.and_then(|owner| replicas(tx, namespace, owner));
        match replicas {
            Some(_) if counted.contains(&uid) => {}
            Some(replicas) => {
                counted.push(uid);
                expected += replicas;
            }
            None => expected += 1,
        }
    }
    expected
}

fn replicas(tx: &Tx<'_>, namespace: &str, owner: &Value) -> Option<i64> {
    let plural = match json::text(owner, &["kind"]) {
        "ReplicaSet" => "replicasets",
        "Deployment" => "deployments",
        _ => return None,
    };
    let key = ("apps".to_owned(), plural.to_owned());
    let owner = tx.state.get(&key, namespace, json::text(owner, &["name"]))?;
    json::at(&owner, &["spec", "replicas"]).as_i64()
}

fn desired(spec: &Value, expected: i64) -> i64 {
    let wanted = |key: &str| amount(json::at(spec, &[key]), expected);
    match (wanted("minAvailable"), wanted("maxUnavailable")) {
        (Some(least), _) => least,
        (None, Some(most)) => (expected - most).max(0),
        (None, None) => 0,
    }
}

/// A number, or a percentage of `whole` rounded up.
fn amount(value: &Value, whole: i64) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            Some((percent * whole + 99) / 100)
        }
        _ => None,
    }
}

fn as_integer(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Takes one disruption from the budget of a pod, or says why there is none to take.
pub(crate) fn spend(
    tx: &mut Tx<'_>,
    namespace: &str,
    pod_name: &str,
    pod: &Value,
    dry_run: bool,
) -> Result<(), ApiError> {
    let all = tx.state.objects(&budgets(), namespace);
    let mut matching = all.into_iter().filter(|(_, budget)| {
        let selector = Selector::from_object(json::at(budget, &["spec", "selector"]));
        !selector.is_empty() && selector.matches(pod)
    });
    let Some(((_, name), budget)) = matching.next() else { return Ok(()) };
    if matching.next().is_some() {
        return Err(ApiError::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let status = |field| json::integer(&budget, &["status", field]);
    if status("observedGeneration") < json::integer(&budget, &["metadata", "generation"]) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::eviction_refused(&why));
    }
    let allowed = status("disruptionsAllowed");
    if allowed <= 0 {
        let (needs, has) = (status("desiredHealthy"), status("currentHealthy"));
        let why = format!("The disruption budget {name} needs {needs} healthy pods and has {has} currently");
        return Err(ApiError::eviction_refused(&why));
    }
    if !dry_run {
        let mut new = budget.as_ref().clone();
        json::set(&mut new, &["status", "disruptionsAllowed"], allowed - 1);
        json::set(&mut new, &["status", "disruptedPods", pod_name], tx.timestamp());
        tx.put(&budgets(), namespace, &name, new);
    }
    Ok(())
}
