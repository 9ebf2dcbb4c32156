//! How many pods would have to leave each node: the order in which nodes are taken goes by it. It only decides which
//! node comes first, and all the pods of the cluster are read for it, so it is read now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use super::Worker;
use crate::observe::live;
use crate::record::rolling::Order as Wanted;
use crate::record::{GcuUpgrade, Step, Strategy};

/// How long it is gone by.
const GOOD_FOR: Duration = Duration::from_secs(30 * 60);

/// The last count.
#[derive(Default)]
pub(super) struct Order(Option<(Arc<BTreeMap<String, usize>>, Instant)>);

impl Order {
    /// Counts, if the last count is too old.
    pub(super) async fn count(&mut self, client: &Client, record: &GcuUpgrade) -> Result<(), kube::Error> {
        if self.0.as_ref().is_none_or(|(_, at)| at.elapsed() >= GOOD_FOR) {
            let drain = &record.spec.rolling_options().drain;
            self.0 = Some((Arc::new(live::busy(client, drain).await?), Instant::now()));
        }
        Ok(())
    }

    /// The last count, by node; only nodes with such pods are named.
    pub(super) fn busy(&self) -> Option<Arc<BTreeMap<String, usize>>> {
        self.0.as_ref().map(|(busy, _)| busy.clone())
    }
}

impl Worker {
    /// Whether the next nodes are taken by it.
    pub(super) fn counts_tenants(&self) -> bool {
        let GcuUpgrade { spec, status, .. } = &self.record;
        let options = spec.rolling_options();
        spec.strategy == Strategy::RollingUpdate
            && status.as_ref().is_some_and(|s| s.step == Step::Rolling)
            && options.order == Wanted::IdleFirst
    }
}
