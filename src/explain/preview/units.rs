//! The nodes that are taken together, since pods of one gang are on them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::{Ask, PlannedNode};
use crate::explain::risk::{Risk, RiskName};
use crate::plan::fleet::NodeState;
use crate::plan::gangs::KnownGangs;
use crate::plan::impact::Impact;
use crate::record::Strategy;
use crate::record::rolling::TooBig;

/// Nodes named in a message.
const NAMED: usize = 5;

/// Nodes that are taken together, since pods of one gang are on them: they are restarted together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedUnit {
    /// The gangs, as `namespace/name (label)`.
    pub gangs: Vec<String>,
    /// The nodes, by name.
    pub nodes: Vec<String>,
    /// They are more than `maxUnavailable`.
    pub too_big: bool,
    /// In a sentence.
    pub message: String,
}

/// The gangs of the pods that would have to leave.
pub(super) fn gangs(ask: &Ask<'_>) -> KnownGangs {
    if ask.strategy != Strategy::RollingUpdate {
        return KnownGangs::default();
    }
    let pods = ask.fleet.tenants.values().flatten().map(AsRef::as_ref);
    KnownGangs::among(pods, ask.options, ask.now)
}

/// Puts nodes that are taken together after one another, where the first of them is.
pub(super) fn in_order<'f>(nodes: Vec<&'f NodeState>, gangs: &KnownGangs) -> Vec<&'f NodeState> {
    if gangs.is_empty() {
        return nodes;
    }
    let by_name: BTreeMap<&str, &NodeState> = nodes.iter().map(|node| (node.name.as_str(), *node)).collect();
    let mut ordered = Vec::with_capacity(nodes.len());
    let mut placed: HashSet<String> = HashSet::new();
    for node in &nodes {
        if placed.contains(&node.name) {
            continue;
        }
        let unit = gangs.unit(&node.name, |other| by_name.contains_key(other) && !placed.contains(other));
        let others = unit.iter().filter(|name| **name != node.name);
        ordered.push(*node);
        ordered.extend(others.filter_map(|name| by_name.get(name.as_str())));
        placed.extend(unit);
    }
    ordered
}

/// The units of more than one node.
pub(super) fn units(
    ask: &Ask<'_>,
    nodes: &[PlannedNode],
    gangs: &KnownGangs,
    at_once: usize,
) -> Vec<PlannedUnit> {
    let drained: BTreeSet<&str> =
        nodes.iter().filter(|n| n.impact == Impact::Evict).map(|n| n.node.as_str()).collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut all = Vec::new();
    for node in &drained {
        if seen.contains(*node) {
            continue;
        }
        let unit = gangs.unit(node, |other| drained.contains(other));
        seen.extend(unit.iter().cloned());
        if unit.len() < 2 {
            continue;
        }
        let names: BTreeSet<String> =
            unit.iter().flat_map(|node| gangs.on(node)).map(ToString::to_string).collect();
        let too_big = unit.len() > at_once;
        let (gangs, nodes): (Vec<String>, Vec<String>) =
            (names.into_iter().collect(), unit.into_iter().collect());
        let message = sentence(ask, &gangs, &nodes, at_once);
        all.push(PlannedUnit { gangs, nodes, too_big, message });
    }
    all
}

fn sentence(ask: &Ask<'_>, gangs: &[String], nodes: &[String], at_once: usize) -> String {
    let named = |all: &[String]| {
        let more = all.len().saturating_sub(NAMED);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{rest}", all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))
    };
    let what = format!("{}: {} nodes ({})", named(gangs), nodes.len(), named(nodes));
    if nodes.len() <= at_once {
        return format!("{what}, together: one restart");
    }
    match ask.options.gangs.too_big {
        TooBig::Wait => format!(
            "{what}, more than maxUnavailable ({at_once}): they wait until it has ended or is on fewer nodes; raise \
             maxUnavailable, or ask for gangs.tooBig Split or Exceed"
        ),
        TooBig::Split => {
            format!(
                "{what}, more than maxUnavailable ({at_once}): one after the other, up to {} restarts",
                nodes.len()
            )
        }
        TooBig::Exceed => {
            format!("{what}, together: one restart, with more nodes in work than maxUnavailable ({at_once})")
        }
    }
}

/// What is to be thought of before.
pub(super) fn risks(units: &[PlannedUnit]) -> impl Iterator<Item = Risk> {
    let too_big = units.iter().filter(|unit| unit.too_big);
    too_big.map(|unit| Risk::new(RiskName::GangTooBig, unit.message.clone()))
}
