//! A world at random: all of it comes from a seed.

use serde_json::{Map, Value, json};

use crate::dice::Dice;
use crate::faults::Fault;

/// When something happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// So many milliseconds after the request.
    At(u64),
    /// So many milliseconds after what is before it.
    Later(u64),
    /// So many milliseconds after the upgrade has come to this step, or one of its nodes to this state.
    In(&'static str, u64),
}

/// What somebody does, or what goes wrong.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A person changes the gr: what its specs contain, and this.
    Edit(Value),
    /// A person deletes the gr.
    DeleteGr,
    /// A command through REST, whatever is answered.
    Command(&'static str),
    /// A command about one node.
    OfNode(&'static str, String),
    DeleteRecord,
    /// A person changes the options in the record.
    Options(Value),
    /// The process is killed and started again.
    Restart,
    /// The process dies at the call after so many more, or right after it, and is started again.
    Die(usize, bool),
    /// The API server is away for so many seconds.
    Away(Fault, u64),
    SecondService,
    NotReady(String),
    Ready(String),
    Vanish(String),
    /// An admin cordons a node.
    Cordon(String),
    Uncordon(String),
    NewNode,
    /// A user's pod that holds a GCU comes to a node, cordoned or not.
    Arrive(String),
    /// A person puts the strategy of a component's DaemonSet back.
    PutBack(&'static str),
    /// Images of the new version cannot be pulled, or can be again.
    BadImage(bool),
    /// No further image can be pulled on this node, or can be again.
    Full(String, bool),
    Skip(String, bool),
    /// The same upgrade is asked for once more.
    Again,
}

/// Everything that happens in a world.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// As in a scenario.
    pub(super) world: Value,
    /// How slow it is, from when it has settled.
    pub(super) pace: Value,
    pub(super) blueprint: Value,
    pub(super) request: Value,
    /// One after the other.
    pub(super) events: Vec<(When, Event)>,
    /// What was broken by then is mended, seconds after the last event.
    pub(super) mended_after: Option<u64>,
}

const COMPONENTS: [&str; 5] = ["driver", "toolkit", "devicePlugin", "exporter", "gfd"];
/// The version that the blueprint asks for, and that images may be bad of.
pub(super) const VERSION: &str = "2.1.0";
/// Tempers of operators that do not leave their DaemonSets held.
const INSISTS: [&str; 3] = ["strategy_with_template", "replaces_whole_objects", "reasserts_strategy"];

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let nodes = if dice.chance(5) { 9 + dice.below(16) } else { 1 + dice.below(8) };
        let names: Vec<String> = (1..=nodes).map(|n| format!("node-{n}")).collect();
        let mut world = tempers(dice);
        world.insert("nodes".to_owned(), json!(nodes));
        tenants(dice, &names, &mut world);
        let request = request(dice);
        let blueprint = blueprint(dice);
        let mut events = Vec::new();
        for _ in 0..dice.pick(&[0, 1, 1, 2, 2, 3, 4]) {
            intervention(dice, &names, &mut events);
        }
        if world.contains_key("keeper") {
            // They would share an address.
            events.retain(|(_, event)| !matches!(event, Event::SecondService));
        }
        let mended_after = dice.chance(70).then(|| 300 + dice.below(1200));
        let pace = pace(dice);
        Self { seed, world: Value::Object(world), pace, blueprint, request, events, mended_after }
    }

    /// Whether somebody else changes the strategies or templates of what is held.
    pub(super) fn is_meddled_with(&self) -> bool {
        let is = |key: &str| self.world.get(key).is_some_and(|value| *value == json!(true));
        INSISTS.into_iter().any(is)
            || self.events.iter().any(|(_, e)| matches!(e, Event::PutBack(_) | Event::Edit(_)))
    }
}

fn tempers(dice: &mut Dice) -> Map<String, Value> {
    let all: [(&str, Value); 16] = [
        ("strategy_with_template", json!(true)),
        ("replaces_whole_objects", json!(true)),
        ("other_labels", json!(true)),
        ("name_differs", json!(true)),
        ("unreported_components", json!([dice.pick(&COMPONENTS)])),
        ("never_says_running", json!(true)),
        ("phase_flaps", json!(true)),
        ("update_strategy", json!("OnDelete")),
        ("max_unavailable", json!(dice.pick(&["2", "50%", "100%"]))),
        ("reasserts_strategy", json!(true)),
        ("recreates_on_change", json!(true)),
        ("ignores_changes", json!(true)),
        ("waits_for_updated_pods", json!(true)),
        ("reports_own_resources", json!(false)),
        ("reports_observed_generation", json!(false)),
        ("lower_case_phase", json!(true)),
    ];
    let mut world = Map::new();
    for _ in 0..dice.pick(&[0, 0, 1, 1, 1, 2, 3]) {
        let (key, value) = dice.pick(&all);
        world.insert(key.to_owned(), value);
    }
    let insists = INSISTS.into_iter().any(|key| world.contains_key(key));
    if dice.chance(if insists { 60 } else { 5 }) {
        world.insert("keeper".to_owned(), json!(true));
    }
    world
}

