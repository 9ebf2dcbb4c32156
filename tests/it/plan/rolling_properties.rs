//! What holds for a rolling upgrade whatever stands in its record and in the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use gcu_upgrade_manager::gr::merge_patch;
use gcu_upgrade_manager::plan::FleetAction;
use gcu_upgrade_manager::plan::fleet::{
    DaemonPod, Fleet, Mark, NodeLabels, NodeState, RecreatedBy, SetState, Tenant,
};
use gcu_upgrade_manager::plan::rolling::index::Index;
use gcu_upgrade_manager::plan::rolling::node::is_ours;
use gcu_upgrade_manager::plan::rolling::window::in_order;
use gcu_upgrade_manager::record::rolling::{
    Amount, Claim, ClaimState, ClaimedPod, Hold, Labels, LockedSet, NodeMark, OnTimeout, PodId, Replaced,
    RollingStatus, RollingUpdate, WINDOW_LIMIT,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Strategy;

use super::*;
use gcu_upgrade_manager::record::Strategy as How;

/// A node and its driver pod, as if thrown.
#[derive(Clone, Debug)]
pub(super) struct Thrown {
    pub(super) ready: bool,
    pub(super) cordoned: bool,
    pub(super) opted_out: bool,
    /// Nobody's, ours, another upgrade's.
    pub(super) mark: u8,
    pub(super) new: bool,
    pub(super) well: bool,
    pub(super) deleting: bool,
    pub(super) tenant: bool,
    pub(super) bare: bool,
    pub(super) claim: Option<ClaimState>,
}

impl Thrown {
    /// One that is well, with an old pod and nobody on it.
    pub(super) fn idle() -> Self {
        Self {
            ready: true,
            cordoned: false,
            opted_out: false,
            mark: 0,
            new: false,
            well: true,
            deleting: false,
            tenant: false,
            bare: false,
            claim: None,
        }
    }
}

fn thrown() -> impl Strategy<Value = Thrown> {
    let bools = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let claim =
        prop::option::of(select(vec![ClaimState::Emptying, ClaimState::Swapping, ClaimState::Returning]));
    (bools, any::<bool>(), 0..3_u8, claim).prop_map(|(b, opted_out, mark, claim)| Thrown {
        ready: b.0,
        cordoned: b.1,
        opted_out,
        mark,
        new: b.2,
        well: b.3,
        deleting: b.4,
        tenant: b.5,
        bare: b.6,
        claim,
    })
}

fn uid(node: usize) -> String {
    format!("pod-{node}")
}

/// Every second one is as older versions wrote it.
fn claim(node: usize, state: ClaimState) -> Arc<Claim> {
    let as_older_versions_name_it =
        ClaimedPod { component: "driver".to_owned(), name: uid(node), uid: uid(node), created_at: ago(900) };
    let mut replaces = Replaced::default();
    replaces.add("driver", PodId { name: &uid(node), uid: &uid(node), created_at: ago(900) });
    Arc::new(Claim {
        node: format!("n{node}"),
        since: ago(60),
        state,
        deadline: ago(-600),
        cordon: true,
        pods: if node.is_multiple_of(2) { vec![as_older_versions_name_it] } else { Vec::new() },
        replaces: if node.is_multiple_of(2) { Replaced::default() } else { replaces },
        gcus: 0,
        trouble: None,
        ideal_start_ms: 0,
        attempt: 0,
        lost_gcus: false,
        soaking_since: None,
    })
}

pub(super) fn cluster(nodes: &[Thrown], at_once: u32, intent: Intent) -> (GcuUpgrade, Snapshot) {
    let mut record = record();
    record.spec.strategy = How::RollingUpdate;
    record.spec.intent = intent;
    record.spec.rolling_update =
        Some(RollingUpdate { max_unavailable: Amount::Number(at_once), ..RollingUpdate::default() });
    let hold = Hold {
        gr: "gcu".to_owned(),
        component: "driver".to_owned(),
        record: "gcu-1".to_owned(),
        uid: "u".to_owned(),
        goal: Goal::Target,
        guarded: false,
    };
    let locked = LockedSet {
        component: "driver".to_owned(),
        unfinished: false,
        namespace: "kube-system".to_owned(),
        name: "driver".to_owned(),
        uid: "set".to_owned(),
        strategy: json!({ "type": "RollingUpdate" }),
        hash: "old".to_owned(),
    };
    let active = nodes.iter().enumerate().filter_map(|(n, t)| t.claim.map(|state| claim(n, state))).collect();
    record.status = Some(GcuUpgradeStatus {
        phase: Phase::Running,
        step: Step::Rolling,
        observed_generation: 1,
        rolling: Some(RollingStatus {
            locked: vec![locked],
            locked_since: Some(ago(60)),
            max_unavailable: at_once,
            active,
            ..RollingStatus::default()
        }),
        ..GcuUpgradeStatus::default()
    });
    let mut fleet = Fleet {
        sets: vec![Arc::new(SetState {
            namespace: "kube-system".to_owned(),
            name: "driver".to_owned(),
            uid: "set".to_owned(),
            resource_version: "7".to_owned(),
            observed: true,
            strategy: json!({ "type": "OnDelete" }),
            owners: Vec::new(),
            lock: Some(json!({ "type": "RollingUpdate" })),
            hold: Some(hold),
            labelled: true,
            hash: Some("new".to_owned()),
            pods: nodes.len(),
            refused: None,
        })],
        ..Fleet::default()
    };
    for (number, thrown) in nodes.iter().enumerate() {
        let name = format!("n{number}");
        let mark = |uid: &str| {
            Mark::Claimed(NodeMark {
                record: "r".to_owned(),
                uid: uid.to_owned(),
                state: "Claimed".to_owned(),
                attempt: 0,
                deadline: now(),
                pre_cordoned: false,
            })
        };
        fleet.nodes.push(Arc::new(NodeState {
            name: name.clone(),
            resource_version: "7".to_owned(),
            ready: thrown.ready,
            cordoned: thrown.cordoned,
            opted_out: thrown.opted_out,
            labels: NodeLabels::default(),
            info: NodeLabels::default(),
            mark: [None, Some(mark("u")), Some(mark("other"))][usize::from(thrown.mark)].clone(),
            gcus: 8,
        }));
        fleet.pods.insert(Arc::new(DaemonPod {
            namespace: "kube-system".into(),
            name: uid(number),
            uid: if thrown.new { format!("{}-new", uid(number)) } else { uid(number) },
            workload: "driver".into(),
            owner: "set".into(),
            node: name.as_str().into(),
            hash: if thrown.new { "new" } else { "old" }.into(),
            deleted_at: (thrown.deleting).then(now),
            created_at: ago(900),
            ready_since: thrown.well.then(|| ago(500)),
            failure: None,
        }));
        let tenants = fleet.tenants.entry(name.clone()).or_default();
        if thrown.tenant {
            tenants.push(Arc::new(Tenant {
                namespace: "default".to_owned(),
                name: format!("tenant-{number}"),
                uid: format!("tenant-{number}"),
                node: name,
                labels: Labels::new(),
                gcus: 1,
                deleting: false,
                workload: String::new(),
                recreated_by: if thrown.bare { RecreatedBy::Nobody } else { RecreatedBy::Controller },
                empty_dir: false,
                created_at: ago(5000),
                tolerates_cordon: false,
                group: None,
            }));
        }
    }
    let live = LiveGr { status: json!({ "phase": "Running" }).into(), ..gr(RECORDED, &target()) };
    (record, Snapshot { gr: Some(live), fleet, ..Snapshot::default() })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<i32>().prop_map(Value::from), "[a-c]{0,2}".prop_map(Value::from)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-d]", inner.clone(), 0..4).prop_map(|m| json!(m)),
            vec(inner, 0..3).prop_map(Value::from),
        ]
    })
}

