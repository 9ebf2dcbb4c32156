//! The world around `decide`: its states, what can happen in each, and what must never happen.

use super::super::*;
use super::service::{Call, Config, Known, Next, ServiceModel};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Spec {
    Target,
    Previous,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gr {
    pub(super) uid: u8,
    pub(super) spec: Spec,
    /// Our mark, and whether it says target.
    pub(super) mark: Option<bool>,
    pub(super) terminating: bool,
    pub(super) running: bool,
    /// Not made by this record.
    pub(super) strangers: bool,
}

/// What may still happen, each a number of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) lost_calls: u8,
    pub(super) slow_writes: u8,
    pub(super) person_deletes: u8,
    pub(super) person_creates: u8,
    pub(super) person_edits: u8,
    pub(super) delays: u8,
    pub(super) refusals: u8,
    pub(super) failures: u8,
    pub(super) retries: u8,
}

/// What a person wants of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Intended {
    Run,
    Rollback,
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) gr: Option<Gr>,
    /// Pods of the stack run.
    pub(super) pods: bool,
    pub(super) failing: bool,
    pub(super) refusing: bool,
    /// A delete is on its way whose preconditions the gr still meets; one that it does not meet is no more.
    pub(super) delete_on_its_way: bool,
    pub(super) fence_on_its_way: bool,
    /// Creates on their way: for the target, for the previous version.
    pub(super) creates_on_their_way: [u8; 2],
    pub(super) known: Known,
    /// A status that was decided on an older look and is still being written.
    pub(super) slow_write: Option<Known>,
    pub(super) intent: Intended,
    pub(super) attempt: u32,
    pub(super) released: bool,
    pub(super) left: Left,
    /// Somebody else has changed, deleted or made the gr.
    pub(super) interfered: bool,
    /// A create arrived late.
    pub(super) late_create: bool,
    /// Creates that took effect.
    pub(super) made: [u8; 2],
}

pub(super) struct Move {
    /// The cluster's own progress, or ours; otherwise an adversary's.
    pub(super) natural: bool,
    pub(super) what: &'static str,
    pub(super) to: Result<World, String>,
}

fn index(goal: Goal) -> usize {
    usize::from(goal == Goal::Previous)
}

