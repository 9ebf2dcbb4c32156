//! Commands: every state against every command, as the table in `src/plan/commands.rs` has it.

use gcu_upgrade_manager::plan::commands::{Command, Effect, State, effect};
use gcu_upgrade_manager::plan::preflight::{Refusal, may};

use super::*;

const COMMANDS: [Command; 6] =
    [Command::Pause, Command::Resume, Command::Cancel, Command::Promote, Command::Rollback, Command::Retry];

/// `-` is a refusal; `run` and `back` what a resume leads to; `turn`, `grant`, `time` and `new` as they say.
#[rustfmt::skip]
const TABLE: [(&str, [&str; 6]); 27] = [
    //                                    pause    resume  cancel  promote  rollback  retry
    ("Recreate Pending",                 ["-",     "-",    "turn", "-",     "turn",   "-"]),
    ("Recreate Running",                 ["-",     "-",    "turn", "-",     "turn",   "-"]),
    ("Recreate Held",                    ["-",     "-",    "turn", "-",     "turn",   "time"]),
    ("Recreate Running told",            ["-",     "-",    "-",    "-",     "-",      "-"]),
    ("Recreate Running back",            ["-",     "-",    "-",    "-",     "-",      "-"]),
    ("Recreate Held back",               ["-",     "-",    "-",    "-",     "-",      "time"]),
    ("Recreate Running paused",          ["-",     "run",  "turn", "-",     "turn",   "-"]),
    ("Recreate Succeeded",               ["-",     "-",    "-",    "-",     "new",    "-"]),
    ("Recreate RolledBack",              ["-",     "-",    "-",    "-",     "new",    "new"]),
    ("Recreate Failed",                  ["-",     "-",    "-",    "-",     "new",    "new"]),
    ("RollingUpdate Pending",            ["pause", "-",    "turn", "-",     "turn",   "-"]),
    ("RollingUpdate Running",            ["pause", "-",    "turn", "-",     "turn",   "-"]),
    ("RollingUpdate Running restoring",  ["-",     "-",    "turn", "-",     "turn",   "-"]),
    ("RollingUpdate Running giving-up",  ["pause", "-",    "-",    "-",     "-",      "-"]),
    ("RollingUpdate Paused awaiting",    ["pause", "-",    "turn", "grant", "turn",   "-"]),
    ("RollingUpdate Paused awaiting paused", ["-", "run",  "turn", "-",     "turn",   "-"]),
    ("RollingUpdate Paused paused",      ["-",     "run",  "turn", "-",     "turn",   "-"]),
    ("RollingUpdate Running paused",     ["-",     "run",  "turn", "-",     "turn",   "-"]),
    ("RollingUpdate Held",               ["pause", "-",    "turn", "-",     "turn",   "time"]),
    ("RollingUpdate Held paused",        ["-",     "run",  "turn", "-",     "turn",   "time"]),
    ("RollingUpdate Running told",       ["-",     "-",    "-",    "-",     "-",      "-"]),
    ("RollingUpdate Running back",       ["pause", "-",    "-",    "-",     "-",      "-"]),
    ("RollingUpdate Paused back paused", ["-",     "back", "-",    "-",     "-",      "-"]),
    ("RollingUpdate Held back",          ["pause", "-",    "-",    "-",     "-",      "time"]),
    ("RollingUpdate Succeeded",          ["-",     "-",    "-",    "-",     "new",    "-"]),
    ("RollingUpdate RolledBack",         ["-",     "-",    "-",    "-",     "new",    "new"]),
    ("RollingUpdate Failed",             ["-",     "-",    "-",    "-",     "new",    "new"]),
];

fn state(words: &str) -> State {
    let mut state = State {
        strategy: Strategy::RollingUpdate,
        phase: Phase::Running,
        goal: Goal::Target,
        intent: Intent::Run,
        awaiting: None,
        giving_up: false,
        restoring: false,
        next_attempt: 4,
    };
    for word in words.split(' ') {
        match word {
            "Recreate" | "RollingUpdate" => {
                state.strategy = serde_json::from_value(json!(word)).unwrap();
            }
            "told" => state.intent = Intent::Rollback,
            "back" => (state.goal, state.intent) = (Goal::Previous, Intent::Rollback),
            "paused" => state.intent = Intent::Pause,
            "awaiting" => state.awaiting = Some(2),
            "giving-up" => state.giving_up = true,
            "restoring" => state.restoring = true,
            phase => state.phase = serde_json::from_value(json!(phase)).unwrap(),
        }
    }
    state
}

fn word(effect: Result<Effect, &str>) -> &'static str {
    match effect {
        Err(_) => "-",
        Ok(Effect::Pause) => "pause",
        Ok(Effect::Resume(Intent::Run)) => "run",
        Ok(Effect::Resume(_)) => "back",
        Ok(Effect::TurnBack) => "turn",
        Ok(Effect::Grant(3)) => "grant",
        Ok(Effect::FreshDeadline(4)) => "time",
        Ok(Effect::NewJob) => "new",
        Ok(other) => panic!("{other:?}"),
    }
}

#[test]
fn every_state_takes_the_commands_that_the_table_says() {
    for (words, wanted) in TABLE {
        let got = COMMANDS.map(|command| word(effect(command, &state(words))));
        assert_eq!(got, wanted, "{words}");
    }
}

