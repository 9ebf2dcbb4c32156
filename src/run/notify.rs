//! `notify test`: tries a sink.

use std::path::Path;

use super::{Failure, say};
use crate::clock::Clock;
use crate::notifications;

/// Prints what the receiver has answered; an error when it has not taken the message.
pub(super) fn test(file: &Path, sink: &str) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let said = runtime.block_on(notifications::test(file, sink, Clock::system()))?;
    say(&format!("{}\n", said.trim_end()))?;
    Ok(true)
}
