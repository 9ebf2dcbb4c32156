//! Which pods would have to leave each node: the order in which nodes are taken goes by how many they are, and nodes
//! with pods of one gang are taken together. All the pods of the cluster are read for it, so it is read now and then;
//! before a pod of a gang is evicted, it is read where the others are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use kube::Client;
use tokio::time::Instant;

use super::{LoopOutcome, Worker};
use crate::observe::live;
use crate::plan::fleet::Fleet;
use crate::plan::gangs::{Gang, KnownGangs};
use crate::record::rolling::Order as Wanted;
use crate::record::{GcuUpgrade, Step, Strategy};

/// How long it is gone by.
const GOOD_FOR: Duration = Duration::from_secs(30 * 60);

/// The last count.
#[derive(Default)]
pub(super) struct Order {
    busy: Option<Arc<BTreeMap<String, usize>>>,
    gangs: Arc<KnownGangs>,
    at: Option<Instant>,
}

impl Order {
    /// Counts, if the last count is too old.
    pub(super) async fn count(&mut self, client: &Client, record: &GcuUpgrade) -> Result<(), kube::Error> {
        if self.at.is_none_or(|at| at.elapsed() >= GOOD_FOR) {
            let leaving = live::all_leaving(client, record.spec.rolling_options()).await?;
            (self.busy, self.gangs) = (Some(Arc::new(leaving.busy)), Arc::new(leaving.gangs));
            self.at = Some(Instant::now());
        }
        Ok(())
    }

    /// Adds what is known.
    pub(super) fn complete(&self, fleet: &mut Fleet) {
        fleet.busy.clone_from(&self.busy);
        fleet.gangs.clone_from(&self.gangs);
    }
}

impl Worker {
    /// Reads where the pods of these gangs are: then it is decided again.
    pub(super) async fn read_gangs(&mut self, gangs: BTreeSet<Gang>) -> Result<LoopOutcome, kube::Error> {
        let (now, options) = (self.context.clock.now(), self.record.spec.rolling_options());
        let reads = gangs.into_iter().map(async |gang| {
            let members = live::gang(&self.context.client, &gang, options, now).await?;
            Ok::<_, kube::Error>((gang, members))
        });
        match try_join_all(reads).await {
            Ok(read) => {
                let known = Arc::make_mut(&mut self.order.gangs);
                for (gang, members) in read {
                    match members {
                        Some(members) => known.put(gang, members),
                        None => known.is_none(gang),
                    }
                }
                Ok(LoopOutcome::Again)
            }
            Err(error) => Err(self.say_that_it_cannot_look(error).await),
        }
    }

    /// Whether the next nodes are taken by it.
    pub(super) fn counts_tenants(&self) -> bool {
        let GcuUpgrade { spec, status, .. } = &self.record;
        let options = spec.rolling_options();
        spec.strategy == Strategy::RollingUpdate
            && status.as_ref().is_some_and(|s| s.step == Step::Rolling)
            && (options.order != Wanted::Name || options.minds_gangs())
    }
}
