//! Ended records are the revision history: the newest ones are kept.

use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use tracing::{debug, info};

use crate::record::{GcuUpgrade, HISTORY_LIMIT};

/// Deletes the oldest ended records of a gr beyond [`HISTORY_LIMIT`]. What fails is left for the next time.
pub(super) async fn prune(client: &Client, gr: &str) {
    let api: Api<GcuUpgrade> = Api::all(client.clone());
    let records = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(error) => return debug!(%error, "history not pruned this time"),
    };
    let mut ended: Vec<&GcuUpgrade> =
        records.iter().filter(|r| r.spec.gr == gr && r.phase().is_final()).collect();
    ended.sort_by_key(|r| std::cmp::Reverse(r.number()));
    for record in ended.into_iter().skip(HISTORY_LIMIT) {
        let only_this = Preconditions { uid: record.uid(), ..Preconditions::default() };
        match api.delete(&record.name_any(), &DeleteParams::background().preconditions(only_this)).await {
            Ok(_) => info!(record = %record.name_any(), "dropped from the history"),
            Err(error) => debug!(%error, "history not pruned this time"),
        }
    }
}
