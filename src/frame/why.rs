//! `why`: what keeps an upgrade, and each of its nodes, from getting on.

use super::status::{SHOWN, left_out, line_of};
use super::table::{Cell, Table};
use super::view::{Outside, Stuck, Why};
use super::{Look, clean, time, wrapped};

/// Everything, or one node alone.
pub fn why(why: &Why, node: Option<&str>, look: &Look) -> String {
    let mut text = String::new();
    if node.is_none() {
        text.push_str(&format!("{}\n", wrapped(&clean(&why.message), look.width, "  ")));
    }
    let wanted = |name: &str| node.is_none_or(|node| node == name);
    for stuck in why.nodes.iter().filter(|n| wanted(&n.node)) {
        text.push_str(&one(stuck, look));
    }
    let skipped: Vec<_> = why.skipped.iter().filter(|n| wanted(&n.node)).cloned().collect();
    text.push_str(&left_out(&skipped, look));
    let outside: Vec<&Outside> = why.outside_window.iter().filter(|n| wanted(&n.node)).collect();
    text.push_str(&waiting(&outside, look));
    for attention in why.attention.iter().filter(|a| node.is_none_or(|node| a.about.contains(node))) {
        text.push_str(&line_of(attention, look));
    }
    text
}

/// Whether it says anything of this node.
pub fn names(why: &Why, node: &str) -> bool {
    why.nodes.iter().any(|n| n.node == node)
        || why.skipped.iter().any(|n| n.node == node)
        || why.outside_window.iter().any(|n| n.node == node)
}

/// The nodes that wait for a maintenance window.
fn waiting(all: &[&Outside], look: &Look) -> String {
    let mut table = Table::new(&["OUTSIDE ITS WINDOW", "WHY"]).narrowing("WHY", &[]);
    let shown = if look.all { all.len() } else { SHOWN.min(all.len()) };
    for node in all.iter().take(shown) {
        table.add_row([Cell::from(node.node.as_str()), Cell::from(node.message.as_str())]);
    }
    let mut text = if all.is_empty() { String::new() } else { table.draw(look) };
    if all.len() > shown {
        text.push_str(&format!("… {} more (--all)\n", all.len() - shown));
    }
    text
}

fn one(stuck: &Stuck, look: &Look) -> String {
    let trouble = stuck.trouble.as_deref().map(|t| format!(", {t}")).unwrap_or_default();
    let until = stuck.until.map(|at| {
        let clock = time::clock(at, look);
        match at > look.now {
            true => format!(" (until {clock}, in {})", time::left(Some(at), look)),
            false => format!(" (it should have ended at {clock})"),
        }
    });
    let lines = [
        format!("{}  {}{trouble}, in work for {}", stuck.node, stuck.stage, time::age(stuck.since, look)),
        format!("  now   {}{}", stuck.message, until.unwrap_or_default()),
        format!("  then  {}", stuck.then),
    ];
    lines.iter().map(|l| format!("{}\n", wrapped(&clean(l), look.width, "        "))).collect()
}
