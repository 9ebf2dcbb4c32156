//! The event stream of an upgrade: whole, resumable, alive while nothing happens, and ended.

use std::time::Duration;

use gcu_upgrade_manager::record::Phase;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

use super::commands::{fleet, rolling, start, until_phase};
use super::*;

const EVENTS: &str = "/gum/v1/upgrades/enflame-gcu-resource-1/events";

#[derive(Clone, Debug, PartialEq)]
struct Told {
    kind: String,
    id: String,
    data: Value,
}

fn parse(text: &str) -> Vec<Told> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_default().to_owned()
    };
    let blocks = text.split("\n\n").filter(|b| b.contains("data: "));
    blocks
        .map(|b| Told {
            kind: field(b, "event"),
            id: field(b, "id"),
            data: serde_json::from_str(&field(b, "data")).unwrap(),
        })
        .collect()
}

async fn after(harness: &Harness, id: &str) -> Answer {
    let request = Request::builder().uri(EVENTS).header("last-event-id", id).body(Body::empty()).unwrap();
    harness.ask(request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_everything_once_and_ends_and_can_be_taken_up_at_any_event() {
    let harness = fleet(3).await;
    start(&harness, &json!({ "maxUnavailable": 2 })).await;
    let answer = harness.must("GET", EVENTS, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let all = parse(&answer.text);
    assert!(all.iter().all(|told| !told.id.ends_with('-')), "{all:#?}");
    let record = harness.record(1).await.unwrap();
    assert_eq!(record.phase(), Phase::Succeeded);
    let told = |events: &[Told], kind: &str| -> Vec<Value> {
        events.iter().filter(|e| e.kind == kind).map(|e| e.data.clone()).collect()
    };
    let timeline: Vec<Value> =
        record.status_or_default().timeline.iter().map(|e| serde_json::to_value(e).unwrap()).collect();
    assert_eq!(told(&all, "timeline"), timeline);
    let progress = told(&all, "progress");
    assert!(progress.windows(2).all(|two| two[0] != two[1]), "{progress:#?}");
    let counts: Vec<u64> = progress.iter().filter_map(|p| p["nodes"]["done"].as_u64()).collect();
    assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&0), Some(&3)), "{progress:#?}");
    let end =
        json!({ "phase": "Succeeded", "message": "gr enflame-gcu-resource is now at the target version" });
    assert_eq!((all.last().unwrap().kind.as_str(), &all.last().unwrap().data), ("end", &end));
    assert_eq!(told(&all, "end").len(), 1);

    for (place, event) in all.iter().enumerate() {
        let answer = after(&harness, &event.id).await;
        if event.kind == "end" {
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""), "a browser stays away");
            continue;
        }
        let rest = parse(&answer.text);
        assert_eq!(told(&rest, "timeline"), told(&all[place + 1..], "timeline"), "after {event:?}");
        assert!(told(&rest, "progress").len() <= 1, "after {event:?}: only how it stands now");
        assert_eq!(told(&rest, "end").len(), 1, "after {event:?}");
    }
    for nonsense in ["", "x", "1.2", "-", "a.b-c"] {
        assert_eq!(told(&parse(&after(&harness, nonsense).await.text), "timeline"), timeline, "{nonsense:?}");
    }
    // An entry that has been dropped from the timeline since: what is later is told.
    assert_eq!(told(&parse(&after(&harness, "1.0-00000000").await.text), "timeline"), timeline);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_shows_that_it_lives_and_hears_what_comes() {
    let mut harness = fleet(2).await;
    start(&harness, &json!({ "canary": 1 })).await;
    until_phase(&mut harness, 1, Phase::Paused).await;
    let request = Request::builder().uri(EVENTS).body(Body::empty()).unwrap();
    let mut body = harness.router().oneshot(request).await.unwrap().into_body();
    let mut heard = String::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if let Ok(Some(Ok(frame))) = timeout(Duration::from_secs(5), body.frame()).await {
            heard.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
    }
    let beats = heard.lines().filter(|l| l.starts_with(": ")).count();
    assert!((3..=4).contains(&beats), "{beats} heartbeats a minute: {heard}");
    let before = parse(&heard);
    assert_eq!(before.last().unwrap().data["phase"], "Paused", "{before:#?}");
    harness.must("POST", &format!("{GR}/promote"), "").await;
    let rest = timeout(Duration::from_secs(3600), body.collect()).await.expect("it ends").unwrap();
    let rest = parse(&String::from_utf8_lossy(&rest.to_bytes()));
    assert_eq!(rest.last().unwrap().kind, "end");
    let all: Vec<Value> =
        before.iter().chain(&rest).filter(|e| e.kind == "timeline").map(|e| e.data.clone()).collect();
    let timeline = harness.record(1).await.unwrap().status_or_default().timeline;
    assert_eq!(Value::from(all), serde_json::to_value(timeline).unwrap());
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_in_number_and_free_their_place_when_they_go() {
    let mut harness = fleet(1).await;
    start(&harness, &json!({ "canary": 1, "manual": true })).await;
    assert_eq!(harness.until_final(1).await, Phase::Succeeded, "one node is all there is");
    let mut again: Value = serde_json::from_str(&rolling(&json!({}))).unwrap();
    again["force"] = json!(true);
    assert_eq!(harness.must("PUT", GR, &again.to_string()).await.status, 200);
    until_phase(&mut harness, 2, Phase::Running).await;
    let uri = EVENTS.replace("-1/", "-2/");
    let open = || harness.router().oneshot(Request::builder().uri(&uri).body(Body::empty()).unwrap());
    let mut streams = Vec::new();
    for _ in 0..100 {
        let response = open().await.unwrap();
        assert_eq!(response.status(), 200);
        streams.push(response);
    }
    let refused = harness.must("GET", &uri, "").await;
    assert_eq!((refused.status.as_u16(), &refused.headers["retry-after"]), (503, &"10".parse().unwrap()));
    assert_envelope(&refused, "Events", false);
    drop(streams);
    let ended = harness.must("GET", &uri, "").await;
    assert_eq!(ended.status, 200, "{}", ended.text);
    let missing = harness.must("GET", "/gum/v1/upgrades/absent-1/events", "").await;
    assert_eq!(missing.status, 404);
    assert_envelope(&missing, "Events", false);
    let unknown = harness.must("GET", &format!("{EVENTS}?since=1"), "").await;
    assert_eq!((unknown.status.as_u16(), unknown.error().contains("since: no such query")), (400, true));
}
