//! How much may be asked, by one and by all, and for how long.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::ServiceExt;

use super::*;
use crate::faults::{Fault, Rule};

/// A request as from this address.
async fn from(harness: &Harness, address: &str, path: &str) -> Answer {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    let peer: SocketAddr = address.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    harness.ask(request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_address_that_asks_too_often_is_429_and_others_and_probes_are_served() {
    let harness = harness().await;
    let mut refused = None;
    for number in 0..500 {
        let answer = from(&harness, "10.0.0.1:1000", "/gum/v1/blueprints").await;
        if answer.status == 429 {
            refused = Some((number, answer));
            break;
        }
    }
    let (number, answer) = refused.expect("500 requests in a moment are served");
    assert!((200..300).contains(&number), "refused from the {number}th on");
    assert_envelope(&answer, "List", false);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.error().contains("too many requests from this address: 100 a second"), "{}", answer.text);
    assert_eq!(from(&harness, "10.0.0.1:1001", "/readyz").await.status, 200, "probes are always answered");
    assert_eq!(from(&harness, "10.0.0.2:1000", "/gum/v1/blueprints").await.status, 200, "others are served");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(from(&harness, "10.0.0.1:1000", "/gum/v1/blueprints").await.status, 200, "and it is again");
}

#[tokio::test(start_paused = true)]
async fn the_hundred_and_first_wait_is_503_with_retry_after() {
    let harness = harness().await;
    harness.world.change_operator(|o| o.finalizer_stuck = true);
    let mut waits = JoinSet::new();
    for _ in 0..100 {
        let request = Request::delete(GR).body(Body::from(r#"{"policy": "foreground"}"#)).unwrap();
        waits.spawn(harness.router().oneshot(request));
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let answer = harness.must("DELETE", GR, r#"{"policy": "foreground"}"#).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(answer.headers["retry-after"], "10");
    assert!(answer.error().contains("100 requests are waiting for the end of upgrades"), "{}", answer.text);
    assert_eq!(harness.must("GET", GR, "").await.status, 200, "who does not wait is served");
}

#[tokio::test(start_paused = true)]
async fn beyond_256_requests_at_once_one_more_is_503_and_probes_are_answered() {
    let harness = harness().await;
    harness.faults.add(Rule {
        on: "GET /apis/topsops.enflame.com".to_owned(),
        skip: 0,
        times: usize::MAX,
        fault: Fault::Hang,
    });
    let mut requests = JoinSet::new();
    let driver = format!("{GR}/resource/driver");
    for _ in 0..256 {
        requests.spawn(harness.router().oneshot(Request::get(&driver).body(Body::empty()).unwrap()));
    }
    sleep(Duration::from_secs(1)).await;
    let answer = harness.must("GET", &driver, "").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.error().contains("256 requests are being worked on"), "{}", answer.text);
    assert_eq!(harness.must("GET", "/readyz", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_slow_api_server_keeps_is_504_after_90_seconds() {
    let harness = harness().await;
    for method in ["GET", "POST", "PUT"] {
        harness.faults.add(Rule {
            on: format!("{method} /"),
            skip: 0,
            times: usize::MAX,
            fault: Fault::Delay("28s".to_owned()),
        });
    }
    let begun = tokio::time::Instant::now();
    let answer = harness.must("PUT", GR, PUT_BODY).await;
    assert_eq!(answer.status, 504, "{}", answer.text);
    assert_eq!(begun.elapsed().as_secs(), 90);
    assert!(answer.error().contains("look before asking again"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn a_url_that_is_too_long_is_414() {
    let harness = harness().await;
    let answer = harness.must("GET", &format!("/gum/v1/gr/{}", "a".repeat(9000)), "").await;
    assert_eq!(answer.status, 414);
    assert_envelope(&answer, "Get", false);
}

#[tokio::test(start_paused = true)]
async fn the_request_id_is_the_callers_where_it_is_one() {
    let harness = harness().await;
    for (given, kept) in [
        (Some("ci-job_17.3"), true),
        (Some("with space"), false),
        (Some("a\u{1b}[31m"), false),
        (Some(""), false),
        (None, false),
    ] {
        let mut request = Request::get("/livez");
        if let Some(given) = given {
            request = request.header("x-request-id", given.as_bytes());
        }
        let Ok(request) = request.body(Body::empty()) else { continue };
        let answer = harness.ask(request).await.unwrap();
        let id = answer.headers["x-request-id"].to_str().unwrap();
        match kept {
            true => assert_eq!(Some(id), given),
            false => assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{given:?}: {id}"),
        }
    }
}
