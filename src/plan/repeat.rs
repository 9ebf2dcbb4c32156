//! What a request finds that has been made before, or that asks for what is there already. Pure.

use jiff::{SignedDuration, Timestamp};

use super::preflight::Refusal;
use crate::record::{GcuUpgrade, Intent, Request};

/// So long after its end a job is found by a request without a key that asks for the very same.
pub const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);

/// The record that this request began, if it is a repetition. With a key it is known by that, for as long as the record
/// exists. Without one it is known by what it asks for, and finds the newest record alone: what was asked for before
/// another upgrade is asked for anew.
///
/// # Errors
/// The key is that of a request for something else.
pub fn begun_by<'a>(
    gr: &str,
    records: &'a [GcuUpgrade],
    request: &Request,
    now: Timestamp,
) -> Result<Option<&'a GcuUpgrade>, Refusal> {
    let asked = |record: &GcuUpgrade| record.spec.request.clone();
    let same = |record: &GcuUpgrade| asked(record).is_some_and(|earlier| earlier.sha256 == request.sha256);
    let Some(key) = &request.idempotency_key else {
        return Ok(records.first().filter(|record| same(record) && is_fresh(record, now)));
    };
    let has_key =
        |r: &&GcuUpgrade| asked(r).is_some_and(|earlier| earlier.idempotency_key.as_ref() == Some(key));
    match records.iter().find(has_key) {
        Some(record) if !same(record) => {
            let record = record.metadata.name.clone().unwrap_or_default();
            Err(Refusal::KeyReused { gr: gr.to_owned(), key: key.clone(), record })
        }
        found => Ok(found),
    }
}

/// It has not ended, or only just, and by itself: who asks for the same after a person has ended it means it.
fn is_fresh(record: &GcuUpgrade, now: Timestamp) -> bool {
    let ended = record.status.as_ref().and_then(|s| s.finished_at);
    let by_itself = !matches!(record.spec.intent, Intent::Close | Intent::Rollback);
    let just_now = ended.is_some_and(|at| now.duration_since(at) <= REMEMBERED);
    !record.phase().is_final() || (by_itself && just_now)
}
