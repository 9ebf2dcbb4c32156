//! A smallest choice of candidates that covers every class as often as it needs to be.
//!
//! The search deepens: it looks for a choice of as few candidates as there have to be at least, then of one more, until
//! it is as large as the one that takes the best candidate each time.

use std::collections::{BTreeMap, HashMap, HashSet};

/// With more classes to cover than this, no smaller choice is looked for than that of the best candidate each time.
const SEARCHED: usize = 20;
/// So many candidates are tried: some tens of milliseconds. What is not found by then is not known.
const WORK: usize = 2_000_000;
/// The same for each look at the first candidates alone.
const WORK_ON_FIRST: usize = 100_000;

/// The positions of candidates that cover each class as often as it needs to be, at most so many, and whether fewer
/// would not do. What no candidate covers stays uncovered. `keys` are those of the classes. Among as few candidates the
/// first ones are chosen: no choice of this size comes to be known that needs fewer of them to choose from.
pub(super) fn cover(
    needs: &[usize],
    keys: &[usize],
    covers: &[Vec<usize>],
    most: usize,
) -> (Vec<usize>, bool) {
    let (mut chosen, smallest) = few(needs, keys, covers, most, WORK);
    let wanted = left(needs, covers, &chosen);
    let (mut enough, mut too_few) = (covers.len(), chosen.len().saturating_sub(1));
    while enough.saturating_sub(too_few) > 1 {
        let first = enough.midpoint(too_few);
        let among = covers.get(..first).unwrap_or_default();
        let (other, _) = few(needs, keys, among, most, WORK_ON_FIRST);
        if other.len() <= chosen.len() && left(needs, covers, &other) == wanted {
            (chosen, enough) = (other, first);
        } else {
            too_few = first;
        }
    }
    (chosen, smallest)
}

/// How often each class is still to be covered beside these candidates.
pub(super) fn left(needs: &[usize], covers: &[Vec<usize>], chosen: &[usize]) -> Vec<usize> {
    let mut left = needs.to_vec();
    for class in chosen.iter().filter_map(|candidate| covers.get(*candidate)).flatten() {
        left.iter_mut().skip(*class).take(1).for_each(|need| *need = need.saturating_sub(1));
    }
    left
}

fn few(
    needs: &[usize],
    keys: &[usize],
    covers: &[Vec<usize>],
    most: usize,
    work: usize,
) -> (Vec<usize>, bool) {
    let (problem, needs) = Problem::of(needs, keys, covers);
    let greedy = problem.greedy(&needs, most);
    let size: usize = greedy.iter().sum();
    let least = problem.at_least(&needs);
    if size == least {
        return (problem.candidates(&greedy), true);
    }
    if needs.len() > SEARCHED {
        return (problem.candidates(&greedy), false);
    }
    let mut search =
        Search { problem: &problem, failed: needs.iter().all(|need| *need == 1).then(HashSet::new), work };
    for size in least..size {
        let mut used = vec![0; problem.kinds.len()];
        if search.fits(&needs, size, &mut used) {
            return (problem.candidates(&used), search.work > 0);
        }
    }
    (problem.candidates(&greedy), search.work > 0)
}

/// Candidates that cover the same, of which the first are taken first.
struct Kind {
    /// How often it covers which class.
    covers: Vec<(usize, usize)>,
    candidates: Vec<usize>,
}

/// Only of the classes that need to be covered, and can be.
struct Problem {
    /// By class: the key that it is a value of.
    keys: Vec<usize>,
    kinds: Vec<Kind>,
    /// By class: the kinds that cover it.
    covering: Vec<Vec<usize>>,
    /// By key: how much of it one candidate covers at most.
    largest: HashMap<usize, usize>,
}

impl Problem {
    /// The problem, and how often each of its classes needs to be covered.
    fn of(needs: &[usize], keys: &[usize], covers: &[Vec<usize>]) -> (Self, Vec<usize>) {
        let mut available: HashMap<usize, usize> = HashMap::new();
        covers.iter().flatten().for_each(|class| *available.entry(*class).or_default() += 1);
        let reachable =
            |class: usize, need: usize| need.min(available.get(&class).copied().unwrap_or_default());
        let needed: Vec<(usize, usize)> =
            needs.iter().enumerate().map(|(class, need)| (class, reachable(class, *need))).collect();
        let needed: Vec<(usize, usize)> = needed.into_iter().filter(|(_, need)| *need > 0).collect();
        let position: HashMap<usize, usize> =
            needed.iter().enumerate().map(|(at, (class, _))| (*class, at)).collect();
        let mut kinds: Vec<Kind> = Vec::new();
        let mut known: HashMap<Vec<(usize, usize)>, usize> = HashMap::new();
        for (candidate, classes) in covers.iter().enumerate() {
            let mut counted: BTreeMap<usize, usize> = BTreeMap::new();
            classes
                .iter()
                .filter_map(|class| position.get(class))
                .for_each(|at| *counted.entry(*at).or_default() += 1);
            let covers: Vec<(usize, usize)> = counted.into_iter().collect();
            if covers.is_empty() {
                continue;
            }
            let at = *known.entry(covers.clone()).or_insert_with(|| {
                kinds.push(Kind { covers, candidates: Vec::new() });
                kinds.len().saturating_sub(1)
            });
            kinds.iter_mut().skip(at).take(1).for_each(|kind| kind.candidates.push(candidate));
        }
        let keys: Vec<usize> =
            needed.iter().map(|(class, _)| keys.get(*class).copied().unwrap_or_default()).collect();
        let mut covering = vec![Vec::new(); needed.len()];
        let mut largest: HashMap<usize, usize> = HashMap::new();
        for (at, kind) in kinds.iter().enumerate() {
            let mut of_key: HashMap<usize, usize> = HashMap::new();
            for (class, times) in &kind.covers {
                covering.iter_mut().skip(*class).take(1).for_each(|kinds: &mut Vec<usize>| kinds.push(at));
                *of_key.entry(keys.get(*class).copied().unwrap_or_default()).or_default() += times;
            }
            for (key, times) in of_key {
                let most = largest.entry(key).or_default();
                *most = (*most).max(times);
            }
        }
        (Self { keys, kinds, covering, largest }, needed.into_iter().map(|(_, need)| need).collect())
    }

