//! The plan as text for people.

use std::fmt;

use super::{PlannedComponent, PlannedNode, Preview, duration};
use crate::explain::risk::Risk;
use crate::plan::impact::{ChangeKind, Impact};
use crate::record::Strategy;

/// Nodes that are named.
const NODES_SHOWN: usize = 50;
/// Pods that are named for each node.
const PODS_SHOWN: usize = 5;
/// Gangs that are named.
const UNITS_SHOWN: usize = 20;
/// Longer values are cut.
const FIELD_LIMIT: usize = 100;

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Plan ({:?}): {}.", self.strategy, self.summary)?;
        if !self.components.is_empty() {
            writeln!(f)?;
            table(
                f,
                &["COMPONENT", "CHANGE", "IMPACT", "WHAT"],
                self.components.iter().flat_map(component_rows),
            )?;
        }
        writeln!(f, "\nTime    {}", self.time())?;
        if let Some(steps) = self.steps_in_words() {
            writeln!(f, "Steps   {steps}")?;
        }
        if let Some(coverage) = &self.coverage {
            writeln!(f, "Canary  {}", coverage.message)?;
        }
        if let Some(windows) = &self.windows {
            writeln!(f, "Windows {}", windows.message)?;
        }
        for unit in self.units.iter().take(UNITS_SHOWN) {
            writeln!(f, "Gang    {}", unit.message)?;
        }
        if let more @ 1.. = self.units.len().saturating_sub(UNITS_SHOWN) {
            writeln!(f, "Gang    and {more} more")?;
        }
        if self.strategy == Strategy::RollingUpdate && !self.nodes.is_empty() {
            writeln!(f)?;
            let columns = self.columns();
            let head: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
            let shown = self.nodes.iter().enumerate().take(NODES_SHOWN);
            table(f, &head, shown.flat_map(|(place, node)| node_rows(&columns, place, node)))?;
            more(f, self.nodes.len())?;
        }
        if !self.skipped.is_empty() {
            writeln!(f)?;
            let shown = self.skipped.iter().take(NODES_SHOWN);
            table(f, &["LEFT OUT", "WHY"], shown.map(|s| vec![s.node.clone(), s.reason.clone()]))?;
            more(f, self.skipped.len())?;
        }
        if !self.warnings.is_empty() {
            writeln!(f, "\nWarnings")?;
            for Risk { name, message, accepted } in &self.risks {
                writeln!(f, "  - {name:?}: {message}{}", if *accepted { " (accepted)" } else { "" })?;
            }
        }
        Ok(())
    }
}

/// A column of the table of nodes: what is over it, and what it has of a node.
type Column = (&'static str, fn(usize, &PlannedNode) -> String);

impl Preview {
    /// What is the same for every node needs no column.
    fn columns(&self) -> Vec<Column> {
        let mut columns: Vec<Column> = vec![("ORDER", |place, _| (place + 1).to_string())];
        if self.steps.is_some() {
            columns.push(("STEP", |_, node| node.step.to_string()));
        }
        columns.push(("NODE", |_, node| node.node.clone()));
        columns.push(("IMPACT", |_, node| may(node.uncertain, impact(node.impact))));
        let first = self.nodes.first().map(|n| &n.restarts);
        if self.nodes.iter().any(|n| Some(&n.restarts) != first) {
            columns.push(("RESTARTS", |_, node| node.restarts.join(",")));
        }
        columns.push(("EVICTS", |_, _| String::new()));
        columns
    }

    fn time(&self) -> String {
        match self.expected.seconds {
            Some(seconds) => format!("about {} ({})", duration::in_words(seconds), self.expected.basis),
            None => self.expected.basis.clone(),
        }
    }

    fn steps_in_words(&self) -> Option<String> {
        Some(self.steps.as_ref()?.in_words(self.max_unavailable))
    }
}

fn component_rows(component: &PlannedComponent) -> Vec<Vec<String>> {
    let change = match component.change {
        Some(ChangeKind::Added) => "added",
        Some(ChangeKind::Removed) => "removed",
        Some(ChangeKind::Changed) => "changed",
        None => "restarts",
    };
    let mut what: Vec<String> = component.fields.iter().map(|f| cut(f)).collect();
    what.extend(component.images.iter().map(|image| format!("image {image}")));
    what.extend(component.because.clone());
    if what.is_empty() {
        what.push(String::new());
    }
    let row = |(place, what): (usize, String)| {
        if place > 0 {
            return vec![String::new(), String::new(), String::new(), what];
        }
        let impact = may(component.uncertain, impact(component.impact));
        vec![component.component.clone(), change.to_owned(), impact, what]
    };
    what.into_iter().enumerate().map(row).collect()
}

fn node_rows(columns: &[Column], place: usize, node: &PlannedNode) -> Vec<Vec<String>> {
    let mut pods: Vec<String> = node
        .evicts
        .iter()
        .take(PODS_SHOWN)
        .map(|pod| match (&pod.stays, &pod.blocked_by) {
            // The reason names the pod itself.
            (Some(stays), _) => stays.clone(),
            (None, Some(budget)) => format!("{} (blocked now: {budget})", pod.pod),
            (None, None) => pod.pod.clone(),
        })
        .collect();
    if node.evicts.len() > PODS_SHOWN {
        pods.push(format!("and {} more", node.evicts.len() - PODS_SHOWN));
    }
    if pods.is_empty() {
        pods.push("-".to_owned());
    }
    // The pods have lines of their own, under the first.
    let row = |(line, pod): (usize, String)| {
        let (_, others) = columns.split_last().unwrap_or((&("", |_, _| String::new()), &[]));
        let cell = |(_, of): &Column| if line == 0 { of(place, node) } else { String::new() };
        others.iter().map(cell).chain([pod]).collect()
    };
    pods.into_iter().enumerate().map(row).collect()
}

/// "may evict" where the operator has the last word.
fn may(uncertain: bool, what: &str) -> String {
    if uncertain { format!("may {what}") } else { what.to_owned() }
}

fn impact(impact: Impact) -> &'static str {
    match impact {
        Impact::None => "none",
        Impact::Restart => "restart",
        Impact::Cordon => "cordon",
        Impact::Evict => "evict",
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(FIELD_LIMIT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn more(f: &mut fmt::Formatter<'_>, all: usize) -> fmt::Result {
    match all.saturating_sub(NODES_SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "and {more} more"),
    }
}

/// Columns as wide as their widest cell, three blanks apart, as kubectl prints them.
fn table(f: &mut fmt::Formatter<'_>, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> fmt::Result {
    let head = head.iter().map(|h| (*h).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|r| r.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(f, "{}", line.join("   ").trim_end())?;
    }
    Ok(())
}
