//! Claims on nodes whose upgrade has ended: a cordon that was still on its way when its process died may land
//! after the upgrade has been ended by the next. Its guard does not help: nobody has touched the node since.

use std::time::Duration;

use kube::{Api, Client, ResourceExt};
use tracing::{info, warn};

use super::act;
use crate::observe::fleet::live_nodes;
use crate::plan::fleet::Mark;
use crate::plan::rolling::node::release;
use crate::record::GcuUpgrade;

/// An API server gives up a call after a minute: whatever was on its way has landed by then, or never will.
pub(super) const CALLS_HAVE_LANDED: Duration = Duration::from_secs(75);

/// Gives back the nodes that carry a claim of an upgrade which has ended, or is gone.
pub(super) async fn stray_claims(client: &Client) {
    if let Err(error) = try_stray_claims(client).await {
        warn!(%error, "cannot look for claims that were left on nodes");
    }
}

async fn try_stray_claims(client: &Client) -> Result<(), kube::Error> {
    let records: Api<GcuUpgrade> = Api::all(client.clone());
    for node in live_nodes(client).await? {
        let Some(Mark::Claimed(mark)) = &node.mark else { continue };
        let record = records.get_opt(&mark.record).await?;
        let active = record.is_some_and(|r| r.uid().as_ref() == Some(&mark.uid) && !r.phase().is_final());
        if !active {
            let outcome = act::act_on_fleet(client, "", &release(&node)).await;
            info!(node = %node.name, record = %mark.record, ?outcome, "gave back a node whose upgrade has ended");
        }
    }
    Ok(())
}