/// Every state that there can be, reachable or not.
fn all_states() -> Vec<State> {
    let mut all = Vec::new();
    let phases = ["Pending", "Running", "Paused", "Held", "Succeeded", "RolledBack", "Failed"];
    for strategy in ["Recreate", "RollingUpdate"] {
        for phase in phases {
            for asked in ["", " paused", " told", " back", " back paused"] {
                for more in ["", " awaiting", " giving-up", " restoring", " awaiting giving-up restoring"] {
                    all.push(state(&format!("{strategy} {phase}{asked}{more}")));
                }
            }
        }
    }
    all
}

#[test]
fn what_is_said_holds_in_every_state_there_can_be() {
    for state in all_states() {
        let all = COMMANDS.map(|command| (command, effect(command, &state)));
        for (command, effect) in all {
            let about = format!("{command:?} in {state:?}: {effect:?}");
            if let Err(why) = effect {
                assert!(why.len() > 15 && !why.ends_with('.'), "{about}");
            }
            assert!(!state.phase.is_final() || matches!(effect, Err(_) | Ok(Effect::NewJob)), "{about}");
            assert!(state.phase.is_final() || effect != Ok(Effect::NewJob), "{about}");
            // Whatever turned an upgrade back, nothing makes it forget that.
            let forgets = match effect {
                Ok(Effect::Pause) => state.goal == Goal::Target && state.turned_back(),
                Ok(Effect::Resume(intent)) => state.turned_back() && intent != Intent::Rollback,
                _ => false,
            };
            assert!(!forgets, "{about}");
        }
        let pauses = effect(Command::Pause, &state).is_ok();
        assert!(!pauses || effect(Command::Resume, &state).is_err(), "pause and resume in {state:?}");
        assert!(!pauses || state.strategy == Strategy::RollingUpdate, "{state:?}");
    }
}

/// The state after a command, before the controller has seen it.
fn after(command: Command, state: &State) -> State {
    let mut next = *state;
    match effect(command, state) {
        Ok(Effect::Pause) => next.intent = Intent::Pause,
        Ok(Effect::Resume(intent)) => next.intent = intent,
        Ok(Effect::TurnBack) => next.intent = Intent::Rollback,
        Ok(Effect::FreshDeadline(attempt)) => next.next_attempt = attempt + 1,
        Ok(Effect::Grant(_) | Effect::NewJob) | Err(_) => {}
    }
    next
}

#[test]
fn of_every_pair_of_commands_the_second_is_judged_on_what_the_first_left() {
    for state in all_states().into_iter().filter(|s| !s.phase.is_final()) {
        for first in COMMANDS {
            let between = after(first, &state);
            for second in COMMANDS {
                let (one, two) = (effect(first, &state), effect(second, &between));
                let about = format!("{first:?} then {second:?} in {state:?}: {one:?}, {two:?}");
                match (first, second) {
                    // Saying it twice does nothing more.
                    (Command::Promote, Command::Promote) => assert_eq!(one, two, "{about}"),
                    (Command::Retry, Command::Retry) => {}
                    _ if first == second && one.is_ok() => assert!(two.is_err(), "{about}"),
                    (Command::Pause, Command::Resume) if one.is_ok() => {
                        assert!(two.is_ok() && after(second, &between).intent == state.intent, "{about}");
                    }
                    (Command::Cancel | Command::Rollback, _) if one.is_ok() => {
                        let steers = matches!(two, Ok(Effect::Pause | Effect::Resume(_) | Effect::Grant(_)));
                        assert!(!steers, "{about}");
                    }
                    (Command::Pause, Command::Cancel) if one.is_ok() && !state.turned_back() => {
                        assert_eq!(two.is_ok(), !state.giving_up, "{about}");
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_state_is_read_off_the_record() {
    let mut record = record();
    record.spec.strategy = Strategy::RollingUpdate;
    record.spec.attempt = 2;
    let status = record.status.get_or_insert_default();
    status.attempt = 1;
    let rolling = status.rolling.get_or_insert_default();
    rolling.step_ended_at = Some(now());
    rolling.step = 1;
    assert_eq!(State::of(&record).next_attempt, 3);
    assert_eq!(State::of(&record).awaiting, None, "a pause between steps ends by itself");
    record.spec.rolling_update.get_or_insert_default().manual = true;
    assert_eq!(State::of(&record).awaiting, Some(1));
    let options = record.spec.rolling_update.get_or_insert_default();
    options.manual = false;
    options.canary = Some(serde_json::from_value(json!({ "nodes": 1 })).unwrap());
    assert_eq!(State::of(&record).awaiting, None, "the canary was step 0");
    record.status.get_or_insert_default().rolling.get_or_insert_default().step = 0;
    assert_eq!(State::of(&record).awaiting, Some(0));
}

#[test]
fn without_any_record_there_is_nothing_to_steer() {
    for command in COMMANDS {
        let answer = may(command, "gcu", &[]);
        if command == Command::Rollback {
            assert_eq!(answer, Ok(Effect::NewJob));
            continue;
        }
        let Err(Refusal::Nothing(why)) = answer else { panic!("{command:?}: {answer:?}") };
        let wanted = format!("gr \"gcu\" has never been upgraded: nothing to {}", command.word());
        assert_eq!(why, wanted);
    }
}
