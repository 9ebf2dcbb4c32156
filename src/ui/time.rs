//! Time: the course of the upgrade with its steps and its expected end, and a bar for each node in work and done last.

use jiff::Timestamp;
use maud::{Markup, html};

use super::fleet::shape;
use super::gr_page::GrPage;
use super::{Shell, between, moment, span};
use crate::explain::fleet::{NodeRolloutState, condition_of};
use crate::explain::progress::Progress;
use crate::explain::standstills::{Block, standstills};
use crate::plan::standstill::Standstill;
use crate::record::rolling::RollingStatus;
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Step};

/// Nodes in work that have a bar; the table names them all.
const BARS: usize = 15;
/// Standstills that are listed: the newest.
const LISTED: usize = 12;

pub(super) fn time(shell: &Shell<'_>, page: &GrPage<'_>, progress: Option<&Progress>) -> Markup {
    let words = shell.words();
    let started = page.record().and_then(|r| Some((r, r.status.as_ref()?.started_at?)));
    html! {
        h2 id="time-title" { (words.time) }
        @match started {
            None => { p { (words.no_upgrades) } }
            Some((record, started)) => {
                (facts(shell, page, record, started, progress))
                (course(shell, page, record, started, progress))
                @if let Some(rolling) = record.status.as_ref().and_then(|s| s.rolling.as_ref()) {
                    (nodes(shell, rolling, &standstills(&record.known_status()), page.now))
                }
            }
        }
    }
}

fn facts(
    shell: &Shell<'_>,
    page: &GrPage<'_>,
    record: &GcuUpgrade,
    started: Timestamp,
    progress: Option<&Progress>,
) -> Markup {
    let words = shell.words();
    let status = record.status_or_default();
    let rolling = status.rolling.unwrap_or_default();
    html! {
        dl.facts {
            div { dt { (words.started) } dd { (moment(started)) } }
            @if let Some(ended) = status.finished_at {
                div { dt { (words.ended) } dd { (moment(ended)) } }
            }
            div { dt { (words.took) } dd { (span(between(started, status.finished_at.unwrap_or(page.now)))) } }
            @if let Some((early, late)) = expected_end(progress) {
                div { dt { (words.expected_end) } dd { (moment(early)) @if late != early { " – " (moment(late)) } } }
            }
            @if let Some(efficiency) = progress.and_then(|p| p.efficiency) {
                div { dt { (words.efficiency) } dd { (format!("{efficiency:.2}")) } }
            }
            @if rolling.gated_ms >= 1000 {
                div { dt { (words.waited) } dd { (span(i64::try_from(rolling.gated_ms / 1000).unwrap_or_default())) } }
            }
        }
    }
}

/// Between when and when all nodes should be done.
fn expected_end(progress: Option<&Progress>) -> Option<(Timestamp, Timestamp)> {
    let progress = progress?;
    Some((progress.estimated_end_earliest?, progress.estimated_end_latest?))
}

/// Places moments on a line from 0 to 100 %.
struct Scale {
    from: Timestamp,
    seconds: i64,
}

impl Scale {
    fn new(from: Timestamp, to: Timestamp) -> Self {
        Self { from, seconds: between(from, to).max(1) }
    }

    fn at(&self, moment: Timestamp) -> i64 {
        // Thousandths are finer than any screen shows.
        let part = between(self.from, moment).min(self.seconds).saturating_mul(100_000);
        part.checked_div(self.seconds).unwrap_or_default()
    }

    fn percent(thousandths: i64) -> String {
        format!("{}.{:03}%", thousandths / 1000, thousandths % 1000)
    }

    /// A bar between two moments, at least as wide as can be seen.
    fn bar(&self, class: &str, from: Timestamp, to: Timestamp, title: &str) -> Markup {
        let (left, right) = (self.at(from), self.at(to));
        let width = right.saturating_sub(left).max(300);
        html! {
            rect class=(class) x=(Self::percent(left)) width=(Self::percent(width)) y="0" height="100%" {
                title { (title) }
            }
        }
    }

    /// A standstill between its begin and its end. Colour and place both tell why.
    fn block(&self, block: &Block, now: Timestamp, title: &str) -> Markup {
        let (class, y, height) = look(block.cause);
        let left = self.at(block.from);
        let width = self.at(block.to.unwrap_or(now)).saturating_sub(left).max(300);
        html! {
            rect class={ "still " (class) } x=(Self::percent(left)) width=(Self::percent(width)) y=(y) height=(height) {
                title { (title) }
            }
        }
    }

    fn line(&self, class: &str, at: Timestamp, title: &str) -> Markup {
        let x = Self::percent(self.at(at));
        html! { line class=(class) x1=(x) x2=(x) y1="0" y2="100%" { title { (title) } } }
    }
}

/// The class of a standstill, and where its block stands on the line.
fn look(cause: Standstill) -> (&'static str, &'static str, &'static str) {
    match cause {
        Standstill::Held => ("s-held", "0", "100%"),
        Standstill::Paused => ("s-paused", "50%", "50%"),
        Standstill::AwaitingPromotion => ("s-gate", "0", "50%"),
        Standstill::BetweenSteps => ("s-between", "25%", "50%"),
    }
}