impl World {
    pub(super) fn start(config: &Config) -> Self {
        let original = Gr {
            uid: 0,
            spec: Spec::Previous,
            mark: None,
            terminating: false,
            running: true,
            strangers: false,
        };
        Self {
            gr: config.previous.then_some(original),
            pods: config.previous,
            failing: false,
            refusing: false,
            delete_on_its_way: false,
            fence_on_its_way: false,
            creates_on_their_way: [0, 0],
            known: Known::of(&GcuUpgradeStatus::default()),
            slow_write: None,
            intent: Intended::Run,
            attempt: 0,
            released: false,
            left: config.faults,
            interfered: false,
            late_create: false,
            made: [0, 0],
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.known.phase.is_final() && self.released
    }

    /// What `decide` can tell worlds apart by.
    pub(super) fn visible(&self) -> Self {
        Self {
            delete_on_its_way: false,
            fence_on_its_way: false,
            creates_on_their_way: [0, 0],
            slow_write: None,
            left: Left::default(),
            interfered: false,
            late_create: false,
            made: [0, 0],
            ..self.clone()
        }
    }

    /// Everything that can happen next.
    pub(super) fn moves(&self, service: &ServiceModel) -> Vec<Move> {
        let mut moves = Vec::new();
        self.our_moves(service, &mut moves);
        self.late_arrivals(&service.config, &mut moves);
        self.progress(&mut moves);
        self.interference(&mut moves);
        moves
    }

    fn our_moves(&self, service: &ServiceModel, moves: &mut Vec<Move>) {
        let config = &service.config;
        let mut push = |natural, what, to| moves.push(Move { natural, what, to });
        if let Some(slow) = self.slow_write {
            let to = self.with(|w| w.slow_write = None).and_then(|w| w.write(config, slow));
            push(true, "our slow write of the status arrives", to);
            push(true, "our slow write of the status is lost", self.with(|w| w.slow_write = None));
            return;
        }
        match service.next(self) {
            Next::Nothing => {}
            Next::Release => push(true, "we release the record", self.with(|w| w.released = true)),
            Next::Write(new) => {
                if self.left.slow_writes > 0 && new != self.known {
                    let slow = |w: &mut Self| {
                        w.left.slow_writes -= 1;
                        w.slow_write = Some(new);
                    };
                    push(false, "we begin to write the status", self.with(slow));
                }
                push(true, "we write the status", self.write(config, new));
            }
            Next::Call(call) => {
                let checked = self.check_call(call);
                let to = checked.clone().and_then(|()| self.clone().arrive(config, call));
                push(true, "we make the call", to);
                if self.left.lost_calls > 0 {
                    let to = checked.and_then(|()| self.with(|w| w.send(call)));
                    push(false, "we send the call and die", to);
                }
            }
        }
    }

    pub(super) fn with(&self, change: impl FnOnce(&mut Self)) -> Result<Self, String> {
        let mut to = self.clone();
        change(&mut to);
        Ok(to)
    }

    fn write(&self, config: &Config, new: Known) -> Result<Self, String> {
        let old = &self.known;
        if old.phase.is_final() {
            return Err(format!("a record that ended is changed: {new:?}"));
        }
        if old.goal == Goal::Previous && new.goal == Goal::Target {
            return Err("the goal goes from Previous to Target".to_owned());
        }
        if new.phase.is_final() {
            self.check_end(config, &new)?;
        }
        self.with(|w| w.known = new)
    }

    /// What must hold when the upgrade ends.
    fn check_end(&self, config: &Config, new: &Known) -> Result<(), String> {
        if self.delete_on_its_way {
            return Err(format!("ends {:?} while a delete of ours can still take the gr", new.phase));
        }
        if self.interfered {
            return Ok(());
        }
        let untouched = self.known.step == Step::Recorded;
        let wanted = match new.phase {
            Phase::Failed => return Err("fails without anybody's interference".to_owned()),
            Phase::Succeeded => Some(Spec::Target),
            _ if config.previous => Some(Spec::Previous),
            _ => None,
        };
        // Nothing stops a create that is on its way to a name that nobody holds: see `arrive`.
        let free = wanted.is_none() && self.late_create;
        let stands = self.gr.as_ref().filter(|g| !g.terminating && (g.running || untouched)).map(|g| g.spec);
        if stands == wanted || free { Ok(()) } else { Err(format!("ends {:?} over {stands:?}", new.phase)) }
    }

    /// What must hold before a call is made.
    fn check_call(&self, call: Call) -> Result<(), String> {
        let stands = self.gr.as_ref();
        match call {
            Call::Delete(uid) if self.known.deleting != Some(uid) => {
                Err(format!("deletes {uid}, which is not the uid in the record"))
            }
            Call::Delete(uid) if stands.is_some_and(|g| g.strangers) && self.known.created != Some(uid) => {
                Err(format!("deletes the stranger {uid}, which was never adopted"))
            }
            Call::Delete(0) if stands.is_some_and(|g| g.spec != Spec::Previous) => {
                Err("deletes a gr that is not what was recorded".to_owned())
            }
            Call::Create(_) if self.pods => Err("creates while pods of the old stack are left".to_owned()),
            _ => Ok(()),
        }
    }

    fn send(&mut self, call: Call) {
        self.left.lost_calls -= 1;
        match call {
            Call::Delete(_) => self.delete_on_its_way = true,
            Call::Fence => self.fence_on_its_way = true,
            Call::Create(goal) => self.creates_on_their_way[index(goal)] += 1,
        }
    }

    /// The gr has a new version or is gone: what was on its way to the old one fails.
    pub(super) fn new_version(&mut self) {
        self.delete_on_its_way = false;
        self.fence_on_its_way = false;
    }

    /// The call takes effect, if the API server lets it.
    fn arrive(mut self, config: &Config, call: Call) -> Result<Self, String> {
        let ended = self.known.phase.is_final();
        match (call, &mut self.gr) {
            (Call::Delete(_), Some(gr)) => {
                let fenced = gr.mark == Some(false);
                if ended || fenced {
                    return Err(format!(
                        "a delete takes the gr (record ended: {ended}, gr fenced: {fenced})"
                    ));
                }
                (gr.terminating, gr.running) = (true, false);
                self.new_version();
            }
            (Call::Fence, Some(gr)) => {
                gr.mark = Some(false);
                self.new_version();
            }
            (Call::Create(goal), None) => {
                // Nothing stops a create that is on its way to a name that nobody holds. Where there was no
                // gr before, going back leaves the name free; everywhere else a gr holds it at the end.
                if ended && !self.interfered && config.previous {
                    return Err("a create takes effect after the end".to_owned());
                }
                self.made[index(goal)] += 1;
                if self.made[index(goal)] > 1 && !self.interfered && !self.late_create {
                    return Err("a second create takes effect".to_owned());
                }
                let spec = if goal == Goal::Target { Spec::Target } else { Spec::Previous };
                self.make(spec, Some(goal == Goal::Target), false);
            }
            _ => {}
        }
        Ok(self)
    }

    pub(super) fn make(&mut self, spec: Spec, mark: Option<bool>, strangers: bool) {
        let slow = self.slow_write.as_ref();
        let uses = |uid: u8| {
            std::iter::once(&self.known)
                .chain(slow)
                .any(|k| k.deleting == Some(uid) || k.created == Some(uid))
        };
        let uid = (1..).find(|u| !uses(*u)).unwrap();
        self.gr = Some(Gr { uid, spec, mark, terminating: false, running: false, strangers });
    }

    fn late_arrivals(&self, config: &Config, moves: &mut Vec<Move>) {
        let mut push = |what, to| moves.push(Move { natural: true, what, to });
        if self.delete_on_its_way {
            push("our delete arrives late", self.clone().arrive(config, Call::Delete(0)));
            push("our delete is lost", self.with(|w| w.delete_on_its_way = false));
        }
        if self.fence_on_its_way {
            push("our fence arrives late", self.clone().arrive(config, Call::Fence));
            push("our fence is lost", self.with(|w| w.fence_on_its_way = false));
        }
        for goal in [Goal::Target, Goal::Previous] {
            if self.creates_on_their_way[index(goal)] > 0 {
                let mut fewer = self.clone();
                fewer.creates_on_their_way[index(goal)] -= 1;
                let arrived = Self { late_create: true, ..fewer.clone() };
                push("our create arrives late", arrived.arrive(config, Call::Create(goal)));
                push("our create is lost", Ok(fewer));
            }
        }
    }
}
