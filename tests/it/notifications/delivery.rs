//! The way from a record to its receivers: who is told what and when, in virtual time.

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::metrics::Metrics;
use gcu_upgrade_manager::notifications::{Settings, run};
use gcu_upgrade_manager::record::{GcuUpgrade, crd};
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;

/// A cluster with records and nobody who works on them.
struct Ground {
    client: Client,
    clock: Clock,
    metrics: Metrics,
    file: (PathBuf, TempDir),
    running: JoinSet<()>,
    entries: Vec<Value>,
}

impl Ground {
    async fn new(sinks: &str) -> Self {
        let clock = Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap());
        let client = ApiServer::new(clock).client();
        Api::all(client.clone()).create(&PostParams::default(), &crd()).await.unwrap();
        let file = file(sinks);
        Self {
            client,
            clock,
            metrics: Metrics::default(),
            file,
            running: JoinSet::new(),
            entries: Vec::new(),
        }
    }

    fn start(&mut self, post: Post) {
        self.start_with(move |_| post.clone());
    }

    fn start_with(&mut self, connect: impl Fn(&str) -> Post + Send + Sync + 'static) {
        let lease = ("kube-system".to_owned(), "gum".to_owned());
        let mut settings = Settings::new(self.file.0.clone(), &lease);
        settings.connect = Arc::new(move |sink| connect(&sink.name));
        self.running.spawn(run(settings, self.client.clone(), self.clock, self.metrics.clone()));
    }

    async fn kill(&mut self) {
        self.running.shutdown().await;
    }

    fn records(&self) -> Api<GcuUpgrade> {
        Api::all(self.client.clone())
    }

    async fn create(&self, name: &str) {
        let record = json!({
            "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade", "metadata": { "name": name },
            "spec": { "gr": "pool", "operation": "Upgrade", "target": { "manifest": {} } },
        });
        let record = serde_json::from_value(record).unwrap();
        self.records().create(&PostParams::default(), &record).await.unwrap();
    }

    /// What an upgrade writes.
    async fn happens(&mut self, name: &str, message: &str) {
        let now = self.clock.now();
        self.entries.push(json!({ "at": now, "step": "Rolling", "message": message }));
        let started = self.entries[0]["at"].clone();
        let status =
            json!({ "status": { "phase": "Running", "startedAt": started, "timeline": self.entries } });
        let patch = Patch::Merge(status);
        self.records().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn ledger(&self) -> ConfigMap {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "kube-system");
        maps.get("gum-notifications").await.unwrap()
    }

    fn counted(&self, result: &str) -> u64 {
        let text = self.metrics.text(self.clock.now());
        let begin = format!("gum_notifications_total{{sink=\"ops\",result=\"{result}\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&begin)?.parse().ok())
            .unwrap_or_else(|| panic!("{text}"))
    }
}

