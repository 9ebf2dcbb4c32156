//! A world at random: all of it comes from a seed.

use serde_json::{Map, Value, json};

use crate::faults::Fault;

/// Numbers that look random and are the same for the same seed: SplitMix64.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// So often in a hundred.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

/// What somebody does, or what goes wrong.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A person changes the version of a component in the gr.
    Edit(&'static str),
    /// A command through REST, whatever is answered.
    Command(&'static str),
    DeleteRecord,
    /// The process is killed and started again.
    Restart,
    /// The API server is away for so many seconds.
    Away(Fault, u64),
    SecondService,
    NotReady(String),
    Ready(String),
    Vanish(String),
    Uncordon(String),
    NewNode,
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
    /// Seconds after the request.
    pub(super) events: Vec<(u64, Event)>,
    /// What was broken by then is mended, seconds after the last event.
    pub(super) mended_after: Option<u64>,
}

const COMPONENTS: [&str; 5] = ["driver", "toolkit", "devicePlugin", "exporter", "gfd"];
/// The version that the blueprint asks for, and that images may be bad of.
pub(super) const VERSION: &str = "2.1.0";

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let nodes = 1 + dice.below(8);
        let names: Vec<String> = (1..=nodes).map(|n| format!("node-{n}")).collect();
        let mut world = tempers(dice);
        world.insert("nodes".to_owned(), json!(nodes));
        tenants(dice, &names, &mut world);
        let request = request(dice);
        let blueprint = blueprint(dice);
        let mut events = Vec::new();
        for _ in 0..dice.below(4) {
            // Where a rollout of this size is likely to be under way.
            let at = dice.below(nodes * 30 + 60);
            intervention(dice, at, &names, &mut events);
        }
        events.sort_by_key(|(at, _)| *at);
        let mended_after = dice.chance(70).then(|| 300 + dice.below(1200));
        let pace = pace(dice);
        Self { seed, world: Value::Object(world), pace, blueprint, request, events, mended_after }
    }

    /// Whether somebody else changes the strategies or templates of what is held.
    pub(super) fn is_meddled_with(&self) -> bool {
        let is = |key: &str| self.world.get(key).is_some_and(|value| *value == json!(true));
        ["reasserts_strategy", "strategy_with_template", "replaces_whole_objects"].into_iter().any(is)
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
        tenants.push(json!({ "name": name, "node": dice.pick(nodes), "gcus": 1 + dice.below(2) }));
        if dice.chance(20) {
            budgets.push(json!({ "name": name, "app": name, "min_available": 1 }));
        }
    }
    world.insert("tenants".to_owned(), json!(tenants));
    world.insert("budgets".to_owned(), json!(budgets));
    if dice.chance(15) {
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
    let soak = dice.pick(&["1s", "10s", "60s"]);
    maybe(dice, 30, "minReadySeconds", json!(soak));
    let threshold = 1 + dice.below(3);
    maybe(dice, 30, "failureThreshold", json!(threshold));
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
    request["rollingUpdate"] = rolling;
    request
}

fn intervention(dice: &mut Dice, at: u64, nodes: &[String], events: &mut Vec<(u64, Event)>) {
    let node = dice.pick(nodes);
    let later = at + 5 + dice.below(300);
    let component = dice.pick(&COMPONENTS);
    let (first, then) = match dice.below(18) {
        0 => (Event::Edit(component), None),
        1 => (Event::Command("cancel"), None),
        2 => (Event::Command("pause"), Some(Event::Command("resume"))),
        3 => (Event::DeleteRecord, None),
        4 => (Event::Restart, None),
        5 => {
            let how = dice.pick(&[Fault::Refuse, Fault::Hang, Fault::LoseAnswer, Fault::Answer(503)]);
            (Event::Away(how, 1 + dice.below(300)), None)
        }
        6 => (Event::SecondService, None),
        7 => (Event::NotReady(node.clone()), dice.chance(60).then_some(Event::Ready(node))),
        8 if nodes.len() > 1 => (Event::Vanish(node), None),
        9 => (Event::Uncordon(node), None),
        10 => (Event::NewNode, None),
        11 => (Event::PutBack(component), None),
        12 => (Event::BadImage(true), dice.chance(50).then_some(Event::BadImage(false))),
        13 => (Event::Skip(node.clone(), true), dice.chance(50).then_some(Event::Skip(node, false))),
        14 => (Event::Full(node.clone(), true), dice.chance(50).then_some(Event::Full(node, false))),
        15 => (Event::Command("rollback"), None),
        16 => (Event::Again, None),
        _ => (Event::Command("retry"), None),
    };
    events.push((at, first));
    events.extend(then.map(|event| (later, event)));
}
