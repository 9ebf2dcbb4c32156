//! The Helm chart: what it renders for old and new clusters, with many values; and that it tells the same as the
//! code about the record, the version and the metrics.

mod metrics;
mod rights;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gcu_upgrade_manager::keeper;
use serde_json::{Value, json};

use crate::skip::skipped;

/// The oldest Kubernetes that the chart takes, and the newest that its tests know.
const VERSIONS: [&str; 2] = ["v1.20.0", "v1.36.0"];

/// Values worth a look, in the form of `--set`.
const VALUES: [&str; 16] = [
    "",
    "auth=kubernetes",
    "tls.secret=gum-tls",
    "tls.secret=gum-tls,tls.clientCA=true,auth=kubernetes",
    "replicas=3,blueprints.configMap=ours",
    "replicas=0",
    "blueprints.configMap=ours,service.type=ClusterIP",
    "service.type=LoadBalancer,service.nodePort=null,service.externalTrafficPolicy=Local",
    "opLog.hostPath=/var/log/gum,opLog.asRoot=true",
    "monitoring.serviceMonitor.enabled=true,monitoring.rules.enabled=true,monitoring.dashboard.enabled=true",
    "monitoring.serviceMonitor.enabled=true,monitoring.readerRole=true,rbac.exampleRoles=true,\
     auth=kubernetes,tls.secret=t",
    "networkPolicy.enabled=true,networkPolicy.from[0].ipBlock.cidr=10.0.0.0/8",
    "keeper.enabled=false,networkPolicy.enabled=true",
    "notifications.secret=receivers,networkPolicy.enabled=true,fullnameOverride=other",
    "crd.manage=false,serviceAccount.create=false,serviceAccount.name=theirs",
    "fullnameOverride=other,image.registry=mirror.test:5000,imagePullSecrets[0]=pull,\
     affinity.nodeAffinity.x=1,extraEnv[0].name=A",
];

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    repository().join("deploy/chart/gcu-upgrade-manager")
}

