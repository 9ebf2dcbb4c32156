//! The crash matrix: every scenario, killed at every API call of the service (at writes both before and after
//! the server has seen them), and started again. The end has to be the same as without a crash, effects counted.

use std::time::Duration;

use crate::faults::Faults;
use crate::scenario::{self, End, Scenario};
use crate::scenarios::{chosen, in_virtual_time};
use crate::stage::Backend;

/// Two deaths in one run: every so many pairs is tried.
const PAIR_STRIDE: usize = 7;

/// A read changes nothing: to die at one is to die after the write before it. Every so many reads is tried;
/// `GUM_CRASHES=all` tries every one.
const READ_STRIDE: usize = 6;

#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the product")]
fn read_stride() -> usize {
    if std::env::var("GUM_CRASHES").is_ok_and(|all| all == "all") { 1 } else { READ_STRIDE }
}

/// The ten minutes are for the runs without crashes.
const SILENCE: Duration = Duration::from_secs(60);

async fn run(scenario: &Scenario, faults: Faults) -> End {
    scenario::run(scenario, Backend::Sandbox, None, faults, SILENCE).await.unwrap()
}

fn matrix(part: usize, parts: usize) {
    let (mut plans, mut pairs) = (0, 0);
    for (number, (name, scenario)) in chosen().iter().enumerate() {
        if number % parts != part || scenario.no_crashes.is_some() {
            continue;
        }
        let faults = Faults::new(Vec::new());
        let expected = in_virtual_time(run(scenario, faults.clone()));
        let made = faults.calls();
        let calls = made.len();
        for (call, what) in made.iter().enumerate() {
            let moments: &[bool] = match what.is_write() {
                true => &[false, true],
                false if call % read_stride() == 0 => &[false],
                false => &[],
            };
            for &after in moments {
                let faults = Faults::new(Vec::new());
                faults.die_at(call, after);
                // Shown by the test harness only when the run fails.
                println!("{name}: killed {} call {call}", if after { "after" } else { "before" });
                let end = in_virtual_time(run(scenario, faults));
                assert_eq!(end, expected, "{name}: killed at call {call}: {} {}", what.method, what.path);
                plans += 1;
            }
        }
        println!("{name}: {calls} calls, {plans} single deaths so far");
        for pair in (0..calls * calls).step_by(calls * PAIR_STRIDE + 3) {
            let faults = Faults::new(Vec::new());
            faults.die_at(pair / calls, pair % 2 == 0);
            faults.die_at(pair / calls + 1 + pair % calls, pair % 3 == 0);
            let end = in_virtual_time(run(scenario, faults));
            assert_eq!(
                end,
                expected,
                "{name}: killed at calls {} and {}",
                pair / calls,
                pair / calls + 1 + pair % calls
            );
            pairs += 1;
        }
    }
    println!("crash matrix, part {} of {parts}: {plans} single deaths and {pairs} pairs of deaths", part + 1);
}

#[test]
fn a_crash_at_any_call_ends_as_if_there_had_been_none_first_half() {
    matrix(0, 2);
}

#[test]
fn a_crash_at_any_call_ends_as_if_there_had_been_none_second_half() {
    matrix(1, 2);
}
