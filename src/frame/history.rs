//! `history`: the revisions of a gr, one of them, and how two differ.

use super::table::{Cell, Table};
use super::view::Upgrade;
use super::{Look, Tone, clean, phase, time, wrapped};
use crate::plan::impact::{Change, ChangeKind};

/// A row for each revision, newest first.
pub fn revisions(all: &[Upgrade], look: &Look) -> String {
    draw(all, look, Table::new)
}

/// The same for pipes and for `Accept: text/plain`.
pub fn revisions_plain(all: &[Upgrade], look: &Look) -> String {
    draw(all, look, |head| Table::new(head).apart())
}

fn draw(all: &[Upgrade], look: &Look, new: impl Fn(&[&str]) -> Table) -> String {
    let head = ["REVISION", "CHANGE", "STRATEGY", "PHASE", "AGE", "TOOK", "BY", "REASON"];
    let mut table = new(&head).narrowing("REASON", &["STRATEGY", "TOOK", "BY", "REASON"]);
    for revision in all {
        let (sign, tone) = phase(&revision.phase);
        let number = revision.revision.unwrap_or_default();
        let number = if revision.current { format!("{number} *") } else { number.to_string() };
        let text = |text: &Option<String>| Cell::from(text.as_deref().unwrap_or_default());
        let shown = match revision.phase.as_str() {
            _ if revision.unreadable => Cell::of("? unreadable", Tone::Bad),
            "" => Cell::of("· Replaced", Tone::Faint),
            name => Cell::of(format!("{sign} {name}"), tone),
        };
        table.add_row([
            Cell::from(number),
            text(&revision.change.clone().or_else(|| revision.blueprint.clone())),
            Cell::from(revision.strategy.as_str()),
            shown,
            Cell::from(time::age(revision.requested_at, look)),
            Cell::from(time::took(revision.started_at, revision.finished_at)),
            text(&revision.requested_by),
            text(&revision.reason),
        ]);
    }
    table.draw(look)
}

/// One revision: what was asked, what came of it, what happened.
pub fn revision(revision: &Upgrade, look: &Look) -> String {
    let (sign, _) = phase(&revision.phase);
    let mut lines = Vec::new();
    let mut add =
        |name, value: Option<String>| lines.extend(value.filter(|v| !v.is_empty()).map(|v| (name, v)));
    add("Revision", revision.revision.map(|number| number.to_string()));
    add("Name", Some(revision.name.clone()));
    add("Current", revision.current.then(|| "yes".to_owned()));
    add("Change", revision.change.clone());
    add("Blueprint", revision.blueprint.clone());
    add("Strategy", Some(revision.strategy.clone()));
    add("Phase", Some(&revision.phase).filter(|p| !p.is_empty()).map(|p| format!("{sign} {p}")));
    add("Asked", revision.requested_at.map(|at| time::full(at, look)));
    add("By", revision.requested_by.clone());
    add("Reason", revision.reason.clone());
    add("Accepted", Some(revision.accepted.join(", ")));
    add("Took", revision.finished_at.map(|at| time::took(revision.started_at, Some(at))));
    add("Cause", revision.cause.clone());
    add("Message", Some(revision.message.clone()));
    let mut text: String =
        lines.iter().map(|(name, value)| format!("{name:<10} {}\n", clean(value))).collect();
    if !revision.timeline.is_empty() {
        text.push('\n');
        let mut table = Table::new(&["AT", "STEP", "WHAT"]).narrowing("WHAT", &["STEP"]);
        for entry in &revision.timeline {
            let at = entry.at.map(|at| time::full(at, look)).unwrap_or_default();
            table.add_row([
                Cell::from(at),
                Cell::from(entry.step.as_str()),
                Cell::from(entry.message.as_str()),
            ]);
        }
        text.push_str(&table.draw(look));
    }
    text
}

/// What changes from one version to another, component by component.
pub fn differences(changes: &[Change], look: &Look) -> String {
    if changes.is_empty() {
        return "no difference: both ask for the same stack\n".to_owned();
    }
    let mut text = String::new();
    for change in changes {
        let (sign, tone) = match change.kind {
            ChangeKind::Added => ("+", Tone::Good),
            ChangeKind::Removed => ("-", Tone::Bad),
            ChangeKind::Changed => ("~", Tone::Warn),
        };
        text.push_str(&tone.paint(&format!("{sign} {}", clean(&change.component)), look));
        text.push('\n');
        for field in &change.fields {
            let field = format!("    {}", field.replacen(" -> ", " → ", 1));
            text.push_str(&format!("{}\n", wrapped(&clean(&field), look.width, "      ")));
        }
    }
    text
}
