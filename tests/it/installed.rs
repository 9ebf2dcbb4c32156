//! The chart on a real API server: the service with the account, the rights and the environment that the chart gives
//! it. The API server's audit log tells which of those rights it used.

mod rights;

use std::path::Path;
use std::time::Duration;

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::keeper::{self, KeeperAddress};
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::record::rolling::{NODE_ANNOTATION, NodeMark};
use gcu_upgrade_manager::record::{
    CRD_REVISION, CRD_REVISION_ANNOTATION, GcuUpgrade, HISTORY_LIMIT, Phase, crd,
};
use gcu_upgrade_manager::sandbox::WORLD_LABEL;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Node, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::chart::check;
use crate::cli::{Running, curl, curl_as};
use crate::kube::{ALONE, RealCluster, TOKEN, real, token_of};
use rights::{compare, receiver, rights};

const NAME: &str = "gcu-upgrade-manager";
const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "in";

/// The same rule names the groups of both releases of gcu-operator, and a cluster has one of them.
const OTHER_GROUP: &str = "topscloud.enflame.com";

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let met = async {
        while !condition().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(120), met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn helm(cluster: &RealCluster, action: &str, options: &[&str]) -> Option<()> {
    let kubeconfig = cluster.kubeconfig().to_str().unwrap();
    let output = check(&[&[action, "--kubeconfig", kubeconfig], options].concat())?;
    assert!(output.status.success(), "{action} {options:?}: {output:?}");
    Some(())
}

/// With its access control on, and somebody to notify: those rights have to be there, too.
const WITH_AUTH: [&str; 2] = ["--set", "auth=kubernetes,notifications.secret=receivers"];

/// The CRD as 2.0.0 shipped it, written by somebody else than Helm and this version.
async fn leave_an_older_crd(client: &Client) {
    let mut older: CustomResourceDefinition =
        serde_saphyr::from_str(include_str!("../data/crd-2.0.0.yaml")).unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PostParams { field_manager: Some("2.0.0".to_owned()), ..PostParams::default() };
    match crds.get_opt(&older.name_any()).await.unwrap() {
        Some(found) => {
            older.metadata.resource_version = found.resource_version();
            crds.replace(&older.name_any(), &params, &older).await.unwrap();
        }
        None => drop(crds.create(&params, &older).await.unwrap()),
    }
    assert!(crd_revision(client).await < CRD_REVISION);
}

async fn crd_revision(client: &Client) -> u32 {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    crds.get(&crd().name_any()).await.unwrap().annotations()[CRD_REVISION_ANNOTATION].parse().unwrap()
}

/// A kubeconfig with a token of the account, such as the pod is given.
async fn kubeconfig_of_the_account(cluster: &RealCluster, dir: &Path) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client().await, NAMESPACE);
    let token = token_of(&accounts, NAME, None).await;
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": cluster.url(), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    let file = dir.join("kubeconfig");
    std::fs::write(&file, text.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// What the Deployment in the cluster tells its container, but for what a pod is needed for.
async fn environment(client: &Client, blueprints: &str) -> Vec<(String, String)> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = api.get(NAME).await.unwrap().spec.template.spec.unwrap();
    let given = pod.containers[0].env.clone().unwrap();
    let of_the_pod = |name: &str| match name {
        "GUM_LISTEN" => Some("127.0.0.1:0".to_owned()),
        "GUM_BLUEPRINTS" => Some(blueprints.to_owned()),
        "GUM_NODE_NAME" => Some(format!("{PREFIX}-node-2")),
        "GUM_POD_NAME" => Some("pod-1".to_owned()),
        "GUM_NOTIFICATIONS" => Some(format!("{blueprints}/receivers")),
        "GUM_KEEPER_LISTEN" => Some("127.0.0.1:0".to_owned()),
        _ => None,
    };
    given.into_iter().map(|e| (e.name.clone(), of_the_pod(&e.name).or(e.value).unwrap())).collect()
}

struct Installed {
    kubeconfig: String,
    env: Vec<(String, String)>,
    log_dir: String,
}

