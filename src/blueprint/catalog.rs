//! The catalog: the blueprints of one watched directory, as an immutable [`Set`] that readers share.
//!
//! Content decides. A file system event only wakes the catalog up; it then looks at everything, and what
//! has the same digest is what it was. Every 30 s it looks without being woken, which is also how a
//! directory that appears later is found, and all there is where no events are to be had.
//!
//! What cannot be *read* (directory gone, unreadable or empty, permission, dangling link) leaves the last
//! good content in place and says so. What can be read and is *bad* is listed as invalid and its old content
//! is not used: the person who edited it means the new one.

mod read;
mod set;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch as latest};
use tokio_util::sync::CancellationToken;

use super::finding::Finding;
use super::{Blueprint, digest};
use crate::clock::Clock;
pub(crate) use read::read_regular;
use read::{ReadError, Root, refuse_name};
pub use read::{SUFFIX, file_names, has_suffix};
pub use set::{Entry, MAX_FILES, MAX_TOTAL, Set};
use watch::Watch;
pub use watch::Watching;

/// How often the directory is looked at without an event.
pub const RESCAN: Duration = Duration::from_secs(30);
/// How long after an event the directory is looked at: a copy is several events.
pub const DEBOUNCE: Duration = Duration::from_millis(100);
/// The most names in [`LoadError::NotFound`].
const MAX_NAMES: usize = 20;

/// A handle on the catalog; clones share it.
#[derive(Clone, Debug)]
pub struct Catalog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    clock: Clock,
    set: latest::Sender<Arc<Set>>,
    /// One scan at a time: a slow older one must not overwrite a newer one.
    scanning: Mutex<()>,
}

/// Why [`Catalog::load`] has no blueprint to give.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// This can be no blueprint's name.
    #[error("{file:?} is not the name of a blueprint: {reason}")]
    BadName {
        /// What was asked for.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such file.
    #[error("there is no blueprint {file:?}; {}", available_text(.available, *.more))]
    NotFound {
        /// What was asked for.
        file: String,
        /// Names that there are, the first by name.
        available: Vec<String>,
        /// How many more there are.
        more: usize,
    },
    /// It cannot be read, and never could.
    #[error("blueprint {file:?}: {reason}")]
    Unreadable {
        /// What was asked for.
        file: String,
        /// What the system said.
        reason: String,
    },
    /// Its content cannot be used.
    #[error("blueprint {file:?} cannot be used: {}", findings_text(.findings))]
    Invalid {
        /// What was asked for.
        file: String,
        /// What is wrong, with at least one error.
        findings: Vec<Finding>,
    },
}

fn available_text(available: &[String], more: usize) -> String {
    match (available, more) {
        ([], _) => "the directory has none".to_owned(),
        (names, 0) => format!("there are: {}", names.join(", ")),
        (names, more) => format!("there are: {} and {more} more", names.join(", ")),
    }
}

fn findings_text(findings: &[Finding]) -> String {
    let errors = || findings.iter().filter(|finding| finding.is_error());
    match (errors().next(), errors().count().saturating_sub(1)) {
        (Some(first), 0) => first.to_string(),
        (Some(first), more) => format!("{first} (and {more} more)"),
        (None, _) => String::new(),
    }
}

impl Catalog {
    /// Opens the catalog of `dir` and looks at it once. A directory that is not there is no error: it may
    /// come later.
    pub async fn open(dir: impl Into<PathBuf>, clock: Clock) -> Self {
        let (set, _) = latest::channel(Arc::new(Set::default()));
        let catalog =
            Self { shared: Arc::new(Shared { dir: dir.into(), clock, set, scanning: Mutex::new(()) }) };
        catalog.rescan().await;
        catalog
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The blueprints as of the last look.
    pub fn set(&self) -> Arc<Set> {
        self.shared.set.borrow().clone()
    }

    /// Follows the set; wakes up only when it changed.
    pub fn subscribe(&self) -> latest::Receiver<Arc<Set>> {
        self.shared.set.subscribe()
    }

    /// Keeps the set up to date until cancelled.
    pub async fn run(&self, watching: Watching, cancel: CancellationToken) {
        let mut watch = Watch::new(&self.shared.dir, watching);
        loop {
            // Attached before the look: a change is seen by the one or by the other.
            watch.attach();
            self.rescan().await;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(RESCAN) => {}
                () = watch.woken() => tokio::time::sleep(DEBOUNCE).await,
            }
        }
    }

    /// Looks at the directory now and answers what is there.
    pub async fn rescan(&self) -> Arc<Set> {
        let _one = self.shared.scanning.lock().await;
        let before = self.set();
        let (dir, now, old) = (self.shared.dir.clone(), self.shared.clock.now(), before.clone());
        let scan = tokio::task::spawn_blocking(move || old.rescan(&dir, now)).await;
        // A scan that was cancelled with the runtime changes nothing.
        let Ok(next) = scan else { return before };
        if next == *before {
            return before;
        }
        report(&self.shared.dir, &before, &next);
        let next = Arc::new(next);
        self.shared.set.send_replace(next.clone());
        next
    }

