//! What is safe to repeat: requests find the jobs that they began, what is there already is not done again, and waits
//! are taken up again.

use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::record::Phase;
use gcu_upgrade_manager::sandbox::actors::operator::OnChange;
use http::Request;
use tokio::time::{Instant, sleep};

use super::commands::{fleet, rolling, start, until_phase, versions};
use super::*;
use crate::faults::{Fault, Rule};

const HOUR: Duration = Duration::from_secs(3600);

async fn with_key(harness: &Harness, method: &str, path: &str, key: &str, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("idempotency-key", key);
    harness.ask(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
}

/// A blueprint whose image cannot be pulled.
fn broken(harness: &Harness) {
    harness.world.change_kubelet(|k| k.bad_images = vec!["gcu-runtime:broken".to_owned()]);
    harness.write("broken.json", &BLUEPRINT.replace("\"2.1.0\"", "\"broken\""));
}

const BROKEN: &str = r#"{"file": "broken.json", "onFailure": "Rollback"}"#;

#[track_caller]
fn assert_repeats(answer: &Answer, record: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let content = &answer.json()["content"];
    assert_eq!((&content["repeated"], &content["name"]), (&json!(true), &json!(record)), "{}", answer.text);
    assert_eq!(answer.headers["location"], format!("/gum/v1/upgrades/{record}"));
}

#[tokio::test(start_paused = true)]
async fn the_same_request_finds_its_job_and_waits_on_and_another_is_refused() {
    let mut harness = harness().await;
    let first = harness.must("PUT", GR, PUT_BODY).await;
    assert_eq!(
        (first.status.as_u16(), first.json()["content"].get("repeated")),
        (200, None),
        "{}",
        first.text
    );
    assert_repeats(&harness.must("PUT", GR, PUT_BODY).await, "enflame-gcu-resource-1");
    let other = harness.must("PUT", GR, r#"{"file": "gr.json", "reason": "another"}"#).await;
    assert_eq!(other.status, 409, "{}", other.text);
    assert!(other.error().contains("enflame-gcu-resource-1 is already upgrading"), "{}", other.text);
    // In other words, with the gr gone meanwhile: every default said, and the file under another name.
    sleep(Duration::from_secs(3)).await;
    harness.write("same.json", BLUEPRINT);
    let said = r#"{"strategy": "Recreate", "file": "same.json", "failureThreshold": "10%", "onFailure": "Hold", "deadlines": {"gone": "10m"}}"#;
    let waited = harness.must("PUT", &format!("{GR}?wait=1h"), said).await;
    assert_repeats(&waited, "enflame-gcu-resource-1");
    assert_eq!(waited.json()["content"]["phase"], "Succeeded");
    let ended = harness.must("PUT", GR, PUT_BODY).await;
    assert_repeats(&ended, "enflame-gcu-resource-1");
    assert_eq!(ended.json()["content"]["phase"], "Succeeded");
    assert!(harness.record(2).await.is_none());
    // What somebody has changed since is brought about anew.
    let deleted = harness.must("DELETE", GR, r#"{"policy": "foreground"}"#).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    create_gr(&harness, documented_gr()).await;
    harness.world.settled(Duration::from_secs(120)).await.unwrap();
    let anew = harness.must("PUT", &format!("{GR}?wait=1h"), PUT_BODY).await;
    assert_eq!(
        (anew.status.as_u16(), &anew.json()["content"]["name"]),
        (200, &json!("enflame-gcu-resource-2"))
    );
    assert_eq!(harness.until_final(2).await, Phase::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn of_two_equal_requests_at_the_same_moment_one_begins_a_job_and_both_have_it() {
    let mut harness = harness().await;
    let (one, two) = tokio::join!(harness.must("PUT", GR, PUT_BODY), harness.must("PUT", GR, PUT_BODY));
    for answer in [&one, &two] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["content"]["name"], "enflame-gcu-resource-1");
    }
    let repeated = [&one, &two].iter().filter(|a| a.json()["content"]["repeated"] == true).count();
    assert_eq!(repeated, 1, "{} {}", one.text, two.text);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    assert!(harness.record(2).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_came_to_no_good_end_is_422_and_a_repetition_begins_no_other() {
    let mut harness = harness().await;
    broken(&harness);
    let put = format!("{GR}?wait=1h");
    let first = harness.must("PUT", &put, BROKEN).await;
    assert_eq!(first.status, 422, "{}", first.text);
    assert_envelope(&first, "Upgrade", false);
    assert_eq!(first.headers["location"], RECORD);
    assert!(first.error().starts_with("enflame-gcu-resource-1 was rolled back: "), "{}", first.text);
    for path in [put.as_str(), GR] {
        let again = harness.must("PUT", path, BROKEN).await;
        assert_eq!(again.status, 422, "{}", again.text);
        assert!(again.error().contains("enflame-gcu-resource-1 was rolled back: "), "{}", again.text);
        assert!(again.error().contains("this request has begun it already"), "{}", again.text);
        assert_eq!(again.headers["location"], RECORD);
    }
    assert!(harness.record(2).await.is_none());
    let key = with_key(&harness, "PUT", GR, "mended", BROKEN).await;
    assert_eq!(
        (key.status.as_u16(), &key.json()["content"]["name"]),
        (200, &json!("enflame-gcu-resource-2"))
    );
    assert_eq!(harness.until_final(2).await, Phase::RolledBack);
    sleep(Duration::from_secs(601)).await;
    let later = harness.must("PUT", GR, BROKEN).await;
    assert_eq!(
        (later.status.as_u16(), &later.json()["content"]["name"]),
        (200, &json!("enflame-gcu-resource-3"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_finds_its_job_as_long_as_that_is_on_record_and_takes_no_other_body() {
    let mut harness = harness().await;
    assert_eq!(with_key(&harness, "PUT", GR, "run/7", PUT_BODY).await.status, 200);
    assert_repeats(&with_key(&harness, "PUT", GR, "\"run/7\"", PUT_BODY).await, "enflame-gcu-resource-1");
    assert_eq!(with_key(&harness, "PUT", GR, "run/8", PUT_BODY).await.status, 409, "a request of its own");
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let shown = harness.must("GET", RECORD, "").await.json()["content"]["idempotencyKey"].clone();
    assert_eq!(shown, "run/7");
    sleep(HOUR * 24).await;
    assert_repeats(&with_key(&harness, "PUT", GR, "run/7", PUT_BODY).await, "enflame-gcu-resource-1");
    let other = with_key(&harness, "PUT", GR, "run/7", r#"{"file": "gr.json", "force": true}"#).await;
    assert_eq!(other.status, 422, "{}", other.text);
    for words in
        ["Idempotency-Key \"run/7\" was sent with another request", "which began enflame-gcu-resource-1"]
    {
        assert!(other.error().contains(words), "{}", other.text);
    }
    for key in ["", "a b", "\"\"", "ключ", "a,b", &"x".repeat(129)] {
        let wrong = with_key(&harness, "PUT", GR, key, PUT_BODY).await;
        assert_eq!(wrong.status, 400, "{key:?}: {}", wrong.text);
        assert!(wrong.error().starts_with("Idempotency-Key: must be 1 to 128 letters"), "{}", wrong.text);
    }
    let twice = Request::put(GR).header("idempotency-key", "a").header("idempotency-key", "b");
    let twice = harness.ask(twice.body(Body::from(PUT_BODY)).unwrap()).await.unwrap();
    assert_eq!((twice.status.as_u16(), twice.error()), (400, "Idempotency-Key: given twice".to_owned()));
    // A rollback and a retry have keys too.
    let back = format!("{GR}/rollback");
    assert_eq!(with_key(&harness, "POST", &back, "back", "").await.status, 200);
    assert_eq!(harness.until_final(2).await, Phase::Succeeded);
    sleep(HOUR).await;
    assert_repeats(&with_key(&harness, "POST", &back, "back", "").await, "enflame-gcu-resource-2");
    assert!(harness.record(3).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_is_repeated_does_not_turn_itself_back() {
    let mut harness = harness().await;
    assert_eq!(harness.must("PUT", &format!("{GR}?wait=1h"), PUT_BODY).await.status, 200);
    let back = format!("{GR}/rollback");
    assert_eq!(harness.must("POST", &back, "").await.status, 200);
    assert_repeats(&harness.must("POST", &back, "").await, "enflame-gcu-resource-2");
    let waited = harness.must("POST", &format!("{back}?wait=1h"), "").await;
    assert_repeats(&waited, "enflame-gcu-resource-2");
    assert_repeats(&harness.must("POST", &back, "").await, "enflame-gcu-resource-2");
    assert_eq!(harness.until_final(2).await, Phase::Succeeded);
    assert!(harness.record(3).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_answer_was_lost_is_found_by_the_next_try_at_another_replica() {
    let mut harness = harness().await;
    let lost = Rule { on: "POST /gcuupgrades".to_owned(), skip: 0, times: 1, fault: Fault::LoseAnswer };
    harness.faults.add(lost);
    let first = with_key(&harness, "PUT", GR, "k", PUT_BODY).await;
    assert_eq!(first.status, 503, "{}", first.text);
    assert!(harness.record(1).await.is_some(), "the record was made");
    let other = harness.service_with(&Faults::new(Vec::new()), |_| {}).await;
    let request = Request::put(GR).header("idempotency-key", "k").body(Body::from(PUT_BODY)).unwrap();
    assert_repeats(&Answer::of(other.router(), request).await, "enflame-gcu-resource-1");
    harness.kill();
    harness.start_service().await;
    harness.ready().await;
    assert_repeats(&harness.must("PUT", GR, PUT_BODY).await, "enflame-gcu-resource-1");
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    assert!(harness.record(2).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_there_already_is_not_done_again_unless_it_is_forced() {
    let mut harness = harness().await;
    harness.write("there.json", &documented_gr().to_string());
    for body in
        [json!({ "file": "there.json" }), json!({ "file": "there.json", "strategy": "RollingUpdate" })]
    {
        let nothing = harness.must("PUT", &format!("{GR}?wait=1h"), &body.to_string()).await;
        assert_eq!(nothing.status, 200, "{}", nothing.text);
        let content = nothing.json()["content"].clone();
        assert_eq!((&content["changed"], content.get("name")), (&json!(false), None), "{content:#}");
        let message = content["message"].as_str().unwrap();
        assert!(message.starts_with("gr enflame-gcu-resource is at this version already"), "{content:#}");
        assert!(!nothing.headers.contains_key("location"));
        let dry = harness.must("PUT", &format!("{GR}?dryRun=true"), &body.to_string()).await;
        assert_eq!(dry.json()["content"]["changed"], false, "{}", dry.text);
    }
    assert!(harness.record(1).await.is_none());
    let dry = harness.must("PUT", &format!("{GR}?dryRun=true"), PUT_BODY).await;
    assert_eq!(dry.json()["content"]["changed"], true, "{}", dry.text);
    let forced =
        harness.must("PUT", &format!("{GR}?wait=1h"), r#"{"file": "there.json", "force": true}"#).await;
    assert_eq!(
        (forced.status.as_u16(), &forced.json()["content"]["name"]),
        (200, &json!("enflame-gcu-resource-1"))
    );
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let back = harness.must("POST", &format!("{GR}/rollback"), "").await;
    assert_eq!(back.status, 409, "{}", back.text);
    assert!(back.error().contains("no other version on record than the one that is there"), "{}", back.text);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_were_left_out_with_old_pods_are_something_to_do() {
    let mut harness = fleet(2).await;
    start(&harness, &json!({ "canary": 1 })).await;
    until_phase(&mut harness, 1, Phase::Paused).await;
    assert_eq!(harness.must("POST", &format!("{GR}/close?wait=1h"), "").await.status, 200);
    assert_eq!(versions(&harness).await.iter().filter(|v| *v == "9.9.9").count(), 1);
    let rest = harness.must("PUT", &format!("{GR}?wait=1h"), &rolling(&json!({ "maxUnavailable": 2 }))).await;
    assert_eq!(
        (rest.status.as_u16(), &rest.json()["content"]["name"]),
        (200, &json!("enflame-gcu-resource-2"))
    );
    assert_eq!(versions(&harness).await, ["9.9.9"; 2]);
    sleep(Duration::from_secs(700)).await;
    let nothing = harness.must("PUT", GR, &rolling(&json!({ "maxUnavailable": 2 }))).await;
    assert_eq!(nothing.json()["content"]["changed"], false, "{}", nothing.text);
    assert!(harness.record(3).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_wait_can_be_taken_up_again_with_a_look() {
    let mut harness = harness().await;
    harness.world.change_operator(|o| o.stuck_components = ["toolkit".to_owned()].into());
    let status = format!("{GR}/status");
    let never = harness.must("GET", &format!("{status}?wait=1h"), "").await;
    assert!(never.text.contains("has never been upgraded"), "{}", never.text);
    assert_eq!(harness.must("PUT", &format!("{GR}?wait=60"), PUT_BODY).await.status, 409);
    for path in [RECORD, &status] {
        let begun = Instant::now();
        let look = harness.must("GET", &format!("{path}?wait=2m"), "").await;
        assert_eq!(
            (look.status.as_u16(), &look.json()["content"]["phase"]),
            (200, &json!("Running")),
            "{}",
            look.text
        );
        assert!(begun.elapsed() >= Duration::from_secs(120), "{:?}", begun.elapsed());
    }
    harness.world.change_operator(|o| o.stuck_components.clear());
    let (record, line) = (format!("{RECORD}?wait=1h"), format!("{status}?wait=3600"));
    let (one, two) = tokio::join!(harness.must("GET", &record, ""), harness.must("GET", &line, ""));
    for look in [one, two] {
        assert_eq!(look.json()["content"]["phase"], "Succeeded", "{}", look.text);
    }
    let head = "{\n    \"operation\": \"Get\",\n    \"result\": \"Success\",\n    \"content\": {\n        \
                \"name\": \"enflame-gcu-resource-1\",\n        \"phase\": \"Succeeded\",";
    let look = harness.must("GET", RECORD, "").await;
    assert!(look.text.starts_with(head), "how it stands comes first: {}", look.text);
    assert!(look.json()["content"].get("target").is_none(), "{}", look.text);
    let whole = harness.must("GET", &format!("{RECORD}?manifests=true"), "").await.json()["content"].clone();
    assert!(whole["target"].is_object() && whole["previous"].is_object(), "{whole:#}");
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    harness.must("DELETE", GR, r#"{"policy": "foreground"}"#).await;
    let gone = harness.must("GET", &status, "").await.json()["content"].clone();
    assert_eq!(gone["deleted"], true);
    assert!(
        gone["message"].as_str().unwrap().ends_with("gr enflame-gcu-resource is not there any more"),
        "{gone:#}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_pauses_and_waits_is_answered_when_no_node_is_in_work() {
    let mut harness = fleet(3).await;
    start(&harness, &json!({ "maxUnavailable": 2, "minReadySeconds": "2m" })).await;
    let in_work = |r: &gcu_upgrade_manager::record::GcuUpgrade| {
        r.status_or_default().rolling.map_or(0, |rolling| rolling.active.len())
    };
    harness.until("two nodes in work", 1, HOUR, |r| r.is_some_and(|r| in_work(r) == 2)).await;
    sleep(Duration::from_secs(10)).await;
    let begun = Instant::now();
    let paused = harness.must("POST", &format!("{GR}/pause?wait=1h"), "").await;
    assert_eq!(
        (paused.status.as_u16(), &paused.json()["content"]["phase"]),
        (200, &json!("Paused")),
        "{}",
        paused.text
    );
    assert!(begun.elapsed() > Duration::from_secs(60), "nodes are finished first: {:?}", begun.elapsed());
    assert_eq!(in_work(&harness.record(1).await.unwrap()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_parameter_that_a_call_does_not_know_is_refused_by_every_call() {
    let harness = harness().await;
    for path in [
        "/gum/v1/gr",
        GR,
        "{gr}/resource/driver",
        "{gr}/status",
        "{gr}/why",
        "{gr}/nodes",
        "{gr}/history",
        "{gr}/history/0",
        "/gum/v1/upgrades",
        RECORD,
        "/gum/v1/blueprints",
        "/gum/v1/blueprints/gr.json",
        "/livez",
        "/readyz",
        "/version",
        "/metrics",
        "/openapi.json",
        "/docs",
    ] {
        let path = path.replace("{gr}", GR);
        let answer = harness.must("GET", &format!("{path}?wiat=5m"), "").await;
        if path != RECORD {
            assert_eq!(answer.status, 400, "{path}: {}", answer.text);
            assert!(
                answer.error().starts_with("wiat: no such query parameter here: "),
                "{path}: {}",
                answer.text
            );
        }
    }
    for (request, says) in [
        ("GET {gr}/status?wiat=5m", "wiat: no such query parameter here: wait is known; did you mean wait?"),
        (
            "GET {gr}/nodes?Node=x",
            "Node: no such query parameter here: all and node are known; did you mean node?",
        ),
        ("GET /gum/v1/gr?limit=5", "limit: no such query parameter here: none is known"),
        (
            "POST {gr}/plan?dryRun=true",
            "dryRun: no such query parameter here: set and overrideWindow are known",
        ),
        (
            "DELETE {gr}?foreground=true",
            "foreground: no such query parameter here: wait and dryRun are known",
        ),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let answer = harness.must(method, &path.replace("{gr}", GR), "").await;
        assert_eq!((answer.status.as_u16(), answer.error().as_str()), (400, says), "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_said_as_text_where_text_is_asked_for_and_a_node_that_is_not_there_is_404() {
    let harness = harness().await;
    let nodes = format!("{GR}/nodes?node=nope");
    let wrong = harness.must("GET", &nodes, "").await;
    assert_eq!(wrong.status, 404, "{}", wrong.text);
    let says = "the cluster has no node \"nope\"; GET /gum/v1/gr/enflame-gcu-resource/nodes names those \
                with the stack's pods";
    assert_eq!(wrong.error(), says);
    let request = Request::get(&nodes).header("accept", "text/plain").body(Body::empty()).unwrap();
    let text = harness.ask(request).await.unwrap();
    assert_eq!((text.status.as_u16(), text.text), (404, format!("{says}\n")));
    assert_eq!(text.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(harness.must("GET", &format!("{GR}/nodes?node=..%2F"), "").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_was_given_up_shows_no_node_as_done() {
    let harness = fleet(3).await;
    harness.world.change_operator(|o| o.on_change = OnChange::Recreate);
    let given_up = harness.must("PUT", &format!("{GR}?wait=1h"), &rolling(&json!({}))).await;
    assert_eq!(given_up.status, 422, "{}", given_up.text);
    assert!(given_up.error().contains("enflame-gcu-resource-1 failed: "), "{}", given_up.text);
    let status = harness.must("GET", &format!("{GR}/status"), "").await.json()["content"].clone();
    assert!(status["nodes"]["done"].as_u64().unwrap_or_default() == 0, "{status:#}");
}
