//! Texts that thousands of objects have in common are kept once.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

#[derive(Default)]
struct Interned {
    all: HashSet<Arc<str>>,
    /// With so many of them, those that nobody else holds any more are dropped.
    full: usize,
}

/// So many are always kept.
const FEW: usize = 1024;

/// The one copy of this text.
pub fn intern(text: &str) -> Arc<str> {
    static INTERNED: LazyLock<Mutex<Interned>> = LazyLock::new(Mutex::default);
    let mut interned = INTERNED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = interned.all.get(text) {
        return known.clone();
    }
    if interned.all.len() >= interned.full.max(FEW) {
        interned.all.retain(|text| Arc::strong_count(text) > 1);
        interned.full = interned.all.len().saturating_mul(2);
    }
    let new: Arc<str> = text.into();
    interned.all.insert(new.clone());
    new
}
