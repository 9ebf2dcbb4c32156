//! Every scenario on the sandbox in virtual time, and on a real API server in real time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gcu_upgrade_manager::record::rolling::NODE_ANNOTATION;
use gcu_upgrade_manager::sandbox::actors::operator::OperatorBehaviour;
use gcu_upgrade_manager::sandbox::world::{World, documented_gr};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

use crate::faults::Faults;
use crate::harness::{Backend, Harness};
use crate::scenario::{self, Scenario};

#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the product")]
pub(crate) fn chosen() -> Vec<(String, Scenario)> {
    // `GUM_SCENARIO=rollback`: those whose name contains the word, on a real API server and in the crash matrix.
    let only = std::env::var("GUM_SCENARIO").unwrap_or_default();
    scenario::all().into_iter().filter(|(name, _)| name.contains(&only)).collect()
}

/// One scenario on the sandbox.
fn holds(name: &str) {
    let scenario = scenario::of(name);
    println!("{}", scenario.claim);
    let faults = Faults::new(Vec::new());
    in_virtual_time(scenario::run(&scenario, Backend::Sandbox, None, faults, Duration::from_secs(600)))
        .unwrap();
}

/// A test for each scenario file, of its name.
macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                super::holds(stringify!($name));
            }
        )*

        #[test]
        fn every_scenario_file_is_a_test() {
            let tests = [$(stringify!($name)),*];
            let files: Vec<String> = crate::scenario::all().into_iter().map(|(name, _)| name).collect();
            assert_eq!(files, tests, "tests/it/scenarios/on_the_sandbox.rs lists every file of tests/scenarios");
        }
    };
}

mod on_the_sandbox;

/// Each run has a runtime of its own, so that nothing of it lives on. No fault is worth an error in the log: those are
/// for what a person has to mend in the service itself.
pub(crate) fn in_virtual_time<T>(task: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let errors = Arc::new(Mutex::new(Vec::new()));
    let result = tracing::subscriber::with_default(Errors(errors.clone()), || runtime.block_on(task));
    assert_eq!(*errors.lock().unwrap(), Vec::<String>::new(), "errors were logged");
    result
}

/// The same for one of many: the first that fails does not hide the others.
pub(crate) fn tried<T>(task: impl Future<Output = T>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(|| in_virtual_time(task))).map_err(|failure| said(&*failure))
}

/// What a test said when it failed.
pub(crate) fn said(failure: &(dyn Any + Send)) -> String {
    let text = failure.downcast_ref::<String>().map(String::as_str);
    text.or(failure.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}

/// Collects the errors that are logged on the thread of the run, where all of its tasks are.
struct Errors(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Errors {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR && metadata.target().starts_with("gcu_upgrade_manager")
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::ERROR)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
#[should_panic(expected = "errors were logged")]
fn an_error_in_the_log_fails_a_scenario() {
    in_virtual_time(async { tracing::error!(target: "gcu_upgrade_manager::controller", "a worker died") });
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_killed_service_lives_on() {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let world = World {
        operator: OperatorBehaviour { finalizer_stuck: true, ..Default::default() },
        ..World::default()
    };
    let mut harness =
        Harness::set_without_service(Backend::Sandbox, world, Faults::new(Vec::new())).await.unwrap();
    std::fs::write(harness.blueprints.path().join("gr.json"), documented_gr().to_string()).unwrap();
    sleep(Duration::from_secs(60)).await;
    let before = alive();
    harness.start_service().await;
    harness.ready().await;
    let path = format!("/gum/v1/gr/{}", harness.gr());
    assert_eq!(harness.must("PUT", &path, r#"{"file":"gr.json","force":true}"#).await.status, 200);
    harness
        .until("the wait", 1, harness.backend.patience(), |r| {
            r.is_some_and(|r| r.status_or_default().waiting_on.is_some())
        })
        .await;
    assert!(alive() > before, "a running service has tasks");
    harness.kill();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(alive(), before, "tasks of the killed service are still alive");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_carries_the_claim_of_a_vanished_record_is_given_back_at_the_start() {
    let mut harness =
        Harness::set_without_service(Backend::Sandbox, World::default(), Faults::new(Vec::new()))
            .await
            .unwrap();
    let nodes: Api<Node> = Api::all(harness.client.clone());
    for (name, pre_cordoned) in [("node-1", false), ("node-2", true)] {
        let mark = json!({
            "record": "gone-1", "uid": "gone", "state": "Claimed", "attempt": 0,
            "deadline": "2026-01-01T00:00:00Z", "preCordoned": pre_cordoned,
        });
        let claim = json!({
            "metadata": { "annotations": { NODE_ANNOTATION: mark.to_string() } }, "spec": { "unschedulable": true },
        });
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(&claim)).await.unwrap();
    }
    nodes
        .patch(
            "node-3",
            &PatchParams::default(),
            &Patch::Merge(&json!({ "spec": { "unschedulable": true } })),
        )
        .await
        .unwrap();
    harness.start_service().await;
    harness.ready().await;
    sleep(Duration::from_secs(5)).await;
    for (name, cordoned) in [("node-1", false), ("node-2", true), ("node-3", true)] {
        let node = nodes.get(name).await.unwrap();
        assert!(!node.annotations().contains_key(NODE_ANNOTATION), "{name} is released");
        let is = node.spec.and_then(|s| s.unschedulable).unwrap_or_default();
        assert_eq!(is, cordoned, "{name}: a cordon of others stays");
    }
}
