//! Texts that must not be seen: they are neither printed nor logged, and taken out of what others say.

use std::fmt;

/// Shorter parts of a secret are too common to be taken out of a text, and tell nothing.
const TELLING: usize = 8;

/// A text that is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for requests alone.
    pub fn bare(&self) -> &str {
        &self.0
    }

    /// A text without this one, and without the parts of it that tell something: the host, path and query of a URL.
    pub fn scrub(&self, text: &str) -> String {
        let parts = self.0.split(['/', '?', '&', '=', '@', ':']).filter(|part| part.len() >= TELLING);
        let mut known: Vec<&str> = std::iter::once(self.0.as_str()).chain(parts).collect();
        known.retain(|part| !part.is_empty());
        known.sort_by_key(|part| std::cmp::Reverse(part.len()));
        known.into_iter().fold(text.to_owned(), |text, part| text.replace(part, "***"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