    /// The best candidate each time, at most so many: of each kind how many.
    fn greedy(&self, needs: &[usize], most: usize) -> Vec<usize> {
        let mut needs = needs.to_vec();
        let mut used = vec![0_usize; self.kinds.len()];
        for _ in 0..most {
            let free = self.kinds.iter().zip(&used).enumerate();
            let free = free.filter_map(|(at, (kind, used))| {
                let next = kind.candidates.get(*used)?;
                Some((at, kind, gain(kind, &needs), std::cmp::Reverse(*next)))
            });
            let Some((at, kind, ..)) =
                free.max_by_key(|(.., gain, next)| (*gain, *next)).filter(|best| best.2 > 0)
            else {
                break;
            };
            needs = without(kind, &needs);
            used.iter_mut().skip(at).take(1).for_each(|used| *used = used.saturating_add(1));
        }
        used
    }

    /// There have to be at least so many candidates.
    fn at_least(&self, needs: &[usize]) -> usize {
        let mut of_key: HashMap<usize, usize> = HashMap::new();
        for (key, need) in self.keys.iter().zip(needs) {
            *of_key.entry(*key).or_default() += need;
        }
        let each = |(key, needs): (usize, usize)| {
            needs.div_ceil(self.largest.get(&key).copied().unwrap_or(1).max(1))
        };
        of_key.into_iter().map(each).max().unwrap_or_default()
    }

    /// So many of each kind, by their positions.
    fn candidates(&self, used: &[usize]) -> Vec<usize> {
        let taken = self.kinds.iter().zip(used).flat_map(|(kind, used)| kind.candidates.iter().take(*used));
        let mut taken: Vec<usize> = taken.copied().collect();
        taken.sort_unstable();
        taken
    }
}

fn gain(kind: &Kind, needs: &[usize]) -> usize {
    kind.covers.iter().map(|(class, times)| needs.get(*class).copied().unwrap_or_default().min(*times)).sum()
}

fn without(kind: &Kind, needs: &[usize]) -> Vec<usize> {
    let mut left = needs.to_vec();
    for (class, times) in &kind.covers {
        left.iter_mut().skip(*class).take(1).for_each(|need| *need = need.saturating_sub(*times));
    }
    left
}

struct Search<'p> {
    problem: &'p Problem,
    /// What cannot be covered by so many. Only where each class needs to be covered once: no kind is of use twice then,
    /// and which have been used makes no difference.
    failed: Option<HashSet<(Vec<usize>, usize)>>,
    work: usize,
}

impl Search<'_> {
    /// Finds exactly so many candidates that cover it; `used` says how many of each kind.
    fn fits(&mut self, needs: &[usize], size: usize, used: &mut [usize]) -> bool {
        if needs.iter().all(|need| *need == 0) {
            return true;
        }
        let problem = self.problem;
        if self.work == 0 || problem.at_least(needs) > size {
            return false;
        }
        if self.failed.as_ref().is_some_and(|failed| failed.contains(&(needs.to_vec(), size))) {
            return false;
        }
        // One of the candidates that cover the class with the fewest is among them.
        let open = problem.covering.iter().zip(needs).filter(|(_, need)| **need > 0);
        let Some((kinds, _)) = open.min_by_key(|(kinds, _)| kinds.len()) else { return false };
        let mut kinds: Vec<(usize, &Kind)> =
            kinds.iter().filter_map(|at| Some((*at, problem.kinds.get(*at)?))).collect();
        self.work = self.work.saturating_sub(kinds.len());
        kinds.sort_by_cached_key(|(_, kind)| std::cmp::Reverse(gain(kind, needs)));
        for (at, kind) in kinds {
            let Some(taken) = used.get_mut(at).filter(|taken| **taken < kind.candidates.len()) else {
                continue;
            };
            *taken = taken.saturating_add(1);
            if self.fits(&without(kind, needs), size.saturating_sub(1), used) {
                return true;
            }
            used.iter_mut().skip(at).take(1).for_each(|taken| *taken = taken.saturating_sub(1));
        }
        if let Some(failed) = self.failed.as_mut().filter(|_| self.work > 0) {
            failed.insert((needs.to_vec(), size));
        }
        false
    }
}
