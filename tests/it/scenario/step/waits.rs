//! What a scenario waits for.

use gcu_upgrade_manager::record::GcuUpgradeStatus;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::*;
use crate::harness::Backend;

pub(super) fn is_rolling_so(
    status: &GcuUpgradeStatus,
    prefix: &Option<String>,
    active: Option<&[String]>,
    claim: Option<&str>,
    done: Option<u32>,
) -> bool {
    let rolling = status.rolling.clone().unwrap_or_default();
    let mut nodes: Vec<&String> = rolling.active.iter().map(|c| &c.node).collect();
    nodes.sort();
    let wanted = active.map(|all| all.iter().map(|n| named(prefix, n)).collect::<Vec<_>>());
    wanted.is_none_or(|wanted| nodes == wanted.iter().collect::<Vec<_>>())
        && claim.is_none_or(|state| rolling.active.iter().any(|c| format!("{:?}", c.state) == state))
        && done.is_none_or(|done| rolling.nodes.done >= done)
}

impl Harness {
    /// Tries again and again, starting the process again as often as it dies.
    pub(super) async fn until_it(&mut self, what: &str, mut is: impl AsyncFnMut(&Self) -> bool) {
        let step = Duration::from_millis(if self.backend == Backend::Sandbox { 200 } else { 20 });
        let end = tokio::time::Instant::now() + self.backend.patience();
        loop {
            self.revive_if_dead().await;
            if is(self).await {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "{what} did not come");
            sleep(step).await;
        }
    }

    pub(super) async fn until_node(&mut self, what: &str, node: &str, wanted: [Option<bool>; 3]) {
        let name = named(&self.prefix(), node);
        self.until_it(what, async |harness| {
            let nodes: Api<Node> = Api::all(harness.client.clone());
            let Some(node) = nodes.get_opt(&name).await.unwrap() else { return false };
            let status = node.status.as_ref();
            let conditions = status.and_then(|s| s.conditions.as_ref());
            let offered = status.and_then(|s| s.allocatable.as_ref()?.get("enflame.com/gcu"));
            let is = [
                node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or_default(),
                conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"),
                offered.is_some_and(|q| q.0 != "0"),
            ];
            wanted.iter().zip(is).all(|(wanted, is)| wanted.is_none_or(|w| w == is))
        })
        .await;
    }

    pub(super) async fn until_gone(&mut self, what: &str, pod: &str) {
        let name = named(&self.prefix(), pod);
        self.until_it(what, async |harness| {
            let pods: Api<Pod> = Api::namespaced(harness.client.clone(), NAMESPACE);
            let pod = pods.get_opt(&name).await.unwrap();
            pod.is_none_or(|p| p.metadata.deletion_timestamp.is_some())
        })
        .await;
    }
}

/// While the API server is away, whatever needs it is answered 503 with the reason; `/livez` knows nothing of it.
/// Until it is back.
pub(super) async fn says_that_it_is_away(harness: &Harness) {
    let why = match harness.faults.away() {
        Some(Fault::Refuse) => "connection refused",
        Some(Fault::LoseAnswer) => "connection reset",
        Some(Fault::Hang) => "did not answer within 30s",
        Some(Fault::Answer(_) | Fault::Throttle(..)) => "made up by a fault",
        // Slow is not away.
        _ => "",
    };
    if !why.is_empty() {
        let cancel = format!("/gum/v1/gr/{}/cancel?dryRun=true", harness.gr());
        let answer = harness.must("POST", &cancel, "").await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.error().contains(why), "REST says {why:?}: {}", answer.text);
        assert_eq!(harness.must("GET", "/livez", "").await.status, 200);
    }
    while harness.faults.away().is_some() {
        sleep(Duration::from_secs(1)).await;
    }
}