/// The newest standstills in words, each beside the block that it is drawn as.
fn listed(shell: &Shell<'_>, blocks: &[Block], now: Timestamp) -> Markup {
    let words = shell.words();
    let earlier = blocks.len().saturating_sub(LISTED);
    html! {
        @if !blocks.is_empty() {
            h4 { (words.standstills) }
            ul.stills {
                @for block in blocks.iter().skip(earlier) {
                    @let (class, y, height) = look(block.cause);
                    li {
                        svg.swatch width="14" height="14" aria-hidden="true" {
                            rect class={ "still " (class) } width="100%" y=(y) height=(height) {}
                        }
                        (words.standstill(block.cause)) ": " (moment(block.from)) " – "
                        @match block.to {
                            Some(to) => { (moment(to)) }
                            None => { (words.lasts) }
                        }
                        " " span.dim { "(" (span(between(block.from, block.to.unwrap_or(now)))) ")" }
                    }
                }
            }
            @if earlier > 0 { p.dim { "+ " (earlier) " " (words.earlier) } }
        }
    }
}

/// The steps, each with its begin and its end.
fn steps(status: &GcuUpgradeStatus, end: Timestamp) -> Vec<(Step, Timestamp, Timestamp)> {
    let mut all: Vec<(Step, Timestamp, Timestamp)> = Vec::new();
    for entry in status.timeline.iter().filter(|e| e.step != Step::Done) {
        match all.last_mut() {
            Some((step, _, _)) if *step == entry.step => {}
            last => {
                if let Some((_, _, until)) = last {
                    *until = entry.at;
                }
                all.push((entry.step, entry.at, end));
            }
        }
    }
    all
}

fn course(
    shell: &Shell<'_>,
    page: &GrPage<'_>,
    record: &GcuUpgrade,
    started: Timestamp,
    progress: Option<&Progress>,
) -> Markup {
    let words = shell.words();
    let status = record.known_status();
    let end = status.finished_at.unwrap_or(page.now);
    let expected = expected_end(progress);
    let scale = Scale::new(started, expected.map_or(end, |(_, late)| late.max(end)));
    let steps = steps(&status, end);
    let blocks = standstills(&status);
    html! {
        h3 { (words.course) }
        svg.course aria-hidden="true" width="100%" height="34" {
            @for (place, (step, from, to)) in steps.iter().enumerate() {
                (scale.bar(if place % 2 == 0 { "step" } else { "step other" }, *from, *to, &format!("{step:?}")))
            }
            @if let Some((early, late)) = expected { (scale.bar("band", early, late, words.expected_end)) }
            @for block in &blocks { (scale.block(block, end, words.standstill(block.cause))) }
            @for entry in &status.timeline { (scale.line("tick", entry.at, &entry.message)) }
            @if expected.is_some() { (scale.line("now", page.now, words.now)) }
        }
        ol.steps {
            @for (step, from, to) in &steps {
                li lang="en" { (format!("{step:?}")) " " span.dim { (span(between(*from, *to))) } }
            }
        }
        (listed(shell, &blocks, end))
    }
}

/// A bar of the chart of nodes.
struct Bar<'a> {
    node: &'a str,
    condition: NodeRolloutState,
    from: Timestamp,
    to: Option<Timestamp>,
}

fn nodes(shell: &Shell<'_>, rolling: &RollingStatus, blocks: &[Block], now: Timestamp) -> Markup {
    let words = shell.words();
    let done = rolling.recent.iter().map(|d| Bar {
        node: &d.node,
        condition: NodeRolloutState::Current,
        from: d.since,
        to: Some(d.at),
    });
    let active = rolling.active.iter().take(BARS).map(|claim| Bar {
        node: &claim.node,
        condition: condition_of(claim),
        from: claim.since,
        to: None,
    });
    let mut bars: Vec<Bar<'_>> = done.chain(active).collect();
    bars.sort_by_key(|bar| (bar.to.is_none(), bar.from));
    let until = if rolling.active.is_empty() { bars.iter().filter_map(|b| b.to).max() } else { Some(now) };
    let (Some(first), Some(until)) = (bars.iter().map(|b| b.from).min(), until) else {
        return super::nothing();
    };
    let scale = Scale::new(first, until);
    // Of those that reach into the chart, the part within it.
    let within = |block: &Block| {
        let (from, to) = (block.from.max(first), block.to.unwrap_or(until).min(until));
        (from < to).then_some(Block { from, to: Some(to), ..*block })
    };
    let blocks: Vec<Block> = blocks.iter().filter_map(within).collect();
    let still = blocks.iter().map(|block| between(block.from, block.to.unwrap_or(until))).sum();
    html! {
        h3 { (words.nodes_in_time) }
        p.ends.dim { (moment(first)) span { (moment(until)) } }
        ul.gantt {
            @if !blocks.is_empty() {
                li.standstills {
                    span.name { (words.standstills) }
                    svg width="100%" height="14" aria-hidden="true" {
                        @for block in &blocks { (scale.block(block, until, words.standstill(block.cause))) }
                    }
                    span.dim { (span(still)) }
                }
            }
            @for bar in &bars {
                @let to = bar.to.unwrap_or(now);
                @let class = format!("c-{}", format!("{:?}", bar.condition).to_lowercase());
                @let word = if bar.to.is_some() { words.done } else { words.in_work };
                li {
                    span.name { (shape(bar.condition)) (bar.node) }
                    svg width="100%" height="14" aria-hidden="true" {
                        (scale.bar(&class, bar.from, to, bar.node))
                    }
                    span.dim { (span(between(bar.from, to))) " " (word) }
                }
            }
        }
        @if rolling.active.len() > BARS {
            p.dim { "+ " (rolling.active.len().saturating_sub(BARS)) " " (words.in_work) }
        }
    }
}
