//! The fleet: how many nodes are in which condition, a map that the script draws, and the same as a table.

use maud::{Markup, html};

use super::Shell;
use super::gr_page::{GrPage, Sort, TableQuery};
use crate::explain::fleet::{FleetView, MODEL_LABEL, NodeRolloutState, ZONE_LABEL};

/// Rows of the table that are shown at once.
const ROWS: usize = 100;

/// Each condition has a shape of its own, for those who see no difference between its colour and another's.
fn outline(condition: NodeRolloutState) -> &'static str {
    match condition {
        NodeRolloutState::Failed => {
            "M2 3.4 3.4 2 6 4.6 8.6 2 10 3.4 7.4 6 10 8.6 8.6 10 6 7.4 3.4 10 2 8.6 4.6 6Z"
        }
        NodeRolloutState::Late => "M6 1 11.5 11H.5Z",
        NodeRolloutState::LeftOut => "M1 4.5h10v3H1Z",
        NodeRolloutState::Emptying => "M.5 1h11L6 11Z",
        NodeRolloutState::Swapping => "M6 .8a5.2 5.2 0 1 1 0 10.4A5.2 5.2 0 0 1 6 .8Z",
        NodeRolloutState::Returning => "M6 .3 11.7 6 6 11.7.3 6Z",
        NodeRolloutState::Starting => "M4.5 1h3v3.5H11v3H7.5V11h-3V7.5H1v-3h3.5Z",
        NodeRolloutState::Outdated => "M1 1h10v10H1ZM3 3v6h6V3Z",
        NodeRolloutState::Current => "M1 1h10v10H1Z",
    }
}

/// A condition as a shape in its colour. The script draws the map with these same outlines.
pub(super) fn shape(condition: NodeRolloutState) -> Markup {
    html! {
        svg class={ "shape c-" (format!("{condition:?}").to_lowercase()) } viewBox="0 0 12 12" aria-hidden="true" {
            path d=(outline(condition)) {}
        }
    }
}

pub(super) fn fleet(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let words = shell.words();
    let total: usize = page.fleet.counts.values().sum();
    html! {
        h2 id="fleet-title" { (words.fleet) }
        @if total == 0 {
            p { (words.no_nodes) }
        } @else {
            (grouping(shell, page))
            div id="legend" data-live { (legend(shell, page, total)) }
            div.map id="map" data-fleet={ "/gum/v1/gr/" (page.gr) "/fleet?" (by(page)) } data-label=(words.cells)
                data-none=(words.no_value) {}
            div id="groups" data-live { (groups(shell, page.fleet)) }
            div id="nodes" data-live { (table(shell, page)) }
        }
    }
}

fn by(page: &GrPage<'_>) -> String {
    serde_urlencoded::to_string([("by", &page.table.by)]).unwrap_or_default()
}

fn grouping(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let words = shell.words();
    let by = page.table.by.as_str();
    let own = if [ZONE_LABEL, MODEL_LABEL].contains(&by) { "" } else { by };
    let choice = |label: &'static str, key: &'static str, word: &'static str| {
        html! { a href={ "?by=" (word) "#fleet" } aria-current=[(by == key).then_some("true")] { (label) } }
    };
    html! {
        form.grouping method="get" action="#fleet" {
            span { (words.group_by) ":" }
            (choice(words.zone, ZONE_LABEL, "zone"))
            (choice(words.model, MODEL_LABEL, "model"))
            label for="by" { (words.label) }
            input id="by" name="by" value=(own) required spellcheck="false" autocapitalize="none";
            button type="submit" { (words.apply) }
        }
    }
}

fn legend(shell: &Shell<'_>, page: &GrPage<'_>, total: usize) -> Markup {
    let words = shell.words();
    let table = page.table;
    html! {
        ul.legend {
            @for condition in NodeRolloutState::ALL {
                @let count = page.fleet.counts.get(&condition).copied().unwrap_or_default();
                li data-condition=(format!("{condition:?}")) data-name=(words.condition(condition))
                    hidden[count == 0] {
                    a href=(table.link(table.sort, Some(condition), 1))
                        aria-current=[(table.only == Some(condition)).then_some("true")] {
                        (shape(condition)) (words.condition(condition)) " " strong { (count) }
                    }
                }
            }
            li { a href=(table.link(table.sort, None, 1)) { (words.all_states) " " strong { (total) } } }
        }
    }
}

