//! `wait`: until an upgrade has come somewhere; and the wait for its acknowledgement after every command.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::args::Until;
use super::exit::{Exit, Failure};
use super::watch::READ_AGAIN;
use super::{Session, read, say, tell};
use crate::frame::view::Upgrade;

/// A controller that is there takes a change up at once.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(10);

impl Until {
    /// Whether it has come there; the other `Some` is where it has come instead and goes no further by itself.
    fn of(self, upgrade: &Upgrade) -> Option<Exit> {
        let seen = upgrade.acknowledged != Some(false);
        let stands = Exit::of_phase(&upgrade.phase).filter(|_| seen);
        let in_work = upgrade.rolling.as_ref().is_some_and(|r| !r.active.is_empty());
        match self {
            Self::Acknowledged => seen.then_some(Exit::Done),
            Self::Finished => upgrade.is_final().then_some(Exit::Done),
            Self::Succeeded => stands,
            Self::Held if upgrade.phase == "Held" => Some(Exit::Done),
            Self::Paused if upgrade.phase == "Paused" => stands.filter(|_| !in_work).map(|_| Exit::Done),
            // What has ended is neither any more.
            Self::Held | Self::Paused if upgrade.is_final() => {
                Some(stands.filter(|e| *e != Exit::Done).unwrap_or(Exit::NotLegal))
            }
            Self::Paused if upgrade.phase == "Held" => Some(Exit::Held),
            Self::Held | Self::Paused => None,
        }
    }
}

impl Session {
    /// Waits for an upgrade.
    pub(super) async fn wait(
        &self,
        name: Option<&str>,
        until: Until,
        patience: Option<Duration>,
    ) -> Result<Exit, Failure> {
        let name = self.record(name).await?;
        let waited = tokio::select! {
            waited = self.come_to(&name, until, patience) => waited?,
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                tell(&format!("\nDetached: {name} goes on. To wait on: kubectl gcu-upgrade wait {name}"));
                return Ok(Exit::Detached);
            }
        };
        let (upgrade, exit) = waited;
        let Some(exit) = exit else {
            let nobody = self.nobody_acts().await.map(|text| format!("; {text}")).unwrap_or_default();
            let message = format!("{name} is {} and goes on: {}{nobody}", upgrade.phase, upgrade.message);
            return Err(Failure::new(Exit::GoesOn, message));
        };
        if exit == Exit::Done && self.global.output.is_drawn() {
            say(&format!("gcuupgrade.gum.enflame.com/{name} {}\n", upgrade.phase))?;
            return Ok(exit);
        }
        if exit == Exit::Done {
            // A program has its answer: how it ended is in the code.
            return Ok(Exit::of_phase(&upgrade.phase).unwrap_or(exit));
        }
        Err(Failure::new(exit, format!("{name} is {}: {}", upgrade.phase, upgrade.message)))
    }

    /// Reads an upgrade until it has come there, or the time is over.
    async fn come_to(
        &self,
        name: &str,
        until: Until,
        patience: Option<Duration>,
    ) -> Result<(Upgrade, Option<Exit>), Failure> {
        let end = patience.map(|patience| Instant::now() + patience);
        let (waker, mut woken) = mpsc::channel(1);
        let mut listening = std::pin::pin!(self.backend.wake(name, waker));
        let mut last: Option<Upgrade> = None;
        let path = format!("/gum/v1/upgrades/{name}");
        loop {
            match timeout(READ_AGAIN, self.backend.get(&path)).await {
                Ok(Ok(content)) => {
                    let upgrade: Upgrade = read(&content)?;
                    if let Some(exit) = until.of(&upgrade) {
                        return Ok((upgrade, Some(exit)));
                    }
                    last = Some(upgrade);
                }
                Ok(Err(failure)) if last.is_none() || failure.exit != Exit::Unreachable => {
                    return Err(failure);
                }
                Ok(Err(_)) | Err(_) => {}
            }
            let again = Instant::now()
                + if until == Until::Acknowledged { Duration::from_millis(250) } else { READ_AGAIN };
            let over = |end: Instant| Instant::now() >= end;
            if let Some(upgrade) = last.as_ref().filter(|_| end.is_some_and(over)) {
                return Ok((upgrade.clone(), None));
            }
            tokio::select! {
                Some(()) = woken.recv() => {}
                () = &mut listening => {}
                () = sleep_until(end.map_or(again, |end| end.min(again))) => {}
            }
        }
    }

    /// Waits until the service has taken a change up, and says where the upgrade stands then; or says that nobody has.
    pub(super) async fn acknowledged(&self, name: &str) -> Result<Exit, Failure> {
        match self.come_to(name, Until::Acknowledged, Some(ACKNOWLEDGEMENT)).await? {
            (upgrade, Some(_)) => {
                tell(&format!(
                    "{name} is {}. To watch it: kubectl gcu-upgrade status -w {name}",
                    upgrade.phase
                ));
                Ok(Exit::Done)
            }
            (_, None) => {
                let nobody = self.nobody_acts().await;
                let why = nobody
                    .unwrap_or_else(|| "a replica holds the Lease, and has not answered yet".to_owned());
                Err(Failure::new(
                    Exit::GoesOn,
                    format!(
                        "it is recorded, and nobody has taken it up within {ACKNOWLEDGEMENT:?}: {why}. See: \
                         kubectl gcu-upgrade doctor"
                    ),
                ))
            }
        }
    }
}
