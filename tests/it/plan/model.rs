//! Exhaustive exploration: the real `decide` against a small model of everything around it.
//!
//! The world holds at most one gr, the pods of the stack, calls of ours that have left but not arrived, and a
//! person who interferes once in each way. From every state that can be reached, what must never happen has
//! not happened, and an end can be reached by the cluster's natural progress alone.
//!
//! Time is cut down to what matters: whether the deadline has passed and whether a failure has settled.

use std::collections::{HashMap, VecDeque};

use super::*;
use service::{Config, ServiceModel};
use world::{Left, Move, World};

mod interference;
mod service;
mod world;

struct Explored {
    worlds: Vec<World>,
    /// How each world was first reached: breadth first, so the story of a violation is as short as can be.
    parents: Vec<(usize, &'static str)>,
    /// Natural moves, backwards.
    natural_into: Vec<Vec<usize>>,
}

impl Explored {
    fn story(&self, mut world: usize) -> String {
        let mut story = vec![format!("{:#?}", self.worlds[world])];
        while world != 0 {
            let (parent, step) = self.parents[world];
            story.push(step.to_owned());
            world = parent;
        }
        story.reverse();
        story.join("\n  ")
    }
}

fn explore(service: &ServiceModel) -> Explored {
    let start = World::start(&service.config);
    let mut known = HashMap::from([(start.clone(), 0)]);
    let mut queue = VecDeque::from([0]);
    let mut explored =
        Explored { worlds: vec![start], parents: vec![(0, "start")], natural_into: vec![vec![]] };
    while let Some(at) = queue.pop_front() {
        let world = explored.worlds[at].clone();
        for Move { natural, what, to } in world.moves(service) {
            let to = match to {
                Ok(to) => to,
                Err(broken) => panic!("{:?}: {broken}\n  {}\n  {what}", service.config, explored.story(at)),
            };
            let next = *known.entry(to.clone()).or_insert_with(|| {
                explored.worlds.push(to);
                explored.parents.push((at, what));
                explored.natural_into.push(Vec::new());
                queue.push_back(explored.worlds.len() - 1);
                explored.worlds.len() - 1
            });
            if natural {
                explored.natural_into[next].push(at);
            }
        }
    }
    explored
}

/// The worlds from which no ended one can be reached by natural moves.
fn stuck(explored: &Explored) -> Vec<usize> {
    let mut ends: Vec<bool> = explored.worlds.iter().map(World::has_ended).collect();
    let mut queue: Vec<usize> = (0..ends.len()).filter(|w| ends[*w]).collect();
    while let Some(world) = queue.pop() {
        for &from in &explored.natural_into[world] {
            if !ends[from] {
                ends[from] = true;
                queue.push(from);
            }
        }
    }
    (0..ends.len()).filter(|w| !ends[*w]).collect()
}

fn explore_and_judge(config: Config) {
    let service = ServiceModel::of(config);
    let explored = explore(&service);
    let stuck = stuck(&explored);
    let ended = explored.worlds.iter().filter(|w| w.has_ended()).count();
    println!("{:?}: {} states, {ended} of them ended", service.config, explored.worlds.len());
    if let Some(first) = stuck.first() {
        panic!("{} states never end; the first: {}", stuck.len(), explored.story(*first));
    }
}

/// An upgrade of a gr that is there; a failure is held.
fn upgrade(faults: Left) -> Config {
    Config { previous: true, on_failure: OnFailure::Hold, same_spec: false, faults }
}

/// Calls that arrive late or never, statuses decided on an old look, and somebody else's hands on the gr.
fn races() -> Left {
    let (person_deletes, person_creates, person_edits) = (1, 1, 1);
    Left { lost_calls: 2, slow_writes: 1, person_deletes, person_creates, person_edits, ..Left::default() }
}

/// Deadlines, refusals, pods that fail and retries, with one lost call and one deletion by somebody else.
fn troubles() -> Left {
    Left {
        lost_calls: 1,
        person_deletes: 1,
        delays: 1,
        refusals: 1,
        failures: 1,
        retries: 1,
        ..Left::default()
    }
}

#[test]
fn no_race_loses_the_stack_or_gets_stuck() {
    explore_and_judge(upgrade(races()));
}

#[test]
fn no_race_loses_a_stack_that_is_made_again_as_it_was() {
    explore_and_judge(Config { same_spec: true, ..upgrade(Left { lost_calls: 1, ..races() }) });
}

#[test]
fn no_race_breaks_a_first_install() {
    explore_and_judge(Config { previous: false, ..upgrade(races()) });
}

#[test]
fn no_trouble_loses_the_stack_or_gets_stuck() {
    explore_and_judge(upgrade(troubles()));
}

#[test]
fn no_trouble_with_automatic_rollback_loses_the_stack_or_gets_stuck() {
    explore_and_judge(Config { on_failure: OnFailure::Rollback, ..upgrade(troubles()) });
}
