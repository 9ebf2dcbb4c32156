//! A document as a tree that remembers where everything stood, and the one builder of it, which is where
//! the budgets are kept: JSON and YAML are bounded by the same numbers.
//!
//! The builder keeps its own stack, so nesting never uses the thread's stack while a file is read; the
//! depth limit then bounds every recursive walk over the finished tree (conversion, drop, clone).

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::{Map, Number, Value};

use super::finding::{Finding, SourcePos, quoted};

/// The deepest nesting of maps and lists. The documented gr nests 4 deep.
pub(crate) const MAX_DEPTH: usize = 64;
/// The most values in a document once aliases and merge keys are expanded. The documented gr has about 90.
pub(crate) const MAX_NODES: usize = 20_000;
/// The most text (keys and scalars, in bytes) once aliases are expanded: as much as a file may hold.
pub(crate) const MAX_TEXT: usize = 1 << 20;
/// No more mistakes than this are collected from one file.
pub(crate) const MAX_FINDINGS: usize = 100;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: SourcePos,
    pub(crate) kind: Kind,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    /// The number, and the text it was read from: `2.0` and `2` are one number, but two versions.
    Number(Number, Box<str>),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: SourcePos,
    pub(crate) node: Node,
}

impl Node {
    /// The value under `key`, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The entries of a map; none for everything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text of a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    /// What this is, in words, for messages: "the number 2.0", "a map".
    pub(crate) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "empty".to_owned(),
            Kind::Bool(value) => format!("the truth value {value}"),
            Kind::Number(_, text) => format!("the number {text}"),
            Kind::String(text) if text.contains('：') => {
                format!("the text {}, whose `：` (U+FF1A) is no colon to YAML", quoted(text))
            }
            Kind::String(text) => format!("the text {}", quoted(text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a map".to_owned(),
        }
    }

    /// The value without its places.
    pub(crate) fn into_value(self) -> Value {
        match self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(value),
            Kind::Number(number, _) => Value::Number(number),
            Kind::String(text) => Value::String(text),
            Kind::List(items) => Value::Array(items.into_iter().map(Node::into_value).collect()),
            Kind::Map(entries) => Value::Object(
                entries.into_iter().map(|entry| (entry.key, entry.node.into_value())).collect::<Map<_, _>>(),
            ),
        }
    }
}

/// How much of the budgets a finished subtree uses: what an alias to it costs once more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    nodes: usize,
    text: usize,
    height: usize,
}

/// A finished subtree with its cost.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) node: Node,
    pub(crate) cost: Cost,
}

#[derive(Debug)]
struct Frame {
    place: SourcePos,
    body: Body,
    cost: Cost,
}

#[derive(Debug)]
enum Body {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        seen: HashMap<String, SourcePos>,
        key: Option<(String, SourcePos)>,
        merged: bool,
    },
}

/// Builds a tree from the events of a parser. A `Finding` returned as an error ends the reading; mistakes
/// that allow reading on are collected in `findings`.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    stack: Vec<Frame>,
    root: Option<Node>,
    spent: Cost,
    pub(crate) findings: Vec<Finding>,
}

impl Builder {
    /// Begins a list.
    pub(crate) fn start_list(&mut self, place: SourcePos) -> Result<(), Finding> {
        self.start(place, Body::List(Vec::new()))
    }

    /// Begins a map.
    pub(crate) fn start_map(&mut self, place: SourcePos) -> Result<(), Finding> {
        self.start(place, Body::Map { entries: Vec::new(), seen: HashMap::new(), key: None, merged: false })
    }

