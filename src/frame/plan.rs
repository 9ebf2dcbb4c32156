//! `plan`: what an upgrade would do, in as few lines as say it.

use serde::Deserialize;

use super::status::left_out;
use super::table::{Cell, Table};
use super::view::LeftOut;
use super::{Look, Tone, clean, time, width, wrapped};

/// Nodes that are named with `-o wide`; `--all` names every one.
const NODES: usize = 50;

/// Gangs that are named.
const UNITS_SHOWN: usize = 20;

/// A plan, as far as it is drawn.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plan {
    /// The gr.
    pub gr: String,
    /// Recreate or RollingUpdate.
    pub strategy: String,
    /// In one sentence.
    pub summary: String,
    /// The components that change or restart.
    pub components: Vec<Component>,
    /// So many nodes at once.
    pub max_unavailable: u32,
    /// The steps, when there are several.
    pub steps: Option<Steps>,
    /// Which canary nodes try which classes of nodes.
    pub coverage: Option<Coverage>,
    /// The nodes, in order.
    pub nodes: Vec<Node>,
    /// The nodes that would be left out.
    pub skipped: Vec<LeftOut>,
    /// How long it should take.
    pub expected: Expected,
    /// In which maintenance windows.
    pub windows: Option<Windows>,
    /// Nodes that are taken together, since pods of one gang are on them.
    pub units: Vec<Unit>,
    /// What may go wrong, by name.
    pub risks: Vec<Risk>,
}

/// A component that changes or restarts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Component {
    /// Its key.
    pub component: String,
    /// added, removed or changed; absent when it only restarts.
    pub change: Option<String>,
    /// The fields that differ, as `field: old -> new`.
    pub fields: Vec<String>,
    /// Whether it restarts is for the operator to say.
    pub uncertain: bool,
    /// none, restart, cordon or evict.
    pub impact: String,
}

/// Nodes that are taken together.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Unit {
    /// In a sentence.
    pub message: String,
}

/// The maintenance windows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Windows {
    /// In a sentence.
    pub message: String,
}

/// Which canary nodes try which classes of nodes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Coverage {
    /// In a sentence.
    pub message: String,
}

/// The steps of a rollout.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Steps {
    /// How many.
    pub count: u32,
    /// So many nodes first.
    pub canary: Option<u32>,
    /// How long these soak.
    pub soak_seconds: Option<u32>,
    /// So many in each of the others.
    pub size: Option<u32>,
    /// The sizes of the others, where there are several; the last one repeats.
    pub batches: Vec<u32>,
    /// What comes between them.
    pub between: Option<String>,
}

/// A node that is taken.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// In which step, from 0.
    pub step: u32,
    /// What happens to it.
    pub impact: String,
    /// The pods that have to leave it.
    pub evicts: Vec<Eviction>,
}

/// A pod that has to leave.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Eviction {
    /// `namespace/name`.
    pub pod: String,
    /// Why it is not evicted at all.
    pub stays: Option<String>,
    /// What does not let it be evicted now.
    pub blocked_by: Option<String>,
}

/// How long it should take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Expected {
    /// So long.
    pub seconds: Option<u32>,
    /// Where that comes from.
    pub basis: String,
}

/// What may go wrong.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Risk {
    /// One word.
    pub name: String,
    /// In a sentence.
    pub message: String,
    /// Whoever asks has accepted it.
    pub accepted: bool,
}

impl Plan {
    /// The risks that nobody has accepted.
    pub fn open_risks(&self) -> impl Iterator<Item = &Risk> {
        self.risks.iter().filter(|r| !r.accepted)
    }
}

/// The plan.
pub fn plan(plan: &Plan, look: &Look) -> String {
    let mut text = components(plan, look);
    if text.is_empty() {
        text = format!("{}\n", wrapped(&clean(&plan.summary), look.width, "  "));
    }
    let mut line = |name: &str, what: &str| {
        let line = format!("{name:<7} {what}");
        text.push_str(&format!("{}\n", wrapped(&clean(&line), look.width, "        ")));
    };
    line("Nodes", &nodes(plan));
    if let Some(coverage) = &plan.coverage {
        line("Canary", &coverage.message);
    }
    line("Time", &expected(&plan.expected));
    if let Some(windows) = &plan.windows {
        line("Windows", &windows.message);
    }
    for unit in plan.units.iter().take(UNITS_SHOWN) {
        line("Gang", &unit.message);
    }
    if let more @ 1.. = plan.units.len().saturating_sub(UNITS_SHOWN) {
        line("Gang", &format!("and {more} more"));
    }
    let (mut blocked, mut stay) = (0, 0);
    for pod in plan.nodes.iter().flat_map(|n| &n.evicts) {
        blocked += usize::from(pod.blocked_by.is_some());
        stay += usize::from(pod.stays.is_some());
    }
    let evicts: usize = plan.nodes.iter().map(|n| n.evicts.len()).sum();
    if evicts > 0 {
        line(
            "Pods",
            &format!(
                "{evicts} have to leave; {blocked} blocked now by a disruption budget, {stay} not evicted at all"
            ),
        );
    }
    text.push_str(&risks(plan, look));
    if look.wide || look.all {
        text.push_str(&table_of_nodes(plan, look));
    }
    text.push_str(&left_out(&plan.skipped, look));
    text
}

