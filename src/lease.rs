//! Which of several replicas acts: the one that holds a Lease.
//!
//! This is client-go's algorithm, written out because the crates for it compare another machine's times with ours. A
//! replica that does not hold the Lease looks at it again and again, and takes it when it has not changed for
//! `DURATION` of *its own* time: the times in the Lease are another machine's and are never compared with ours. The
//! holder renews it every `RENEW_EVERY`, and stops acting when it has not managed to for `RENEW_WITHIN`, which is
//! before anyone else may take it.
//!
//! The Lease saves work and quarrel. It is not what keeps writes safe: a process may be stopped between any two of
//! its instructions and go on a minute later, still believing that it leads. Every call that changes something is
//! guarded by a UID or a resourceVersion, and two that act at once do no harm.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::cluster::error_text;

/// A Lease that has not changed for so long may be taken.
const DURATION: Duration = Duration::from_secs(15);
/// The holder stops acting when it could not renew for so long.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How often the holder renews.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often others look.
const LOOK_EVERY: Duration = Duration::from_millis(1500);
/// One look, of two calls, by a replica that does not act. The holder has for it what is left of [`RENEW_WITHIN`].
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// The last word of a holder that stops.
const GIVE_UP_WITHIN: Duration = Duration::from_secs(4);

/// Which Lease, and who we are in it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// What we are called in it: different for every process.
    pub identity: String,
}

/// Who acts, as far as this replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This replica.
    Ours,
    /// Another one, of this name.
    Theirs(String),
    /// Not known, and why.
    Unknown(String),
}

impl Leadership {
    /// Whether this replica acts.
    pub fn is_ours(&self) -> bool {
        *self == Self::Ours
    }
}

/// Tries to hold the Lease until `stop`, then gives it up if it is ours. `leadership` tells how that stands.
pub async fn run(
    client: Client,
    clock: Clock,
    settings: Settings,
    leadership: watch::Sender<Leadership>,
    stop: CancellationToken,
) {
    let mut holder = Holder {
        api: Api::namespaced(client, &settings.namespace),
        clock,
        settings,
        seen: None,
        renewed: None,
        held: None,
    };
    loop {
        let begun = Instant::now();
        // Cut off in the middle of a call nothing would be known about it, so a stop waits for the call's end.
        let until = holder.renewed.map_or(begun + LOOK_WITHIN, |renewed| renewed + RENEW_WITHIN);
        let now = match timeout_at(until, holder.tick()).await {
            Ok(Ok(now)) => now,
            Ok(Err(error)) => holder.after_failure(&error_text(&error)),
            Err(_) => holder.after_failure("the API server does not answer"),
        };
        say(&leadership, now);
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep_until(holder.next_look(begun)) => {}
        }
    }
    if leadership.borrow().is_ours() {
        say(&leadership, Leadership::Unknown("stopping".to_owned()));
        match timeout(GIVE_UP_WITHIN, holder.give_up()).await {
            Ok(Ok(())) => info!("gave up the lease"),
            // It runs out by itself.
            Ok(Err(error)) => warn!("could not give up the lease: {}", error_text(&error)),
            Err(_) => warn!("could not give up the lease in time"),
        }
    }
}

fn say(leadership: &watch::Sender<Leadership>, now: Leadership) {
    leadership.send_if_modified(|known| {
        if *known == now {
            return false;
        }
        match &now {
            Leadership::Ours => info!("this replica leads"),
            Leadership::Theirs(holder) => info!(%holder, "another replica leads"),
            Leadership::Unknown(why) if known.is_ours() => warn!("this replica no longer leads: {why}"),
            Leadership::Unknown(why) => warn!("leader not yet determined: {why}"),
        }
        *known = now;
        true
    });
}

struct Holder {
    api: Api<Lease>,
    clock: Clock,
    settings: Settings,
    /// The version of the Lease that was seen last, and since when it has not changed.
    seen: Option<(String, Instant)>,
    /// When the last renewal that succeeded was sent, while we hold it.
    renewed: Option<Instant>,
    /// The Lease as we wrote it last: renewing it takes one call, and fails when somebody has changed it.
    held: Option<Lease>,
}

impl Holder {
    async fn tick(&mut self) -> Result<Leadership, kube::Error> {
        let sent = Instant::now();
        if let Some(held) = self.held.take() {
            let lease = self.ours(Some(&held));
            match self.api.replace(&self.settings.name, &PostParams::default(), &lease).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                result => return self.took(sent, result),
            }
        }
        let Some(found) = self.api.get_opt(&self.settings.name).await? else {
            let lease = self.ours(None);
            return self.took(sent, self.api.create(&PostParams::default(), &lease).await);
        };
        let holder = found.spec.as_ref().and_then(|s| s.holder_identity.clone()).unwrap_or_default();
        let mine = holder == self.settings.identity;
        if !mine && !holder.is_empty() && !self.has_run_out(&found) {
            self.renewed = None;
            return Ok(Leadership::Theirs(holder));
        }
        let lease = self.ours(Some(&found));
        self.took(sent, self.api.replace(&self.settings.name, &PostParams::default(), &lease).await)
    }

    /// Whether the Lease has been as it is for long enough. Any change of it is a sign of life.
    fn has_run_out(&mut self, lease: &Lease) -> bool {
        let version = lease.resource_version().unwrap_or_default();
        match &self.seen {
            Some((known, since)) if *known == version => since.elapsed() >= DURATION,
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn took(&mut self, sent: Instant, result: Result<Lease, kube::Error>) -> Result<Leadership, kube::Error> {
        match result {
            Ok(lease) => {
                (self.renewed, self.held) = (Some(sent), Some(lease));
                Ok(Leadership::Ours)
            }
            // Somebody else was faster, or edits it: the next look tells who.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(self.after_failure("the lease was changed by somebody else"))
            }
            Err(error) => Err(error),
        }
    }

    /// A holder that cannot reach the API server goes on for a while: nobody else can have taken the Lease yet.
    fn after_failure(&mut self, why: &str) -> Leadership {
        match self.renewed {
            Some(at) if at.elapsed() < RENEW_WITHIN => Leadership::Ours,
            _ => {
                self.renewed = None;
                Leadership::Unknown(why.to_owned())
            }
        }
    }

    /// The Lease with us as its holder, guarded by the version that was found.
    fn ours(&self, found: Option<&Lease>) -> Lease {
        let old = found.and_then(|l| l.spec.clone()).unwrap_or_default();
        let mine = old.holder_identity.as_deref() == Some(self.settings.identity.as_str());
        let now = MicroTime(self.clock.precisely());
        let transitions = old.lease_transitions.unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if mine { old.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if mine || found.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..old
        };
        let metadata = match found {
            Some(found) => found.metadata.clone(),
            None => ObjectMeta { name: Some(self.settings.name.clone()), ..ObjectMeta::default() },
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Leaves the Lease without a holder: the next one does not have to wait.
    async fn give_up(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.settings.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.settings.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(self.clock.precisely()));
        self.api.replace(&self.settings.name, &PostParams::default(), &lease).await.map(drop)
    }

    fn next_look(&self, begun: Instant) -> Instant {
        if let Some(renewed) = self.renewed {
            // Not later than the moment from which we may not act any more.
            return (begun + RENEW_EVERY).min((renewed + RENEW_WITHIN).max(begun));
        }
        let look = begun + LOOK_EVERY;
        match &self.seen {
            // Exactly when it runs out, if that comes first.
            Some((_, since)) if *since + DURATION > begun => look.min(*since + DURATION),
            _ => look,
        }
    }
}
