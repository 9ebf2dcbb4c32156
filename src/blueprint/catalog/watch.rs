//! Waking up when the directory changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// How changes are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watching {
    /// By file system events where they are to be had, and by looking every now and then.
    #[default]
    Events,
    /// By looking every now and then only: for file systems without events, such as NFS.
    Polling,
}

/// A watch on a directory that may come and go.
pub(super) struct Watch {
    dir: PathBuf,
    watching: Watching,
    watcher: Option<RecommendedWatcher>,
    wake: Arc<Notify>,
    /// The last reason why there are no events; it is logged once.
    trouble: Option<String>,
}

impl Watch {
    pub(super) fn new(dir: &Path, watching: Watching) -> Self {
        Self { dir: dir.to_owned(), watching, watcher: None, wake: Arc::default(), trouble: None }
    }

    /// Watches what stands at the path now. Done before every look, because a directory that was removed
    /// and made again, or mounted over, is another one under the same name.
    pub(super) fn attach(&mut self) {
        if self.watching == Watching::Polling {
            return;
        }
        let trouble = self.try_attach().err().map(|error| error.to_string());
        if let Some(reason) = &trouble
            && self.trouble.is_none()
        {
            let (dir, every) = (self.dir.display(), super::RESCAN.as_secs());
            tracing::warn!(%dir, reason, "blueprints: no file system events, looking every {every} s instead");
        }
        self.trouble = trouble;
    }

    fn try_attach(&mut self) -> notify::Result<()> {
        let watcher = match self.watcher.take() {
            Some(watcher) => self.watcher.insert(watcher),
            None => {
                let wake = self.wake.clone();
                let on_event = move |event| {
                    if may_matter(&event) {
                        wake.notify_one();
                    }
                };
                self.watcher.insert(notify::recommended_watcher(on_event)?)
            }
        };
        // Fails where the path was not watched, or its directory is gone: the next line decides.
        let _ = watcher.unwatch(&self.dir);
        watcher.watch(&self.dir, RecursiveMode::NonRecursive)
    }

    /// Waits for an event.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// Reading the directory is an event too, and must not be followed by another look.
fn may_matter(event: &notify::Result<Event>) -> bool {
    match event {
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            _ => true,
        },
        Err(_) => true,
    }
}
