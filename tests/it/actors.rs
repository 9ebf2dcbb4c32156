//! The sandbox's inhabitants: what they do in a healthy cluster, and what each of their faults looks like.

mod changes;
mod nodes;
mod tempers;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use gcu_upgrade_manager::{
    clock::Clock,
    sandbox::{
        actors::operator::{OnChange, UpdateStrategy},
        apiserver::ApiServer,
        store::ChangeKind,
        world::{Running, World, documented_gr},
    },
};
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment},
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tower::ServiceExt;

const ORDER: [&str; 6] = [
    "enflame-node-feature-discovery",
    "enflame-gcu-driver",
    "enflame-gcu-docker-plugin",
    "enflame-gcu-k8s-plugin",
    "enflame-gcu-exporter",
    "enflame-gcu-feature-discovery",
];
const MINUTE: Duration = Duration::from_secs(60);

/// A world, and what has happened in it.
struct Scene {
    server: ApiServer,
    world: Running,
    log: Arc<Mutex<Vec<String>>>,
    /// Requests that would change something, even if they do not.
    writes: Arc<Mutex<Vec<String>>>,
}

async fn scene(world: World) -> Scene {
    let clock = Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
    let server = ApiServer::new(clock);
    let log = Arc::new(Mutex::new(Vec::new()));
    let entries = Arc::clone(&log);
    server.store().on_change(move |change| {
        let kind = match change.kind {
            ChangeKind::Added => "+",
            ChangeKind::Modified => "~",
            ChangeKind::Deleted => "-",
        };
        entries.lock().unwrap().push(format!("{kind}{}/{}", change.resource.1, change.name));
    });
    let writes = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&writes);
    let counted = server.router().map_request(move |request: http::Request<kube::client::Body>| {
        if request.method() != http::Method::GET {
            requests.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
        }
        request
    });
    let world = world.start(kube::Client::new(counted, "default"), clock).await.unwrap();
    Scene { server, world, log, writes }
}

impl Scene {
    async fn settled(&self) -> DynamicObject {
        self.world.settled(10 * MINUTE).await.unwrap()
    }

    fn workloads(&self) -> Api<DaemonSet> {
        Api::namespaced(self.server.client(), "kube-system")
    }

    async fn pods(&self, workload: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::all(self.server.client());
        let own = ListParams::default().labels(&format!("app.kubernetes.io/name={workload}"));
        pods.list(&own).await.unwrap().items
    }

    async fn images(&self, workload: &str) -> Vec<String> {
        let pods = self.pods(workload).await;
        pods.iter().map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap()).collect()
    }

    /// The log's entries of a kind, in order.
    fn seen(&self, prefix: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter_map(|entry| entry.strip_prefix(prefix)).map(str::to_owned).collect()
    }

    fn writes(&self) -> usize {
        self.writes.lock().unwrap().len()
    }

    async fn patch(&self, patch: Value) {
        let (grs, name) = (self.world.grs(), self.world.gr_name().to_owned());
        grs.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn change_driver(&self) {
        self.patch(json!({ "spec": { "driver": { "version": "v2" } } })).await;
    }

    async fn delete(&self) {
        self.world.grs().delete(self.world.gr_name(), &DeleteParams::default()).await.unwrap();
    }
}

fn status<'a>(gr: &'a DynamicObject, field: &str) -> &'a Value {
    &gr.data["status"][field]
}

#[tokio::test(start_paused = true)]
async fn the_stack_comes_up_in_dependency_order_and_reads_5_of_5() {
    let scene = scene(World::default()).await;
    let gr = scene.settled().await;
    assert_eq!(status(&gr, "phase"), "Running");
    assert_eq!(status(&gr, "readyResource"), "5/5");
    assert_eq!(status(&gr, "clusterGCUNodes"), &json!(["node-1", "node-2", "node-3"]));
    assert_eq!(status(&gr, "observedGeneration"), 1);
    let names: Vec<_> =
        status(&gr, "resourceStatuses").as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["driver", "toolkit", "devicePlugin", "exporter", "gfd"]);
    let condition = &status(&gr, "conditions")[0];
    assert_eq!(condition["action"], "deploy");
    assert_eq!((&condition["progress"], &condition["status"]), (&json!(100), &json!("success")));
    assert_eq!(gr.finalizers(), ["topsops.enflame.com/v1"]);
    assert_eq!(scene.seen("+daemonsets/"), ORDER);
    // Each only when the one before runs: no pod of a component is made before all of the last are.
    let pods = scene.seen("+pods/");
    let order = pods.iter().map(|pod| ORDER.iter().position(|name| pod.starts_with(name)).unwrap());
    assert!(order.is_sorted() && pods.len() == 18, "{pods:?}");
}

