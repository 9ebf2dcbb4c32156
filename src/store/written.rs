//! What this process has written or told: nothing older is shown to readers afterwards.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::core::ObjectMeta;
use tokio::time::Instant;

/// A watch that does not show a write of ours within this time has been given up by then.
const SHOWN_WITHIN: Duration = Duration::from_secs(120);

/// The last that is known of each object, by name, until a watch has shown it.
#[derive(Default)]
pub(super) struct Written(Mutex<BTreeMap<String, (State, Instant)>>);

/// What a write left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Version(u64),
    /// The object with this UID is gone.
    Gone(String),
}

impl Written {
    /// Notes what an object is since it was written.
    pub(super) fn wrote(&self, meta: &ObjectMeta) {
        self.note(meta.name.clone().unwrap_or_default(), State::Version(version_of(meta, u64::MAX)));
    }

    /// Notes that an object is gone.
    pub(super) fn deleted(&self, name: &str, uid: &str) {
        self.note(name.to_owned(), State::Gone(uid.to_owned()));
    }

    /// Whether what a watch shows under this name is at least as new.
    pub(super) fn is_shown(&self, name: &str, found: Option<&ObjectMeta>) -> bool {
        let mut written = self.lock();
        let Some((state, at)) = written.get(name) else { return true };
        let shown = match (found, state) {
            (Some(meta), State::Version(version)) => version_of(meta, 0) >= *version,
            (None, State::Version(_)) => false,
            (Some(meta), State::Gone(uid)) => meta.uid.as_ref() != Some(uid),
            (None, State::Gone(_)) => true,
        };
        if shown || at.elapsed() >= SHOWN_WITHIN {
            written.remove(name);
            return true;
        }
        false
    }

    /// Whether a watch that shows what `find` finds is at least as new in everything.
    pub(super) fn all_shown<'m>(&self, find: impl Fn(&str) -> Option<&'m ObjectMeta>) -> bool {
        let names: Vec<String> = self.lock().keys().cloned().collect();
        names.iter().all(|name| self.is_shown(name, find(name)))
    }

    fn note(&self, name: String, state: State) {
        let mut written = self.lock();
        written.retain(|_, (_, at)| at.elapsed() < SHOWN_WITHIN);
        written.insert(name, (state, Instant::now()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (State, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The version of an object as a number: of one object they only ever grow.
pub(super) fn version_of(meta: &ObjectMeta, unknown: u64) -> u64 {
    meta.resource_version.as_ref().and_then(|v| v.parse().ok()).unwrap_or(unknown)
}
