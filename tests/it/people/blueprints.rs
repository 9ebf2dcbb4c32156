//! The service's blueprints, read by whoever has a kubeconfig and no service: from the ConfigMap that its Deployment
//! mounts.

use std::time::Duration;

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::record::{GcuUpgrade, crd};
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::world::World;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::refused::{kubeconfig, run, serve};
use super::{ACCEPT, Said};

const NAMESPACE: &str = "kube-system";

/// A cluster with a stack in which nobody acts.
struct Desk {
    client: Client,
    kubeconfig: String,
    _dir: TempDir,
}

impl Desk {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (clock, server) = (Clock::system(), ApiServer::new(Clock::system()));
        let kubeconfig = kubeconfig(dir.path(), &serve(server.router()).await, None).display().to_string();
        let world = World::default().start(server.client(), clock).await.unwrap();
        world.settled(Duration::from_secs(60)).await.unwrap();
        Api::all(server.client()).create(&PostParams::default(), &crd()).await.unwrap();
        Self { client: server.client(), kubeconfig, _dir: dir }
    }

    /// The service's Deployment, whose blueprints come from `source`.
    async fn mounts(&self, source: Value) {
        let mut volume = source;
        volume["name"] = json!("blueprints");
        self.deploys(json!({
            "metadata": { "name": "gum", "labels": { "app.kubernetes.io/name": "gcu-upgrade-manager" } },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": { "app": "gum" } },
                "template": {
                    "metadata": { "labels": { "app": "gum" } },
                    "spec": { "containers": [{ "name": "gum", "image": "gum:1" }], "volumes": [volume] },
                },
            },
        }))
        .await;
    }

    async fn deploys(&self, deployment: Value) {
        let deployment: Deployment = serde_json::from_value(deployment).unwrap();
        let api = Api::namespaced(self.client.clone(), NAMESPACE);
        api.create(&PostParams::default(), &deployment).await.unwrap();
    }

    async fn has(&self, map: Value) {
        let map: ConfigMap = serde_json::from_value(map).unwrap();
        let api = Api::namespaced(self.client.clone(), NAMESPACE);
        api.create(&PostParams::default(), &map).await.unwrap();
    }

    async fn run(&self, args: &[&str]) -> Said {
        run(&[args, &["--kubeconfig", &self.kubeconfig]].concat()).await
    }

    /// The records of the cluster.
    async fn records(&self) -> Vec<GcuUpgrade> {
        Api::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }
}

/// The shipped blueprint with another driver.
fn blueprint() -> String {
    include_str!("../../../blueprints/gr.json").replace("2.1.0", "9.1")
}

/// ConfigMap `gum-blueprints` with a good blueprint and a broken one.
fn map() -> Value {
    json!({
        "metadata": { "name": "gum-blueprints" },
        "data": { "next.json": blueprint(), "broken.yaml": "kind: GcuResource\nspec: [\n" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blueprint_is_read_from_the_config_map_that_the_services_deployment_mounts() {
    let desk = Desk::new().await;
    desk.mounts(json!({ "configMap": { "name": "gum-blueprints" } })).await;
    desk.has(map()).await;
    let plan = desk.run(&["plan", "--blueprint", "next.json"]).await.ends(0);
    assert!(plan.out.contains("latest → 9.1"), "{}", plan.out);
    assert!(desk.records().await.is_empty(), "a plan changes nothing");
    // Nobody acts: it is recorded, and said to wait.
    desk.run(&["upgrade", "--blueprint", "next.json", "-y", ACCEPT]).await.ends(4);
    let records = desk.records().await;
    assert_eq!(records.len(), 1);
    let target = serde_json::to_value(&records[0].spec.target).unwrap();
    let wanted: Value = serde_json::from_str(&blueprint()).unwrap();
    assert_eq!(target["manifest"]["spec"]["driver"]["version"], wanted["spec"]["driver"]["version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chart_installs_is_where_blueprints_are_looked_for() {
    let files = format!("blueprints.files={}", json!({ "next.json": blueprint() }));
    let Some(output) = crate::chart::check(&["render", "--set-json", &files]) else { return };
    let all: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let desk = Desk::new().await;
    let of = |kind: &str| all.iter().filter(|d| d["kind"] == kind).cloned().collect::<Vec<Value>>();
    for mut deployment in of("Deployment") {
        deployment["spec"]["replicas"] = json!(0);
        desk.deploys(deployment).await;
    }
    for map in of("ConfigMap").into_iter().filter(|map| map["data"]["next.json"].is_string()) {
        desk.has(map).await;
    }
    let plan = desk.run(&["plan", "--blueprint", "next.json"]).await.ends(0);
    assert!(plan.out.contains("latest → 9.1"), "{}", plan.out);
    let doctor = desk.run(&["doctor"]).await;
    assert!(doctor.out.contains("✔ blueprints") && doctor.out.contains("1 in ConfigMap"), "{}", doctor.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blueprint_that_cannot_be_had_is_said_with_what_to_do_and_changes_nothing() {
    let desk = Desk::new().await;
    let ask = async |name: &str| desk.run(&["upgrade", "--blueprint", name, "-y", ACCEPT]).await;
    let says = |said: &Said, words: &[&str]| {
        assert!(words.iter().all(|w| said.err.contains(w)), "{words:?}: {}", said.err);
    };
    // The service is not installed, or has a directory of its node.
    let said = ask("next.json").await.ends(2);
    says(&said, &["a directory of its node", "give the file itself with -f"]);
    desk.mounts(json!({ "hostPath": { "path": "/blueprints" } })).await;
    let said = ask("next.json").await.ends(2);
    says(&said, &["a directory of its node", "--server URL"]);
    let api: Api<Deployment> = Api::namespaced(desk.client.clone(), NAMESPACE);
    api.delete("gum", &Default::default()).await.unwrap();
    // There is no such ConfigMap.
    while api.get_opt("gum").await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    desk.mounts(json!({ "configMap": { "name": "gum-blueprints" } })).await;
    let said = ask("next.json").await.ends(3);
    says(&said, &["ConfigMap kube-system/gum-blueprints, which is not there", "with -f"]);
    // There is no such entry.
    desk.has(map()).await;
    let said = ask("nxt.json").await.ends(3);
    says(
        &said,
        &["no blueprint \"nxt.json\" in ConfigMap kube-system/gum-blueprints", "broken.yaml, next.json"],
    );
    // It is not YAML: where, in the words of `validate`.
    let said = ask("broken.yaml").await.ends(2);
    says(&said, &["broken.yaml:", "error:"]);
    // An empty one has nothing to choose from.
    let maps: Api<ConfigMap> = Api::namespaced(desk.client.clone(), NAMESPACE);
    let mut empty = maps.get("gum-blueprints").await.unwrap();
    empty.data = None;
    maps.replace(&empty.name_any(), &PostParams::default(), &empty).await.unwrap();
    let said = ask("next.json").await.ends(3);
    says(&said, &["no blueprint \"next.json\"", "it has none"]);
    assert!(desk.records().await.is_empty(), "nothing was changed");
}
