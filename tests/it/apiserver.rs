//! The sandbox's API server as its clients use it: through kube, in virtual time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt};
use gcu_upgrade_manager::{
    clock::Clock,
    sandbox::{
        apiserver::ApiServer,
        store::{Change, ChangeKind},
    },
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Namespace, Node, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{
        DeleteParams, EvictParams, ListParams, LogParams, ObjectMeta, Patch, PatchParams, PostParams,
        WatchEvent, WatchParams,
    },
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

fn server() -> ApiServer {
    ApiServer::new(Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap()))
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.into()), ..Default::default() }, ..Default::default() }
}

async fn next_name<S: Stream<Item = watcher::Result<ConfigMap>> + Unpin>(stream: &mut S) -> String {
    loop {
        if let Some(Ok(object)) = stream.next().await {
            return object.name_any();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_sees_changes_and_survives_compaction() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    maps.create(&PostParams::default(), &config_map("one")).await.unwrap();
    let mut seen =
        Box::pin(watcher(maps.clone(), watcher::Config::default()).default_backoff().applied_objects());
    assert_eq!(next_name(&mut seen).await, "one");
    maps.create(&PostParams::default(), &config_map("two")).await.unwrap();
    assert_eq!(next_name(&mut seen).await, "two");
    // Two hours of silence: bookmarks and new watches, but nothing to tell.
    let silence = tokio::time::timeout(Duration::from_secs(7200), seen.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    maps.create(&PostParams::default(), &config_map("three")).await.unwrap();
    server.store().compact();
    // The watch is told 410, the watcher lists again.
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(next_name(&mut seen).await);
    }
    again.sort();
    assert_eq!(again, ["one", "three", "two"]);
}

#[tokio::test(start_paused = true)]
async fn every_change_is_told_in_order_with_who_made_it() {
    let server = server();
    let told: Arc<Mutex<Vec<Change>>> = Arc::default();
    let sink = told.clone();
    server.store().on_change(move |change: &Change| {
        sink.lock().unwrap().push(change.clone());
    });
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client_as("alice"));
    maps.create(&PostParams::default(), &config_map("one")).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"a": "b"}}));
    maps.patch("one", &PatchParams::default(), &patch).await.unwrap();
    maps.patch("one", &PatchParams::default(), &patch).await.unwrap();
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    let told = told.lock().unwrap();
    let kinds: Vec<ChangeKind> = told.iter().map(|change| change.kind).collect();
    assert_eq!(
        kinds,
        [ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted],
        "no-ops change nothing"
    );
    assert!(told.iter().all(|change| change.actor.as_deref() == Some("alice")));
    assert!(told.is_sorted_by_key(|change| change.resource_version));
}

