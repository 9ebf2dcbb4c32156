//! `nodes`: what runs on every node, and which of it is new.

use std::collections::BTreeMap;

use super::status::{components, state};
use super::table::{Cell, Table};
use super::view::{Node, Nodes, Why};
use super::{Look, Tone, time};

/// A row for each node.
pub fn nodes(nodes: &Nodes, why: &Why, look: &Look) -> String {
    let table = Table::new(&["NODE", "STATE", "SINCE", "COMPONENTS"]);
    draw(nodes, why, look, table.narrowing("COMPONENTS", &["SINCE"]))
}

/// The same for pipes and for `Accept: text/plain`.
pub fn nodes_plain(nodes: &Nodes, why: &Why, look: &Look) -> String {
    draw(nodes, why, look, Table::new(&["NODE", "STATE", "SINCE", "COMPONENTS"]).apart())
}

fn draw(nodes: &Nodes, why: &Why, look: &Look, mut table: Table) -> String {
    let in_work: BTreeMap<&str, _> = why.nodes.iter().map(|n| (n.node.as_str(), n)).collect();
    let left_out: BTreeMap<&str, _> = why.skipped.iter().map(|n| (n.node.as_str(), n)).collect();
    for node in &nodes.nodes {
        let (stage, since, tone) = match (in_work.get(node.node.as_str()), left_out.get(node.node.as_str())) {
            (Some(stuck), _) => {
                let bad = stuck.trouble.as_deref() == Some("Failed");
                let tone = if bad { Tone::Bad } else { Tone::Busy };
                (format!("{} {}", if bad { "✖" } else { "◌" }, stuck.stage), stuck.since, tone)
            }
            (None, Some(_)) => ("⚠ LeftOut".to_owned(), None, Tone::Warn),
            (None, None) => {
                let (stage, tone) = at_rest(node);
                (stage.to_owned(), None, tone)
            }
        };
        let mut what = components(node, None);
        if let Some(left) = left_out.get(node.node.as_str()) {
            what = format!("{what}  ({})", left.reason);
        }
        let failure = node.components.iter().flat_map(|c| &c.pods).find_map(|p| p.failure.as_deref());
        if let Some(failure) = failure {
            what = format!("{what}  ({failure})");
        }
        table.add_row([
            Cell::from(node.node.as_str()),
            Cell::of(stage, tone),
            Cell::from(time::age(since, look)),
            what.into(),
        ]);
    }
    table.draw(look)
}

/// A node that nobody works on.
fn at_rest(node: &Node) -> (&'static str, Tone) {
    let signs: Vec<&str> = node.components.iter().map(|c| state(c, None).0).collect();
    let has = |sign: &str| signs.contains(&sign);
    if has("✖") {
        ("✖ Failing", Tone::Bad)
    } else if has("◌") {
        ("◌ Starting", Tone::Busy)
    } else if has("·") {
        ("· Old", Tone::Plain)
    } else {
        ("✔ Current", Tone::Good)
    }
}

/// The pods of one node, old and new.
pub fn pods(node: &Node, look: &Look) -> String {
    let head = ["COMPONENT", "POD", "VERSION", "PHASE", "AGE", "FAILURE"];
    let mut table = Table::new(&head).narrowing("FAILURE", &["AGE", "VERSION"]);
    for component in &node.components {
        for pod in &component.pods {
            table.add_row([
                Cell::from(component.component.as_str()),
                Cell::from(pod.pod.as_str()),
                Cell::from(pod.version.as_str()),
                Cell::from(pod.phase.as_str()),
                Cell::from(time::age(pod.created_at, look)),
                Cell::from(pod.failure.as_deref().unwrap_or_default()),
            ]);
        }
    }
    table.draw(look)
}
