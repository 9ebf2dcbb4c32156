//! Every scenario on a real API server in real time. It waits more than it computes: its name lets it begin early.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

use crate::faults::Faults;
use crate::scenario;
use crate::scenarios::{chosen, said};
use crate::stage::Backend;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_holds_on_a_real_api_server() {
    if crate::kube::real().await.is_none() {
        return;
    }
    let _alone = crate::kube::ALONE.lock().await;
    let (all, mut failed) = (chosen(), Vec::new());
    for (number, (name, scenario)) in all.iter().enumerate() {
        if let Some(why) = &scenario.sandbox_only {
            println!("{name}: on the sandbox only: {why}");
            continue;
        }
        let begun = tokio::time::Instant::now();
        let run = scenario::run(
            scenario,
            Backend::Real,
            Some(format!("s{number}")),
            Faults::new(Vec::new()),
            Duration::from_secs(2),
        );
        // The first that fails does not hide the others.
        match AssertUnwindSafe(run).catch_unwind().await {
            Ok(end) => {
                end.unwrap();
                println!("{name}: {} ({:.1} s)", scenario.claim, begun.elapsed().as_secs_f32());
            }
            Err(failure) => {
                println!("{name}: FAILED after {:.1} s", begun.elapsed().as_secs_f32());
                failed.push(format!("{name}: {}", said(&*failure)));
            }
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
}
