//! Ended records are the revision history: the newest ones are kept.

use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client};
use tracing::{debug, info};

use crate::cluster::{each, error_text};
use crate::record::brief::{self, Brief};
use crate::record::{GcuUpgrade, HISTORY_LIMIT};
use crate::store::Records;

/// Deletes the oldest ended records of a gr beyond [`HISTORY_LIMIT`]. What fails is left for the next time.
pub(super) async fn prune(client: &Client, records: &Records, gr: &str) {
    let mut ended: Vec<Brief> = Vec::new();
    let keep =
        |seen| ended.extend(Some(Brief::from(seen)).filter(|r| r.gr.as_deref() == Some(gr) && r.ended));
    if let Err(error) = each(brief::api(client), ListParams::default(), keep).await {
        return debug!("history not pruned this time: {}", error_text(&error));
    }
    ended.sort_by_key(|r| std::cmp::Reverse(r.number()));
    let api: Api<kube::core::PartialObjectMeta<GcuUpgrade>> = Api::all(client.clone());
    for record in ended.into_iter().skip(HISTORY_LIMIT) {
        let only_this = Preconditions { uid: record.uid.clone(), ..Preconditions::default() };
        match api.delete(&record.name, &DeleteParams::background().preconditions(only_this)).await {
            Ok(_) => {
                records.deleted(&record.name, &record.uid.unwrap_or_default());
                info!(record = %record.name, "dropped from the history");
            }
            Err(error) => debug!("history not pruned this time: {}", error_text(&error)),
        }
    }
}
