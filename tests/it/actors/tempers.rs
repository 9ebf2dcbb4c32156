//! Operators that do not behave as the documents lead one to expect.

use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;

use super::*;

const LOCK: &str = "example.com/lock";

async fn scene_with(operator: OperatorBehaviour) -> Scene {
    scene(World { operator, ..World::default() }).await
}

/// Holds the driver at OnDelete, with an annotation and a label of somebody else's.
async fn hold_the_driver(scene: &Scene) {
    let patch = json!({
        "metadata": { "annotations": { LOCK: "held" }, "labels": { LOCK: "held" } },
        "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } },
    });
    scene.workloads().patch(ORDER[1], &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

/// The driver's strategy, and whether what somebody else has written on it is still there.
async fn driver(scene: &Scene) -> (Value, bool, bool) {
    let driver = scene.workloads().get(ORDER[1]).await.unwrap();
    let kept = (driver.annotations().contains_key(LOCK), driver.labels().contains_key(LOCK));
    (json!(driver.spec.update_strategy), kept.0, kept.1)
}

fn on_delete() -> Value {
    json!({ "type": "OnDelete" })
}

#[tokio::test(start_paused = true)]
async fn a_strategy_may_come_with_every_template_and_only_then() {
    let scene = scene_with(OperatorBehaviour {
        strategy_with_template: true,
        max_unavailable: Some("2".to_owned()),
        ..OperatorBehaviour::default()
    })
    .await;
    scene.settled().await;
    hold_the_driver(&scene).await;
    scene.patch(json!({ "spec": { "exporter": { "version": "v2" } } })).await;
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(driver(&scene).await, (on_delete(), true, true), "its template has not changed");
    scene.change_driver().await;
    tokio::time::sleep(2 * MINUTE).await;
    let own = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 2 } });
    assert_eq!(driver(&scene).await, (own, true, true));
    assert!(scene.images(ORDER[1]).await.iter().all(|image| image.ends_with(":v2")), "rolled at once");
}

#[tokio::test(start_paused = true)]
async fn a_whole_object_may_be_replaced_with_all_that_others_have_written_on_it() {
    let scene =
        scene_with(OperatorBehaviour { replaces_whole_objects: true, ..OperatorBehaviour::default() }).await;
    scene.settled().await;
    let uid = scene.workloads().get(ORDER[1]).await.unwrap().uid();
    hold_the_driver(&scene).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(driver(&scene).await, (on_delete(), true, true), "nothing of its own has changed");
    scene.change_driver().await;
    tokio::time::sleep(2 * MINUTE).await;
    let defaulted = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } });
    assert_eq!(driver(&scene).await, (defaulted, false, false));
    assert_eq!(scene.workloads().get(ORDER[1]).await.unwrap().uid(), uid, "it is the same object");
    scene.settled().await;
}

#[tokio::test(start_paused = true)]
async fn workloads_may_be_labelled_otherwise_and_are_taken_down_all_the_same() {
    let scene = scene_with(OperatorBehaviour { other_labels: true, ..OperatorBehaviour::default() }).await;
    scene.settled().await;
    assert!(scene.pods(ORDER[1]).await.is_empty(), "nothing is found by the usual label");
    let set = scene.workloads().get(ORDER[1]).await.unwrap();
    assert_eq!(set.spec.selector.match_labels.unwrap(), [("app".to_owned(), ORDER[1].to_owned())].into());
    scene.change_driver().await;
    tokio::time::sleep(2 * MINUTE).await;
    scene.settled().await;
    scene.delete().await;
    tokio::time::sleep(5 * MINUTE).await;
    assert!(scene.world.grs().get_opt(scene.world.gr_name()).await.unwrap().is_none());
    assert!(scene.server.store().list_all("", "pods").is_empty());
}

#[tokio::test(start_paused = true)]
async fn nodes_serve_gcus_under_any_label_and_name() {
    let odd = OperatorBehaviour { other_labels: true, name_differs: true, ..OperatorBehaviour::default() };
    let scene = scene_with(odd).await;
    scene.settled().await;
    let nodes: Api<Node> = Api::all(scene.server.client());
    for node in nodes.list(&ListParams::default()).await.unwrap().items {
        assert_eq!(node.status.unwrap().allocatable.unwrap()["enflame.com/gcu"].0, "8");
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_may_have_another_name_than_the_spec_gives_it() {
    let scene = scene_with(OperatorBehaviour { name_differs: true, ..OperatorBehaviour::default() }).await;
    let gr = scene.settled().await;
    assert_eq!(gr.data["spec"]["driver"]["name"], ORDER[1]);
    let reported = status(&gr, "resourceStatuses").as_array().unwrap().clone();
    let entry = reported.iter().find(|entry| entry["name"] == "driver").unwrap();
    let real = entry["ownResources"][0]["name"].as_str().unwrap();
    assert_ne!(real, ORDER[1]);
    assert!(scene.workloads().get_opt(ORDER[1]).await.unwrap().is_none());
    assert_eq!(scene.workloads().get(real).await.unwrap().status.unwrap().number_ready, 3);
}

#[tokio::test(start_paused = true)]
async fn of_some_components_the_status_may_say_nothing() {
    let operator = OperatorBehaviour {
        unreported_components: ["driver".to_owned()].into(),
        ..OperatorBehaviour::default()
    };
    let scene = scene_with(operator).await;
    let gr = scene.settled().await;
    let reported = status(&gr, "resourceStatuses").as_array().unwrap().clone();
    let names: Vec<_> = reported.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["toolkit", "devicePlugin", "exporter", "gfd"]);
    assert_eq!(status(&gr, "readyResource"), "5/5", "it runs all the same");
}

#[tokio::test(start_paused = true)]
async fn running_may_never_be_said() {
    let scene =
        scene_with(OperatorBehaviour { never_says_running: true, ..OperatorBehaviour::default() }).await;
    tokio::time::sleep(5 * MINUTE).await;
    let gr = scene.world.gr().await.unwrap();
    assert_eq!((status(&gr, "phase"), status(&gr, "readyResource")), (&json!("deploying"), &json!("5/5")));
    scene.world.change_operator(|operator| operator.never_says_running = false);
    scene.settled().await;
    scene.world.change_operator(|operator| operator.never_says_running = true);
    tokio::time::sleep(MINUTE).await;
    let gr = scene.world.gr().await.unwrap();
    assert_eq!(status(&gr, "phase"), "upgrading", "not even of what ran before");
}

#[tokio::test(start_paused = true)]
async fn a_phase_may_flap_though_everything_runs() {
    let scene = scene_with(OperatorBehaviour { phase_flaps: true, ..OperatorBehaviour::default() }).await;
    scene.settled().await;
    let mut phases = Vec::new();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let gr = scene.world.gr().await.unwrap();
        phases.push(status(&gr, "phase").as_str().unwrap().to_owned());
        assert_eq!(status(&gr, "readyResource"), "5/5");
    }
    let turns = phases.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((15..=25).contains(&turns), "{turns} turns: {phases:?}");
    assert!(phases.iter().all(|phase| phase == "Running" || phase == "upgrading"), "{phases:?}");
}
