//! The Helm chart: what it renders for old and new clusters, with many values; and that it tells the same as the
//! code about the record, the version and the metrics.

mod metrics;

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
const VALUES: [&str; 15] = [
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
    "monitoring.serviceMonitor.enabled=true,monitoring.readerRole=true,rbac.exampleRoles=true,auth=kubernetes,tls.secret=t",
    "networkPolicy.enabled=true,networkPolicy.from[0].ipBlock.cidr=10.0.0.0/8",
    "keeper.enabled=false,networkPolicy.enabled=true",
    "crd.manage=false,serviceAccount.create=false,serviceAccount.name=theirs",
    "fullnameOverride=other,image.registry=mirror.test:5000,imagePullSecrets[0]=pull,affinity.nodeAffinity.x=1,extraEnv[0].name=A",
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
fn rights_are_no_wider_than_they_need_be() {
    for values in VALUES {
        let Some(documents) = rendered(VERSIONS[1], values) else { return };
        for role in documents.iter().filter(|d| d["kind"] == "ClusterRole" || d["kind"] == "Role") {
            for rule in array(&role["rules"]) {
                assert!(!rule.to_string().contains('*'), "{values}: {rule}");
                let resources: Vec<&str> =
                    array(&rule["resources"]).iter().filter_map(Value::as_str).collect();
                let cluster_wide = role["kind"] == "ClusterRole";
                let narrow = ["leases", "secrets", "configmaps"];
                assert!(!cluster_wide || !narrow.iter().any(|n| resources.contains(n)), "{values}: {rule}");
                let verbs = array(&rule["verbs"]);
                // A gr's workloads may be in any namespace, and events are where they are.
                let reads = verbs.iter().all(|verb| verb == "list" || verb == "watch");
                assert!(!cluster_wide || reads || !resources.contains(&"events"), "{values}: {rule}");
                if resources.contains(&"customresourcedefinitions") && verbs.contains(&json!("update")) {
                    assert_eq!(rule["resourceNames"], json!(["gcuupgrades.gum.enflame.com"]));
                    assert!(!values.contains("crd.manage=false"));
                }
                let reviews = resources.iter().any(|r| r.ends_with("reviews"));
                assert!(!reviews || values.contains("auth=kubernetes"), "{values}: {rule}");
            }
        }
        let account =
            only(&documents, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"].clone();
        for binding in documents.iter().filter(|d| d["kind"].as_str().unwrap().ends_with("RoleBinding")) {
            assert_eq!(binding["subjects"][0]["name"], account, "{values}");
            let kind = binding["roleRef"]["kind"].as_str().unwrap();
            let role = documents.iter().find(|d| {
                d["kind"] == kind
                    && d["metadata"]["name"] == binding["roleRef"]["name"]
                    && d["metadata"]["namespace"] == binding["metadata"]["namespace"]
            });
            assert!(role.is_some(), "{values}: {binding}");
        }
    }
}

#[test]
fn the_lease_that_is_named_is_the_one_that_may_be_written() {
    for values in VALUES {
        let Some(documents) = rendered(VERSIONS[1], values) else { return };
        let env = environment(only(&documents, "Deployment"));
        let lease = env.iter().find(|(name, _)| *name == "GUM_LEASE").unwrap().1.as_str().unwrap();
        let (namespace, name) = lease.split_once('/').unwrap();
        let roles =
            documents.iter().filter(|d| d["kind"] == "Role" && d["metadata"]["namespace"] == namespace);
        let named = roles.flat_map(|r| array(&r["rules"])).any(|r| r["resourceNames"] == json!([name]));
        assert!(named, "{values}: {lease}");
    }
}

#[test]
fn the_keeper_is_found_where_the_service_says_and_has_the_rights_that_it_needs() {
    for values in VALUES {
        let Some(documents) = rendered(VERSIONS[0], values) else { return };
        let deployment = only(&documents, "Deployment");
        let env: BTreeMap<_, _> = environment(deployment).into_iter().collect();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let found = documents
            .iter()
            .find(|d| d["kind"] == "Service" && d["metadata"]["name"].as_str().unwrap().ends_with("-keeper"));
        let rules_for = |resource: &str| {
            let roles = documents.iter().filter(|d| d["kind"].as_str().unwrap().ends_with("Role"));
            let rules = roles.flat_map(|r| array(&r["rules"]));
            rules.filter(|r| array(&r["resources"]).contains(&json!(resource))).collect::<Vec<_>>()
        };
        let ports: Vec<&Value> = documents
            .iter()
            .filter(|d| d["kind"] == "NetworkPolicy")
            .flat_map(|d| array(&d["spec"]["ingress"]))
            .filter(|rule| rule["from"].is_null())
            .flat_map(|rule| array(&rule["ports"]))
            .map(|port| &port["port"])
            .collect();
        if values.contains("keeper.enabled=false") {
            assert!(found.is_none() && env.keys().all(|name| !name.contains("KEEPER")), "{values}");
            assert_eq!(array(&container["ports"]).len(), 1);
            assert!(rules_for("secrets").is_empty() && rules_for("mutatingwebhookconfigurations").is_empty());
            assert!(!ports.contains(&&json!("keeper")));
            continue;
        }
        let service = found.unwrap();
        let meta = &service["metadata"];
        let place = format!("{}/{}", meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap());
        assert_eq!(env["GUM_KEEPER_SERVICE"], &json!(place), "{values}");
        assert_eq!(service["spec"]["type"], "ClusterIP", "not open to the outside, whatever the other is");
        let port = &service["spec"]["ports"][0];
        assert_eq!((&port["port"], &port["targetPort"]), (&json!(443), &json!("keeper")));
        let listen = env["GUM_KEEPER_LISTEN"].as_str().unwrap();
        let open = array(&container["ports"]).iter().find(|p| p["name"] == "keeper").unwrap();
        assert!(listen.ends_with(&format!(":{}", open["containerPort"])), "{listen}");
        assert!(!values.contains("networkPolicy.enabled") || ports.contains(&&json!("keeper")), "{values}");
        for resource in ["secrets", "mutatingwebhookconfigurations"] {
            for rule in rules_for(resource) {
                let named = rule["resourceNames"] == json!([keeper::NAME]);
                assert!(named || rule["verbs"] == json!(["create"]), "{values}: {rule}");
            }
        }
    }
}

#[test]
fn the_service_is_told_what_the_values_say() {
    let Some(documents) = rendered(VERSIONS[0], "") else { return };
    let names: Vec<&str> = environment(only(&documents, "Deployment")).iter().map(|e| e.0).collect();
    let expected = [
        "GUM_LISTEN",
        "GUM_BLUEPRINTS",
        "GUM_LOG_DIR",
        "GUM_LOG",
        "GUM_LOG_FORMAT",
        "GUM_NODE_NAME",
        "GUM_POD_NAME",
        "GUM_LEASE",
        "GUM_AUTH",
        "GUM_INSECURE_LISTEN",
        "GUM_KEEPER_LISTEN",
        "GUM_KEEPER_SERVICE",
        "GUM_STOP_DELAY",
        "GUM_MAX_CONNECTIONS",
        "GUM_CLIENT_REQUESTS",
    ];
    assert_eq!(names, expected);
    let port = &service(&documents)["spec"]["ports"][0];
    assert_eq!((&port["port"], &port["nodePort"]), (&json!(32765), &json!(32765)));
    let secure =
        rendered(VERSIONS[0], "tls.secret=own,tls.clientCA=true,auth=kubernetes,hosts={a.example,b.example}")
            .unwrap();
    let deployment = only(&secure, "Deployment");
    let env = environment(deployment);
    for (name, value) in [
        ("GUM_TLS_CERT", "/tls/tls.crt"),
        ("GUM_TLS_KEY", "/tls/tls.key"),
        ("GUM_TLS_CLIENT_CA", "/tls/ca.crt"),
        ("GUM_AUTH", "kubernetes"),
        ("GUM_LOG_DIR", "-"),
        ("GUM_HOST", "a.example,b.example"),
    ] {
        assert!(env.contains(&(name, &json!(value))), "{name}");
    }
    assert!(env.iter().all(|(name, _)| *name != "GUM_INSECURE_LISTEN"), "callers are asked who they are");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS");
    }
    let mounts = array(&container["volumeMounts"]);
    assert!(mounts.iter().all(|m| m["subPath"].is_null()), "what is mounted by subPath never changes");
    let probe = &only(&secure, "Pod")["spec"]["containers"][0]["args"];
    assert_eq!(
        probe,
        &json!(["probe", "--insecure", "https://gcu-upgrade-manager.kube-system:32765/readyz"])
    );
}

#[test]
fn maintenance_windows_in_the_values_are_what_the_service_is_started_with() {
    let windows = r#"maintenance={"timeZone":"Asia/Shanghai","windows":[{"name":"night","days":["fri"],"start":"22:00","duration":"8h"}]}"#;
    let Some(output) = check(&["render", "--set-json", windows]) else { return };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let env = environment(only(&documents, "Deployment"));
    let (_, text) = env.iter().find(|(name, _)| *name == "GUM_MAINTENANCE").unwrap();
    let read = gcu_upgrade_manager::api::maintenance::parse(text.as_str().unwrap()).unwrap();
    assert_eq!((read.time_zone.as_str(), read.windows[0].duration_seconds), ("Asia/Shanghai", 8 * 3600));
}

#[test]
fn blueprints_in_the_values_become_a_config_map_that_is_mounted() {
    let content = r#"blueprints.files={"gr.yaml":"apiVersion: topsops.enflame.com/v1\nkind: GcuResource\n"}"#;
    let Some(output) = check(&["render", "--set-json", content]) else { return };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let map = only(&documents, "ConfigMap");
    assert_eq!(map["data"]["gr.yaml"], "apiVersion: topsops.enflame.com/v1\nkind: GcuResource\n");
    let pod = &only(&documents, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["configMap"]["name"], map["metadata"]["name"]);
    assert_eq!(not_restricted(pod), [""; 0]);
}

#[test]
fn values_that_cannot_be_meant_are_refused_by_name() {
    for (values, says) in [
        ("replica=2", "'replica'"),
        ("image.tags=x", "'tags'"),
        ("auth=basic", "/auth"),
        ("service.port=0", "/service/port"),
        ("replicas=-1", "/replicas"),
        ("blueprints.files.gr\\.txt=x", "gr.txt"),
        ("image.digest=latest", "/image/digest"),
        ("log.format=xml", "/log/format"),
        ("stopDelay=5", "/stopDelay"),
        ("opLog.hostPath=relative", "/opLog/hostPath"),
        ("keeper.enabled=1", "/keeper/enabled"),
        ("blueprints.hostPath=null", "one of files, configMap and hostPath"),
        ("blueprints.configMap=a,blueprints.files.a\\.yaml=b", "give one of them"),
    ] {
        let Some(output) = check(&["render", "--set", values]) else { return };
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(says), "{values}: {said}");
    }
}

#[test]
fn the_notes_warn_of_what_is_open() {
    for (values, warnings) in [
        ("", &["auth is none. Whoever reaches the port"][..]),
        ("auth=kubernetes", &["tokens travel in clear"]),
        ("auth=kubernetes,tls.secret=x", &[]),
        ("auth=kubernetes,tls.secret=x,replicas=2", &["read blueprints from their own node"]),
        ("auth=kubernetes,tls.secret=x,replicas=2,blueprints.configMap=y", &[]),
    ] {
        let Some(output) = check(&["render", "--notes", "--set", values]) else { return };
        let notes = String::from_utf8(output.stdout).unwrap();
        assert_eq!(notes.matches("WARNING").count(), warnings.len(), "{values}: {notes}");
        assert!(warnings.iter().all(|w| notes.contains(w)), "{values}: {notes}");
        assert!(notes.contains("gcu-operator"), "{notes}");
    }
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
