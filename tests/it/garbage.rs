//! Owner references and namespaces: the same scenario on the sandbox and on a real control plane.

use std::time::Duration;

use gcu_upgrade_manager::{
    clock::Clock,
    sandbox::{actors::garbage::run_garbage_collector, apiserver::ApiServer},
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn the_sandbox_collects_garbage() {
    let server = ApiServer::new(Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap()));
    let collector = tokio::spawn(run_garbage_collector(server.client_as("garbage-collector")));
    collects_garbage(server.client()).await;
    collector.abort();
}

#[tokio::test]
async fn the_real_control_plane_collects_garbage() {
    if let Some(cluster) = crate::kube::real().await.filter(|cluster| cluster.has_controllers()) {
        collects_garbage(cluster.client().await).await;
    }
}

async fn collects_garbage(client: Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({"metadata": {"name": "garbage"}});
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, "garbage");

    let (a, b) = (owner(&maps, "a").await, owner(&maps, "b").await);
    owned(&maps, "by-a", &[&a]).await;
    owned(&maps, "by-both", &[&a, &b]).await;
    maps.delete("a", &DeleteParams::background()).await.unwrap();
    until_gone(&maps, "by-a").await;
    assert!(maps.get_opt("by-both").await.unwrap().is_some(), "it has another owner");
    maps.delete("b", &DeleteParams::background()).await.unwrap();
    until_gone(&maps, "by-both").await;

    let owner_c = owner(&maps, "c").await;
    owned(&maps, "by-c", &[&owner_c]).await;
    maps.delete("c", &DeleteParams::foreground()).await.unwrap();
    until_gone(&maps, "c").await;
    assert!(maps.get_opt("by-c").await.unwrap().is_none(), "dependents go first");

    let owner_d = owner(&maps, "d").await;
    owned(&maps, "by-d", &[&owner_d]).await;
    maps.delete("d", &DeleteParams::orphan()).await.unwrap();
    until_gone(&maps, "d").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(maps.get("by-d").await.unwrap().owner_references().is_empty(), "it was let go");

    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    maps.patch("by-d", &PatchParams::default(), &hold).await.unwrap();
    namespaces.delete("garbage", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(namespaces.get_opt("garbage").await.unwrap().is_some(), "a finalizer holds it");
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("by-d", &PatchParams::default(), &release).await.unwrap();
    for _ in 0..300 {
        if namespaces.get_opt("garbage").await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the namespace stays");
}

async fn owner(maps: &Api<ConfigMap>, name: &str) -> ConfigMap {
    let owner = json!({"metadata": {"name": name}});
    maps.create(&PostParams::default(), &serde_json::from_value(owner).unwrap()).await.unwrap()
}

async fn owned(maps: &Api<ConfigMap>, name: &str, owners: &[&ConfigMap]) {
    let references: Vec<_> = owners
        .iter()
        .map(|owner| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(), "uid": owner.uid(),
                "blockOwnerDeletion": true,
            })
        })
        .collect();
    let owned = json!({"metadata": {"name": name, "ownerReferences": references}});
    maps.create(&PostParams::default(), &serde_json::from_value(owned).unwrap()).await.unwrap();
}

async fn until_gone(maps: &Api<ConfigMap>, name: &str) {
    for _ in 0..300 {
        if maps.get_opt(name).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} stays");
}
