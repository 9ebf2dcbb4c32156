//! What the cluster, people and the clock do.

use gcu_upgrade_manager::record::GcuUpgradeStatus;

use super::*;

impl World {
    pub(super) fn clusters_moves(&self, config: &Config, all: &mut Vec<(bool, Self)>) {
        let mut push = |world: Self| all.push((false, world));
        if !config.ignores {
            let (driver, probed) = (u8::from(self.spec == Spec::Target), u8::from(self.spec == Spec::Probe));
            if (self.driver, self.probed) != (driver, probed) {
                push(self.changed(|w| (w.driver, w.probed) = (driver, probed)));
            }
        }
        for (number, machine) in self.machines.iter().enumerate() {
            if machine.tenant == TenantPod::Leaving {
                push(self.changed(|w| w.machines[number].tenant = TenantPod::Gone));
            }
            for (kind, pod) in machine.pods.iter().enumerate() {
                let template = if kind == DRIVER { self.driver } else { 0 };
                let mut becomes =
                    |life: Life| push(self.changed(|w| w.machines[number].pods[kind].life = life));
                match pod.life {
                    Life::Missing => push(self.changed(|w| {
                        let serial = pod.serial + 1;
                        w.machines[number].pods[kind] = Pod { life: Life::Starting, template, serial };
                    })),
                    Life::Starting => {
                        becomes(Life::Ready);
                        if kind == DRIVER && pod.template == 1 {
                            becomes(Life::Failing);
                        }
                    }
                    Life::Failing => becomes(Life::Ready),
                    Life::Deleting => becomes(Life::Missing),
                    Life::Ready if self.held[kind].is_none() && pod.template != template => {
                        push(self.changed(|w| {
                            w.machines[number].pods[kind].life = Life::Deleting;
                            w.taken = true;
                        }));
                    }
                    Life::Ready => {}
                }
            }
        }
        if config.readiness {
            push(self.changed(|w| w.machines[0].ready = !w.machines[0].ready));
        }
        push(self.aged(false));
        push(self.aged(true));
    }

    pub(super) fn peoples_moves(&self, known: &GcuUpgradeStatus, all: &mut Vec<(bool, Self)>) {
        if known.goal == gcu_upgrade_manager::record::Goal::Target {
            for intent in (0..3).filter(|i| *i != self.intent) {
                all.push((false, self.changed(|w| w.intent = intent)));
            }
        } else if self.intent == 1 {
            all.push((false, self.changed(|w| w.intent = 0)));
        }
    }
}
