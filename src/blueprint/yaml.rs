//! YAML, event by event, into a located tree.
//!
//! The events come from granit-parser, the parser under serde-saphyr (which re-exports it). serde-saphyr's
//! own resolution is YAML 1.2 with options and hides whether `2.0` was quoted; kubectl's is go-yaml v2's.
//! Reading events gives kubectl's meaning, the place of every value, and a stack that cannot overflow.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_saphyr::granit_parser::{self as granit, ErrorKind, Event, Marker, Parser, ScalarStyle, Tag};

use super::finding::{Finding, SourcePos, quoted};
use super::tree::{Builder, Built, Kind, MAX_DEPTH, Node};
use super::{lookalike, scalar};

/// The most anchors in a file.
const MAX_ANCHORS: usize = 256;
/// The most aliases in a file.
const MAX_ALIASES: usize = 1_000;

/// Reads the only document of `text`. `None`: there is none. Mistakes that allow reading on are returned
/// beside the tree.
pub(crate) fn read(text: &str) -> Result<(Option<Node>, Vec<Finding>), Finding> {
    let mut options = granit::options! {
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
        disallow_directives: true,
    };
    options.set_emit_comments(false);
    let mut reader = Reader::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| syntax(text, &error))?;
        let taken = reader.take(event, place(&span.start), span.tag_start().as_ref().map(place));
        taken.map_err(|finding| finding.about(reader.builder.path(None)))?;
        if reader.builder.is_full() {
            break;
        }
    }
    Ok((reader.document.take(), std::mem::take(&mut reader.builder.findings)))
}

#[derive(Default)]
struct Reader {
    builder: Builder,
    /// Finished anchored values by the parser's number for the anchor.
    anchored: HashMap<usize, Built>,
    /// For every open list or map, its anchor (0: none) and whether it is the value of `<<`.
    open: Vec<Open>,
    anchors: usize,
    aliases: usize,
    document: Option<Node>,
    /// The pending key of the innermost map is `<<`.
    merging: bool,
}

struct Open {
    anchor: usize,
    merging: bool,
}

