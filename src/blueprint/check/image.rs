//! Image references, by the grammar of the distribution project, as the operator composes them:
//! `repository/image:version`. What the kubelet would refuse is found here, before the stack is deleted for it.

use super::Report;
use crate::blueprint::finding::quoted;
use crate::blueprint::lookalike;
use crate::blueprint::tree::Node;
use crate::gr;

/// The longest tag.
const MAX_TAG: usize = 128;
/// The longest name: registry and path, without the tag.
const MAX_NAME: usize = 255;
/// The fewest hexadecimal digits of a digest.
const MIN_DIGEST: usize = 32;

/// A field that is part of a reference: its node and the path of what it belongs to.
pub(super) type Part<'a> = Option<(&'a Node, &'a str)>;

/// Says what is wrong with the reference that these fields make. `certain`: the component is deployed, and known to be
/// composed like this.
pub(super) fn check(
    repository: Part<'_>,
    image: Part<'_>,
    version: Part<'_>,
    certain: bool,
    report: &mut Report,
) {
    let text =
        |part: Part<'_>| part.and_then(|(node, _)| node.as_str().map(str::to_owned)).unwrap_or_default();
    for (field, message) in faults(&text(repository), &text(image), &text(version)) {
        let part = match field {
            "repository" => repository,
            "image" => image,
            _ => version,
        };
        let Some((node, path)) = part else { continue };
        // The containers of a component share its fields.
        if report.has("bad-image", node.place) {
            continue;
        }
        if certain {
            report.error("bad-image", node.place, path, field, message);
        } else {
            report.warning("bad-image", node.place, path, field, message);
        }
    }
}

/// What is wrong with a reference: the field, and what to write instead. An empty field is not given.
fn faults(repository: &str, image: &str, version: &str) -> Vec<(&'static str, String)> {
    let fields = [("repository", repository), ("image", image), ("version", version)];
    let mut all = Vec::new();
    for (field, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
        let fault = lookalike::advice(text).or_else(|| match field {
            "repository" => in_repository(text),
            "image" => in_image(repository, text, version),
            _ => in_version(text),
        });
        all.extend(fault.map(|message| (field, message)));
    }
    let name = [repository, image].iter().map(|text| text.len()).sum::<usize>().saturating_add(1);
    if all.is_empty() && name > MAX_NAME {
        let message =
            format!("repository and image have {name} characters together, a name takes {MAX_NAME}");
        all.push((if image.is_empty() { "repository" } else { "image" }, message));
    }
    all
}

fn in_repository(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("://") {
        return Some(format!(
            "{} has a scheme, a registry takes none: write `{}`",
            quoted(text),
            rest.trim_matches('/')
        ));
    }
    if let Some((name, _)) = text.split_once('@') {
        return Some(format!("a digest has no place in `repository`: write `{name}`"));
    }
    let (first, rest) = text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)));
    if let Some(fault) = slashes(text) {
        return Some(fault);
    }
    let fault = if is_host_like(first) { host(first) } else { path(first) };
    fault.or_else(|| rest?.split('/').find_map(path))
}

fn in_image(repository: &str, text: &str, version: &str) -> Option<String> {
    if let Some((name, digest)) = text.split_once('@') {
        return Some(format!(
            "a digest in `image` stands before the version that the operator appends: write `image: {name}` and \
             `version: \"<tag>@{digest}\"`"
        ));
    }
    let last = text.rsplit('/').next().unwrap_or_default();
    let has_host =
        text.split_once('/').is_some_and(|(first, _)| repository.is_empty() && is_host_like(first));
    if let Some((_, tag)) = last.split_once(':') {
        let name = text.strip_suffix(&format!(":{tag}")).unwrap_or(text);
        let asked = gr::image::compose(Some(repository), Some(text), Some(version));
        return Some(format!(
            "the tag `{tag}` stands in `image`, and the operator appends `version`, which makes `{asked}`: write \
             `image: {name}` and `version: \"{tag}\"`"
        ));
    }
    if let Some(fault) = slashes(text) {
        return Some(fault);
    }
    let mut parts = text.split('/');
    let fault = if has_host { parts.next().and_then(host) } else { None };
    fault.or_else(|| parts.find_map(path))
}

fn in_version(text: &str) -> Option<String> {
    let (tag, digest) = text.split_once('@').map_or((text, None), |(tag, digest)| (tag, Some(digest)));
    if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
        return Some(format!(
            "{} is no digest: an algorithm, `:` and at least {MIN_DIGEST} hexadecimal digits",
            quoted(digest)
        ));
    }
    if digest.is_none() && is_digest(tag) {
        return Some(format!(
            "a digest needs a tag before it, which the operator joins to the image: write `<tag>@{tag}`"
        ));
    }
    if let Some((_, behind)) = tag.rsplit_once(':') {
        return Some(format!("a version is a tag alone, without `:`: write `{behind}`"));
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let fits = tag.starts_with(is_word) && tag.chars().all(|c| is_word(c) || matches!(c, '.' | '-'));
    if !fits {
        return Some(format!(
            "{} is no tag: letters, digits, `_`, `.` and `-`, the first a letter, a digit or `_`",
            quoted(tag)
        ));
    }
    (tag.len() > MAX_TAG).then(|| format!("the tag has {} characters, a tag takes {MAX_TAG}", tag.len()))
}

/// `sha256:…`
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    algorithm.split(['+', '.', '-', '_']).all(part)
        && hex.len() >= MIN_DIGEST
        && hex.chars().all(|c| c.is_ascii_hexdigit())
}

/// Whether the first part of a name is a registry and not the first directory.
fn is_host_like(first: &str) -> bool {
    first.contains(['.', ':', '[']) || first == "localhost"
}

fn slashes(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let joined = parts.join("/");
    (joined != text).then(|| format!("{} has a `/` too many: write `{joined}`", quoted(text)))
}

fn host(text: &str) -> Option<String> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let part = |part: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        edge(part.chars().next())
            && edge(part.chars().last())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let ipv6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let named = match ipv6 {
        Some(address) => address.contains(':') && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':'),
        None => name.split('.').all(part),
    };
    let numbered = port.is_none_or(|port| !port.is_empty() && port.chars().all(|c| c.is_ascii_digit()));
    (!named || !numbered)
        .then(|| format!("{} is no registry: a host name or address, and a port if need be", quoted(text)))
}

/// A directory, or the image itself.
fn path(part: &str) -> Option<String> {
    let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    // What stands between letters and digits: one dot, one or two underscores, or dashes.
    let separators = part.split(small).filter(|between| !between.is_empty());
    let between = |text: &str| matches!(text, "." | "_" | "__") || text.chars().all(|c| c == '-');
    if part.starts_with(small) && part.ends_with(small) && separators.into_iter().all(between) {
        return None;
    }
    let lower = part.to_ascii_lowercase();
    if lower != part && path(&lower).is_none() {
        return Some(format!("{} has capital letters, a name takes none: write `{lower}`", quoted(part)));
    }
    Some(format!(
        "{} is no name of an image: small letters and digits, with `.`, `_` or `-` between them",
        quoted(part)
    ))
}
