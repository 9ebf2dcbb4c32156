//! Commands: every state against every command, as the table in `src/plan/commands.rs` has it.

mod nodes;

use gcu_upgrade_manager::plan::commands::nodes::{retry, skip};
use gcu_upgrade_manager::plan::commands::{Command, Effect, State, effect};
use gcu_upgrade_manager::plan::preflight::{Refusal, may};

use super::*;

/// `-` is a refusal; `run` and `back` what a resume leads to; `node` where the node decides; `turn`, `grant`, `time`,
/// `close` and `new` as they say.
#[rustfmt::skip]
const TABLE: [(&str, [&str; 9]); 39] = [
    //                                    pause    resume  cancel  promote  rollback  retry   close    skip   
    //                                    retry-node
    ("Recreate Pending",                 ["-",     "-",    "turn", "-",     "turn",   "-",    "close", "-",    "-"]),
    ("Recreate Running",                 ["-",     "-",    "turn", "-",     "turn",   "-",    "close", "-",    "-"]),
    ("Recreate Running gone",            ["-",     "-",    "turn", "-",     "turn",   "-",    "-",     "-",    "-"]),
    ("Recreate Running starting",        ["-",     "-",    "turn", "-",     "turn",   "-",    "close", "-",    "-"]),
    ("Recreate Held gone",               ["-",     "-",    "turn", "-",     "turn",   "time", "-",     "-",    "-"]),
    ("Recreate Held starting",           ["-",     "-",    "turn", "-",     "turn",   "time", "close", "-",    "-"]),
    ("Recreate Running told",            ["-",     "-",    "-",    "-",     "-",      "-",    "close", "-",    "-"]),
    ("Recreate Running told gone",       ["-",     "-",    "-",    "-",     "-",      "time", "-",     "-",    "-"]),
    ("Recreate Running back gone",       ["-",     "-",    "-",    "-",     "-",      "time", "-",     "-",    "-"]),
    ("Recreate Running back starting",   ["-",     "-",    "-",    "-",     "-",      "-",    "close", "-",    "-"]),
    ("Recreate Held back gone",          ["-",     "-",    "-",    "-",     "-",      "time", "-",     "-",    "-"]),
    ("Recreate Held back starting",      ["-",     "-",    "-",    "-",     "-",      "time", "close", "-",    "-"]),
    ("Recreate Running paused gone",     ["-",     "run",  "turn", "-",     "turn",   "-",    "-",     "-",    "-"]),
    ("Recreate Running closing",         ["-",     "-",    "-",    "-",     "-",      "-",    "close", "-",    "-"]),
    ("Recreate Succeeded",               ["-",     "-",    "-",    "-",     "new",    "-",    "-",     "-",    "-"]),
    ("Recreate RolledBack",              ["-",     "-",    "-",    "-",     "new",    "new",  "-",     "-",    "-"]),
    ("Recreate Failed",                  ["-",     "-",    "-",    "-",     "new",    "new",  "-",     "-",    "-"]),
    ("RollingUpdate Pending",            ["pause", "-",    "turn", "-",     "turn",   "-",    "close", "node", "node"]),
    ("RollingUpdate Running",            ["pause", "-",    "turn", "-",     "turn",   "-",    "close", "node", "node"]),
    ("RollingUpdate Running restoring",  ["-",     "-",    "turn", "-",     "turn",   "-",    "close", "node", "node"]),
    ("RollingUpdate Running giving-up",  ["pause", "-",    "-",    "-",     "-",      "-",    "close", "node", "node"]),
    ("RollingUpdate Held giving-up",     ["pause", "-",    "-",    "-",     "-",      "time", "close", "node", "node"]),
    ("RollingUpdate Paused awaiting",    ["pause", "-",    "turn", "grant", "turn",   "-",    "close", "node", "node"]),
    ("RollingUpdate Paused awaiting paused", ["-", "run",  "turn", "-",     "turn",   "-",    "close", "node", "node"]),
    ("RollingUpdate Paused paused",      ["-",     "run",  "turn", "-",     "turn",   "-",    "close", "node", "node"]),
    ("RollingUpdate Running paused",     ["-",     "run",  "turn", "-",     "turn",   "-",    "close", "node", "node"]),
    ("RollingUpdate Held",               ["pause", "-",    "turn", "-",     "turn",   "time", "close", "node", "node"]),
    ("RollingUpdate Held paused",        ["-",     "run",  "turn", "-",     "turn",   "time", "close", "node", "node"]),
    ("RollingUpdate Running told",       ["-",     "-",    "-",    "-",     "-",      "-",    "close", "node", "node"]),
    ("RollingUpdate Running back",       ["pause", "-",    "-",    "-",     "-",      "-",    "close", "node", "node"]),
    ("RollingUpdate Paused back paused", ["-",     "back", "-",    "-",     "-",      "-",    "close", "node", "node"]),
    ("RollingUpdate Held back",          ["pause", "-",    "-",    "-",     "-",      "time", "close", "node", "node"]),
    ("RollingUpdate Running closing",    ["-",     "-",    "-",    "-",     "-",      "-",    "close", "-",    "-"]),
    ("RollingUpdate Held closing",       ["-",     "-",    "-",    "-",     "-",      "-",    "close", "-",    "-"]),
    ("RollingUpdate Running back closing giving-up", ["-", "-", "-", "-",   "-",      "-",    "close", "-",    "-"]),
    ("RollingUpdate Succeeded",          ["-",     "-",    "-",    "-",     "new",    "-",    "-",     "-",    "-"]),
    ("RollingUpdate Failed closing",     ["-",     "-",    "-",    "-",     "new",    "new",  "-",     "-",    "-"]),
    ("RollingUpdate RolledBack",         ["-",     "-",    "-",    "-",     "new",    "new",  "-",     "-",    "-"]),
    ("RollingUpdate Failed",             ["-",     "-",    "-",    "-",     "new",    "new",  "-",     "-",    "-"]),
];

