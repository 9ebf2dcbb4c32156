//! Bytes to a located tree: the encoding, the characters that belong in no manifest, then JSON or YAML.

use super::finding::{Finding, SourcePos};
use super::tree::Node;
use super::{json, yaml};

/// The most bytes in a blueprint: 1 MiB. etcd holds 1.5 MiB in one object, and a record holds two of these
/// manifests; the documented gr has under 4 KiB.
pub const MAX_FILE: usize = 1 << 20;

/// Reads a file's bytes. A file that begins with `{` is JSON, as kubectl has it, every other one YAML.
/// Answers the document's tree, or everything that is wrong with the file as text.
pub(crate) fn read(bytes: &[u8]) -> Result<Node, Vec<Finding>> {
    let text = decode(bytes).map_err(|finding| vec![finding])?;
    let is_json = text.trim_start().starts_with('{');
    let result =
        if is_json { json::read(text) } else { yaml_characters(text).and_then(|()| yaml::read(text)) };
    let (root, mistakes) = result.map_err(|finding| vec![finding])?;
    match root {
        _ if !mistakes.is_empty() => Err(mistakes),
        Some(root) => Ok(root),
        None => {
            let message = "the file holds nothing: put the manifest of a GcuResource in it";
            Err(vec![Finding::error("empty", SourcePos::START, message)])
        }
    }
}

fn decode(bytes: &[u8]) -> Result<&str, Finding> {
    if bytes.len() > MAX_FILE {
        let message = format!("the file is larger than {MAX_FILE} bytes: a gr never needs so many");
        return Err(Finding::error("too-large", SourcePos::START, message));
    }
    if looks_like_utf16(bytes) {
        let message = "the file is UTF-16 (or UTF-32): save it as UTF-8";
        return Err(Finding::error("utf-16", SourcePos::START, message));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).and_then(|valid| std::str::from_utf8(valid).ok());
        let message = "a byte here is not UTF-8: save the file as UTF-8";
        Finding::error("not-utf-8", place_after(valid.unwrap_or_default()), message)
    })?;
    match text.split_once('\0') {
        None => Ok(text),
        Some((before, _)) => {
            let message = "a NUL character: the file is damaged or not text";
            Err(Finding::error("nul", place_after(before), message))
        }
    }
}

/// A byte order mark, or zeros among the first four bytes the way ASCII has them in UTF-16 or UTF-32.
fn looks_like_utf16(bytes: &[u8]) -> bool {
    let zeros: Vec<bool> = bytes.iter().take(4).map(|byte| *byte == 0).collect();
    bytes.starts_with(b"\xff\xfe")
        || bytes.starts_with(b"\xfe\xff")
        || bytes.starts_with(b"\0\0\xfe\xff")
        || matches!(
            zeros.as_slice(),
            [true, false, true, false]
                | [false, true, false, true]
                | [false, true, true, true]
                | [true, true, true, false]
        )
}

/// YAML's own list of characters that may not stand in a file: control characters other than tab, line
/// breaks and next line.
fn yaml_characters(text: &str) -> Result<(), Finding> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{85}') || !c.is_control();
    match text.char_indices().find(|(_, c)| !allowed(*c)) {
        None => Ok(()),
        Some((at, c)) => {
            let message =
                format!("the control character U+{:04X} may not stand in YAML: remove it", u32::from(c));
            let before = text.get(..at).unwrap_or_default();
            Err(Finding::error("control-character", place_after(before), message))
        }
    }
}

fn place_after(text: &str) -> SourcePos {
    let line = text.matches('\n').count().saturating_add(1);
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    SourcePos { line: number(line), column: number(column) }
}
