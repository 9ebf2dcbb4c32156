//! `?wait`: the answer to a call that starts or steers a job, at once or when the job has come to where it goes no
//! further by itself.

use std::time::Duration;

use axum::http::StatusCode;
use futures::StreamExt;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Context;
use super::envelope::{ApiError, Reply};
use super::query::JobQuery;
use super::records::Lenient;
use crate::plan::preflight::Wanted;
use crate::plan::progress::progress;
use crate::record::{GcuUpgrade, Phase};

impl Context {
    /// Answers for a record, after the wait that was asked for.
    pub(super) async fn answer(
        &self,
        record: &str,
        wanted: Wanted,
        mut content: Value,
        query: JobQuery,
    ) -> Result<Reply, ApiError> {
        let Some(patience) = query.wait else {
            return Ok(Reply::with(content).at(location(record)));
        };
        let goes_on = format!("{record} goes on, see {}", location(record));
        let ended = self.wait_as_asked(self.wait_for_end(record, wanted, patience), &goes_on).await?;
        let status = ended.status_or_default();
        if status.phase != Phase::Paused && !wanted.is_reached(status.phase) {
            let code = if status.phase == Phase::Failed {
                StatusCode::CONFLICT
            } else {
                StatusCode::INTERNAL_SERVER_ERROR
            };
            return Err(ApiError::new(
                code,
                format!("{}; see {}", progress(&ended, self.clock.now()).message, location(record)),
            ));
        }
        insert(&mut content, "phase", json!(status.phase));
        insert(&mut content, "message", json!(status.message));
        Ok(Reply::with(content).at(location(record)))
    }

    /// Waits as a caller has asked to: with a share of the waits, for as long as the caller may ask at all, and not for
    /// a replica that stops. `goes_on` says what does so even then.
    pub(super) async fn wait_as_asked<T>(
        &self,
        wait: impl Future<Output = Result<T, ApiError>>,
        goes_on: &str,
    ) -> Result<T, ApiError> {
        let _share = self.shares.wait(&self.patience)?;
        tokio::select! {
            done = wait => done,
            refusal = self.standing.lost(self) => Err(refusal.but(goes_on)),
            () = self.stop.cancelled() => {
                let message = format!("this replica is stopping; {goes_on}");
                Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(1))
            }
        }
    }

    /// Watches a record until it has ended, is held or is paused: then a person has to decide, so the wait is over.
    /// A hold or a pause from before the request does not count, and none does for whoever waits for the end alone.
    async fn wait_for_end(
        &self,
        name: &str,
        wanted: Wanted,
        patience: Duration,
    ) -> Result<GcuUpgrade, ApiError> {
        let api: Api<Lenient> = Api::all(self.client.clone());
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(api, only).default_backoff().applied_objects().boxed();
        let mut last: Option<GcuUpgrade> = None;
        let end = timeout(patience, async {
            while let Some(event) = events.next().await {
                let Ok(Lenient(record)) = event else { continue };
                let record = match record {
                    Ok(record) => record,
                    Err(unreadable) => return Err(unreadable.refusal()),
                };
                let status = record.status_or_default();
                let seen = status.observed_generation >= record.metadata.generation.unwrap_or_default();
                let rests = matches!(status.phase, Phase::Held | Phase::Paused) && wanted.ends_with_a_rest();
                if status.phase.is_final() || (rests && seen) {
                    return Ok(Some(record));
                }
                last = Some(record);
            }
            Ok(None)
        });
        match end.await {
            Ok(Ok(Some(record))) => return Ok(record),
            Ok(Err(refusal)) => return Err(refusal),
            Ok(Ok(None)) | Err(_) => {}
        }
        let waiting = last.map(|r| r.status_or_default().message).unwrap_or_default();
        Err(ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            format!("{name} has not ended after {patience:?} and goes on: {waiting}; see {}", location(name)),
        ))
    }
}

/// Where a record is to be seen.
pub(super) fn location(record: &str) -> String {
    format!("/gum/v1/upgrades/{record}")
}

/// Sets a field of an answer.
pub(super) fn insert(content: &mut Value, key: &str, value: Value) {
    if let Some(object) = content.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
