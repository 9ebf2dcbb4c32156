//! The record stays under 512 KiB whatever happens in a cluster of 15,000 nodes, with the worst names and texts.

use std::sync::Arc;

use gcu_upgrade_manager::plan::FleetAction;
use gcu_upgrade_manager::plan::commands::nodes::{self, Skipping};
use gcu_upgrade_manager::plan::fleet::{
    DaemonPod, Fleet, Mark, NodeLabels, NodeState, RecreatedBy, SetState, Tenant,
};
use gcu_upgrade_manager::plan::preflight::{Refusal, fits, may_start};
use gcu_upgrade_manager::record::rolling::{
    Amount, Claim, ClaimState, ClaimedPod, Drain, GivingUp, Hold, Labels, LockedSet, OnTimeout, Replaced,
    RollingStatus, RollingUpdate, SkippedNode, Trouble, TroubleKind, WINDOW_LIMIT,
};
use gcu_upgrade_manager::record::size::{
    LOCKED, MANIFESTS, NODE_REQUESTS, NODE_REQUESTS_KEPT, RECORD, REQUEST, bound, shortened, stored,
};
use gcu_upgrade_manager::record::{Condition, Reason, Steered, Strategy as How, TimelineEntry};
use proptest::prelude::*;
use proptest::strategy::Strategy;

use super::*;

const NODES: usize = 15_000;
/// Each grows in another way when it is stored.
const WORST: [&str; 2] = ["<", "𝄞"];

/// What Go's encoder makes of it: written out once more, so that the product is not compared with itself.
fn as_go_writes(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().replace("\\b", "\\u0008").replace("\\f", "\\u000c").chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text += &format!("\\u{:04x}", u32::from(c)),
            c => text.push(c),
        }
    }
    text
}

fn any_text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("([a-z<>&\"\\\\𝄞é \u{2028}\u{1}\n\u{7f}]|\\PC){0,300}").unwrap()
}

proptest! {
    #[test]
    fn a_size_is_counted_as_an_api_server_stores_it(text in any_text(), key in any_text()) {
        // The naive writer takes an escaped backslash before a `b` or an `f` for another escape.
        let text = text.replace('\\', "");
        let value = json!({ key.replace('\\', ""): [text, 1, -2, true, null] });
        prop_assert_eq!(stored(&value), as_go_writes(&value).len());
    }

    #[test]
    fn a_text_takes_up_no_more_than_it_may(text in any_text(), limit in 3..500_usize) {
        let cut = shortened(&text, limit);
        prop_assert!(stored(&cut) - 2 <= limit, "{cut:?}");
        prop_assert!(!cut.contains(char::is_control));
        prop_assert_eq!(shortened(&cut, limit), cut.clone(), "cutting it again changes nothing");
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let fits = stored(&plain) - 2 <= limit;
        prop_assert_eq!(cut == plain, fits);
        prop_assert!(fits || cut.ends_with('…'));
    }
}

/// A name of 253 characters.
fn name(what: &str, number: usize) -> String {
    format!("{what}-{number:0>width$}", width = 252 - what.len())
}

/// A UID as an API server makes them.
fn uid_of(what: &str, number: usize) -> String {
    format!("{what}-{number:0>width$}", width = 35 - what.len())
}

struct World {
    record: GcuUpgrade,
    seen: Snapshot,
    now: Timestamp,
    worst: &'static str,
    /// Pods that were made.
    made: usize,
}