/// Runs `tests/chart/check.py`; `None` where its library is missing.
pub(crate) fn check(arguments: &[&str]) -> Option<Output> {
    let python = || {
        let mut command = Command::new("python3");
        // Else it leaves a directory in the repository.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    static THERE: OnceLock<bool> = OnceLock::new();
    let import = || python().args(["-c", "import helm_python"]).output();
    if !*THERE.get_or_init(|| import().is_ok_and(|o| o.status.success())) {
        skipped("the chart: pip install helm-python-sdk==0.2.2");
        return None;
    }
    Some(python().arg(repository().join("tests/chart/check.py")).args(arguments).output().unwrap())
}

/// What is rendered, once for all tests.
fn rendered(kube: &str, values: &str) -> Option<Arc<Vec<Value>>> {
    static KNOWN: Mutex<BTreeMap<String, Arc<Vec<Value>>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(documents) = known.get(&format!("{kube} {values}")) {
        return Some(documents.clone());
    }
    let documents = Arc::new(render(kube, values)?);
    known.insert(format!("{kube} {values}"), documents.clone());
    Some(documents)
}

fn render(kube: &str, values: &str) -> Option<Vec<Value>> {
    let output = check(&["render", "--kube", kube, "--set", values])?;
    assert!(output.status.success(), "{kube} {values}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    Some(documents.into_iter().filter(|d| !d.is_null()).collect())
}

/// The one document of a kind.
fn only<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut found = documents.iter().filter(|d| d["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "several {kind}");
    first
}

/// The Service for people and programs, not that of the keeper.
fn service(documents: &[Value]) -> &Value {
    let mut all = documents.iter().filter(|d| d["kind"] == "Service");
    all.find(|d| !d["metadata"]["name"].as_str().unwrap().ends_with("-keeper")).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn environment(deployment: &Value) -> Vec<(&str, &Value)> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    array(&container["env"]).iter().map(|e| (e["name"].as_str().unwrap(), &e["value"])).collect()
}

/// What stands between a pod and the Pod Security Standard `restricted`, and a read-only root beside it.
fn not_restricted(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut wants = |good: bool, what: &str| {
        if !good {
            found.push(what.to_owned());
        }
    };
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        wants(pod[host].is_null(), host);
    }
    let security = &pod["securityContext"];
    wants(security["runAsNonRoot"] == true, "runAsNonRoot");
    wants(security["runAsUser"].as_u64().is_some_and(|u| u > 0), "runAsUser");
    wants(security["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    for volume in array(&pod["volumes"]) {
        let kinds: Vec<&str> = volume.as_object().unwrap().keys().map(String::as_str).collect();
        wants(!kinds.contains(&"hostPath"), "hostPath");
    }
    for container in array(&pod["containers"]) {
        let own = &container["securityContext"];
        wants(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        wants(own["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        wants(own["capabilities"] == json!({ "drop": ["ALL"] }), "capabilities");
        wants(own["privileged"].is_null() && own["runAsUser"].is_null(), "privileged");
        wants(array(&container["ports"]).iter().all(|p| p["hostPort"].is_null()), "hostPort");
    }
    wants(pod["initContainers"].is_null(), "initContainers are not looked at");
    found
}

#[test]
fn the_chart_passes_lint_with_warnings_as_errors() {
    for kube in VERSIONS {
        let Some(output) = check(&["lint", "--kube", kube]) else { return };
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn whatever_the_values_every_document_is_named_labelled_and_alone() {
    for kube in VERSIONS {
        for values in VALUES {
            let Some(documents) = rendered(kube, values) else { return };
            let mut names = BTreeSet::new();
            for document in documents.iter() {
                let what = format!("{kube} {values}: {}", document["metadata"]);
                assert!(document["apiVersion"].is_string() && document["kind"].is_string(), "{what}");
                let name = (
                    document["kind"].to_string(),
                    document["metadata"]["namespace"].to_string(),
                    document["metadata"]["name"].to_string(),
                );
                assert!(names.insert(name), "twice: {what}");
                let labels = &document["metadata"]["labels"];
                let by_hand = ["CustomResourceDefinition", "Pod"].iter().any(|k| document["kind"] == *k);
                assert!(by_hand || labels["app.kubernetes.io/managed-by"] == "Helm", "{what}");
                assert!(by_hand || labels["app.kubernetes.io/name"] == "gcu-upgrade-manager", "{what}");
            }
        }
    }
}

#[test]
fn whatever_the_values_selectors_select_the_pods_of_the_deployment() {
    for values in VALUES {
        let Some(documents) = rendered(VERSIONS[1], values) else { return };
        let deployment = only(&documents, "Deployment");
        let pods = deployment["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
        let selectors =
            [&deployment["spec"]["selector"]["matchLabels"], &service(&documents)["spec"]["selector"]];
        let optional = documents.iter().filter_map(|d| match d["kind"].as_str().unwrap() {
            "Service" => Some(&d["spec"]["selector"]),
            "PodDisruptionBudget" => Some(&d["spec"]["selector"]["matchLabels"]),
            "NetworkPolicy" => Some(&d["spec"]["podSelector"]["matchLabels"]),
            _ => None,
        });
        for selector in selectors.into_iter().chain(optional) {
            let selector = selector.as_object().unwrap();
            assert!(!selector.is_empty(), "{values}");
            assert!(
                selector.iter().all(|(key, value)| pods.get(key) == Some(value)),
                "{values}: {selector:?}"
            );
        }
        // The service has the labels that a ServiceMonitor selects services by.
        if let Some(monitor) = documents.iter().find(|d| d["kind"] == "ServiceMonitor") {
            let labels = service(&documents)["metadata"]["labels"].as_object().unwrap();
            let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
            assert!(wanted.iter().all(|(key, value)| labels.get(key) == Some(value)), "{values}");
        }
        // The pod that tests must not be behind the service.
        let test = &only(&documents, "Pod")["metadata"]["labels"];
        assert_ne!(test["app.kubernetes.io/name"], pods["app.kubernetes.io/name"]);
    }
}

#[test]
fn every_pod_is_restricted_where_nothing_of_the_node_is_mounted() {
    for values in VALUES {
        let Some(documents) = rendered(VERSIONS[1], values) else { return };
        let pod = &only(&documents, "Deployment")["spec"]["template"]["spec"];
        let expected: &[&str] = if values.contains("asRoot") {
            &["runAsNonRoot", "runAsUser", "hostPath", "hostPath"]
        } else if values.contains("blueprints.configMap") {
            &[]
        } else {
            &["hostPath"]
        };
        assert_eq!(not_restricted(pod), expected, "{values}");
        let mut test = only(&documents, "Pod")["spec"].clone();
        assert_eq!(not_restricted(&test.take()), [""; 0], "{values}");
    }
}

#[test]
fn a_disruption_budget_is_of_a_version_that_the_cluster_serves() {
    for (kube, version) in [("v1.20.0", "policy/v1beta1"), ("v1.21.0", "policy/v1"), ("v1.36.0", "policy/v1")]
    {
        let Some(documents) = rendered(kube, "replicas=2") else { return };
        assert_eq!(only(&documents, "PodDisruptionBudget")["apiVersion"], version, "{kube}");
    }
    let single = rendered(VERSIONS[1], "").unwrap();
    assert!(single.iter().all(|d| d["kind"] != "PodDisruptionBudget"), "it would block every drain");
}

#[test]
fn the_crd_in_the_chart_is_the_one_that_the_service_installs() {
    let file = chart().join("crds/gcuupgrades.yaml");
    let shipped: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let own = serde_json::to_value(gcu_upgrade_manager::record::crd()).unwrap();
    assert!(shipped == own, "write it anew: cargo run -- crd > {}", file.display());
}

#[test]
fn chart_and_image_have_the_version_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    let text = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let meta: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!((meta["version"].as_str(), meta["appVersion"].as_str()), (Some(version), Some(version)));
    let dockerfile = std::fs::read_to_string(repository().join("Dockerfile")).unwrap();
    assert!(dockerfile.contains(&format!("\nARG VERSION={version}\n")));
}
