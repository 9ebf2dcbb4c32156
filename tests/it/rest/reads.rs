//! Reads of grs from what a watch has shown: what they cost, how new they are, and when the API server is asked.

use std::time::Duration;

use super::*;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};

const PATIENCE: Duration = Duration::from_secs(3600);

/// Reads of grs that have reached the API server, but for watches.
fn reads(harness: &Harness) -> usize {
    let calls = harness.faults.calls();
    calls
        .iter()
        .filter(|c| c.method == "GET" && c.path.contains("gcuresources") && !c.path.contains("watch="))
        .count()
}

/// The service, and everything that it has done by itself at the start.
async fn settled() -> Harness {
    let harness = harness().await;
    sleep(Duration::from_secs(30)).await;
    harness
}

async fn get(harness: &Harness, path: &str, known: &str) -> Answer {
    let request = Request::get(path).header("if-none-match", known).body(Body::empty()).unwrap();
    harness.ask(request).await.unwrap()
}

/// From now on the watch of grs shows nothing any more, and nobody notices for a while.
async fn blind() -> Harness {
    let harness = harness().await;
    let silent = Fault::Silence("1s".to_owned());
    harness.faults.add(Rule {
        on: "WATCH gcuresources".to_owned(),
        skip: 0,
        times: usize::MAX,
        fault: silent,
    });
    // A watch lasts less than five minutes.
    sleep(Duration::from_secs(400)).await;
    harness
}

#[tokio::test(start_paused = true)]
async fn a_poller_costs_the_api_server_nothing_and_is_sent_nothing_while_nothing_changes() {
    let harness = settled().await;
    let before = reads(&harness);
    for path in [GR, "/gum/v1/gr"] {
        let first = harness.must("GET", path, "").await;
        assert_eq!(first.status, 200, "{}", first.text);
        assert_eq!(first.header("cache-control"), Some("private, no-cache"));
        let tag = first.header("etag").unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = get(&harness, path, &known).await;
            assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{known}");
            assert_eq!(again.header("etag"), Some(tag.as_str()));
        }
        assert_eq!(get(&harness, path, "\"other\"").await.text, first.text);
        let label = json!({ "metadata": { "labels": { "of": path.len().to_string() } } });
        let params = PatchParams::default();
        harness.world.grs().patch(harness.gr(), &params, &Patch::Merge(&label)).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        let changed = get(&harness, path, &tag).await;
        assert_eq!(changed.status, 200);
        assert_ne!(changed.header("etag"), Some(tag.as_str()));
        assert!(changed.text.contains(&format!("\"of\": \"{}\"", path.len())), "{}", changed.text);
    }
    assert_eq!(reads(&harness), before);
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_has_shown_is_answered_word_for_word_as_the_api_server_would() {
    let harness = settled().await;
    let shown = [harness.must("GET", GR, "").await, harness.must("GET", "/gum/v1/gr", "").await];
    harness.faults.add(Rule {
        on: "WATCH gcuresources".to_owned(),
        skip: 0,
        times: usize::MAX,
        fault: Fault::Answer(503),
    });
    sleep(Duration::from_secs(400)).await;
    let before = reads(&harness);
    for (path, shown) in [GR, "/gum/v1/gr"].into_iter().zip(shown) {
        let live = harness.must("GET", path, "").await;
        assert!(live.header("etag").is_none(), "not known to be the newest");
        let without_version = |answer: &Answer| {
            let mut content = answer.json()["content"].clone();
            content["metadata"]["resourceVersion"] = Value::Null;
            content
        };
        assert_eq!(without_version(&live), without_version(&shown), "{path}");
    }
    assert!(reads(&harness) > before, "a watch that is not in sync is not believed");
}

#[tokio::test(start_paused = true)]
async fn nothing_older_is_shown_than_what_this_service_has_written() {
    let harness = blind().await;
    assert_eq!(harness.must("GET", GR, "").await.status, 200);
    let gone = harness.must("DELETE", GR, "").await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    let after = harness.must("GET", GR, "").await;
    let deleting = after.json()["content"]["metadata"]["deletionTimestamp"].is_string();
    assert!(deleting || after.status == 404, "{}", after.text);
    let list = harness.must("GET", "/gum/v1/gr", "").await.json()["content"]["items"].clone();
    let items = list.as_array().unwrap();
    assert!(items.iter().all(|gr| gr["metadata"]["deletionTimestamp"].is_string()), "{list}");
}

#[tokio::test(start_paused = true)]
async fn what_an_upgrade_has_written_is_shown_at_once_too() {
    let mut harness = blind().await;
    let uid = harness.world.gr().await.unwrap().uid().unwrap();
    assert_eq!(harness.must("PUT", GR, PUT_BODY).await.status, 200);
    harness
        .until("the new gr", 1, PATIENCE, |r| r.is_some_and(|r| r.status_or_default().created_uid.is_some()))
        .await;
    let now = harness.must("GET", GR, "").await.json()["content"]["metadata"]["uid"].clone();
    assert!(now.is_string() && now != json!(uid), "{now}");
}
