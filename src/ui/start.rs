//! The first page: which grs there are, what was done lately, what can be upgraded to.

use jiff::Timestamp;
use kube::ResourceExt;
use maud::{Markup, html};

use super::{Shell, between, moment, span, told};
use crate::blueprint::catalog::Set;
use crate::explain::progress::progress;
use crate::record::GcuUpgrade;

/// Records that are shown.
const SHOWN: usize = 20;

/// What the first page shows.
#[derive(Debug)]
pub struct StartPage<'a> {
    /// What was read of the cluster; the refusal in its place where the caller may not list grs.
    pub listed: Result<Listed, String>,
    /// What can be upgraded to.
    pub blueprints: Option<&'a Set>,
    /// What is not ready yet, in sentences.
    pub not_ready: &'a [String],
    /// When it was read.
    pub now: Timestamp,
}

/// What was read of the cluster.
#[derive(Debug, Default)]
pub struct Listed {
    /// The grs by name, each with its phase as the operator reports it.
    pub grs: Vec<(String, String)>,
    /// The records, newest first.
    pub records: Vec<GcuUpgrade>,
}

/// The first page.
pub fn start_page(shell: &Shell<'_>, page: &StartPage<'_>) -> String {
    let words = shell.words();
    let main = html! {
        div id="start" data-live {
            h1 { (words.upgrades) }
            @if !page.not_ready.is_empty() {
                div.alert role="alert" {
                    p { (words.not_ready) }
                    ul { @for sentence in page.not_ready { li lang="en" { (sentence) } } }
                }
            }
            @match &page.listed {
                Ok(listed) => { (grs(shell, listed, page.now)) (records(shell, listed, page.now)) }
                Err(refusal) => { p.alert role="alert" lang="en" { (refusal) } }
            }
            @if let Some(set) = page.blueprints { (blueprints(shell, set)) }
        }
        @if page.listed.is_err() {
            form.stack.narrow method="get" action="/ui/gr" {
                label for="open" { (words.open_gr) }
                input id="open" name="name" required;
                button type="submit" { (words.open) }
            }
        }
    };
    shell.page(words.upgrades, &main)
}

fn grs(shell: &Shell<'_>, listed: &Listed, now: Timestamp) -> Markup {
    let words = shell.words();
    html! {
        section {
            h2 { (words.grs) }
            @if listed.grs.is_empty() { p { (words.no_grs) } }
            ul.cards {
                @for (name, phase) in &listed.grs {
                    @let record = listed.records.iter().find(|r| r.spec.gr == *name);
                    li {
                        a.card href={ "/ui/gr/" (name) } {
                            strong { (name) }
                            @if let Some(record) = record {
                                " " (phase_badge(shell, record))
                                span.line { (told(&progress(record, now).message)) }
                            } @else if !phase.is_empty() {
                                span.line lang="en" { (phase) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The phase of a record as a word in its colour.
pub(super) fn phase_badge(shell: &Shell<'_>, record: &GcuUpgrade) -> Markup {
    let phase = record.phase();
    html! { span class={ "badge p-" (format!("{phase:?}").to_lowercase()) } { (shell.words().phase(phase)) } }
}

fn records(shell: &Shell<'_>, listed: &Listed, now: Timestamp) -> Markup {
    let words = shell.words();
    html! {
        section {
            h2 { (words.recent) }
            @if listed.records.is_empty() {
                p { (words.no_upgrades) }
            } @else {
                div.scroll tabindex="0" role="region" aria-label=(words.recent) {
                    table {
                        thead { tr {
                            th scope="col" { (words.record) }
                            th scope="col" { (words.state) }
                            th scope="col" { (words.strategy) }
                            th scope="col" { (words.blueprint) }
                            th scope="col" { (words.requested) }
                            th scope="col" { (words.requested_by) }
                            th scope="col" { (words.took) }
                        } }
                        tbody { @for record in listed.records.iter().take(SHOWN) { (row(shell, record, now)) } }
                    }
                }
                @if listed.records.len() > SHOWN {
                    p { (words.all_upgrades) " " (shell.command("GET", "/gum/v1/upgrades", None)) }
                }
            }
        }
    }
}

fn row(shell: &Shell<'_>, record: &GcuUpgrade, now: Timestamp) -> Markup {
    let status = record.known_status();
    let took = status.started_at.map(|from| span(between(from, status.finished_at.unwrap_or(now))));
    html! {
        tr {
            th scope="row" { a href={ "/ui/gr/" (record.spec.gr) } { (record.name_any()) } }
            td { (phase_badge(shell, record)) }
            td { (shell.words().strategy_name(record.spec.strategy)) }
            td { (record.spec.target.blueprint.as_deref().unwrap_or("–")) }
            td { @if let Some(at) = record.creation_timestamp() { (moment(at.0)) } }
            td { (record.spec.requested_by.as_deref().unwrap_or("–")) }
            td { (took.unwrap_or_default()) }
        }
    }
}

fn blueprints(shell: &Shell<'_>, set: &Set) -> Markup {
    let words = shell.words();
    html! {
        section {
            h2 { (words.blueprints) }
            @if let Some(problem) = &set.problem { p.alert lang="en" { (problem) } }
            @if set.entries.is_empty() {
                p { (words.no_blueprints) }
            } @else {
                ul.blueprints {
                    @for entry in &set.entries {
                        li {
                            strong { (entry.file) }
                            @if entry.valid {
                                span class="badge p-succeeded" { (words.usable) }
                            } @else {
                                span class="badge p-failed" { (words.not_usable) }
                            }
                            @if let Some(blueprint) = &entry.blueprint { " → " (blueprint.name()) }
                            @if !entry.findings.is_empty() {
                                details id={ "findings-" (entry.file) } open[!entry.valid] {
                                    summary { (words.findings) " (" (entry.findings.len()) ")" }
                                    ul { @for finding in &entry.findings { li { (told(&finding.to_string())) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
