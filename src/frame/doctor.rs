//! `doctor`: what was looked at, what is missing, and how to mend it.

use serde::Serialize;

use super::{Look, Tone, clean, wrapped};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Finding {
    /// As it should be.
    Good,
    /// It works, but not all of it.
    Warning,
    /// It does not work.
    Bad,
    /// That could not be found out.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub finding: Finding,
    /// In a sentence.
    pub message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Check {
    /// As it should be.
    pub fn good(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, finding: Finding::Good, message: message.into(), mend: None }
    }

    /// It is not, and this mends it.
    pub fn bad(name: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { finding: Finding::Bad, mend: Some(mend.into()), ..Self::good(name, message) }
    }

    /// It works, and could be better.
    pub fn warning(name: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { finding: Finding::Warning, mend: Some(mend.into()), ..Self::good(name, message) }
    }

    /// That could not be found out.
    pub fn unknown(name: &'static str, message: impl Into<String>) -> Self {
        Self { finding: Finding::Unknown, ..Self::good(name, message) }
    }
}

/// Everything that was looked at, and a last line that sums it up.
pub fn doctor(checks: &[Check], look: &Look) -> String {
    checks.iter().map(|check| line(check, look)).chain([summary(checks)]).collect()
}

/// One thing that was looked at, and how to mend it.
pub fn line(check: &Check, look: &Look) -> String {
    let (sign, tone) = match check.finding {
        Finding::Good => ("✔", Tone::Good),
        Finding::Warning => ("⚠", Tone::Warn),
        Finding::Bad => ("✖", Tone::Bad),
        Finding::Unknown => ("?", Tone::Faint),
    };
    let line = format!("{sign} {:<12} {}", check.name, clean(&check.message));
    let mut text = format!("{}\n", tone.paint(&wrapped(&line, look.width, "               "), look));
    if let Some(mend) = &check.mend {
        text.push_str(&format!(
            "{}\n",
            wrapped(&format!("               mend: {}", clean(mend)), look.width, "               ")
        ));
    }
    text
}

/// What the findings come to, in a line.
pub fn summary(checks: &[Check]) -> String {
    let of = |finding| checks.iter().filter(|c| c.finding == finding).count();
    let (bad, warnings) = (of(Finding::Bad), of(Finding::Warning));
    match (bad, warnings) {
        (0, 0) => "all is well\n".to_owned(),
        (0, warnings) => format!("it works; {warnings} to look at\n"),
        (bad, warnings) => format!("{bad} to mend, {warnings} to look at\n"),
    }
}
