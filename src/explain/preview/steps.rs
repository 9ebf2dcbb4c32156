//! The steps of a rollout: which nodes come first, and how many come in each of the others.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::{Ask, Restarts};
use crate::explain::risk::{Risk, RiskName};
use crate::plan::coverage::{Class, Trial, choose};
use crate::plan::fleet::NodeState;
use crate::plan::gangs::KnownGangs;
use crate::plan::impact::Impact;
use crate::plan::names::first_of;
use crate::plan::rolling::canary::{CHOSEN, candidates};
use crate::plan::rolling::index::Index;
use crate::plan::rolling::window;
use crate::record::rolling::{Amount, Coverage, Promote, RollingUpdate};

/// Classes that are listed.
const CLASSES: usize = 200;
/// Nodes and classes named in a message.
const NAMED: usize = 5;

/// The steps of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Steps {
    /// How many there are.
    pub count: usize,
    /// So many nodes first, then `promote`, or the time of `soakSeconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<usize>,
    /// How long the canary soaks before the rollout goes on by itself, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak_seconds: Option<u32>,
    /// So many nodes in each of the others; absent when there is one for all the rest, or when `batches` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// The sizes of the others, where they were asked for; the last one repeats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<usize>,
    /// What comes between the others: `promote`, or so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<String>,
}

/// Which canary nodes try which classes of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedCoverage {
    /// The canary nodes.
    pub nodes: Vec<String>,
    /// Whether fewer nodes would not do.
    pub smallest: bool,
    /// The classes of nodes, the first 200.
    pub classes: Vec<PlannedClass>,
    /// In a sentence.
    pub message: String,
}

/// The nodes with the same value of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedClass {
    /// What tells the nodes apart.
    pub key: String,
    /// Their value; absent for those without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How many nodes there are.
    pub nodes: usize,
    /// Fewer of them would be tried than asked for: others are left out, or it would take too many nodes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub untried: bool,
}

/// The canary nodes of a plan.
#[derive(Default)]
pub(super) struct Canaries {
    /// How many there are, where there is a canary.
    pub(super) count: Option<usize>,
    pub(super) coverage: Option<PlannedCoverage>,
    pub(super) risks: Vec<Risk>,
}

/// Puts the canary nodes first.
pub(super) fn canaries(
    ask: &Ask<'_>,
    index: &Index<'_>,
    taken: &mut [&NodeState],
    gangs: &KnownGangs,
    at_once: usize,
    concerned: usize,
) -> Canaries {
    let Some(canary) = &ask.options.canary else { return Canaries::default() };
    if let Some(coverage) = &canary.coverage {
        return covering(ask, index, taken, gangs, at_once, coverage);
    }
    let count = if canary.node_selector.is_empty() {
        canary.nodes.map_or(taken.len(), |n| n.of(concerned)).min(taken.len())
    } else {
        taken.sort_by_key(|n| !n.labels.match_all(&canary.node_selector));
        taken.iter().filter(|n| n.labels.match_all(&canary.node_selector)).count()
    };
    Canaries { count: Some(count), ..Canaries::default() }
}

fn covering(
    ask: &Ask<'_>,
    index: &Index<'_>,
    taken: &mut [&NodeState],
    gangs: &KnownGangs,
    at_once: usize,
    coverage: &Coverage,
) -> Canaries {
    let free: HashSet<&str> = taken.iter().map(|node| node.name.as_str()).collect();
    let trial = |node: &NodeState| match window::why_skipped(node, &Default::default(), &[]) {
        _ if free.contains(node.name.as_str()) => Trial::Free,
        Some(_) => Trial::LeftOut,
        None => Trial::Tried,
    };
    let all = window::concerned(index, ask.options);
    let drained = |node: &str| Restarts::on(index, node).impact() == Impact::Evict;
    let candidates = candidates(gangs, drained, ask.options, at_once, taken);
    let nodes = all.iter().map(|node| (*node, trial(node)));
    let choice = choose(coverage, nodes, &candidates, CHOSEN);
    let chosen: HashSet<&str> = choice
        .candidates
        .iter()
        .filter_map(|at| candidates.get(*at))
        .flatten()
        .map(|node| node.name.as_str())
        .collect();
    taken.sort_by_key(|node| !chosen.contains(node.name.as_str()));
    let names: Vec<String> = taken.iter().take(chosen.len()).map(|node| node.name.clone()).collect();
    let classes = choice.classes.iter().take(CLASSES).map(|(class, nodes)| PlannedClass {
        key: class.key.clone(),
        value: class.value.clone(),
        nodes: *nodes,
        untried: choice.untried.contains(class),
    });
    let message = sentence(coverage, &names, choice.classes.len(), choice.smallest);
    Canaries {
        count: Some(chosen.len()),
        risks: gaps(coverage, &choice.classes, &choice.untried),
        coverage: Some(PlannedCoverage {
            smallest: choice.smallest,
            classes: classes.collect(),
            message,
            nodes: names,
        }),
    }
}

