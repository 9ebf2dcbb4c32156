//! What to think of before an upgrade begins.

use serde_json::Value;

use super::{Ask, PlannedNode, deployed};
use crate::explain::risk::{Risk, RiskName};
use crate::gr::{WorkloadKind, workloads_of};
use crate::plan::impact::{Certainty, Change, ChangeKind, Impact};
use crate::record::rolling::{Labels, SkippedNode, WINDOW_LIMIT};
use crate::record::{GcuUpgrade, Strategy};

/// Nodes named in a warning.
const NAMED: usize = 3;

/// Everything that the blueprint's own findings do not say.
pub(super) fn warnings(
    ask: &Ask<'_>,
    changes: &[Change],
    nodes: &[PlannedNode],
    skipped: &[SkippedNode],
    at_once: usize,
) -> Vec<Risk> {
    let mut all = Vec::new();
    all.extend(named(RiskName::NothingRuns, nothing_left(ask)));
    all.extend(named(RiskName::OtherOperator, other_operator(ask)));
    match ask.strategy {
        Strategy::Recreate => all.extend(named(RiskName::GcuLost, holders(ask, nodes))),
        Strategy::RollingUpdate => {
            all.extend(named(RiskName::StrategyNotKept, insisted(ask)));
            all.extend(named(RiskName::AllNodesAtOnce, come_and_go(changes)));
            all.extend(named(RiskName::UnknownEffect, unknown_fields(changes)));
            all.extend(named(RiskName::DeploymentsRoll, by_themselves(ask, changes)));
            all.extend(drain(ask, nodes));
            all.extend(named(RiskName::NodesLeftOut, left_out(ask, skipped)));
            if at_once > WINDOW_LIMIT {
                let message = format!(
                    "maxUnavailable comes to {at_once} nodes: never more than {WINDOW_LIMIT} are in work at once"
                );
                all.push(Risk::new(RiskName::WindowCapped, message));
            }
        }
    }
    if ask.budgets.is_none() && ask.strategy == Strategy::RollingUpdate {
        let message = "the disruption budgets cannot be read: which of them would block is not known";
        all.push(Risk::new(RiskName::BudgetsUnreadable, message));
    }
    all
}

fn named(name: RiskName, messages: impl IntoIterator<Item = String>) -> impl Iterator<Item = Risk> {
    messages.into_iter().map(move |message| Risk::new(name, message))
}

/// A component of which no pod would be left.
fn nothing_left(ask: &Ask<'_>) -> Vec<String> {
    let selector = |fields: &serde_json::Map<String, Value>| -> Option<Labels> {
        serde_json::from_value(fields.get("nodeSelector")?.clone()).ok()
    };
    let mut all = Vec::new();
    for component in deployed(ask.target) {
        let Some(wanted) = selector(component.fields).filter(|labels| !labels.is_empty()) else { continue };
        if !ask.fleet.nodes.iter().any(|n| n.labels.match_all(&wanted)) {
            all.push(format!(
                "{}: no node has the labels of its nodeSelector: nothing of it would run",
                component.key
            ));
        }
    }
    if deployed(ask.target).is_empty() {
        all.push("no component is deployed any more: nothing would run".to_owned());
    }
    all
}

fn other_operator(ask: &Ask<'_>) -> Option<String> {
    let group = |manifest: &Value| manifest.get("apiVersion").and_then(Value::as_str).map(str::to_owned);
    let (live, target) = (ask.live.and_then(|l| group(&l.manifest)), group(ask.target));
    let (live, target) = (live?, target?);
    (live != target).then(|| {
        format!("the gr is served as {live} and the blueprint says {target}: they are of different operators")
    })
}

/// What earlier upgrades have found out about the operator.
fn insisted(ask: &Ask<'_>) -> Option<String> {
    let rolling = |record: &GcuUpgrade| record.status.as_ref().and_then(|s| s.rolling.clone());
    let record = ask.records.iter().find(|r| rolling(r).is_some_and(|r| r.probed || r.guarded))?;
    let name = record.metadata.name.clone().unwrap_or_default();
    rolling(record).filter(|r| r.guarded).map(|_| {
        format!(
            "the operator put its own update strategy back during {name}: the keeper is needed to hold its DaemonSets"
        )
    })
}

