//! `status`: one upgrade, the nodes that it works on, and what a person should look at.

use std::collections::BTreeMap;

use super::table::{Cell, Table};
use super::view::{Attention, Claim, LeftOut, Node, NodeComponent, Pod, Stuck, Upgrade, Why};
use super::{Look, Tone, bar, clean, cut, list, phase, time, width, wrapped};
use crate::gr::dependency_order;

/// Nodes in work that are named; the others are counted.
pub const SHOWN: usize = 8;
/// What a person should look at that is named, worst first; the rest is counted.
const ATTENTION: usize = 20;

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The record.
    pub upgrade: Upgrade,
    /// What its nodes do; as the record has it where the cluster may not be looked at.
    pub why: Why,
    /// The components' pods of the nodes that are named, by node.
    pub pods: BTreeMap<String, Node>,
    /// What else has to be said, such as that nobody acts.
    pub notes: Vec<String>,
}

/// The whole frame.
pub fn status(status: &Status, look: &Look) -> String {
    let mut text = head(status, look);
    text.push_str(&nodes(status, look));
    let all = &status.why.attention;
    let shown = if look.all { all.len() } else { ATTENTION.min(all.len()) };
    for attention in all.iter().take(shown) {
        text.push_str(&line_of(attention, look));
    }
    if all.len() > shown {
        text.push_str(&format!("… {} more (--all)\n", all.len() - shown));
    }
    for note in &status.notes {
        text.push_str(&format!("{}\n", Tone::Warn.paint(&wrapped(&clean(note), look.width, "  "), look)));
    }
    text
}

/// `Attention` lines alone. What helps stands on a line of its own where it has to be broken: it is copied.
pub(super) fn line_of(attention: &Attention, look: &Look) -> String {
    const BEFORE: &str = "           ";
    let since = attention.since.map(|at| format!("  {}", time::age(Some(at), look))).unwrap_or_default();
    let effect =
        Some(&attention.effect).filter(|e| !e.is_empty()).map(|e| format!("   {e}")).unwrap_or_default();
    let what = clean(&format!("Attention{since}  ⚠ {}{effect}", attention.about));
    let help = attention.r#try.as_ref().map(|t| clean(&format!("try: kubectl gcu-upgrade {t}")));
    let text = match help {
        None => wrapped(&what, look.width, BEFORE),
        Some(help) if look.width.is_none_or(|columns| width(&what) + 3 + width(&help) <= columns) => {
            format!("{what}   {help}")
        }
        Some(help) => format!("{}\n{BEFORE}{help}", wrapped(&what, look.width, BEFORE)),
    };
    format!("{}\n", Tone::Warn.paint(&text, look))
}

fn head(status: &Status, look: &Look) -> String {
    let upgrade = &status.upgrade;
    let (sign, tone) = phase(&upgrade.phase);
    let step = match (&upgrade.rolling, steps(upgrade)) {
        _ if upgrade.is_final() || upgrade.phase == "Pending" || upgrade.step.is_empty() => String::new(),
        (Some(rolling), Some(steps)) if upgrade.step == "Rolling" => {
            format!(", step {}/{steps}", rolling.step + 1)
        }
        _ => format!(", {}", upgrade.step),
    };
    let back = if upgrade.goal == "Previous" && !upgrade.is_final() { "  ↶ on its way back" } else { "" };
    let (name, state) = (clean(&upgrade.name), format!("{sign} {}{step}{back}", upgrade.phase));
    let mut efficiency = upgrade.efficiency.map(|e| format!("   efficiency {e:.2}")).unwrap_or_default();
    let mut change = upgrade.change.as_deref().map(|c| format!("  {}", clean(c))).unwrap_or_default();
    if let Some(columns) = look.width {
        // The state is what people look for: what else is told gives way.
        let fixed = width(&name) + 2 + width(&state);
        if fixed + width(&change) + width(&efficiency) > columns {
            efficiency.clear();
            change = cut(&change, columns.saturating_sub(fixed).max(3));
        }
    }
    let mut text = format!("{name}{change}  {}{efficiency}\n", tone.paint(&state, look));
    if let Some(nodes) = upgrade.nodes.as_ref().filter(|nodes| nodes.total > 0) {
        let eta = list::eta(upgrade, look);
        let eta = if eta.is_empty() || upgrade.is_final() { String::new() } else { format!("   ETA {eta}") };
        let counts = format!(
            "{} {}/{} done · {} in work · {} left out · {} failed{eta}",
            bar::bar(nodes.done, nodes.total),
            nodes.done,
            nodes.total,
            nodes.active,
            nodes.skipped,
            nodes.failed
        );
        text.push_str(&format!("{}\n", wrapped(&counts, look.width, "          ")));
    }
    let message = message(upgrade);
    let told = status.why.attention.iter().any(|a| a.about.contains(message))
        || (upgrade.phase == "Running" && upgrade.nodes.is_some());
    // Who is asked to promote need not be told that promote is waited for.
    let asked = upgrade.phase == "Paused" && !status.why.attention.is_empty();
    if !told && !asked && upgrade.phase != "Pending" {
        text.push_str(&format!("{}\n", wrapped(&clean(message), look.width, "  ")));
    }
    if let Some(cause) = &upgrade.cause {
        text.push_str(&format!(
            "{}\n",
            wrapped(&format!("Turned back because {}", clean(cause)), look.width, "  ")
        ));
    }
    text
}

/// What is waited for says more than the last event.
fn message(upgrade: &Upgrade) -> &str {
    let waiting = upgrade.waiting_on.as_ref().filter(|_| !upgrade.is_final()).map(|w| w.message.as_str());
    match waiting.filter(|w| !w.is_empty()) {
        Some(waiting) => waiting,
        None if upgrade.message.is_empty() => "it has not been taken up yet",
        None => &upgrade.message,
    }
}

