//! `?wait`: the answer to a call that starts or steers a job, at once or when the job has come to where it goes no
//! further by itself.

use std::time::Duration;

use axum::http::StatusCode;
use futures::StreamExt;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde::Serialize;
use tokio::time::timeout;

use super::Context;
use super::envelope::{ApiError, Reply};
use super::query::JobQuery;
use super::records::Lenient;
use crate::explain::progress::progress;
use crate::plan::preflight::Wanted;
use crate::record::{GcuUpgrade, Phase};

/// What a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    /// The end that counts as a success.
    pub(super) wanted: Wanted,
    /// The same request finds its job again: it may be sent once more when this replica stops.
    pub(super) repeatable: bool,
}

/// What is answered for a record, which says where that stands once it has been waited for.
pub(super) trait Stands: Serialize {
    /// Says where the record stands.
    fn stands(&mut self, phase: Phase, message: String);
}

impl Context {
    /// Answers for a record, after the wait that was asked for.
    pub(super) async fn answer(
        &self,
        record: &str,
        awaited: Awaited,
        content: impl Stands,
        query: JobQuery,
    ) -> Result<Reply, ApiError> {
        let Some(patience) = query.wait else {
            return Ok(Reply::with(content).at(location(record)));
        };
        let goes_on = format!("{record} goes on, see {}", location(record));
        let wait = self.wait_for_end(record, awaited.wanted, patience);
        let (seen, over) = self
            .wait_as_asked(wait, &goes_on, awaited.repeatable)
            .await
            .map_err(|error| error.at(location(record)))?;
        if over {
            let waiting = seen.map(|r| r.known_status().message.clone()).unwrap_or_default();
            // No error that clients repeat by themselves: most would give up while all is well.
            let message = format!(
                "{record} has not ended after {patience:?} and goes on: {waiting}; wait on with GET {}?wait={}s",
                location(record),
                patience.as_secs()
            );
            return Err(ApiError::new(StatusCode::CONFLICT, message).at(location(record)));
        }
        seen.map_or_else(
            || Err(gone(record)),
            |ended| outcome(&ended, awaited.wanted, content, self.clock.now()),
        )
    }

    /// Waits as a caller has asked to: with a share of the waits, for as long as the caller may ask at all, and not for
    /// a replica that stops. `goes_on` says what does so even then; `repeatable`, whether the same request may simply
    /// be sent again.
    pub(super) async fn wait_as_asked<T>(
        &self,
        wait: impl Future<Output = Result<T, ApiError>>,
        goes_on: &str,
        repeatable: bool,
    ) -> Result<T, ApiError> {
        let _share = self.shares.wait(&self.patience)?;
        tokio::select! {
            done = wait => done,
            refusal = self.standing.lost(self) => Err(refusal.but(goes_on)),
            () = self.stop.cancelled() => {
                let message = format!("this replica is stopping; {goes_on}");
                Err(match repeatable {
                    true => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(1),
                    false => ApiError::new(StatusCode::CONFLICT, message),
                })
            }
        }
    }

    /// Waits for a look at a record that does not decide over anything: until it has ended, is held or is paused, or
    /// until the time is over.
    pub(super) async fn watch_record(
        &self,
        record: GcuUpgrade,
        patience: Option<Duration>,
    ) -> Result<GcuUpgrade, ApiError> {
        let Some(patience) = patience.filter(|_| !record.phase().is_final()) else { return Ok(record) };
        let name = record.name_any();
        let wait = self.wait_for_end(&name, Wanted::Target, patience);
        let (seen, _) = self.wait_as_asked(wait, &format!("{name} goes on"), true).await?;
        Ok(seen.unwrap_or(record))
    }

    /// Watches a record until it has ended, is held or is paused: then a person has to decide, so the wait is over.
    /// A hold or a pause from before the request does not count, and none does for whoever waits for the end alone.
    /// With the record as last seen, and whether the time was over before.
    async fn wait_for_end(
        &self,
        name: &str,
        wanted: Wanted,
        patience: Duration,
    ) -> Result<(Option<GcuUpgrade>, bool), ApiError> {
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
                let generation = record.metadata.generation.unwrap_or_default();
                let seen = record.status.as_ref().is_some_and(|s| s.observed_generation >= generation);
                if record.phase().is_final() || (wanted.rests(&record) && seen) {
                    return Ok(Some(record));
                }
                last = Some(record);
            }
            Ok(None)
        });
        let (seen, over) = match end.await {
            Ok(Ok(Some(record))) => (Some(record), false),
            Ok(Err(refusal)) => return Err(refusal),
            Ok(Ok(None)) | Err(_) => (last, true),
        };
        // Whoever reads it next is shown nothing older.
        seen.iter().for_each(|record| self.known.at_least(record));
        Ok((seen, over))
    }
}

/// What is answered for a job that goes no further by itself. One that came to no good end is no error that clients
/// repeat by themselves: a repetition would be another upgrade.
pub(super) fn outcome(
    record: &GcuUpgrade,
    wanted: Wanted,
    mut content: impl Stands,
    now: Timestamp,
) -> Result<Reply, ApiError> {
    let status = record.known_status();
    let place = location(&record.name_any());
    if status.phase != Phase::Paused && !wanted.is_reached(status.phase) {
        let message = format!("{}; see {place}", progress(record, now).message);
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message).at(place));
    }
    content.stands(status.phase, status.message.clone());
    Ok(Reply::with(content).at(place))
}

fn gone(record: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("{record} is not there any more"))
}

/// Where a record is to be seen.
pub(super) fn location(record: &str) -> String {
    format!("/gum/v1/upgrades/{record}")
}
