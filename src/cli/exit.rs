//! How a command ends: a code for scripts, a sentence for people.

use std::process::ExitCode;

/// The exit codes. They never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// The upgrade failed, or this command did.
    Failed = 1,
    /// It was not asked in a way that can be understood.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The wait is over, and the upgrade goes on.
    GoesOn = 4,
    /// Not legal in this state.
    NotLegal = 5,
    /// Not allowed to whoever asks.
    NotAllowed = 6,
    /// No answer.
    Unreachable = 7,
    /// The upgrade is held.
    Held = 8,
    /// The upgrade is paused, or waits for `promote`.
    Paused = 9,
    /// The upgrade was rolled back.
    RolledBack = 10,
    /// `plan --exit-code`: something would change.
    Changes = 20,
    /// The same, with risks that are not accepted.
    Risks = 21,
    /// Told to stop watching.
    Detached = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// Where an upgrade in this phase has come to; `None` while it goes on by itself.
    pub fn of_phase(phase: &str) -> Option<Self> {
        match phase {
            "Succeeded" => Some(Self::Done),
            "Failed" => Some(Self::Failed),
            "RolledBack" => Some(Self::RolledBack),
            "Held" => Some(Self::Held),
            "Paused" => Some(Self::Paused),
            _ => None,
        }
    }
}

/// Why a command comes to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    /// For scripts.
    pub exit: Exit,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// It was asked for in a way that cannot be.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What an HTTP status of the service means.
    pub(super) fn of_status(status: u16, message: impl Into<String>) -> Self {
        let exit = match status {
            400 | 405 | 413 | 415 | 422 => Exit::Usage,
            401 | 403 => Exit::NotAllowed,
            404 => Exit::NotFound,
            409 => Exit::NotLegal,
            408 | 429 | 502..=504 => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Self::new(exit, in_our_words(&message.into()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

/// The service tells its callers what to send it next; whoever types commands is told the command.
const WORDS: [(&str, &str); 7] = [
    (" in the body does it all the same", " does it all the same"),
    ("\"force\": true", "--force"),
    ("add \"strategy\": \"RollingUpdate\"", "add --strategy RollingUpdate"),
    ("use strategy Recreate", "use --strategy Recreate"),
    ("is held: see /why, then", "is held: see kubectl gcu-upgrade why, then"),
    ("call promote to continue", "continue with: kubectl gcu-upgrade promote"),
    ("call resume to continue", "continue with: kubectl gcu-upgrade resume"),
];

fn in_our_words(message: &str) -> String {
    let mut text = WORDS.iter().fold(message.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours));
    if let Some((before, record)) = text.split_once("see /gum/v1/upgrades/") {
        text = format!("{before}see: kubectl gcu-upgrade status {record}");
    }
    if let Some((before, rest)) = text.split_once("GET /gum/v1/gr/")
        && let Some((_, after)) = rest.split_once("/nodes")
    {
        text = format!("{before}kubectl gcu-upgrade nodes{after}");
    }
    text
}