fn state(words: &str) -> State {
    let mut state = State {
        strategy: Strategy::RollingUpdate,
        phase: Phase::Running,
        goal: Goal::Target,
        intent: Intent::Run,
        awaiting: None,
        giving_up: false,
        step: Step::Recorded,
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
            "restoring" => state.step = Step::Restoring,
            "gone" => state.step = Step::WaitingGone,
            "starting" => state.step = Step::WaitingRunning,
            "closing" => state.intent = Intent::Close,
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
        Ok(Effect::Close) => "close",
        Ok(Effect::OfNode) => "node",
        Ok(Effect::NewJob) => "new",
        Ok(other) => panic!("{other:?}"),
    }
}

#[test]
fn every_state_takes_the_commands_that_the_table_says() {
    for (words, wanted) in TABLE {
        let got = Command::ALL.map(|command| word(effect(command, &state(words))));
        assert_eq!(got, wanted, "{words}");
    }
}

const CLOSING: &str = "is being closed: it ends with the present state";

const STEPS: [Step; 12] = [
    Step::Recorded,
    Step::Deleting,
    Step::WaitingGone,
    Step::Creating,
    Step::WaitingRunning,
    Step::Locking,
    Step::Probing,
    Step::Patching,
    Step::Propagating,
    Step::Rolling,
    Step::Restoring,
    Step::Done,
];

/// Every state that there can be, reachable or not.
fn all_states() -> Vec<State> {
    let mut all = Vec::new();
    let phases = ["Pending", "Running", "Paused", "Held", "Succeeded", "RolledBack", "Failed"];
    for strategy in ["Recreate", "RollingUpdate"] {
        for phase in phases {
            for asked in ["", " paused", " told", " back", " back paused", " closing", " back closing"] {
                for more in ["", " awaiting", " giving-up", " awaiting giving-up"] {
                    let state = state(&format!("{strategy} {phase}{asked}{more}"));
                    all.extend(STEPS.map(|step| State { step, ..state }));
                }
            }
        }
    }
    all
}