/// RFC 7386, as an API server applies it.
fn merged(mut present: Value, patch: &Value) -> Value {
    let Some(changes) = patch.as_object() else { return patch.clone() };
    if !present.is_object() {
        present = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            present.as_object_mut().unwrap().remove(key);
        } else {
            let before = present.get(key).cloned().unwrap_or_default();
            present[key] = merged(before, change);
        }
    }
    present
}

#[test]
fn a_node_that_nobody_has_to_leave_is_idle_whether_it_was_counted_or_not() {
    let thrown = Thrown {
        claim: None,
        new: false,
        deleting: false,
        well: true,
        tenant: false,
        bare: false,
        cordoned: false,
        ready: true,
        opted_out: false,
        mark: 0,
    };
    let (_, mut seen) = cluster(&[thrown.clone(), thrown.clone(), thrown], 1, Intent::Run);
    // A plan counts nodes with pods that are only waited for, a rollout only those with pods that leave.
    seen.fleet.busy = Some(Arc::new([("n0".to_owned(), 1), ("n2".to_owned(), 0)].into()));
    let index = Index::of(&seen.fleet, &[], &RollingUpdate::default());
    let mut nodes: Vec<&NodeState> = seen.fleet.nodes.iter().map(AsRef::as_ref).rev().collect();
    in_order(&mut nodes, &index, &RollingUpdate::default());
    let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n0"]);
}

