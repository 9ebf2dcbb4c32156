//! A state of the model: how it begins, and what the real code is shown of it.

use std::sync::Arc;

use gcu_upgrade_manager::gr::LiveGr;
use gcu_upgrade_manager::plan::fleet::{
    DaemonPod, Fleet, Mark, NodeLabels, NodeState, RecreatedBy, SetState, Tenant,
};
use gcu_upgrade_manager::plan::{Snapshot, WorkloadState};
use gcu_upgrade_manager::record::rolling::{Amount, Labels, NodeMark, RollingUpdate};
use gcu_upgrade_manager::record::{GcuUpgrade, GcuUpgradeStatus, Intent};

use super::*;

impl World {
    pub(super) fn start(config: &Config) -> Self {
        let pod = || Pod { life: Life::Ready, template: 0, serial: 0 };
        let machine = Machine { marked: false, ready: true, pods: [pod(), pod()], tenant: TenantPod::There };
        Self {
            spec: Spec::Previous,
            mark: None,
            driver: 0,
            probed: 0,
            held: [None; 3],
            taken: false,
            machines: vec![machine; config.nodes],
            intent: 0,
            status: json!(GcuUpgradeStatus::default()).to_string(),
        }
    }

    pub(super) fn status(&self) -> GcuUpgradeStatus {
        serde_json::from_str(&self.status).unwrap()
    }

    pub(super) fn record(&self, config: &Config) -> GcuUpgrade {
        let mut record = record();
        record.spec.strategy = Strategy::RollingUpdate;
        let max_unavailable = Amount::Number(config.at_once);
        record.spec.rolling_update = Some(RollingUpdate { max_unavailable, ..RollingUpdate::default() });
        record.spec.on_failure = config.on_failure;
        record.spec.target.manifest = spec_of(Spec::Target);
        record.spec.previous = Some(Previous { uid: RECORDED.to_owned(), manifest: spec_of(Spec::Previous) });
        record.spec.intent = [Intent::Run, Intent::Pause, Intent::Rollback][usize::from(self.intent)];
        record.status = Some(self.status());
        record
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let set = |which: usize, template: u8, pods: usize| {
            let (name, component) = SETS[which];
            let held = self.held[which];
            Arc::new(SetState {
                namespace: "kube-system".to_owned(),
                name: name.to_owned(),
                uid: format!("set-{name}"),
                resource_version: "7".to_owned(),
                observed: true,
                owners: Vec::new(),
                strategy: json!({ "type": if held.is_some() { "OnDelete" } else { "RollingUpdate" } }),
                lock: held.map(|_| json!({ "type": "RollingUpdate" })),
                hold: held.map(|goal| Hold {
                    gr: "gcu".to_owned(),
                    component: component.to_owned(),
                    record: "gcu-1".to_owned(),
                    uid: "u".to_owned(),
                    goal,
                    guarded: false,
                }),
                labelled: held.is_some(),
                hash: Some(format!("h{template}")),
                pods,
                refused: None,
            })
        };
        let there = |kind: usize| self.machines.iter().filter(|m| m.pods[kind].life != Life::Missing).count();
        let mut fleet = Fleet {
            sets: vec![set(0, self.driver, there(DRIVER)), set(1, 0, there(PLUGIN)), set(2, self.probed, 0)],
            ..Fleet::default()
        };
        for (number, machine) in self.machines.iter().enumerate() {
            let name = format!("n{number}");
            let mark = NodeMark {
                record: "gcu-1".to_owned(),
                uid: "u".to_owned(),
                state: "Claimed".to_owned(),
                attempt: 0,
                deadline: now(),
                pre_cordoned: false,
            };
            let serves = machine.pods[PLUGIN].life == Life::Ready && machine.ready;
            fleet.nodes.push(Arc::new(NodeState {
                name: name.clone(),
                resource_version: "7".to_owned(),
                ready: machine.ready,
                cordoned: machine.marked,
                opted_out: false,
                labels: NodeLabels::default(),
                info: NodeLabels::default(),
                mark: machine.marked.then_some(Mark::Claimed(mark)),
                gcus: if serves { 8 } else { 0 },
            }));
            for (kind, pod) in machine.pods.iter().enumerate().filter(|(_, p)| p.life != Life::Missing) {
                fleet.pods.insert(Arc::new(DaemonPod {
                    namespace: "kube-system".into(),
                    name: format!("{}-{number}-{}", NAMES[kind], pod.serial),
                    uid: format!("{}-{number}-{}", NAMES[kind], pod.serial),
                    workload: NAMES[kind].into(),
                    owner: format!("set-{}", NAMES[kind]).into(),
                    node: name.as_str().into(),
                    hash: format!("h{}", pod.template).into(),
                    deleted_at: (pod.life == Life::Deleting).then(now),
                    created_at: ago(1000),
                    ready_since: (pod.life == Life::Ready).then(|| ago(500)),
                    failure: (pod.life == Life::Failing).then(|| "image cannot be pulled".to_owned()),
                }));
            }
            // Who is on a node is looked at when it is seen to carry the claim.
            if machine.marked {
                fleet.tenants.insert(name.clone(), Vec::new());
            }
            if let Some(tenants) = fleet.tenants.get_mut(&name).filter(|_| machine.tenant != TenantPod::Gone)
            {
                tenants.push(Arc::new(Tenant {
                    namespace: "default".to_owned(),
                    name: format!("tenant-{number}"),
                    uid: format!("tenant-{number}"),
                    node: name,
                    labels: Labels::new(),
                    gcus: 1,
                    deleting: machine.tenant == TenantPod::Leaving,
                    workload: String::new(),
                    recreated_by: RecreatedBy::Controller,
                    empty_dir: false,
                    created_at: ago(5000),
                    tolerates_cordon: false,
                    group: None,
                }));
            }
        }
        let gr = LiveGr {
            mark: self.mark.clone(),
            status: json!({ "phase": "Running" }).into(),
            ..gr(RECORDED, &spec_of(self.spec))
        };
        let rolled_out = |name: &str| WorkloadState {
            kind: gcu_upgrade_manager::gr::WorkloadKind::DaemonSet,
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            uid: format!("set-{name}"),
            refused: None,
            observed: true,
            desired: 2,
            updated: 2,
            available: 2,
            selector: Labels::new(),
            owners: Vec::new(),
        };
        Snapshot {
            gr: Some(gr),
            workloads: ["driver", "plugin", "gfd"].map(rolled_out).to_vec(),
            fleet,
            ..Snapshot::default()
        }
    }