    fn start(&mut self, place: SourcePos, body: Body) -> Result<(), Finding> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(place));
        }
        self.stack.push(Frame { place, body, cost: Cost::default() });
        Ok(())
    }

    /// Whether the next value is a key of the innermost map.
    pub(crate) fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { body: Body::Map { key: None, .. }, .. }))
    }

    /// Takes the key of the next value. A key that the map already has is a finding, not the end.
    pub(crate) fn key(&mut self, name: String, place: SourcePos) -> Result<(), Finding> {
        self.spend(place, Cost { nodes: 0, text: name.len(), height: 0 })?;
        let Some(Frame { body: Body::Map { key, seen, .. }, cost, .. }) = self.stack.last_mut() else {
            return Ok(());
        };
        cost.text += name.len();
        let first = seen.get(&name).copied();
        seen.entry(name.clone()).or_insert(place);
        *key = Some((name.clone(), place));
        if let Some(first) = first {
            let message = format!(
                "the key {} stands here a second time, after line {}: keep one of the two",
                quoted(&name),
                first.line
            );
            let field = self.path(None);
            self.mistake(Finding::error("duplicate-key", place, message).about(field));
        }
        Ok(())
    }

    /// Adds a scalar; `text` is the number of bytes that it holds.
    pub(crate) fn scalar(&mut self, place: SourcePos, kind: Kind) -> Result<Built, Finding> {
        let text = match &kind {
            Kind::String(text) => text.len(),
            Kind::Number(_, text) => text.len(),
            _ => 0,
        };
        let built = Built { node: Node { place, kind }, cost: Cost { nodes: 1, text, height: 0 } };
        self.spend(place, built.cost)?;
        Ok(built)
    }

    /// Pays for another copy of `cost`, wanted at `place`.
    pub(crate) fn pay_for_copy(&mut self, place: SourcePos, cost: Cost) -> Result<(), Finding> {
        if self.stack.len() + cost.height > MAX_DEPTH {
            return Err(too_deep(place));
        }
        self.spend(place, cost)
    }

    /// Ends the innermost list or map and hands it back; the caller puts it in its place ([`Builder::add`]).
    pub(crate) fn end(&mut self) -> Result<Option<Built>, Finding> {
        let Some(frame) = self.stack.pop() else { return Ok(None) };
        let kind = match frame.body {
            Body::List(items) => Kind::List(items),
            Body::Map { entries, merged: true, .. } => Kind::Map(last_of_each(entries)),
            Body::Map { entries, .. } => Kind::Map(entries),
        };
        let own = Cost { nodes: 1, text: 0, height: 0 };
        self.spend(frame.place, own)?;
        let cost = Cost { nodes: frame.cost.nodes + 1, height: frame.cost.height + 1, ..frame.cost };
        Ok(Some(Built { node: Node { place: frame.place, kind }, cost }))
    }

    /// Puts a finished value where the document has it: under the pending key, in the list, or at the root.
    pub(crate) fn add(&mut self, built: Built) {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(built.node);
            return;
        };
        grow(&mut frame.cost, built.cost);
        match &mut frame.body {
            Body::List(items) => items.push(built.node),
            Body::Map { entries, key, .. } => {
                if let Some((key, place)) = key.take() {
                    entries.push(Entry { key, place, node: built.node });
                }
            }
        }
    }

    /// Puts the entries of `sources` into the innermost map instead of the pending key. Earlier sources win
    /// over later ones; the map's own keys, which come later in the file, win over all of them.
    pub(crate) fn merge(&mut self, sources: Vec<Built>) {
        let mut clashes = Vec::new();
        let Some(Frame { body: Body::Map { entries, key, merged, seen }, cost, .. }) = self.stack.last_mut()
        else {
            return;
        };
        let Some((_, place)) = key.take() else { return };
        *merged = true;
        let mut brought = HashSet::new();
        for source in sources {
            grow(cost, Cost { height: source.cost.height.saturating_sub(1), ..source.cost });
            let Kind::Map(inner) = source.node.kind else { continue };
            for entry in inner {
                if seen.contains_key(&entry.key) {
                    clashes.push(entry.key);
                } else if brought.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
        }
        for key in clashes {
            self.clash(place, &key);
        }
    }

    fn clash(&mut self, place: SourcePos, key: &str) {
        let message = format!(
            "`<<` comes after the key {}, which it also brings: kubectl and the YAML standard disagree on \
             which of the two wins; move `<<` to the top of its map",
            quoted(key)
        );
        let field = self.path(Some(key));
        self.mistake(Finding::error("late-merge", place, message).about(field));
    }

    /// Notes a mistake that allows reading on.
    pub(crate) fn mistake(&mut self, finding: Finding) {
        if !self.is_full() {
            self.findings.push(finding);
        }
    }

    /// Whether so many mistakes were found that reading on serves nobody.
    pub(crate) fn is_full(&self) -> bool {
        self.findings.len() >= MAX_FINDINGS
    }

    /// The finished document, if there was one.
    pub(crate) fn take_root(&mut self) -> Option<Node> {
        self.root.take()
    }

    /// Where the builder stands, as `spec.driver.env[0].name`, with `last` appended.
    pub(crate) fn path(&self, last: Option<&str>) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            match &frame.body {
                Body::List(items) => {
                    let _ = write!(path, "[{}]", items.len());
                }
                Body::Map { key: Some((key, _)), .. } => push_key(&mut path, key),
                Body::Map { key: None, .. } => {}
            }
        }
        if let Some(last) = last {
            push_key(&mut path, last);
        }
        path
    }

    fn spend(&mut self, place: SourcePos, cost: Cost) -> Result<(), Finding> {
        self.spent.nodes += cost.nodes;
        self.spent.text += cost.text;
        if self.spent.nodes > MAX_NODES {
            let message = format!(
                "more than {MAX_NODES} values once aliases and merge keys are expanded: a gr never needs so many"
            );
            return Err(Finding::error("too-many-values", place, message));
        }
        if self.spent.text > MAX_TEXT {
            let message = format!("more than {MAX_TEXT} bytes of text once aliases are expanded");
            return Err(Finding::error("too-much-text", place, message));
        }
        Ok(())
    }
}

/// Where a merged key and a key of the map's own both stand, the own one, which is later, wins. One pass
/// at the end of a map, instead of a search at every key, keeps merging linear.
fn last_of_each(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut seen = HashSet::with_capacity(entries.len());
    entries.reverse();
    entries.retain(|entry| seen.insert(entry.key.clone()));
    entries.reverse();
    entries
}

fn grow(cost: &mut Cost, by: Cost) {
    cost.nodes += by.nodes;
    cost.text += by.text;
    cost.height = cost.height.max(by.height);
}

/// Appends a key to a path: `.name`, or `["a.b/c"]` where dots would mislead.
pub(crate) fn push_key(path: &mut String, key: &str) {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !plain {
        let short: String = key.chars().take(80).flat_map(char::escape_debug).collect();
        let _ = write!(path, "[\"{short}\"]");
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.extend(key.chars().take(80));
}

fn too_deep(place: SourcePos) -> Finding {
    let message = format!("nested more than {MAX_DEPTH} levels deep: a gr never needs so many");
    Finding::error("too-deep", place, message)
}