fn pace(dice: &mut Dice) -> Value {
    let mut pace = json!({});
    for (key, times) in
        [("component_delay", ["0s", "200ms", "5s", "20s"]), ("pod_start", ["0s", "1s", "8s", "30s"])]
    {
        if dice.chance(30) {
            pace[key] = json!(dice.pick(&times));
        }
    }
    pace
}

fn tenants(dice: &mut Dice, nodes: &[String], world: &mut Map<String, Value>) {
    let (mut tenants, mut budgets) = (Vec::new(), Vec::new());
    for number in 0..dice.below(4) {
        let name = format!("train-{number}");
        // One that comes back elsewhere, or nowhere while there is no room.
        let kind = dice.pick(&["owned", "owned", "deployment"]);
        let mut tenant = json!({ "name": name, "kind": kind, "gcus": 1 + dice.below(2) });
        if kind == "owned" {
            tenant["node"] = json!(dice.pick(nodes));
        }
        tenants.push(tenant);
        if dice.chance(20) {
            budgets.push(json!({ "name": name, "app": name, "min_available": 1 }));
        }
    }
    world.insert("tenants".to_owned(), json!(tenants));
    world.insert("budgets".to_owned(), json!(budgets));
    if dice.chance(15) && nodes.len() > 1 {
        world.insert("cordoned".to_owned(), json!([dice.pick(nodes)]));
    }
}

fn blueprint(dice: &mut Dice) -> Value {
    let mut changes = Map::new();
    for component in COMPONENTS {
        if dice.chance(35) {
            changes.insert(format!("/spec/{component}/version"), json!(VERSION));
        }
    }
    if changes.is_empty() || dice.chance(40) {
        changes.insert("/spec/driver/version".to_owned(), json!(VERSION));
    }
    if dice.chance(5) {
        changes.insert("/spec/devicePlugin/name".to_owned(), json!("other-gcu-k8s-plugin"));
    }
    if dice.chance(5) {
        changes.insert("/spec/exporter/notDeploy".to_owned(), json!(true));
    }
    Value::Object(changes)
}

fn request(dice: &mut Dice) -> Value {
    let mut request = json!({ "file": "gr.json", "onFailure": dice.pick(&["Hold", "Hold", "Rollback"]) });
    if dice.chance(50) {
        request["deadlines"] = json!({ "node": "300s", "running": "600s", "propagate": "120s" });
    }
    if dice.chance(10) {
        return request;
    }
    request["strategy"] = json!("RollingUpdate");
    let mut rolling = json!({});
    let mut maybe = |dice: &mut Dice, percent, key: &str, value: Value| {
        if dice.chance(percent) {
            rolling[key] = value;
        }
    };
    let most = dice.pick(&[json!(1), json!(2), json!(3), json!("25%"), json!("50%"), json!("100%")]);
    maybe(dice, 60, "maxUnavailable", most);
    let canary = dice.pick(&[json!(1), json!(2), json!("20%")]);
    maybe(dice, 20, "canary", canary);
    let soak = dice.pick(&["0s", "1s", "10s", "60s"]);
    maybe(dice, 40, "minReadySeconds", json!(soak));
    let threshold = dice.pick(&[json!(1), json!(2), json!(3), json!("30%")]);
    maybe(dice, 30, "failureThreshold", threshold);
    maybe(dice, 30, "order", json!("Name"));
    let pause = dice.pick(&["5s", "60s"]);
    match dice.below(10) {
        0 => maybe(dice, 100, "manual", json!(true)),
        1 => maybe(dice, 100, "pauseBetween", json!(pause)),
        _ => {}
    }
    let drain = match dice.below(6) {
        0 => Some(json!({ "enabled": false })),
        1..4 => {
            let timeout = dice.pick(&["30s", "300s"]);
            Some(json!({ "timeout": timeout, "onTimeout": dice.pick(&["Hold", "Skip", "Force"]) }))
        }
        _ => None,
    };
    maybe(dice, 100, "drain", drain.unwrap_or(json!({})));
    // Thrown apart, so that what was found with a seed before is found with it again.
    let mut steps = Dice(dice.0 ^ 0x57E9);
    let batches = steps.pick(&[json!([1, 2]), json!(["34%"]), json!([2, 1, "100%"])]);
    maybe(&mut steps, 10, "batches", batches);
    maybe(&mut steps, 10, "order", json!("Topology"));
    let coverage = json!({ "keys": [steps.pick(&["kubernetes.io/os", "kubernetes.io/hostname"])] });
    let canary = json!({ "coverage": coverage, "promote": "AfterSoak", "soak": "60s" });
    let is_manual = rolling.get("manual").is_some();
    if steps.chance(10) && !is_manual {
        rolling["canary"] = canary;
    }
    if steps.chance(30) && [json!(2), json!(3)].contains(&rolling["failureThreshold"]) {
        rolling["breaker"] = json!({ "sameCause": 2 });
    }
    request["rollingUpdate"] = rolling;
    request
}