    /// What a write of this status leads to. Times are kept as "now" or "long ago", texts are dropped.
    pub(super) fn with_status(&self, mut status: GcuUpgradeStatus) -> Self {
        status.timeline.clear();
        status.message.clear();
        status.conditions.retain(|c| c.type_ == "Progressing");
        for condition in &mut status.conditions {
            condition.message.clear();
            condition.last_transition_time = now();
        }
        status.waiting_on = None;
        (status.started_at, status.step_since, status.finished_at) = (None, None, None);
        if let Some(rolling) = &mut status.rolling {
            rolling.recent.clear();
            rolling.slots.clear();
            (rolling.ideal_ms, rolling.gated_ms) = (0, 0);
            (rolling.first_claim_at, rolling.last_done_at) = (None, None);
            rolling.nodes = Default::default();
            for claim in rolling.active.iter_mut().map(Arc::make_mut) {
                claim.ideal_start_ms = 0;
                if let Some(trouble) = &mut claim.trouble {
                    trouble.message = format!("node {}: ", claim.node);
                }
            }
        }
        Self { status: json!(status).to_string(), ..self.clone() }
    }

    /// Time passes, for whatever has a clock running.
    pub(super) fn aged(&self, deadlines: bool) -> Self {
        let mut status = self.status();
        if deadlines {
            status.deadline = status.deadline.map(|_| ago(1));
        }
        if let Some(rolling) = &mut status.rolling {
            rolling.locked_since = rolling.locked_since.map(|_| ago(3600));
            for claim in rolling.active.iter_mut().map(Arc::make_mut) {
                if let Some(trouble) = &mut claim.trouble {
                    trouble.at = ago(3600);
                }
                if deadlines {
                    claim.deadline = ago(1);
                }
            }
        }
        self.with_status(status)
    }

    pub(super) fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut world = self.clone();
        change(&mut world);
        world
    }
}
