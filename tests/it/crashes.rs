//! The crash matrix: every scenario, killed at every API call of the service (at writes both before and after
//! the server has seen them), and started again. The end has to be the same as without a crash, effects counted.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::faults::{Call, Faults};
use crate::harness::Backend;
use crate::scenario::{self, End, Scenario};
use crate::scenarios::{chosen, tried};

/// Two deaths in one run: every so many pairs is tried.
const PAIR_STRIDE: usize = 101;

/// A read changes nothing: to die at one is to die after the write before it. Every so many reads is tried;
/// `GUM_CRASHES=all` tries every one, and every write; `GUM_CRASHES=writes` every write alone.
const READ_STRIDE: usize = 6;

/// A Recreate is the same few writes in every scenario: every so many moments is tried, beginning at another one in
/// each.
const RECREATE_STRIDE: usize = 6;

/// A rolling upgrade takes three times as many calls, each turn of a node like the one before: every so many
/// moments of it is tried, beginning at another one in each scenario.
const ROLLING_STRIDE: usize = 60;

#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the product")]
fn asked(what: &str) -> bool {
    std::env::var("GUM_CRASHES").is_ok_and(|asked| asked == what)
}

fn all() -> bool {
    asked("all") || asked("writes")
}

/// Which of the moments that the strides leave are tried: every number is another sample, and together they are all.
/// CI has one from the commit; without one it is always the same.
#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the product")]
fn sample() -> usize {
    std::env::var("GUM_CRASH_PART").map_or(0, |part| part.parse().expect("GUM_CRASH_PART is a number"))
}

/// The calls at which to die, before or after the server has seen them.
fn moments(calls: &[Call], number: usize, rolling: bool, sample: usize) -> Vec<(usize, bool)> {
    let (of_two, of_reads, rest) = (sample % 2, sample / 2 % READ_STRIDE, sample / 2 / READ_STRIDE);
    let (mut moments, mut writes) = (Vec::new(), 0_usize);
    for (call, what) in calls.iter().enumerate() {
        let read_stride = if all() { 1 } else { READ_STRIDE };
        // An event only tells: nothing depends on it.
        let tells = what.path.contains("/events") && !asked("all");
        if what.is_write() && !tells {
            writes += 1;
            moments.extend([(call, false), (call, true)].into_iter().filter(|(_, after)| {
                // What dies with the process is the same before a write as after the one before it: of each
                // write one moment is tried, of the next the other.
                all() || rolling || *after == (writes + number + of_two).is_multiple_of(2)
            }));
        } else if !asked("writes") && (call + of_reads).is_multiple_of(read_stride) {
            moments.push((call, false));
        }
    }
    let stride = match (all(), rolling) {
        (true, _) => 1,
        (false, true) => ROLLING_STRIDE,
        (false, false) => RECREATE_STRIDE,
    };
    // The scenarios are next to each other in number: so that neighbours differ.
    moments.into_iter().skip((number * 5 + rest) % stride).step_by(stride).collect()
}

/// The ten minutes are for the runs without crashes.
const SILENCE: Duration = Duration::from_secs(60);

async fn run(scenario: &Scenario, faults: Faults) -> End {
    scenario::run(scenario, Backend::Sandbox, None, faults, SILENCE).await.unwrap()
}

fn matrix(part: usize, parts: usize) {
    let (mut plans, mut rolling_plans, mut pairs) = (0, 0, 0);
    let mut failed: Vec<String> = Vec::new();
    let sample = sample();
    println!("crash matrix: GUM_CRASH_PART={sample} tries these moments again");
    for (number, (name, scenario)) in chosen().iter().enumerate() {
        if number % parts != part || scenario.no_crashes.is_some() {
            continue;
        }
        let faults = Faults::new(Vec::new());
        let expected = match tried(run(scenario, faults.clone())) {
            Ok(expected) => expected,
            Err(failure) => {
                failed.push(format!("{name}: without a death: {failure}"));
                continue;
            }
        };
        let made = faults.calls();
        let calls = made.len();
        let rolling = name.starts_with("rolling") || name.starts_with("lock");
        // One that fails does not hide the others.
        let mut dies = |deaths: &[(usize, bool)]| {
            let faults = Faults::new(Vec::new());
            deaths.iter().for_each(|(call, after)| faults.die_at(*call, *after));
            let what: Vec<String> = deaths.iter().map(|death| said(&made, *death)).collect();
            let what = format!("{name}: killed {}", what.join(" and "));
            // Shown by the test harness only when the run fails.
            println!("{what}");
            let fails = match tried(run(scenario, faults)) {
                Ok(end) if end == expected => return,
                Ok(end) => format!("{what}: {end:#?}\ninstead of {expected:#?}"),
                Err(failure) => format!("{what}: {failure}"),
            };
            // A run of hours may be cut short.
            println!("FAILS: {fails}");
            failed.push(fails);
        };
        let singles = moments(&made, number, rolling, sample);
        singles.iter().for_each(|death| dies(&[*death]));
        plans += singles.len();
        if rolling {
            rolling_plans += singles.len();
        }
        let mut together = 0;
        if !rolling || all() || name == "rolling" {
            let stride = calls * PAIR_STRIDE + 3;
            for pair in (sample % stride..calls * calls).step_by(stride) {
                let first = pair / calls;
                dies(&[(first, pair % 2 == 0), (first + 1 + pair % calls, pair % 3 == 0)]);
                together += 1;
            }
        }
        pairs += together;
        println!("{name}: {calls} calls, {} single deaths, {together} pairs, {plans} so far", singles.len());
    }
    println!(
        "crash matrix, part {} of {parts}: {plans} single deaths ({rolling_plans} in rolling upgrades) and \
         {pairs} pairs of deaths",
        part + 1
    );
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
}

/// A death, as it is told.
fn said(calls: &[Call], (number, after): (usize, bool)) -> String {
    let call = calls.get(number).map(|call| format!(" ({} {})", call.method, call.path));
    format!("{} call {number}{}", if after { "after" } else { "before" }, call.unwrap_or_default())
}

#[test]
fn every_moment_to_die_at_is_in_the_sample_of_some_commit() {
    let call = |n: usize| Call {
        method: if n.is_multiple_of(3) { "PUT" } else { "GET" }.to_owned(),
        path: format!("/api/v1/nodes/{n}"),
        body: String::new(),
        version: None,
        lost: false,
    };
    let calls: Vec<Call> = (0..20).map(call).collect();
    for (rolling, stride) in [(true, ROLLING_STRIDE), (false, RECREATE_STRIDE)] {
        let samples = (0..2 * READ_STRIDE * stride).map(|sample| moments(&calls, 7, rolling, sample));
        let tried: BTreeSet<(usize, bool)> = samples.flatten().collect();
        assert_eq!(tried.len(), 7 * 2 + 13, "every read, and every write before and after: {tried:?}");
    }
}

#[test]
fn a_crash_at_any_call_ends_as_if_there_had_been_none_first_half() {
    matrix(0, 2);
}

#[test]
fn a_crash_at_any_call_ends_as_if_there_had_been_none_second_half() {
    matrix(1, 2);
}
