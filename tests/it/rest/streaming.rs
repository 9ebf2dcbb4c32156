//! Watches that begin with what is there: where the API server offers that, where it does not, and where it does not
//! say that it does not.

use gcu_upgrade_manager::cluster::client_over;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::record::Phase;
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use gcu_upgrade_manager::store::Stores;
use http::Uri;
use kube::client::Body;
use tower::ServiceExt;

use super::commands::{fleet, newer, start};
use super::*;
use crate::faults::Call;

/// Reads of the pods on one node, and reads that begin with what is there.
fn of_a_node(call: &&Call) -> bool {
    call.method == "GET" && call.path.contains("spec.nodeName")
}

fn begins(call: &&Call) -> bool {
    call.path.contains("sendInitialEvents=true")
}

#[tokio::test(start_paused = true)]
async fn the_pods_on_a_node_in_work_are_told_in_one_call_as_they_are_now() {
    let mut harness = fleet(3).await;
    start(&harness, &json!({ "maxUnavailable": 3 })).await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let calls = harness.faults.calls();
    let nodes: Vec<&Call> = calls.iter().filter(of_a_node).collect();
    assert_eq!(nodes.len(), 3, "{nodes:#?}");
    for call in calls.iter().filter(begins).chain(nodes) {
        let query: Vec<&str> = call.path.split(['?', '&']).collect();
        assert!(query.contains(&"resourceVersionMatch=NotOlderThan"), "{}", call.path);
        let names_a_version = query.iter().any(|pair| pair.starts_with("resourceVersion="));
        assert!(!names_a_version, "the cache of an API server may be older than the cordon: {}", call.path);
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_api_server_is_asked_for_it_once_and_listed_from_then_on() {
    let world = World { nodes: 3, ..World::default() };
    let faults = Faults::new(Vec::new());
    let mut harness = Harness::set_on(true, Backend::Sandbox, world, faults).await.unwrap();
    harness.write("newer.json", &newer().to_string());
    harness.start_service().await;
    harness.ready().await;
    start(&harness, &json!({ "maxUnavailable": 3 })).await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let calls = harness.faults.calls();
    assert_eq!(calls.iter().filter(begins).count(), 1);
    assert_eq!(calls.iter().filter(of_a_node).count(), 3 * 2, "a list and a watch of each");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_takes_no_notice_of_it_is_listed_after_a_while() {
    let clock = gcu_upgrade_manager::clock::Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
    let server = ApiServer::new(clock);
    World { nodes: 3, ..World::default() }.start(server.client(), clock).await.unwrap();
    let deaf = server.router().map_request(|mut request: Request<Body>| {
        let text = request.uri().to_string();
        let plain = text.replace("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "");
        *request.uri_mut() = plain.parse::<Uri>().unwrap();
        request
    });
    let stores = Stores::new(client_over(deaf, Metrics::default()));
    let nodes = stores.nodes();
    sleep(Duration::from_secs(60)).await;
    assert!(!nodes.is_ready(), "what was told may have been everything, or not");
    sleep(Duration::from_secs(60)).await;
    assert_eq!((nodes.is_ready(), nodes.count()), (true, 3));
    // The next is listed at once.
    let sets = stores.sets();
    sleep(Duration::from_secs(1)).await;
    assert!(sets.is_ready());
}
