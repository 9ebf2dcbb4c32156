//! The page for people: pure functions from what was read to HTML.
//!
//! Everything is in the HTML that the service sends, so that it can be read without script. The script (`ui/page.js`)
//! reads the same page again when the event stream says that something has changed, puts the parts that differ in
//! place, and draws a cell for each node. No text about an upgrade is made here: it comes from [`crate::explain`] and
//! from the record. What is made here is the page's own labels, in [`words`].

pub mod assets;
mod attention;
mod fleet;
mod gr;
mod gr_page;
mod history;
mod notice;
mod plan;
mod start;
mod time;
pub mod words;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use gr::gr_page;
pub use gr_page::{GrPage, PlanForm, Planned, Sort, TableQuery};
pub use notice::{SignIn, notice_page, sign_in_page};
pub use start::{Listed, StartPage, start_page};
use words::{Language, Words};

/// What every page has around it.
#[derive(Clone, Debug)]
pub struct Shell<'a> {
    /// The language of the labels.
    pub language: Language,
    /// The path of the page, without its query.
    pub path: &'a str,
    /// Who is signed in; `None` where nobody is asked.
    pub user: Option<&'a str>,
    /// Goes with every form that changes something.
    pub forgery_token: &'a str,
    /// Where the service was reached, for the commands that are shown.
    pub origin: &'a str,
    /// Commands need a bearer token.
    pub needs_token: bool,
    /// The page has itself asked for once more: a link from another site came without the browser's cookie.
    pub comes_again: bool,
}

impl Shell<'_> {
    fn words(&self) -> &'static Words {
        self.language.words()
    }

    /// The page around its content.
    fn page(&self, title: &str, main: &Markup) -> String {
        let words = self.words();
        let page = html! {
            (DOCTYPE)
            html lang=(self.language.tag()) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if self.needs_token && self.comes_again { meta http-equiv="refresh" content="0"; }
                    title { (title) " · gcu-upgrade-manager" }
                    link rel="icon" type="image/svg+xml" href=(assets::ICON.path());
                    link rel="stylesheet" href=(assets::STYLE.path());
                    script type="module" src=(assets::SCRIPT.path()) {}
                }
                body {
                    a.skip href="#main" { (words.skip_to_content) }
                    header.top {
                        a.home href="/ui/" { "gcu-upgrade-manager" }
                        nav aria-label=(words.site) {
                            a href="/docs" hreflang="en" { (words.api) }
                            (self.languages())
                            @if let Some(user) = self.user {
                                span.user { (user) }
                                form method="post" action="/ui/sign-out" {
                                    (self.forgery())
                                    button.plain type="submit" { (words.sign_out) }
                                }
                            }
                        }
                    }
                    main id="main" tabindex="-1" { (main) }
                }
            }
        };
        page.into_string()
    }

    fn languages(&self) -> Markup {
        let others = Language::ALL.into_iter().filter(|l| *l != self.language);
        html! {
            @for other in others {
                a href={ (self.path) "?lang=" (other.tag()) } lang=(other.tag()) hreflang=(other.tag()) {
                    (other.own_name())
                }
            }
        }
    }

    /// Shows that a form is one of ours.
    fn forgery(&self) -> Markup {
        html! { input type="hidden" name="forgery" value=(self.forgery_token); }
    }

    /// A command to type, with what it needs to be let in.
    fn command(&self, method: &str, path: &str, body: Option<&str>) -> Markup {
        let token = if self.needs_token { " -H \"Authorization: Bearer $TOKEN\"" } else { "" };
        let method = if method == "GET" { String::new() } else { format!(" -X {method}") };
        let body = body.map(|b| format!(" -d '{b}'")).unwrap_or_default();
        self.typed(&format!("curl{method}{token}{body} {}{path}", self.origin))
    }

    /// A line to type, with a button that copies it where there is a script.
    fn typed(&self, line: &str) -> Markup {
        let words = self.words();
        html! {
            span.typed {
                code { (line) }
                button.copy type="button" hidden data-copied=(words.copied) { (words.copy) }
            }
        }
    }

    /// A button that asks for the name of the gr, so that nobody presses it by accident.
    fn asks_for_name(&self, gr: &str, command: &str, label: &str, what: &str, more: &Markup) -> Markup {
        let words = self.words();
        html! {
            details.ask id={ "ask-" (command) } {
                summary.button.danger { (label) }
                form method="post" action={ "/ui/gr/" (gr) "/do" } {
                    (self.forgery())
                    input type="hidden" name="command" value=(command);
                    (more)
                    @if !what.is_empty() { p { (what) } }
                    label for={ "name-" (command) } { (words.type_name) " " code { (gr) } }
                    input id={ "name-" (command) } name="confirm" required autocomplete="off" spellcheck="false"
                        pattern=(pattern(gr));
                    button.danger type="submit" { (label) }
                }
            }
        }
    }

    /// A button that does one thing at once.
    fn button(&self, gr: &str, command: &str, label: &str, class: &str, more: &Markup) -> Markup {
        html! {
            form method="post" action={ "/ui/gr/" (gr) "/do" } {
                (self.forgery())
                input type="hidden" name="command" value=(command);
                (more)
                button class=(class) type="submit" { (label) }
            }
        }
    }
}

/// A name as a pattern of HTML: of what a name may have, only the dot means something else there.
fn pattern(name: &str) -> String {
    name.replace('.', r"\.")
}

/// A moment: UTC as text, in the reader's own time zone where there is a script.
fn moment(at: Timestamp) -> Markup {
    let text = at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    html! { time datetime=(at.to_string()) { (text) } }
}

/// A span of time in one or two units.
fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) if minutes < 10 => format!("{minutes} min {} s", seconds % 60),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The time between two moments; never negative, whatever clocks say.
fn between(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs().max(0)
}

/// Text about an upgrade, which is English whatever the language of the labels. Moments in it are shown like others.
fn told(text: &str) -> Markup {
    html! {
        span lang="en" {
            @for word in text.split_inclusive(' ') {
                @let bare = word.trim_end_matches([';', ',', '.', ')', ' ']);
                @match bare.parse() {
                    Ok(at) => { (moment(at)) (word.strip_prefix(bare).unwrap_or_default()) }
                    Err(_) => { (word) }
                }
            }
        }
    }
}

/// Nothing.
fn nothing() -> Markup {
    PreEscaped(String::new())
}
