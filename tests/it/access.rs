//! Who may do what: with the cluster's own access control on a real API server, and what is believed for how long, in
//! virtual time, before an API server that only answers reviews.

mod reviews;
mod roles;

use std::time::Duration;

use axum::body::Body;
use gcu_upgrade_manager::app::Service;
use http::Request;
use http_body_util::BodyExt;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::harness::Answer;
use reviews::start;
pub(crate) use reviews::{Shared, before_reviews};

const BLUEPRINT: &str = include_str!("../../blueprints/gr.json");

async fn ask(service: &Service, method: &str, path: &str, token: Option<&str>) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = if method == "PUT" { r#"{"file": "gr.json"}"# } else { "" };
    Answer::of(service.router(), request.body(Body::from(body)).unwrap()).await
}

const GR: &str = "/gum/v1/gr/enflame-gcu-resource";
/// Each call with the verb that it needs.
const CALLS: [(&str, &str, &str); 27] = [
    ("GET", "/gum/v1/gr", "list"),
    ("GET", "{gr}", "get"),
    ("PUT", "{gr}", "update"),
    ("DELETE", "{gr}", "delete"),
    ("GET", "{gr}/resource/driver", "get"),
    ("POST", "{gr}/plan", "get"),
    ("POST", "{gr}/pause", "update"),
    ("POST", "{gr}/resume", "update"),
    ("POST", "{gr}/cancel", "update"),
    ("POST", "{gr}/promote", "update"),
    ("POST", "{gr}/rollback", "update"),
    ("POST", "{gr}/retry", "update"),
    ("POST", "{gr}/close", "update"),
    ("POST", "{gr}/nodes/node-1/skip", "update"),
    ("POST", "{gr}/nodes/node-1/retry", "update"),
    ("GET", "{gr}/status", "get"),
    ("GET", "{gr}/why", "get"),
    ("GET", "{gr}/nodes", "get"),
    ("GET", "{gr}/fleet", "get"),
    ("GET", "{gr}/history", "get"),
    ("GET", "{gr}/history/1", "get"),
    ("GET", "/gum/v1/upgrades", "list"),
    ("GET", "/gum/v1/upgrades/enflame-gcu-resource-1", "get"),
    ("GET", "/gum/v1/upgrades/enflame-gcu-resource-1/events", "get"),
    ("GET", "/gum/v1/blueprints", "list"),
    ("GET", "/gum/v1/blueprints/gr.json", "list"),
    ("GET", "/metrics", "get"),
];

#[tokio::test(start_paused = true)]
async fn every_call_is_refused_without_a_token_with_a_wrong_one_and_without_its_right() {
    let reviews = Shared::default();
    reviews.lock().unwrap().users.insert("t-nobody".to_owned(), "nobody".to_owned());
    let (harness, service) = before_reviews(reviews.clone()).await;
    for (method, path, verb) in CALLS {
        let path = path.replace("{gr}", GR);
        for token in [None, Some("garbage"), Some("")] {
            let said = ask(&service, method, &path, token).await;
            assert_eq!(said.status, 401, "{method} {path}");
            assert_eq!(said.header("www-authenticate"), Some("Bearer"), "{method} {path}");
            assert!(said.text.contains("\"result\": \"Failed\""), "{}", said.text);
        }
        let said = ask(&service, method, &path, Some("t-nobody")).await;
        assert_eq!(said.status, 403, "{method} {path}: {}", said.text);
        let words = format!("user \\\"nobody\\\" may not {verb} ");
        assert!(said.text.contains(&words), "{method} {path} says {words}: {}", said.text);
        let asked = reviews.lock().unwrap().last.clone();
        assert_eq!(asked["spec"]["groups"], json!(["people"]));
        if let Some(attributes) = asked["spec"].get("resourceAttributes") {
            assert_eq!(attributes["group"], "topsops.enflame.com");
            assert_eq!(attributes["resource"], "gcuresources");
            // There is no such record: as much is needed as to see it whosever it were.
            let about_one = path.contains("/gr/enflame-gcu-resource");
            assert_eq!(attributes["name"].as_str(), about_one.then_some("enflame-gcu-resource"), "{path}");
        }
    }
    for path in ["/livez", "/readyz", "/version"] {
        assert_eq!(ask(&service, "GET", path, None).await.status, 200, "{path} needs no token");
    }
    assert!(harness.record(1).await.is_none(), "nothing was done");
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_is_of_no_use_after_30_seconds_and_one_that_is_given_works_at_once() {
    let reviews = Shared::default();
    {
        let mut reviews = reviews.lock().unwrap();
        reviews.users.insert("t-reader".to_owned(), "reader".to_owned());
        reviews.rights.push(("reader".to_owned(), "get".to_owned()));
    }
    let (harness, service) = before_reviews(reviews.clone()).await;
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    let asked = reviews.lock().unwrap().asked;
    for _ in 0..50 {
        assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    }
    assert_eq!(reviews.lock().unwrap().asked, asked, "what was answered is believed for a while");
    let read_only = ask(&service, "PUT", GR, Some("t-reader")).await;
    assert_eq!(read_only.status, 403, "{}", read_only.text);
    reviews.lock().unwrap().rights.clear();
    sleep(Duration::from_secs(31)).await;
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 403);
    reviews.lock().unwrap().rights.push(("reader".to_owned(), "get".to_owned()));
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    reviews.lock().unwrap().users.clear();
    sleep(Duration::from_secs(31)).await;
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 401, "a revoked token");
    drop(harness);
}

