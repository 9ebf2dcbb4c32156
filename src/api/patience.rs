//! Whether a request waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a request waits because it was asked to.
#[derive(Clone, Debug, Default)]
pub struct Patience(Arc<AtomicBool>);

impl Patience {
    /// From here on the request waits, and has no deadline but its own.
    pub(super) fn begins(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