fn come_and_go(changes: &[Change]) -> Vec<String> {
    let of = |kind: ChangeKind| -> Vec<&str> {
        changes.iter().filter(|c| c.kind == kind).map(|c| c.component.as_str()).collect()
    };
    let mut all = Vec::new();
    for (kind, what) in [(ChangeKind::Added, "added"), (ChangeKind::Removed, "removed")] {
        let components = of(kind);
        if !components.is_empty() {
            all.push(format!(
                "{}: {what} on all nodes at once when the gr changes, not node by node",
                components.join(", ")
            ));
        }
    }
    all
}

/// Whether the operator renders a field that is not documented is not known before it is tried.
fn unknown_fields(changes: &[Change]) -> Option<String> {
    let unknown = changes.iter().filter(|c| c.certainty == Certainty::Unknown);
    let named: Vec<&str> = unknown.map(|c| c.component.as_str()).collect();
    (!named.is_empty()).then(|| {
        format!(
            "{}: only fields differ that are not documented; if the operator does not render them, nothing \
             restarts for them and the upgrade says so when it ends",
            named.join(", ")
        )
    })
}

/// Deployments are the operator's: they roll when the gr changes.
fn by_themselves(ask: &Ask<'_>, changes: &[Change]) -> Vec<String> {
    let status = ask.live.map_or(&Value::Null, |l| &l.status);
    let rolls = |key: &str| {
        let mut all = deployed(ask.target).into_iter().filter(|c| c.key == key);
        all.any(|c| workloads_of(c, status).iter().any(|w| w.kind == WorkloadKind::Deployment))
    };
    changes
        .iter()
        .filter(|c| c.kind == ChangeKind::Changed && rolls(&c.component))
        .map(|c| format!("{}: its Deployments roll by themselves when the gr changes", c.component))
        .collect()
}

fn drain(ask: &Ask<'_>, nodes: &[PlannedNode]) -> Vec<Risk> {
    let emptied = nodes.iter().filter(|n| n.impact == Impact::Evict).count();
    if !ask.options.drain.enabled && emptied > 0 {
        let message = format!(
            "drain is off: pods that hold a GCU are not evicted and lose it, nodes concerned: {emptied}"
        );
        return vec![Risk::new(RiskName::GcuLost, message)];
    }
    let pods = || nodes.iter().flat_map(|n| &n.evicts);
    let (stay, blocked) =
        (pods().filter(|p| p.stays.is_some()).count(), pods().filter(|p| p.blocked_by.is_some()).count());
    let mut all = Vec::new();
    if stay > 0 {
        let message =
            format!("pods that have to leave and are not evicted: {stay}; their nodes wait for them");
        all.push(Risk::new(RiskName::PodsStay, message));
    }
    if blocked > 0 {
        let message = format!("pods that a PodDisruptionBudget would not let go now: {blocked}");
        all.push(Risk::new(RiskName::BudgetBlocks, message));
    }
    all
}

fn left_out(ask: &Ask<'_>, skipped: &[SkippedNode]) -> Vec<String> {
    let which = if skipped.is_empty() {
        "nodes without the labels of nodeSelector".to_owned()
    } else {
        skipped.iter().map(|s| s.node.as_str()).take(NAMED).collect::<Vec<_>>().join(", ")
            + if skipped.len() > NAMED { " and others" } else { "" }
    };
    if skipped.is_empty() && ask.options.node_selector.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "left out: {which}; where old pods are left, the DaemonSets stay at OnDelete until an upgrade has \
         done every node"
    )]
}

/// A Recreate evicts nobody.
fn holders(ask: &Ask<'_>, nodes: &[PlannedNode]) -> Vec<String> {
    let on = |node: &PlannedNode| ask.fleet.tenants.get(&node.node).into_iter().flatten();
    let holders = nodes.iter().flat_map(on).filter(|t| t.gcus > 0).count();
    if holders == 0 {
        return Vec::new();
    }
    vec![format!(
        "pods that hold a GCU: {holders}; they are not evicted, and may lose it while the stack is down"
    )]
}
