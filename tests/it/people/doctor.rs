//! `doctor` says what it knows as soon as it knows it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::record::crd;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::sandbox::world::World;
use kube::Api;
use kube::api::PostParams;
use tempfile::TempDir;
use tokio::sync::watch;

use super::command;
use super::refused::{kubeconfig, serve};

/// Nothing that is expected takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What does not answer before it is told to.
type IsHeld = fn(&str) -> bool;

/// An API server with a stack, which holds some calls back until `true` is sent.
async fn holding(is_held: IsHeld) -> (String, watch::Sender<bool>) {
    let server = ApiServer::new(Clock::system());
    let world = World::default().start(server.client(), Clock::system()).await.unwrap();
    world.settled(Duration::from_secs(60)).await.unwrap();
    Api::all(server.client()).create(&PostParams::default(), &crd()).await.unwrap();
    let (answers, held) = watch::channel(false);
    let hold = middleware::from_fn(move |request: Request, next: Next| {
        let mut held = held.clone();
        async move {
            if is_held(request.uri().path()) {
                held.wait_for(|answers| *answers).await.unwrap();
            }
            next.run(request).await
        }
    });
    let router = Router::new().fallback_service(server.router()).layer(hold);
    (serve(router).await, answers)
}

/// The command, and each line as it is printed.
fn doctor(config: &str) -> (Child, Receiver<String>) {
    let mut child =
        command().args(["doctor", "--kubeconfig", config]).stdout(Stdio::piped()).spawn().unwrap();
    let stdout: ChildStdout = child.stdout.take().unwrap();
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let _ = send.send(line.unwrap());
        }
    });
    (child, lines)
}

/// The next line that is about something: what mends it stands below.
fn next(lines: &Receiver<String>) -> String {
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap();
        if !line.starts_with(' ') {
            return line;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_first_line_is_there_before_anything_else_has_answered() {
    let dir = TempDir::new().unwrap();
    let (url, answers) = holding(|path| path != "/version").await;
    let config = kubeconfig(dir.path(), &url, None).display().to_string();
    let (mut child, lines) = doctor(&config);
    let first = tokio::task::spawn_blocking(move || (next(&lines), lines)).await.unwrap();
    let (first, lines) = first;
    assert!(first.starts_with("✔ cluster"), "{first}");
    answers.send(true).unwrap();
    let rest: Vec<String> = tokio::task::spawn_blocking(move || lines.iter().collect()).await.unwrap();
    assert!(rest.iter().any(|line| line.starts_with("✔ records")), "{rest:?}");
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_slowly_holds_up_only_what_stands_below_it() {
    let dir = TempDir::new().unwrap();
    // The Lease is looked up for the fourth line; the last of all is about records.
    let (url, answers) = holding(|path| path.contains("/leases/")).await;
    let config = kubeconfig(dir.path(), &url, None).display().to_string();
    let (mut child, lines) = doctor(&config);
    let (before, lines) =
        tokio::task::spawn_blocking(move || (std::array::from_fn::<String, 3, _>(|_| next(&lines)), lines))
            .await
            .unwrap();
    for (line, about) in before.iter().zip(["✔ cluster", "✔ CRD", "✔ operator"]) {
        assert!(line.starts_with(about), "{before:?}");
    }
    answers.send(true).unwrap();
    let rest: Vec<String> = tokio::task::spawn_blocking(move || lines.iter().collect()).await.unwrap();
    let order = ["service", "acts", "rights", "blueprints", "clock", "records"];
    let about = rest.iter().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(' ').nth(1));
    let about: Vec<&str> = about.take(order.len()).collect();
    assert_eq!(about, order, "{rest:?}");
    child.wait().unwrap();
}
