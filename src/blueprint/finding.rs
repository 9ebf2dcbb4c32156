//! What is wrong with a blueprint, where, and what to do about it.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The blueprint cannot be used.
    Error,
    /// The blueprint can be used; a person should look at this first.
    Warning,
}

/// A place in a file: line and column count from 1, the column in characters. A byte order mark counts
/// for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePos {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl SourcePos {
    /// The first character of a file; also stands for the file as a whole.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing to say about a blueprint. Displayed the way compilers do, so that editors can jump to it:
/// `gr.yaml:12:16: error: notDeploy must be true or false (spec.driver.notDeploy)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Error or warning.
    pub severity: Severity,
    /// A stable slug for programs, such as `duplicate-key`. Never reused for another meaning.
    pub code: &'static str,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// The field that it is about, such as `spec.driver.notDeploy`; absent for the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The file's name as the reader knows it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Finding {
    /// An error at `place`. The file's name is filled in by whoever knows it ([`Finding::in_file`]).
    pub(crate) fn error(code: &'static str, place: SourcePos, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            field: None,
            file: String::new(),
            line: place.line,
            column: place.column,
        }
    }

    /// A warning at `place`.
    pub(crate) fn warning(code: &'static str, place: SourcePos, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    /// The same, about `field`. An empty path is no field.
    pub(crate) fn about(mut self, field: impl Into<String>) -> Self {
        let field = field.into();
        self.field = (!field.is_empty()).then_some(field);
        self
    }

    /// The same, in `file`.
    pub(crate) fn in_file(mut self, file: &str) -> Self {
        self.file = file.to_owned();
        self
    }

    /// What is wrong, without file, line and column: those of what nobody has written help nobody.
    pub fn without_place(&self) -> String {
        match &self.field {
            Some(field) => format!("{} ({field})", self.message),
            None => self.message.clone(),
        }
    }

    /// Whether this makes the blueprint unusable.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file, self.line, self.column, self.without_place())
    }
}

/// Text from a file, made fit for one line of a message: control characters escaped, cut at 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}