impl World {
    /// As many DaemonSets as a record takes, on every node; as much asked for as a request takes.
    fn new(worst: &'static str, on_timeout: OnTimeout) -> Self {
        let mut locked: Vec<LockedSet> = Vec::new();
        loop {
            let number = locked.len();
            let set = LockedSet {
                component: if number == 0 { "driver".to_owned() } else { format!("{worst}{number}") },
                namespace: "n".repeat(63),
                name: name("set", number),
                uid: uid_of("set", number),
                strategy: json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": "100%" } }),
                hash: "o".repeat(10),
                unfinished: false,
            };
            if stored(&locked) + stored(&set) > LOCKED {
                break;
            }
            locked.push(set);
        }
        let manifest = |version: &str| {
            let component =
                |l: &LockedSet| (l.component.clone(), json!({ "name": l.name, "version": version }));
            let mut manifest =
                json!({ "spec": locked.iter().map(component).collect::<serde_json::Map<_, _>>() });
            let left = MANIFESTS / 2 - stored(&manifest) - 10;
            let each = stored(&worst.repeat(100)) - 2;
            manifest["pad"] = json!(worst.repeat(left * 100 / each));
            manifest
        };
        let mut record = record();
        record.metadata.name = Some(name("gcu", 1));
        record.metadata.uid = Some(uid_of("u", 1));
        record.spec.strategy = How::RollingUpdate;
        record.spec.target.manifest = manifest("2");
        record.spec.previous = Some(Previous { uid: RECORDED.to_owned(), manifest: manifest("1") });
        record.spec.rolling_update = Some(RollingUpdate {
            max_unavailable: Amount::Percent(100),
            failure_threshold: Amount::Percent(100),
            drain: Drain { on_timeout, ..Drain::default() },
            ..RollingUpdate::default()
        });
        record.spec.reason = Some(worst.repeat(1024 / worst.len()));
        record.spec.requested_by = Some(shortened(&worst.repeat(2000), 512));
        record.spec.steered_by =
            Some(Steered { command: "retry-node".to_owned(), by: shortened(&worst.repeat(2000), 512) });
        while fits(&record.spec).is_ok() {
            record.spec.components.push(worst.repeat(20));
        }
        record.spec.components.pop();
        for number in 0.. {
            let reason = Some(worst.repeat(256 / worst.len()));
            let asked = Skipping { node: name("gone", number), reason, keep_cordon: Some(true) };
            match nodes::skip(&record, &asked) {
                Ok(change) => record.spec.skip = change.skip.unwrap(),
                Err(_) => break,
            }
        }
        let status = record.status.get_or_insert_default();
        (status.phase, status.step, status.observed_generation) = (Phase::Running, Step::Rolling, 1);
        let rolling =
            RollingStatus { locked: locked.clone(), locked_since: Some(now()), ..Default::default() };
        status.rolling = Some(rolling);
        let live =
            LiveGr { status: json!({ "phase": "Running" }), ..gr(RECORDED, &record.spec.target.manifest) };
        let seen = Snapshot { gr: Some(live), fleet: Self::fleet(&record, &locked), ..Snapshot::default() };
        Self { record, seen, now: now(), worst, made: 0 }
    }

    fn fleet(record: &GcuUpgrade, locked: &[LockedSet]) -> Fleet {
        let set = |l: &LockedSet| {
            Arc::new(SetState {
                namespace: l.namespace.clone(),
                name: l.name.clone(),
                uid: l.uid.clone(),
                resource_version: "7".to_owned(),
                observed: true,
                strategy: json!({ "type": "OnDelete" }),
                owners: Vec::new(),
                lock: Some(l.strategy.clone()),
                hold: Some(Hold {
                    gr: "gcu".to_owned(),
                    component: l.component.clone(),
                    record: record.metadata.name.clone().unwrap(),
                    uid: record.metadata.uid.clone().unwrap(),
                    goal: Goal::Target,
                    guarded: false,
                }),
                labelled: true,
                hash: Some("new".to_owned()),
                refused: None,
                pods: 1,
            })
        };
        let mut fleet = Fleet { sets: locked.iter().map(set).collect(), ..Fleet::default() };
        for number in 0..NODES {
            let node = name("node", number);
            fleet.nodes.push(Arc::new(NodeState {
                name: node.clone(),
                resource_version: "7".to_owned(),
                ready: true,
                cordoned: false,
                opted_out: false,
                labels: NodeLabels::default(),
                mark: None,
                gcus: 8,
            }));
            // One pod makes a node one of the rollout's; those that are taken have all.
            let pods = if number < 1000 { locked } else { locked.get(..1).unwrap() };
            fleet.pods.extend(pods.iter().enumerate().map(|(n, l)| {
                Arc::new(DaemonPod {
                    namespace: l.namespace.clone(),
                    name: name(&format!("pod-{n}"), number),
                    uid: uid_of(&format!("p{n}"), number),
                    workload: l.name.clone(),
                    owner: l.uid.clone(),
                    node: node.clone(),
                    hash: "old".to_owned(),
                    deleted_at: None,
                    created_at: ago(900),
                    ready_since: Some(ago(500)),
                    failure: None,
                })
            }));
        }
        fleet
    }