#[tokio::test(start_paused = true)]
async fn a_workload_looks_as_documented() {
    let scene = scene(World::default()).await;
    scene.settled().await;
    let driver = scene.workloads().get(ORDER[1]).await.unwrap();
    assert_eq!(driver.labels().get("app.kubernetes.io/name").unwrap(), ORDER[1]);
    assert_eq!(driver.owner_references()[0].kind, "GcuResource");
    let container = &driver.spec.template.spec.as_ref().unwrap().containers[0];
    assert_eq!(
        container.image.as_deref(),
        Some("artifact.enflame.cn/galaxy_docker_hub/gcu/gcu-driver:latest")
    );
    assert_eq!(container.env.as_ref().unwrap()[0].name, "WITH_REBOOT");
    let nfd = scene.workloads().get(ORDER[0]).await.unwrap();
    let containers = &nfd.spec.template.spec.as_ref().unwrap().containers;
    assert_eq!(containers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["master", "worker"]);
    let revisions: Api<ControllerRevision> = Api::namespaced(scene.server.client(), "kube-system");
    let pods = scene.pods(ORDER[1]).await;
    let revision = revisions.list(&ListParams::default()).await.unwrap();
    let revision = revision.items.iter().find(|one| one.name_any().starts_with(ORDER[1])).unwrap();
    assert_eq!(revision.labels()["controller-revision-hash"], pods[0].labels()["controller-revision-hash"]);
}

#[tokio::test(start_paused = true)]
async fn two_deployed_components_read_2_of_5_and_still_run() {
    let mut gr = documented_gr();
    gr["spec"].as_object_mut().unwrap().retain(|key, _| key == "driver" || key == "toolkit");
    let scene = scene(World { gr: Some(gr), ..World::default() }).await;
    let gr = scene.settled().await;
    assert_eq!((status(&gr, "phase"), status(&gr, "readyResource")), (&json!("Running"), &json!("2/5")));
}

