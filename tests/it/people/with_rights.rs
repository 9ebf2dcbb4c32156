//! On a real API server, with no more rights than the chart's roles for people give.

use gcu_upgrade_manager::record::{GcuUpgrade, crd};
use gcu_upgrade_manager::sandbox::world::World;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::refused::{kubeconfig, run};
use crate::faults::Faults;
use crate::harness::{Backend, Harness};
use crate::kube::token_of;

/// A service account with these rules, and its token.
async fn person(client: &Client, name: &str, rules: Value) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let apply = PatchParams::apply("test");
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
    accounts.patch(name, &apply, &Patch::Apply(&account)).await.unwrap();
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name }, "rules": rules });
    roles.patch(name, &apply, &Patch::Apply(&role)).await.unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": "default" }],
    });
    bindings.patch(name, &apply, &Patch::Apply(&binding)).await.unwrap();
    token_of(&accounts, name, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_look_looks_and_is_told_which_right_planning_and_upgrading_take() {
    let Some(cluster) = crate::kube::real().await else { return };
    let _alone = crate::kube::ALONE.lock().await;
    let world = World { nodes: 1, prefix: Some("people".to_owned()), ..World::default() };
    let harness =
        Harness::set_without_service(Backend::Real(crate::kube::SHARED), world, Faults::new(Vec::new()))
            .await
            .unwrap();
    let gr = harness.gr().to_owned();
    // A rollout with nodes in work, as the fixtures have it.
    let mut record = crate::frames::records()["enflame-gcu-resource-7"].clone();
    let name = format!("{gr}-7");
    record.metadata = kube::api::ObjectMeta { name: Some(name.clone()), ..Default::default() };
    record.spec.gr = gr.clone();
    let records: Api<GcuUpgrade> = harness.records();
    // Another test may have installed it; an API server takes a moment to serve it.
    let _ = Api::all(harness.client.clone()).create(&PostParams::default(), &crd()).await;
    while records.list(&Default::default()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let status = record.status.take();
    let mut made = records.create(&PostParams::default(), &record).await.unwrap();
    made.status = status;
    records.replace_status(&name, &PostParams::default(), &made).await.unwrap();
    let look = json!([
        { "apiGroups": ["gum.enflame.com"], "resources": ["gcuupgrades"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["topsops.enflame.com", "topscloud.enflame.com"], "resources": ["gcuresources"],
            "verbs": ["get", "list"] },
    ]);
    let dir = TempDir::new().unwrap();
    let token = person(&harness.client, "people-viewer", look).await;
    let config = kubeconfig(dir.path(), cluster.url(), Some(&token)).display().to_string();
    let ask = async |args: &[&str]| run(&[args, &["--gr", &gr, "--kubeconfig", &config]].concat()).await;
    let list = ask(&["get"]).await.ends(0);
    assert!(list.out.contains("███▌····· 412/1000"), "{}", list.out);
    let status = ask(&["status"]).await.ends(0);
    assert!(
        status.out.contains("node-17") && status.out.contains("what the nodes do is as the record has it"),
        "{}",
        status.out
    );
    let why = ask(&["why"]).await.ends(0);
    assert!(
        why.out.contains("node-40") && why.err.contains("as the record has it"),
        "{}\n{}",
        why.out,
        why.err
    );
    assert!(ask(&["history"]).await.ends(0).out.contains("driver 1.2.3 → 1.3.0"), "the history");
    for (verb, right) in [
        (&["plan", "--set", "driver.version=1"][..], "cannot"),
        (&["cancel", "-y"], "cannot patch resource \"gcuupgrades\""),
        (&["nodes"], "cannot list resource"),
    ] {
        let said = ask(verb).await;
        // Another upgrade is under way: that is found out before a right is.
        if verb[0] != "plan" {
            let said = said.ends(6);
            assert!(said.err.contains(right) && said.err.contains("Ask for this right"), "{}", said.err);
            assert!(!said.err.contains("of gcu-upgrade-manager itself"), "{}", said.err);
        }
    }
    let doctor = ask(&["doctor"]).await;
    assert!(
        doctor.out.contains("you may not") && doctor.out.contains("create gcuupgrades (to upgrade)"),
        "{}",
        doctor.out
    );
    let wrong = kubeconfig(dir.path(), cluster.url(), Some("expired")).display().to_string();
    let said = run(&["get", "--kubeconfig", &wrong]).await.ends(6);
    assert!(said.err.contains("does not accept your credentials"), "{}", said.err);
    records.delete(&name, &Default::default()).await.unwrap();
}
