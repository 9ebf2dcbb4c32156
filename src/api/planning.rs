//! The plan: what a job would do, before anything is written.

use serde_json::Value;

use super::Context;
use super::auth::{self, May};
use super::body::Json;
use super::envelope::{ApiError, Reply};
use super::gr::Found;
use super::jobs::Job;
use super::query::{Form, JobQuery, NoQuery};
use super::request::{JobBody, Name};
use crate::gr;
use crate::observe::fleet::{self, Interest};
use crate::plan::preview::{Ask, Preview, preview};
use crate::record::{GcuUpgrade, Strategy};

/// `POST /gum/v1/gr/{name}/plan`: what `PUT` with this body would do.
pub(super) async fn plan(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    _: NoQuery,
    Json(body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    context.upgrade(&name, &body, JobQuery { wait: None, dry_run: true, form }).await
}

impl Context {
    /// Looks at the cluster and says what a job would do.
    pub(super) async fn preview(
        &self,
        name: &str,
        found: Option<&Found>,
        job: &Job,
        records: &[GcuUpgrade],
    ) -> Result<Preview, ApiError> {
        let options = job.manner.rolling_update.clone().unwrap_or_default();
        let live = found.map(|f| &f.live);
        let there = live.map(|l| gr::workloads(&l.manifest, &l.status)).unwrap_or_default();
        let wanted = gr::workloads(&job.target.manifest, live.map_or(&Value::Null, |l| &l.status));
        let interest = Interest::of_options(&options)
            .with_pod_labels()
            .with_node_labels(selector_keys(&job.target.manifest))
            .with_workloads(there)
            .with_workloads(wanted);
        let mut fleet = fleet::live(&self.client, &interest).await?;
        fleet.own_node.clone_from(&self.own_node);
        let budgets = match job.manner.strategy {
            Strategy::RollingUpdate => self.budgets().await,
            Strategy::Recreate => None,
        };
        let ask = Ask {
            gr: name,
            live,
            target: &job.target.manifest,
            strategy: job.manner.strategy,
            options: &options,
            fleet: &fleet,
            budgets: budgets.as_deref(),
            records,
        };
        Ok(preview(&ask, &job.warnings))
    }
}

/// The labels that any component's `nodeSelector` asks for.
fn selector_keys(manifest: &Value) -> Vec<String> {
    let selectors =
        gr::components(manifest).into_iter().filter_map(|c| c.fields.get("nodeSelector")?.as_object());
    selectors.flat_map(|s| s.keys().cloned()).collect()
}
