//! What holds for every file.

use gcu_upgrade_manager::blueprint::{Blueprint, Severity};
use proptest::prelude::*;
use serde_json::{Value, json};

/// JSON of ordinary size, as a person could write it. No floats that are whole: `2.0` is `2` to Kubernetes.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-10_000_i32..10_000).prop_map(|n| Value::from(f64::from(n) + 0.5)),
        any::<String>().prop_map(Value::from),
        "[a-z0-9._:~<+-]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z0-9 \"\\\\/.\u{80}-\u{ffff}]{0,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn manifest(x: &Value) -> Value {
    json!({
        "apiVersion": "topsops.enflame.com/v1",
        "kind": "GcuResource",
        "metadata": {"name": "a"},
        "spec": {"driver": {"version": "1", "x": x}},
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Blueprint::parse("x.yaml", &bytes);
    }

    #[test]
    fn arbitrary_yaml_and_json_punctuation_never_panics(
        text in "(\\{|\\[|\\]|\\}|: |- |\\? |&a |\\*a |<<|!!str |\"|'|\\||>|#|---|\\.\\.\\.|%YAML \
                 1.1|a|0x|1_|,|\n|  |\t|\r\n|\u{feff}|é|\\\\u00){0,60}"
    ) {
        if let Err(findings) = Blueprint::parse("x.yaml", text.as_bytes()) {
            prop_assert!(findings.iter().any(|finding| finding.severity == Severity::Error));
            let lines = u32::try_from(text.split('\n').count() + text.matches('\r').count()).unwrap();
            prop_assert!(findings.iter().all(|finding| (1..=lines + 1).contains(&finding.line) && finding.column >= 1));
        }
    }

    #[test]
    fn json_means_what_serde_json_says(x in any_json(), pretty in any::<bool>()) {
        let manifest = manifest(&x);
        let text = if pretty { serde_json::to_string_pretty(&manifest) } else { serde_json::to_string(&manifest) };
        let text = text.unwrap();
        if !text.contains("\\u0000") {
            let blueprint = Blueprint::parse("x.json", text.as_bytes());
            prop_assert_eq!(blueprint.map(|blueprint| blueprint.manifest().clone()), Ok(manifest));
        }
    }

    #[test]
    fn yaml_and_json_of_one_manifest_are_one_manifest(x in any_json()) {
        let manifest = manifest(&x);
        let json = Blueprint::parse("x.json", serde_json::to_string(&manifest).unwrap().as_bytes());
        let yaml = Blueprint::parse("x.yaml", yaml_of(&manifest, 0).as_bytes());
        let manifest = |blueprint: Blueprint| blueprint.manifest().clone();
        prop_assert_eq!(json.map(manifest), yaml.map(manifest));
    }
}

/// The value as block YAML, with all text in double quotes.
fn yaml_of(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let quoted = |text: &str| {
        let mut out = String::from("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c.is_control() || !c.is_ascii() => out.push_str(&format!("\\U{:08x}", u32::from(c))),
                c => out.push(c),
            }
        }
        out + "\""
    };
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .map(|(key, value)| format!("\n{pad}{}: {}", quoted(key), yaml_of(value, indent + 2)))
            .collect(),
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|item| format!("\n{pad}- {}", yaml_of(item, indent + 2))).collect()
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}
