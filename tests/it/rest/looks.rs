//! Looks at the whole cluster: shared, few at once, and never from before a change of one's own.

use std::time::Duration;

use futures::future::join_all;
use gcu_upgrade_manager::record::Phase;
use gcu_upgrade_manager::record::rolling::SKIP_LABEL;
use http::StatusCode;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::time::sleep;

use super::commands::{fleet, rolling, start, until_phase};
use super::*;
use crate::faults::{Fault, Rule};

/// Lists of pods that the service has asked for, and watches that begin with one.
fn lists(harness: &Harness) -> usize {
    let lists = |path: &str| !path.contains("watch=") || path.contains("sendInitialEvents=true");
    let calls = harness.faults.calls();
    calls.iter().filter(|c| c.method == "GET" && c.path.contains("/pods?") && lists(&c.path)).count()
}

/// Lists of a resource that the service has asked for, but for watches.
fn lists_of(harness: &Harness, resource: &str) -> usize {
    let calls = harness.faults.calls();
    let is_list = |path: &str| path.split('?').next().is_some_and(|path| path.ends_with(resource));
    calls.iter().filter(|c| c.method == "GET" && is_list(&c.path) && !c.path.contains("watch=")).count()
}

pub(super) async fn paused() -> Harness {
    let mut harness = fleet(3).await;
    start(&harness, &json!({ "canary": 1 })).await;
    until_phase(&mut harness, 1, Phase::Paused).await;
    harness
}

#[tokio::test(start_paused = true)]
async fn while_an_upgrade_is_under_way_its_readers_cost_no_list() {
    let harness = paused().await;
    sleep(Duration::from_secs(2)).await;
    let before = lists(&harness);
    for path in [format!("{GR}/why"), format!("{GR}/nodes"), format!("{GR}/nodes?all=true")] {
        let answers = join_all((0..50).map(|_| harness.must("GET", &path, ""))).await;
        assert!(answers.iter().all(|a| a.status == 200), "{}", answers[0].text);
    }
    assert_eq!(lists(&harness), before);
}