impl Reader {
    fn take(
        &mut self,
        event: Event<'_>,
        place: SourcePos,
        tag_place: Option<SourcePos>,
    ) -> Result<(), Finding> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count_anchor(anchor, place)?;
                self.scalar(&text, style, anchor, tag, place, tag_place)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.collection_tag(tag, "seq", tag_place.unwrap_or(place));
                self.start(anchor, place, "a list", Builder::start_list)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.collection_tag(tag, "map", tag_place.unwrap_or(place));
                self.start(anchor, place, "a map", Builder::start_map)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::DocumentEnd => self.document_end(),
            _ => Ok(()),
        }
    }

    fn start(
        &mut self,
        anchor: usize,
        place: SourcePos,
        what: &str,
        start: fn(&mut Builder, SourcePos) -> Result<(), Finding>,
    ) -> Result<(), Finding> {
        self.count_anchor(anchor, place)?;
        if self.builder.wants_key() {
            return Err(complex_key(place, what));
        }
        start(&mut self.builder, place)?;
        self.open.push(Open { anchor, merging: std::mem::take(&mut self.merging) });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Finding> {
        let Some(built) = self.builder.end()? else { return Ok(()) };
        let open = self.open.pop().unwrap_or(Open { anchor: 0, merging: false });
        self.merging = open.merging;
        self.finish(built, open.anchor)
    }

    /// A value is complete: remembers it for aliases and puts it in its place.
    fn finish(&mut self, built: Built, anchor: usize) -> Result<(), Finding> {
        if anchor != 0 {
            self.builder.pay_for_copy(built.node.place, built.cost)?;
            self.anchored.insert(anchor, built.clone());
        }
        if std::mem::take(&mut self.merging) {
            self.merge(built);
        } else {
            self.builder.add(built);
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        place: SourcePos,
        tag_place: Option<SourcePos>,
    ) -> Result<(), Finding> {
        let plain = style == ScalarStyle::Plain;
        if plain && tag.is_none() && text == "<<" && self.builder.wants_key() {
            self.merging = true;
            return self.builder.key(text.to_owned(), place);
        }
        let meaning = match &tag {
            None if plain => scalar::plain(text),
            None => Ok(Kind::String(text.to_owned())),
            Some(tag) => by_tag(tag, text),
        };
        let kind = meaning.unwrap_or_else(|(code, message)| {
            let place = if code == "bad-tag" { tag_place.unwrap_or(place) } else { place };
            let field = self.builder.path(None);
            self.builder.mistake(Finding::error(code, place, message).about(field));
            Kind::Null
        });
        if self.builder.wants_key() {
            if anchor != 0 {
                let built = self.builder.scalar(place, kind.clone())?;
                self.anchored.insert(anchor, built);
            }
            return self.key(Node { place, kind }, text);
        }
        let built = self.builder.scalar(place, kind)?;
        self.finish(built, anchor)
    }

    /// A scalar in the place of a key. kubectl turns `1:` into `"1":` and `yes:` into `"true":`; nobody who
    /// writes them means that, so only text is a key here.
    fn key(&mut self, node: Node, text: &str) -> Result<(), Finding> {
        match node.kind {
            Kind::String(name) => self.builder.key(name, node.place),
            _ => {
                let message =
                    format!("a key must be text, this is {}: write it as \"{text}\"", node.describe());
                let field = self.builder.path(None);
                self.builder.mistake(Finding::error("non-text-key", node.place, message).about(field));
                self.builder.key(text.to_owned(), node.place)
            }
        }
    }

    fn alias(&mut self, anchor: usize, place: SourcePos) -> Result<(), Finding> {
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            let message = format!("more than {MAX_ALIASES} aliases: write the values out");
            return Err(Finding::error("too-many-aliases", place, message));
        }
        let Some(target) = self.anchored.get(&anchor) else {
            let message = "this alias stands inside the value that it refers to: write the value out";
            return Err(Finding::error("recursive-alias", place, message));
        };
        // Paid for before it is copied: the budget is what keeps an alias bomb from going off.
        self.builder.pay_for_copy(place, target.cost)?;
        let built = target.clone();
        if self.builder.wants_key() {
            let text = built.node.as_str().unwrap_or_default().to_owned();
            if !matches!(built.node.kind, Kind::String(_)) {
                return Err(complex_key(place, "an alias to something else"));
            }
            return self.key(Node { place, kind: Kind::String(text.clone()) }, &text);
        }
        self.finish(built, 0)
    }

    fn merge(&mut self, built: Built) {
        let place = built.node.place;
        let sources = match built.node.kind {
            Kind::Map(_) => vec![built],
            Kind::List(items) => {
                // What the list cost is counted once, with its first item.
                let mut cost = built.cost;
                items.into_iter().map(|node| Built { node, cost: std::mem::take(&mut cost) }).collect()
            }
            _ => vec![built],
        };
        let all_maps = sources.iter().all(|source| matches!(source.node.kind, Kind::Map(_)));
        if !all_maps {
            let message = "`<<` takes a map, an alias to one, or a list of those";
            let field = self.builder.path(None);
            self.builder.mistake(Finding::error("bad-merge", place, message).about(field));
        }
        self.builder.merge(sources);
    }

    fn document_end(&mut self) -> Result<(), Finding> {
        self.anchored.clear();
        let Some(root) = self.builder.take_root() else { return Ok(()) };
        // kubectl skips documents without content, such as the one after a closing `---`.
        if matches!(root.kind, Kind::Null) {
            return Ok(());
        }
        if self.document.is_some() {
            let message = "a second document begins here: a blueprint holds one gr, put the others in files \
                           of their own";
            return Err(Finding::error("several-documents", root.place, message));
        }
        self.document = Some(root);
        Ok(())
    }

    fn count_anchor(&mut self, anchor: usize, place: SourcePos) -> Result<(), Finding> {
        self.anchors += usize::from(anchor != 0);
        if self.anchors > MAX_ANCHORS {
            let message = format!("more than {MAX_ANCHORS} anchors: write the values out");
            return Err(Finding::error("too-many-anchors", place, message));
        }
        Ok(())
    }

    fn collection_tag(&mut self, tag: Option<Cow<'_, Tag>>, expected: &str, place: SourcePos) {
        if let Some(tag) = tag
            && tag.core_suffix() != Some(expected)
        {
            let (code, message) = unknown_tag(&tag);
            let field = self.builder.path(None);
            self.builder.mistake(Finding::error(code, place, message).about(field));
        }
    }
}

