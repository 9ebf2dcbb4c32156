//! Usual nodes of a usual request: a thousand in work at once.

use gcu_upgrade_manager::record::size::{NODE_REQUESTS, NODE_REQUESTS_KEPT};

use super::*;

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
    let renamed = world.seen.fleet.pods.iter().filter_map(|pod| {
        let component = components[uids.iter().position(|uid| pod.is_of(uid))?];
        Some(Arc::new(DaemonPod {
            node: short(&pod.node).into(),
            name: format!("enflame-{component}-{}", &pod.uid[31..]),
            workload: format!("enflame-{component}").into(),
            ..pod.as_ref().clone()
        }))
    });
    world.seen.fleet.pods = renamed.collect();
    for ((pin, set), component) in rolling.locked.iter_mut().zip(&mut world.seen.fleet.sets).zip(components) {
        let set = Arc::make_mut(set);
        set.name = format!("enflame-{component}");
        set.hold.as_mut().unwrap().component = (*component).to_owned();
        (pin.name, pin.component) = (set.name.clone(), (*component).to_owned());
    }
}

/// What is asked for as it usually is; nobody has said anything about a node.
fn usual_request(world: &mut World, components: &[&str]) {
    world.record.status.as_mut().unwrap().rolling.as_mut().unwrap().canaries.clear();
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
    world.seen.gr.as_mut().unwrap().manifest = spec.target.manifest.clone().into();
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
        } else {
            // Nobody has to leave: the drivers are replaced, and their successors cannot start.
            let nobody = |node: &Arc<NodeState>| (node.name.clone(), Vec::new());
            world.seen.fleet.tenants = world.seen.fleet.nodes.iter().map(nobody).collect();
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
        let largest = world.turns(10);
        let rolling = world.rolling();
        let failed = rolling.active.iter().filter(|c| c.trouble.is_some()).count();
        println!("{on_timeout:?}: {failed} in trouble, {} given up, {largest} bytes", rolling.skipped.len());
        match on_timeout {
            OnTimeout::Skip => assert_eq!(rolling.skipped.len(), WINDOW_LIMIT),
            _ => {
                let told = rolling.active.iter().filter_map(|c| c.trouble.as_ref());
                assert_eq!(told.clone().filter(|t| t.kind == TroubleKind::Failed).count(), WINDOW_LIMIT);
                assert!(
                    told.filter(|t| stored(&t.message) > 300).count() >= 12,
                    "the first are told of at length"
                );
            }
        }
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
        world.seen.gr.as_mut().unwrap().manifest = spec.target.manifest.clone().into();
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
    world.seen.gr.as_mut().unwrap().manifest = world.record.spec.target.manifest.clone().into();
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