#[tokio::test(start_paused = true)]
async fn the_operator_of_2_4_serves_its_own_group_and_keys() {
    let gr = json!({
        "kind": "GcuResource", "metadata": { "name": "gr" },
        "spec": { "containerToolkit": {}, "gcuExporter": {}, "nodeExporter": {}, "somethingNew": {},
            "nightingale": {} },
    });
    let group = "topscloud.enflame.com".to_owned();
    let scene = scene(World { gr: Some(gr), group, ..World::default() }).await;
    let gr = scene.settled().await;
    assert_eq!(gr.finalizers(), ["topscloud.enflame.com/v1"]);
    assert_eq!(status(&gr, "readyResource"), "2/5");
    let made = scene.seen("+daemonsets/");
    let expected = [
        "enflame-container-toolkit",
        "enflame-gcu-exporter",
        "enflame-node-exporter",
        "enflame-somethingnew",
    ];
    assert_eq!(made, expected);
    let deployments: Api<Deployment> = Api::namespaced(scene.server.client(), "enflame");
    let made = deployments.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|one| one.status.as_ref().unwrap().available_replicas == Some(1)));
    scene.delete().await;
    tokio::time::sleep(2 * MINUTE).await;
    assert!(scene.server.store().list_all("", "pods").is_empty());
    let left = scene.server.store().list_all("apps", "replicasets");
    let names: Vec<&str> = left.iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|n| n.starts_with("gcu-operator-")), "of the operator itself: {names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_gr_goes_in_reverse_order_and_keeps_its_finalizer_to_the_end() {
    let scene = scene(World::default()).await;
    scene.settled().await;
    scene.delete().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let gr = scene.world.gr().await.unwrap();
    assert_eq!(status(&gr, "phase"), "deleting");
    assert_eq!(status(&gr, "conditions")[0]["action"], "delete");
    tokio::time::sleep(2 * MINUTE).await;
    assert!(scene.world.gr().await.is_err());
    let gone = scene.seen("-daemonsets/");
    assert!(gone.iter().eq(ORDER.iter().rev()), "{gone:?}");
    let ends: Vec<String> =
        scene.log.lock().unwrap().iter().filter(|e| e.starts_with('-')).cloned().collect();
    let last_pod = ends.iter().rposition(|entry| entry.starts_with("-pods/")).unwrap();
    assert!(ends.iter().position(|entry| entry.starts_with("-gcuresources/")).unwrap() > last_pod);
    assert!(scene.server.store().list_all("", "pods").is_empty());
    assert!(scene.server.store().list_all("apps", "controllerrevisions").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stuck_finalizer_keeps_the_gr_until_it_is_healed() {
    let mut world = World::default();
    world.operator.finalizer_stuck = true;
    let scene = scene(world).await;
    scene.settled().await;
    scene.delete().await;
    tokio::time::sleep(10 * MINUTE).await;
    assert!(
        scene.world.gr().await.is_ok()
            && scene.workloads().list(&ListParams::default()).await.unwrap().items.is_empty()
    );
    scene.world.change_operator(|operator| operator.finalizer_stuck = false);
    tokio::time::sleep(MINUTE).await;
    assert!(scene.world.gr().await.is_err());
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_dies_at_any_moment_goes_on_where_it_was() {
    let mut scene = scene(World::default()).await;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        scene.world.start_operator();
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    scene.settled().await;
    assert_eq!(scene.seen("+daemonsets/"), ORDER);
    assert_eq!(scene.seen("+pods/").len(), 18);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_world_writes_nothing() {
    let scene = scene(World::default()).await;
    scene.settled().await;
    tokio::time::sleep(MINUTE).await;
    let quiet = scene.writes();
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(scene.writes(), quiet);
}

#[tokio::test(start_paused = true)]
async fn two_worlds_share_a_cluster() {
    let one = scene(World { prefix: Some("one".into()), ..World::default() }).await;
    let clock = Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
    let two = World { nodes: 2, prefix: Some("two".into()), ..World::default() };
    let two = two.start(one.server.client(), clock).await.unwrap();
    one.settled().await;
    let gr = two.settled(10 * MINUTE).await.unwrap();
    assert_eq!(status(&gr, "clusterGCUNodes"), &json!(["two-node-1", "two-node-2"]));
    assert_eq!(one.pods("one-enflame-gcu-driver").await.len(), 3);
    assert_eq!(one.pods("two-enflame-node-feature-discovery").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_nodes_come_up() {
    let scene = scene(World { nodes: 200, ..World::default() }).await;
    scene.settled().await;
    assert_eq!(scene.seen("+pods/").len(), 1200);
    let changed = scene.seen("~pods/").len();
    assert_eq!(changed, 2400, "bound and started, each once");
    let statuses = scene.writes.lock().unwrap().iter().filter(|write| write.contains("/daemonsets/")).count();
    assert!(statuses < 200, "a burst of events is one look: {statuses}");
}

#[tokio::test]
async fn a_world_comes_up_on_a_real_api_server_with_its_controllers() {
    let Some(cluster) = crate::kube::real().await else { return };
    let prefix = "actors".to_owned();
    let mut world = World { nodes: 2, prefix: Some(prefix), ..World::default() };
    world.with_real_controllers = cluster.has_controllers();
    world.operator.component_delay = Duration::from_millis(100);
    world.kubelet.pod_start = Duration::from_millis(200);
    world.kubelet.pod_stop = Duration::from_millis(200);
    let client = cluster.client().await;
    let world = world.start(client.clone(), Clock::system()).await.unwrap();
    let gr = world.settled(2 * MINUTE).await.unwrap();
    assert_eq!(status(&gr, "readyResource"), "5/5");
    assert_eq!(status(&gr, "clusterGCUNodes"), &json!(["actors-node-1", "actors-node-2"]));
    let nodes: Api<Node> = Api::all(client.clone());
    let allocatable = nodes.get("actors-node-1").await.unwrap().status.unwrap().allocatable.unwrap();
    assert_eq!(allocatable["enflame.com/gcu"].0, "8");
    let grs = world.grs();
    grs.delete(world.gr_name(), &DeleteParams::default()).await.unwrap();
    let gone = async {
        while grs.get_opt(world.gr_name()).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(2 * MINUTE, gone).await.unwrap();
    let pods: Api<Pod> = Api::all(client);
    let own = ListParams::default().labels("app.kubernetes.io/name=actors-enflame-gcu-driver");
    assert!(pods.list(&own).await.unwrap().items.is_empty());
    for node in ["actors-node-1", "actors-node-2"] {
        nodes.delete(node, &DeleteParams::default()).await.unwrap();
    }
}
