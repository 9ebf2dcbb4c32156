//! How a job starts: everything is checked that can be, then a record is made. From then on it survives us.

use axum::http::StatusCode;
use kube::api::{Api, ObjectMeta, PostParams};
use serde_json::Value;
use tracing::info;

use super::Context;
use super::auth::{self, May};
use super::body::Json;
use super::envelope::{ApiError, Reply, in_order};
use super::form::Form;
use super::gr::Found;
use super::maintenance::{Schedule, refuse_uncovered};
use super::query::{JobQuery, UpgradeQuery};
use super::repeat::Key;
use super::request::{JobBody, Name};
use super::upgrade_request::{Call, Job, PlannedJob, UnchangedJob, UpgradeRequest};
use super::waiting::Awaited;
use crate::blueprint::{Finding, check};
use crate::explain::risk::{Risk, RiskName};
use crate::gr::{LiveGr, api_version};
use crate::plan::preflight::{Refusal, Wanted};
use crate::plan::{impact, preflight};
use crate::record::size::{USER, shortened};
use crate::record::{
    FINALIZER, GcuUpgrade, GcuUpgradeSpec, Intent, Operation, Phase, Previous, Revision, Strategy,
};
use crate::telemetry::v1;

/// `PUT /gum/v1/gr/{name}`
pub(super) async fn upgrade(
    context: May<auth::Update>,
    Name(name): Name,
    query: UpgradeQuery,
    key: Key,
    Json(mut body): Json<JobBody>,
) -> Result<Reply, ApiError> {
    body.merge_set(query.set)?;
    body.merge_override(query.override_window)?;
    context.upgrade(&name, &body, query.job, key).await
}

impl Context {
    /// Upgrades to a blueprint, or says what that would do.
    pub(super) async fn upgrade(
        &self,
        name: &str,
        body: &JobBody,
        query: JobQuery,
        key: Key,
    ) -> Result<Reply, ApiError> {
        JobBody::refuse(body.revision.is_some(), "revision")?;
        // First what costs the cluster nothing.
        let named = self.named_version(name, body).await?;
        let options = body.options(None)?;
        let request = body.request(Operation::Upgrade, named.in_words(), key)?;
        let call = Call { gr: name, body, query, request };
        let records = self.records(name).await?;
        if let Some(reply) = self.repeated(&call, &records).await? {
            return Ok(reply);
        }
        // In the middle of a Recreate there is no gr.
        preflight::is_idle(name, &records)?;
        let found = self.find(name).await?;
        let blueprint = named.of(name, &found.live.manifest)?;
        let found = self.in_version_of(found, blueprint.manifest()).await?;
        let findings = check::check_against(&blueprint, &found.served, name);
        refuse_errors(&findings)?;
        let risk = if named.is_a_file() { Risk::of_finding } else { Risk::of_finding_without_place };
        let risks = blueprint.warnings().iter().chain(&findings).map(risk).collect();
        let manifest = match body.components.as_slice() {
            [] => blueprint.manifest().clone(),
            only => impact::only(&found.live.manifest, blueprint.manifest(), only)
                .map_err(|e| ApiError::bad_request(format!("components: {e}")))?,
        };
        let target = Revision {
            blueprint: body.file.clone(),
            sha256: named.is_a_file().then(|| blueprint.digest().to_owned()),
            of_revision: None,
            manifest,
        };
        let job = UpgradeRequest { operation: Operation::Upgrade, target, risks, options };
        self.start(&call, &records, Some(found), job).await
    }

