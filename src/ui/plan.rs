//! The plan before an upgrade: what is asked for, what it would do, and the button that begins it.

use maud::{Markup, html};

use super::Shell;
use super::gr_page::{GrPage, Planned};
use crate::record::Strategy;

pub(super) fn plan(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let words = shell.words();
    html! {
        h2 id="plan-title" { (words.plan) }
        @if page.active().is_some() {
            p { (words.under_way) }
        } @else if page.blueprints.entries.iter().all(|e| !e.valid) {
            p { (words.no_blueprints) }
        } @else {
            p.dim { (words.plan_about) }
            (form(shell, page))
            @match page.planned {
                None => {}
                Some(Err(refusal)) => { p.alert role="alert" lang="en" { (refusal) } }
                Some(Ok(planned)) => { (planned_text(shell, page, planned)) }
            }
        }
    }
}

fn form(shell: &Shell<'_>, page: &GrPage<'_>) -> Markup {
    let (words, form) = (shell.words(), page.form);
    html! {
        form.fields method="get" action="#plan" {
            div {
                label for="file" { (words.blueprint) }
                select id="file" name="file" {
                    @for entry in page.blueprints.entries.iter().filter(|e| e.valid) {
                        option value=(entry.file) selected[entry.file == form.file] { (entry.file) }
                    }
                }
            }
            div {
                label for="strategy" { (words.strategy) }
                select id="strategy" name="strategy" {
                    @for strategy in [Strategy::RollingUpdate, Strategy::Recreate] {
                        @let name = words.strategy_name(strategy);
                        option value=(name) selected[strategy == form.strategy] { (name) }
                    }
                }
            }
            div {
                label for="at-once" { (words.at_once) }
                input id="at-once" name="atOnce" value=(form.at_once) placeholder="1" pattern="[0-9]+%?" size="5";
            }
            div {
                label for="canary" { (words.canary) }
                input id="canary" name="canary" value=(form.canary) placeholder="0" pattern="[0-9]+%?" size="5";
            }
            button type="submit" { (words.show_plan) }
        }
    }
}

fn planned_text(shell: &Shell<'_>, page: &GrPage<'_>, planned: &Planned) -> Markup {
    let words = shell.words();
    let body = html! { input type="hidden" name="body" value=(planned.body); };
    html! {
        h3 { (words.the_plan) }
        pre tabindex="0" role="region" aria-label=(words.the_plan) lang="en" { code { (planned.text) } }
        (shell.command("PUT", &format!("/gum/v1/gr/{}", page.gr), Some(&planned.body)))
        @if page.may_change {
            div.commands { (shell.asks_for_name(page.gr, "upgrade", words.start, "", &body)) }
        }
    }
}
