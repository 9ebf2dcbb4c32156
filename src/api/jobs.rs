//! The calls that start or steer a job: upgrade, rollback, retry. Each writes a record's `spec` and no more.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::info;

use super::Context;
use super::body::Json;
use super::envelope::{ApiError, Reply};
use super::gr::Found;
use super::request::{JobBody, JobQuery, Name};
use crate::blueprint::catalog::LoadError;
use crate::blueprint::{Finding, check};
use crate::plan::impact;
use crate::plan::preflight::{self, Retry};
use crate::record::{FINALIZER, GcuUpgrade, GcuUpgradeSpec, Intent, Operation, Phase, Previous, Revision};

/// `PUT /gum/v1/gr/{name}`
pub(super) async fn upgrade(
    State(context): State<Context>,
    Name(name): Name,
    query: JobQuery,
    Json(body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    JobBody::refuse(body.revision.is_some(), "revision")?;
    let file = body.file.as_deref().ok_or_else(|| {
        ApiError::bad_request(
            "file: the name of the blueprint to upgrade to is missing, for example {\"file\": \"gr.json\"}",
        )
    })?;
    // First what costs the cluster nothing.
    let blueprint = context.catalog.load(file).await?;
    let found = context.find(&name).await?;
    let findings = check::check_against(&blueprint, &found.served, &name);
    refuse_errors(&findings)?;
    let warnings = blueprint.warnings().iter().chain(&findings).map(Finding::to_string).collect();
    let manifest = match body.components.as_slice() {
        [] => blueprint.manifest().clone(),
        only => impact::only(&found.live.manifest, blueprint.manifest(), only)
            .map_err(|e| ApiError::bad_request(format!("components: {e}")))?,
    };
    let target = Revision {
        blueprint: Some(file.to_owned()),
        sha256: Some(blueprint.digest().to_owned()),
        of_revision: None,
        manifest,
    };
    let job = Job { operation: Operation::Upgrade, target, warnings };
    context.start(&name, Some(found), job, &body, query).await
}

/// `POST /gum/v1/gr/{name}/rollback`: turns a running upgrade back, or returns to an earlier revision.
pub(super) async fn rollback(
    State(context): State<Context>,
    Name(name): Name,
    query: JobQuery,
    Json(body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    JobBody::refuse(body.file.is_some(), "file")?;
    let records = context.records(&name).await?;
    if let (Some(running), None) = (preflight::active(&records), body.revision) {
        preflight::may_turn_back(running)?;
        return context.steer(running, json!({ "intent": Intent::Rollback }), true, query).await;
    }
    let target = preflight::revision(&name, &records, body.revision)?;
    let found = context.find_if_any(&name).await?;
    let job = Job { operation: Operation::Rollback, target, warnings: Vec::new() };
    context.start(&name, found, job, &body, query).await
}

/// `POST /gum/v1/gr/{name}/retry`: a fresh deadline for a held step, or the failed upgrade once more.
pub(super) async fn retry(
    State(context): State<Context>,
    Name(name): Name,
    query: JobQuery,
    Json(body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    JobBody::refuse(body.file.is_some(), "file")?;
    JobBody::refuse(body.revision.is_some(), "revision")?;
    let records = context.records(&name).await?;
    match preflight::retry(&name, &records)? {
        Retry::Held(record) => {
            let attempt = record.spec.attempt.max(record.status_or_default().attempt).saturating_add(1);
            let turned_back = record.spec.intent == Intent::Rollback;
            context.steer(record, json!({ "attempt": attempt }), turned_back, query).await
        }
        Retry::Again(target) => {
            let found = context.find_if_any(&name).await?;
            let job = Job { operation: Operation::Retry, target, warnings: Vec::new() };
            context.start(&name, found, job, &body, query).await
        }
    }
}

/// What is to be started.
struct Job {
    operation: Operation,
    target: Revision,
    warnings: Vec<String>,
}

impl Context {
    async fn find_if_any(&self, name: &str) -> Result<Option<Found>, ApiError> {
        match self.find(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Checks everything that can be checked, then creates the record: from then on the job survives us.
    async fn start(
        &self,
        name: &str,
        found: Option<Found>,
        job: Job,
        body: &JobBody,
        query: JobQuery,
    ) -> Result<Reply, ApiError> {
        let rolling_update = body.rolling_update()?;
        let records = self.records(name).await?;
        let live = found.as_ref().map(|f| &f.live);
        let record_name = preflight::may_start(name, live, &records, &job.target.manifest)?;
        self.try_on(name, found.as_ref(), &job.target.manifest).await?;
        let spec = GcuUpgradeSpec {
            gr: name.to_owned(),
            operation: job.operation,
            strategy: body.strategy,
            components: body.components.clone(),
            rolling_update,
            granted: 0,
            target: job.target,
            previous: live.map(|l| Previous { uid: l.uid.clone(), manifest: l.manifest.clone() }),
            intent: Intent::Run,
            attempt: 0,
            on_failure: body.on_failure,
            deadlines: body.deadlines(),
            reason: body.reason.clone(),
        };
        let record = GcuUpgrade {
            metadata: ObjectMeta {
                name: Some(record_name.clone()),
                finalizers: Some(vec![FINALIZER.to_owned()]),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        };
        let mut content = json!({
            "name": record_name,
            "upgrade": location(&record_name),
            "strategy": record.spec.strategy,
            "components": record.spec.components,
            "rollingUpdate": record.spec.rolling_update,
            "deadlines": record.spec.deadlines,
            "onFailure": record.spec.on_failure,
            "warnings": job.warnings,
        });
        if query.dry_run {
            insert(&mut content, "dryRun", json!(true));
            return Ok(Reply::with(content));
        }
        let api: Api<GcuUpgrade> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &record)
            .await
            .map_err(|e| lost_the_race(e, name, &record_name))?;
        info!(gr = name, record = %record_name, operation = ?job.operation, "recorded");
        self.answer(&record_name, false, content, query).await
    }

    /// Has the API server check the target as an update of the gr that stands there, or as a create, with
    /// its schema and its admission, before anything is deleted for it.
    async fn try_on(&self, name: &str, found: Option<&Found>, target: &Value) -> Result<(), ApiError> {
        let mut wanted = target.clone();
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let invalid =
            |e| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the manifest is no object: {e}"));
        let tried = match found {
            Some(found) => {
                let meta = wanted.get_mut("metadata").and_then(Value::as_object_mut);
                if let (Some(meta), Some(version)) = (meta, found.served.pointer("/metadata/resourceVersion"))
                {
                    meta.insert("resourceVersion".to_owned(), version.clone());
                }
                let object = serde_json::from_value(wanted).map_err(invalid)?;
                found.api.replace(name, &params, &object).await
            }
            None => {
                let api_version = target.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
                let object = serde_json::from_value(wanted).map_err(invalid)?;
                self.gr_api(api_version).create(&params, &object).await
            }
        };
        match tried {
            Ok(_) => Ok(()),
            // The operator wrote its status in between: the manifest was not what was wrong.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(kube::Error::Api(status))
                if status.message.contains("dryRun") || status.message.contains("dry run") =>
            {
                info!(
                    gr = name,
                    "not tried on: an admission webhook does not support dry runs: {}", status.message
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the `spec` of an active record.
    async fn steer(
        &self,
        record: &GcuUpgrade,
        change: Value,
        turned_back: bool,
        query: JobQuery,
    ) -> Result<Reply, ApiError> {
        let name = record.name_any();
        let mut content = json!({ "name": name, "upgrade": location(&name) });
        if query.dry_run {
            insert(&mut content, "dryRun", json!(true));
            return Ok(Reply::with(content));
        }
        // Guarded by the uid and not by the version: the controller writes status all the time. A record
        // that ends in this very moment ignores the change, and its answer says how it ended.
        let patch = json!({ "metadata": { "uid": record.uid() }, "spec": change });
        let api: Api<GcuUpgrade> = Api::all(self.client.clone());
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        info!(record = %name, %change, "steered");
        self.answer(&name, turned_back, content, query).await
    }

    async fn answer(
        &self,
        record: &str,
        turned_back: bool,
        mut content: Value,
        query: JobQuery,
    ) -> Result<Reply, ApiError> {
        let Some(patience) = query.wait else {
            return Ok(Reply::with(content).at(location(record)));
        };
        let ended = self.wait_for_end(record, patience).await?;
        let status = ended.status_or_default();
        if !preflight::is_success(turned_back, status.phase) {
            let code = if status.phase == Phase::Failed {
                StatusCode::CONFLICT
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            return Err(ApiError::new(
                code,
                format!("{record} is {:?}: {}; see {}", status.phase, status.message, location(record)),
            ));
        }
        insert(&mut content, "phase", json!(status.phase));
        insert(&mut content, "message", json!(status.message));
        Ok(Reply::with(content).at(location(record)))
    }

    /// Watches a record until it has ended or is held: then a person has to decide, so the wait is over.
    /// A hold from before a retry does not count.
    async fn wait_for_end(&self, name: &str, patience: Duration) -> Result<GcuUpgrade, ApiError> {
        let api: Api<GcuUpgrade> = Api::all(self.client.clone());
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(api, only).default_backoff().applied_objects().boxed();
        let mut last: Option<GcuUpgrade> = None;
        let end = timeout(patience, async {
            while let Some(event) = events.next().await {
                let Ok(record) = event else { continue };
                let status = record.status_or_default();
                let seen = status.observed_generation >= record.metadata.generation.unwrap_or_default();
                if status.phase.is_final() || (status.phase == Phase::Held && seen) {
                    return Some(record);
                }
                last = Some(record);
            }
            None
        });
        if let Ok(Some(record)) = end.await {
            return Ok(record);
        }
        let waiting = last.map(|r| r.status_or_default().message).unwrap_or_default();
        Err(ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("{name} has not ended after {patience:?} and goes on: {waiting}; see {}", location(name)),
        ))
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        let status = match &error {
            LoadError::BadName { .. } => StatusCode::BAD_REQUEST,
            LoadError::NotFound { .. } => StatusCode::NOT_FOUND,
            LoadError::Unreadable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            LoadError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}

fn refuse_errors(findings: &[Finding]) -> Result<(), ApiError> {
    let errors: Vec<String> = findings.iter().filter(|f| f.is_error()).map(Finding::to_string).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, errors.join("; ")))
}

/// Creating the record is the lock: etcd lets one of two requests through.
fn lost_the_race(error: kube::Error, gr: &str, record: &str) -> ApiError {
    match &error {
        kube::Error::Api(status) if status.reason == "AlreadyExists" => {
            preflight::Refusal::Busy { gr: gr.to_owned(), record: record.to_owned(), phase: Phase::Pending }
                .into()
        }
        _ => error.into(),
    }
}

fn location(record: &str) -> String {
    format!("/gum/v1/upgrades/{record}")
}

fn insert(content: &mut Value, key: &str, value: Value) {
    if let Some(object) = content.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
