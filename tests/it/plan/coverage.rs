//! Which nodes a canary tries first, beside a search through all sets of them.

use std::collections::BTreeMap;

use gcu_upgrade_manager::plan::coverage::{Choice, Class, Trial, choose, classes};
use gcu_upgrade_manager::plan::fleet::{NodeLabels, NodeState};
use gcu_upgrade_manager::record::rolling::Coverage;

use crate::dice::Dice;

fn node(name: &str, labels: &[(&str, &str)]) -> NodeState {
    NodeState {
        name: name.to_owned(),
        resource_version: "1".to_owned(),
        ready: true,
        cordoned: false,
        opted_out: false,
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        info: NodeLabels::default(),
        mark: None,
        gcus: 8,
    }
}

fn coverage(keys: &[&str], per_class: u32) -> Coverage {
    Coverage { keys: keys.iter().map(|key| (*key).to_owned()).collect(), per_class }
}

fn chosen(coverage: &Coverage, nodes: &[NodeState], most: usize) -> Choice {
    let all = nodes.iter().map(|node| (node, Trial::Free));
    choose(coverage, all, &nodes.iter().map(|node| vec![node]).collect::<Vec<_>>(), most)
}

/// How many nodes of each class these candidates and those that are tried come to.
fn tried(coverage: &Coverage, nodes: &[&NodeState]) -> BTreeMap<Class, usize> {
    let mut tried = BTreeMap::new();
    let all = nodes.iter().flat_map(|node| classes(node, &coverage.keys));
    all.for_each(|class| *tried.entry(class).or_default() += 1);
    tried
}

#[test]
fn over_3000_random_clusters_no_smaller_set_of_nodes_tries_every_class_than_the_one_that_is_chosen() {
    let mut several = 0;
    for seed in 0..3000 {
        let mut dice = Dice::new(seed);
        let keys: Vec<String> = (0..=dice.below(3)).map(|key| format!("key-{key}")).collect();
        let values = 1 + dice.below(4);
        let coverage = Coverage { keys, per_class: 1 + dice.below(3) as u32 };
        let nodes: Vec<NodeState> = (0..=dice.below(12))
            .map(|number| {
                let labels: Vec<(String, String)> = coverage
                    .keys
                    .iter()
                    .filter_map(|key| Some((key.clone(), dice.below(values + 1).checked_sub(1)?.to_string())))
                    .collect();
                let labels: Vec<(&str, &str)> =
                    labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                node(&format!("node-{number}"), &labels)
            })
            .collect();
        let trials: Vec<Trial> = nodes
            .iter()
            .map(|_| match dice.below(8) {
                0 => Trial::LeftOut,
                1 => Trial::Tried,
                _ => Trial::Free,
            })
            .collect();
        // Some of those that can be taken go together.
        let mut candidates: Vec<Vec<&NodeState>> = Vec::new();
        for (node, _) in nodes.iter().zip(&trials).filter(|(_, trial)| **trial == Trial::Free) {
            match candidates.last_mut() {
                Some(unit) if dice.chance(20) => unit.push(node),
                _ => candidates.push(vec![node]),
            }
        }
        let choice = choose(&coverage, nodes.iter().zip(trials.iter().copied()), &candidates, 100);

        let before: Vec<&NodeState> = nodes
            .iter()
            .zip(&trials)
            .filter(|(_, trial)| **trial == Trial::Tried)
            .map(|(node, _)| node)
            .collect();
        let of = |taken: &[&Vec<&NodeState>]| -> BTreeMap<Class, usize> {
            let all: Vec<&NodeState> =
                before.iter().copied().chain(taken.iter().flat_map(|unit| unit.iter().copied())).collect();
            tried(&coverage, &all)
        };
        let everything = of(&candidates.iter().collect::<Vec<_>>());
        let concerned = tried(&coverage, &nodes.iter().collect::<Vec<_>>());
        let wanted = |class: &Class| concerned[class].min(coverage.per_class as usize);
        let count = |of: &BTreeMap<Class, usize>, class: &Class| of.get(class).copied().unwrap_or_default();
        let does = |taken: &[&Vec<&NodeState>]| {
            let come_to = of(taken);
            concerned
                .keys()
                .all(|class| count(&come_to, class) >= wanted(class).min(count(&everything, class)))
        };
        let taken: Vec<&Vec<&NodeState>> = choice.candidates.iter().map(|at| &candidates[*at]).collect();
        assert!(does(&taken), "seed {seed}: {choice:?}");
        assert!(choice.smallest, "seed {seed}: {choice:?}");
        let fewest = (0_u32..1 << candidates.len())
            .filter(|set| {
                let taken: Vec<&Vec<&NodeState>> = (0..candidates.len())
                    .filter(|at| set & (1 << at) != 0)
                    .map(|at| &candidates[at])
                    .collect();
                (set.count_ones() as usize) < choice.candidates.len() && does(&taken)
            })
            .map(u32::count_ones)
            .min();
        assert_eq!(fewest, None, "seed {seed}: {} are not needed: {choice:?}", choice.candidates.len());
        let untried: Vec<&Class> =
            concerned.keys().filter(|class| count(&everything, class) < wanted(class)).collect();
        assert_eq!(choice.untried.iter().collect::<Vec<_>>(), untried, "seed {seed}");
        several += usize::from(choice.candidates.len() > 2);
    }
    assert!(several > 500, "most clusters need so few nodes that there is nothing to search: {several}");
}

