//! Who hears of upgrades: chat groups, Alertmanager, and whatever takes CloudEvents.
//!
//! ```text
//! GcuUpgrade ── watch ─► feed: events ─► sender, one for each sink ─► receiver
//!                                          │ after each message
//!                                          ▼
//!                                        ledger: ConfigMap, what each sink has been told
//! ```
//!
//! Events are read off the records and off nothing else: whoever acts next reads the same ones, and goes on after those
//! that the ledger has. So each is told at least once, and twice only under the same `id`. Nothing of an upgrade waits
//! for any of this: it reads what the upgrade has written.

pub mod config;
pub mod event;
pub mod feed;
mod ledger;
pub mod pace;
pub mod post;
pub mod secret;
mod sender;
pub mod sink;
mod test;
pub mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info};

use crate::clock::Clock;
use crate::metrics::{Metrics, Notified};
use config::{Config, Sink};
use feed::Known;
use ledger::Ledger;
use post::Post;
use sender::Sender;
pub use test::test;

/// How often the file is looked at. A Secret's volume takes up to a minute to change.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where everything is.
#[derive(Clone)]
pub struct Settings {
    /// The file that says whom to tell.
    pub file: PathBuf,
    /// The namespace of the ConfigMap with what they were told.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The way to a sink.
    pub connect: Arc<dyn Fn(&Sink) -> Post + Send + Sync>,
}

impl Settings {
    /// By this file; the ConfigMap stands beside the Lease and is named after it.
    pub fn new(file: PathBuf, lease: &(String, String)) -> Self {
        let (namespace, name) = lease;
        let name = format!("{name}-notifications");
        Self { file, namespace: namespace.clone(), name, connect: Arc::new(post::connect) }
    }
}

/// Tells everybody, and reads the file again when it changes. Dropped at any moment, it loses nothing: the next one
/// goes on. Runs until dropped.
///
/// A file that cannot be used is said and read again: the upgrades of a service must not depend on it.
pub async fn run(settings: Settings, client: Client, clock: Clock, metrics: Metrics) {
    let mut good: Option<Config> = None;
    let mut telling: JoinSet<()> = JoinSet::new();
    let mut trouble = String::new();
    loop {
        match config::load(&settings.file) {
            Ok(config) => {
                trouble.clear();
                // One that has died is replaced.
                let died = telling.try_join_next().is_some();
                if died || good.as_ref() != Some(&config) {
                    info!(sinks = config.sinks.len(), "notifications go by {}", settings.file.display());
                    telling.shutdown().await;
                    telling.spawn(tell(
                        config.clone(),
                        settings.clone(),
                        client.clone(),
                        clock,
                        metrics.clone(),
                    ));
                    good = Some(config);
                }
            }
            Err(text) if text != trouble => {
                let goes_on =
                    if good.is_some() { "the last good ones are kept" } else { "nobody is notified" };
                error!("notifications: {goes_on}: {text}");
                trouble = text;
            }
            Err(_) => {}
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn tell(config: Config, settings: Settings, client: Client, clock: Clock, metrics: Metrics) {
    let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    for name in &names {
        Notified::ALL.iter().for_each(|result| metrics.notified(name, *result, 0));
    }
    let (sender, mut known) = watch::channel(Known::default());
    let mut tasks = JoinSet::from_iter([feed::run(client.clone(), sender)]);
    let ledger = Arc::new(Ledger::new(client, &settings.namespace, &settings.name));
    let Ok(first) = known.wait_for(|known| known.is_ready).await.map(|known| known.clone()) else { return };
    ledger.open(&names, &first).await;
    for sink in config.sinks {
        let sender = Sender {
            post: (settings.connect)(&sink),
            sink,
            external_url: config.external_url.clone(),
            ledger: ledger.clone(),
            known: known.clone(),
            clock,
            metrics: metrics.clone(),
        };
        tasks.spawn(sender.run());
    }
    // None of them ends: if one has died, all are begun anew.
    tasks.join_next().await;
}
