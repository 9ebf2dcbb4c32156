//! What the real server fills in for built-in kinds: the fields that clients see and compare.
//!
//! Fields that the sandbox does not know are kept as they were sent; a real server drops unknown ones.

use serde_json::{Value, json};

use super::{crd, webhooks};
use crate::{
    json,
    resources::{MUTATING_WEBHOOKS, ResourceType},
};

/// Fills in the fields of an object that is written.
pub(crate) fn fill(kind: &ResourceType, object: &mut Value) {
    match kind.plural.as_str() {
        "pods" => {
            pod_spec(object, &["spec"]);
            json::default(object, &["spec", "enableServiceLinks"], true);
            for list in ["containers", "initContainers"] {
                json::each_mut(object, &["spec", list], request_what_is_limited);
            }
        }
        "daemonsets" => daemon_set(object),
        "deployments" => deployment(object),
        "replicasets" => {
            json::default(object, &["spec", "replicas"], 1);
            template(object);
        }
        "customresourcedefinitions" => crd::set_defaults(object),
        MUTATING_WEBHOOKS => webhooks::set_defaults(object),
        "secrets" => json::default(object, &["type"], "Opaque"),
        "events" => event(object),
        "namespaces" => json::default(object, &["status", "phase"], "Active"),
        _ => {}
    }
}

/// What only a new object gets, some of it from admission plugins.
pub(crate) fn fill_new(kind: &ResourceType, object: &mut Value) {
    match kind.plural.as_str() {
        "pods" => new_pod(object),
        "nodes" => new_node(object),
        "namespaces" => {
            json::set(object, &["spec", "finalizers"], json!(["kubernetes"]));
            json::set(object, &["status"], json!({"phase": "Active"}));
        }
        "daemonsets" => {
            json::set(object, &["metadata", "annotations", TEMPLATE_GENERATION], "1");
            json::set(object, &["status"], daemon_set_status());
        }
        "deployments" => json::set(object, &["status"], json!({})),
        "replicasets" => json::set(object, &["status"], json!({"replicas": 0})),
        "poddisruptionbudgets" => json::set(object, &["status"], budget_status()),
        "customresourcedefinitions" => {
            let status = crd::initial_status(object);
            json::set(object, &["status"], status);
        }
        _ => {}
    }
}

/// The annotation in which `apps/v1` still shows how often a DaemonSet's template has changed.
pub(crate) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn daemon_set_status() -> Value {
    json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0})
}

fn budget_status() -> Value {
    json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0})
}

/// Fields of a status that are shown even when zero.
pub(crate) fn fill_status(kind: &ResourceType, object: &mut Value) {
    let always = match kind.plural.as_str() {
        "daemonsets" => daemon_set_status(),
        "poddisruptionbudgets" => budget_status(),
        "pods" => {
            json::each_mut(object, &["status", "conditions"], |condition| {
                json::default(condition, &["lastProbeTime"], Value::Null);
                json::default(condition, &["lastTransitionTime"], Value::Null);
            });
            for list in ["containerStatuses", "initContainerStatuses"] {
                json::each_mut(object, &["status", list], |status| {
                    json::default(status, &["lastState"], json!({}));
                });
            }
            return;
        }
        _ => return,
    };
    for (field, zero) in always.as_object().into_iter().flatten() {
        json::default(object, &["status", field], zero.clone());
    }
}

/// A limit without a request is a request for as much; only in pods, not in templates.
fn request_what_is_limited(container: &mut Value) {
    let limits = json::at(container, &["resources", "limits"]).clone();
    for (resource, amount) in limits.as_object().into_iter().flatten() {
        json::default(container, &["resources", "requests", resource], amount.clone());
    }
}

