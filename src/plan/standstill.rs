//! When an upgrade took no further node and did nothing: the words with which its timeline says so, and how they are
//! read.

use crate::record::TimelineEntry;

/// What a hold begins with in the timeline.
pub(super) const HELD: &str = "held: ";
/// What it says of a pause.
pub(super) const PAUSED: &str = "paused; call resume to continue";
const OF_CANARY: AtGate = AtGate {
    done: "the canary nodes are done; call promote to continue",
    none: "none of the canary nodes could be done; promote to continue without, or see /why",
};
const OF_STEP: AtGate = AtGate {
    done: "the nodes of this step are done; call promote to continue",
    none: "none of the nodes of this step could be done; promote to continue without, or see /why",
};

/// What it says at a gate.
struct AtGate {
    done: &'static str,
    none: &'static str,
}

/// Why an upgrade stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standstill {
    /// A person had paused it.
    Paused,
    /// It waited for `promote`.
    AwaitingPromotion,
    /// It could not go on by itself.
    Held,
    /// The time between two steps had not passed. It begins and ends by itself: the timeline says nothing of it.
    BetweenSteps,
}

impl Standstill {
    /// Why an upgrade stands still from this entry of its timeline on; `None` where it goes on, or ends.
    pub fn from(entry: &TimelineEntry) -> Option<Self> {
        let message = entry.message.as_str();
        // Why may follow.
        let at_gate = |gate: &AtGate| message.starts_with(gate.done) || message.starts_with(gate.none);
        match message {
            PAUSED => Some(Self::Paused),
            _ if message.starts_with(HELD) => Some(Self::Held),
            _ if at_gate(&OF_CANARY) || at_gate(&OF_STEP) => Some(Self::AwaitingPromotion),
            _ => None,
        }
    }
}

/// What the timeline says of a hold.
pub(super) fn held(why: &str) -> String {
    format!("{HELD}{why}")
}

/// What it says at the gate behind a step, or behind the canary; `any` of its nodes were done.
pub(super) fn awaiting_promotion(canary: bool, any: bool) -> &'static str {
    let gate = if canary { &OF_CANARY } else { &OF_STEP };
    if any { gate.done } else { gate.none }
}
