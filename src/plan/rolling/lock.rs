//! The lock: every DaemonSet of the gr is held at OnDelete before the gr changes, in either direction, and is seen
//! held after the last write of anyone else.
//!
//! This module holds and checks. It never lets go: see [`crate::plan::hold`] for when that happens.

use jiff::SignedDuration;
use serde_json::Value;

use super::Rollout;
use super::{LOCK_SETTLES, RELOCK_LIMIT};
use crate::gr::{self, Component, LiveGr};
use crate::plan::fleet::SetState;
use crate::plan::impact::{Impact, ScopedSet, impact_of};
use crate::plan::pins::{Pin, Pins, resolve};
use crate::plan::step_context::{Next, Wait};
use crate::plan::{Decision, FleetAction, Guard, GuardAction};
use crate::record::rolling::{Hold, LockedSet, RollingStatus};
use crate::record::size::{LOCKED, stored};
use crate::record::{Goal, Phase, Reason, Step, WaitReason};

/// How long DaemonSets that are never seen held are held again and again, before the operator is taken to insist.
const LOCK_IS_TRIED: SignedDuration = SignedDuration::from_secs(30);
/// API servers take a moment to see a webhook: so often it is tried.
const PROOF_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// Why an upgrade cannot go on with an operator that puts its own strategy back.
pub(super) const INSISTS: &str = "the operator puts its own update strategy back into its DaemonSets, so \
                                  their pods cannot be replaced node by node; turn the keeper on, or use \
                                  strategy Recreate";

