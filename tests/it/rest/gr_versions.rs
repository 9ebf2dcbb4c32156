//! The gr's API in several versions: an operator that goes from v1 to v2, both served, or v1 no longer.

use gcu_upgrade_manager::cluster::discovery::discover;
use gcu_upgrade_manager::cluster::gr_resource;
use gcu_upgrade_manager::record::Phase;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use tokio::time::{Duration, sleep};

use super::*;

/// Of its own: other tests on the same API server have theirs.
const GROUP: &str = "versions.enflame.com";

fn definitions(harness: &Harness) -> Api<CustomResourceDefinition> {
    Api::all(harness.client.clone())
}

/// Has the API server serve these versions of the gr's API, the last as the one that is stored, and waits until the
/// service has heard of it.
async fn serve(harness: &Harness, versions: &[(&str, bool)], preferred: &str) {
    let name = format!("gcuresources.{GROUP}");
    let crd = serde_json::to_value(definitions(harness).get(&name).await.unwrap()).unwrap();
    let versions: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(n, (name, served))| {
            let mut version = crd["spec"]["versions"][0].clone();
            version["name"] = json!(name);
            version["served"] = json!(served);
            version["storage"] = json!(n + 1 == versions.len());
            version
        })
        .collect();
    let patch = Patch::Merge(json!({ "spec": { "versions": versions } }));
    definitions(harness).patch(&name, &PatchParams::default(), &patch).await.unwrap();
    let wanted = format!("{GROUP}/{preferred}");
    for _ in 0..1200 {
        sleep(Duration::from_millis(100)).await;
        let get = harness.must("GET", &format!("/gum/v1/gr/{}", harness.gr()), "").await;
        if get.status == 200 && get.json()["content"]["apiVersion"] == json!(wanted) {
            return;
        }
    }
    panic!("{wanted} is not served");
}

fn changed(world: &World, driver: &str) -> Value {
    let mut gr = world.adapt(documented_gr());
    gr["spec"]["driver"]["version"] = json!(driver);
    gr
}

