//! The part of JSONPath that printer columns use: `.a.b`, `.a\.b`, `['a']`, `[0]`, `[*]` and
//! `[?(@.type=="Ready")]`.
//!
//! Ours because the crates follow RFC 9535, whose syntax and answers differ from Kubernetes' own (`a\.b`, no `$`).

use serde_json::Value;

/// The first value that a path finds.
pub(crate) fn first<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let path = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    let mut found = vec![value];
    let mut rest = path;
    while !rest.is_empty() {
        let (step, tail) = next_step(rest)?;
        found = found.into_iter().flat_map(|value| follow(value, &step)).collect();
        rest = tail;
    }
    found.into_iter().next()
}

enum Step {
    Key(String),
    Index(usize),
    All,
    Filter { path: String, equal: bool, value: String },
}

fn next_step(path: &str) -> Option<(Step, &str)> {
    if let Some(inner) = path.strip_prefix('[') {
        let end = closing(inner)?;
        let (inner, tail) = (inner.get(..end)?, inner.get(end + 1..)?);
        return Some((bracket(inner.trim())?, tail));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let mut key = String::new();
    let mut letters = path.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => key.extend(letters.next().map(|(_, letter)| letter)),
            '.' | '[' => return Some((key_or_all(key), path.get(at..)?)),
            _ => key.push(letter),
        }
    }
    Some((key_or_all(key), ""))
}

/// Where the bracket closes, quotes respected.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            _ => {}
        }
    }
    None
}

fn key_or_all(key: String) -> Step {
    if key == "*" { Step::All } else { Step::Key(key) }
}

fn bracket(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|inner| inner.strip_suffix(')')) {
        let (path, equal, value) = match (filter.split_once("=="), filter.split_once("!=")) {
            (Some((path, value)), _) => (path, true, value),
            (None, Some((path, value))) => (path, false, value),
            (None, None) => return None,
        };
        let path = path.trim().strip_prefix('@')?.to_owned();
        return Some(Step::Filter { path, equal, value: unquoted(value).to_owned() });
    }
    match inner.parse() {
        Ok(index) => Some(Step::Index(index)),
        Err(_) => Some(Step::Key(unquoted(inner).to_owned())),
    }
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(|letter| letter == '\'' || letter == '"')
}

fn follow<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match step {
        Step::Key(key) => value.get(key).into_iter().collect(),
        Step::Index(index) => value.get(index).into_iter().collect(),
        Step::All => match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        },
        Step::Filter { path, equal, value: wanted } => {
            let items = value.as_array().into_iter().flatten();
            items
                .filter(|item| {
                    let found = first(item, path).map(|value| match value {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    });
                    (found.as_deref() == Some(wanted)) == *equal
                })
                .collect()
        }
    }
}
