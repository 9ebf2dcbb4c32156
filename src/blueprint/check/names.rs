//! The names that Kubernetes takes: the rules of `k8s.io/apimachinery/pkg/util/validation`.

use super::{Report, join};
use crate::blueprint::finding::quoted;
use crate::blueprint::lookalike;
use crate::blueprint::tree::{Kind, Node};

/// The most bytes in all annotations together: the API server's own limit.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// A DNS-1123 label: small letters, digits and `-`, at most 63.
pub(crate) fn is_dns_label(name: &str) -> bool {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    name.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

/// A DNS-1123 subdomain: DNS labels (of any length) joined by dots, at most 253.
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
    };
    name.len() <= 253 && name.split('.').all(part)
}

/// `[prefix/]name`: the key of a label or annotation.
fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_part(name),
        None => is_label_part(key),
    }
}

/// Letters, digits, `-`, `_` and `.`, a letter or digit at both ends, 1 to 63.
fn is_label_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    part.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

/// Checks a map of labels: `metadata.labels`, or a node selector.
pub(super) fn labels(node: &Node, path: &str, report: &mut Report) {
    text_map(node, path, "label", report, |text| text.is_empty() || is_label_part(text));
}

/// Checks `metadata.annotations`.
pub(super) fn annotations(node: &Node, report: &mut Report) {
    let path = "metadata.annotations";
    text_map(node, path, "annotation", report, |_| true);
    let size: usize =
        node.entries().iter().map(|entry| entry.key.len() + entry.node.as_str().map_or(0, str::len)).sum();
    if size > MAX_ANNOTATIONS {
        let message = format!("the annotations hold {size} bytes, Kubernetes takes {MAX_ANNOTATIONS}");
        report.error("annotations-too-large", node.place, path, "", message);
    }
}

fn text_map(node: &Node, path: &str, what: &str, report: &mut Report, value_fits: fn(&str) -> bool) {
    let Kind::Map(entries) = &node.kind else {
        if !matches!(node.kind, Kind::Null) {
            let message = format!("this must be a map of text to text, not {}", node.describe());
            report.error("wrong-type", node.place, path, "", message);
        }
        return;
    };
    for entry in entries {
        if !is_qualified(&entry.key) {
            let message = format!(
                "invalid {what} key {}: must be [prefix/]name of A-Z a-z 0-9 - _ .",
                quoted(&entry.key)
            );
            report.error("bad-label", entry.place, path, &entry.key, message);
        }
        match entry.node.as_str() {
            Some(text) if value_fits(text) => {}
            Some(text) => {
                let message = lookalike::advice(text).unwrap_or_else(|| {
                    format!("invalid {what} value {}: must be at most 63 of A-Z a-z 0-9 - _ .", quoted(text))
                });
                report.error("bad-label", entry.node.place, path, &entry.key, message);
            }
            None => must_be_text(&entry.node, &join(path, &entry.key), report),
        }
    }
}

/// Says that something must be text, and how to make it so.
pub(super) fn must_be_text(node: &Node, path: &str, report: &mut Report) {
    let advice = match &node.kind {
        Kind::Bool(_) => ": quote it".to_owned(),
        Kind::Number(_, text) => format!(": quote it, \"{text}\""),
        Kind::Null => ": give a value or remove the line".to_owned(),
        _ => String::new(),
    };
    let message = match &node.kind {
        Kind::Null => format!("this must be text, but is empty{advice}"),
        _ => format!("this must be text, not {}{advice}", node.describe()),
    };
    report.error("wrong-type", node.place, path, "", message);
}
