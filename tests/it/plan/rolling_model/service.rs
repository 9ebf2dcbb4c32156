//! What the service does in a state, decided by the real code, and what it may not do.

use std::sync::Arc;

use gcu_upgrade_manager::plan::hold::verdicts;
use gcu_upgrade_manager::plan::{Decision, FleetAction, GrAction};
use gcu_upgrade_manager::record::rolling::{Claim, PodId};
use gcu_upgrade_manager::record::{GcuUpgrade, GcuUpgradeStatus};

use super::*;

impl World {
    /// The gr is changed.
    pub(super) fn after(&self, action: &GrAction) -> Self {
        match action {
            GrAction::Patch { mark, change, .. } => self.changed(|w| {
                w.mark = Some(mark.clone());
                let wanted = [Spec::Previous, Spec::Probe, Spec::Target].into_iter().find(|spec| {
                    let now = spec_of(w.spec);
                    gcu_upgrade_manager::gr::merge_patch(&now["spec"], &spec_of(*spec)["spec"]) == *change
                });
                w.spec = wanted.unwrap_or_else(|| panic!("{change} leads nowhere"));
            }),
            other => panic!("{other:?} is no call of a rolling upgrade"),
        }
    }

    /// The call is made, if its preconditions hold.
    pub(super) fn after_fleet(&self, action: &FleetAction) -> Self {
        let node = |name: &str| name.trim_start_matches('n').parse::<usize>().unwrap();
        match action {
            FleetAction::Hold { name, hold, .. } => {
                let which = SETS.iter().position(|(set, _)| set == name).unwrap();
                self.changed(|w| w.held[which] = Some(hold.goal))
            }
            FleetAction::Cordon { node: name, .. } => self.changed(|w| w.machines[node(name)].marked = true),
            FleetAction::ReleaseNode { node: name, uncordon, .. } => {
                assert!(uncordon);
                self.changed(|w| w.machines[node(name)].marked = false)
            }
            FleetAction::Evict { name, .. } => {
                let number: usize = name.trim_start_matches("tenant-").parse().unwrap();
                self.changed(|w| w.machines[number].tenant = TenantPod::Leaving)
            }
            FleetAction::DeletePod { uid, .. } => {
                let (number, kind) = self.whose(uid);
                self.changed(|w| w.machines[number].pods[kind].life = Life::Deleting)
            }
        }
    }

    pub(super) fn whose(&self, uid: &str) -> (usize, usize) {
        let parts: Vec<&str> = uid.split('-').collect();
        let kind = NAMES.iter().position(|n| *n == parts[0]).unwrap_or_else(|| panic!("{uid} is deleted"));
        (parts[1].parse().unwrap(), kind)
    }

    /// What may not be done in this state.
    pub(super) fn permits(&self, action: &FleetAction, status: &GcuUpgradeStatus) {
        let rolling = status.rolling.clone().unwrap_or_default();
        match action {
            FleetAction::DeletePod { uid, .. } => {
                let pod = PodId { name: uid, uid, created_at: ago(1000) };
                let is_its = |c: &&Arc<Claim>| c.components().any(|key| c.is_to_replace(key, pod));
                let claim = rolling.active.iter().find(is_its);
                let claim = claim.unwrap_or_else(|| panic!("{uid} is deleted without a claim: {self:#?}"));
                let (number, kind) = self.whose(uid);
                assert_eq!(claim.node, format!("n{number}"));
                assert!(
                    kind != DRIVER || self.machines[number].tenant == TenantPod::Gone,
                    "the driver is replaced under a tenant: {self:#?}"
                );
                assert!(self.machines[number].marked, "a pod is replaced without a cordon: {self:#?}");
            }
            FleetAction::Cordon { node, .. } => {
                assert!(rolling.active.iter().any(|c| c.node == *node), "cordon without a claim: {self:#?}");
                assert_ne!(self.intent, 1, "a cordon while paused: {self:#?}");
            }
            FleetAction::Evict { .. } => assert_ne!(self.intent, 1, "an eviction while paused: {self:#?}"),
            _ => {}
        }
    }

    pub(super) fn next(&self, config: &Config) -> Vec<(bool, Self)> {
        let mut all = Vec::new();
        let record = self.record(config);
        let known = self.status();
        match decide(&record, &self.snapshot(), now()) {
            Decision::Record(status) => all.push((true, self.with_status(*status))),
            Decision::Wait { status, .. } => {
                let written = self.with_status(*status);
                if written != *self {
                    all.push((true, written));
                }
            }
            Decision::Act(GrAction::ReleaseRecord) | Decision::Finished => return Vec::new(),
            Decision::Act(action) => all.push((true, self.after(&action))),
            Decision::Guard(action) => panic!("{action:?}: nobody needs the webhook here"),
            Decision::ActAll(actions) => {
                for action in &actions {
                    self.permits(action, &known);
                    all.push((true, self.after_fleet(action)));
                }
            }
        }
        self.lets_go(&record, &mut all);
        self.clusters_moves(config, &mut all);
        if config.people {
            self.peoples_moves(&known, &mut all);
        }
        all
    }

    /// What the loop does that lets go of DaemonSets.
    pub(super) fn lets_go(&self, record: &GcuUpgrade, all: &mut Vec<(bool, Self)>) {
        let seen = self.snapshot();
        let held: Vec<_> = seen.fleet.sets.iter().filter(|set| set.lock.is_some()).cloned().collect();
        let records = std::slice::from_ref(record);
        let pods: Vec<_> = seen.fleet.pods.iter().cloned().collect();
        for (set, kept) in verdicts(&held, &pods, records, &[]) {
            let which = SETS.iter().position(|(name, _)| *name == set.name).unwrap();
            if kept.is_none() {
                all.push((true, self.changed(|w| w.held[which] = None)));
            }
        }
    }
}
