//! The page for people.

use gcu_upgrade_manager::api::openapi::{document, page};
use regex::Regex;

use super::*;

/// Elements that have no end.
const VOID: [&str; 2] = ["meta", "br"];

/// Checks that every element ends where it should, and that nothing stands where it must not. Returns the elements'
/// names and attributes.
fn elements(html: &str) -> Vec<(String, String)> {
    let mut rest = html.strip_prefix("<!DOCTYPE html>\n").expect("a document of HTML");
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let entity = Regex::new(r"^&(amp|lt|gt|quot|#39);").unwrap();
    while let Some(at) = rest.find(['<', '>', '&']) {
        let before: String = rest[at.saturating_sub(80)..].chars().take(160).collect();
        rest = &rest[at..];
        if rest.starts_with('&') {
            assert!(entity.is_match(rest), "a bare &: {before}");
            rest = &rest[1..];
            continue;
        }
        assert!(rest.starts_with('<'), "a bare >: {before}");
        let (tag, after) = rest[1..].split_once('>').unwrap();
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{before}");
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()), "{before}");
        all.push((name.to_owned(), attributes.to_owned()));
        if name == "style" {
            let (style, after) = rest.split_once("</style>").unwrap();
            assert!(!style.contains("url(") && !style.contains("@import"), "the style loads nothing");
            rest = after;
        } else if !VOID.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert_eq!(open, [""; 0], "everything ends");
    all
}

fn assert_harmless(elements: &[(String, String)]) {
    let known = Regex::new(r#"^(class|id|lang|charset|name|content|href|title)="[^"]*"$"#).unwrap();
    for (name, attributes) in elements {
        assert!(!matches!(name.as_str(), "script" | "link" | "img" | "iframe" | "object" | "form"), "{name}");
        let mut left = attributes.clone();
        while !left.is_empty() {
            let end = left.match_indices('"').nth(1).map_or(left.len(), |(at, _)| at + 1);
            let (one, others) = left.split_at(end);
            assert!(known.is_match(one), "<{name} {attributes}>");
            if let Some(href) = one.strip_prefix("href=\"") {
                // Nowhere but to the page for people.
                assert!(href.starts_with('#') || href == "/ui/\"", "leads away: {href}");
            }
            left = others.trim_start().to_owned();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_page_shows_every_operation_and_has_nothing_in_it_that_could_act() {
    let harness = harness().await;
    let answer = harness.must("GET", "/docs", "").await;
    assert_eq!(answer.status, 200);
    for (header, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ] {
        assert_eq!(answer.headers[header], value);
    }
    let found = elements(&answer.text);
    assert_harmless(&found);
    let ids: Vec<&str> = found
        .iter()
        .filter_map(|(_, attributes)| attributes.split_once("id=\"")?.1.split('"').next())
        .collect();
    let once: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), once.len(), "every id is there once");
    let document = super::document(&harness).await;
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_lowercase();
        let article =
            answer.text.split(&format!("<article id=\"{id}\">")).nth(1).unwrap_or_else(|| panic!("{id}"));
        let article = article.split("</article>").next().unwrap();
        assert!(article.contains(&format!("<span class=\"path\">{path}</span>")), "{id}: {article}");
        assert!(article.contains(&format!(">{method}</span>")), "{id}");
        for sample in operation["x-codeSamples"].as_array().unwrap() {
            let line = sample["source"].as_str().unwrap();
            let line = line.replace('&', "&amp;").replace('\'', "&#39;").replace('"', "&quot;");
            assert!(article.contains(&line), "{id}: {line}");
        }
        assert!(answer.text.contains(&format!("href=\"#{id}\"")), "{id} is in the list");
    }
    for (_, attributes) in &found {
        if let Some(place) = attributes.split_once("href=\"#").and_then(|(_, p)| p.split('"').next()) {
            assert!(place.is_empty() || once.contains(place), "#{place} leads nowhere");
        }
    }
}

/// Puts markup into every text of a document, and into the names of paths, statuses and fields.
fn poisoned(value: &Value, names: bool) -> Value {
    let bad = |text: &str| format!("</code><script>alert(1)</script>\"' onload=x & {text}");
    match value {
        Value::String(text) => json!(bad(text)),
        Value::Array(all) => all.iter().map(|v| poisoned(v, false)).collect(),
        Value::Object(all) => {
            let entry = |(name, value): (&String, &Value)| match (name.as_str(), value) {
                ("$ref", value) => (name.clone(), value.clone()),
                (key, value) => {
                    let within = matches!(key, "paths" | "properties" | "responses");
                    (if names { bad(key) } else { name.clone() }, poisoned(value, within))
                }
            };
            Value::Object(all.iter().map(entry).collect())
        }
        other => other.clone(),
    }
}

#[test]
fn markup_in_a_text_is_shown_and_does_nothing() {
    let document = document();
    let html = page(&poisoned(&document, false));
    let found = elements(&html);
    assert_harmless(&found);
    assert!(found.iter().filter(|(name, _)| name == "article").count() > 20, "all of it is shown");
    assert!(
        html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39; onload=x &amp; /gum/v1/gr"),
        "{html}"
    );
}