/// How many steps there are: a canary and the rest; more only the plan knows.
fn steps(upgrade: &Upgrade) -> Option<u32> {
    let options = upgrade.rolling_update.as_ref()?;
    let is = |field: &str| options.get(field).is_some_and(|v| !v.is_null() && v != false && v != 0);
    (is("canary") && !is("manual") && !is("batches") && !is("pauseBetweenSeconds")).then_some(2)
}

fn nodes(status: &Status, look: &Look) -> String {
    let Status { upgrade, why, .. } = status;
    if upgrade.is_final() {
        return String::new();
    }
    let of_record = || Why::of_record(&upgrade.rolling.clone().unwrap_or_default()).nodes;
    let all = if why.nodes.is_empty() { of_record() } else { why.nodes.clone() };
    if all.is_empty() {
        return String::new();
    }
    let shown = if look.all { all.len() } else { SHOWN.min(all.len()) };
    let more = all.len() - shown;
    let mut table =
        Table::new(&["NODE", "STAGE", "SINCE", "UNTIL", "INFO"]).narrowing("INFO", &["UNTIL", "SINCE"]);
    for (place, node) in all.iter().take(shown).enumerate() {
        let last = more == 0 && place + 1 == shown;
        let (sign, tone) = sign(node);
        table.add_row([
            Cell::of(format!("{} {sign} {}", if last { "└─" } else { "├─" }, node.node), tone),
            Cell::from(node.stage.as_str()),
            Cell::from(time::age(node.since, look)),
            Cell::from(time::left(node.until, look)),
            Cell::from(info(node, status)),
        ]);
    }
    if more > 0 {
        table.add_row([Cell::of(format!("└─ … {more} more (--all)"), Tone::Faint)]);
    }
    table.draw(look)
}

fn sign(node: &Stuck) -> (&'static str, Tone) {
    match node.trouble.as_deref() {
        Some("Failed") => ("✖", Tone::Bad),
        Some(_) => ("⚠", Tone::Warn),
        None if node.message.contains("cannot be evicted") => ("⚠", Tone::Warn),
        None => ("◌", Tone::Plain),
    }
}

/// What a node waits for; of one whose pods are being replaced, which of them have been.
fn info(node: &Stuck, status: &Status) -> String {
    // What comes after the first clause `why` tells.
    let then = node.then.split(';').next().filter(|then| !then.is_empty());
    let then = then.map(|then| format!(" → then {then}")).unwrap_or_default();
    let claim = status.upgrade.rolling.iter().flat_map(|r| &r.active).find(|claim| claim.node == node.node);
    match status.pods.get(&node.node).filter(|_| node.stage == "Swapping" && node.trouble.is_none()) {
        Some(pods) => components(pods, claim),
        None if sign(node).0 != "◌" => format!("{}{then}", node.message),
        None => node.message.clone(),
    }
}

/// `driver ✔ toolkit ◌ plugin ·`, in the order in which they are replaced. The claim tells which pods are replaced
/// though their template does not change.
pub(super) fn components(node: &Node, claim: Option<&Claim>) -> String {
    let mut all: Vec<&NodeComponent> = node.components.iter().collect();
    all.sort_by_key(|c| dependency_order(&c.component));
    all.into_iter().map(|c| format!("{} {}", c.component, state(c, claim).0)).collect::<Vec<_>>().join(" ")
}

/// The sign of a component on a node, and how it is meant.
pub(super) fn state(of: &NodeComponent, claim: Option<&Claim>) -> (&'static str, Tone) {
    let there = || of.pods.iter().filter(|p| p.phase != "deleted");
    let is_old = |p: &Pod| p.version == "old" || claim.is_some_and(|c| c.is_to_replace(&of.component, p));
    if there().any(|p| p.failure.is_some()) {
        ("✖", Tone::Bad)
    } else if there().next().is_none() || there().any(|p| p.phase != "ready") {
        ("◌", Tone::Busy)
    } else if there().any(is_old) {
        ("·", Tone::Faint)
    } else {
        ("✔", Tone::Good)
    }
}

/// Nodes that are left out, each with why.
pub(super) fn left_out(all: &[LeftOut], look: &Look) -> String {
    let mut table = Table::new(&["LEFT OUT", "WHY"]).narrowing("WHY", &[]);
    let shown = if look.all { all.len() } else { SHOWN.min(all.len()) };
    for node in all.iter().take(shown) {
        table.add_row([Cell::from(node.node.as_str()), Cell::from(node.reason.as_str())]);
    }
    let mut text = if all.is_empty() { String::new() } else { table.draw(look) };
    if all.len() > shown {
        text.push_str(&format!("… {} more (--all)\n", all.len() - shown));
    }
    text
}

/// One line, for whoever watches without a terminal.
pub fn line(status: &Status, look: &Look) -> String {
    let upgrade = &status.upgrade;
    let counts = upgrade.nodes.as_ref().filter(|n| n.total > 0).map(|n| {
        let eta = list::eta(upgrade, look);
        let eta = if eta.is_empty() || upgrade.is_final() { String::new() } else { format!(", ETA {eta}") };
        format!(
            " {}/{} done, {} in work, {} left out, {} failed{eta}",
            n.done, n.total, n.active, n.skipped, n.failed
        )
    });
    let message = format!(": {}", clean(message(upgrade)));
    format!(
        "{} {} {}{}{message}\n",
        time::full(look.now, look),
        clean(&upgrade.name),
        upgrade.phase,
        counts.unwrap_or_default()
    )
}
