//! What everybody else does: the cluster by itself, people, faults and the clock.

use super::super::*;
use super::world::{Intended, Move, Spec, World};

impl World {
    /// What the operator, the kubelets and the API server do by themselves.
    pub(super) fn progress(&self, moves: &mut Vec<Move>) {
        let mut push = |what, to| moves.push(Move { natural: true, what, to });
        let alive = self.gr.as_ref().is_some_and(|g| !g.terminating);
        if self.gr.as_ref().is_some_and(|g| g.terminating) {
            let gone = |w: &mut Self| {
                w.gr = None;
                w.new_version();
            };
            push("the operator lets go of the gr", self.with(gone));
        }
        if self.pods && !alive {
            let ended = |w: &mut Self| (w.pods, w.failing) = (false, false);
            push("the pods end", self.with(ended));
        }
        if alive && !self.pods {
            push("pods start", self.with(|w| w.pods = true));
        }
        if self.pods && alive && !self.failing && self.gr.as_ref().is_some_and(|g| !g.running) {
            push("the stack runs", self.with(|w| w.gr.iter_mut().for_each(|g| g.running = true)));
        }
        if self.failing {
            push("the pods recover", self.with(|w| w.failing = false));
        }
        if self.refusing {
            push("the API server no longer refuses", self.with(|w| w.refusing = false));
        }
    }

    /// What a person, the clock and the faults may do.
    pub(super) fn interference(&self, moves: &mut Vec<Move>) {
        let mut push = |what, to| moves.push(Move { natural: false, what, to });
        let active = !self.known.phase.is_final();
        let alive = self.gr.as_ref().is_some_and(|g| !g.terminating);
        // A changed record has a new version: a status on its way is refused.
        if active && self.intent == Intended::Run {
            for (what, intent) in [
                ("a person asks for rollback", Intended::Rollback),
                ("a person deletes the record", Intended::Deleted),
            ] {
                push(what, self.with(|w| (w.intent, w.slow_write) = (intent, None)));
            }
        }
        if active && self.left.retries > 0 {
            let retried = |w: &mut Self| {
                w.left.retries -= 1;
                w.attempt += 1;
                w.slow_write = None;
            };
            push("a person retries", self.with(retried));
        }
        if active && self.left.delays > 0 && self.known.step > Step::Recorded && !self.known.late {
            let passed = |w: &mut Self| {
                w.left.delays -= 1;
                w.known.late = true;
            };
            push("the deadline passes", self.with(passed));
        }
        if active && self.known.failing == Some(false) {
            push("the failure settles", self.with(|w| w.known.failing = Some(true)));
        }
        if alive && self.left.person_deletes > 0 {
            let deleted = |w: &mut Self| {
                w.left.person_deletes -= 1;
                w.interfered = true;
                w.new_version();
                w.gr.iter_mut().for_each(|g| (g.terminating, g.running) = (true, false));
            };
            push("a person deletes the gr", self.with(deleted));
        }
        if alive && self.left.person_edits > 0 {
            let edited = |w: &mut Self| {
                w.left.person_edits -= 1;
                w.interfered = true;
                w.new_version();
                w.gr.iter_mut().for_each(|g| g.spec = Spec::Other);
            };
            push("a person edits the gr", self.with(edited));
        }
        if self.gr.is_none() && self.left.person_creates > 0 {
            for spec in [Spec::Target, Spec::Previous, Spec::Other] {
                let made = |w: &mut Self| {
                    w.left.person_creates -= 1;
                    w.interfered = true;
                    w.make(spec, None, true);
                };
                push("a person makes a gr", self.with(made));
            }
        }
        if active && self.left.refusals > 0 {
            let refused = |w: &mut Self| (w.left.refusals, w.refusing) = (w.left.refusals - 1, true);
            push("the API server refuses", self.with(refused));
        }
        if self.left.failures > 0
            && self.pods
            && self.gr.as_ref().is_some_and(|g| !g.running && !g.terminating)
        {
            let failed = |w: &mut Self| (w.left.failures, w.failing) = (w.left.failures - 1, true);
            push("the pods fail", self.with(failed));
        }
    }
}