fn by_tag(tag: &Tag, text: &str) -> Result<Kind, scalar::Refused> {
    // `!` alone says "not resolved": text.
    if tag.original() == "!" {
        return Ok(Kind::String(text.to_owned()));
    }
    tag.core_suffix().and_then(|suffix| scalar::tagged(suffix, text)).unwrap_or_else(|| Err(unknown_tag(tag)))
}

fn unknown_tag(tag: &Tag) -> scalar::Refused {
    ("bad-tag", format!("the tag {} means nothing in a manifest: remove it", quoted(&tag.original())))
}

fn complex_key(place: SourcePos, what: &str) -> Finding {
    Finding::error("non-text-key", place, format!("a key must be text, this is {what}"))
}

fn place(marker: &Marker) -> SourcePos {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    SourcePos { line: number(marker.line()), column: number(marker.col().saturating_add(1)) }
}

/// The parser's own complaint, with what to do where that is not plain from it.
fn syntax(text: &str, error: &granit::ScanError) -> Finding {
    let at = place(error.marker());
    let tab_leads = || {
        // A tab that ends a plain scalar is complained of on the line before.
        let from = at.line.saturating_sub(1);
        let lines = (at.line..).zip(text.lines().skip(from as usize).take(2));
        lines.take(1 + usize::from(matches!(error.kind(), ErrorKind::TabInPlainScalar))).find_map(
            |(line, text)| {
                let indent = text.len() - text.trim_start_matches([' ', '\t']).len();
                let tabs = text.get(..indent)?.find('\t')?;
                Some(SourcePos { line, column: u32::try_from(tabs).unwrap_or(u32::MAX).saturating_add(1) })
            },
        )
    };
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => {
            let message = format!("nested more than {MAX_DEPTH} levels deep: a gr never needs so many");
            Finding::error("too-deep", at, message)
        }
        ErrorKind::DirectiveDisallowed => {
            let message = "a line that begins with `%` is a YAML directive: remove it, a manifest needs none";
            Finding::error("directive", at, message)
        }
        ErrorKind::UnknownAnchor => {
            let message = "this alias refers to an anchor that does not stand before it";
            Finding::error("unknown-anchor", at, message)
        }
        kind => match tab_leads() {
            Some(tab) => {
                let message = "a tab in the indentation: YAML allows spaces only, replace it";
                Finding::error("tab-indentation", tab, message)
            }
            None => wide(text, at.line)
                .unwrap_or_else(|| Finding::error("yaml-syntax", at, format!("this is not YAML: {kind}"))),
        },
    }
}

/// Structure made of characters that only look like those of YAML, up to where the parser could not go on.
fn wide(text: &str, last: u32) -> Option<Finding> {
    (1..=last.saturating_add(1)).zip(text.lines()).find_map(|(line, text)| {
        let (at, message) = lookalike::structure(text)?;
        let column = u32::try_from(at).unwrap_or_default().saturating_add(1);
        Some(Finding::error("lookalike", SourcePos { line, column }, message))
    })
}
