//! In which maintenance windows a job is made: those asked for, or else the service's own.

use axum::http::StatusCode;

use super::Context;
use super::envelope::ApiError;
use super::live_reads::Seen;
use super::request::JobBody;
use super::upgrade_request::{Call, UpgradeRequest};
use crate::explain::preview::Preview;
use crate::plan::maintenance::{refusal, usual};
use crate::record::maintenance::Maintenance;
use crate::record::{GcuUpgrade, Operation};

/// The windows that the service is started with.
///
/// # Errors
/// What is wrong, by field.
pub fn parse(text: &str) -> Result<Maintenance, String> {
    super::request::maintenance(text)
}

/// When a job may touch nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Schedule {
    /// The windows.
    pub(super) windows: Option<Maintenance>,
    /// Why they are not minded.
    pub(super) overridden: Option<String>,
    /// How long it took before.
    pub(super) took: Vec<u32>,
    /// How many seconds what is next takes, where a window has to be long enough for it.
    pub(super) need: Option<u32>,
}

impl Schedule {
    /// The windows that are minded.
    pub(super) fn minded(&self) -> Option<&Maintenance> {
        self.windows.as_ref().filter(|_| self.overridden.is_none())
    }

    /// Whether there may be nodes that no window is for.
    pub(super) fn is_for_some_nodes(&self) -> bool {
        self.minded().is_some_and(|m| m.windows.iter().all(|w| !w.node_selector.is_empty()))
    }
}

impl Context {
    /// The windows of a job. Going back waits for none unless the request names them; a retry has those of the job that
    /// it repeats.
    ///
    /// # Errors
    /// They can never be met.
    pub(super) fn schedule(
        &self,
        body: &JobBody,
        operation: Operation,
        records: &[GcuUpgrade],
        job: &UpgradeRequest,
    ) -> Result<Schedule, ApiError> {
        let usual = || self.maintenance.as_deref().cloned();
        let windows = match (body.maintenance()?, operation) {
            (Some(asked), _) => Some(asked),
            (None, Operation::Upgrade) => usual(),
            (None, Operation::Retry) => {
                records.first().and_then(|last| last.spec.maintenance.clone()).or_else(usual)
            }
            (None, Operation::Rollback) => None,
        };
        let strategy = job.options.strategy;
        let took = if windows.is_some() { usual::took(records, strategy) } else { Vec::new() };
        let need =
            windows.as_ref().and_then(|w| usual::need_of(w.fit, strategy, took.clone(), &body.deadlines()));
        let schedule = Schedule { windows, overridden: body.override_window.clone(), took, need };
        if let Some(windows) = schedule.minded() {
            refusal::refuse(windows, strategy, need, self.clock.now())
                .map_err(|why| unfit(&format!("maintenance.{why}")))?;
        }
        Ok(schedule)
    }
}

/// Refuses windows that are not for all nodes concerned: the others would be waited for in vain.
pub(super) fn refuse_uncovered(
    call: &Call<'_>,
    schedule: &Schedule,
    plan: &Preview,
    seen: &Seen,
) -> Result<(), ApiError> {
    let Some(windows) = schedule.minded() else { return Ok(()) };
    let nodes = plan.nodes.iter().filter_map(|n| seen.node(&n.node)).map(|n| (n.name.as_str(), n));
    let uncovered = refusal::uncovered(windows, nodes, |node, wanted| node.labels.match_all(wanted));
    let Some(first) = uncovered.first() else { return Ok(()) };
    let others = match uncovered.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(" (and for {more} more nodes)"),
    };
    Err(unfit(&format!(
        "maintenance.windows: none is for node {first}{others}, which gr \"{}\" has to be upgraded on: add a window \
         without nodeSelector, or leave the node out with rollingUpdate.nodeSelector",
        call.gr
    )))
}

fn unfit(why: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, why.to_owned())
}
