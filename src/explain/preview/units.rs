//! The nodes that are taken together, since pods of one gang are on them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::{Ask, PlannedNode};
use crate::explain::risk::{Risk, RiskName};
use crate::plan::fleet::NodeState;
use crate::plan::gangs::KnownGangs;
use crate::plan::impact::Impact;
use crate::plan::names::first_of;
use crate::record::rolling::{NoRestartLeft, TooBig};

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
    /// So many restarts the jobs on them survive; absent where that is not known, or not limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts_left: Option<u32>,
    /// They are more than `maxUnavailable`.
    pub too_big: bool,
    /// In a sentence.
    pub message: String,
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
    if gangs.is_empty() {
        return Vec::new();
    }
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
        let left = unit.iter().flat_map(|node| gangs.on(node)).filter_map(|gang| gangs.members(gang));
        let restarts_left = left.filter_map(|members| members.restarts_left).min();
        let (gangs, nodes): (Vec<String>, Vec<String>) =
            (names.into_iter().collect(), unit.into_iter().collect());
        let message = format!("{}{}", sentence(ask, &gangs, &nodes, at_once), survives(ask, restarts_left));
        all.push(PlannedUnit { gangs, nodes, restarts_left, too_big, message });
    }
    all
}

fn sentence(ask: &Ask<'_>, gangs: &[String], nodes: &[String], at_once: usize) -> String {
    let named = |all: &[String]| first_of(all.iter(), NAMED);
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

fn survives(ask: &Ask<'_>, restarts: Option<u32>) -> String {
    match restarts {
        None => String::new(),
        Some(0) if ask.options.gangs.no_restart_left == NoRestartLeft::Wait => {
            "; it would not survive another restart: its nodes wait until it has ended".to_owned()
        }
        Some(0) => "; it does not survive that".to_owned(),
        Some(1) => "; it survives one more restart".to_owned(),
        Some(restarts) => format!("; it survives {restarts} more restarts"),
    }
}

/// What is to be thought of before.
pub(super) fn risks(units: &[PlannedUnit]) -> impl Iterator<Item = Risk> {
    units.iter().filter_map(|unit| {
        let name = match (unit.too_big, unit.restarts_left) {
            (true, _) => RiskName::GangTooBig,
            (false, Some(0)) => RiskName::GangOutOfRestarts,
            _ => return None,
        };
        Some(Risk::new(name, unit.message.clone()))
    })
}
