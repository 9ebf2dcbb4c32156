//! The admission webhook, for an upgrade that needs it.

use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::controller::act::Outcome;
use crate::keeper::{Error, Installed, Proof};
use crate::plan::{Guard, GuardAction};

/// How long a trial that failed is believed: API servers take a moment to see a webhook.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// How long a trial that succeeded is believed. The configuration is looked at each time.
const PROVEN_FOR: Duration = Duration::from_secs(60);

impl Worker {
    /// What is known of the webhook now. An upgrade that does not need it asks nothing of the API server.
    pub(super) async fn look_at_guard(&mut self) -> Result<Guard, kube::Error> {
        let Some(keeper) = &self.context.keeper else { return Ok(Guard::Off) };
        if !self.needs_guard() {
            return Ok(Guard::NotInstalled);
        }
        let now = Instant::now();
        self.guard.take_if(|(_, until)| *until <= now);
        Ok(match keeper.state().await {
            Ok(Installed::Current) => {
                self.guard.as_ref().map_or(Guard::Installed, |(guard, _)| guard.clone())
            }
            Ok(Installed::Absent | Installed::Outdated) => {
                self.guard = None;
                Guard::NotInstalled
            }
            Err(Error::Call { source, .. }) => return Err(source),
            Err(error) => Guard::NotKept(error.to_string()),
        })
    }

    /// The same as far as it is known without asking: what an installed one is worth is found out by a live look.
    pub(super) fn known_guard(&mut self) -> Guard {
        if self.context.keeper.is_none() {
            return Guard::Off;
        }
        let now = Instant::now();
        self.guard.take_if(|(_, until)| *until <= now);
        match &self.guard {
            Some((guard, _)) => guard.clone(),
            None if self.needs_guard() => Guard::Installed,
            None => Guard::NotInstalled,
        }
    }

    fn needs_guard(&self) -> bool {
        self.record.status.iter().flat_map(|s| &s.rolling).any(|r| r.guarded)
    }

    /// Installs or tries the webhook.
    pub(super) async fn guard(&mut self, action: &GuardAction) -> Outcome {
        let Some(keeper) = self.context.keeper.clone() else {
            return Outcome::Unavailable("this service runs without the keeper".to_owned());
        };
        let done = match action {
            GuardAction::Prove { namespace, name, uid } => {
                keeper.prove(namespace, name, uid).await.map(|proof| {
                    let (guard, believed) = match proof {
                        Proof::Kept => (Guard::Proven, PROVEN_FOR),
                        Proof::NotKept(why) => (Guard::NotKept(why), FAILED_FOR),
                    };
                    self.guard = Some((guard, Instant::now() + believed));
                })
            }
            GuardAction::Install => keeper.install().await,
        };
        match done {
            Ok(()) => Outcome::Done,
            Err(Error::Call { source, .. }) => Outcome::of(&source),
            Err(Error::Gone(_) | Error::Contended(_)) => Outcome::LookAgain,
            Err(error) => Outcome::Unavailable(error.to_string()),
        }
    }
}