async fn story(backend: Backend) {
    let prefix = Some("versions".to_owned());
    let world = World { nodes: 1, group: GROUP.to_owned(), prefix, ..World::default() };
    let (second, third) = (changed(&world, "2"), changed(&world, "3"));
    let mut harness = Harness::set(backend, world, Faults::new(Vec::new())).await.unwrap();
    let gr = format!("/gum/v1/gr/{}", harness.gr());
    harness.write("second.json", &second.to_string());
    let mut of_v2 = third.clone();
    of_v2["apiVersion"] = json!(format!("{GROUP}/v2"));
    harness.write("third.json", &of_v2.to_string());
    harness.write("of-v1.json", &third.to_string());
    let driver = async |harness: &Harness| {
        harness.world.gr().await.unwrap().data["spec"]["driver"]["version"].as_str().unwrap().to_owned()
    };

    let put = harness.must("PUT", &gr, r#"{"file": "second.json"}"#).await;
    assert_eq!(put.status, 200, "{}", put.text);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);

    // Both are served, and v2 is preferred: records of v1 are as good as ever.
    serve(&harness, &[("v2", true), ("v1", true)], "v2").await;
    let history = harness.must("GET", &format!("{gr}/history"), "").await;
    assert_eq!(history.json()["content"].as_array().unwrap().len(), 2, "{}", history.text);
    for (body, number, wanted, version) in [
        (json!({ "revision": 0 }), 2, "latest", "v1"),
        (json!({ "file": "third.json" }), 3, "3", "v2"),
        (json!({}), 4, "latest", "v1"),
        (
            json!({ "revision": 1, "strategy": "RollingUpdate", "rollingUpdate": { "minReadySeconds": 0 } }),
            5,
            "2",
            "v1",
        ),
    ] {
        let (method, path) =
            if body["file"].is_null() { ("POST", format!("{gr}/rollback")) } else { ("PUT", gr.clone()) };
        let asked = harness.must(method, &path, &body.to_string()).await;
        assert_eq!(asked.status, 200, "{body}: {}", asked.text);
        assert_eq!(harness.until_final(number).await, Phase::Succeeded, "{body}");
        assert_eq!(driver(&harness).await, wanted, "{body}");
        let spec = harness.record(number).await.unwrap().spec;
        let version = json!(format!("{GROUP}/{version}"));
        assert_eq!(spec.target.manifest["apiVersion"], version, "{body}");
        assert_eq!(spec.previous.unwrap().manifest["apiVersion"], version, "both of one version: {body}");
    }

    // v1 is no longer served: what is of v1 is refused before anything is touched.
    serve(&harness, &[("v1", false), ("v2", true)], "v2").await;
    let resource = gr_resource(&format!("{GROUP}/v2"));
    let grs: Api<DynamicObject> = Api::all_with(harness.client.clone(), &resource);
    let before = grs.get(harness.gr()).await.unwrap();
    // Other tests of a real API server have groups of their own there.
    let why = [
        format!("the manifest is of {GROUP}/v1, which the cluster does not serve; it serves "),
        format!("{GROUP}/v2. Go on with a blueprint of an API that is served"),
    ];
    for (method, path, body) in [
        ("POST", format!("{gr}/rollback"), r#"{"revision": 1}"#),
        ("POST", format!("{gr}/rollback?dryRun=true"), r#"{"revision": 1}"#),
        ("PUT", gr.clone(), r#"{"file": "of-v1.json"}"#),
        ("POST", format!("{gr}/plan"), r#"{"file": "of-v1.json"}"#),
    ] {
        let refused = harness.must(method, &path, body).await;
        let (status, error) = (refused.status.as_u16(), refused.error());
        assert_eq!(status, 422, "{method} {path}: {}", refused.text);
        assert!(why.iter().all(|words| error.contains(words)), "{method} {path}: {error}");
    }
    assert!(harness.record(6).await.is_none());
    let after = grs.get(harness.gr()).await.unwrap();
    assert_eq!(
        (after.metadata.uid, after.data["spec"].clone()),
        (before.metadata.uid, before.data["spec"].clone())
    );
    for path in ["history", "history/1", "status", "nodes"] {
        let read = harness.must("GET", &format!("{gr}/{path}"), "").await;
        assert_eq!(read.status, 200, "{path}: {}", read.text);
    }
    // What is of v2 goes on.
    let plan = harness.must("POST", &format!("{gr}/plan"), r#"{"file": "third.json"}"#).await;
    assert_eq!(plan.status, 200, "{}", plan.text);
    let back = harness.must("POST", &format!("{gr}/rollback?dryRun=true"), r#"{"revision": 3}"#).await;
    assert_eq!(back.status, 200, "{}", back.text);

    // The group's newest version has other resources only.
    serve(&harness, &[("v2", false), ("v1", true)], "v1").await;
    let other = json!({
        "metadata": { "name": format!("aheads.{GROUP}") },
        "spec": {
            "group": GROUP, "scope": "Cluster", "names": { "kind": "Ahead", "plural": "aheads" },
            "versions": [{
                "name": "v3", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object" } },
            }],
        },
    });
    let other = serde_json::from_value(other).unwrap();
    definitions(&harness).create(&PostParams::default(), &other).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let found = discover(&harness.client).await.unwrap();
    assert!(found.contains(&format!("{GROUP}/v1")), "{found:?}");
    for name in [format!("aheads.{GROUP}"), format!("gcuresources.{GROUP}")] {
        let _ = definitions(&harness).delete(&name, &DeleteParams::default()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_v1_is_rolled_back_while_v1_is_served_and_refused_when_it_is_not() {
    story(Backend::Sandbox).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server_that_goes_from_v1_to_v2_breaks_neither_history_nor_rollback() {
    if crate::kube::real().await.is_none() {
        return;
    }
    let _alone = crate::kube::ALONE.lock().await;
    story(Backend::Real(crate::kube::SHARED)).await;
}