#[tokio::test(start_paused = true)]
async fn whoever_hammers_with_bad_tokens_is_no_burden_and_drives_no_good_one_out() {
    let reviews = Shared::default();
    {
        let mut reviews = reviews.lock().unwrap();
        reviews.users.insert("t-reader".to_owned(), "reader".to_owned());
        reviews.rights.push(("reader".to_owned(), "get".to_owned()));
    }
    let (_stage, service) = before_reviews(reviews.clone()).await;
    let asked = || reviews.lock().unwrap().asked;
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    let before = asked();
    for _ in 0..100 {
        assert_eq!(ask(&service, "GET", GR, Some("t-late")).await.status, 401);
    }
    assert_eq!(asked() - before, 1, "asked once");
    for number in 0..3000 {
        assert_eq!(ask(&service, "GET", GR, Some(&format!("t-{number}"))).await.status, 401);
    }
    let before = asked();
    assert_eq!(ask(&service, "GET", GR, Some("t-reader")).await.status, 200);
    assert_eq!(asked(), before, "the good one is still known");
    // One that becomes valid works within seconds.
    assert_eq!(ask(&service, "GET", GR, Some("t-late")).await.status, 401);
    reviews.lock().unwrap().users.insert("t-late".to_owned(), "reader".to_owned());
    sleep(Duration::from_millis(5100)).await;
    assert_eq!(ask(&service, "GET", GR, Some("t-late")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_wait_and_a_stream_end_when_their_token_or_their_right_is_taken_away_but_not_while_that_cannot_be_asked()
 {
    let reviews = Shared::default();
    let give = |reviews: &Shared| {
        let mut reviews = reviews.lock().unwrap();
        reviews.users.insert("t-writer".to_owned(), "writer".to_owned());
        reviews.rights =
            ["get", "update"].map(|verb| ("writer".to_owned(), verb.to_owned())).into_iter().collect();
    };
    give(&reviews);
    let (harness, service) = before_reviews(reviews.clone()).await;
    // One that never ends by itself.
    let record = json!({
        "metadata": { "name": "other-1", "labels": { "by-hand": "" } },
        "spec": { "gr": "enflame-gcu-resource", "operation": "Upgrade", "target": { "manifest": {} },
            "intent": "Pause" },
        "status": { "phase": "Held" },
    });
    let events = "/gum/v1/upgrades/other-1/events";
    harness.records().create(&PostParams::default(), &serde_json::from_value(record).unwrap()).await.unwrap();
    for (revoke, status, says) in [
        (true, 401, "the token is not valid"),
        (false, 403, "user \"writer\" may not get the gr of the record \"other-1\""),
    ] {
        give(&reviews);
        sleep(Duration::from_secs(40)).await;
        let begun = tokio::time::Instant::now();
        let taken = async {
            // While nobody can be asked, nothing is said to have been taken away.
            sleep(Duration::from_secs(10)).await;
            reviews.lock().unwrap().away = true;
            sleep(Duration::from_secs(120)).await;
            assert!(begun.elapsed() >= Duration::from_secs(130));
            let mut reviews = reviews.lock().unwrap();
            reviews.away = false;
            if revoke { reviews.users.clear() } else { reviews.rights.clear() }
        };
        let stream = timeout(Duration::from_secs(600), ask(&service, "GET", events, Some("t-writer")));
        let (told, ()) = tokio::join!(stream, taken);
        let told = told.expect("the stream ends");
        let took = begun.elapsed();
        assert!((130..=161).contains(&took.as_secs()), "{took:?}");
        let last = told.text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.contains("event: closing"), "{}", told.text);
        let data: Value = serde_json::from_str(last.split("data: ").nth(1).unwrap()).unwrap();
        assert_eq!(data["status"], status, "{data}");
        assert!(data["message"].as_str().unwrap().starts_with(says), "{data}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_its_token_is_taken_away_and_the_upgrade_goes_on() {
    let reviews = Shared::default();
    {
        let mut reviews = reviews.lock().unwrap();
        reviews.users.insert("t-writer".to_owned(), "writer".to_owned());
        reviews.rights.push(("writer".to_owned(), "update".to_owned()));
    }
    let (harness, service) = before_reviews(reviews.clone()).await;
    // The old pods never go: the upgrade waits.
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(harness.client.clone(), "kube-system");
    let all = pods.list(&Default::default()).await.unwrap().items;
    let stays = Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/stays"] } }));
    for pod in &all {
        let name = pod.metadata.name.as_deref().unwrap();
        pods.patch(name, &PatchParams::default(), &stays).await.unwrap();
    }
    let taken = async {
        sleep(Duration::from_secs(45)).await;
        reviews.lock().unwrap().users.clear();
    };
    let (begun, put) = (tokio::time::Instant::now(), format!("{GR}?wait=1h"));
    let (waited, ()) = tokio::join!(ask(&service, "PUT", &put, Some("t-writer")), taken);
    assert_eq!(waited.status, 401, "{}", waited.text);
    assert!((45..=76).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(
        waited.error().contains("enflame-gcu-resource-1 goes on, see /gum/v1/upgrades/"),
        "{}",
        waited.text
    );
    assert!(!harness.record(1).await.unwrap().phase().is_final());
}

#[tokio::test(start_paused = true)]
async fn when_nobody_can_be_asked_nothing_is_allowed() {
    let reviews = Shared::default();
    let (harness, service) = before_reviews(reviews.clone()).await;
    reviews.lock().unwrap().away = true;
    for (method, path, _) in CALLS {
        let said = ask(&service, method, &path.replace("{gr}", GR), Some("t-reader")).await;
        assert_eq!(said.status, 503, "{method} {path}");
        assert_eq!(said.header("retry-after"), Some("5"), "{method} {path}");
        let words = "authorization check failed: etcd is away";
        assert!(said.text.contains(words), "{}", said.text);
    }
    assert!(harness.record(1).await.is_none(), "nothing was done");
}

#[tokio::test(start_paused = true)]
async fn a_record_is_its_grs_whatever_it_is_called_and_one_that_is_not_there_looks_like_a_foreign_one() {
    let reviews = Shared::default();
    {
        let mut reviews = reviews.lock().unwrap();
        for user in ["one", "all", "none"] {
            reviews.users.insert(format!("t-{user}"), user.to_owned());
        }
        reviews.rights.push(("one".to_owned(), "get/mine".to_owned()));
        reviews.rights.push(("all".to_owned(), "get".to_owned()));
    }
    let (harness, service) = before_reviews(reviews.clone()).await;
    for (name, gr) in [("mine-1", "theirs"), ("theirs-1", "mine"), ("mine-2", "mine")] {
        let record = json!({
            "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade", "metadata": { "name": name },
            "spec": { "gr": gr, "operation": "Upgrade", "target": { "manifest": {} } },
        });
        let record = serde_json::from_value(record).unwrap();
        harness.records().create(&PostParams::default(), &record).await.unwrap();
        let mut ended = harness.records().get(name).await.unwrap().status_or_default();
        ended.phase = gcu_upgrade_manager::record::Phase::Failed;
        let ended = Patch::Merge(json!({ "status": ended }));
        harness.records().patch_status(name, &PatchParams::default(), &ended).await.unwrap();
    }
    for (user, name, status) in [
        ("one", "mine-1", 403),
        ("one", "theirs-1", 200),
        ("one", "mine-2", 200),
        ("one", "mine-3", 403),
        ("one", "No-Name", 403),
        ("all", "mine-1", 200),
        ("all", "theirs-1", 200),
        ("all", "mine-3", 404),
        ("all", "No-Name", 400),
        ("none", "mine-1", 403),
        ("none", "mine-3", 403),
    ] {
        for view in ["", "/events"] {
            let path = format!("/gum/v1/upgrades/{name}{view}");
            let said = ask(&service, "GET", &path, Some(&format!("t-{user}"))).await;
            assert_eq!(said.status, status, "{user} {path}: {}", said.text);
            if status == 403 && name != "No-Name" {
                let missing =
                    ask(&service, "GET", "/gum/v1/upgrades/mine-9", Some(&format!("t-{user}"))).await;
                let (said, missing) =
                    (said.error().replace(name, "X"), missing.error().replace("mine-9", "X"));
                assert_eq!(said, missing, "{user} {path}");
                assert!(said.ends_with("may not get the gr of the record \"X\", or there is no such record"));
            }
        }
    }
}