#[test]
fn among_nodes_that_try_the_same_the_first_is_chosen() {
    let nodes =
        [node("busy", &[("zone", "a")]), node("idle", &[("zone", "a")]), node("other", &[("zone", "b")])];
    let candidates = vec![vec![&nodes[1]], vec![&nodes[0]], vec![&nodes[2]]];
    let all = nodes.iter().map(|node| (node, Trial::Free));
    assert_eq!(choose(&coverage(&["zone"], 1), all, &candidates, 100).candidates, [0, 2]);
}

#[test]
fn nodes_that_are_busy_are_chosen_only_where_no_others_would_do_with_as_few() {
    // The last one tries two classes, and two idle ones have to be there besides: three idle ones do as well.
    let nodes: Vec<NodeState> = [
        ("idle-1", [("zone", "c"), ("kernel", "5")]),
        ("idle-2", [("zone", "a"), ("kernel", "5")]),
        ("idle-3", [("zone", "b"), ("kernel", "4")]),
        ("busy-1", [("zone", "a"), ("kernel", "5")]),
        ("busy-2", [("zone", "b"), ("kernel", "5")]),
    ]
    .iter()
    .map(|(name, labels)| node(name, labels))
    .collect();
    let candidates = vec![vec![&nodes[0]], vec![&nodes[1]], vec![&nodes[2]], vec![&nodes[3], &nodes[4]]];
    let all = nodes.iter().map(|node| (node, Trial::Free));
    let choice = choose(&coverage(&["zone", "kernel"], 1), all, &candidates, 100);
    assert_eq!((choice.candidates, choice.smallest), (vec![0, 1, 2], true));
}

#[test]
fn taking_the_best_node_each_time_would_need_more_nodes_than_there_have_to_be() {
    // The first node tries the most, and then three more are needed.
    let nodes: Vec<NodeState> = [
        ("n-1", [("a", "1"), ("b", "1"), ("c", "1")]),
        ("n-2", [("a", "1"), ("b", "2"), ("c", "2")]),
        ("n-3", [("a", "2"), ("b", "1"), ("c", "3")]),
        ("n-4", [("a", "3"), ("b", "3"), ("c", "1")]),
    ]
    .iter()
    .map(|(name, labels)| node(name, labels))
    .collect();
    let choice = chosen(&coverage(&["a", "b", "c"], 1), &nodes, 100);
    assert_eq!((choice.candidates, choice.smallest), (vec![1, 2, 3], true));
}

#[test]
fn where_every_node_is_a_class_of_its_own_so_many_are_tried_as_may_be_chosen_and_the_others_are_named() {
    let nodes: Vec<NodeState> = (0..3000)
        .map(|number| {
            node(&format!("node-{number}"), &[("kubernetes.io/hostname", &format!("node-{number}"))])
        })
        .collect();
    let choice = chosen(&coverage(&["kubernetes.io/hostname"], 1), &nodes, 100);
    assert_eq!((choice.candidates.len(), choice.untried.len(), choice.classes.len()), (100, 2900, 3000));
}

#[test]
fn a_search_that_takes_too_long_ends_with_the_best_set_found_and_says_so_or_finds_the_smallest() {
    let mut dice = Dice::new(7);
    let keys: Vec<String> = (0..4).map(|key| format!("key-{key}")).collect();
    let nodes: Vec<NodeState> = (0..2000)
        .map(|number| {
            let labels: Vec<(&str, String)> =
                keys.iter().map(|key| (key.as_str(), dice.below(5).to_string())).collect();
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
            node(&format!("node-{number}"), &labels)
        })
        .collect();
    let coverage = Coverage { keys, per_class: 10 };
    let choice = chosen(&coverage, &nodes, 100);
    assert_eq!(choice.untried, []);
    assert!(choice.candidates.len() >= 50, "5 classes of each key, 10 times each: {choice:?}");
    assert!(!choice.smallest || choice.candidates.len() == 50, "{}", choice.candidates.len());
}
