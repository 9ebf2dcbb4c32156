//! What people see of an upgrade in a terminal: tables, trees, bars. Pure: the content of REST's answers in, text out.
//! The command line draws with it, and so do the answers to `Accept: text/plain`.

pub mod bar;
pub mod doctor;
pub mod history;
pub mod list;
pub mod nodes;
pub mod plan;
pub mod service;
pub mod status;
pub mod table;
pub mod time;
pub mod view;
pub mod why;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr as _;

/// What a frame is drawn for.
#[derive(Clone, Debug)]
pub struct Look {
    /// With colours.
    pub colour: bool,
    /// So many columns; `None` where lines may have any length.
    pub width: Option<usize>,
    /// With the columns that few need.
    pub wide: bool,
    /// With everything that is otherwise counted only.
    pub all: bool,
    /// The time that ages are counted from.
    pub now: Timestamp,
    /// Where clocks on the wall are read.
    pub zone: TimeZone,
}

impl Look {
    /// Of text that goes into a file or through a pipe.
    pub fn plain(now: Timestamp) -> Self {
        Self { colour: false, width: None, wide: false, all: false, now, zone: TimeZone::UTC }
    }
}

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Under way.
    Busy,
    /// A person should look.
    Warn,
    /// It does not work.
    Bad,
    /// Of little weight.
    Faint,
}

impl Tone {
    /// The text in this tone, where colours are wanted.
    pub fn paint(self, text: &str, look: &Look) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            _ if !look.colour || text.is_empty() => return text.to_owned(),
            Self::Good => 32,
            Self::Busy => 36,
            Self::Warn => 33,
            Self::Bad => 31,
            Self::Faint => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The sign and the tone of a phase. A sign says the same without colour.
pub fn phase(phase: &str) -> (&'static str, Tone) {
    match phase {
        "Running" => ("◌", Tone::Busy),
        "Paused" => ("‖", Tone::Warn),
        "Held" => ("⚠", Tone::Warn),
        "Succeeded" => ("✔", Tone::Good),
        "RolledBack" => ("↶", Tone::Warn),
        "Failed" => ("✖", Tone::Bad),
        _ => ("·", Tone::Plain),
    }
}

/// The columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// What comes from the cluster cannot write into the terminal: control characters become visible.
pub fn clean(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// At most so many columns; what is cut off ends in `…`.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut kept, mut taken) = (String::new(), 0);
    for c in text.chars() {
        let mut one = [0; 4];
        let more = width(c.encode_utf8(&mut one));
        if taken + more + 1 > columns {
            break;
        }
        taken += more;
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// Lines of at most so many columns, broken between words, all but the first with this before them.
fn wrapped(text: &str, columns: Option<usize>, before: &str) -> String {
    let Some(columns) = columns.filter(|columns| *columns > width(before) + 20) else {
        return text.to_owned();
    };
    let words = text.trim_start();
    let (first, _) = text.split_at(text.len() - words.len());
    let (mut lines, mut line, mut begins) = (Vec::new(), first.to_owned(), true);
    for word in words.split(' ') {
        if !begins && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::replace(&mut line, before.to_owned()).trim_end().to_owned());
            begins = true;
        }
        // What separates two things within a line separates nothing at the beginning of one.
        if begins && word.is_empty() {
            continue;
        }
        if !begins {
            line.push(' ');
        }
        line.push_str(word);
        begins = false;
    }
    lines.push(line);
    lines.join("\n")
}
