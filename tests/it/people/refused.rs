//! What stands in the way is said in a sentence that says what to do, with the code for it, and nothing is changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::record::{GcuUpgrade, crd};
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::world::World;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{ACCEPT, Said, command};

/// Serves something on an address of its own.
pub(super) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

/// A kubeconfig for an API server, with a token where one is given.
pub(super) fn kubeconfig(dir: &Path, url: &str, token: Option<&str>) -> PathBuf {
    let path = dir.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": url, "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "c", "user": token.map_or(json!({}), |token| json!({ "token": token })) }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c" } }],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

/// Runs the command without holding up what serves it.
pub(super) async fn run(args: &[&str]) -> Said {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    tokio::task::spawn_blocking(move || Said::from(command().args(args).output().unwrap())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_crd_is_told_from_one_without_upgrades() {
    let dir = TempDir::new().unwrap();
    let server = ApiServer::new(Clock::system());
    let config = kubeconfig(dir.path(), &serve(server.router()).await, None);
    let config = config.display().to_string();
    let said = run(&["get", "--kubeconfig", &config]).await.ends(3);
    assert!(said.err.contains("gcu-upgrade-manager is not installed there"), "{}", said.err);
    assert!(said.err.contains("kubectl gcu-upgrade doctor"), "{}", said.err);
    let doctor = run(&["doctor", "--kubeconfig", &config]).await.ends(1);
    for missing in [
        "✖ CRD",
        "✖ operator",
        "✖ service",
        "✖ acts",
        "mend: install the service",
        "mend: install gcu-operator",
    ] {
        assert!(doctor.out.contains(missing), "{missing}: {}", doctor.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_acts_a_plan_is_made_all_the_same_and_an_upgrade_is_recorded_and_said_to_wait() {
    let dir = TempDir::new().unwrap();
    let (clock, server) = (Clock::system(), ApiServer::new(Clock::system()));
    let config = kubeconfig(dir.path(), &serve(server.router()).await, None).display().to_string();
    let world = World::default().start(server.client(), clock).await.unwrap();
    world.settled(Duration::from_secs(60)).await.unwrap();
    Api::all(server.client()).create(&PostParams::default(), &crd()).await.unwrap();
    let set = ["--set", "driver.version=9.9", "--kubeconfig", &config];
    let plan = run(&[&["plan"], &set[..]].concat()).await.ends(0);
    assert!(plan.out.contains("~ driver   version latest → 9.9   evicts"), "{}", plan.out);
    let said = run(&[&["upgrade", "-y", ACCEPT], &set[..]].concat()).await.ends(4);
    assert!(
        said.err.contains("nobody has taken it up within 10s: no replica has ever held the Lease"),
        "{}",
        said.err
    );
    let records: Api<GcuUpgrade> = Api::all(server.client());
    assert_eq!(records.list(&ListParams::default()).await.unwrap().items.len(), 1, "it is recorded");
    let status = run(&["status", "--kubeconfig", &config]).await.ends(0);
    assert!(
        status.out.contains("· Pending") && status.out.contains("no replica has ever held the Lease"),
        "{}",
        status.out
    );
    let list = run(&["get", "--kubeconfig", &config]).await.ends(0);
    assert!(list.err.contains("warning: no replica has ever held the Lease"), "{}", list.err);
    run(&["wait", "--timeout", "1s", "--kubeconfig", &config]).await.ends(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_named_with_its_address() {
    let dir = TempDir::new().unwrap();
    let config = kubeconfig(dir.path(), "http://127.0.0.1:9", None).display().to_string();
    let said = run(&["get", "--kubeconfig", &config]).await.ends(7);
    assert!(said.err.contains("127.0.0.1:9 cannot be reached: connection refused"), "{}", said.err);
    let doctor = run(&["doctor", "--kubeconfig", &config]).await.ends(1);
    assert!(
        doctor.out.contains("✖ cluster") && doctor.out.contains("mend: check the kubeconfig"),
        "{}",
        doctor.out
    );
    let said = run(&["get", "--server", "http://127.0.0.1:9"]).await.ends(7);
    assert!(
        said.err.contains("the service at http://127.0.0.1:9 cannot be reached: connection refused"),
        "{}",
        said.err
    );
    let other = serve(Router::new().fallback(get(async || "a web page"))).await;
    let said = run(&["get", "--server", &other]).await.ends(7);
    assert!(said.err.contains("is not gcu-upgrade-manager: check the URL"), "{}", said.err);
    run(&["get", "--server", "10.0.0.7:32765"]).await.ends(2);
    let said = run(&["get", "--kubeconfig", "/nonexistent"]).await.ends(2);
    assert!(said.err.contains("no cluster is known") && said.err.contains("--server URL"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_have_expired_are_told_from_rights_that_are_missing() {
    let dir = TempDir::new().unwrap();
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401,
        "reason": "Unauthorized", "message": "Unauthorized" });
    let answer = (StatusCode::UNAUTHORIZED, [("content-type", "application/json")], status.to_string());
    let url = serve(Router::new().fallback(async move || answer)).await;
    let config = kubeconfig(dir.path(), &url, Some("expired")).display().to_string();
    for verb in [&["get"][..], &["plan", "--set", "driver.version=1"], &["pause", "--gr", "x"]] {
        let said = run(&[verb, &["--kubeconfig", &config]].concat()).await.ends(6);
        assert!(said.err.contains("does not accept your credentials (401 Unauthorized)"), "{}", said.err);
        assert!(said.err.contains("Log in again"), "{}", said.err);
    }
    let envelope = json!({ "operation": "List", "result": "Failed", "error": "a bearer token is needed" });
    let answer = (StatusCode::UNAUTHORIZED, envelope.to_string());
    let url = serve(Router::new().fallback(async move || answer)).await;
    let said = run(&["get", "--server", &url]).await.ends(6);
    assert!(said.err.contains("give a token of the cluster with --token or GUM_TOKEN"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_another_version_is_named_with_both_versions() {
    let version =
        json!({ "operation": "Version", "result": "Success", "content": { "version": "9.9.9" } }).to_string();
    let refusal =
        json!({ "operation": "Get", "result": "Failed", "error": "no such path; the service is at /gum/v9" });
    let refusal = (StatusCode::NOT_FOUND, refusal.to_string());
    let router = Router::new().route("/version", get(async move || version)).fallback(async move || refusal);
    let url = serve(router).await;
    let said = run(&["get", "--server", &url]).await.ends(1);
    assert!(said.err.contains("is version 9.9.9 and this command is"), "{}", said.err);
    let said = run(&["version", "--server", &url]).await.ends(0);
    assert!(said.err.contains("warning: the service is version 9.9.9"), "{}", said.err);
    let odd = json!({ "operation": "List", "result": "Success", "content": { "items": [] } }).to_string();
    let url = serve(Router::new().fallback(async move || odd)).await;
    let said = run(&["get", "--server", &url]).await.ends(1);
    assert!(said.err.contains("is the service of another version?"), "{}", said.err);
}