fn sentence(coverage: &Coverage, nodes: &[String], classes: usize, smallest: bool) -> String {
    let how_many = match (nodes.len(), smallest) {
        (0 | 1, _) => "",
        (_, true) => ", no fewer would do",
        (_, false) => ", whether fewer would do is not known",
    };
    let each = match coverage.per_class {
        1 => String::new(),
        per_class => format!(" {per_class} times each"),
    };
    let verb = if nodes.len() == 1 { "node tries" } else { "nodes try" };
    format!(
        "{} {verb} {classes} classes of {}{each}{how_many}: {}",
        nodes.len(),
        coverage.keys.join(", "),
        first_of(nodes.iter(), NAMED)
    )
}

fn gaps(coverage: &Coverage, classes: &BTreeMap<Class, usize>, untried: &[Class]) -> Vec<Risk> {
    let mut gaps = Vec::new();
    for key in &coverage.keys {
        let mut values = classes.keys().filter(|class| class.key == *key);
        if values.clone().next().is_some() && values.all(|class| class.value.is_none()) {
            gaps.push(format!("no node has {key}: the canary tells no nodes apart by it"));
        }
    }
    if !untried.is_empty() {
        let named = first_of(untried.iter(), NAMED);
        gaps.push(format!("the canary tries too few nodes, or none, of these classes: {named}"));
    }
    gaps.into_iter().map(|gap| Risk::new(RiskName::CoverageGap, gap)).collect()
}

/// The steps, where there are several.
pub(super) fn steps(
    options: &RollingUpdate,
    nodes: usize,
    concerned: usize,
    at_once: usize,
    canary: Option<usize>,
) -> Option<Steps> {
    let paused = options.manual || options.pause_between_seconds > 0;
    let batches: Vec<usize> = options.batches.iter().map(|size: &Amount| size.of(concerned)).collect();
    let size = (paused && batches.is_empty()).then_some(at_once);
    if canary.is_none() && size.is_none() && batches.is_empty() {
        return None;
    }
    let between = match options.manual {
        true => Some("promote".to_owned()),
        false => paused.then(|| format!("{} s", options.pause_between_seconds)),
    };
    let soaks = options.canary.as_ref().filter(|canary| canary.promote == Promote::AfterSoak);
    let mut steps = Steps {
        count: 0,
        canary,
        soak_seconds: soaks.map(|canary| canary.soak_seconds),
        size,
        batches,
        between,
    };
    steps.count = nodes.checked_sub(1).map_or(0, |last| steps.of(last).saturating_add(1));
    Some(steps)
}

impl Steps {
    /// In which step the node at this place is taken, both counted from 0.
    pub(super) fn of(&self, place: usize) -> usize {
        let Some(mut left) = place.checked_sub(self.canary.unwrap_or_default()) else { return 0 };
        let mut step = usize::from(self.canary.is_some());
        let (last, before) = match self.batches.split_last() {
            Some((last, before)) => (Some(*last), before),
            None => (self.size, Default::default()),
        };
        for size in before {
            match left.checked_sub(*size) {
                Some(after) => left = after,
                None => return step,
            }
            step = step.saturating_add(1);
        }
        step.saturating_add(last.map_or(0, |size| left / size.max(1)))
    }

    /// In words.
    pub(super) fn in_words(&self, at_once: usize) -> String {
        let mut text = format!("{}", self.count);
        if let Some(canary) = self.canary {
            let then =
                self.soak_seconds.map_or_else(|| "promote".to_owned(), |soak| format!("{soak} s of soak"));
            text.push_str(&format!(": a canary of {canary}, then {then}"));
        }
        let joint = if self.canary.is_some() { "; then" } else { ":" };
        let between = self.between.as_ref().map(|between| format!(", {between} between")).unwrap_or_default();
        if !self.batches.is_empty() {
            let sizes: Vec<String> = self.batches.iter().map(ToString::to_string).collect();
            text.push_str(&format!("{joint} steps of {} nodes{between}", sizes.join(", ")));
        } else if let Some(size) = self.size {
            text.push_str(&format!("{joint} {size} nodes each{between}"));
        } else {
            text.push_str(&format!("; then the rest, {at_once} at once"));
        }
        text
    }
}
