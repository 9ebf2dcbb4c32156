//! What was before: the revisions with what each changed, and the timeline with who did what.

use kube::ResourceExt;
use maud::{Markup, html};

use super::gr_page::GrPage;
use super::start::phase_badge;
use super::{Shell, moment, told};
use crate::plan::impact::{ChangeKind, changes};
use crate::record::GcuUpgrade;

pub(super) fn history(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let words = shell.words();
    html! {
        h2 id="history-title" { (words.history) }
        @if page.records.is_empty() {
            p { (words.no_upgrades) }
        } @else {
            h3 { (words.revisions) }
            ul.revisions { @for record in page.records { li { (revision(shell, record)) } } }
            @if let Some(record) = page.record() { (timeline(shell, record)) }
        }
    }
}

fn revision(shell: &Shell<'_>, record: &GcuUpgrade) -> Markup {
    let words = shell.words();
    html! {
        p.what {
            strong { (record.name_any()) } " " (phase_badge(shell, record))
            @if let Some(file) = &record.spec.target.blueprint { " " (file) }
            @if let Some(of) = record.spec.target.of_revision { " " (words.revision) " " (of) }
        }
        p.dim {
            (words.strategy_name(record.spec.strategy))
            @if let Some(at) = record.creation_timestamp() { ", " (words.requested) " " (moment(at.0)) }
            @if let Some(by) = &record.spec.requested_by { ", " (words.by_whom) " " (by) }
            @if let Some(steered) = &record.spec.steered_by {
                "; " (words.steered) ": " (steered.command) " " (words.by_whom) " " (steered.by)
            }
            @if let Some(reason) = &record.spec.reason { "; " (words.reason) ": " (reason) }
        }
        details id={ "changes-" (record.name_any()) } {
            summary { (words.changes) }
            (difference(shell, record))
        }
    }
}

/// What an upgrade changed of what was there before it.
fn difference(shell: &Shell<'_>, record: &GcuUpgrade) -> Markup {
    let words = shell.words();
    let nothing = serde_json::Value::Null;
    let before = record.spec.previous.as_ref().map_or(&nothing, |p| &p.manifest);
    let all = changes(before, &record.spec.target.manifest);
    html! {
        @if all.is_empty() { p { (words.no_changes) } }
        ul lang="en" {
            @for change in &all {
                li {
                    code { (change.component) } " "
                    @match change.kind {
                        ChangeKind::Added => { "added" }
                        ChangeKind::Removed => { "removed" }
                        ChangeKind::Changed => { (change.fields.join("; ")) }
                    }
                }
            }
        }
    }
}

fn timeline(shell: &Shell<'_>, record: &GcuUpgrade) -> Markup {
    let words = shell.words();
    let status = record.known_status();
    html! {
        h3 { (words.timeline) ": " (record.name_any()) }
        div.scroll.tall tabindex="0" role="region" aria-label=(words.timeline) {
            table {
                thead { tr {
                    th scope="col" { (words.when) }
                    th scope="col" { (words.step) }
                    th scope="col" { (words.what) }
                } }
                tbody {
                    @for entry in status.timeline.iter().rev() {
                        tr {
                            td { (moment(entry.at)) }
                            td { (format!("{:?}", entry.step)) }
                            td { (told(&entry.message)) }
                        }
                    }
                }
            }
        }
    }
}
