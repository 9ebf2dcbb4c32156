//! What cannot be run here is said loudly. In CI it is a failure: nothing is skipped silently.

use std::io::Write;

/// Says that something is not run, past the test harness, which hides what passing tests print.
#[expect(clippy::disallowed_methods, reason = "the tests' own environment, not the product's")]
pub(crate) fn skipped(why: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!in_ci, "CI skips nothing, but: {why}");
    // Nobody reads it where there is no standard error.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
