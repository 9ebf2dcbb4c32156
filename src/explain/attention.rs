//! What a person should look at: what stands in the way, what that does to the upgrade, and what helps. Worst first.

use super::obstacles::{Attention, Stuck, Why};
use super::progress::{held, window_waited_for};
use crate::plan::commands::{Command, State, effect};
use crate::plan::rolling::node::Stage;
use crate::record::rolling::TroubleKind;
use crate::record::{GcuUpgrade, Phase};

/// What of this upgrade a person should look at.
pub fn attention(record: &GcuUpgrade, why: &Why) -> Vec<Attention> {
    let status = record.known_status();
    if status.phase.is_final() {
        return Vec::new();
    }
    let mut all = Vec::new();
    let since = status.waiting_on.as_ref().map(|w| w.since).or(status.step_since);
    let may = |command| effect(command, &State::of(record)).is_ok();
    match status.phase {
        Phase::Held => all.push(Attention {
            since: status.holding("Held").map(|c| c.last_transition_time),
            about: format!("held: {}", held(&status)),
            effect: "it goes on by itself when that is resolved".to_owned(),
            r#try: may(Command::Retry).then(|| "retry".to_owned()),
        }),
        Phase::Paused if may(Command::Promote) => all.push(Attention {
            since,
            about: "the step is done, and the next waits for you".to_owned(),
            effect: "no further node is taken".to_owned(),
            r#try: Some("promote".to_owned()),
        }),
        Phase::Paused if may(Command::Resume) => all.push(Attention {
            since,
            about: "a person has paused it".to_owned(),
            effect: "no further node is taken".to_owned(),
            r#try: Some("resume".to_owned()),
        }),
        Phase::Running if window_waited_for(&status).is_some() => all.push(Attention {
            since,
            about: window_waited_for(&status).unwrap_or_default().to_owned(),
            effect: "no further node is taken".to_owned(),
            r#try: None,
        }),
        Phase::Pending => all.push(Attention {
            since: record.metadata.creation_timestamp.as_ref().map(|t| t.0),
            about: "nobody has taken it up yet".to_owned(),
            effect: "nothing happens".to_owned(),
            r#try: Some("doctor".to_owned()),
        }),
        _ => {}
    }
    all.extend(why.nodes.iter().filter_map(of_node));
    all
}

fn of_node(node: &Stuck) -> Option<Attention> {
    let blocked = node.stage == Stage::Evicting && node.keeps_a_pod();
    let (effect, help) = match node.trouble {
        Some(TroubleKind::Failed) => ("counts as failed", format!("skip {}", node.node)),
        Some(TroubleKind::Late) => ("holds the upgrade up", format!("why {}", node.node)),
        Some(TroubleKind::Settling) => ("may pass", format!("why {}", node.node)),
        None if blocked => ("slows the upgrade", format!("why {}", node.node)),
        None => return None,
    };
    Some(Attention {
        since: Some(node.since),
        about: format!("{}: {}", node.node, node.message),
        effect: effect.to_owned(),
        r#try: Some(help),
    })
}