impl Installed {
    async fn serve(&self) -> (Running, String) {
        let env: Vec<(&str, &str)> = self.env.iter().map(|(name, value)| (&**name, &**value)).collect();
        let args = ["serve", "--kubeconfig", &self.kubeconfig, "--log-dir", &self.log_dir];
        let mut process = Running::start(&args, &env);
        let address = process.word_after("address=");
        until("ready", async || curl(&address, "GET", "/readyz", "").0 == 200).await;
        (process, address)
    }
}

/// A call of somebody who may do everything in the cluster, and so here.
fn ok(address: &str, method: &str, path: &str, body: &str) -> String {
    let (status, text) = curl_as(Some(TOKEN), address, method, path, body);
    assert_eq!(status, 200, "{method} {path}: {text}");
    text
}

async fn succeeds(client: &Client, name: &str) -> GcuUpgrade {
    let records: Api<GcuUpgrade> = Api::all(client.clone());
    until(&format!("{name} ends"), async || {
        let record = records.get(name).await.unwrap();
        record.phase().is_final() && record.metadata.finalizers.is_none()
    })
    .await;
    let record = records.get(name).await.unwrap();
    assert_eq!(record.phase(), Phase::Succeeded, "{:?}", record.status);
    record
}

/// Says of every Deployment of the world that it runs: no controller of Deployments does.
async fn keep_deployments_running(client: Client) {
    let api: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    loop {
        for deployment in api.list(&ListParams::default()).await.map(|l| l.items).unwrap_or_default() {
            let name = deployment.name_any();
            if name.starts_with(&format!("{PREFIX}-")) {
                let status = json!({ "status": {
                    "observedGeneration": deployment.metadata.generation, "replicas": 1, "updatedReplicas": 1,
                    "readyReplicas": 1, "availableReplicas": 1,
                } });
                // It may be gone by now.
                let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await;
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A node that a process left claimed, which died long ago.
async fn leave_a_claim(client: &Client) {
    let mark = NodeMark {
        record: "gone-1".to_owned(),
        uid: "gone".to_owned(),
        state: "Claimed".to_owned(),
        attempt: 0,
        deadline: Timestamp::UNIX_EPOCH,
        pre_cordoned: false,
    };
    let patch = json!({
        "metadata": { "annotations": { NODE_ANNOTATION: json!(mark).to_string() } },
        "spec": { "unschedulable": true },
    });
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.patch(&format!("{PREFIX}-node-1"), &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn is_given_back(client: &Client) -> bool {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get(&format!("{PREFIX}-node-1")).await.unwrap();
    !node.annotations().contains_key(NODE_ANNOTATION) && node.spec.unwrap().unschedulable != Some(true)
}

/// As many ended records as are kept, after the first.
async fn fill_the_history(client: &Client, like: &GcuUpgrade) {
    let records: Api<GcuUpgrade> = Api::all(client.clone());
    for number in 2..=HISTORY_LIMIT + 1 {
        let mut record = GcuUpgrade::new(&format!("{}-{number}", like.spec.gr), like.spec.clone());
        let made = records.create(&PostParams::default(), &record).await.unwrap();
        record.metadata = made.metadata;
        record.status.clone_from(&like.status);
        records.replace_status(&record.name_any(), &PostParams::default(), &record).await.unwrap();
    }
}

/// A user's pod that holds a GCU and comes back elsewhere, with such a label or annotation.
async fn start_a_tenant(client: &Client, name: &str, (field, key): (&str, &str)) {
    let name = format!("{PREFIX}-{name}");
    let labels = json!({ "app": name });
    let container = json!({ "name": "main", "image": "training:1",
        "resources": { "limits": { "enflame.com/gcu": "1" } } });
    let spec = json!({ "containers": [container], "nodeSelector": { WORLD_LABEL: PREFIX } });
    let owner: ReplicaSet = serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    }))
    .unwrap();
    let owners: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    let uid = owners.create(&PostParams::default(), &owner).await.unwrap().uid();
    let mut pod = json!({
        "metadata": { "name": name, "labels": labels, "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": uid, "controller": true,
        }] },
        "spec": spec,
    });
    pod["spec"]["nodeName"] = json!(format!("{PREFIX}-node-1"));
    pod["metadata"][field][key] = json!(name);
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    until("the tenant runs", async || {
        pods.get_status(&name).await.unwrap().status.and_then(|s| s.phase).as_deref() == Some("Running")
    })
    .await;
}

async fn the_crd_is_updated_and_made_anew(client: &Client) {
    let (api, name): (Api<CustomResourceDefinition>, _) = (Api::all(client.clone()), crd().name_any());
    let older = json!({ "metadata": { "annotations": { CRD_REVISION_ANNOTATION: "1" } } });
    api.patch(&name, &PatchParams::default(), &Patch::Merge(&older)).await.unwrap();
    until("the CRD is updated", async || {
        let annotations = api.get(&name).await.unwrap().metadata.annotations.unwrap_or_default();
        annotations.get(CRD_REVISION_ANNOTATION) == Some(&CRD_REVISION.to_string())
    })
    .await;
    // The CRD would wait for them for ever.
    let records: Api<GcuUpgrade> = Api::all(client.clone());
    let all = records.list(&ListParams::default()).await.unwrap().items;
    let under_way: Vec<String> =
        all.iter().filter(|r| r.metadata.finalizers.is_some()).map(ResourceExt::name_any).collect();
    assert!(under_way.is_empty(), "another test has left these under way: {under_way:?}");
    let uid = api.get(&name).await.unwrap().uid();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    until("the CRD is made anew", async || {
        api.get_opt(&name)
            .await
            .unwrap()
            .is_some_and(|c| c.uid() != uid && c.metadata.deletion_timestamp.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn under_its_own_account_it_may_do_all_that_it_does_and_nothing_else() {
    let Some(cluster) = real().await else { return };
    let _alone = ALONE.lock().await;
    let client = cluster.client().await;
    leave_an_older_crd(&client).await;
    // As deploy.sh does where the CRD is there already.
    let around_the_crd = [&WITH_AUTH[..], &["--skip-crds"]].concat();
    let Some(()) = helm(cluster, "install", &around_the_crd) else { return };
    assert!(crd_revision(&client).await < CRD_REVISION, "Helm leaves the CRD to the service");
    // May be said twice.
    helm(cluster, "install", &around_the_crd);
    let (world, dir) = (start_a_world(cluster, &client).await, TempDir::new().unwrap());
    let deployments = tokio::spawn(keep_deployments_running(client.clone()));
    world.settled(Duration::from_secs(120)).await.unwrap();
    let blueprints = dir.path().join("blueprints");
    std::fs::create_dir(&blueprints).unwrap();
    for (file, component) in [("recreate.json", "gfd"), ("rolling.json", "toolkit")] {
        let mut target = json!(world.gr().await.unwrap());
        target = json!({
            "apiVersion": target["apiVersion"], "kind": "GcuResource",
            "metadata": { "name": world.gr_name() }, "spec": target["spec"].take(),
        });
        target["spec"][component]["version"] = json!("2.1.0");
        std::fs::write(blueprints.join(file), target.to_string()).unwrap();
    }
    receiver(&blueprints).await;
    let installed = Installed {
        kubeconfig: kubeconfig_of_the_account(cluster, dir.path()).await,
        env: environment(&client, blueprints.to_str().unwrap()).await,
        log_dir: dir.path().join("log").to_str().unwrap().to_owned(),
    };
    leave_a_claim(&client).await;
    let gr = format!("/gum/v1/gr/{}", world.gr_name());

    let (process, address) = installed.serve().await;
    assert_eq!(crd_revision(&client).await, CRD_REVISION, "the service brings the CRD up to date");
    until("the node is released", async || is_given_back(&client).await).await;
    assert_eq!(curl(&address, "GET", "/gum/v1/gr", "").0, 401, "a token is asked for");
    ok(&address, "GET", "/gum/v1/gr", "");
    ok(&address, "GET", &format!("{gr}/resource/driver"), "");
    ok(&address, "GET", &format!("{gr}/resource/gcushareScheduler"), "");
    ok(&address, "PUT", &gr, r#"{"file": "recreate.json"}"#);
    let first = succeeds(&client, &format!("{}-1", world.gr_name())).await;
    drop(process);

    fill_the_history(&client, &first).await;
    start_a_tenant(&client, "train", ("labels", "volcano.sh/job-name")).await;
    start_a_tenant(&client, "group", ("annotations", "scheduling.k8s.io/group-name")).await;
    start_a_tenant(&client, "other", ("labels", "scheduling.x-k8s.io/pod-group")).await;
    let (process, address) = installed.serve().await;
    let body = r#"{"file": "rolling.json", "components": ["toolkit"], "strategy": "RollingUpdate"}"#;
    ok(&address, "POST", &format!("{gr}/plan"), body);
    ok(&address, "PUT", &gr, body);
    let second = format!("{}-{}", world.gr_name(), HISTORY_LIMIT + 2);
    ok(&address, "GET", &format!("{gr}/nodes"), "");
    ok(&address, "GET", &format!("{gr}/why"), "");
    succeeds(&client, &second).await;
    let records: Api<GcuUpgrade> = Api::all(client.clone());
    until("the history is cut", async || records.get_opt(&first.name_any()).await.unwrap().is_none()).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    assert!(pods.get_opt(&format!("{PREFIX}-train")).await.unwrap().is_none(), "the tenant was evicted");
    the_crd_is_updated_and_made_anew(&client).await;
    until("ready again", async || curl(&address, "GET", "/readyz", "").0 == 200).await;
    drop(process);

    the_keeper_comes_and_goes(&client, &installed.kubeconfig).await;
    let rights = rights(&client).await;
    assert!(rights.len() > 30, "{rights:?}");
    compare(&rights, cluster.audit());
    deployments.abort();
    helm(cluster, "uninstall", &[]);
    let roles: Api<ClusterRole> = Api::all(client.clone());
    assert!(roles.get_opt(NAME).await.unwrap().is_none(), "what the chart made is gone");
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    assert!(crds.get_opt(&crd().name_any()).await.unwrap().is_some(), "and the records' CRD is not");
    drop(world);
    helm_installs_a_crd_that_is_missing(cluster, &client).await;
}

async fn helm_installs_a_crd_that_is_missing(cluster: &RealCluster, client: &Client) {
    let (crds, name): (Api<CustomResourceDefinition>, _) = (Api::all(client.clone()), crd().name_any());
    crds.delete(&name, &DeleteParams::default()).await.unwrap();
    until("the CRD is gone", async || crds.get_opt(&name).await.unwrap().is_none()).await;
    helm(cluster, "install", &[]);
    assert_eq!(crd_revision(client).await, CRD_REVISION);
    helm(cluster, "uninstall", &[]);
}

/// Under the account of the service, while nothing is held that the API server could ask about: here it cannot reach
/// the Service.
async fn the_keeper_comes_and_goes(client: &Client, kubeconfig: &str) {
    let parsed = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
    let account = Client::try_from(config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = KeeperAddress::Service { namespace: NAMESPACE.to_owned(), name: keeper::NAME.to_owned() };
    let settings = keeper::Settings::new(listener, place, NAMESPACE);
    let (keeper, _) =
        keeper::open(account, Clock::system(), Metrics::default(), settings, CancellationToken::new());
    keeper.install().await.unwrap();
    let other = json!({ "webhooks": [] });
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    configurations.patch(keeper::NAME, &PatchParams::default(), &Patch::Merge(&other)).await.unwrap();
    keeper.install().await.unwrap();
    let spoiled = json!({ "data": { "ca.crt": "" } });
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    secrets.patch(keeper::NAME, &PatchParams::default(), &Patch::Merge(&spoiled)).await.unwrap();
    assert_eq!(keeper.state().await.unwrap(), keeper::Installed::Outdated, "a new CA");
    keeper.install().await.unwrap();
    assert_eq!(keeper.state().await.unwrap(), keeper::Installed::Current);
    keeper.remove().await.unwrap();
    secrets.delete(keeper::NAME, &DeleteParams::default()).await.unwrap();
}

async fn start_a_world(
    cluster: &RealCluster,
    client: &Client,
) -> gcu_upgrade_manager::sandbox::world::Running {
    let mut gr = documented_gr();
    gr["spec"]["gcushareScheduler"]["notDeploy"] = json!(false);
    let mut world = World {
        nodes: 2,
        prefix: Some(PREFIX.to_owned()),
        gr: Some(gr),
        with_real_controllers: cluster.has_controllers(),
        ..World::default()
    };
    world.kubelet.pod_start = Duration::from_millis(100);
    world.kubelet.pod_stop = Duration::from_millis(100);
    world.operator.component_delay = Duration::from_millis(50);
    world.start(client.clone(), Clock::system()).await.unwrap()
}