#[tokio::test(start_paused = true)]
async fn fifty_who_ask_at_once_share_one_look_and_so_does_who_comes_within_a_second() {
    let harness = fleet(3).await;
    for path in [format!("{GR}/nodes"), format!("{GR}/nodes?all=true")] {
        sleep(Duration::from_secs(2)).await;
        let before = lists(&harness);
        let alone = harness.must("GET", &path, "").await;
        let cost = lists(&harness) - before;
        assert!(cost > 0, "{path}");
        sleep(Duration::from_secs(2)).await;
        let before = lists(&harness);
        let answers = join_all((0..50).map(|_| harness.must("GET", &path, ""))).await;
        assert!(answers.iter().all(|a| a.status == 200 && a.text == alone.text), "{path}");
        if let Some(length) = answers[0].header("content-length") {
            assert_eq!(length, alone.text.len().to_string(), "{path}");
        }
        sleep(Duration::from_millis(900)).await;
        harness.must("GET", &path, "").await;
        assert_eq!(lists(&harness) - before, cost, "{path}: one look for all");
        sleep(Duration::from_millis(200)).await;
        harness.must("GET", &path, "").await;
        assert_eq!(lists(&harness) - before, 2 * cost, "{path}: a look is believed for a second");
    }
    let one = harness.must("GET", &format!("{GR}/nodes?node=node-2"), "").await.json();
    let nodes = one["content"]["nodes"].as_array().unwrap();
    assert_eq!((nodes.len(), &nodes[0]["node"]), (1, &json!("node-2")));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_shown_a_look_from_before_a_change_of_his_own() {
    let harness = fleet(3).await;
    let nodes = format!("{GR}/nodes");
    let before = harness.must("GET", &nodes, "").await.text;
    let lists_before = lists(&harness);
    assert_eq!(harness.must("GET", &nodes, "").await.text, before);
    assert_eq!(lists(&harness), lists_before);
    let put = harness.must("PUT", GR, &json!({ "file": "newer.json" }).to_string()).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let lists_before = lists(&harness);
    harness.must("GET", &nodes, "").await;
    assert!(lists(&harness) > lists_before, "it is looked anew");
}

#[tokio::test(start_paused = true)]
async fn plans_are_of_what_watches_show_for_as_long_as_somebody_asks() {
    let harness = fleet(3).await;
    let plan = format!("{GR}/plan");
    let body = rolling(&json!({}));
    let alone = harness.must("POST", &plan, &body).await;
    assert_eq!(alone.status, 200, "{}", alone.text);
    let before = lists(&harness);
    assert!(before > 0);
    let answers = join_all((0..50).map(|_| harness.must("POST", &plan, &body))).await;
    assert!(answers.iter().all(|a| a.status == 200 && a.text == alone.text), "{}", alone.text);
    let different = |n: usize| {
        let mut body: Value = serde_json::from_str(&body).unwrap();
        body["reason"] = json!(format!("reason {n}"));
        body.to_string()
    };
    let answers = all_plans(&harness, (0..50).map(different).collect()).await;
    assert!(answers.iter().all(|a| a.status == 200), "{}", answers[0].text);
    assert_eq!(lists(&harness), before, "nobody lists pods again");
    // What has changed since is in it.
    let nodes: Api<Node> = Api::all(harness.api.as_ref().unwrap().client());
    let skip = json!({ "metadata": { "labels": { SKIP_LABEL: "true" } } });
    nodes.patch("node-2", &PatchParams::default(), &Patch::Merge(skip)).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    let planned = harness.must("POST", &plan, &body).await.json();
    assert_eq!(planned["content"]["plan"]["skipped"][0]["node"], "node-2", "{planned}");
    assert_eq!(lists(&harness), before);
    // When nobody has asked for a while the watches are over, and whoever comes then begins anew.
    sleep(Duration::from_secs(130)).await;
    let planned = harness.must("POST", &plan, &body).await.json();
    assert_eq!(planned["content"]["plan"]["skipped"][0]["node"], "node-2", "{planned}");
    assert_eq!(lists(&harness), 2 * before);
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_of_the_cluster_itself_while_the_watch_is_away() {
    let harness = fleet(3).await;
    let plan = format!("{GR}/plan");
    let body = rolling(&json!({}));
    let rule = |skip, times, fault| Rule { on: "WATCH /pods".to_owned(), skip, times, fault };
    harness.faults.add(rule(0, 1, Fault::Cut("2s".to_owned())));
    harness.faults.add(rule(0, usize::MAX, Fault::Answer(500)));
    assert_eq!(harness.must("POST", &plan, &body).await.status, 200);
    let before = lists(&harness);
    sleep(Duration::from_secs(3)).await;
    let planned = harness.must("POST", &plan, &body).await;
    assert_eq!(planned.status, 200, "{}", planned.text);
    assert!(lists(&harness) > before, "the cluster is asked");
}

#[tokio::test(start_paused = true)]
async fn beyond_the_queue_the_answer_is_503() {
    let harness = fleet(3).await;
    let plan = format!("{GR}/plan");
    let body = rolling(&json!({}));
    // Each asks for something else, and looks take their time.
    let slow = Fault::Delay("1s".to_owned());
    harness.faults.add(Rule { on: "GET /pods".to_owned(), skip: 0, times: usize::MAX, fault: slow });
    let else_where = |n: usize| rolling(&json!({ "drain": { "podSelector": { format!("key-{n}"): "x" } } }));
    let answers = all_plans(&harness, (0..80).map(else_where).collect()).await;
    let (fine, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == StatusCode::OK);
    assert_eq!((fine.len(), refused.len()), (66, 14), "two look, 64 wait");
    for answer in refused {
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (503, Some("5")),
            "{}",
            answer.text
        );
        assert!(answer.error().contains("too many callers wait for a look"), "{}", answer.text);
    }
    harness.faults.heal();
    assert_eq!(harness.must("POST", &plan, &body).await.status, 200, "the queue is free again");
}

async fn all_plans(harness: &Harness, bodies: Vec<String>) -> Vec<Answer> {
    let plan = format!("{GR}/plan");
    join_all(bodies.iter().map(|body| harness.must("POST", &plan, body))).await
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_in_the_middle_takes_nobodys_answer_along() {
    let harness = fleet(3).await;
    let slow = Fault::Delay("5s".to_owned());
    harness.faults.add(Rule { on: "GET /pods".to_owned(), skip: 0, times: usize::MAX, fault: slow });
    let nodes = format!("{GR}/nodes");
    let gone = tokio::time::timeout(Duration::from_secs(1), harness.must("GET", &nodes, ""));
    let stays = async {
        sleep(Duration::from_millis(500)).await;
        harness.must("GET", &nodes, "").await
    };
    let (gone, stays) = tokio::join!(gone, stays);
    assert!(gone.is_err());
    assert_eq!(stays.status, 200, "{}", stays.text);
}

#[tokio::test(start_paused = true)]
async fn a_page_takes_the_records_and_the_grs_from_their_watches() {
    let harness = paused().await;
    for page in ["/ui/gr/enflame-gcu-resource", "/ui/"] {
        sleep(Duration::from_secs(2)).await;
        let lists = || ["/gcuupgrades", "/gcuresources"].map(|resource| lists_of(&harness, resource));
        let before = lists();
        let answer = harness.must("GET", page, "").await;
        assert!(answer.text.contains("enflame-gcu-resource-1"), "{page}: {}", answer.text);
        assert_eq!(lists(), before, "{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_the_same_page_at_once_shares_it_and_nobody_gets_anothers_language() {
    let harness = paused().await;
    // So that each reading of the records is a call.
    records::watch_with(&harness, Fault::Answer(503)).await;
    let before = records::reads(&harness);
    let languages = ["en", "zh-CN"];
    let pages = (0..50).map(|n| format!("/ui/gr/enflame-gcu-resource?lang={}", languages[n % 2]));
    let pages: Vec<String> = pages.collect();
    let answers = join_all(pages.iter().map(|page| harness.must("GET", page, ""))).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.text.contains(&format!("<html lang=\"{}\"", languages[n % 2])), "{}", answer.text);
    }
    assert_eq!(records::reads(&harness) - before, 2, "one reading of the records for each language");
}
