//! Which components a plan names: those that change, and those that restart because of them.

use serde_json::Value;

use super::{Ask, PlannedComponent, deployed};
use crate::gr;
use crate::plan::impact::{self, Change, ScopedSet, impact_of};
use crate::plan::rolling::index::Index;
use crate::record::Strategy;

pub(super) fn components(ask: &Ask<'_>, changes: &[Change], index: &Index<'_>) -> Vec<PlannedComponent> {
    let first = index.sets.get(index.first).map(|(s, _)| s);
    let nothing = Value::Null;
    let from = ask.live.map_or(&nothing, |l| &l.manifest);
    let mut keys = impact::keys(from, ask.target);
    // DaemonSets of the gr that belong to no component known.
    let others = index.sets.iter().map(|(s, _)| s.component.as_str());
    for key in others {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let rolls = ask.strategy == Strategy::RollingUpdate;
    let mut planned = Vec::new();
    for key in keys {
        let change = changes.iter().find(|c| c.component == key);
        let sets = || index.sets.iter().enumerate().filter(|(_, (s, _))| s.component == key);
        let restarts = sets().any(|(position, _)| position >= index.first);
        if change.is_none() && !restarts {
            continue;
        }
        let outdated: usize = sets().map(|(position, _)| index.outdated_nodes(position)).sum();
        let because = match (change, ask.strategy, first) {
            (Some(_), ..) => None,
            (None, Strategy::Recreate, _) => Some("the whole stack is recreated".to_owned()),
            (None, Strategy::RollingUpdate, _) if outdated > 0 => {
                Some(format!("has outdated pods on {outdated} nodes"))
            }
            (None, Strategy::RollingUpdate, first) => first
                .map(|f| match (f.changed, f.uncertain) {
                    (true, false) => ("changes", f),
                    (true, true) => ("may change", f),
                    (false, _) => ("has outdated pods", f),
                })
                .map(|(what, f)| format!("depends on {}, which {what}", f.component)),
        };
        planned.push(PlannedComponent {
            component: key.to_owned(),
            change: change.map(|c| c.kind),
            fields: change.map(|c| c.fields.clone()).unwrap_or_default(),
            images: change.map(|_| images(ask.target, key)).unwrap_or_default(),
            uncertain: rolls
                && sets().all(|(_, (s, _))| s.uncertain || !s.changed)
                && starts_uncertain(index),
            because,
            impact: impact_of(key),
        });
    }
    planned
}

/// The images that a component runs in this version of the gr.
fn images(manifest: &Value, key: &str) -> Vec<String> {
    let deployed = deployed(manifest).into_iter().find(|c| c.key == key);
    deployed.map(gr::image::images).unwrap_or_default()
}

/// Whether all that begins a restart is uncertain.
fn starts_uncertain(index: &Index<'_>) -> bool {
    let starts = |set: usize, s: &ScopedSet| s.changed || s.unfinished || index.outdated_nodes(set) > 0;
    index
        .sets
        .iter()
        .enumerate()
        .all(|(set, (s, _))| !starts(set, s) || (s.uncertain && index.outdated_nodes(set) == 0))
}
