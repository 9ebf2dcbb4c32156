//! What a changed gr does.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_change_is_rolled_in_place_by_default() {
    let scene = scene(World::default()).await;
    scene.settled().await;
    let before = scene.workloads().get(ORDER[1]).await.unwrap();
    scene.change_driver().await;
    tokio::time::sleep(2 * MINUTE).await;
    let gr = scene.settled().await;
    assert_eq!(status(&gr, "observedGeneration"), 2);
    assert_eq!(status(&gr, "conditions")[0]["action"], "upgrade");
    let after = scene.workloads().get(ORDER[1]).await.unwrap();
    assert_eq!(before.uid(), after.uid());
    assert!(scene.images(ORDER[1]).await.iter().all(|image| image.ends_with(":v2")));
    assert_eq!(scene.seen("-pods/").len(), 3, "only the driver's pods were replaced");
    assert!(scene.server.store().list_all("apps", "controllerrevisions").len() == 7);
}

#[tokio::test(start_paused = true)]
async fn a_rolling_daemonset_never_lacks_more_than_one_pod() {
    let scene = scene(World { nodes: 6, ..World::default() }).await;
    scene.settled().await;
    let (server, worst) = (scene.server.clone(), Arc::new(Mutex::new(0)));
    let most = Arc::clone(&worst);
    scene.change_driver().await;
    let watch = async {
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let pods: Api<Pod> = Api::all(server.client());
            let own = ListParams::default().labels(&format!("app.kubernetes.io/name={}", ORDER[1]));
            let pods = pods.list(&own).await.unwrap().items;
            let serving =
                pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod)).count();
            let mut most = most.lock().unwrap();
            *most = (6 - serving).max(*most);
        }
    };
    watch.await;
    assert_eq!(*worst.lock().unwrap(), 1);
    assert!(scene.images(ORDER[1]).await.iter().all(|image| image.ends_with(":v2")));
}

#[tokio::test(start_paused = true)]
async fn on_delete_replaces_a_pod_only_when_it_is_deleted() {
    let mut world = World::default();
    world.operator.update_strategy = Some(UpdateStrategy::OnDelete);
    let scene = scene(world).await;
    scene.settled().await;
    scene.change_driver().await;
    tokio::time::sleep(2 * MINUTE).await;
    assert!(scene.seen("-pods/").is_empty());
    let driver = scene.workloads().get(ORDER[1]).await.unwrap().status.unwrap();
    assert_eq!((driver.updated_number_scheduled.unwrap_or(0), driver.number_ready), (0, 3));
    let pods: Api<Pod> = Api::namespaced(scene.server.client(), "kube-system");
    let victim = scene.pods(ORDER[1]).await[0].name_any();
    pods.delete(&victim, &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    let images = scene.images(ORDER[1]).await;
    assert_eq!(images.iter().filter(|image| image.ends_with(":v2")).count(), 1);
    let driver = scene.workloads().get(ORDER[1]).await.unwrap().status.unwrap();
    assert_eq!((driver.updated_number_scheduled, driver.number_ready), (Some(1), 3));
}

#[tokio::test(start_paused = true)]
async fn a_change_may_recreate_the_workload() {
    let mut world = World::default();
    world.operator.on_change = OnChange::Recreate;
    let scene = scene(world).await;
    scene.settled().await;
    let before = scene.workloads().get(ORDER[1]).await.unwrap();
    scene.change_driver().await;
    tokio::time::sleep(2 * MINUTE).await;
    scene.settled().await;
    let after = scene.workloads().get(ORDER[1]).await.unwrap();
    assert_ne!(before.uid(), after.uid());
    assert_eq!(scene.seen("-daemonsets/"), [ORDER[1]]);
    assert_eq!(scene.images(ORDER[1]).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_may_be_ignored() {
    let mut world = World::default();
    world.operator.on_change = OnChange::Ignore;
    let scene = scene(world).await;
    scene.settled().await;
    scene.change_driver().await;
    tokio::time::sleep(2 * MINUTE).await;
    let gr = scene.settled().await;
    assert_eq!(status(&gr, "observedGeneration"), 2);
    assert!(scene.images(ORDER[1]).await.iter().all(|image| image.ends_with(":latest")));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_component_goes_and_an_added_one_comes() {
    let scene = scene(World::default()).await;
    scene.settled().await;
    scene.patch(json!({ "spec": { "gfd": null, "volcano": { "notDeploy": false } } })).await;
    tokio::time::sleep(2 * MINUTE).await;
    let gr = scene.settled().await;
    assert_eq!(status(&gr, "readyResource"), "4/5");
    assert!(scene.workloads().get_opt(ORDER[5]).await.unwrap().is_none());
    assert_eq!(scene.pods("enflame-volcano").await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_operator_with_a_strategy_of_its_own_writes_it_back() {
    let mut world = World::default();
    world.operator.reasserts_strategy = true;
    let scene = scene(world).await;
    scene.settled().await;
    let patch = json!({ "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } } });
    scene.workloads().patch(ORDER[1], &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let driver = scene.workloads().get(ORDER[1]).await.unwrap();
    assert_eq!(driver.spec.update_strategy.unwrap().type_.as_deref(), Some("RollingUpdate"));
}