    /// A pod on every node that may not be evicted.
    fn with_tenants(mut self) -> Self {
        let tenant = |node: &Arc<NodeState>| {
            Arc::new(Tenant {
                namespace: "t".repeat(63),
                name: name("tenant", 0),
                uid: format!("tenant-{}", node.name),
                node: node.name.clone(),
                labels: Labels::new(),
                gcus: 1,
                deleting: false,
                workload: String::new(),
                recreated_by: RecreatedBy::Nobody,
                empty_dir: false,
                created_at: ago(5000),
                tolerates_cordon: false,
            })
        };
        let of_node = |node: &Arc<NodeState>| (node.name.clone(), vec![tenant(node)]);
        self.seen.fleet.tenants = self.seen.fleet.nodes.iter().map(of_node).collect();
        self
    }

    fn rolling(&self) -> &RollingStatus {
        self.record.status.as_ref().unwrap().rolling.as_ref().unwrap()
    }

    /// Decides and does what was decided, so often; the largest record on the way.
    fn turns(&mut self, count: usize) -> usize {
        let mut largest = stored(&self.record);
        for _ in 0..count {
            match decide(&self.record, &self.seen, self.now) {
                Decision::Record(status) => self.record.status = Some(*status),
                Decision::Wait { status, .. } => {
                    self.record.status = Some(*status);
                    self.now += SignedDuration::from_secs(4000);
                }
                Decision::ActAll(actions) => actions.iter().for_each(|action| self.act(action)),
                other => panic!("{other:?}"),
            }
            largest = largest.max(stored(&self.record));
            assert!(largest < RECORD, "{:?}: {largest} bytes", self.worst);
            assert!(self.rolling().active.len() <= WINDOW_LIMIT);
        }
        largest
    }