const HOOK: &str = "sinks: [{ name: ops, type: webhook, url: 'http://a.test' }]";
const CHAT: &str = "sinks: [{ name: ops, type: wecom, url: 'http://a.test' }]";
const OK: Option<Says> = Some((200, None, r#"{"errcode":0}"#));
const MINUTE: Duration = Duration::from_secs(60);

fn types(receiver: &StandIn) -> Vec<String> {
    let kind =
        |body: &Value| body["type"].as_str().unwrap().trim_start_matches("com.enflame.gum.").to_owned();
    receiver.bodies().iter().map(kind).collect()
}

#[tokio::test(start_paused = true)]
async fn a_new_sink_is_told_of_what_happens_from_then_on() {
    let (mut ground, receiver) = (Ground::new(HOOK).await, StandIn::default());
    ground.create("pool-1").await;
    ground.happens("pool-1", "begins").await;
    ground.start(receiver.post(|_| OK));
    sleep(MINUTE).await;
    assert_eq!(types(&receiver), [""; 0], "history");
    ground.happens("pool-1", "held: why").await;
    ground.happens("pool-1", "going on").await;
    sleep(MINUTE).await;
    assert_eq!(types(&receiver), ["held", "resumed"]);
    // Another one, added later.
    let more =
        format!("{}, {{ name: late, type: webhook, url: 'http://b.test' }}]", HOOK.trim_end_matches(']'));
    std::fs::write(&ground.file.0, more).unwrap();
    sleep(MINUTE).await;
    ground.happens("pool-1", "held: again").await;
    sleep(MINUTE).await;
    assert_eq!(types(&receiver), ["held", "resumed", "held", "held"], "both, and nothing of before");
    assert_eq!(ground.ledger().await.data.unwrap().len(), 2);
    // And one that is gone is forgotten.
    std::fs::write(&ground.file.0, HOOK).unwrap();
    sleep(MINUTE).await;
    assert_eq!(ground.ledger().await.data.unwrap().into_keys().collect::<Vec<_>>(), ["ops"]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_next_goes_on_where_the_last_one_was() {
    let (mut ground, receiver) = (Ground::new(HOOK).await, StandIn::default());
    ground.start(receiver.post(|_| OK));
    sleep(MINUTE).await;
    ground.create("pool-1").await;
    ground.happens("pool-1", "begins").await;
    sleep(MINUTE).await;
    ground.kill().await;
    ground.happens("pool-1", "held: why").await;
    sleep(Duration::from_secs(3 * 3600)).await;
    ground.start(receiver.post(|_| OK));
    sleep(MINUTE).await;
    assert_eq!(types(&receiver), ["started", "held"]);
    assert_eq!(ground.counted("sent"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_arrive_is_tried_again_and_the_rest_goes_along() {
    let (mut ground, receiver) = (Ground::new(CHAT).await, StandIn::default());
    let limited = Some((200, None, r#"{"errcode":45009}"#));
    ground.start(receiver.post(move |n| match n {
        0 => None,
        1 => limited,
        _ => OK,
    }));
    sleep(MINUTE).await;
    let begun = Instant::now();
    ground.create("pool-1").await;
    ground.happens("pool-1", "begins").await;
    sleep(Duration::from_secs(40)).await;
    ground.happens("pool-1", "held: why").await;
    sleep(10 * MINUTE).await;
    let times: Vec<u64> = receiver.times().iter().map(|at| at.duration_since(begun).as_secs()).collect();
    assert_eq!(times, [1, 32, 92], "30 s without an answer and 1 s; then a minute, as it has had enough");
    let last = receiver.bodies()[2]["text"]["content"].as_str().unwrap().to_owned();
    assert!(last.contains("has started") && last.contains("is held"), "a digest: {last}");
    assert_eq!((ground.counted("sent"), ground.counted("failed"), ground.counted("dropped")), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn after_a_day_it_is_dropped_and_counted_and_what_is_newer_is_not() {
    let (mut ground, receiver) = (Ground::new(HOOK).await, StandIn::default());
    let up = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let says = up.clone();
    ground.start(receiver.post(move |_| {
        if says.load(std::sync::atomic::Ordering::Relaxed) { OK } else { Some((503, None, "")) }
    }));
    sleep(MINUTE).await;
    ground.create("pool-1").await;
    ground.happens("pool-1", "begins").await;
    sleep(Duration::from_secs(23 * 3600)).await;
    ground.happens("pool-1", "held: why").await;
    assert_eq!(ground.counted("dropped"), 0);
    sleep(Duration::from_secs(2 * 3600)).await;
    assert_eq!(ground.counted("dropped"), 1);
    assert!(receiver.times().len() < 350, "every five minutes: {}", receiver.times().len());
    up.store(true, std::sync::atomic::Ordering::Relaxed);
    sleep(10 * MINUTE).await;
    assert_eq!((types(&receiver).pop().unwrap().as_str(), ground.counted("sent")), ("held", 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_does_not_keep_others_for_a_day() {
    let (mut ground, receiver) = (Ground::new(HOOK).await, StandIn::default());
    let taken = receiver.clone();
    // It never takes the first event.
    ground.start(receiver.post(move |n| {
        let is_first = taken.bodies()[n]["type"] == "com.enflame.gum.started";
        if is_first { Some((422, None, "no")) } else { OK }
    }));
    sleep(MINUTE).await;
    ground.create("pool-1").await;
    ground.happens("pool-1", "begins").await;
    ground.happens("pool-1", "held: why").await;
    sleep(5 * MINUTE).await;
    assert_eq!((ground.counted("sent"), ground.counted("dropped")), (0, 0), "it may change its mind");
    sleep(20 * MINUTE).await;
    assert_eq!((ground.counted("sent"), ground.counted("dropped")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_does_not_keep_another_waiting_and_one_is_told_what_it_wants() {
    let both = "sinks:\n- { name: ops, type: webhook, url: 'http://a.test' }\n\
                - { name: few, type: webhook, url: 'http://b.test', events: [held] }";
    let mut ground = Ground::new(both).await;
    let (down, few) = (StandIn::default(), StandIn::default());
    let (one, other) = (down.post(|_| None), few.post(|_| OK));
    ground.start_with(move |name| if name == "ops" { one.clone() } else { other.clone() });
    sleep(MINUTE).await;
    ground.create("pool-1").await;
    ground.happens("pool-1", "begins").await;
    ground.happens("pool-1", "held: why").await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(types(&few), ["held"]);
    assert_eq!(types(&down), ["started"]);
    // What it did not want is not told when it wants more.
    std::fs::write(&ground.file.0, both.replace(", events: [held]", "")).unwrap();
    sleep(MINUTE).await;
    assert_eq!(types(&few), ["held"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_used_leaves_the_last_good_one() {
    let (mut ground, receiver) = (Ground::new(HOOK).await, StandIn::default());
    ground.start(receiver.post(|_| OK));
    sleep(MINUTE).await;
    std::fs::write(&ground.file.0, "sinks: [").unwrap();
    sleep(MINUTE).await;
    ground.create("pool-1").await;
    ground.happens("pool-1", "begins").await;
    sleep(MINUTE).await;
    assert_eq!(types(&receiver), ["started"]);
}
