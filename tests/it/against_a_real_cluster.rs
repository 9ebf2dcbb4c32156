//! Every scenario on a real API server in real time. It waits more than it computes: its name lets it begin early.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::time::Instant;

use crate::faults::Faults;
use crate::harness::Backend;
use crate::kube::{OF_SCENARIOS, Plane};
use crate::scenario::{self, Scenario};
use crate::scenarios::{chosen, said};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_holds_on_a_real_api_server() {
    if OF_SCENARIOS[0].cluster().await.is_none() {
        return;
    }
    let (scenarios, failed) = (Mutex::new(chosen().into_iter().enumerate()), Mutex::new(Vec::new()));
    let next = || scenarios.lock().unwrap().next();
    join_all(OF_SCENARIOS.map(async |plane| {
        while let Some((number, (name, scenario))) = next() {
            // The first that fails does not hide the others.
            if let Err(failure) = holds(plane, number, &name, &scenario).await {
                failed.lock().unwrap().push(format!("{name}: {failure}"));
            }
        }
    }))
    .await;
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
}

async fn holds(plane: Plane, number: usize, name: &str, scenario: &Scenario) -> Result<(), String> {
    if let Some(why) = &scenario.sandbox_only {
        println!("{name}: on the sandbox only: {why}");
        return Ok(());
    }
    let begun = Instant::now();
    let (prefix, faults) = (format!("s{number}"), Faults::new(Vec::new()));
    let run = scenario::run(scenario, Backend::Real(plane), Some(prefix), faults, Duration::from_secs(2));
    let ended = AssertUnwindSafe(run).catch_unwind().await;
    let took = begun.elapsed().as_secs_f32();
    match ended {
        Ok(end) => {
            end.unwrap();
            println!("{name}: {} ({took:.1} s)", scenario.claim);
            Ok(())
        }
        Err(failure) => {
            println!("{name}: FAILED after {took:.1} s");
            let client = plane.cluster().await.unwrap().client().await;
            // A keeper that nobody serves would make the next ones fail too.
            let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client);
            webhooks.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
            Err(said(&*failure))
        }
    }
}