    fn act(&mut self, action: &FleetAction) {
        let fleet = &mut self.seen.fleet;
        match action {
            FleetAction::Cordon { node, mark, .. } => {
                let node = fleet.nodes.iter_mut().find(|n| n.name == *node).unwrap();
                let node = Arc::make_mut(node);
                (node.cordoned, node.mark) = (true, Some(Mark::Claimed(mark.clone())));
            }
            FleetAction::ReleaseNode { node, .. } => {
                let node = fleet.nodes.iter_mut().find(|n| n.name == *node).unwrap();
                let node = Arc::make_mut(node);
                (node.cordoned, node.mark) = (false, None);
            }
            // Its successor cannot start, and says much about it.
            FleetAction::DeletePod { uid, .. } => {
                let pod = fleet.pods.iter_mut().find(|p| p.uid == *uid).unwrap();
                let pod = Arc::make_mut(pod);
                self.made += 1;
                pod.uid = uid_of("new", self.made);
                pod.name = name("new", self.made);
                pod.created_at = self.now;
                let set = fleet.sets.iter().find(|s| s.uid == pod.owner).unwrap();
                pod.hash = set.hash.clone().unwrap();
                (pod.ready_since, pod.failure) = (None, Some(self.worst.repeat(10_000)));
            }
            FleetAction::Hold { uid, hold, .. } => {
                let set = fleet.sets.iter_mut().find(|s| s.uid == *uid).unwrap();
                Arc::make_mut(set).hold = Some(hold.clone());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_record_stays_writable_while_every_node_in_work_fails() {
    for worst in WORST {
        let mut world = World::new(worst, OnTimeout::Hold);
        let largest = world.turns(9);
        let rolling = world.rolling();
        let failed = rolling.active.iter().filter(|c| c.trouble.is_some()).count();
        assert!(failed > 10 && failed == rolling.active.len(), "{worst:?}: {failed}");
        println!("{worst:?}: {failed} nodes failed, {largest} bytes");
        // And back: all that has been replaced, and what has not.
        world.record.spec.intent = Intent::Rollback;
        let status = world.record.status.as_mut().unwrap();
        status.goal = Goal::Previous;
        for set in &mut world.seen.fleet.sets {
            let set = Arc::make_mut(set);
            set.hash = Some("o".repeat(10));
            set.hold.as_mut().unwrap().goal = Goal::Previous;
        }
        world.seen.gr.as_mut().unwrap().manifest = world.record.spec.previous.clone().unwrap().manifest;
        let largest = world.turns(5);
        println!("{worst:?}: back, {} nodes in work, {largest} bytes", world.rolling().active.len());
    }
}

#[test]
fn the_record_stays_writable_when_no_node_can_be_drained() {
    let mut world = World::new("<", OnTimeout::Skip).with_tenants();
    let before = 110;
    let skipped =
        (0..before).map(|n| SkippedNode { node: name("gone", n), reason: "<".repeat(20), attempt: 1 });
    world.record.status.as_mut().unwrap().rolling.as_mut().unwrap().skipped = skipped.collect();
    let largest = world.turns(26);
    let given_up = world.rolling().skipped.len();
    assert!(given_up > before + 40, "{given_up}");
    assert!(world.record.status_or_default().is_because_of(Reason::TooManySkipped));
    println!("{given_up} nodes given up, {largest} bytes");
}

/// Node and component names as they usually are.
fn usual(world: &mut World, components: &[&str]) {
    let short = |n: &str| format!("gcu-node-{}.dc1.example.com", n.get(248..).unwrap());
    let rolling = world.record.status.as_mut().unwrap().rolling.as_mut().unwrap();
    rolling.locked.truncate(components.len());
    world.seen.fleet.sets.truncate(components.len());
    for node in &mut world.seen.fleet.nodes {
        let node = Arc::make_mut(node);
        node.name = short(&node.name);
    }
    let uids: Vec<String> = world.seen.fleet.sets.iter().map(|set| set.uid.clone()).collect();
    world.seen.fleet.pods.retain(|pod| uids.contains(&pod.owner));
    for pod in &mut world.seen.fleet.pods {
        let pod = Arc::make_mut(pod);
        pod.node = short(&pod.node);
        let component = components[uids.iter().position(|uid| *uid == pod.owner).unwrap()];
        (pod.name, pod.workload) =
            (format!("enflame-{component}-{}", &pod.uid[31..]), format!("enflame-{component}"));
    }
    for ((pin, set), component) in rolling.locked.iter_mut().zip(&mut world.seen.fleet.sets).zip(components) {
        let set = Arc::make_mut(set);
        set.name = format!("enflame-{component}");
        set.hold.as_mut().unwrap().component = (*component).to_owned();
        (pin.name, pin.component) = (set.name.clone(), (*component).to_owned());
    }
}

/// What is asked for as it usually is; nobody has said anything about a node.
fn usual_request(world: &mut World, components: &[&str]) {
    let spec = &mut world.record.spec;
    let manifest = |version: &str| {
        let image = format!("registry.example.com/enflame/{}", "x".repeat(500));
        let component = |c: &&str| {
            ((*c).to_owned(), json!({ "name": format!("enflame-{c}"), "version": version, "image": image }))
        };
        json!({ "spec": components.iter().map(component).collect::<serde_json::Map<_, _>>() })
    };
    spec.target.manifest = manifest("2");
    spec.previous.as_mut().unwrap().manifest = manifest("1");
    (spec.skip, spec.components) = (Vec::new(), Vec::new());
    (spec.reason, spec.requested_by) = (Some("driver 2".to_owned()), Some("jane".to_owned()));
    world.seen.gr.as_mut().unwrap().manifest = spec.target.manifest.clone();
}

const COMPONENTS: [&str; 6] = ["driver", "toolkit", "devicePlugin", "exporter", "gfd", "nfd"];

#[test]
fn a_thousand_usual_nodes_are_in_work_at_once_whatever_becomes_of_them() {
    for on_timeout in [OnTimeout::Hold, OnTimeout::Skip] {
        let mut world = World::new("<", on_timeout);
        usual(&mut world, &COMPONENTS);
        usual_request(&mut world, &COMPONENTS);
        if on_timeout == OnTimeout::Skip {
            world = world.with_tenants();
        }
        world.turns(1);
        assert_eq!(world.rolling().active.len(), 0, "the window is opened");
        world.turns(1);
        assert_eq!(world.rolling().active.len(), WINDOW_LIMIT);
        println!("{on_timeout:?}: 1,000 claims, {} bytes", stored(&world.record));
        // The clocks of the efficiency have been running for long, and one more node is taken in the place of another.
        let rolling = world.record.status.as_mut().unwrap().rolling.as_mut().unwrap();
        let days = 86_400_000 * 30;
        rolling.active.iter_mut().map(Arc::make_mut).for_each(|claim| claim.ideal_start_ms = days);
        rolling.active.pop();
        rolling.slots.push(days);
        world.turns(1);
        assert_eq!(world.rolling().active.len(), WINDOW_LIMIT);
        let largest = world.turns(7);
        let rolling = world.rolling();
        let failed = rolling.active.iter().filter(|c| c.trouble.is_some()).count();
        println!("{on_timeout:?}: {failed} in trouble, {} given up, {largest} bytes", rolling.skipped.len());
        match on_timeout {
            OnTimeout::Skip => assert_eq!(rolling.skipped.len(), WINDOW_LIMIT),
            _ => assert_eq!(failed, WINDOW_LIMIT),
        }
        let told = rolling.active.iter().filter_map(|c| c.trouble.as_ref());
        assert!(told.clone().all(|t| t.at <= world.now));
        assert_eq!(told.filter(|t| stored(&t.message) > 300).count() >= 12, failed > 0);
    }
}

#[test]
fn what_a_small_request_leaves_is_for_the_nodes_whatever_their_names() {
    for (worst, on_timeout) in [("<", OnTimeout::Hold), ("𝄞", OnTimeout::Hold), ("<", OnTimeout::Skip)] {
        let mut world = World::new(worst, on_timeout);
        let spec = &mut world.record.spec;
        (spec.skip, spec.components, spec.reason) = (Vec::new(), Vec::new(), None);
        for manifest in [&mut spec.target.manifest, &mut spec.previous.as_mut().unwrap().manifest] {
            manifest["pad"] = json!("");
        }
        world.seen.gr.as_mut().unwrap().manifest = spec.target.manifest.clone();
        if on_timeout == OnTimeout::Skip {
            world = world.with_tenants();
        }
        world.turns(2);
        let at_once = world.rolling().active.len();
        let largest = world.turns(7);
        println!("{worst:?}, {on_timeout:?}: {at_once} nodes with the longest names, {largest} bytes");
        assert!(at_once > 300, "{at_once}");
    }
}

#[test]
fn people_can_speak_of_nodes_however_many_are_in_work() {
    let mut world = World::new("<", OnTimeout::Hold);
    usual(&mut world, &COMPONENTS);
    usual_request(&mut world, &COMPONENTS);
    world.turns(2);
    assert_eq!(world.rolling().active.len(), WINDOW_LIMIT);
    // So many at once that the record has no room for more than is kept for people.
    for number in 0..1000 {
        let (node, reason) = (name("gone", number), Some("<".repeat(20)));
        let Ok(change) = nodes::skip(&world.record, &Skipping { node, reason, keep_cordon: None }) else {
            break;
        };
        world.record.spec.skip = change.skip.unwrap();
    }
    let said = stored(&world.record.spec.skip);
    assert!((NODE_REQUESTS_KEPT - 500..NODE_REQUESTS / 2).contains(&said), "{said}");
    let largest = world.turns(7);
    println!("{said} bytes about nodes, {largest} bytes");
}

#[test]
fn usual_nodes_are_in_work_as_many_as_ever_were_beside_the_largest_request() {
    let mut world = World::new("driver", OnTimeout::Hold);
    usual(&mut world, &COMPONENTS[..4]);
    for manifest in
        [&mut world.record.spec.target.manifest, &mut world.record.spec.previous.as_mut().unwrap().manifest]
    {
        let version = manifest["spec"]["driver"]["version"].clone();
        let component =
            |c: &&str| ((*c).to_owned(), json!({ "name": format!("enflame-{c}"), "version": version }));
        manifest["spec"] = COMPONENTS[..4].iter().map(component).collect::<serde_json::Map<_, _>>().into();
    }
    world.seen.gr.as_mut().unwrap().manifest = world.record.spec.target.manifest.clone();
    world.turns(2);
    let at_once = world.rolling().active.len();
    println!("{at_once} nodes in work beside the largest request");
    assert!(at_once >= 400, "{at_once}");
    world.turns(7);
}

#[test]
fn a_claim_of_which_nothing_changes_is_not_made_anew() {
    let mut world = World::new("<", OnTimeout::Hold);
    usual(&mut world, &COMPONENTS);
    usual_request(&mut world, &COMPONENTS);
    world.turns(2);
    let before = world.rolling().clone();
    let node = before.active[7].node.clone();
    world.record.spec.node_attempts.insert(node.clone(), 1);
    world.turns(1);
    let after = &world.rolling().active;
    assert_eq!(after.len(), before.active.len());
    for (one, other) in after.iter().zip(&before.active) {
        assert_eq!(Arc::ptr_eq(one, other), one.node != node, "{}", one.node);
    }
    assert_eq!(after[7].attempt, 1);
}

/// What an older version, or a person, may have left.
fn left_by_others() -> impl Strategy<Value = GcuUpgradeStatus> {
    let much = 0..300_usize;
    (any_text(), 1..40_usize, much.clone(), much.clone(), much.clone(), much).prop_map(
        |(text, times, entries, claims, skipped, done)| {
            let reason = text.clone();
            let text = text.repeat(times);
            let trouble = Trouble { kind: TroubleKind::Failed, message: text.clone(), at: now() };
            let claim = |n: usize| {
                Arc::new(Claim {
                    node: name("node", n),
                    since: now(),
                    state: ClaimState::Emptying,
                    deadline: now(),
                    cordon: true,
                    pods: Vec::new(),
                    replaces: Replaced::default(),
                    gcus: 8,
                    trouble: Some(trouble.clone()),
                    ideal_start_ms: u64::MAX,
                    attempt: u32::MAX,
                    soaking_since: Some(now()),
                    lost_gcus: true,
                })
            };
            let pod = || ClaimedPod {
                component: "driver".to_owned(),
                name: name("pod", 0),
                uid: uid_of("pod", 0),
                created_at: now(),
            };
            let finished = |n: usize| gcu_upgrade_manager::record::rolling::DoneNode {
                node: name("node", n),
                since: now(),
                at: now(),
                pods: (0..20).map(|_| pod()).collect(),
                replaces: Replaced::default(),
            };
            let entry = |_| TimelineEntry { at: now(), step: Step::Rolling, message: text.clone() };
            let condition = |n: usize| Condition {
                type_: format!("Type{n}{text}"),
                status: "True".to_owned(),
                reason: text.clone(),
                message: text.clone(),
                last_transition_time: now(),
            };
            GcuUpgradeStatus {
                message: text.clone(),
                cause: Some(text.clone()),
                waiting_on: Some(WaitingOn {
                    reason: WaitReason::PodFailing,
                    message: text.clone(),
                    since: now(),
                }),
                timeline: (0..entries).map(entry).collect(),
                conditions: (0..entries / 10).map(condition).collect(),
                rolling: Some(RollingStatus {
                    active: (0..claims.min(WINDOW_LIMIT)).map(claim).collect(),
                    skipped: (0..skipped * 10)
                        .map(|n| SkippedNode { node: name("node", n), reason: reason.clone(), attempt: 1 })
                        .collect(),
                    recent: (0..done).map(finished).collect(),
                    slots: vec![u64::MAX; done * 10],
                    giving_up: Some(GivingUp {
                        reason: Reason::UncommandedRollout,
                        message: text.clone(),
                        abandon: false,
                    }),
                    ..RollingStatus::default()
                }),
                ..GcuUpgradeStatus::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_status_that_others_left_is_brought_within_its_bounds(status in left_by_others()) {
        // As much asked for as may be.
        let mut spec = record().spec;
        spec.target.manifest = json!("x".repeat(MANIFESTS + REQUEST + NODE_REQUESTS));
        let mut bounded = status.clone();
        bound(&mut bounded, &spec);
        prop_assert!(stored(&bounded) < 310 * 1024, "{}", stored(&bounded));
        let (before, after) = (status.rolling.unwrap(), bounded.rolling.clone().unwrap());
        let nodes = |r: &RollingStatus| r.active.iter().map(|c| c.node.clone()).collect::<Vec<_>>();
        prop_assert_eq!(nodes(&after), nodes(&before), "no claim is forgotten");
        prop_assert_eq!(bounded.timeline.last().map(|e| e.at), status.timeline.last().map(|e| e.at));
        let mut again = bounded.clone();
        bound(&mut again, &spec);
        prop_assert_eq!(again, bounded);
    }
}

#[test]
fn what_a_request_asks_for_is_bounded_beside_the_manifests() {
    let mut spec = record().spec;
    assert_eq!(fits(&spec), Ok(()));
    let labels = (0..200).map(|n| (format!("{n}{}", "<".repeat(10)), String::new()));
    spec.rolling_update = Some(RollingUpdate { node_selector: labels.collect(), ..RollingUpdate::default() });
    let refusal = fits(&spec).unwrap_err();
    assert!(matches!(refusal, Refusal::RequestTooLarge(bytes) if bytes > 12_288), "{refusal}");
    let text = refusal.to_string();
    assert!(text.ends_with("beside the manifests: use shorter labels, or a shorter reason"), "{text}");
}

#[test]
fn manifests_are_counted_as_they_are_stored() {
    let (plain, escaped) = (stack(&"x".repeat(90_000)), stack(&"<".repeat(17_000)));
    assert!(may_start("gcu", None, &[], &plain).is_ok());
    let refusal = may_start("gcu", None, &[], &escaped).unwrap_err();
    assert!(matches!(refusal, Refusal::TooLarge { bytes, .. } if bytes > 102_000), "{refusal}");
}
