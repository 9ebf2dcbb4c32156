//! What blocks, worst first: since when, until when, what happens then, and the command to copy.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::fleet::shape;
use super::gr_page::{GrPage, held_since, of_node};
use super::{Shell, moment, told};
use crate::explain::fleet::NodeRolloutState;
use crate::explain::obstacles::{Stuck, Why};
use crate::plan::commands::Command;
use crate::record::rolling::TroubleKind;
use crate::record::{GcuUpgrade, Phase};

/// Nodes that are shown at once.
const SHOWN: usize = 8;
/// Nodes that can be unfolded beside these.
const UNFOLDED: usize = 200;
/// Names of nodes that are left out for the same reason.
const NAMED: usize = 6;

pub(super) fn attention(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let words = shell.words();
    let whole = page.active().and_then(|record| whole(shell, page, record));
    let why = page.why.filter(|w| !w.nodes.is_empty() || !w.skipped.is_empty());
    html! {
        h2 id="attention-title" { (words.attention) }
        @match whole {
            Some(whole) => { (whole) }
            None if page.held.is_none() && !why.is_some_and(blocks) => {
                p { (words.nothing_blocks) (waits_for(shell, page)) }
            }
            None => {}
        }
        @if let Some(held) = page.held { p.block lang="en" { (held) } }
        @if let Some(why) = why { (nodes(shell, page, why)) (skipped(shell, page, why)) }
    }
}

/// Whether any node does not come along.
fn blocks(why: &Why) -> bool {
    !why.skipped.is_empty() || why.nodes.iter().any(is_blocked)
}

fn is_blocked(stuck: &Stuck) -> bool {
    stuck.trouble.is_some() || stuck.keeps_a_pod()
}

/// What a healthy upgrade waits for.
fn waits_for(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let status = page.active().map(GcuUpgrade::known_status);
    let waiting = status.and_then(|s| s.waiting_on.clone());
    html! {
        @if let Some(waiting) = waiting {
            " " (shell.words().waits_for) " " (held_since(shell, &waiting.message, waiting.since))
        }
    }
}

/// What keeps the upgrade as a whole, where a person or a fault does.
fn whole(shell: &Shell<'_>, page: &GrPage<'_>, record: &GcuUpgrade) -> Option<Markup> {
    let status = record.known_status();
    let waiting =
        status.waiting_on.as_ref().filter(|_| matches!(status.phase, Phase::Held | Phase::Paused))?;
    let held = status.phase == Phase::Held;
    let way_on = [Command::Promote, Command::Resume, Command::Retry].into_iter();
    let way_on = way_on.filter(|command| page.legal.contains(command));
    Some(html! {
        div class=(if held { "block bad" } else { "block" }) {
            p { (held_since(shell, &waiting.message, waiting.since)) }
            @for command in way_on {
                (shell.command("POST", &format!("/gum/v1/gr/{}/{}", page.gr, command.word()), None))
            }
        }
    })
}

fn nodes(shell: &Shell<'_>, page: &GrPage<'_>, why: &Why) -> Markup {
    let words = shell.words();
    let (blocked, well): (Vec<&Stuck>, Vec<&Stuck>) = why.nodes.iter().partition(|s| is_blocked(s));
    let (shown, rest) = blocked.split_at(SHOWN.min(blocked.len()));
    let hidden = |id: &str, what: &str, all: &[&Stuck]| {
        html! {
            @if !all.is_empty() {
                details id=(id) {
                    summary { (all.len()) " " (what) }
                    ul.blocks { @for stuck in all.iter().take(UNFOLDED) { li { (node(shell, page, stuck)) } } }
                    @if all.len() > UNFOLDED {
                        p.dim { "+ " (all.len().saturating_sub(UNFOLDED)) " " (what) }
                    }
                }
            }
        }
    };
    html! {
        ul.blocks { @for stuck in shown { li { (node(shell, page, stuck)) } } }
        (hidden("more-blocked", words.more, rest))
        (hidden("in-work", words.in_work, &well))
    }
}

