//! Several replicas: all answer, one acts. How long a takeover takes is measured in virtual time; that two which act
//! at once do no harm is for the oracle to see, which watches all along.

use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::app::{Service, ServiceDeps};
use gcu_upgrade_manager::lease::Settings;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase, Step};
use gcu_upgrade_manager::sandbox::world::World;
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use crate::faults::{Fault, Faults, Rule};
use crate::harness::{Answer, Backend, Harness};

const NODES: usize = 6;
const TARGET: &str = include_str!("../../blueprints/gr-full.yaml");

/// A replica, and what is between it and the API server.
struct Replica {
    service: Service,
    faults: Faults,
}

impl Replica {
    async fn start(harness: &Harness, name: &str) -> Self {
        let faults = Faults::new(Vec::new());
        let service = harness.service_with(&faults, |parts| held_by(parts, name)).await;
        timeout(Duration::from_secs(60), service.ready()).await.unwrap();
        Self { service, faults }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        Answer::of(self.service.router(), request).await
    }

    async fn leads(&self) -> bool {
        self.ask("GET", "/metrics", "").await.text.contains("\ngum_leader 1\n")
    }

    fn wrote_anything(&self) -> bool {
        self.faults.calls().iter().any(|c| c.is_write() && !c.path.contains("/leases"))
    }
}

fn held_by(parts: &mut ServiceDeps, name: &str) {
    let identity = name.to_owned();
    parts.lease = Some(Settings { namespace: "kube-system".to_owned(), name: "gum".to_owned(), identity });
}

async fn harness() -> Harness {
    let world = World { nodes: NODES, ..World::default() };
    let harness =
        Harness::set_without_service(Backend::Sandbox, world, Faults::new(Vec::new())).await.unwrap();
    harness.write("full.yaml", TARGET);
    harness
}

/// The first holds the Lease.
async fn two_replicas(harness: &Harness) -> [Replica; 2] {
    [Replica::start(harness, "first").await, Replica::start(harness, "second").await]
}

fn leases(harness: &Harness) -> Api<Lease> {
    Api::namespaced(harness.client.clone(), "kube-system")
}

async fn holder(harness: &Harness) -> String {
    let lease = leases(harness).get_opt("gum").await.unwrap();
    lease.and_then(|l| l.spec).and_then(|s| s.holder_identity).unwrap_or_default()
}