#[test]
fn what_is_said_holds_in_every_state_there_can_be() {
    for state in all_states() {
        let all = Command::ALL.map(|command| (command, effect(command, &state)));
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

#[test]
fn no_state_that_is_not_final_refuses_everything() {
    for state in all_states().into_iter().filter(|s| !s.phase.is_final()) {
        let ways: Vec<Command> = Command::ALL
            .into_iter()
            .filter(|c| !matches!(c, Command::Pause | Command::Skip | Command::RetryNode))
            .filter(|c| effect(*c, &state).is_ok())
            .collect();
        assert!(!ways.is_empty(), "{state:?}");
        if state.strategy == Strategy::RollingUpdate {
            assert!(ways.contains(&Command::Close), "a RollingUpdate can always be closed: {state:?}");
        }
    }
}

#[test]
fn a_recreate_whose_stack_is_down_is_not_closed_and_has_another_way() {
    for state in all_states().into_iter().filter(|s| !s.phase.is_final() && s.intent != Intent::Close) {
        let down = state.strategy == Strategy::Recreate
            && !matches!(state.step, Step::Recorded | Step::WaitingRunning);
        let closed = effect(Command::Close, &state);
        assert_eq!(closed.is_err(), down, "{state:?}");
        let Err(why) = closed else { continue };
        let other = if state.turned_back() || state.giving_up { Command::Retry } else { Command::Cancel };
        assert!(why.contains(other.word()), "{why}: {state:?}");
        if state.intent != Intent::Pause {
            assert!(effect(other, &state).is_ok(), "what is advised is legal: {why}: {state:?}");
        }
    }
}

#[test]
fn what_is_being_closed_takes_no_other_command() {
    for state in all_states().into_iter().filter(|s| !s.phase.is_final() && s.intent == Intent::Close) {
        for command in Command::ALL {
            let wanted = if command == Command::Close { Ok(Effect::Close) } else { Err(CLOSING) };
            assert_eq!(effect(command, &state), wanted, "{command:?} in {state:?}");
        }
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
        Ok(Effect::Close) => next.intent = Intent::Close,
        Ok(Effect::Grant(_) | Effect::NewJob | Effect::OfNode) | Err(_) => {}
    }
    next
}

#[test]
fn of_every_pair_of_commands_the_second_is_judged_on_what_the_first_left() {
    for state in all_states().into_iter().filter(|s| !s.phase.is_final()) {
        for first in Command::ALL {
            let between = after(first, &state);
            for second in Command::ALL {
                let (one, two) = (effect(first, &state), effect(second, &between));
                let about = format!("{first:?} then {second:?} in {state:?}: {one:?}, {two:?}");
                match (first, second) {
                    // Saying it twice does nothing more.
                    (Command::Promote, Command::Promote) => assert_eq!(one, two, "{about}"),
                    (Command::Retry, Command::Retry) => {}
                    (Command::Close, Command::Close) => assert_eq!(one, two, "{about}"),
                    (Command::Close, _) if one.is_ok() => assert_eq!(two, Err(CLOSING), "{about}"),
                    // One node is no reason to refuse what is said of another, or of the upgrade.
                    (Command::Skip | Command::RetryNode, _) => {
                        assert_eq!(two, effect(second, &state), "{about}")
                    }
                    _ if first == second && one.is_ok() => assert!(two.is_err(), "{about}"),
                    (Command::Pause, Command::Resume) if one.is_ok() => {
                        assert!(two.is_ok() && after(second, &between).intent == state.intent, "{about}");
                    }
                    (Command::Cancel | Command::Rollback, _) if one.is_ok() => {
                        let steers = matches!(two, Ok(Effect::Pause | Effect::Resume(_) | Effect::Grant(_)));
                        let closes = effect(second, &state).is_ok();
                        assert!(second != Command::Close || two.is_ok() == closes, "{about}");
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
    status.step = Step::Rolling;
    assert_eq!((State::of(&record).next_attempt, State::of(&record).step), (3, Step::Rolling));
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
    for command in Command::ALL {
        let answer = may(command, "gcu", &[]);
        if command == Command::Rollback {
            assert_eq!(answer, Ok(Effect::NewJob));
            continue;
        }
        let Err(Refusal::Nothing(why)) = answer else { panic!("{command:?}: {answer:?}") };
        let verb = if command == Command::RetryNode { "retry" } else { command.word() };
        let wanted = format!("gr \"gcu\" has never been upgraded: nothing to {verb}");
        assert_eq!(why, wanted);
    }
}

#[test]
fn each_command_is_recorded_by_the_word_that_the_resource_documents() {
    let crd = serde_json::to_value(gcu_upgrade_manager::record::crd()).unwrap();
    let place =
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/steeredBy/properties/command";
    let documented = crd.pointer(place).unwrap()["description"].as_str().unwrap().replace(" or ", ", ");
    let mut documented: Vec<&str> = documented.trim_end_matches('.').split(", ").collect();
    let mut words = Command::ALL.map(Command::word);
    documented.sort_unstable();
    words.sort_unstable();
    assert_eq!(documented, words);
}
