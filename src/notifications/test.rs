//! One message to one sink, for whoever sets it up.

use std::path::Path;
use std::sync::Arc;

use super::event::{Event, EventKind};
use super::sender::deliver;
use super::sink::Now;
use super::{config, post};
use crate::clock::Clock;
use crate::random;
use crate::record::{Phase, Strategy};

/// Sends a test to the sink of this name, and says what the receiver has answered.
///
/// # Errors
/// What is wrong with the file, or why the message has not arrived.
pub async fn test(file: &Path, name: &str, clock: Clock) -> Result<String, String> {
    let config = config::load(file)?;
    let Some(sink) = config.sinks.iter().find(|sink| sink.name == name) else {
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(format!("{}: there is no sink {name:?}: there are {there}", file.display()));
    };
    let event = Event {
        id: format!("test/{}", random::name()),
        kind: EventKind::Test,
        at: clock.now(),
        gr: "test".to_owned(),
        upgrade: "test-1".to_owned(),
        strategy: Strategy::RollingUpdate,
        phase: Phase::Running,
        nodes: None,
        node: None,
        reason: "gcu-upgrade-manager notify test".to_owned(),
        by: None,
    };
    let now = Now { at: clock.precisely(), external_url: config.external_url.as_deref() };
    let message = sink.message(&[Arc::new(event)], now).map_err(|e| sink.scrub(&e.to_string()))?;
    let request = message.request.ok_or("this sink is told nothing")?;
    let answer = deliver(sink, &post::connect(sink), request)
        .await
        .map_err(|failure| format!("sink {name} ({}): {}", sink.receiver.word(), failure.message))?;
    let said = sink.scrub(answer.body.trim());
    Ok(format!("sink {name} ({}): it answered {} {said}", sink.receiver.word(), answer.status))
}