/// How long until the Lease is held by the named one.
async fn until_held_by(harness: &Harness, name: &str) -> Duration {
    let begun = Instant::now();
    while holder(harness).await != name {
        assert!(begun.elapsed() < Duration::from_secs(120), "{name} does not take over");
        sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

fn gr_path(harness: &Harness) -> String {
    format!("/gum/v1/gr/{}", harness.gr())
}

/// A rolling upgrade that takes some minutes, asked of `replica`, until some of its nodes are done.
async fn in_the_middle_of_a_rollout(harness: &mut Harness, replica: &Replica) {
    let said = replica.ask("PUT", &gr_path(harness), &rollout()).await;
    assert_eq!(said.status, 200, "{}", said.text);
    until_nodes_are_done(harness).await;
}

fn rollout() -> String {
    json!({ "file": "full.yaml", "components": ["driver"], "strategy": "RollingUpdate" }).to_string()
}

async fn until_nodes_are_done(harness: &mut Harness) {
    let done = |r: Option<&GcuUpgrade>| {
        r.and_then(|r| r.status_or_default().rolling).is_some_and(|r| r.nodes.done >= 2)
    };
    harness.until("the first nodes", 1, Duration::from_secs(600), done).await;
}

async fn ends_well(harness: &mut Harness) {
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    sleep(Duration::from_secs(600)).await;
    harness.oracle.check();
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_both_answer_and_one_acts() {
    let mut harness = harness().await;
    let [first, second] = two_replicas(&harness).await;
    assert!(first.leads().await && !second.leads().await);
    // Asked of the one that does not act: the other finds the record.
    let said = second.ask("PUT", &gr_path(&harness), r#"{"file": "full.yaml"}"#).await;
    assert_eq!(said.status, 200, "{}", said.text);
    let asked = second.faults.calls().iter().filter(|c| c.is_write() && !c.path.contains("lease")).count();
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let acted = second.faults.calls().iter().filter(|c| c.is_write() && !c.path.contains("lease")).count();
    assert_eq!((asked, acted), (1, 1), "the one that stands by creates the record and no more");
    assert!(first.wrote_anything());
    let version = second.ask("GET", "/version", "").await.text;
    assert!(version.contains("\"replica\": \"first\""), "{version}");
    assert_eq!(second.ask("GET", &gr_path(&harness), "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_leader_killed_in_the_middle_of_a_rollout_is_succeeded_within_17_seconds() {
    let mut harness = harness().await;
    let [first, second] = two_replicas(&harness).await;
    in_the_middle_of_a_rollout(&mut harness, &second).await;
    drop(first);
    let took = until_held_by(&harness, "second").await;
    assert!(took <= Duration::from_secs(17), "took over after {took:?}");
    ends_well(&mut harness).await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_over_begins_with_the_records_as_they_are_then() {
    let mut harness = harness().await;
    let [first, second] = two_replicas(&harness).await;
    // Its watch of the records shows nothing more, and nobody notices for a while.
    second.faults.add(Rule {
        on: "WATCH gcuupgrades?".to_owned(),
        skip: 0,
        times: usize::MAX,
        fault: Fault::Silence("1s".to_owned()),
    });
    sleep(Duration::from_secs(400)).await;
    let said = first.ask("PUT", &gr_path(&harness), &rollout()).await;
    assert_eq!(said.status, 200, "{}", said.text);
    drop(first);
    until_held_by(&harness, "second").await;
    let taken_up = |r: Option<&GcuUpgrade>| r.is_some_and(|r| r.status_or_default().step != Step::Recorded);
    harness.until("the first step", 1, Duration::from_secs(10), taken_up).await;
    ends_well(&mut harness).await;
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_hands_over_within_3_seconds_and_says_so_to_whoever_waits() {
    let mut harness = harness().await;
    let [mut first, _second] = two_replicas(&harness).await;
    let router = first.service.router();
    let waits = {
        let path = format!("{}?wait=1h", gr_path(&harness));
        tokio::spawn(router.clone().oneshot(Request::put(path).body(Body::from(rollout())).unwrap()))
    };
    until_nodes_are_done(&mut harness).await;
    let record = harness.record_name(1);
    let stream = {
        let request = Request::get(format!("/gum/v1/upgrades/{record}/events"));
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    let begun = Instant::now();
    first.service.stop().await;
    let took = begun.elapsed() + until_held_by(&harness, "second").await;
    assert!(took <= Duration::from_secs(3), "handed over after {took:?}");
    let said = first.ask("GET", "/readyz", "").await;
    assert_eq!(said.status, 503);
    assert!(said.text.contains("not ready: stopping"), "{}", said.text);
    let told = stream.into_body().collect().await.unwrap().to_bytes();
    let told = String::from_utf8(told.to_vec()).unwrap();
    assert!(told.contains("event: closing\n"), "the stream is told: {told}");
    let waited = waits.await.unwrap().unwrap();
    assert_eq!(waited.status(), 503);
    assert_eq!(waited.headers()["retry-after"], "1");
    let written = first.faults.calls().len();
    ends_well(&mut harness).await;
    assert_eq!(first.faults.calls().iter().skip(written).filter(|c| c.is_write()).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_acting_before_anyone_else_may() {
    let mut harness = harness().await;
    let [first, second] = two_replicas(&harness).await;
    in_the_middle_of_a_rollout(&mut harness, &second).await;
    first.faults.cut_off();
    let begun = Instant::now();
    while first.leads().await {
        sleep(Duration::from_millis(20)).await;
    }
    let stopped = begun.elapsed();
    let taken = stopped + until_held_by(&harness, "second").await;
    assert!(stopped <= Duration::from_secs(14) && stopped < taken, "{stopped:?}, {taken:?}");
    assert!(taken <= Duration::from_secs(17), "{taken:?}");
    // It still answers requests, if only to say what is wrong.
    assert_eq!(first.ask("GET", "/readyz", "").await.status, 200);
    first.faults.heal();
    sleep(Duration::from_secs(60)).await;
    assert!(!first.leads().await && second.leads().await, "it stands by when it is back");
    ends_well(&mut harness).await;
}

/// Stopped (SIGSTOP) and continued: to itself no time has passed, and calls of before are still on their way.
#[tokio::test(start_paused = true)]
async fn calls_of_a_former_leader_that_land_late_do_no_harm() {
    let mut harness = harness().await;
    let [first, second] = two_replicas(&harness).await;
    for method in ["PATCH", "DELETE", "PUT", "POST"] {
        let late = crate::faults::Fault::Delay("70s".to_owned());
        first.faults.add(crate::faults::Rule {
            on: format!("{method} /"),
            // The DaemonSets are held, and the operator has been tried, by then.
            skip: match method {
                "PUT" => 30,
                "PATCH" => 10,
                _ => 6,
            },
            times: usize::MAX,
            fault: late,
        });
    }
    let said = second.ask("PUT", &gr_path(&harness), &rollout()).await;
    assert_eq!(said.status, 200, "{}", said.text);
    until_held_by(&harness, "second").await;
    ends_well(&mut harness).await;
    assert!(first.faults.happened() > 5, "calls landed late: {}", first.faults.happened());
}

async fn spoil(harness: &Harness, spec: Value) {
    let patch = json!({ "spec": spec });
    leases(harness).patch("gum", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_emptied_or_dated_far_ahead_stops_no_upgrade() {
    let mut harness = harness().await;
    let [first, second] = two_replicas(&harness).await;
    in_the_middle_of_a_rollout(&mut harness, &second).await;
    leases(&harness).delete("gum", &DeleteParams::default()).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    spoil(&harness, json!({ "holderIdentity": null, "renewTime": null, "leaseDurationSeconds": null })).await;
    sleep(Duration::from_secs(5)).await;
    let far = "2099-01-01T00:00:00.000000Z";
    spoil(
        &harness,
        json!({ "holderIdentity": "nobody", "renewTime": far, "leaseDurationSeconds": 2000000000 }),
    )
    .await;
    let begun = Instant::now();
    while !first.leads().await && !second.leads().await {
        sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() <= Duration::from_secs(17), "the times of others are believed");
    }
    assert!(!(first.leads().await && second.leads().await));
    ends_well(&mut harness).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_right_to_the_lease_nothing_acts_and_readyz_says_why() {
    let harness = harness().await;
    let faults = Faults::new(Vec::new());
    for method in ["GET", "POST", "PUT"] {
        faults.add(crate::faults::Rule {
            on: format!("{method} /apis/coordination.k8s.io"),
            skip: 0,
            times: usize::MAX,
            fault: crate::faults::Fault::Answer(403),
        });
    }
    let service = harness.service_with(&faults, |parts| held_by(parts, "only")).await;
    sleep(Duration::from_secs(30)).await;
    let only = Replica { service, faults };
    let said = only.ask("GET", "/readyz", "").await;
    assert_eq!(said.status, 503);
    let why = "leader not yet determined: made up by a fault: Forbidden";
    assert!(said.text.contains(why), "{}", said.text);
    only.faults.heal();
    timeout(Duration::from_secs(5), only.service.ready()).await.unwrap();
    assert!(only.leads().await);
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_one_that_is_gone_for_good_is_taken_when_it_has_run_out() {
    let harness = harness().await;
    let lease: Lease = serde_json::from_value(json!({
        "metadata": { "name": "gum" },
        "spec": { "holderIdentity": "gone", "leaseDurationSeconds": 1, "renewTime": "2020-01-01T00:00:00.000000Z" },
    }))
    .unwrap();
    leases(&harness).create(&PostParams::default(), &lease).await.unwrap();
    let begun = Instant::now();
    let only = Replica::start(&harness, "only").await;
    assert!(!only.leads().await, "it stands by first: how old the Lease is tells another machine's clock");
    until_held_by(&harness, "only").await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(15) && took <= Duration::from_secs(17), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_api_server_takes_the_lead_from_nobody() {
    let mut harness = harness().await;
    let [first, second] = two_replicas(&harness).await;
    for faults in [&first.faults, &second.faults] {
        for method in ["GET", "PUT"] {
            faults.add(crate::faults::Rule {
                on: format!("{method} /apis/coordination.k8s.io"),
                skip: 0,
                times: usize::MAX,
                fault: crate::faults::Fault::Delay("3500ms".to_owned()),
            });
        }
    }
    in_the_middle_of_a_rollout(&mut harness, &second).await;
    for _ in 0..60 {
        assert!(first.leads().await && !second.leads().await);
        sleep(Duration::from_secs(1)).await;
    }
    ends_well(&mut harness).await;
}
