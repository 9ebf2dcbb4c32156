//! The loop that lets go of held DaemonSets. Level-triggered: it asks of each what [`crate::plan::hold`] says, whether
//! an upgrade is under way, has ended in whatever way, or has no record any more.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::Context;
use super::act::rolling::{label, let_go};
use crate::cluster::{each, error_text};
use crate::observe::fleet::Interest;
use crate::observe::live;
use crate::plan::fleet::SetState;
use crate::plan::hold::{Kept, Unreadable, needed_by, verdicts};
use crate::record::GcuUpgrade;
use crate::telemetry::trouble::Trouble;

/// Lets a burst of events be looked at once.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Between looks while something does not settle, or the API server refuses a call.
const RETRY: Duration = Duration::from_secs(5);
/// Nothing polls; this only bounds the harm of a wake-up that was lost.
const SAFETY_NET: Duration = Duration::from_secs(300);

/// Runs until dropped. `active` are the records with something left to do, as they were last seen.
pub(super) async fn run(context: Context, mut active: watch::Receiver<Vec<Arc<GcuUpgrade>>>) {
    let wake = Arc::new(Notify::new());
    let sets = context.stores.sets();
    sets.wakes(&wake);
    // One of an earlier life may have been left behind.
    let mut guarded = context.keeper.is_some();
    // The replica that acted before may have been asked at another address.
    let mut taken_over = false;
    let mut trouble = Trouble::default();
    loop {
        taken_over = taken_over || take_over_guard(&context).await;
        // First: what is in an incomplete list is not all.
        let listed = sets.is_ready();
        let all = sets.items();
        let held: Vec<Arc<SetState>> =
            all.iter().map(|set| set.state.clone()).filter(|set| set.lock.is_some()).collect();
        let records = active.borrow_and_update().clone();
        let needed = |set: &Arc<SetState>| needed_by(set, records.iter().map(AsRef::as_ref), &[]).is_some();
        // What an upgrade under way needs is not looked at: its status changes with every pod.
        guarded |= held.iter().any(|set| is_guarded(set));
        let is_unused = listed && guarded && !held.iter().any(|set| is_guarded(set));
        if is_unused && records.iter().all(|r| !needs_guard(r)) {
            guarded = !remove_guard(&context).await;
        }
        let pause = if !taken_over {
            RETRY
        } else if !listed {
            SAFETY_NET
        } else if guarded && is_unused {
            RETRY
        } else if held.iter().all(needed) {
            context.metrics.held(held.len(), 0);
            SAFETY_NET
        } else {
            match look(&context).await {
                Ok(pause) => {
                    trouble.over();
                    pause
                }
                Err(error) => {
                    let why = error_text(&error);
                    if let Some(line) = trouble.again(&why) {
                        warn!("cannot look whether DaemonSets may be let go of: {line}");
                    }
                    say(&context, Some(why));
                    RETRY
                }
            }
        };
        tokio::select! {
            () = wake.notified() => sleep(DEBOUNCE).await,
            changed = active.changed() => match changed {
                Ok(()) => sleep(DEBOUNCE).await,
                // The controller has ended.
                Err(_) => return,
            },
            () = sleep(pause) => {}
        }
    }
}