/// The size of the largest cluster that is promised: it must list and filter in reasonable time.
#[tokio::test(start_paused = true)]
async fn it_carries_five_thousand_nodes_and_thirty_thousand_pods() {
    let server = server();
    let client = server.client();
    let nodes: Api<Node> = Api::all(client.clone());
    for index in 0..5000 {
        let node = json!({"metadata": {"name": format!("node-{index:04}")}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    }
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for index in 0..30_000 {
        let pod = json!({
            "metadata": {"name": format!("pod-{index:05}"), "labels": {"app": format!("app-{}", index % 6)}},
            "spec": {"nodeName": format!("node-{:04}", index % 5000), "containers": [{"name": "c", "image": "i:1"}]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    }
    assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), 5000);
    let on_one = ListParams::default().fields("spec.nodeName=node-0007");
    assert_eq!(pods.list(&on_one).await.unwrap().items.len(), 6);
    let of_app = ListParams::default().labels("app in (app-1,app-2)").limit(500);
    let page = pods.list(&of_app).await.unwrap();
    assert_eq!(page.items.len(), 500);
    assert!(page.metadata.continue_.is_some());
}

#[tokio::test(start_paused = true)]
async fn pages_and_watches_from_before_a_compaction_are_expired() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    for name in ["one", "two", "three"] {
        maps.create(&PostParams::default(), &config_map(name)).await.unwrap();
    }
    let page = maps.list(&ListParams::default().limit(1)).await.unwrap();
    let version = page.metadata.resource_version.unwrap();
    maps.create(&PostParams::default(), &config_map("four")).await.unwrap();
    server.store().compact();
    let next = ListParams::default().limit(1).continue_token(&page.metadata.continue_.unwrap());
    assert_eq!(code(maps.list(&next).await), 410);
    let mut events = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let event = events.next().await.unwrap().unwrap();
    assert!(matches!(&event, WatchEvent::Error(status) if status.code == 410), "{event:?}");
    assert!(events.next().await.is_none(), "the stream ends after the error");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_carry_a_quiet_watch_over_a_compaction() {
    let server = server();
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let nodes: Api<Node> = Api::all(server.client());
    let mut events = maps.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    let node = json!({"metadata": {"name": "elsewhere"}});
    nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
    let event = events.next().await.unwrap().unwrap();
    let WatchEvent::Bookmark(bookmark) = event else { panic!("{event:?}") };
    assert_eq!(bookmark.metadata.resource_version, server.store().resource_version().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_counts_its_generations_and_those_of_its_template() {
    let sets: Api<DaemonSet> = Api::default_namespaced(server().client());
    let set = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}},
    }});
    let counts = |set: &DaemonSet| {
        (
            set.metadata.generation.unwrap(),
            set.annotations()["deprecated.daemonset.template.generation"].clone(),
        )
    };
    let made = sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    assert_eq!(counts(&made), (1, "1".to_owned()));
    let strategy =
        Patch::Strategic(json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}}));
    let held = sets.patch("d", &PatchParams::default(), &strategy).await.unwrap();
    assert_eq!(counts(&held), (2, "1".to_owned()));
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}});
    let rolled = sets.patch("d", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    assert_eq!(counts(&rolled), (3, "2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_disruption_budget_is_kept_up_to_date_and_spent() {
    let server = server();
    let pods: Api<Pod> = Api::default_namespaced(server.client());
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(server.client());
    let budget = json!({"metadata": {"name": "b"}, "spec": {
        "maxUnavailable": 1, "selector": {"matchLabels": {"app": "x"}},
    }});
    budgets.create(&PostParams::default(), &serde_json::from_value(budget).unwrap()).await.unwrap();
    for name in ["one", "two"] {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": "x"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i:1"}]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let status =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
    }
    let allowed = async || budgets.get("b").await.unwrap().status.unwrap().disruptions_allowed;
    assert_eq!(allowed().await, Some(1));
    pods.evict("one", &EvictParams::default()).await.unwrap();
    assert_eq!(allowed().await, Some(0));
    assert_eq!(code(pods.evict("two", &EvictParams::default()).await), 429);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_fails_loudly() {
    let pods: Api<Pod> = Api::default_namespaced(server().client());
    assert_eq!(code(pods.logs("any", &LogParams::default()).await), 501);
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_what_is_there_and_says_where_that_ends_where_the_server_is_not_old() {
    let clock = || Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
    let streaming = || watcher::Config::default().streaming_lists();
    let namespaces: Api<Namespace> = Api::all(ApiServer::new(clock()).client());
    let mut events = watcher(namespaces, streaming()).boxed();
    let mut told = 0;
    while !matches!(events.next().await.unwrap().unwrap(), watcher::Event::InitDone) {
        told += 1;
    }
    assert_eq!(told, 1 + 4, "the beginning, and the namespaces that every cluster has");
    let namespaces: Api<Namespace> = Api::all(ApiServer::old(clock()).client());
    let refused = watcher(namespaces, streaming()).boxed().next().await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("resourceVersionMatch is forbidden for watch"), "{refused}");
}

fn code<T>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was allowed"),
    }
}