    /// The gr, if there is one.
    pub(super) async fn find_if_any(&self, name: &str) -> Result<Option<Found>, ApiError> {
        match self.find(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Checks everything that can be checked, then creates the record: from then on the job survives us.
    pub(super) async fn start(
        &self,
        call: &Call<'_>,
        records: &[GcuUpgrade],
        found: Option<Found>,
        mut job: UpgradeRequest,
    ) -> Result<Reply, ApiError> {
        let (name, query) = (call.gr, call.query);
        let live = found.as_ref().map(|f| &f.live);
        let record_name = preflight::may_start(name, live, records, &job.target.manifest)?;
        if live.is_none() && job.options.strategy == Strategy::RollingUpdate {
            return Err(Refusal::Nothing(format!(
                "gr \"{name}\" is not there, so it cannot be changed in place: use strategy Recreate"
            ))
            .into());
        }
        let schedule = self.schedule(call.body, job.operation, records, &job)?;
        let some_nodes = schedule.is_for_some_nodes();
        // An API server may be slow: what does not depend on each other is asked side by side.
        let skew = async { Ok(self.skew().await) };
        let look = async {
            let seen = match query.dry_run || some_nodes {
                true => Some(self.look_for(found.as_ref(), &job, !query.dry_run).await?),
                false => None,
            };
            match query.dry_run {
                true => Ok((seen, Ok(()))),
                false => Ok((seen, self.refuse_unresolved(found.as_ref(), &job).await)),
            }
        };
        let tried = self.try_on(name, found.as_ref(), &job.target.manifest);
        let (tried, skew, (seen, resolved)) = tokio::try_join!(tried, skew, look)?;
        job.risks.extend(skew);
        let is_done = self.is_done(call, found.as_ref(), &job, tried.as_ref()).await?;
        if let Some(seen) = &seen {
            let _turn = self.shares.looks.turn_to_write().await?;
            let now = self.clock.now();
            let mut plan = Self::preview(name, found.as_ref(), &job, &schedule, seen, records, now);
            if some_nodes {
                refuse_uncovered(call, &schedule, &plan, seen)?;
            }
            if query.dry_run {
                plan.accept(&call.body.accept);
                let record = self.record(&record_name, live, job, schedule, call)?;
                if query.form == Form::Text {
                    return Ok(Reply::text(plan.to_string()));
                }
                let job = Job::of(&record, &plan.risks);
                let content = PlannedJob { job, dry_run: true, changed: !is_done, plan };
                return Ok(Reply::rendered(&in_order(content)));
            }
        }
        if is_done {
            return Ok(Reply::with(UnchangedJob::of(call, &job)));
        }
        resolved?;
        let (operation, risks) = (job.operation, job.risks.clone());
        let record = self.record(&record_name, live, job, schedule, call)?;
        let content = Job::of(&record, &risks);
        let api: Api<GcuUpgrade> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &record).await {
            Ok(created) => self.known.at_least(&created),
            // Creating the record is the lock: etcd lets one of two requests through.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                return self.lost_the_race(call, record_name).await;
            }
            Err(error) => return Err(error.into()),
        }
        info!(gr = name, record = %record_name, ?operation, by = self.asker.as_deref(), "recorded");
        if let Some(file) = &record.spec.target.blueprint {
            v1::upgrade_sent(name, file);
        }
        let awaited = Awaited { wanted: Wanted::Target, repeatable: true };
        self.answer(&record_name, awaited, content, query).await
    }

    /// Another request was faster. If it was the same, its job is this one's.
    async fn lost_the_race(&self, call: &Call<'_>, record: String) -> Result<Reply, ApiError> {
        let records = self.records(call.gr).await?;
        if let Some(reply) = self.repeated(call, &records).await? {
            return Ok(reply);
        }
        Err(Refusal::Busy { gr: call.gr.to_owned(), record, phase: Phase::Pending }.into())
    }

    /// Has the API server check the target as an update of the gr that stands there, or as a create, with
    /// its schema and its admission, before anything is deleted for it. With what it would come to, where that is
    /// known.
    async fn try_on(
        &self,
        name: &str,
        found: Option<&Found>,
        target: &Value,
    ) -> Result<Option<Value>, ApiError> {
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
                let object = serde_json::from_value(wanted).map_err(invalid)?;
                match self.gr_api(api_version(target)).create(&params, &object).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        return Err(self.not_served(api_version(target)).await);
                    }
                    tried => tried,
                }
            }
        };
        match tried {
            Ok(object) => Ok(serde_json::to_value(object).ok()),
            // The operator wrote its status in between: the manifest was not what was wrong.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(kube::Error::Api(status))
                if status.message.contains("dryRun") || status.message.contains("dry run") =>
            {
                info!(
                    gr = name,
                    "not tried on: an admission webhook does not support dry runs: {}", status.message
                );
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Context {
    /// The record of a job, as it is created.
    fn record(
        &self,
        name: &str,
        live: Option<&LiveGr>,
        job: UpgradeRequest,
        schedule: Schedule,
        call: &Call<'_>,
    ) -> Result<GcuUpgrade, Refusal> {
        let body = call.body;
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        };
        let spec = GcuUpgradeSpec {
            skip: Vec::new(),
            node_attempts: Default::default(),
            failure_threshold: job.options.failure_threshold,
            gr: call.gr.to_owned(),
            operation: job.operation,
            strategy: job.options.strategy,
            components: body.components.clone(),
            rolling_update: job.options.rolling_update,
            granted: 0,
            target: job.target,
            previous: live.map(|l| Previous { uid: l.uid.clone(), manifest: Value::clone(&l.manifest) }),
            intent: Intent::Run,
            attempt: 0,
            on_failure: body.on_failure,
            deadlines: body.deadlines(),
            maintenance: schedule.windows,
            override_window: schedule.overridden,
            took_before_seconds: schedule.took,
            reason: body.reason.clone(),
            accepted: accepted(&body.accept),
            requested_by: self.asker.as_deref().map(|by| shortened(by, USER)),
            steered_by: None,
            request: Some(call.request.clone()),
        };
        preflight::fits_a_record(&spec)?;
        Ok(GcuUpgrade { metadata, spec, status: None })
    }
}

/// Each once: a person may accept what the plan names for several components.
fn accepted(risks: &[RiskName]) -> Vec<String> {
    let mut names: Vec<String> = risks.iter().map(|risk| format!("{risk:?}")).collect();
    names.sort();
    names.dedup();
    names
}

fn refuse_errors(findings: &[Finding]) -> Result<(), ApiError> {
    let errors: Vec<String> = findings.iter().filter(|f| f.is_error()).map(Finding::to_string).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, errors.join("; ")))
}
