//! Which nodes to try first: a smallest set of them in which every class of nodes is tried.
//!
//! A class are the nodes with the same value of a key, such as a kernel version or a zone. What is chosen are
//! candidates: nodes that can only be taken together are one.

mod cover;

use std::collections::{BTreeMap, HashMap};

use super::fleet::NodeState;
use crate::record::rolling::Coverage;
use cover::{cover, left};

/// A class of nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// What tells it from the others.
    pub key: String,
    /// Its value; `None`: the nodes without any.
    pub value: Option<String>,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} {value}", self.key),
            None => write!(f, "no {}", self.key),
        }
    }
}

/// The classes of a node.
pub fn classes<'n>(node: &'n NodeState, keys: &'n [String]) -> impl Iterator<Item = Class> + 'n {
    keys.iter().map(|key| Class { key: key.clone(), value: node.value_of(key).map(str::to_owned) })
}

/// How a node stands in the eyes of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Its class is tried with it: it is done, or in work.
    Tried,
    /// It may be taken.
    Free,
    /// It is left out.
    LeftOut,
}

/// What is to be tried, and with which nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The candidates to take, by their position.
    pub candidates: Vec<usize>,
    /// The classes of all nodes concerned, with how many nodes they have.
    pub classes: BTreeMap<Class, usize>,
    /// Those of which fewer nodes are tried than asked for.
    pub missing: Vec<Class>,
    /// Those of which fewer nodes would be tried than asked for: others are left out, or it would take too many.
    pub untried: Vec<Class>,
    /// No smaller set would do.
    pub smallest: bool,
}

/// Chooses among candidates, each of one node or several, the earlier ones preferred, and at most so many. `nodes` are
/// all that are concerned.
pub fn choose<'n>(
    coverage: &Coverage,
    nodes: impl Iterator<Item = (&'n NodeState, Trial)>,
    candidates: &[Vec<&NodeState>],
    most: usize,
) -> Choice {
    let mut all: BTreeMap<Class, usize> = BTreeMap::new();
    let mut tried: HashMap<Class, usize> = HashMap::new();
    for (node, trial) in nodes {
        for class in classes(node, &coverage.keys) {
            if trial == Trial::Tried {
                *tried.entry(class.clone()).or_default() += 1;
            }
            *all.entry(class).or_default() += 1;
        }
    }
    let per_class = usize::try_from(coverage.per_class).unwrap_or(usize::MAX);
    let missing = |(class, count): (&Class, &usize)| {
        per_class.min(*count).saturating_sub(tried.get(class).copied().unwrap_or_default())
    };
    let needs: Vec<usize> = all.iter().map(missing).collect();
    let keys: Vec<usize> = all
        .keys()
        .map(|class| coverage.keys.iter().position(|key| *key == class.key).unwrap_or_default())
        .collect();
    let position: HashMap<&Class, usize> = all.keys().enumerate().map(|(at, class)| (class, at)).collect();
    let covers_of = |nodes: &Vec<&NodeState>| -> Vec<usize> {
        let all = nodes.iter().flat_map(|node| classes(node, &coverage.keys));
        all.filter_map(|class| position.get(&class).copied()).collect()
    };
    let covers: Vec<Vec<usize>> = candidates.iter().map(covers_of).collect();
    let (chosen, smallest) = cover(&needs, &keys, &covers, most);
    let left = left(&needs, &covers, &chosen);
    let open = |needs: Vec<usize>| -> Vec<Class> {
        all.keys().zip(needs).filter(|(_, need)| *need > 0).map(|(class, _)| class.clone()).collect()
    };
    let (missing, untried) = (open(needs), open(left));
    Choice { candidates: chosen, classes: all, missing, untried, smallest }
}
