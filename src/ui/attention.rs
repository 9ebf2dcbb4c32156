//! What blocks, worst first: since when, until when, what happens then, and the command to copy.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::fleet::shape;
use super::gr::{GrPage, held_since, of_node};
use super::{Shell, moment, told};
use crate::explain::fleet::NodeCondition;
use crate::explain::why::{Stuck, Why};
use crate::plan::commands::Command;
use crate::record::rolling::TroubleKind;
use crate::record::{GcuUpgrade, Phase};

/// Nodes that are shown at once.
const SHOWN: usize = 8;
/// Names of nodes that are left out for the same reason.
const NAMED: usize = 6;

pub(super) fn attention(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let words = shell.words();
    let whole = page.active().and_then(|record| whole(shell, page, record));
    let why = page.why.filter(|w| !w.nodes.is_empty() || !w.skipped.is_empty());
    html! {
        h2 id="attention-title" { (words.attention) }
        @if whole.is_none() && why.is_none() && page.held.is_none() {
            p { (words.nothing_blocks) }
        }
        @if let Some(whole) = whole { (whole) }
        @if let Some(held) = page.held { p.block lang="en" { (held) } }
        @if let Some(why) = why { (nodes(shell, page, why)) (skipped(shell, page, why)) }
    }
}

/// What keeps the upgrade as a whole.
fn whole(shell: &Shell<'_>, page: &GrPage<'_>, record: &GcuUpgrade) -> Option<Markup> {
    let status = record.status_or_default();
    let waiting = status.waiting_on.as_ref()?;
    let blocked = matches!(status.phase, Phase::Held | Phase::Paused);
    let way_on = [Command::Promote, Command::Resume, Command::Retry].into_iter();
    let way_on = way_on.filter(|command| page.legal.contains(command));
    Some(html! {
        div class=(if blocked { "block bad" } else { "block" }) {
            p { (held_since(shell, &waiting.message, waiting.since)) }
            @for command in way_on {
                (shell.command("POST", &format!("/gum/v1/gr/{}/{}", page.gr, command.word()), None))
            }
        }
    })
}

fn nodes(shell: &Shell<'_>, page: &GrPage<'_>, why: &Why) -> Markup {
    let words = shell.words();
    let (shown, rest) = why.nodes.split_at(SHOWN.min(why.nodes.len()));
    html! {
        ul.blocks { @for stuck in shown { li { (node(shell, page, stuck)) } } }
        @if !rest.is_empty() {
            details id="more-nodes" {
                summary { (rest.len()) " " (words.more) }
                ul.blocks { @for stuck in rest { li { (node(shell, page, stuck)) } } }
            }
        }
    }
}

fn node(shell: &Shell<'_>, page: &GrPage<'_>, stuck: &Stuck) -> Markup {
    let words = shell.words();
    let path = |command: &str| format!("/gum/v1/gr/{}/nodes/{}/{command}", page.gr, stuck.node);
    let condition = condition(stuck);
    let failing = matches!(condition, NodeCondition::Failed | NodeCondition::Late);
    let blocked = failing || stuck.message.contains("cannot be evicted");
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

fn condition(stuck: &Stuck) -> NodeCondition {
    use crate::plan::rolling::node::Stage;
    match (stuck.trouble, stuck.stage) {
        (Some(TroubleKind::Failed), _) => NodeCondition::Failed,
        (Some(TroubleKind::Late), _) => NodeCondition::Late,
        (_, Stage::Cordoning | Stage::WaitingForJobs | Stage::Evicting) => NodeCondition::Emptying,
        (_, Stage::Swapping | Stage::Verifying | Stage::Soaking) => NodeCondition::Swapping,
        (_, Stage::Releasing) => NodeCondition::Returning,
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
    let first = nodes.first().copied().unwrap_or_default();
    html! {
        div.block {
            p.what {
                (shape(NodeCondition::LeftOut))
                strong { (words.left_out) ": " (nodes.len()) }
                " " (told(reason))
            }
            p.dim {
                (nodes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", "))
                @if nodes.len() > NAMED { " + " (nodes.len().saturating_sub(NAMED)) }
            }
            (shell.command("POST", &format!("/gum/v1/gr/{}/nodes/{first}/retry", page.gr), None))
        }
    }
}
