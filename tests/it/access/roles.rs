//! Tokens and roles of a real API server.

use gcu_upgrade_manager::sandbox::world::World;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Client;
use kube::api::DeleteParams;

use super::*;
use crate::faults::Faults;
use crate::harness::{Backend, Harness};
use crate::kube::token_of;

/// Whatever ran on this cluster before may have left either served, and a caller needs the right in each.
const GR_GROUPS: [&str; 2] = ["topsops.enflame.com", "topscloud.enflame.com"];

/// A service account in `default`, with the verbs that it has on grs, and a token of it.
async fn account(client: &Client, name: &str, verbs: &[&str], audience: Option<&str>) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account: ServiceAccount = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    let _ = accounts.create(&PostParams::default(), &account).await;
    if !verbs.is_empty() {
        let role = json!({
            "metadata": { "name": name },
            "rules": [{ "apiGroups": GR_GROUPS, "resources": ["gcuresources"], "verbs": verbs }],
        });
        let roles: Api<ClusterRole> = Api::all(client.clone());
        let apply = PatchParams::apply("test");
        let mut role_object = role.clone();
        role_object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        role_object["kind"] = json!("ClusterRole");
        roles.patch(name, &apply, &Patch::Apply(&role_object)).await.unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "default" }],
        });
        bindings.patch(name, &apply, &Patch::Apply(&binding)).await.unwrap();
    }
    token_of(&accounts, name, audience).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_api_server_its_own_roles_decide_and_the_record_says_who_asked() {
    if crate::kube::real().await.is_none() {
        return;
    }
    let _alone = crate::kube::ALONE.lock().await;
    let world = World { nodes: 1, prefix: Some("auth".to_owned()), ..World::default() };
    let harness =
        Harness::set_without_service(Backend::Real(crate::kube::SHARED), world, Faults::new(Vec::new()))
            .await
            .unwrap();
    let mut target = serde_json::from_str::<Value>(BLUEPRINT).unwrap();
    target["metadata"]["name"] = json!(harness.gr());
    harness.write("gr.json", &target.to_string());
    let client = harness.client.clone();
    let nobody = account(&client, "auth-nobody", &[], None).await;
    let reader = account(&client, "auth-reader", &["get", "list"], None).await;
    let writer = account(&client, "auth-writer", &["get", "list", "update"], None).await;
    let elsewhere = account(&client, "auth-writer", &[], Some("https://elsewhere")).await;
    let service = start(&harness, client.clone()).await;
    let gr = format!("/gum/v1/gr/{}", harness.gr());
    for (token, get, put, delete) in [
        (None, 401, 401, 401),
        (Some("garbage"), 401, 401, 401),
        (Some(elsewhere.as_str()), 401, 401, 401),
        (Some(nobody.as_str()), 403, 403, 403),
        (Some(reader.as_str()), 200, 403, 403),
        (Some(writer.as_str()), 200, 200, 403),
    ] {
        for (method, path, expected) in [
            ("GET", gr.clone(), get),
            ("GET", "/gum/v1/gr".to_owned(), get),
            ("PUT", format!("{gr}?dryRun=true"), put),
            ("DELETE", format!("{gr}?dryRun=true"), delete),
        ] {
            let said = ask(&service, method, &path, token).await;
            assert_eq!(said.status, expected, "{method} {path} with {token:?}: {}", said.text);
        }
    }
    let said = ask(&service, "PUT", &format!("{gr}?dryRun=true"), Some(&reader)).await;
    let words = "user \\\"system:serviceaccount:default:auth-reader\\\" may not update gcuresources.";
    assert!(said.text.contains(words), "{}", said.text);
    assert!(!said.text.contains(&reader), "the token itself is nowhere");
    // The real thing, and who did it.
    let said = ask(&service, "PUT", &gr, Some(&writer)).await;
    assert_eq!(said.status, 200, "{}", said.text);
    let record = harness.record(1).await.unwrap();
    assert_eq!(record.spec.requested_by.as_deref(), Some("system:serviceaccount:default:auth-writer"));
    let said = ask(&service, "POST", &format!("{gr}/cancel"), Some(&writer)).await;
    assert_eq!(said.status, 200, "{}", said.text);
    let steered = harness.record(1).await.unwrap().spec.steered_by.unwrap();
    assert_eq!((steered.command.as_str(), steered.by.ends_with("auth-writer")), ("cancel", true));
    // Nothing is left under way for those who use this cluster next.
    let over = timeout(Duration::from_secs(120), async {
        while harness.record(1).await.is_some_and(|r| r.metadata.finalizers.is_some()) {
            sleep(Duration::from_millis(100)).await;
        }
    });
    over.await.expect("the cancelled upgrade does not end");
    // A right that is taken away.
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.delete("auth-reader", &DeleteParams::default()).await.unwrap();
    let refused = timeout(Duration::from_secs(45), async {
        while ask(&service, "GET", &gr, Some(&reader)).await.status == 200 {
            sleep(Duration::from_millis(250)).await;
        }
    });
    refused.await.expect("a right that was taken away is of no use after 30 s");
}