fn components(plan: &Plan, look: &Look) -> String {
    let restarts: Vec<&str> =
        plan.components.iter().filter(|c| c.change.is_none()).map(|c| c.component.as_str()).collect();
    let changed: Vec<&Component> = plan.components.iter().filter(|c| c.change.is_some()).collect();
    let name_width = changed.iter().map(|c| width(&c.component)).max().unwrap_or_default();
    let mut text = String::new();
    for (place, component) in changed.iter().enumerate() {
        let (sign, tone) = match component.change.as_deref() {
            Some("added") => ("+", Tone::Good),
            Some("removed") => ("-", Tone::Bad),
            _ => ("~", Tone::Warn),
        };
        let fields = match component.fields.as_slice() {
            [] => component.change.clone().unwrap_or_default(),
            fields => fields.iter().map(|f| field(f)).collect::<Vec<_>>().join(", "),
        };
        let may = if component.uncertain { "may " } else { "" };
        let mut line = format!(
            "  {sign} {:<name_width$}   {fields}   {may}{}",
            component.component,
            effect(&component.impact)
        );
        if place + 1 == changed.len() && !restarts.is_empty() {
            let verb = if restarts.len() == 1 { "restarts" } else { "restart" };
            line.push_str(&format!("   + {} {verb}", restarts.join(", ")));
        }
        text.push_str(&format!("{}\n", tone.paint(&wrapped(&clean(&line), look.width, "      "), look)));
    }
    if changed.is_empty() && !restarts.is_empty() {
        let line = format!("  ~ nothing changes; outdated pods are replaced: {}", restarts.join(", "));
        text.push_str(&format!(
            "{}\n",
            Tone::Warn.paint(&wrapped(&clean(&line), look.width, "      "), look)
        ));
    }
    text
}

/// `version 1.2.3 → 1.3.0` of `version: 1.2.3 -> 1.3.0`.
fn field(text: &str) -> String {
    text.replacen(": ", " ", 1).replacen(" -> ", " → ", 1)
}

fn effect(impact: &str) -> &str {
    match impact {
        "evict" => "evicts",
        "cordon" => "cordons",
        "restart" => "restarts",
        other => other,
    }
}

fn nodes(plan: &Plan) -> String {
    let all = plan.nodes.len();
    if plan.strategy == "Recreate" {
        return format!("{all}, all at once: the whole stack is down meanwhile");
    }
    let at_once = usize::try_from(plan.max_unavailable).unwrap_or(usize::MAX).min(all);
    let mut text = format!("{all}, {at_once} at once (at least {} stay up)", all - at_once);
    if let Some(steps) = &plan.steps {
        text.push_str(&steps.canary.map(|n| format!("; canary {n}")).unwrap_or_default());
        text.push_str(
            &steps.soak_seconds.map(|s| format!(", {} of soak", time::long(s))).unwrap_or_default(),
        );
        let sizes: Vec<String> = steps.batches.iter().chain(&steps.size).map(ToString::to_string).collect();
        if !sizes.is_empty() {
            let between = steps.between.as_ref().map(|b| format!(", {b} between")).unwrap_or_default();
            text.push_str(&format!("; {} steps of {}{between}", steps.count, sizes.join(", ")));
        }
    }
    text
}

fn expected(expected: &Expected) -> String {
    match expected.seconds {
        Some(seconds) => format!("about {} ({})", time::long(seconds), expected.basis),
        None => expected.basis.clone(),
    }
}

/// One line for each name: the first of its sentences, and how many more there are.
fn risks(plan: &Plan, look: &Look) -> String {
    let mut text = String::new();
    let mut told: Vec<&str> = Vec::new();
    for risk in &plan.risks {
        if told.contains(&risk.name.as_str()) {
            continue;
        }
        let head = if told.is_empty() { "Risks" } else { "" };
        told.push(&risk.name);
        let alike: Vec<&Risk> = plan.risks.iter().filter(|other| other.name == risk.name).collect();
        let shown = if look.all || look.wide { alike.len() } else { 1 };
        let sentences: Vec<&str> = alike.iter().take(shown).map(|r| r.message.as_str()).collect();
        let more = alike.len() - sentences.len();
        let more = if more > 0 { format!(" (+{more})") } else { String::new() };
        let accept =
            if risk.accepted { "accepted".to_owned() } else { format!("accept with --accept {}", risk.name) };
        let line = format!("{head:<7} {}: {}{more}   {accept}", risk.name, sentences.join("; "));
        let tone = if risk.accepted { Tone::Faint } else { Tone::Warn };
        let line = wrapped(&clean(&line), look.width, "        ");
        text.push_str(&format!("{}\n", tone.paint(&line, look)));
    }
    text
}

fn table_of_nodes(plan: &Plan, look: &Look) -> String {
    let mut table = Table::new(&["ORDER", "STEP", "NODE", "IMPACT", "EVICTS"]).narrowing("EVICTS", &["STEP"]);
    let shown = if look.all { plan.nodes.len() } else { NODES.min(plan.nodes.len()) };
    for (place, node) in plan.nodes.iter().take(shown).enumerate() {
        let pods: Vec<String> = node.evicts.iter().map(pod).collect();
        table.add_row([
            Cell::from((place + 1).to_string()),
            Cell::from((node.step + 1).to_string()),
            Cell::from(node.node.as_str()),
            Cell::from(node.impact.as_str()),
            Cell::from(pods.join(", ")),
        ]);
    }
    let mut text = table.draw(look);
    if plan.nodes.len() > shown {
        text.push_str(&format!("… {} more (--all)\n", plan.nodes.len() - shown));
    }
    text
}

fn pod(eviction: &Eviction) -> String {
    match (&eviction.stays, &eviction.blocked_by) {
        (Some(stays), _) => stays.clone(),
        (None, Some(by)) => format!("{} (blocked now: {by})", eviction.pod),
        (None, None) => eviction.pod.clone(),
    }
}
