//! What becomes of values, and which are refused.

use super::*;

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
fn the_notes_say_how_to_get_the_command_line_and_where_the_page_is() {
    for (values, page) in [
        ("", "http://NODE-IP:32765/ui/"),
        ("auth=kubernetes,tls.secret=x", "https://NODE-IP:32765/ui/"),
        ("service.type=ClusterIP,service.port=8080", "http://localhost:8080/ui/"),
    ] {
        for (namespace, doctor) in [
            ("kube-system", "  kubectl gcu-upgrade doctor\n"),
            ("gcu", "  kubectl gcu-upgrade doctor --lease gcu/gcu-upgrade-manager\n"),
        ] {
            let Some(output) = check(&["render", "--notes", "--namespace", namespace, "--set", values])
            else {
                return;
            };
            let notes = String::from_utf8(output.stdout).unwrap();
            for words in [page, "deploy/kubectl-plugin.sh", doctor] {
                assert!(notes.contains(words), "{values}, {namespace}: {words}: {notes}");
            }
        }
    }
}

#[test]
fn a_secret_with_receivers_is_mounted_and_they_can_be_reached() {
    let Some(documents) = rendered(VERSIONS[0], VALUES[13]) else { return };
    let deployment = only(&documents, "Deployment");
    assert!(
        environment(deployment).contains(&("GUM_NOTIFICATIONS", &json!("/notifications/notifications.yaml")))
    );
    let pod = &deployment["spec"]["template"]["spec"];
    let volume = array(&pod["volumes"]).iter().find(|v| v["name"] == "notifications").unwrap();
    assert_eq!(volume["secret"]["secretName"], "receivers");
    let mounts = array(&pod["containers"][0]["volumeMounts"]);
    let mount = mounts.iter().find(|m| m["name"] == "notifications").unwrap();
    assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&json!("/notifications"), &json!(true)));
    let egress = array(&only(&documents, "NetworkPolicy")["spec"]["egress"]);
    assert_eq!(egress.last().unwrap()["ports"], json!([{ "port": 443, "protocol": "TCP" }]));
    let roles = documents.iter().filter(|d| d["kind"] == "Role").flat_map(|d| array(&d["rules"]));
    let maps: Vec<&Value> = roles.filter(|rule| rule["resources"] == json!(["configmaps"])).collect();
    assert_eq!(maps.len(), 2);
    assert_eq!(maps[0]["resourceNames"], json!(["other-notifications"]), "named after the Lease");
    let Some(documents) = rendered(VERSIONS[0], "") else { return };
    assert!(!json!(*documents).to_string().contains("configmaps"), "no right without a receiver");
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
