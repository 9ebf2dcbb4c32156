//! What nodes and their pods suffer.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stuck_component_holds_all_that_depend_on_it() {
    let mut world = World::default();
    world.operator.stuck_components.insert("toolkit".to_owned());
    let scene = scene(world).await;
    tokio::time::sleep(10 * MINUTE).await;
    let gr = scene.world.gr().await.unwrap();
    assert_eq!((status(&gr, "phase"), status(&gr, "readyResource")), (&json!("deploying"), &json!("1/5")));
    assert_eq!(scene.seen("+daemonsets/"), &ORDER[..2]);
    scene.world.change_operator(|operator| operator.stuck_components.clear());
    scene.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_image_is_never_pulled_and_heals() {
    let mut world = World::default();
    world.kubelet.bad_images.push("gcu-runtime".to_owned());
    let scene = scene(world).await;
    tokio::time::sleep(5 * MINUTE).await;
    let pods = scene.pods(ORDER[2]).await;
    let reason = |pod: &Pod| {
        let status = pod.status.clone().unwrap().container_statuses.unwrap().remove(0);
        (status.ready, status.state.unwrap().waiting.unwrap().reason.unwrap())
    };
    assert_eq!(pods.len(), 3);
    assert!(pods.iter().all(|pod| reason(pod) == (false, "ImagePullBackOff".to_owned())));
    let quiet = scene.writes();
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(scene.writes(), quiet);
    scene.world.change_kubelet(|kubelet| kubelet.bad_images.clear());
    scene.settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_counts_its_restarts_and_heals() {
    let mut world = World::default();
    world.kubelet.crashing_images.push("gcu-runtime".to_owned());
    let scene = scene(world).await;
    let mut restarts = Vec::new();
    for _ in 0..3 {
        tokio::time::sleep(2 * MINUTE).await;
        let pod = scene.pods(ORDER[2]).await.remove(0);
        let status = pod.status.unwrap().container_statuses.unwrap().remove(0);
        assert_eq!(status.state.unwrap().waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
        restarts.push(status.restart_count);
    }
    assert!(restarts.is_sorted_by(|a, b| a < b), "{restarts:?}");
    scene.world.change_kubelet(|kubelet| kubelet.crashing_images.clear());
    scene.settled().await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_never_end_hold_the_deletion() {
    let mut world = World::default();
    world.kubelet.stuck_terminating.insert(ORDER[3].to_owned());
    let scene = scene(world).await;
    scene.settled().await;
    scene.delete().await;
    tokio::time::sleep(10 * MINUTE).await;
    assert!(scene.world.gr().await.is_ok());
    assert_eq!(scene.pods(ORDER[3]).await.len(), 3);
    assert_eq!(scene.pods(ORDER[1]).await.len(), 3, "the driver stays while the plugin's pods do");
    scene.world.change_kubelet(|kubelet| kubelet.stuck_terminating.clear());
    tokio::time::sleep(MINUTE).await;
    assert!(scene.world.gr().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_careless_operator_leaves_old_pods_beside_new_ones() {
    let mut world = World::default();
    world.operator.waits_for_pods = false;
    world.operator.on_change = OnChange::Recreate;
    world.kubelet.pod_stop = MINUTE;
    let scene = scene(world).await;
    scene.settled().await;
    scene.change_driver().await;
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(scene.pods(ORDER[1]).await.len(), 6, "old and new side by side on every node");
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_not_ready_and_nothing_happens_on_it() {
    let mut world = World::default();
    world.kubelet.dead_nodes.insert("node-2".to_owned());
    let scene = scene(world).await;
    let gr = scene.settled().await;
    assert_eq!(status(&gr, "readyResource"), "5/5");
    assert_eq!(scene.pods(ORDER[1]).await.len(), 2);
    scene.world.change_kubelet(|kubelet| kubelet.dead_nodes = ["node-1".to_owned()].into());
    tokio::time::sleep(MINUTE).await;
    let nodes: Api<Node> = Api::all(scene.server.client());
    let ready = |node: Node| {
        let conditions = node.status.unwrap().conditions.unwrap();
        conditions.into_iter().find(|one| one.type_ == "Ready").unwrap().status
    };
    assert_eq!(ready(nodes.get("node-1").await.unwrap()), "Unknown");
    assert_eq!(ready(nodes.get("node-2").await.unwrap()), "True");
    let pods = scene.pods(ORDER[1]).await;
    assert_eq!(pods.len(), 3);
    let lost =
        pods.iter().find(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some("node-1")).unwrap();
    assert!(!is_ready(lost));
    let pods: Api<Pod> = Api::namespaced(scene.server.client(), "kube-system");
    pods.delete(&lost.name_any(), &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(10 * MINUTE).await;
    assert!(pods.get(&lost.name_any()).await.is_ok(), "terminating for as long as the node is away");
    scene.world.change_kubelet(|kubelet| kubelet.dead_nodes.clear());
    tokio::time::sleep(MINUTE).await;
    assert!(scene.pods(ORDER[1]).await.iter().all(is_ready));
}

fn job(name: &str, gcus: u32) -> Pod {
    let resources = json!({ "limits": { "enflame.com/gcu": gcus.to_string() } });
    let container = json!({ "name": "main", "image": "training:1", "resources": resources });
    serde_json::from_value(json!({
        "metadata": { "name": name, "annotations": { "sandbox.enflame.com/runs-for": "300" } },
        "spec": { "containers": [container], "restartPolicy": "Never" },
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn gcus_are_there_while_a_device_plugin_serves_them_and_are_counted() {
    let scene = scene(World { nodes: 2, plain_nodes: 1, ..World::default() }).await;
    scene.settled().await;
    let nodes: Api<Node> = Api::all(scene.server.client());
    let allocatable =
        |node: Node| node.status.unwrap().allocatable.unwrap().get("enflame.com/gcu").map(|q| q.0.clone());
    assert_eq!(allocatable(nodes.get("node-1").await.unwrap()).as_deref(), Some("8"));
    assert_eq!(allocatable(nodes.get("plain-1").await.unwrap()), None);
    let pods: Api<Pod> = Api::default_namespaced(scene.server.client());
    for (name, gcus) in [("a", 8), ("b", 6), ("c", 6)] {
        pods.create(&PostParams::default(), &job(name, gcus)).await.unwrap();
    }
    tokio::time::sleep(MINUTE).await;
    let mut phases = BTreeMap::new();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        *phases.entry(pod.status.unwrap().phase.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(phases, [("Pending".to_owned(), 1), ("Running".to_owned(), 2)].into());
    // They end by themselves, and the third gets its turn.
    tokio::time::sleep(10 * MINUTE).await;
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Succeeded"), "{:?}", pod.metadata.name);
    }
    scene.patch(json!({ "spec": { "devicePlugin": { "notDeploy": true } } })).await;
    tokio::time::sleep(MINUTE).await;
    assert_eq!(allocatable(nodes.get("node-1").await.unwrap()).as_deref(), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_keeps_its_daemons_and_gets_no_jobs() {
    let scene = scene(World { nodes: 1, ..World::default() }).await;
    scene.settled().await;
    let nodes: Api<Node> = Api::all(scene.server.client());
    let cordon = |on: bool| Patch::Merge(json!({ "spec": { "unschedulable": on } }));
    nodes.patch("node-1", &PatchParams::default(), &cordon(true)).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    let taints = nodes.get("node-1").await.unwrap().spec.unwrap().taints.unwrap();
    assert_eq!(taints[0].key, "node.kubernetes.io/unschedulable");
    let pods: Api<Pod> = Api::default_namespaced(scene.server.client());
    pods.create(&PostParams::default(), &job("late", 1)).await.unwrap();
    scene.change_driver().await;
    tokio::time::sleep(MINUTE).await;
    assert!(scene.images(ORDER[1]).await.iter().all(|image| image.ends_with(":v2")));
    assert_eq!(pods.get("late").await.unwrap().spec.unwrap().node_name, None);
    nodes.patch("node-1", &PatchParams::default(), &cordon(false)).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(pods.get("late").await.unwrap().spec.unwrap().node_name.as_deref(), Some("node-1"));
    assert!(nodes.get("node-1").await.unwrap().spec.unwrap().taints.unwrap_or_default().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_pods_of_a_deleted_node_are_collected() {
    let scene = scene(World::default()).await;
    scene.settled().await;
    let nodes: Api<Node> = Api::all(scene.server.client());
    nodes.delete("node-3", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(scene.server.store().list_all("", "pods").len(), 12);
    let gr = scene.world.gr().await.unwrap();
    assert_eq!(status(&gr, "clusterGCUNodes"), &json!(["node-1", "node-2"]));
}

#[tokio::test(start_paused = true)]
async fn a_full_node_pulls_nothing_more_and_keeps_what_runs() {
    let scene = scene(World::default()).await;
    scene.settled().await;
    scene.world.change_kubelet(|kubelet| kubelet.full_nodes = ["node-1".to_owned()].into());
    tokio::time::sleep(MINUTE).await;
    assert!(scene.pods(ORDER[1]).await.iter().all(is_ready), "what runs does not care");
    let pods: Api<Pod> = Api::namespaced(scene.server.client(), "kube-system");
    for pod in scene.pods(ORDER[1]).await {
        pods.delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }
    tokio::time::sleep(MINUTE).await;
    let ready = |pod: &&Pod| is_ready(pod);
    let on = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    assert_eq!(scene.pods(ORDER[1]).await.iter().filter(ready).count(), 2);
    assert!(scene.pods(ORDER[1]).await.iter().filter(ready).all(|pod| on(pod) != "node-1"));
    scene.world.change_kubelet(|kubelet| kubelet.full_nodes.clear());
    tokio::time::sleep(MINUTE).await;
    assert_eq!(scene.pods(ORDER[1]).await.iter().filter(ready).count(), 3);
}
