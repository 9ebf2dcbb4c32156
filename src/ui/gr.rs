//! The page of one gr, in the order in which people look: how it stands and how to stop it, what blocks, the fleet,
//! time, and what was before.

use kube::ResourceExt;
use maud::{Markup, html};

use super::attention::attention;
use super::fleet::fleet;
use super::gr_page::GrPage;
use super::history::history;
use super::plan::plan;
use super::start::phase_badge;
use super::time::time;
use super::{Shell, moment, nothing, told};
use crate::explain::progress::{Progress, progress};
use crate::plan::commands::Command;

/// The page of a gr.
pub fn gr_page(shell: &Shell<'_>, page: &GrPage<'_>) -> String {
    let words = shell.words();
    let progress = page.record().map(|record| progress(record, page.now));
    let events = page.active().map(|r| format!("/gum/v1/upgrades/{}/events", r.name_any()));
    let main = html! {
        div id="live" data-events=[events] data-live-text=(words.live) data-lost=(words.reconnecting) hidden {}
        p.crumbs { a href="/ui/" { (words.upgrades) } " / " (page.gr) }
        section id="status" { (status(shell, page, progress.as_ref())) }
        section id="attention" data-live aria-labelledby="attention-title" { (attention(shell, page)) }
        section id="fleet" aria-labelledby="fleet-title" { (fleet(shell, page)) }
        section id="time" data-live aria-labelledby="time-title" { (time(shell, page, progress.as_ref())) }
        section id="plan" data-live aria-labelledby="plan-title" { (plan(shell, page)) }
        section id="history" data-live aria-labelledby="history-title" { (history(shell, page)) }
    };
    shell.page(page.gr, &main)
}

fn status(shell: &Shell<'_>, page: &GrPage<'_>, progress: Option<&Progress>) -> Markup {
    let words = shell.words();
    // In parts: buttons are not put in place anew, under somebody's hand, because a number has changed.
    html! {
        div id="sentence" data-live {
            h1 { (page.gr) @if let Some(record) = page.record() { " " (phase_badge(shell, record)) } }
            p.sentence { (told(page.sentence)) }
            @if page.asked { p.asked role="status" { (words.asked) } }
            @if let Some(nodes) = progress.and_then(|p| p.nodes.as_ref()) {
                progress max=(nodes.total.max(1)) value=(nodes.done) aria-label=(words.done) {
                    (nodes.done) " / " (nodes.total)
                }
            }
        }
        div id="commands" data-live {
            @if page.may_change { (commands(shell, page)) } @else { p.dim { (words.read_only) } }
        }
        p.dim id="as-of" data-live {
            (words.as_of) " " (moment(page.now)) " "
            span.pulse id="pulse" { (words.reload) }
        }
    }
}

/// Pause is big; what cannot be undone asks for the name.
fn commands(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let words = shell.words();
    let plain = [
        (Command::Pause, words.pause, "big"),
        (Command::Promote, words.promote, "primary"),
        (Command::Resume, words.resume, "primary"),
        (Command::Retry, words.retry, "primary"),
    ];
    // While an upgrade is under way, to roll back and to cancel are the same.
    let back = if page.active().is_some() { Command::Cancel } else { Command::Rollback };
    let asking = [
        (Command::Cancel, words.cancel, words.say_cancel),
        (Command::Rollback, words.rollback, words.say_rollback),
        (Command::Close, words.close, words.say_close),
    ];
    html! {
        div.commands {
            @for (command, label, class) in plain.into_iter().filter(|(c, _, _)| page.offers(*c)) {
                (shell.button(page.gr, command.word(), label, class, &nothing()))
            }
            @for (command, label, what) in asking.into_iter().filter(|(c, _, _)| page.offers(*c)) {
                @if command == back || command == Command::Close {
                    (shell.asks_for_name(page.gr, command.word(), label, what, &nothing()))
                }
            }
        }
    }
}
