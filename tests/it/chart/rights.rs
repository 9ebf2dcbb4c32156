//! Which rights the chart gives.

use super::*;

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