fn node(shell: &Shell<'_>, page: &GrPage<'_>, stuck: &Stuck) -> Markup {
    let words = shell.words();
    let path = |command: &str| format!("/gum/v1/gr/{}/nodes/{}/{command}", page.gr, stuck.node);
    let condition = condition(stuck);
    let failing = matches!(condition, NodeRolloutState::Failed | NodeRolloutState::Late);
    let blocked = failing || is_blocked(stuck);
    html! {
        div class=(if failing { "block bad" } else { "block" }) {
            p.what {
                (shape(condition)) strong { (stuck.node) } " "
                span.dim { (format!("{:?}", stuck.stage)) ", " (words.since) " " (moment(stuck.since)) }
            }
            p {
                (told(&stuck.message))
                @if let Some(until) = stuck.until { "; " (words.until) " " (moment(until)) }
                "; " (words.then) ": " (told(&stuck.then))
            }
            @if blocked {
                @if failing { (shell.command("POST", &path("retry"), None)) }
                @else { (shell.command("POST", &path("skip"), None)) }
                div.commands {
                    @if failing && page.offers(Command::RetryNode) {
                        (shell.button(page.gr, "retry-node", words.retry_node, "", &of_node(&stuck.node)))
                    }
                    @if page.offers(Command::Skip) {
                        (shell.button(page.gr, "skip", words.skip, "", &of_node(&stuck.node)))
                    }
                }
            }
        }
    }
}

fn condition(stuck: &Stuck) -> NodeRolloutState {
    use crate::plan::rolling::node::Stage;
    match (stuck.trouble, stuck.stage) {
        (Some(TroubleKind::Failed), _) => NodeRolloutState::Failed,
        (Some(TroubleKind::Late), _) => NodeRolloutState::Late,
        (_, Stage::Cordoning | Stage::WaitingForJobs | Stage::Evicting) => NodeRolloutState::Emptying,
        (_, Stage::Swapping | Stage::Verifying | Stage::Soaking) => NodeRolloutState::Swapping,
        (_, Stage::Releasing) => NodeRolloutState::Returning,
    }
}

/// By reason: a rack that is cordoned is one line.
fn skipped(shell: &Shell<'_>, page: &GrPage<'_>, why: &Why) -> Markup {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for skipped in &why.skipped {
        reasons.entry(&skipped.reason).or_default().push(&skipped.node);
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    html! {
        @if !reasons.is_empty() {
            ul.blocks { @for (reason, nodes) in &reasons { li { (one_reason(shell, page, reason, nodes)) } } }
        }
    }
}

fn one_reason(shell: &Shell<'_>, page: &GrPage<'_>, reason: &str, nodes: &[&str]) -> Markup {
    let words = shell.words();
    // One that was given up, or taken out by a person, comes back when that is asked for; others by themselves.
    let status =
        page.record().map(GcuUpgrade::known_status).and_then(|s| s.rolling.clone()).unwrap_or_default();
    let taken_out = page.record().map(|r| r.spec.skip.as_slice()).unwrap_or_default();
    let asked = |node: &&&str| {
        status.skipped.iter().any(|s| s.node == **node) || taken_out.iter().any(|s| s.node == **node)
    };
    let first = nodes.iter().find(asked);
    html! {
        div.block {
            p.what {
                (shape(NodeRolloutState::LeftOut))
                strong { (words.left_out) ": " (nodes.len()) }
                " " (told(reason))
            }
            p.dim {
                (nodes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", "))
                @if nodes.len() > NAMED { " + " (nodes.len().saturating_sub(NAMED)) }
            }
            @if let Some(first) = first {
                (shell.command("POST", &format!("/gum/v1/gr/{}/nodes/{first}/retry", page.gr), None))
            }
        }
    }
}
