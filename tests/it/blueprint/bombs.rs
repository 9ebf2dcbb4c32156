//! Files made to cost a reader much more than their size.

use gcu_upgrade_manager::blueprint::{Blueprint, MAX_FILE};

use super::HEAD;
use super::scalars::parse_x;

/// Text that is made to cost a reader much more than its size.
fn bombs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let lines = |line: &dyn Fn(usize) -> String, count: usize| (0..count).map(line).collect::<String>();
    let doubling = |inner: &str| {
        lines(&|i| format!("a{i}: &a{i} {}\n", inner.replace('P', &format!("*a{}", i.saturating_sub(1)))), 40)
            .replacen(&inner.replace('P', "*a0"), "{x: y}", 1)
    };
    let json_deep = format!("{{\"a\": {}", "[".repeat(10_000));
    let map_deep = format!("{{\"a\": {}", "{\"a\": ".repeat(10_000));
    vec![
        ("alias bomb", "too-many-values", doubling("[P, P, P, P, P, P, P, P, P]").into()),
        ("alias bomb of keys", "too-many-values", doubling("{p: P, q: P, r: P}").into()),
        ("merge bomb", "too-many-values", doubling("{<<: P, <<: P, z: P}").into()),
        ("merge list bomb", "too-many-values", doubling("{<<: [P, P, P, P, P, P], z: [P, P]}").into()),
        ("anchors", "too-many-anchors", lines(&|i| format!("a{i}: &a{i} b\n"), 100_000 / 2).into()),
        ("anchors in a list", "too-many-anchors", format!("[{}]", "&a b,".repeat(100_000)).into()),
        ("aliases", "too-many-aliases", format!("a: &a b\nc: [{}]", "*a,".repeat(100_000)).into()),
        ("deep list", "too-deep", "[".repeat(10_000).into()),
        ("deep map", "too-deep", format!("a: {}", "{a: ".repeat(10_000)).into()),
        ("deep block list", "too-deep", "- ".repeat(10_000).into()),
        ("deep block map", "too-deep", lines(&|i| format!("{}a:\n", " ".repeat(i)), 1_400).into()),
        ("deep keys", "non-text-key", "? ".repeat(10_000).into()),
        ("deep JSON list", "too-deep", json_deep.into()),
        ("deep JSON map", "too-deep", map_deep.into()),
        ("text twice", "too-much-text", format!("a: &a {}\nb: *a\n", "x".repeat(600_000)).into()),
        ("huge scalar", "too-large", format!("a: {}\n", "x".repeat(MAX_FILE)).into()),
        ("many values", "too-many-values", format!("[{}]", "1,".repeat(500_000)).into()),
        ("many JSON values", "too-many-values", format!("{{\"a\": [1{}]}}", ",1".repeat(500_000)).into()),
        ("many maps", "too-many-values", "- a: b\n".repeat(140_000).into()),
        ("open quotes", "yaml-syntax", format!("a: \"{}", "x".repeat(1_000_000)).into()),
        ("open JSON quotes", "json-syntax", format!("{{\"{}", "\\\\".repeat(500_000)).into()),
        ("comments", "empty", "#\n".repeat(500_000).into()),
        ("documents", "too-many-values", "---\n".repeat(250_000).into()),
        ("blank lines", "not-a-manifest", format!("a{}b", "\n".repeat(1_000_000)).into()),
        ("colons", "too-deep", ": ".repeat(500_000).into()),
        ("percent", "directive", "%A\n".repeat(300_000).into()),
        ("brackets closed", "yaml-syntax", "]".repeat(1_000_000).into()),
        ("spaces", "json-syntax", format!("{{{}", " ".repeat(1_000_000)).into()),
        ("line of keys", "yaml-syntax", format!("a{}", ": a".repeat(300_000)).into()),
        ("long key", "yaml-syntax", format!("{}: b", "a ".repeat(500_000)).into()),
        ("duplicates", "duplicate-key", "a: b\n".repeat(20_000).into()),
        (
            "components",
            "wrong-type",
            format!("{HEAD}spec:\n{}", lines(&|i| format!("  drivee{i}: 1\n"), 19_000)).into(),
        ),
        (
            "unknown keys",
            "wrong-kind",
            format!("kind: x\n{}", lines(&|i| format!("k{i}: 1\n"), 19_000)).into(),
        ),
        ("bad tags", "bad-tag", "- !x y\n".repeat(140_000).into()),
        ("escapes", "not-a-manifest", format!("\"{}\"", "\\n\\\n".repeat(200_000)).into()),
    ]
}

#[test]
fn bombs_are_refused_by_the_budget_that_they_would_break() {
    for (name, code, bytes) in bombs() {
        let findings = Blueprint::parse("bomb.yaml", &bytes).unwrap_err();
        let first = findings.iter().find(|finding| finding.is_error()).unwrap();
        assert_eq!(first.code, code, "{name}: {}", findings[0]);
        assert!(findings.len() <= 200, "{name}");
        assert!(findings.iter().all(|finding| finding.message.len() < 300), "{name}");
    }
}

#[test]
fn anchors_of_ordinary_size_and_nesting_up_to_the_limit_are_fine() {
    let deep = format!("{}1{}", "[".repeat(61), "]".repeat(61));
    assert!(parse_x(&deep).is_ok());
    let deeper = format!("{}1{}", "[".repeat(62), "]".repeat(62));
    assert_eq!(parse_x(&deeper).unwrap_err()[0].code, "too-deep");
    let aliases = format!("[&a [1, 2], {}]", "*a,".repeat(900));
    assert!(parse_x(&aliases).is_ok());
}