proptest! {
    #[test]
    fn what_is_done_to_nodes_is_claimed_and_within_the_budget(
        nodes in vec(thrown(), 1..8), at_once in 1..4_u32, paused in any::<bool>(),
    ) {
        let intent = if paused { Intent::Pause } else { Intent::Run };
        let (record, seen) = cluster(&nodes, at_once, intent);
        let before = record.status_or_default().rolling.unwrap();
        let claimed: BTreeSet<&str> = before.active.iter().map(|c| c.node.as_str()).collect();
        match decide(&record, &seen, now()) {
            Decision::Record(status) => {
                let after = status.rolling.unwrap();
                let new = after.active.iter().filter(|c| !claimed.contains(c.node.as_str()));
                for claim in new {
                    let node = seen.fleet.node(&claim.node).unwrap();
                    prop_assert!(!paused, "a node is taken while paused");
                    prop_assert!(node.ready && !node.cordoned && !node.opted_out && node.mark.is_none());
                    prop_assert!(after.active.len() <= usize::try_from(at_once).unwrap(), "over the budget");
                    prop_assert!(claim.pods.is_empty() && claim.components().eq(["driver"]), "{claim:?}");
                }
            }
            Decision::ActAll(actions) => for action in actions {
                match action {
                    FleetAction::DeletePod { uid, .. } => {
                        let pod = seen.fleet.pods.iter().find(|p| p.uid == uid).unwrap();
                        let pod = PodId { name: &pod.name, uid: &pod.uid, created_at: pod.created_at };
                        let by = before.active.iter().find(|c| c.is_to_replace("driver", pod));
                        prop_assert!(by.is_some_and(|c| c.state == ClaimState::Swapping), "{uid} is not being swapped");
                    }
                    FleetAction::Cordon { node, .. } => {
                        prop_assert!(claimed.contains(node.as_str()) && !paused);
                        prop_assert!(!seen.fleet.node(&node).unwrap().cordoned, "somebody's cordon is taken over");
                    }
                    FleetAction::Evict { name, .. } => {
                        let tenant = seen.fleet.tenants.values().flatten().find(|t| t.name == name).unwrap();
                        prop_assert!(claimed.contains(tenant.node.as_str()) && !paused);
                        prop_assert_eq!(tenant.recreated_by, RecreatedBy::Controller, "nobody would make another");
                        prop_assert!(is_ours(&record, seen.fleet.node(&tenant.node).unwrap()),
                            "evicted before the cordon");
                    }
                    FleetAction::ReleaseNode { node, .. } => {
                        prop_assert!(is_ours(&record, seen.fleet.node(&node).unwrap()), "somebody's claim \
                            is taken off");
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            },
            _ => {}
        }
    }

    #[test]
    fn nobody_is_evicted_from_a_node_that_does_not_carry_our_claim(
        nodes in vec(thrown(), 1..8), force in any::<bool>(),
    ) {
        let (mut record, seen) = cluster(&nodes, 8, Intent::Run);
        if force {
            record.spec.rolling_update.as_mut().unwrap().drain.on_timeout = OnTimeout::Force;
        }
        let Decision::ActAll(actions) = decide(&record, &seen, now() + SignedDuration::from_hours(9)) else {
            return Ok(());
        };
        for action in actions {
            let name = match &action {
                FleetAction::Evict { name, .. } | FleetAction::DeletePod { name, .. } => name,
                _ => continue,
            };
            if let Some(tenant) = seen.fleet.tenants.values().flatten().find(|t| t.name == *name) {
                prop_assert!(is_ours(&record, seen.fleet.node(&tenant.node).unwrap()), "{action:?}");
            }
        }
    }

    #[test]
    fn a_node_of_which_it_is_not_known_who_is_on_it_is_not_swapped(nodes in vec(thrown(), 1..8)) {
        let (record, mut seen) = cluster(&nodes, 8, Intent::Run);
        seen.fleet.tenants.clear();
        let before = record.status_or_default().rolling.unwrap();
        let is_emptying = |node: &str| {
            before.active.iter().any(|c| c.node == node && c.state == ClaimState::Emptying)
        };
        match decide(&record, &seen, now()) {
            Decision::Record(status) => for claim in status.rolling.unwrap().active {
                prop_assert!(
                    claim.state != ClaimState::Swapping || !is_emptying(&claim.node),
                    "{} begins to swap", claim.node
                );
            },
            Decision::ActAll(actions) => for action in actions {
                prop_assert!(!matches!(action, FleetAction::DeletePod { .. }), "{action:?}");
            },
            _ => {}
        }
    }

    #[test]
    fn a_merge_patch_leads_where_it_should(from in any_json(), to in any_json()) {
        let (from, to) = (json!({ "spec": from }), json!({ "spec": to }));
        prop_assert_eq!(merged(from.clone(), &merge_patch(&from, &to)), to);
    }

    #[test]
    fn an_amount_is_at_least_one_and_rounded_down(percent in 1..=100_u32, nodes in 0..20_000_usize) {
        let count = Amount::Percent(percent).of(nodes);
        prop_assert!(count >= 1 && (count == 1 || count * 100 <= nodes * usize::try_from(percent).unwrap()));
        prop_assert_eq!(Amount::parse(&format!("{percent}%")), Some(Amount::Percent(percent)));
        prop_assert!(WINDOW_LIMIT >= 1);
    }
}
