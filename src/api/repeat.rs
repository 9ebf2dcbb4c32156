//! What is safe to repeat: a request that began a job finds it again, and one that asks for what is there does nothing.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::Context;
use super::body::insert;
use super::envelope::{ApiError, Reply};
use super::gr::Found;
use super::request::{JobBody, bad};
use super::upgrade_request::{Call, Job, UpgradeRequest};
use super::waiting::{Awaited, Stands, outcome};
use crate::gr::clean;
use crate::plan::preflight::Wanted;
use crate::plan::repeat::begun_by;
use crate::record::{GcuUpgrade, Operation, Phase, Request};

const HEADER: &str = "Idempotency-Key";

/// The header `Idempotency-Key`, with or without the quotation marks of a structured field.
#[derive(Clone, Debug)]
pub(super) struct Key(pub(super) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if values.next().is_some() {
            return Err(bad(HEADER, "given twice"));
        }
        let text = value.to_str().unwrap_or_default();
        let key = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        if !Request::is_key(key) {
            let limit = Request::KEY_LIMIT;
            let what = format!(
                "must be 1 to {limit} letters, digits or any of . _ ~ : / + = @ -, for example a UUID"
            );
            return Err(bad(HEADER, &what));
        }
        Ok(Self(Some(key.to_owned())))
    }
}

impl JobBody {
    /// What a repetition of this request is known by. `version` is what is to be brought about, in the request's own
    /// words or as a manifest; what a rollback or a retry takes from the job before it is not part of it.
    pub(super) fn request(
        &self,
        operation: Operation,
        version: Value,
        key: Key,
    ) -> Result<Request, ApiError> {
        let options = match operation {
            Operation::Upgrade => {
                let options = self.options(None)?;
                json!([options.strategy, options.rolling_update, options.failure_threshold])
            }
            Operation::Rollback | Operation::Retry => self.own_options()?,
        };
        let mut asked = json!({
            "operation": operation,
            "version": version,
            "options": options,
            "components": self.components,
            "onFailure": self.on_failure,
            "deadlines": self.deadlines(),
            "reason": self.reason,
            "force": self.force,
        });
        // What was not there when requests were first told apart is part of one only where it is asked for.
        if let Some(windows) = self.maintenance()? {
            insert(&mut asked, "maintenance", json!(windows));
        }
        if let Some(why) = &self.override_window {
            insert(&mut asked, "overrideWindow", json!(why));
        }
        Ok(Request::of(&asked, key.0))
    }
}

impl Context {
    /// The answer to a request that has begun a job already: that job's.
    pub(super) async fn repeated(
        &self,
        call: &Call<'_>,
        records: &[GcuUpgrade],
    ) -> Result<Option<Reply>, ApiError> {
        if call.query.dry_run {
            return Ok(None);
        }
        let Some(record) = begun_by(call.gr, records, &call.request, self.clock.now())? else {
            return Ok(None);
        };
        if call.request.idempotency_key.is_none() && record.phase() == Phase::Succeeded {
            let found = self.find_if_any(call.gr).await?;
            let stands = found.is_some_and(|f| f.live.stands_at(&record.spec.target.manifest));
            if !stands || self.has_outdated_pods(call.gr).await? {
                return Ok(None);
            }
        }
        let mut content = Job::of(record, &[]).repeated();
        if record.phase().is_final() {
            let again = "this request has begun it already: send it with an Idempotency-Key of its own to \
                         begin another";
            return outcome(record, Wanted::Target, content, self.clock.now())
                .map(Some)
                .map_err(|error| error.but(again));
        }
        let status = record.status_or_default();
        content.stands(status.phase, status.message);
        let awaited = Awaited { wanted: Wanted::Target, repeatable: true };
        self.answer(&record.name_any(), awaited, content, call.query).await.map(Some)
    }

    /// Whether the job would change nothing: the gr asks for this version already, in words of its own or in those that
    /// the API server makes of the target, and no pod is left of another.
    pub(super) async fn is_done(
        &self,
        call: &Call<'_>,
        found: Option<&Found>,
        job: &UpgradeRequest,
        tried: Option<&Value>,
    ) -> Result<bool, ApiError> {
        let Some(found) = found.filter(|_| !call.body.force && job.operation != Operation::Retry) else {
            return Ok(false);
        };
        let as_served = tried.map(clean);
        let same = found.live.stands_at(&job.target.manifest)
            || as_served.is_some_and(|target| found.live.stands_at(&target));
        Ok(same && !self.has_outdated_pods(call.gr).await?)
    }
}
