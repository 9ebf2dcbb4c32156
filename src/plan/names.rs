//! Names in a sentence.

use std::fmt::Display;

/// The first of these names, and how many more there are.
pub fn first_of<N: Display>(names: impl ExactSizeIterator<Item = N>, shown: usize) -> String {
    let more = names.len().saturating_sub(shown);
    let first: Vec<String> = names.take(shown).map(|name| name.to_string()).collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", first.join(", "))
}
