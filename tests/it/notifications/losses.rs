//! Nothing is lost: the service is killed at every call and every message, and started again. And nothing of an upgrade
//! waits for its receivers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use gcu_upgrade_manager::notifications::Settings;
use gcu_upgrade_manager::notifications::event::events;
use gcu_upgrade_manager::sandbox::world::World;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;
use crate::faults::{Call, Faults};
use crate::harness::{Backend, Harness};
use crate::scenarios::{in_virtual_time, tried};

const SINKS: &str = "sinks:\n- { name: hook, type: webhook, url: 'http://a.test' }\n\
                     - { name: chat, type: webhook, url: 'http://b.test' }";

/// When the service dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// At a call to the API server, before or after it has arrived there.
    Call(usize, bool),
    /// At a message, before or after the receiver has taken it.
    Message(usize, bool),
}

#[derive(Debug)]
struct Outcome {
    calls: Vec<Call>,
    messages: usize,
    /// By sink, the events of each id, in the order of their arrival.
    told: BTreeMap<String, Vec<Value>>,
    /// The ids that the record tells.
    expected: Vec<String>,
    took: Duration,
}

/// Receivers that take everything, behind a way on which the service may die.
struct Receivers {
    told: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
    messages: Arc<AtomicUsize>,
    faults: Faults,
    death: Option<Death>,
    /// They are not there: nothing is ever answered.
    down: bool,
}

impl Receivers {
    fn post(self: Arc<Self>, sink: &str) -> Post {
        let sink = sink.to_owned();
        Arc::new(move |request| {
            let (receivers, sink) = (self.clone(), sink.clone());
            Box::pin(async move {
                if receivers.down {
                    sleep(Duration::from_secs(30)).await;
                    return Err("no answer within 30s".to_owned());
                }
                let number = receivers.messages.fetch_add(1, Ordering::Relaxed);
                let dies = |after| receivers.death == Some(Death::Message(number, after));
                if dies(false) {
                    receivers.faults.die();
                    return std::future::pending().await;
                }
                let body = serde_json::from_slice(request.body()).unwrap();
                receivers.told.lock().unwrap().entry(sink).or_default().push(body);
                if dies(true) {
                    receivers.faults.die();
                    return std::future::pending().await;
                }
                Ok(Answer { status: StatusCode::OK, retry_after: None, body: String::new() })
            })
        })
    }
}

async fn upgrade(death: Option<Death>, down: bool) -> Outcome {
    let (file, _dir) = file(SINKS);
    let faults = Faults::new(Vec::new());
    let receivers = Arc::new(Receivers {
        told: Arc::default(),
        messages: Arc::default(),
        faults: faults.clone(),
        death,
        down,
    });
    if let Some(Death::Call(number, after)) = death {
        faults.die_at(number, after);
    }
    let world = World { nodes: 3, ..World::default() };
    let mut harness = Harness::set_without_service(Backend::Sandbox, world, faults.clone()).await.unwrap();
    let to = receivers.clone();
    harness.adjust = Box::new(move |parts| {
        let mut settings = Settings::new(file.clone(), &("kube-system".to_owned(), "gum".to_owned()));
        let to = to.clone();
        settings.connect = Arc::new(move |sink| to.clone().post(&sink.name));
        parts.notifications = Some(settings);
    });
    harness.start_service().await;
    harness.ready().await;
    harness.write("full.yaml", include_str!("../../../blueprints/gr-full.yaml"));
    // From here on the sinks are told of everything.
    let maps: Api<ConfigMap> = Api::namespaced(harness.client.clone(), "kube-system");
    while maps.get_opt("gum-notifications").await.unwrap().is_none() {
        harness.revive_if_dead().await;
        sleep(Duration::from_millis(100)).await;
    }
    let begun = Instant::now();
    let path = format!("/gum/v1/gr/{}", harness.gr());
    let body = json!({
        "file": "full.yaml", "components": ["devicePlugin"], "strategy": "RollingUpdate",
        "rollingUpdate": { "canary": 1, "maxUnavailable": 2 },
    });
    while harness.record(1).await.is_none() {
        harness.revive_if_dead().await;
        let answer = harness.call("PUT", &path, &body.to_string()).await;
        answer.iter().for_each(|a| assert!(a.status.is_success(), "{}", a.text));
    }
    let patience = Duration::from_secs(1800);
    harness
        .until("the gate", 1, patience, |r| {
            r.is_some_and(|r| r.phase() == Phase::Paused || r.phase().is_final())
        })
        .await;
    while harness.record(1).await.unwrap().spec.granted == 0 {
        harness.revive_if_dead().await;
        let answer = harness.call("POST", &format!("{path}/promote"), "").await;
        answer.iter().for_each(|a| assert!(a.status.is_success(), "{}", a.text));
    }
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let took = begun.elapsed();
    // Whoever dies now is started again, too.
    for _ in 0..60 {
        harness.revive_if_dead().await;
        sleep(Duration::from_secs(2)).await;
    }
    let record = harness.record(1).await.unwrap();
    Outcome {
        calls: faults.calls(),
        messages: receivers.messages.load(Ordering::Relaxed),
        told: receivers.told.lock().unwrap().clone(),
        expected: events(&record).into_iter().map(|event| event.id).collect(),
        took,
    }
}