fn daemon_set(object: &mut Value) {
    template(object);
    json::default(object, &["spec", "updateStrategy", "type"], "RollingUpdate");
    if json::text(object, &["spec", "updateStrategy", "type"]) == "RollingUpdate" {
        json::default(object, &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"], 1);
    }
    json::default(object, &["spec", "revisionHistoryLimit"], 10);
}

fn deployment(object: &mut Value) {
    template(object);
    json::default(object, &["spec", "replicas"], 1);
    json::default(object, &["spec", "strategy", "type"], "RollingUpdate");
    if json::text(object, &["spec", "strategy", "type"]) == "RollingUpdate" {
        json::default(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"], "25%");
        json::default(object, &["spec", "strategy", "rollingUpdate", "maxSurge"], "25%");
    }
    json::default(object, &["spec", "revisionHistoryLimit"], 10);
    json::default(object, &["spec", "progressDeadlineSeconds"], 600);
}

fn template(object: &mut Value) {
    if json::at(object, &["spec", "template"]).is_object() {
        json::set(object, &["spec", "template", "metadata", "creationTimestamp"], Value::Null);
        pod_spec(object, &["spec", "template", "spec"]);
    }
}

fn event(object: &mut Value) {
    for field in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        json::default(object, &[field], Value::Null);
    }
    for field in ["reportingComponent", "reportingInstance"] {
        json::default(object, &[field], "");
    }
    json::default(object, &["source"], json!({}));
}

fn new_node(node: &mut Value) {
    const NOT_READY: &str = "node.kubernetes.io/not-ready";
    let taints = json::items(node, &["spec", "taints"]);
    if !taints.iter().any(|taint| json::text(taint, &["key"]) == NOT_READY) {
        let mut taints = taints.to_vec();
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        json::set(node, &["spec", "taints"], taints);
    }
    json::default(node, &["status", "daemonEndpoints"], json!({"kubeletEndpoint": {"Port": 0}}));
    for field in [
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ] {
        json::default(node, &["status", "nodeInfo", field], "");
    }
}

fn new_pod(pod: &mut Value) {
    let mut tolerations = json::items(pod, &["spec", "tolerations"]).to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations.iter().any(|one| tolerates_no_execute(one, key)) {
            tolerations.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
    json::set(pod, &["spec", "tolerations"], tolerations);
    json::default(pod, &["spec", "priority"], 0);
    json::default(pod, &["spec", "preemptionPolicy"], "PreemptLowerPriority");
    let class = quality_of_service(pod);
    json::set(pod, &["status"], json!({"phase": "Pending", "qosClass": class}));
}

fn tolerates_no_execute(toleration: &Value, key: &str) -> bool {
    let any_or = |field, wanted: &str| {
        let value = json::text(toleration, &[field]);
        value.is_empty() || value == wanted
    };
    any_or("key", key) && any_or("effect", "NoExecute")
}

fn quality_of_service(pod: &Value) -> &'static str {
    let containers = json::items(pod, &["spec", "containers"]);
    let of =
        |container: &Value, kind: &str, what: &str| json::at(container, &["resources", kind, what]).clone();
    let asks = |container: &Value| {
        ["limits", "requests"]
            .iter()
            .any(|kind| ["cpu", "memory"].iter().any(|what| !of(container, kind, what).is_null()))
    };
    let guaranteed = |container: &Value| {
        ["cpu", "memory"].iter().all(|what| {
            let (limit, request) = (of(container, "limits", what), of(container, "requests", what));
            !limit.is_null() && (request.is_null() || request == limit)
        })
    };
    if !containers.iter().any(asks) {
        "BestEffort"
    } else if containers.iter().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn pod_spec(object: &mut Value, at: &[&str]) {
    let Some(spec) = json::get_mut(object, at).filter(|spec| spec.is_object()) else { return };
    json::default(spec, &["restartPolicy"], "Always");
    json::default(spec, &["terminationGracePeriodSeconds"], 30);
    json::default(spec, &["dnsPolicy"], "ClusterFirst");
    json::default(spec, &["securityContext"], json!({}));
    json::default(spec, &["schedulerName"], "default-scheduler");
    let account = json::text(spec, &["serviceAccountName"]).to_owned();
    if !account.is_empty() {
        json::default(spec, &["serviceAccount"], account);
    }
    let host_network = json::at(spec, &["hostNetwork"]) == &json!(true);
    for list in ["containers", "initContainers"] {
        json::each_mut(spec, &[list], |container| fill_container(container, host_network));
    }
    json::each_mut(spec, &["volumes"], volume);
}

fn fill_container(container: &mut Value, host_network: bool) {
    json::default(container, &["resources"], json!({}));
    json::default(container, &["terminationMessagePath"], "/dev/termination-log");
    json::default(container, &["terminationMessagePolicy"], "File");
    let policy = pull_policy(json::text(container, &["image"]));
    json::default(container, &["imagePullPolicy"], policy);
    json::each_mut(container, &["ports"], |port| {
        json::default(port, &["protocol"], "TCP");
        if host_network {
            let number = json::at(port, &["containerPort"]).clone();
            json::default(port, &["hostPort"], number);
        }
    });
    json::each_mut(container, &["env"], |variable| {
        if json::at(variable, &["valueFrom", "fieldRef"]).is_object() {
            json::default(variable, &["valueFrom", "fieldRef", "apiVersion"], "v1");
        }
    });
    // A typed server keeps no empty lists: one that is written changes nothing.
    if let Some(fields) = container.as_object_mut() {
        let lists = ["args", "command", "env", "envFrom", "ports", "volumeMounts"];
        fields.retain(|field, value| !lists.contains(&field.as_str()) || *value != json!([]));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            fill_probe(probe);
        }
    }
}

fn fill_probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        json::default(probe, &[field], value);
    }
    if json::at(probe, &["httpGet"]).is_object() {
        json::default(probe, &["httpGet", "scheme"], "HTTP");
        json::default(probe, &["httpGet", "path"], "/");
    }
}

fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    let tag = name.split_once(':').map_or("latest", |(_, tag)| tag);
    if tag == "latest" && !name.contains('@') { "Always" } else { "IfNotPresent" }
}

fn volume(volume: &mut Value) {
    let has = |volume: &Value, source: &str| json::at(volume, &[source]).is_object();
    if has(volume, "hostPath") {
        json::default(volume, &["hostPath", "type"], "");
    }
    for source in ["configMap", "secret", "projected", "downwardAPI"] {
        if has(volume, source) {
            json::default(volume, &[source, "defaultMode"], 420);
        }
    }
    let sourceless = volume.as_object().is_some_and(|volume| volume.len() == 1);
    if sourceless {
        json::set(volume, &["emptyDir"], json!({}));
    }
}
