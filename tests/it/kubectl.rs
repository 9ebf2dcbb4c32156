//! kubectl against the sandbox served on a socket, and the same against a real control plane when there is
//! one. Skipped where there is no kubectl.

use std::{process::Output, time::Duration};

use gcu_upgrade_manager::{clock::Clock, sandbox::apiserver::ApiServer};
use tokio::{io::AsyncWriteExt, net::TcpListener, process::Command};

struct Kubectl {
    /// Which server to talk to, and as whom.
    server: Vec<String>,
}

impl Kubectl {
    async fn run(&self, arguments: &str, stdin: &str) -> Output {
        let mut child = Command::new("kubectl")
            .args(&self.server)
            .args(arguments.split_whitespace())
            .env("KUBECACHEDIR", std::env::temp_dir().join(format!("kubectl-{}", std::process::id())))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
        child.wait_with_output().await.unwrap()
    }

    /// Runs a command that must succeed; answers what it prints, spaces squeezed.
    async fn ok(&self, arguments: &str, stdin: &str) -> String {
        let output = self.run(arguments, stdin).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "kubectl {arguments}: {}", text(&output.stderr));
        text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

async fn is_installed() -> bool {
    Command::new("kubectl").args(["version", "--client"]).output().await.is_ok()
}

async fn sandbox() -> Option<Kubectl> {
    if !is_installed().await {
        return None;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = ApiServer::new(Clock::system());
    tokio::spawn(axum::serve(listener, server.router()).into_future());
    Some(Kubectl { server: vec!["--kubeconfig=/dev/null".to_owned(), format!("--server={url}")] })
}

async fn real() -> Option<Kubectl> {
    let cluster = crate::kube::real().await?;
    let server = vec![
        format!("--kubeconfig={}", cluster.kubeconfig().display()),
        format!("--server={}", cluster.url()),
        format!("--token={}", crate::kube::TOKEN),
    ];
    is_installed().await.then_some(Kubectl { server })
}

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets, shortNames: [wi]}
  scope: Cluster
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"#;

const WIDGET: &str = "
apiVersion: example.com/v1
kind: Widget
metadata: {name: one}
spec: {size: 3}
";

/// A record with a field that there is not.
const MISTYPED: &str = "
apiVersion: gum.enflame.com/v1
kind: GcuUpgrade
metadata: {name: x-1}
spec: {gr: x, operation: Upgrade, onFailrue: Hold, target: {manifest: {kind: GcuResource}}}
";

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p1, labels: {app: x}}
spec: {nodeName: n1, containers: [{name: c, image: 'i:1'}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_with_nodes_and_pods_of_the_sandbox() {
    if let Some(kubectl) = sandbox().await {
        nodes_and_pods(&kubectl).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_with_nodes_and_pods_of_a_real_cluster() {
    if let Some(kubectl) = real().await {
        nodes_and_pods(&kubectl).await;
    }
}

async fn nodes_and_pods(kubectl: &Kubectl) {
    kubectl.ok("create -f -", NODE).await;
    kubectl.ok("create -f -", POD).await;
    assert_eq!(kubectl.ok("cordon n1", "").await, "node/n1 cordoned");
    let nodes = kubectl.ok("get nodes n1 --no-headers", "").await;
    assert!(nodes.starts_with("n1 Unknown,SchedulingDisabled <none>"), "{nodes}");
    assert_eq!(kubectl.ok("uncordon n1", "").await, "node/n1 uncordoned");
    kubectl.ok("annotate node n1 example.com/a=b", "").await;
    kubectl.ok("label node n1 pool=x", "").await;
    kubectl.ok("taint node n1 key=value:NoSchedule", "").await;
    let pods = kubectl.ok("get pods -o wide --no-headers -l app=x", "").await;
    assert!(pods.starts_with("p1 0/1 Pending 0"), "{pods}");
    let described = kubectl.ok("describe node n1", "").await;
    assert!(described.contains("p1") && described.contains("example.com/a: b"), "{described}");
    assert!(kubectl.ok("describe pod p1", "").await.contains("Image: i:1"));
    kubectl.ok("wait --for=jsonpath={.status.phase}=Pending pod/p1 --timeout=5s", "").await;
    kubectl.ok("delete pod p1 --grace-period=0 --force", "").await;
    let gone = kubectl.run("get pod p1", "").await;
    assert_eq!(
        String::from_utf8_lossy(&gone.stderr),
        "Error from server (NotFound): pods \"p1\" not found\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_with_custom_resources_of_the_sandbox() {
    if let Some(kubectl) = sandbox().await {
        custom_resources(&kubectl).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_with_custom_resources_of_a_real_cluster() {
    if let Some(kubectl) = real().await {
        custom_resources(&kubectl).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_checks_and_compares_records_in_the_sandbox() {
    let Some(kubectl) = sandbox().await else { return };
    let crd = serde_json::to_string(&gcu_upgrade_manager::record::crd()).unwrap();
    assert_eq!(
        kubectl.ok("apply -f -", &crd).await,
        "customresourcedefinition.apiextensions.k8s.io/gcuupgrades.gum.enflame.com created"
    );
    // kubectl remembers what the server had before, until it is asked for all.
    kubectl.ok("api-resources", "").await;
    let explained = kubectl.ok("explain gu", "").await;
    assert!(explained.contains("DESCRIPTION: GcuUpgrade is one upgrade of the GCU stack"), "{explained}");
    let explained = kubectl.ok("explain gu.status.waitingOn", "").await;
    assert!(explained.contains("message <string>"), "{explained}");
    assert!(explained.contains("in a sentence that names the objects concerned"), "{explained}");
    let refused = kubectl.run("create -f -", MISTYPED).await;
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains(r#"unknown field "onFailrue""#), "{why}");
    let record = MISTYPED.replace("onFailrue", "onFailure");
    let diff = kubectl.run("diff -f -", &record).await;
    let shown = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    assert!(shown.contains("+  onFailure: Hold") && shown.contains("+  name: x-1"), "{shown}");
    assert_eq!(kubectl.ok("create -f -", &record).await, "gcuupgrade.gum.enflame.com/x-1 created");
    kubectl.ok("apply -f -", NODE).await;
    let same = kubectl.run("diff -f -", NODE).await;
    assert_eq!((same.status.code(), same.stdout.len()), (Some(0), 0), "{same:?}");
}

async fn custom_resources(kubectl: &Kubectl) {
    kubectl.ok("apply -f -", DEFINITION).await;
    kubectl.ok("wait --for=condition=Established crd/widgets.example.com --timeout=5s", "").await;
    // A real server serves a new kind a moment after it says so.
    for _ in 0..50 {
        if kubectl.run("get widgets", "").await.status.success() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(kubectl.ok("apply -f -", WIDGET).await, "widget.example.com/one created");
    assert_eq!(kubectl.ok("apply -f -", WIDGET).await, "widget.example.com/one unchanged");
    let changed = WIDGET.replace("size: 3", "size: 4");
    assert_eq!(kubectl.ok("apply -f -", &changed).await, "widget.example.com/one configured");
    assert_eq!(kubectl.ok("get wi", "").await, "NAME SIZE one 4");
    kubectl.ok("patch wi one --type=merge -p {\"spec\":{\"size\":5}}", "").await;
    kubectl.ok("apply --server-side --force-conflicts -f -", WIDGET).await;
    assert_eq!(kubectl.ok("get wi one -o jsonpath={.spec.size}", "").await, "3");
    assert!(kubectl.ok("describe wi one", "").await.contains("Size: 3"));
    let watched = kubectl.run("get wi -w --no-headers --request-timeout=2s", "").await;
    assert!(String::from_utf8_lossy(&watched.stdout).starts_with("one"), "{watched:?}");
    assert!(
        kubectl.ok("api-resources --no-headers", "").await.contains("widgets wi example.com/v1 false Widget")
    );
    kubectl.ok("delete wi one", "").await;
    kubectl.ok("delete crd widgets.example.com --timeout=10s", "").await;
    assert!(!kubectl.run("get widgets", "").await.status.success());
}