fn assert_nothing_is_lost(outcome: &Outcome, most_doubles: usize) {
    for sink in ["hook", "chat"] {
        let told = outcome.told.get(sink).map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<&str> = told.iter().map(|body| body["id"].as_str().unwrap()).collect();
        let distinct: BTreeSet<&str> = ids.iter().copied().collect();
        let expected: BTreeSet<&str> = outcome.expected.iter().map(String::as_str).collect();
        assert_eq!(distinct, expected, "{sink}: nothing is lost, and nothing has two ids");
        assert!(ids.len() - distinct.len() <= most_doubles, "{sink}: doubles: {ids:?}");
        for id in distinct {
            let same: BTreeSet<String> = told
                .iter()
                .filter(|body| body["id"] == id)
                .map(|body| format!("{} {} {}", body["type"], body["time"], body["data"]["reason"]))
                .collect();
            assert_eq!(same.len(), 1, "{sink}: {same:?}");
        }
    }
}

#[test]
fn killed_at_any_step_it_loses_nothing_and_doubles_have_the_same_id() {
    let plain = in_virtual_time(upgrade(None, false));
    assert_eq!(plain.expected.len(), 4, "started, awaitingPromotion, resumed, ended");
    assert_nothing_is_lost(&plain, 0);
    assert_eq!(plain.messages, 8);
    // What is told follows from records and from what was told before: only there it matters when one dies.
    let of_ours = |call: &Call| call.path.contains("configmaps") || call.path.contains("gcuupgrades");
    let mut deaths: Vec<Death> = Vec::new();
    for (number, call) in plain.calls.iter().enumerate().filter(|(_, call)| of_ours(call)) {
        // Of what concerns the records every third is tried: the large matrix has them all.
        if call.path.contains("configmaps") || number % 3 == 0 {
            deaths.push(Death::Call(number, false));
            deaths.extend(call.is_write().then_some(Death::Call(number, true)));
        }
    }
    deaths.extend((0..plain.messages).flat_map(|n| [Death::Message(n, false), Death::Message(n, true)]));
    assert!(deaths.len() > 30, "{deaths:?}");
    let mut failed = Vec::new();
    let mut doubles = 0;
    for death in deaths {
        let outcome = tried(async {
            let outcome = upgrade(Some(death), false).await;
            assert_nothing_is_lost(&outcome, 2);
            outcome
        });
        match outcome {
            Ok(outcome) => doubles += outcome.told.values().map(Vec::len).sum::<usize>() - 8,
            Err(failure) => failed.push(format!("{death:?}: {failure}")),
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
    assert!(doubles > 0, "some die between a message and its entry");
}

#[test]
fn receivers_that_do_not_answer_delay_nothing() {
    let with = in_virtual_time(upgrade(None, true));
    let without = in_virtual_time(upgrade(None, false));
    assert!(with.told.is_empty() && with.expected.len() == 4);
    assert_eq!(with.took, without.took);
}
