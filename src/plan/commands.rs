//! Which command is legal when: one written table of states and commands. Pure; the API asks it before it changes a
//! record's `spec`, and answers 409 with the sentence where the answer is no.
//!
//! | state of the record | pause | resume | cancel, rollback | promote | retry | close | skip, retry of a node |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | under way to the target | yes ¹ ² | no | yes | no | no | yes ³ | yes ¹ |
//! | waits for `promote` | yes | no | yes | yes | no | yes | yes |
//! | paused by a person | no | yes | yes | no | no | yes ³ | yes ¹ |
//! | held | yes ¹ ² | no ⁴ | yes | no | yes | yes ³ | yes ¹ |
//! | told to turn back, not taken up yet | no | no | no | no | no ⁵ | yes ³ | yes ¹ |
//! | on its way back | yes ¹ ² | no ⁴ | no | no | no ⁵ | yes ³ | yes ¹ |
//! | being given up | yes ² | no ⁴ | no | no | no ⁵ | yes | yes |
//! | being closed | no | no | no | no | no | yes, once more | no |
//! | Succeeded | no | no | cancel no, rollback: new job | no | no | no | no |
//! | RolledBack, Failed | no | no | cancel no, rollback: new job | no | new job | no | no |
//!
//! ¹ A RollingUpdate alone: the stack of a paused Recreate would stay down, and a Recreate takes all nodes at once.
//! ² Not when all nodes are done and only update strategies are being restored. ³ A Recreate: before the delete and
//! while the gr starts; in between the stack is down. ⁴ Yes when it was paused before. ⁵ Yes when held, and when it is
//! a Recreate that cannot be closed: so every state that is not final takes one of these commands.
//!
//! What is said of one node depends on the node too: see [`nodes`].

pub mod nodes;

use crate::record::{GcuUpgrade, Goal, Intent, Phase, Step, Strategy};

/// What a person can say to an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take no further node.
    Pause,
    /// Go on.
    Resume,
    /// Put the previous version back wherever it was replaced.
    Cancel,
    /// Let the next step begin.
    Promote,
    /// Cancel while an upgrade is under way; else a new job back to the version before.
    Rollback,
    /// Time for a held step; else the job that did not succeed once more.
    Retry,
    /// End here, with the present state accepted.
    Close,
    /// Release a node as it is, or leave it out.
    Skip,
    /// Take a node that was left out, or give one that has failed or is late a fresh deadline.
    RetryNode,
}

impl Command {
    /// Every command.
    pub const ALL: [Self; 9] = [
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Promote,
        Self::Rollback,
        Self::Retry,
        Self::Close,
        Self::Skip,
        Self::RetryNode,
    ];

    /// As it is recorded.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Retry => "retry",
            Self::Close => "close",
            Self::Skip => "skip",
            Self::RetryNode => "retry-node",
        }
    }

    /// What is done, in a sentence.
    pub fn verb(self) -> &'static str {
        match self {
            Self::RetryNode => "retry",
            other => other.word(),
        }
    }
}

/// What a command comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `intent` becomes Pause.
    Pause,
    /// `intent` becomes this again.
    Resume(Intent),
    /// `intent` becomes Rollback.
    TurnBack,
    /// So many steps are granted.
    Grant(u32),
    /// `attempt` becomes this.
    FreshDeadline(u32),
    /// `intent` becomes Close.
    Close,
    /// As far as the upgrade is concerned it is legal; the node decides.
    OfNode,
    /// The record has ended: another is made.
    NewJob,
}

/// What of a record decides over commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// How the change is made.
    pub strategy: Strategy,
    /// The upgrade as a whole.
    pub phase: Phase,
    /// What is being done.
    pub step: Step,
    /// Which version is being brought about.
    pub goal: Goal,
    /// What was last asked for.
    pub intent: Intent,
    /// The step, counted from 0, after which `promote` is waited for.
    pub awaiting: Option<u32>,
    /// It cannot go on and cleans up behind itself.
    pub giving_up: bool,
    /// The retry that is to come next.
    pub next_attempt: u32,
}

impl State {
    /// Reads it off a record.
    pub fn of(record: &GcuUpgrade) -> Self {
        let status = record.status_or_default();
        let rolling = status.rolling.unwrap_or_default();
        let options = record.spec.rolling_options();
        let gated = options.manual || (rolling.step == 0 && options.canary.is_some());
        Self {
            strategy: record.spec.strategy,
            phase: status.phase,
            step: status.step,
            goal: status.goal,
            intent: record.spec.intent,
            awaiting: rolling.step_ended_at.filter(|_| gated).map(|_| rolling.step),
            giving_up: rolling.giving_up.is_some(),
            next_attempt: record.spec.attempt.max(status.attempt).saturating_add(1),
        }
    }

    /// It is on its way back, or has been told to turn.
    pub fn turned_back(&self) -> bool {
        self.goal == Goal::Previous || self.intent == Intent::Rollback
    }

    /// There is no way back for it that it has not taken.
    fn goes_back(&self) -> bool {
        self.turned_back() || self.giving_up
    }