fn when(dice: &mut Dice, nodes: u64) -> When {
    let soon = dice.pick(&[1, 60, 1000, 10_000, 60_000]);
    let after = dice.below(soon);
    match dice.below(12) {
        // Where a rollout of this size is likely to be under way.
        0..4 => When::At(dice.below((nodes * 30 + 60) * 1000)),
        4 => When::In("Locking", after),
        5 => When::In("Probing", after),
        6 => When::In("Patching", after),
        7 => When::In("Propagating", after),
        8 => When::In("Emptying", after),
        9 => When::In("Swapping", after),
        10 => When::In("Restoring", after),
        _ => When::In("Ended", after),
    }
}

fn edit(dice: &mut Dice) -> Value {
    let component = dice.pick(&COMPONENTS);
    match dice.below(8) {
        0 => json!({ component: { "notDeploy": true } }),
        1 => json!({ component: { "env": [{ "name": "LEVEL", "value": "debug" }] } }),
        2 => json!({ component: { "nodeSelector": { "example.com/pool": "a" } } }),
        3 => json!({ "volcano": { "image": "volcano", "version": "1.0" } }),
        // The version that is being rolled out: the target, or half of it.
        4 => json!({ component: { "version": VERSION } }),
        _ => json!({ component: { "version": "9.9.9" } }),
    }
}

fn intervention(dice: &mut Dice, nodes: &[String], events: &mut Vec<(When, Event)>) {
    let at = when(dice, nodes.len() as u64);
    let node = dice.pick(nodes);
    let later = When::Later(dice.below(300_000));
    let component = dice.pick(&COMPONENTS);
    let more = dice.chance(50);
    let (first, then) = match dice.below(30) {
        0 | 1 => (Event::Edit(edit(dice)), None),
        2 => (Event::Command("cancel"), None),
        3 => (Event::Command("pause"), Some(Event::Command(dice.pick(&["resume", "resume", "cancel"])))),
        4 => (Event::DeleteRecord, None),
        5 => (Event::Restart, None),
        6 | 7 => (Event::Die(dice.below(40) as usize, more), None),
        8 | 9 => {
            let how = dice.pick(&[Fault::Refuse, Fault::Hang, Fault::LoseAnswer, Fault::Answer(503)]);
            (Event::Away(how, 1 + dice.below(300)), None)
        }
        10 => (Event::SecondService, more.then_some(Event::Restart)),
        11 | 12 => (Event::NotReady(node.clone()), more.then_some(Event::Ready(node))),
        13 | 14 => (Event::Vanish(node), None),
        15 => (Event::Uncordon(node), None),
        16 => (Event::Cordon(node.clone()), more.then_some(Event::Uncordon(node))),
        17 => (Event::NewNode, None),
        18 => (Event::PutBack(component), None),
        19 => (Event::BadImage(true), more.then_some(Event::BadImage(false))),
        20 => (Event::Skip(node.clone(), true), more.then_some(Event::Skip(node, false))),
        21 => (Event::Full(node.clone(), true), more.then_some(Event::Full(node, false))),
        22 => (Event::Command("rollback"), None),
        23 => (Event::Again, None),
        24 => (Event::Command("retry"), None),
        25 => (Event::Command("close"), None),
        26 => (Event::OfNode("skip", node.clone()), more.then_some(Event::OfNode("retry", node))),
        27 => (Event::Arrive(node), None),
        28 => {
            let options = [json!({ "maxUnavailable": 3 }), json!({ "failureThreshold": 2 }), json!(null)];
            (Event::Options(dice.pick(&options)), None)
        }
        _ => (Event::DeleteGr, None),
    };
    events.push((at, first));
    events.extend(then.map(|event| (later, event)));
}
