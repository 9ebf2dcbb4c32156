//! Reads of records from what a watch has shown: what they cost, how new they are, and when the API server is asked.

use super::*;
use gcu_upgrade_manager::record::Phase;
use kube::api::{Patch, PatchParams};

/// A watch of all records; those of one alone have a field selector there.
const OF_ALL: &str = "WATCH gcuupgrades?&watch=true&timeoutSeconds=290&allow";

/// Reads of records that have reached the API server, but for watches and the lists that they begin with.
pub(super) fn reads(harness: &Harness) -> usize {
    let is_read = |method: &str, path: &str| method == "GET" && path.contains("gcuupgrades");
    let of_a_watch =
        |path: &str| path.contains("watch=") || path.contains("limit=50&") || path.ends_with("limit=50");
    harness.faults.calls().iter().filter(|c| is_read(&c.method, &c.path) && !of_a_watch(&c.path)).count()
}

/// From now on this happens to watches of all records; those that were open have ended.
pub(super) async fn watch_with(harness: &Harness, fault: Fault) {
    harness.faults.add(Rule { on: OF_ALL.to_owned(), skip: 0, times: usize::MAX, fault });
    sleep(Duration::from_secs(400)).await;
}

/// An upgrade is paused and known to be; from now on these watches show nothing, and nobody notices for a while.
async fn paused_and_blind() -> Harness {
    let harness = looks::paused().await;
    watch_with(&harness, Fault::Silence("1s".to_owned())).await;
    let before = reads(&harness);
    assert!(harness.must("GET", RECORD, "").await.text.contains("\"phase\": \"Paused\""));
    assert_eq!(reads(&harness), before, "answered from what a watch has shown");
    harness
}

fn names(list: &Answer) -> Vec<String> {
    let name = |record: &Value| record["name"].as_str().unwrap().to_owned();
    list.json()["content"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test(start_paused = true)]
async fn who_follows_an_upgrade_costs_the_api_server_no_read_of_records() {
    let mut harness = harness().await;
    assert_eq!(harness.must("PUT", GR, PUT_BODY).await.status, 200);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    sleep(Duration::from_secs(30)).await;
    let before = reads(&harness);
    let of_gr =
        ["status", "why", "history", "history/1", "nodes", "fleet"].map(|what| format!("{GR}/{what}"));
    let others = ["/gum/v1/upgrades", RECORD, "/ui/", "/ui/gr/enflame-gcu-resource"].map(str::to_owned);
    for path in of_gr.into_iter().chain(others) {
        let answer = harness.must("GET", &path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!(reads(&harness), before, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_shown_as_soon_as_this_service_has_made_it() {
    let harness = harness().await;
    watch_with(&harness, Fault::Silence("1s".to_owned())).await;
    assert_eq!(names(&harness.must("GET", "/gum/v1/upgrades", "").await), Vec::<String>::new());
    assert_eq!(harness.must("PUT", GR, PUT_BODY).await.status, 200);
    assert_eq!(names(&harness.must("GET", "/gum/v1/upgrades", "").await), ["enflame-gcu-resource-1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_older_is_shown_than_a_record_that_this_service_has_written() {
    let harness = paused_and_blind().await;
    let asked = harness.must("POST", &format!("{GR}/cancel"), "").await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    for path in [RECORD.to_owned(), format!("{GR}/history/1")] {
        let shown = harness.must("GET", &path, "").await;
        assert!(shown.text.contains("\"intent\": \"Rollback\""), "{path}: {}", shown.text);
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_for_an_end_or_heard_of_it_is_shown_nothing_older_afterwards() {
    for followed in ["?wait=60s", "/events"] {
        let harness = paused_and_blind().await;
        let records = harness.records();
        // As another replica would write it.
        let write = async |status: Value| {
            let (params, patch) = (PatchParams::default(), Patch::Merge(json!({ "status": status })));
            records.patch_status("enflame-gcu-resource-1", &params, &patch).await.unwrap();
        };
        write(json!({ "phase": "Running" })).await;
        let end = async {
            sleep(Duration::from_secs(10)).await;
            write(json!({ "phase": "Failed", "reason": "Closed", "message": "by another replica" })).await;
        };
        let path = format!("{RECORD}{followed}");
        let (told, ()) = tokio::join!(harness.must("GET", &path, ""), end);
        assert!(told.text.contains("by another replica"), "{followed}: {}", told.text);
        let shown = harness.must("GET", RECORD, "").await;
        assert!(shown.text.contains("by another replica"), "{followed}: {}", shown.text);
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_read_from_the_api_server_while_their_watch_is_not_in_sync() {
    let harness = harness().await;
    watch_with(&harness, Fault::Answer(503)).await;
    let before = reads(&harness);
    let read = harness.must("GET", "/gum/v1/upgrades", "").await;
    assert_eq!(read.status, 200, "{}", read.text);
    assert_eq!(reads(&harness), before + 1);
    let away =
        Rule { on: "GET gcuupgrades".to_owned(), skip: 0, times: usize::MAX, fault: Fault::Answer(503) };
    harness.faults.add(away);
    let refused = harness.must("GET", "/gum/v1/upgrades", "").await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_envelope(&refused, "List", false);
}