    /// Whether it may end here: between its delete and its create, a Recreate would leave the cluster without a stack.
    fn may_close(&self) -> bool {
        self.strategy == Strategy::RollingUpdate || matches!(self.step, Step::Recorded | Step::WaitingRunning)
    }
}

/// What a command comes to in this state.
///
/// # Errors
/// Why it is not legal: the end of a sentence that begins with the record's name.
pub fn effect(command: Command, state: &State) -> Result<Effect, &'static str> {
    if state.phase.is_final() {
        return after_the_end(command, state.phase);
    }
    if state.intent == Intent::Close {
        // Whoever asks once more may wait for the end.
        return if command == Command::Close {
            Ok(Effect::Close)
        } else {
            Err("is being closed: it ends with the present state")
        };
    }
    match command {
        Command::Pause => pause(state),
        Command::Resume => resume(state),
        Command::Promote => promote(state),
        Command::Cancel | Command::Rollback if state.turned_back() => Err("is rolling back already"),
        Command::Cancel | Command::Rollback if state.giving_up => {
            Err("is being given up already, and puts back what it has changed")
        }
        Command::Cancel | Command::Rollback => Ok(Effect::TurnBack),
        Command::Retry => retry(state),
        Command::Close if state.may_close() => Ok(Effect::Close),
        Command::Close if state.goes_back() => {
            Err("is a Recreate whose stack is down: it cannot be closed before the previous version is \
             created; retry gives the step a fresh deadline")
        }
        Command::Close => {
            Err("is a Recreate whose stack is down: it cannot be closed before the new version is created; \
             cancel turns it back")
        }
        Command::Skip | Command::RetryNode if state.strategy == Strategy::Recreate => {
            Err("is a Recreate, which takes all nodes at once: there is no node to skip or to retry")
        }
        Command::Skip | Command::RetryNode => Ok(Effect::OfNode),
    }
}

fn after_the_end(command: Command, phase: Phase) -> Result<Effect, &'static str> {
    match command {
        Command::Rollback => Ok(Effect::NewJob),
        Command::Retry if phase == Phase::Succeeded => Err("succeeded: nothing to retry"),
        Command::Retry => Ok(Effect::NewJob),
        Command::Cancel => Err("has ended: nothing to cancel; rollback returns to the version before it"),
        Command::Pause => Err("has ended: nothing to pause"),
        Command::Resume => Err("has ended: nothing to resume"),
        Command::Promote => Err("has ended: nothing to promote"),
        Command::Close => Err("has ended: nothing to close"),
        Command::Skip => Err("has ended: no node to skip"),
        Command::RetryNode => {
            Err("has ended: no node to retry; an upgrade does the nodes that were left out")
        }
    }
}

fn pause(state: &State) -> Result<Effect, &'static str> {
    if state.strategy == Strategy::Recreate {
        return Err("is a Recreate, which cannot be paused: the stack would stay down; cancel turns it back");
    }
    if state.intent == Intent::Pause {
        return Err("is paused already");
    }
    // The controller has not taken the way back up yet: a pause now would make it forget that.
    if state.intent == Intent::Rollback && state.goal == Goal::Target {
        return Err("has been told to roll back and is about to: pause it when it is on its way");
    }
    if state.step == Step::Restoring {
        return Err("has no node left to do and only restores update strategies: nothing to pause");
    }
    Ok(Effect::Pause)
}

fn resume(state: &State) -> Result<Effect, &'static str> {
    match state.intent {
        Intent::Pause if state.goal == Goal::Previous => Ok(Effect::Resume(Intent::Rollback)),
        Intent::Pause => Ok(Effect::Resume(Intent::Run)),
        _ if state.awaiting.is_some() && !state.turned_back() => {
            Err("is not paused, it waits for its next step: promote it instead")
        }
        _ if state.phase == Phase::Held => Err("is held, not paused: retry it instead"),
        _ => Err("is not paused: nothing to resume"),
    }
}

fn promote(state: &State) -> Result<Effect, &'static str> {
    if state.turned_back() {
        return Err("is on its way back, which has no steps: nothing to promote");
    }
    if state.intent == Intent::Pause {
        return Err("is paused: resume it first");
    }
    match (state.phase, state.awaiting) {
        (Phase::Held, _) => Err("is held: see /why, then retry it"),
        (_, Some(step)) => Ok(Effect::Grant(step.saturating_add(1))),
        (_, None) => Err("waits for nobody: nothing to promote"),
    }
}

fn retry(state: &State) -> Result<Effect, &'static str> {
    let nothing_else = state.goes_back() && state.intent != Intent::Pause && !state.may_close();
    match state.phase {
        Phase::Held => Ok(Effect::FreshDeadline(state.next_attempt)),
        _ if nothing_else => Ok(Effect::FreshDeadline(state.next_attempt)),
        Phase::Paused if state.intent == Intent::Pause => Err("is paused: resume it instead"),
        Phase::Paused => Err("waits for its next step: promote it instead"),
        _ => Err("is running: nothing to retry yet"),
    }
}
