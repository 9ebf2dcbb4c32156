//! The terminal: how wide it is, whether it takes colours, what a person answers.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use jiff::tz::TimeZone;
use terminal_size::{Height, Width, terminal_size_of};

use super::args::Global;
use super::exit::Failure;
use crate::clock::Clock;
use crate::config::no_color;
use crate::frame::Look;

/// Where frames go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    /// Standard output is one.
    pub is_one: bool,
    colour: bool,
    clock: Clock,
}

impl Terminal {
    /// What standard output is.
    pub(super) fn of(global: &Global) -> Self {
        let is_one = io::stdout().is_terminal();
        Self { is_one, colour: is_one && !global.no_color && !no_color(), clock: Clock::system() }
    }

    /// How a frame is drawn now.
    pub(super) fn look(&self) -> Look {
        let width = self.size().map(|(width, _)| width);
        Look { colour: self.colour, width, zone: TimeZone::system(), ..Look::plain(self.clock.now()) }
    }

    /// Columns and lines.
    pub(super) fn size(&self) -> Option<(usize, usize)> {
        let (Width(width), Height(height)) = terminal_size_of(io::stdout()).filter(|_| self.is_one)?;
        Some((usize::from(width), usize::from(height)))
    }

    /// Asks a person.
    ///
    /// # Errors
    /// There is nobody to ask.
    pub(super) fn agrees(&self, question: &str) -> Result<bool, Failure> {
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(format!("{question} There is nobody to ask: give --yes (-y)")));
        }
        write!(io::stderr(), "{question} [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
