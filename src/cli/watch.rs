//! `-w`: an upgrade watched to its end. A change wakes it up, what it draws is read; a watch that is lost is begun
//! anew, and every ten seconds it reads all the same.

use std::io::{self, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::exit::{Exit, Failure};
use super::{Session, read, say, tell};
use crate::frame::status::Status;
use crate::frame::time::clock;
use crate::frame::view::Upgrade;
use crate::frame::{Look, status};

/// Without a word from the watch it is read again after so long.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(10);
/// Between two drawings.
const REDRAW: Duration = Duration::from_millis(200);
/// Ages grow though nothing changes.
const TICK: Duration = Duration::from_secs(1);
/// What nodes do is looked up live: not with every word of the watch.
const LOOK: Duration = Duration::from_secs(2);
/// And without one, while nodes are in work: what they do is not in the record.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// One reading takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Session {
    /// Watches the upgrade that is named, or the one under way.
    pub(super) async fn watch(&self, name: Option<&str>, all: bool) -> Result<Exit, Failure> {
        if !self.global.output.is_drawn() {
            return Err(Failure::usage(
                "-w draws for people: leave out -o, or wait with: kubectl gcu-upgrade wait",
            ));
        }
        let name = self.record(name).await?;
        self.watch_record(&name, all).await
    }

    /// Watches an upgrade to its end.
    pub(super) async fn watch_record(&self, name: &str, all: bool) -> Result<Exit, Failure> {
        tokio::select! {
            ended = self.follow(name, all) => ended,
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                tell(&format!("\nDetached: {name} goes on. To watch it again: kubectl gcu-upgrade status -w {name}"));
                Ok(Exit::Detached)
            }
        }
    }

    async fn follow(&self, name: &str, all: bool) -> Result<Exit, Failure> {
        let (waker, mut woken) = mpsc::channel(1);
        let mut screen = Screen::default();
        let mut seen: Option<Status> = None;
        let (mut lost, mut looked): (Option<Timestamp>, Option<Instant>) = (None, None);
        let mut listening = std::pin::pin!(self.backend.wake(name, waker));
        loop {
            let begun = Instant::now();
            let path = format!("/gum/v1/upgrades/{name}");
            let reading = timeout(PATIENCE, self.backend.get(&path)).await;
            match reading {
                Ok(Ok(content)) => {
                    lost = None;
                    let upgrade: Upgrade = read(&content)?;
                    let fresh = looked.is_some_and(|at| at.elapsed() < LOOK) && !upgrade.is_final();
                    match &mut seen {
                        Some(status) if fresh => status.upgrade = upgrade,
                        _ => {
                            looked = Some(begun);
                            let mut status = self.looked_at(upgrade, all).await;
                            let nobody = self.nobody_acts().await.filter(|_| !status.upgrade.is_final());
                            status.notes.extend(nobody);
                            seen = Some(status);
                        }
                    }
                }
                // What cannot change by itself: the record is gone, or may not be read.
                Ok(Err(failure)) if seen.is_none() || failure.exit != Exit::Unreachable => {
                    return Err(failure);
                }
                Ok(Err(_)) | Err(_) => lost = lost.or(Some(self.look().now)),
            }
            if let Some(status) = &seen {
                self.draw(&mut screen, status, lost, all)?;
                if status.upgrade.is_final() {
                    return Ok(Exit::of_phase(&status.upgrade.phase).unwrap_or(Exit::Failed));
                }
            }
            let in_work = seen.as_ref().is_some_and(|status| !status.why.nodes.is_empty());
            let again = begun + if in_work && self.terminal.is_one { LOOK_AGAIN } else { READ_AGAIN };
            let earliest = begun + REDRAW;
            loop {
                let tick = Instant::now() + TICK;
                tokio::select! {
                    Some(()) = woken.recv(), if lost.is_none() => break,
                    () = &mut listening => {}
                    () = sleep_until(again) => break,
                    () = sleep_until(tick), if self.terminal.is_one => {
                        if let Some(status) = &seen {
                            self.draw(&mut screen, status, lost, all)?;
                        }
                    }
                }
            }
            sleep_until(earliest).await;
        }
    }

    fn draw(
        &self,
        screen: &mut Screen,
        seen: &Status,
        lost: Option<Timestamp>,
        all: bool,
    ) -> Result<(), Failure> {
        let look = Look { all, ..self.look() };
        if !self.terminal.is_one {
            let line = status::line(seen, &look);
            // The time before it is no news.
            let news = line.split_once(&seen.upgrade.name).map(|(_, news)| news.to_owned());
            if news != screen.last {
                screen.last = news;
                say(&line)?;
            }
            return Ok(());
        }
        let mut frame = status::status(seen, &look);
        if let Some(since) = lost {
            let since = clock(since, &look);
            frame.push_str(&format!(
                "not heard of since {since}: reading again every {} s\n",
                READ_AGAIN.as_secs()
            ));
        }
        let height = self.terminal.size().map_or(usize::MAX, |(_, height)| height.saturating_sub(1));
        screen.show(&frame, height)
    }
}

/// What is on the screen.
#[derive(Debug, Default)]
struct Screen {
    lines: usize,
    last: Option<String>,
}

impl Screen {
    /// Puts a frame in the place of the last one.
    fn show(&mut self, frame: &str, height: usize) -> Result<(), Failure> {
        let shown: String = frame.lines().take(height).map(|line| format!("{line}\n")).collect();
        let up = if self.lines > 0 { format!("\x1b[{}A\x1b[J", self.lines) } else { String::new() };
        self.lines = shown.lines().count();
        let mut stdout = io::stdout().lock();
        Ok(write!(stdout, "{up}{shown}").and_then(|()| stdout.flush())?)
    }
}
