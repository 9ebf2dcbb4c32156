//! What plain YAML scalars mean: a golden table of `goyaml.v2/resolve.go` in sigs.k8s.io/yaml, which kubectl
//! reads manifests with.

use gcu_upgrade_manager::blueprint::{Blueprint, Finding};
use serde_json::{Value, json};

use super::HEAD;

/// The manifest with `text` as YAML under `spec.driver.x`.
pub(super) fn parse_x(text: &str) -> Result<Value, Vec<Finding>> {
    let yaml = format!("{HEAD}spec:\n  driver:\n    version: \"1\"\n    x: {text}\n");
    Ok(Blueprint::parse("x.yaml", yaml.as_bytes())?.manifest()["spec"]["driver"]["x"].clone())
}

#[test]
fn plain_scalars_mean_what_they_mean_to_kubectl() {
    let golden = [
        ("y", json!(true)),
        ("Y", json!(true)),
        ("yes", json!(true)),
        ("Yes", json!(true)),
        ("YES", json!(true)),
        ("yEs", json!("yEs")),
        ("on", json!(true)),
        ("On", json!(true)),
        ("ON", json!(true)),
        ("true", json!(true)),
        ("True", json!(true)),
        ("TRUE", json!(true)),
        ("tRue", json!("tRue")),
        ("n", json!(false)),
        ("N", json!(false)),
        ("no", json!(false)),
        ("No", json!(false)),
        ("NO", json!(false)),
        ("off", json!(false)),
        ("Off", json!(false)),
        ("OFF", json!(false)),
        ("false", json!(false)),
        ("False", json!(false)),
        ("FALSE", json!(false)),
        ("\"yes\"", json!("yes")),
        ("'no'", json!("no")),
        ("", Value::Null),
        ("~", Value::Null),
        ("null", Value::Null),
        ("Null", Value::Null),
        ("NULL", Value::Null),
        ("nUll", json!("nUll")),
        ("\"\"", json!("")),
        ("0", json!(0)),
        ("-0", json!(0)),
        ("+1", json!(1)),
        ("-1", json!(-1)),
        ("0777", json!(511)),
        ("-0777", json!(-511)),
        ("0o17", json!(15)),
        ("-0o17", json!(-15)),
        ("08", json!(8)),
        ("0b1", json!(1)),
        ("-0b101", json!(-5)),
        ("0b2", json!("0b2")),
        ("0x1f", json!(31)),
        ("0X1F", json!(31)),
        ("+0x1f", json!(31)),
        ("0xfg", json!("0xfg")),
        ("1_000", json!(1000)),
        ("1__0_", json!(10)),
        ("_1", json!("_1")),
        ("0x_ff", json!(255)),
        ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
        ("-9223372036854775808", json!(-9_223_372_036_854_775_808_i64)),
        ("1.5", json!(1.5)),
        ("2.0", json!(2)),
        ("2.", json!(2)),
        (".5", json!(0.5)),
        ("+.5", json!(0.5)),
        (".5_0", json!(0.5)),
        (".", json!(".")),
        ("..", json!("..")),
        ("._5", json!("._5")),
        ("1e3", json!(1000)),
        ("1E+3", json!(1000)),
        ("1.5e-3", json!(0.0015)),
        ("1e", json!("1e")),
        ("1e400", json!("1e400")),
        ("+", json!("+")),
        ("1.2.3", json!("1.2.3")),
        ("v1", json!("v1")),
        ("1:30", json!("1:30")),
        ("190:20:30", json!("190:20:30")),
        ("190:20:30.15", json!("190:20:30.15")),
        ("2001-12-14", json!("2001-12-14")),
        ("2001-12-14T21:59:43.10Z", json!("2001-12-14T21:59:43.10Z")),
        ("2001-12-14 21:59:43", json!("2001-12-14 21:59:43")),
        ("=", json!("=")),
        ("<<", json!("<<")),
        ("nan", json!("nan")),
        ("inf", json!("inf")),
        ("Infinity", json!("Infinity")),
        ("!!str 2.0", json!("2.0")),
        ("!!float 1", json!(1)),
        ("!!int \"5\"", json!(5)),
        ("!!bool yes", json!(true)),
        ("! 5", json!("5")),
        ("|\n      2.0", json!("2.0\n")),
        (">-\n      yes\n      no", json!("yes no")),
        ("\"\\u9a71\\x41\"", json!("驱A")),
    ];
    for (text, expected) in golden {
        assert_eq!(parse_x(text), Ok(expected), "{text}");
    }
}

#[test]
fn scalars_that_json_cannot_hold_are_refused() {
    let refused = [
        (".nan", "not-finite"),
        (".NaN", "not-finite"),
        (".inf", "not-finite"),
        ("-.INF", "not-finite"),
        ("+.Inf", "not-finite"),
        ("18446744073709551616", "integer-range"),
        ("-9223372036854775809", "integer-range"),
        ("+9223372036854775808", "integer-range"),
        ("0xfffffffffffffffff", "integer-range"),
        ("12345678901234567.0", "number-precision"),
        ("1e30", "number-precision"),
        ("!!binary aGk=", "bad-tag"),
        ("!!timestamp 2001-12-14", "bad-tag"),
        ("!custom x", "bad-tag"),
        ("!!int x", "bad-tag"),
        ("!!bool 1", "bad-tag"),
    ];
    for (text, code) in refused {
        let findings = parse_x(text).unwrap_err();
        assert_eq!(findings.len(), 1, "{text}: {findings:?}");
        assert_eq!((findings[0].code, findings[0].line, findings[0].column), (code, 8, 8), "{text}");
        assert_eq!(findings[0].field.as_deref(), Some("spec.driver.x"), "{text}");
    }
}
