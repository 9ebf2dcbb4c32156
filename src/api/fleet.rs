//! `/gum/v1/gr/{name}/fleet`: the state of every node in one compact call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Context;
use super::auth::{self, May};
use super::envelope::{ApiError, Reply};
use super::query::FleetQuery;
use super::request::Name;
use crate::explain::fleet::{FleetView, fleet_view};
use crate::explain::obstacles::Why;
use crate::explain::why::why;
use crate::gr::{LiveGr, workloads};
use crate::observe::fleet::Interest;
use crate::plan::budget::Budget;
use crate::plan::fleet::Fleet;
use crate::plan::preflight;
use crate::record::{GcuUpgrade, Strategy};

/// `GET /gum/v1/gr/{name}/fleet`
pub(super) async fn fleet(
    context: May<auth::Get>,
    Name(name): Name,
    query: FleetQuery,
) -> Result<Reply, ApiError> {
    let looks = &context.shares.looks;
    let rendered = Box::pin(async {
        let seen = context.whole_fleet(&name, None).await?;
        let _turn = looks.turn_to_write().await?;
        Ok(Reply::compact(seen.view(&query.by).as_ref()))
    });
    looks.reply("fleet", &format!("{name} {}", query.by), rendered).await
}

/// What was seen of a gr and of all its nodes.
#[derive(Debug)]
pub(super) struct WholeFleet {
    /// The record under way, or the last.
    record: Option<GcuUpgrade>,
    live: Option<LiveGr>,
    fleet: Fleet,
    budgets: Option<Vec<Budget>>,
    /// What has been worked out of it, for all who look: by the label that nodes are grouped by.
    views: Mutex<BTreeMap<String, Arc<FleetView>>>,
    why: OnceLock<Option<Why>>,
}

/// Labels by which one look is kept worked out.
const VIEWS: usize = 8;

impl WholeFleet {
    /// The gr is there.
    pub(super) fn gr_is_there(&self) -> bool {
        self.live.is_some()
    }

    /// There is a version to roll back to.
    pub(super) fn can_go_back(&self, name: &str, records: &[GcuUpgrade]) -> bool {
        preflight::revision(name, records, None, self.live.as_ref()).is_ok()
    }

    /// How every node stands.
    pub(super) fn view(&self, by: &str) -> Arc<FleetView> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = views.get(by) {
            return view.clone();
        }
        if views.len() >= VIEWS {
            views.clear();
        }
        let view = Arc::new(fleet_view(self.record.as_ref(), self.live.as_ref(), &self.fleet, by));
        views.insert(by.to_owned(), view.clone());
        view
    }

    /// Why the upgrade that is under way is not progressing, as of about now.
    pub(super) fn why(&self, now: jiff::Timestamp) -> Option<&Why> {
        let worked_out = self.why.get_or_init(|| {
            let record = self.record.as_ref().filter(|r| !r.phase().is_final())?;
            Some(why(record, self.live.as_ref(), &self.fleet, self.budgets.as_deref(), now))
        });
        worked_out.as_ref()
    }
}

impl Context {
    /// Looks at all nodes of a gr, or takes a look that has just been taken. `records` are those of the gr, where they
    /// have been read already.
    pub(super) async fn whole_fleet(
        &self,
        name: &str,
        records: Option<&[GcuUpgrade]>,
    ) -> Result<Arc<WholeFleet>, ApiError> {
        let look = Box::pin(self.look_at_fleet(name, records));
        self.shares.looks.whole_fleet(name, look).await
    }

    async fn look_at_fleet(
        &self,
        name: &str,
        records: Option<&[GcuUpgrade]>,
    ) -> Result<WholeFleet, ApiError> {
        let _turn = self.shares.looks.turn().await?;
        let records = async {
            match records {
                Some(records) => Ok(records.to_vec()),
                None => self.shown_records(name).await,
            }
        };
        let (found, records) = tokio::join!(self.find_if_any(name), records);
        let (found, mut records) = (found?, records?);
        if records.is_empty() && found.is_none() {
            // The 404 in the cluster's own words.
            self.find(name).await?;
        }
        let live = found.map(|f| f.live);
        let at = records.iter().position(|r| !r.phase().is_final()).unwrap_or_default();
        let record = (at < records.len()).then(|| records.swap_remove(at));
        let rolls =
            preflight::active(record.as_slice()).is_some_and(|r| r.spec.strategy == Strategy::RollingUpdate);
        let budgets = async { if rolls { self.budgets().await } else { None } };
        let seen = self.seen_fleet(record.as_ref().filter(|_| rolls), live.as_ref());
        let (seen, budgets) = tokio::join!(seen, budgets);
        let (views, why) = Default::default();
        Ok(WholeFleet { record, live, fleet: seen?, budgets, views, why })
    }

    /// The nodes and pods of a gr: as the watches of the rollout under way show them, else as they are read now.
    pub(super) async fn seen_fleet(
        &self,
        rollout: Option<&GcuUpgrade>,
        live: Option<&LiveGr>,
    ) -> Result<Fleet, kube::Error> {
        if let Some(seen) = rollout.and_then(|record| self.known.fleet(record)) {
            return Ok(seen);
        }
        let interest = match rollout {
            Some(record) => Interest::of(record, live),
            None => Interest::default().with_gr(live),
        };
        let deployed = live.map(|l| workloads(&l.manifest, &l.status)).unwrap_or_default();
        let options = rollout.and_then(|r| r.spec.rolling_update.clone()).unwrap_or_default();
        self.fleet_of(&interest.with_workloads(deployed), &options).await
    }
}
