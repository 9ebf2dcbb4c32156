//! Names that nobody else has.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Sixteen hexadecimal digits at random: the standard library's hashers are seeded so.
pub fn name() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}
