//! The sweep: nodes that carry a claim of an upgrade that has ended, or whose record is gone, are released.
//!
//! No upgrade ends with a claim left on a node. This is for what cannot be seen from within one: a cordon that was
//! still on its way when its process died, and lands after the upgrade has been ended by the next (its guard does
//! not help: nobody has touched the node since); a record whose finalizer somebody took off.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::sleep;
use tracing::{info, warn};

use super::act::{Outcome, act_on_fleet};
use crate::cluster::{self, Pages, each, error_text};
use crate::observe::fleet::parse_node;
use crate::plan::fleet::Mark;
use crate::plan::rolling::node::release;
use crate::record::brief::{self, Brief};
use crate::record::rolling::NODE_ANNOTATION;
use crate::telemetry::trouble::Trouble;

/// Between attempts while the API server does not answer.
const RETRY: Duration = Duration::from_secs(30);

/// Nodes fetched with one call.
const PAGE: u32 = 500;

/// An API server gives up a call after a minute: whatever was on its way has landed by then, or never will.
const CALLS_HAVE_LANDED: Duration = Duration::from_secs(75);

/// Sweeps once nothing of an upgrade that has just ended can be on its way any more.
pub(super) async fn after_the_end(client: &Client) {
    sleep(CALLS_HAVE_LANDED).await;
    if let Err(error) = sweep(client).await {
        warn!("cannot look for claims left on nodes: {}", error_text(&error));
    }
}

/// Sweeps once; tries again until that was possible.
pub(super) async fn run(client: Client) {
    let mut trouble = Trouble::default();
    while let Err(error) = sweep(&client).await {
        if let Some(line) = trouble.again(&error_text(&error)) {
            warn!("cannot look for claims left on nodes yet: {line}");
        }
        sleep(RETRY).await;
    }
}

async fn sweep(client: &Client) -> Result<(), kube::Error> {
    // Nodes first: a claim that is made meanwhile has its record in the list that is read after them.
    let claimed = claimed_nodes(client).await?;
    if claimed.is_empty() {
        return Ok(());
    }
    let mut active: BTreeSet<String> = BTreeSet::new();
    each(brief::api(client), ListParams::default(), |seen| {
        let record = Brief::from(seen);
        active.extend(record.uid.filter(|_| !record.is_final));
    })
    .await?;
    let nodes: Api<Node> = Api::all(client.clone());
    for name in claimed {
        let Some(served) = cluster::get(&nodes, &name).await? else { continue };
        let seen = parse_node(&served);
        let Some(Mark::Claimed(mark)) = &seen.mark else { continue };
        if active.contains(&mark.uid) {
            continue;
        }
        match act_on_fleet(client, "", &release(&seen)).await {
            Outcome::Done => {
                info!(node = %name, record = %mark.record, "gave back a node that an ended upgrade had left claimed")
            }
            // The next start looks again.
            Outcome::LookAgain => {
                warn!(node = %name, "somebody else has changed a node that an ended upgrade had left claimed")
            }
            Outcome::Refused(why) | Outcome::Unavailable(why) => {
                warn!(node = %name, "could not release a node that an ended upgrade left claimed: {why}")
            }
        }
    }
    Ok(())
}

async fn claimed_nodes(client: &Client) -> Result<Vec<String>, kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let mut claimed = Vec::new();
    let mut pages = Pages::of(ListParams::default().limit(PAGE));
    while let Some(params) = pages.next() {
        if let Some(page) = pages.take(api.list_metadata(&params).await)? {
            let marked = page.items.iter().filter(|n| n.annotations().contains_key(NODE_ANNOTATION));
            claimed.extend(marked.map(ResourceExt::name_any));
        }
    }
    Ok(claimed)
}