/// The counts of each group, for readers without the map; the script puts the map in its place.
fn groups(shell: &Shell<'_>, fleet: &FleetView) -> Markup {
    let words = shell.words();
    html! {
        ul.groups {
            @for group in &fleet.groups {
                li {
                    strong { @if group.value.is_empty() { (words.no_value) } @else { (group.value) } }
                    @for (condition, nodes) in &group.nodes {
                        " " (shape(*condition)) (words.condition(*condition)) " " (nodes.len())
                    }
                }
            }
        }
    }
}

/// A node of the table.
struct Row<'a> {
    node: &'a str,
    group: &'a str,
    condition: NodeRolloutState,
}

/// The rows that are asked for, in order.
fn rows<'a>(fleet: &'a FleetView, query: &TableQuery) -> Vec<Row<'a>> {
    let mut all: Vec<Row<'a>> = fleet
        .groups
        .iter()
        .flat_map(|group| group.nodes.iter().map(move |(condition, nodes)| (group, *condition, nodes)))
        .filter(|(_, condition, _)| query.only.is_none_or(|only| only == *condition))
        .flat_map(|(group, condition, nodes)| {
            nodes.iter().map(move |node| Row { node, group: &group.value, condition })
        })
        .filter(|row| row.node.contains(&query.find))
        .collect();
    match query.sort {
        Sort::Node => all.sort_by_cached_key(|row| natural(row.node)),
        Sort::Condition => all.sort_by_cached_key(|row| (row.condition, natural(row.node))),
        Sort::Group => all.sort_by_cached_key(|row| (row.group, natural(row.node))),
    }
    all
}

/// `node-10` comes after `node-9`.
fn natural(name: &str) -> (&str, u64, &str) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name.strip_prefix(stem).unwrap_or_default();
    (stem, number.parse().unwrap_or_default(), name)
}

fn table(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let words = shell.words();
    let query = page.table;
    let rows = rows(page.fleet, query);
    let pages = rows.len().div_ceil(ROWS).max(1);
    let at = query.page.clamp(1, pages);
    let shown = rows.iter().skip(at.saturating_sub(1).saturating_mul(ROWS)).take(ROWS);
    html! {
        h3 { (words.table) @if let Some(only) = query.only { ": " (words.condition(only)) } " (" (rows.len()) ")" }
        form.find method="get" action="#nodes" {
            @for (name, value) in [("by", query.by.as_str()), ("sort", query.sort.word())] {
                input type="hidden" name=(name) value=(value);
            }
            @if let Some(only) = query.only { input type="hidden" name="state" value=(format!("{only:?}")); }
            label for="find" { (words.find) }
            input id="find" name="find" value=(query.find) type="search" spellcheck="false";
            button type="submit" { (words.apply) }
        }
        div.scroll.tall tabindex="0" role="region" aria-label=(words.table) {
            table.nodes {
                thead { tr { @for sort in Sort::ALL { (heading(shell, query, sort)) } } }
                tbody {
                    @for row in shown {
                        tr {
                            th scope="row" { (row.node) }
                            td { (shape(row.condition)) (words.condition(row.condition)) }
                            td { @if row.group.is_empty() { (words.no_value) } @else { (row.group) } }
                        }
                    }
                }
            }
        }
        @if pages > 1 {
            p.pages {
                @if at > 1 {
                    @let before = query.link(query.sort, query.only, at.saturating_sub(1));
                    a rel="prev" href=(before) { (words.previous_page) }
                }
                span { (at) " / " (pages) }
                @if at < pages {
                    a rel="next" href=(query.link(query.sort, query.only, at.saturating_add(1))) { (words.next_page) }
                }
            }
        }
    }
}

fn heading(shell: &Shell<'_>, query: &TableQuery, sort: Sort) -> Markup {
    let words = shell.words();
    let is_sorted = query.sort == sort;
    html! {
        th scope="col" aria-sort=[is_sorted.then_some("ascending")] {
            a href=(query.link(sort, query.only, 1)) title={ (words.sorted_by) } {
                @match sort {
                    Sort::Node => { (words.node) }
                    Sort::Condition => { (words.state) }
                    Sort::Group => { (query.by) }
                }
                @if is_sorted { span aria-hidden="true" { " ▲" } }
            }
        }
    }
}