impl Rollout<'_> {
    /// The DaemonSets of the gr as they stand; `None` without a gr.
    pub(super) fn pins(&self) -> Option<Pins<'_>> {
        let (gr, previous) = (self.seen.gr.as_ref()?, self.record.spec.previous.as_ref()?);
        let (from, to) = (&previous.manifest, &self.record.spec.target.manifest);
        Some(resolve(&self.changes(Goal::Target), from, to, gr, &self.seen.fleet.sets))
    }

    /// What a DaemonSet says that this upgrade holds now.
    fn hold_of(&self, pin: &LockedSet, rolling: &RollingStatus) -> Hold {
        Hold {
            gr: self.record.spec.gr.clone(),
            component: pin.component.clone(),
            record: self.record.metadata.name.clone().unwrap_or_default(),
            uid: self.record.metadata.uid.clone().unwrap_or_default(),
            goal: self.status.goal,
            guarded: rolling.guarded,
        }
    }

    /// The live DaemonSets that are not held for the present goal, each with how they are to be.
    fn unheld<'r>(&self, rolling: &'r RollingStatus) -> Vec<(&SetState, &'r LockedSet)> {
        let live = rolling.locked.iter().filter_map(|pin| Some((self.seen.fleet.locked(pin)?, pin)));
        live.filter(|(set, pin)| !set.is_held_for(&self.hold_of(pin, rolling))).collect()
    }

    /// The live DaemonSets that somebody else has taken the hold off, or that were never held.
    pub(super) fn let_go_by_others(&self, rolling: &RollingStatus) -> bool {
        rolling.locked.iter().filter_map(|pin| self.seen.fleet.locked(pin)).any(|set| !set.is_held())
    }

    /// Holds what is not held. `None` when everything is.
    pub(super) fn keep_locked(&self, rolling: &mut RollingStatus) -> Option<Decision> {
        if self.giving_up().is_some_and(|g| g.abandon) {
            return None;
        }
        let unheld = self.unheld(rolling);
        if unheld.is_empty() {
            rolling.locked_since.get_or_insert(self.now);
            return None;
        }
        let interfered = unheld.iter().any(|(set, _)| !set.is_held());
        let calls: Vec<FleetAction> = unheld
            .iter()
            .filter(|(set, _)| !self.seen.fleet.refusals.contains_key(&set.uid))
            .map(|(set, pin)| FleetAction::Hold {
                namespace: set.namespace.clone(),
                name: set.name.clone(),
                uid: set.uid.clone(),
                resource_version: set.resource_version.clone(),
                // What somebody left there as its own strategy, or what the record remembers of it.
                strategy: set.lock.clone().unwrap_or_else(|| pin.strategy.clone()),
                hold: self.hold_of(pin, rolling),
            })
            .collect();
        if interfered && rolling.locked_since.take().is_some() {
            rolling.relocks = rolling.relocks.saturating_add(1);
            let rolling = rolling.clone();
            return Some(Decision::Record(self.draft().with(|s| s.rolling = Some(rolling)).quietly()));
        }
        (!calls.is_empty()).then_some(Decision::ActAll(calls))
    }

    /// What is still missing before the gr may be changed: everything has to be held, by what was read just now.
    pub(super) fn not_locked_yet(&self) -> Option<Next> {
        let mut rolling = self.rolling_status();
        if let Some(changed) = self.changed_workload(&rolling) {
            return Some(Next::Do(self.hold_for(&changed)));
        }
        // It sees to DaemonSets that are held, and an operator may be faster than everything else.
        if rolling.guarded && self.seen.guard == Guard::NotInstalled {
            return Some(Next::Guard(GuardAction::Install));
        }
        let refused = self.unheld(&rolling).iter().find_map(|(set, _)| self.seen.fleet.refused(&set.uid));
        if let Some(decision) = self.keep_locked(&mut rolling) {
            return Some(Next::Do(decision));
        }
        if let Some(refusal) = refused {
            return Some(Wait::next(WaitReason::CallRefused, refusal));
        }
        if !self.unheld(&rolling).is_empty() {
            let message = "waiting for the DaemonSets to be at OnDelete";
            return Some(Wait::next(WaitReason::LockSettling, message));
        }
        rolling.guarded.then(|| self.not_guarded_yet(&rolling)).flatten()
    }

    /// What is still missing before the webhook may be relied on: the API server has to be told of it, and a trial
    /// write has to come back held.
    fn not_guarded_yet(&self, rolling: &RollingStatus) -> Option<Next> {
        let waits = |message: String| {
            let (reason, detail) = (WaitReason::LockSettling, message.clone());
            let until = self.now.saturating_add(PROOF_PAUSE).ok();
            Some(Next::Wait(Wait { reason, message, detail, until }))
        };
        match &self.seen.guard {
            Guard::Proven => None,
            Guard::Off => waits("this service runs without the keeper, and the upgrade needs it".to_owned()),
            Guard::NotInstalled | Guard::Installed => {
                let pin = rolling.locked.iter().find(|pin| self.seen.fleet.locked(pin).is_some())?;
                Some(Next::Guard(GuardAction::Prove {
                    namespace: pin.namespace.clone(),
                    name: pin.name.clone(),
                    uid: pin.uid.clone(),
                }))
            }
            Guard::NotKept(why) => waits(format!("the keeper does not keep DaemonSets held: {why}")),
        }
    }

    /// Holds everything, and sees that it stays held.
    pub(super) fn locking(&self) -> Next {
        let mut rolling = self.rolling_status();
        let back = self.status.goal == Goal::Previous;
        if back && self.pin_anew(&mut rolling) {
            let draft = self.draft().with(|s| s.rolling = Some(rolling));
            return Next::Do(Decision::Record(draft.quietly()));
        }
        if !rolling.gr_changed
            && !back
            && let Some(changed) = self.changed_workload(&rolling)
        {
            return self.give_up(Reason::WorkloadChanged, changed);
        }
        // Put back so fast that it was never seen held.
        let unheld = self.unheld(&rolling);
        let refused = unheld.iter().any(|(set, _)| self.seen.fleet.refused(&set.uid).is_some());
        let begun = self.status.step_since.max(self.seen.undisturbed_since).unwrap_or(self.now);
        let tried = self.now.duration_since(begun) >= LOCK_IS_TRIED;
        // What it had before is remembered on it: it was held, and was let go of before that could be seen.
        let undone = |set: &SetState| !set.is_held() && set.lock.is_some();
        let never_kept = tried && !refused && unheld.iter().any(|(set, _)| undone(set));
        let insists = rolling.relocks >= RELOCK_LIMIT || (never_kept && !rolling.guarded);
        if insists && (!back || self.can_guard(&rolling)) {
            return self.operator_insists();
        }
        if let Some(missing) = self.not_locked_yet() {
            return missing;
        }
        let since = *rolling.locked_since.get_or_insert(self.now);
        if Some(&rolling) != self.status.rolling.as_ref() {
            let draft = self.draft().with(|s| s.rolling = Some(rolling));
            return Next::Do(Decision::Record(draft.quietly()));
        }
        let settled = since.saturating_add(LOCK_SETTLES).unwrap_or(self.now);
        if self.now < settled {
            let message = "seeing whether the operator leaves the DaemonSets at OnDelete".to_owned();
            let (reason, detail) = (WaitReason::LockSettling, message.clone());
            return Next::Wait(Wait { reason, message, detail, until: Some(settled) });
        }
        self.after_locking(&rolling)
    }

    fn after_locking(&self, rolling: &RollingStatus) -> Next {
        let needs_probe = self.status.goal == Goal::Target && !rolling.probed && self.needs_probe();
        if !needs_probe {
            return self
                .enter(Step::Patching, "all DaemonSets are held: changing the gr in place".to_owned());
        }
        let Some((component, ..)) = self.probe_set() else {
            if self.can_guard(rolling) {
                return self.guard("no harmless component is deployed with which to try the operator");
            }
            return self.give_up(
                Reason::OperatorUnknown,
                "no harmless component (exporter, gfd, nfd) is deployed with which to find out whether \
                 the operator leaves its DaemonSets held; turn the keeper on, or use strategy Recreate"
                    .to_owned(),
            );
        };
        let message = format!(
            "changing the environment of {component}, to see whether the operator changes its DaemonSets in place"
        );
        let draft = self.draft().with(|s| s.rolling.get_or_insert_default().gr_changed = true);
        Next::Do(Decision::Record(draft.step(Step::Probing, self.seconds_for(Step::Probing), message)))
    }

    /// Whether a change of the gr may restart what a node has to be cordoned for.
    fn needs_probe(&self) -> bool {
        self.scope().iter().any(|s: &ScopedSet| s.impact > Impact::Restart)
    }

    /// The operator writes its own strategy, whatever is there.
    pub(super) fn operator_insists(&self) -> Next {
        if self.can_guard(&self.rolling_status()) {
            return self.guard("the operator puts its own update strategy back into its DaemonSets");
        }
        self.give_up(Reason::StrategyNotKept, INSISTS.to_owned())
    }

    /// Whether the webhook could be used, and is not yet.
    pub(super) fn can_guard(&self, rolling: &RollingStatus) -> bool {
        self.seen.guard != Guard::Off && !rolling.guarded
    }

    /// From now on the webhook keeps the DaemonSets held; then the operator is tried again, where there is something to
    /// try it with and the target is not in the gr yet.
    pub(super) fn guard(&self, why: &str) -> Next {
        let first = matches!(self.status.step, Step::Locking | Step::Probing);
        let cannot_probe = self.probe_set().is_none();
        let draft = self.draft().with(|s| {
            let rolling = s.rolling.get_or_insert_default();
            rolling.guarded = true;
            rolling.gr_changed |= self.status.step != Step::Locking;
            // Later the gr has the target, and is not given anything else to try the operator with.
            rolling.probed = cannot_probe || !first;
            rolling.relocks = 0;
            rolling.locked_since = None;
        });
        let message = format!("{why}: the keeper is to hold them at OnDelete");
        Next::Do(Decision::Record(draft.step(Step::Locking, self.seconds_for(Step::Locking), message)))
    }

    /// What has changed about the workloads since they were recorded, if something has.
    pub(super) fn changed_workload(&self, rolling: &RollingStatus) -> Option<String> {
        let fleet = &self.seen.fleet;
        // An operator that was found to recreate what it changes does so once more on the way back, with what was
        // tried: it restarts nothing that a node is cordoned for.
        let expected =
            |pin: &&LockedSet| self.giving_up().is_some() && impact_of(&pin.component) <= Impact::Restart;
        // Without a UID: a person knows that it is gone.
        let is_new = |pin: &LockedSet| {
            let found = fleet.set(&pin.namespace, &pin.name);
            fleet.locked(pin).is_none() && (found.is_some() || !pin.uid.is_empty())
        };
        let mut changed = rolling.locked.iter().filter(|pin| is_new(pin));
        if let Some(LockedSet { component, namespace, name, uid, .. }) = changed.find(|pin| !expected(pin)) {
            let what = match fleet.set(namespace, name) {
                Some(_) if uid.is_empty() => "has appeared again, and is not held",
                Some(_) => "was deleted and created again",
                None => "is gone",
            };
            return Some(format!("DaemonSet {namespace}/{name} (component {component}) {what}"));
        }
        let appeared = self.unpinned(rolling).into_iter().next()?;
        Some(format!(
            "DaemonSet {}/{} of the gr has appeared, and is not held",
            appeared.namespace, appeared.name
        ))
    }

    /// DaemonSets of the gr that were not there when it was recorded what is held, and whose coming is not part of
    /// the change.
    fn unpinned(&self, rolling: &RollingStatus) -> Vec<&SetState> {
        // A record of an older version pins only what it changes.
        if rolling.locked.iter().any(|pin| pin.component.is_empty()) {
            return Vec::new();
        }
        let Some(gr) = &self.seen.gr else { return Vec::new() };
        let pinned = |component: &str| rolling.locked.iter().any(|pin| pin.component == component);
        let manifests = [Some(&self.record.spec.target), None].into_iter().flatten().map(|r| &r.manifest);
        let manifests = manifests.chain(self.record.spec.previous.iter().map(|p| &p.manifest));
        let coming: Vec<gr::Workload> = manifests
            .flat_map(gr::components)
            .filter(|c| c.is_deployed() && !pinned(c.key))
            .flat_map(|c| candidates(c, gr))
            .collect();
        let sets = self.seen.fleet.sets.iter().map(AsRef::as_ref);
        sets.filter(|set: &&SetState| {
            set.owners.contains(&gr.uid)
                && !rolling.locked.iter().any(|pin| pin.namespace == set.namespace && pin.name == set.name)
                && !coming.iter().any(|w| w.namespace == set.namespace && w.name == set.name)
        })
        .collect()
    }

    /// Pins the workloads as they are now; whether that changed anything. What was created again under the same name
    /// takes the place of what was there. Only asked for by a person, or on the way back, where what the operator has
    /// made meanwhile has to be held before the gr changes.
    pub(super) fn pin_anew(&self, rolling: &mut RollingStatus) -> bool {
        let fleet = &self.seen.fleet;
        let mut changed = false;
        for pin in &mut rolling.locked {
            let Some(set) = fleet.set(&pin.namespace, &pin.name).filter(|s| s.uid != pin.uid) else {
                continue;
            };
            pin.uid.clone_from(&set.uid);
            pin.strategy = set.lock.clone().unwrap_or_else(|| set.strategy.clone());
            changed = true;
        }
        for set in self.unpinned(rolling).into_iter().filter(|set| set.observed && set.hash.is_some()) {
            let pin = Pin { component: &set.name, set }.record();
            // What the record cannot hold stays something that has appeared, and holds the upgrade.
            if stored(&rolling.locked).saturating_add(stored(&pin)) <= LOCKED {
                rolling.locked.push(pin);
                changed = true;
            }
        }
        changed
    }

    /// Holds the upgrade because of a change of the workloads that nobody announced: no node is taken and none is
    /// released on account of it.
    pub(super) fn hold_for(&self, message: &str) -> Decision {
        let reason = Reason::WorkloadChanged;
        let told = self.status.phase == Phase::Held && self.status.is_because_of(reason);
        let advice =
            format!("{message}; retry takes the DaemonSets as they are now, close ends the upgrade here");
        if told {
            return Decision::Wait {
                status: self.draft().waiting(WaitReason::WorkloadChanged, message),
                until: None,
            };
        }
        Decision::Record(self.draft().hold(reason, &advice))
    }
}

fn candidates(component: Component<'_>, gr: &LiveGr) -> Vec<gr::Workload> {
    let status: &Value = &gr.status;
    gr::reported_workloads(component.key, status)
        .into_iter()
        .chain(gr::configured_workload(component))
        .collect()
}
