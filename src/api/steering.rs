//! The calls that steer a job: pause, resume, cancel, promote; rollback and retry where one is under way. Each
//! changes the `spec` of the active record and no more; [`crate::plan::commands`] says which is legal when.

use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tracing::info;

use super::Context;
use super::auth::{self, Guarded, May};
use super::body::Json;
use super::envelope::{ApiError, Reply};
use super::jobs::Job;
use super::query::JobQuery;
use super::request::{JobBody, Name, NoBody};
use super::waiting::{insert, location};
use crate::plan::commands::{Command, Effect};
use crate::plan::{impact, preflight};
use crate::record::{GcuUpgrade, Goal, Intent, Operation, Revision};

/// A command is decided on the version of the record that it then changes. The controller may write in between:
/// then it is decided again, so often.
const TRIES: usize = 20;

/// `POST /gum/v1/gr/{name}/pause`, and the other commands that take no body.
pub(super) fn plain(command: Command) -> MethodRouter<Guarded> {
    post(
        move |context: May<auth::Update>,
              Name(name): Name,
              query: JobQuery,
              Json(NoBody {}): Json<NoBody>| async move { context.command(&name, command, query).await },
    )
}

/// `POST /gum/v1/gr/{name}/rollback`: turns a running upgrade back, or returns to an earlier revision.
pub(super) async fn rollback(
    context: May<auth::Update>,
    Name(name): Name,
    query: JobQuery,
    Json(body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    JobBody::refuse(body.file.is_some(), "file")?;
    let records = context.records(&name).await?;
    if body.revision.is_none() && preflight::may(Command::Rollback, &name, &records)? != Effect::NewJob {
        body.refuse_options()?;
        return context.command(&name, Command::Rollback, query).await;
    }
    let target = preflight::revision(&name, &records, body.revision)?;
    context.again(&name, &records, Operation::Rollback, target, &body, query).await
}

/// `POST /gum/v1/gr/{name}/retry`: a fresh deadline for a held step, or the failed upgrade once more.
pub(super) async fn retry(
    context: May<auth::Update>,
    Name(name): Name,
    query: JobQuery,
    Json(body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    JobBody::refuse(body.file.is_some(), "file")?;
    JobBody::refuse(body.revision.is_some(), "revision")?;
    let records = context.records(&name).await?;
    match (preflight::may(Command::Retry, &name, &records)?, records.first()) {
        (Effect::NewJob, Some(last)) => {
            let target = preflight::again(last);
            context.again(&name, &records, Operation::Retry, target, &body, query).await
        }
        _ => {
            body.refuse_options()?;
            context.command(&name, Command::Retry, query).await
        }
    }
}

impl Context {
    /// Starts a job towards a revision on record, in the manner of the last job unless the body says otherwise.
    async fn again(
        &self,
        name: &str,
        records: &[GcuUpgrade],
        operation: Operation,
        mut target: Revision,
        body: &JobBody,
        query: JobQuery,
    ) -> Result<Reply, ApiError> {
        let found = self.find_if_any(name).await?;
        if !body.components.is_empty() {
            let Some(found) = &found else {
                return Err(ApiError::bad_request(format!(
                    "components: gr \"{name}\" is not there, so nothing but the whole of it can be brought back"
                )));
            };
            target.manifest = impact::only(&found.live.manifest, &target.manifest, &body.components)
                .map_err(|e| ApiError::bad_request(format!("components: {e}")))?;
        }
        // What is not there cannot be changed in place, however it was done before.
        let last = records.first().filter(|_| found.is_some());
        let mut manner = body.manner(last)?;
        if operation == Operation::Rollback
            && !body.says_how()
            && let Some(rolling) = &mut manner.rolling_update
        {
            // The version is known: whoever goes back in the middle of the night is not asked to promote.
            rolling.without_steps();
        }
        let job = Job { operation, target, warnings: Vec::new(), manner };
        self.start(name, found, job, body, query).await
    }

    /// Changes the `spec` of the active record as a command asks for.
    async fn command(&self, gr: &str, command: Command, query: JobQuery) -> Result<Reply, ApiError> {
        for _ in 0..TRIES {
            let records = self.records(gr).await?;
            let effect = preflight::may(command, gr, &records)?;
            // Where another record would have to be made, this one ended while we looked.
            let (Some(record), Some(mut change)) = (preflight::active(&records), change(effect)) else {
                continue;
            };
            let name = record.name_any();
            let mut content = json!({ "name": name, "upgrade": location(&name), "effect": says(effect) });
            if query.dry_run {
                insert(&mut content, "dryRun", json!(true));
                return Ok(Reply::with(content));
            }
            // Who steered before is not who steers now, even where nobody is asked.
            let steered = self.asker.as_ref().map(|by| json!({ "command": command.word(), "by": by }));
            insert(&mut change, "steeredBy", json!(steered));
            let patch = json!({
                "metadata": { "uid": record.uid(), "resourceVersion": record.resource_version() },
                "spec": change,
            });
            let api: Api<GcuUpgrade> = Api::all(self.client.clone());
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {
                    info!(record = %name, %change, "steered");
                    let goes_back = effect == Effect::TurnBack || is_turned_back(record);
                    return self.answer(&name, goes_back, content, query).await;
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the record of gr \"{gr}\" changed with every try to {}: try again", command.word()),
        ))
    }
}

fn is_turned_back(record: &GcuUpgrade) -> bool {
    record.status_or_default().goal == Goal::Previous || record.spec.intent == Intent::Rollback
}

fn change(effect: Effect) -> Option<Value> {
    match effect {
        Effect::Pause => Some(json!({ "intent": Intent::Pause })),
        Effect::Resume(intent) => Some(json!({ "intent": intent })),
        Effect::TurnBack => Some(json!({ "intent": Intent::Rollback })),
        Effect::Grant(steps) => Some(json!({ "granted": steps })),
        Effect::FreshDeadline(attempt) => Some(json!({ "attempt": attempt })),
        Effect::NewJob => None,
    }
}

fn says(effect: Effect) -> &'static str {
    match effect {
        Effect::Pause => {
            "no further node is taken; nodes whose pods are being replaced are finished, others are given back"
        }
        Effect::Resume(_) => "the upgrade goes on",
        Effect::TurnBack => "the previous version is put back wherever it was replaced",
        Effect::Grant(_) => "the next step begins",
        Effect::FreshDeadline(_) => "the held step goes on with a fresh deadline",
        Effect::NewJob => "",
    }
}
