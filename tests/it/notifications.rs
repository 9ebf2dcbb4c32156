//! Notifications: what is read off records, what is sent, what answers mean, and that nothing is lost.

mod config;
mod delivery;
mod events;
mod losses;
mod sinks;
mod texts;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gcu_upgrade_manager::notifications::config::{Config, Sink, load};
use gcu_upgrade_manager::notifications::event::{Event, EventKind};
use gcu_upgrade_manager::notifications::post::Post;
use gcu_upgrade_manager::notifications::sink::Answer;
use gcu_upgrade_manager::record::{Phase, Strategy};
use http::{Request, StatusCode};
use tempfile::TempDir;

/// A file with this text, and the directory that keeps it.
fn file(text: &str) -> (PathBuf, TempDir) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("notifications.yaml");
    std::fs::write(&file, text).unwrap();
    (file, dir)
}

fn parsed(text: &str) -> Result<Config, String> {
    let (file, _dir) = file(text);
    let name = file.display().to_string();
    load(&file).map_err(|text| text.replace(&name, "FILE"))
}

fn sink(rest: &str) -> Sink {
    let text =
        format!("sinks:\n  - name: ops\n{}", rest.lines().map(|l| format!("    {l}\n")).collect::<String>());
    parsed(&text).unwrap().sinks.remove(0)
}

fn event(kind: EventKind) -> Event {
    Event {
        id: format!("uid/{}", kind.word()),
        kind,
        at: "2026-01-01T10:00:00Z".parse().unwrap(),
        gr: "pool".to_owned(),
        upgrade: "pool-3".to_owned(),
        strategy: Strategy::RollingUpdate,
        phase: Phase::Running,
        nodes: None,
        node: None,
        reason: "because".to_owned(),
        by: None,
    }
}

/// What a receiver says: status, seconds of `Retry-After`, body.
type Says = (u16, Option<u64>, &'static str);

/// A message, and when it came.
type Taken = (tokio::time::Instant, Request<Bytes>);

/// A receiver that remembers what it was sent.
#[derive(Clone, Default)]
struct StandIn {
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl StandIn {
    /// The way to it; `says` is what it answers to the message of this number, `None` for nothing at all.
    fn post(&self, says: impl Fn(usize) -> Option<Says> + Send + Sync + 'static) -> Post {
        let (taken, says) = (self.taken.clone(), Arc::new(says));
        Arc::new(move |request| {
            let number = {
                let mut taken = taken.lock().unwrap();
                taken.push((tokio::time::Instant::now(), request));
                taken.len() - 1
            };
            let said = says(number);
            Box::pin(async move {
                let Some((status, retry_after, body)) = said else {
                    tokio::time::sleep(Duration::from_secs(30)).await;
                    return Err("no answer within 30s".to_owned());
                };
                Ok(Answer {
                    status: StatusCode::from_u16(status).unwrap(),
                    retry_after: retry_after.map(Duration::from_secs),
                    body: body.to_owned(),
                })
            })
        })
    }

    /// The bodies that it was sent.
    fn bodies(&self) -> Vec<serde_json::Value> {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|(_, request)| serde_json::from_slice(request.body()).unwrap()).collect()
    }

    fn times(&self) -> Vec<tokio::time::Instant> {
        self.taken.lock().unwrap().iter().map(|(at, _)| *at).collect()
    }
}