/// Looks at every held DaemonSet once; answers when to come back though nothing has changed.
async fn look(context: &Context) -> Result<Duration, kube::Error> {
    let client = &context.client;
    // DaemonSets first: an upgrade that begins, or turns, writes to each of them before it relies on it, and then the
    // version that was read here is an older one.
    let sets = live::hashed(client, held_sets(client).await?).await?;
    let pods = live::daemon_pods(client, &Interest::default().with_sets(&sets)).await?;
    let (records, unreadable) = records(client).await?;
    let (mut busy, mut kept, mut settled, mut refused) = (0, 0, true, None);
    for (set, verdict) in verdicts(&sets, &pods, &records, &unreadable) {
        let SetState { namespace, name, .. } = set;
        match verdict {
            None => {
                let (released, refusal) = release(client, set).await;
                settled &= released;
                refused = refused.or(refusal);
            }
            Some(Kept::Upgrading(_)) => busy += 1,
            Some(why) => {
                kept += 1;
                settled &= !matches!(why, Kept::Unsettled | Kept::PodsUnseen { .. });
                debug!(%namespace, %name, "the DaemonSet stays at OnDelete: {}", why.describe());
                if !set.labelled
                    && let Err(error) = label(client, set).await
                {
                    debug!(%namespace, %name, "not labelled: {}", error_text(&error));
                }
            }
        }
    }
    context.metrics.held(busy, kept);
    say(context, refused);
    Ok(if settled { SAFETY_NET } else { RETRY })
}

fn is_guarded(set: &SetState) -> bool {
    set.hold.as_ref().is_some_and(|hold| hold.guarded)
}

fn needs_guard(record: &GcuUpgrade) -> bool {
    let status = record.known_status();
    !status.phase.is_final() && status.rolling.as_ref().is_some_and(|r| r.guarded)
}

/// A webhook that is there is asked of this replica from now on; one that nobody answers for would refuse every write
/// of a held DaemonSet, our own among them.
async fn take_over_guard(context: &Context) -> bool {
    let Some(keeper) = &context.keeper else { return true };
    keeper.refresh().await.inspect_err(|error| warn!("the keeper cannot be taken over: {error}")).is_ok()
}

/// Has the API server ask the webhook no more, unless something that it is for has come meanwhile.
async fn remove_guard(context: &Context) -> bool {
    let Some(keeper) = &context.keeper else { return true };
    let looked = async {
        let (records, _) = records(&context.client).await?;
        let sets = held_sets(&context.client).await?;
        Ok::<_, kube::Error>(records.iter().any(needs_guard) || sets.iter().any(|set| is_guarded(set)))
    };
    match looked.await {
        Ok(true) => return false,
        Ok(false) => {}
        Err(error) => {
            warn!("cannot look whether the keeper is needed: {}", error_text(&error));
            return false;
        }
    }
    match keeper.remove().await {
        Ok(()) => true,
        Err(error) => {
            warn!("{error}");
            false
        }
    }
}

/// For the upgrades that wait until their DaemonSets are let go of.
fn say(context: &Context, why: Option<String>) {
    *context.not_released.lock().unwrap_or_else(PoisonError::into_inner) = why;
}

/// Whether it is done, and what the API server says against it.
async fn release(client: &Client, set: &SetState) -> (bool, Option<String>) {
    let SetState { namespace, name, .. } = set;
    match let_go(client, set).await {
        Ok(()) => {
            info!(%namespace, %name, "the DaemonSet has its update strategy back");
            (true, None)
        }
        // It has changed meanwhile, and the watch will say how.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => (false, None),
        Err(error) => {
            let why = error_text(&error);
            warn!(%namespace, %name, "the DaemonSet could not be given its update strategy back: {why}");
            (false, Some(why))
        }
    }
}

async fn held_sets(client: &Client) -> Result<Vec<Arc<SetState>>, kube::Error> {
    let all = live::sets_in(Api::all(client.clone())).await?.into_iter().map(|set| set.state.clone());
    Ok(all.filter(|set| set.lock.is_some()).collect())
}

async fn records(client: &Client) -> Result<(Vec<GcuUpgrade>, Vec<Unreadable>), kube::Error> {
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    let api: Api<DeserializeGuard<GcuUpgrade>> = Api::all(client.clone());
    each(api, ListParams::default(), |record| match record.0 {
        Ok(record) => records.push(record),
        Err(invalid) => unreadable
            .push((invalid.metadata.name.unwrap_or_default(), invalid.metadata.uid.unwrap_or_default())),
    })
    .await?;
    Ok((records, unreadable))
}