    /// Reads one blueprint *now*: a person copies a file and asks for it at once. Falls back on the last
    /// good content only where the file or the directory cannot be read, and logs that.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load(&self, file: &str) -> Result<Arc<Blueprint>, LoadError> {
        if let Some(reason) = refuse_name(file) {
            return Err(LoadError::BadName { file: file.to_owned(), reason });
        }
        let (dir, name, set) = (self.shared.dir.clone(), file.to_owned(), self.set());
        let load = tokio::task::spawn_blocking(move || load_now(&dir, name, &set)).await;
        load.unwrap_or_else(|error| {
            Err(LoadError::Unreadable { file: file.to_owned(), reason: error.to_string() })
        })
    }
}

fn load_now(dir: &Path, file: String, set: &Set) -> Result<Arc<Blueprint>, LoadError> {
    for _ in 0..set::ATTEMPTS {
        let root = match Root::resolve(dir) {
            Ok(root) => root,
            Err(error) => return last_good(file, set, format!("the directory cannot be opened: {error}")),
        };
        let read = root.read(&file);
        if !root.is_current() {
            continue;
        }
        return match read {
            Ok(bytes) => parsed(file, &bytes, set),
            Err(ReadError::Gone) => gone(&root, file, set),
            Err(ReadError::Unreadable(reason)) => last_good(file, set, reason),
            Err(error @ (ReadError::NotRegular | ReadError::Outside)) => {
                let findings = vec![error.finding().in_file(&file)];
                Err(LoadError::Invalid { file, findings })
            }
        };
    }
    last_good(file, set, "the directory keeps changing while it is read".to_owned())
}

fn parsed(file: String, bytes: &[u8], set: &Set) -> Result<Arc<Blueprint>, LoadError> {
    let known = set.get(&file).and_then(|entry| entry.blueprint.clone());
    match known.filter(|known| known.digest() == digest(bytes)) {
        Some(known) => Ok(known),
        None => Blueprint::parse(&file, bytes)
            .map(Arc::new)
            .map_err(|findings| LoadError::Invalid { file, findings }),
    }
}

fn gone(root: &Root, file: String, set: &Set) -> Result<Arc<Blueprint>, LoadError> {
    let mut available = match root.names() {
        Ok(names) if !names.is_empty() => names,
        Ok(_) if !set.entries.is_empty() => return last_good(file, set, "the directory is empty".to_owned()),
        Ok(none) => none,
        Err(error) => return last_good(file, set, format!("the directory cannot be read: {error}")),
    };
    let more = available.len().saturating_sub(MAX_NAMES);
    available.truncate(MAX_NAMES);
    Err(LoadError::NotFound { file, available, more })
}

fn last_good(file: String, set: &Set, reason: String) -> Result<Arc<Blueprint>, LoadError> {
    let Some(entry) = set.get(&file).filter(|entry| entry.digest.is_some()) else {
        return Err(LoadError::Unreadable { file, reason });
    };
    match &entry.blueprint {
        Some(blueprint) => {
            tracing::warn!(
                file,
                reason,
                digest = blueprint.digest(),
                "using the last good content of a blueprint"
            );
            Ok(blueprint.clone())
        }
        None => Err(LoadError::Invalid { file, findings: entry.findings.clone() }),
    }
}

/// Logs what changed, once for each change.
fn report(dir: &Path, before: &Set, next: &Set) {
    let dir = dir.display();
    match (&before.problem, &next.problem) {
        (old, Some(new)) if old.as_ref() != Some(new) => {
            tracing::warn!(%dir, kept = next.entries.len(), "blueprints: {new}");
        }
        (Some(_), None) => {
            tracing::info!(%dir, files = next.entries.len(), "blueprints: the directory is back")
        }
        _ => {}
    }
    for entry in &next.entries {
        let old = before.get(&entry.file);
        if old.is_some_and(|old| old.digest == entry.digest && old.stale == entry.stale)
            || next.problem.is_some()
        {
            continue;
        }
        let errors = entry.findings.iter().filter(|finding| finding.is_error()).count();
        match (&entry.stale, entry.valid) {
            (Some(reason), _) => tracing::warn!(%dir, file = entry.file, reason, "blueprint kept as it was"),
            (None, true) => {
                tracing::info!(%dir, file = entry.file, digest = entry.digest, "blueprint loaded")
            }
            (None, false) => tracing::warn!(%dir, file = entry.file, errors, "blueprint cannot be used"),
        }
    }
    for entry in before.entries.iter().filter(|entry| next.get(&entry.file).is_none()) {
        tracing::info!(%dir, file = entry.file, "blueprint removed");
    }
}
