//! Every scenario on a real API server in real time. It waits more than it computes: its name lets it begin early.

use std::time::Duration;

use crate::faults::Faults;
use crate::scenario;
use crate::scenarios::chosen;
use crate::stage::Backend;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_holds_on_a_real_api_server() {
    if crate::kube::real().await.is_none() {
        return;
    }
    let _alone = crate::kube::ALONE.lock().await;
    let all = chosen();
    for (number, (name, scenario)) in all.iter().enumerate() {
        if let Some(why) = &scenario.sandbox_only {
            println!("{name}: on the sandbox only: {why}");
            continue;
        }
        let begun = tokio::time::Instant::now();
        scenario::run(
            scenario,
            Backend::Real,
            Some(format!("s{number}")),
            Faults::new(Vec::new()),
            Duration::from_secs(2),
        )
        .await
        .unwrap();
        println!("{name}: {} ({:.1} s)", scenario.claim, begun.elapsed().as_secs_f32());
    }
}
