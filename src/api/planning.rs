//! The plan: what a job would do, before anything is written.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;

use super::Context;
use super::auth::{self, May};
use super::body::Json;
use super::envelope::{ApiError, Reply};
use super::form::Form;
use super::gr::Found;
use super::live_reads::Seen;
use super::maintenance::Schedule;
use super::query::{JobQuery, PlanQuery};
use super::repeat::Key;
use super::request::{JobBody, Name};
use super::upgrade_request::UpgradeRequest;
use crate::explain::preview::{Ask, Preview, preview};
use crate::gr::{self, LiveGr, Workload};
use crate::observe::fleet::Interest;
use crate::observe::{live, pod_groups, volcano};
use crate::plan::fleet::Fleet;
use crate::plan::gangs::{Gang, KnownGangs};
use crate::plan::{impact, pins};
use crate::record::rolling::RollingUpdate;
use crate::record::{GcuUpgrade, Strategy};

/// So many jobs are asked how many restarts they survive.
const RESTARTS_READ: usize = 64;

/// `POST /gum/v1/gr/{name}/plan`: what `PUT` with this body would do.
pub(super) async fn plan(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    PlanQuery { set, override_window }: PlanQuery,
    Json(mut body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    body.merge_set(set)?;
    body.merge_override(override_window)?;
    let words = format!("{name} {form:?} {body:?}");
    let query = JobQuery { wait: None, dry_run: true, form };
    let planned = Box::pin(context.upgrade(&name, &body, query, Key(None)));
    context.shares.looks.reply_of_the_moment("plan", &words, planned).await
}

impl Context {
    /// Looks at as much of the cluster as the plan of a job needs: at what watches show where that only explains, and
    /// at the cluster itself where it `decides`.
    pub(super) async fn look_for(
        &self,
        found: Option<&Found>,
        job: &UpgradeRequest,
        decides: bool,
    ) -> Result<Arc<Seen>, ApiError> {
        let live = found.map(|f| &f.live);
        let interest = interest(live, job);
        let strategy = job.options.strategy;
        let asked = job.options.rolling_update.clone().unwrap_or_default();
        let RollingUpdate { drain, wait_for_jobs, gangs, .. } = asked;
        let options = RollingUpdate { drain, wait_for_jobs, gangs, ..RollingUpdate::default() };
        // Plans that differ in nothing else share a look. One that decides is shared by those who ask for the same.
        let words = match decides {
            true => format!("decides {:?} {interest:?}", job.options),
            false => format!("plans {strategy:?} {options:?} {interest:?}"),
        };
        let look = async {
            let _turn = self.shares.looks.turn().await?;
            let budgets = async {
                match strategy {
                    Strategy::RollingUpdate => self.budgets().await,
                    Strategy::Recreate => None,
                }
            };
            let fleet = async {
                match decides {
                    true => live::fleet(&self.client, &interest, &options).await,
                    false => self.fleet_of(&interest, &options).await,
                }
            };
            let (fleet, budgets) = tokio::join!(fleet, budgets);
            let fleet = fleet?;
            let gangs = match strategy {
                Strategy::RollingUpdate => Arc::new(self.gangs(&fleet, &options).await),
                Strategy::Recreate => Arc::default(),
            };
            let fleet = Fleet { own_node: self.own_node.clone(), gangs, ..fleet };
            Ok(Seen { fleet, budgets })
        };
        self.shares.looks.fleet(&words, Box::pin(look)).await
    }

    /// The gangs of the pods that would have to leave, with the restarts that they survive as far as these can be read.
    async fn gangs(&self, fleet: &Fleet, options: &RollingUpdate) -> KnownGangs {
        let pods = fleet.tenants.values().flatten().map(AsRef::as_ref);
        let mut gangs = KnownGangs::among(pods, options, self.clock.now());
        if pod_groups::keep_gangs(&self.client, &mut gangs).await.is_err() {
            gangs.keep(|_| false);
        }
        let counted: Vec<Gang> =
            gangs.all().filter(|gang| gang.counts_restarts()).take(RESTARTS_READ).cloned().collect();
        let reads = counted.iter().map(|gang| volcano::restarts_left(&self.client, gang));
        for (gang, restarts) in counted.iter().zip(join_all(reads).await) {
            if let Ok(Some(restarts)) = restarts {
                gangs.survives(gang, restarts);
            }
        }
        gangs
    }

    /// All nodes and the pods on them: as watches show them, else as they are read now.
    pub(super) async fn fleet_of(
        &self,
        interest: &Interest,
        options: &RollingUpdate,
    ) -> Result<Fleet, kube::Error> {
        match self.known.look(interest, options).await {
            Some(fleet) => Ok(fleet),
            None => live::fleet(&self.client, interest, options).await,
        }
    }

    /// Says what a job would do.
    pub(super) fn preview(
        name: &str,
        found: Option<&Found>,
        job: &UpgradeRequest,
        schedule: &Schedule,
        seen: &Seen,
        records: &[GcuUpgrade],
        now: Timestamp,
    ) -> Preview {
        let ask = Ask {
            gr: name,
            live: found.map(|f| &f.live),
            target: &job.target.manifest,
            strategy: job.options.strategy,
            options: &job.options.rolling_update.clone().unwrap_or_default(),
            fleet: &seen.fleet,
            budgets: seen.budgets.as_deref(),
            records,
            maintenance: schedule.minded(),
            need: schedule.need,
            now,
        };
        preview(&ask, &job.risks)
    }

    /// Refuses a RollingUpdate of components whose DaemonSets cannot be told for certain: their pods would be replaced
    /// on nodes that nobody has cordoned. The controller checks this too; here no record has to fail for it.
    pub(super) async fn refuse_unresolved(
        &self,
        found: Option<&Found>,
        job: &UpgradeRequest,
    ) -> Result<(), ApiError> {
        let (Some(found), Strategy::RollingUpdate) = (found, job.options.strategy) else { return Ok(()) };
        let live = &found.live;
        let sets = live::sets(&self.client, &interest(Some(live), job)).await?;
        let (from, to) = (&live.manifest, &job.target.manifest);
        let refused = pins::resolve(&impact::changes(from, to), from, to, live, &sets).refused;
        if refused.is_empty() {
            return Ok(());
        }
        let message = format!("a RollingUpdate is refused: {}; use strategy Recreate", refused.join("; "));
        Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message))
    }
}

/// What of the cluster a job concerns.
fn interest(live: Option<&LiveGr>, job: &UpgradeRequest) -> Interest {
    let there = live.map(|l| gr::workloads(&l.manifest, &l.status)).unwrap_or_default();
    let wanted = gr::workloads(&job.target.manifest, live.map_or(&Value::Null, |l| &l.status));
    Interest::default()
        .with_workloads(there)
        .with_workloads(wanted)
        .with_workloads(live.map(candidates).unwrap_or_default())
        .with_gr(live)
}

/// Whatever workloads a gr may have.
fn candidates(gr: &LiveGr) -> Vec<Workload> {
    gr::candidate_workloads(&gr.manifest, &gr.status)
}
