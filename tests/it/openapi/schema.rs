//! As much of JSON Schema 2020-12 as the description uses; a word that is not known here fails.

use regex::Regex;
use serde_json::Value;

/// Words that say nothing about what is valid.
const WORDS: [&str; 7] = ["description", "default", "examples", "format", "title", "deprecated", "summary"];

/// How strictly a value is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// As the schema says.
    Open,
    /// A field that is not described is an error, unless the schema says that others may come.
    Closed,
}

/// What is wrong with a value; empty when nothing is.
pub(crate) fn errors(document: &Value, schema: &Value, value: &Value, world: World) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, world, "", &mut found);
    found
}

fn check(document: &Value, schema: &Value, value: &Value, world: World, at: &str, found: &mut Vec<String>) {
    let Some(words) = schema.as_object() else { panic!("no schema at {at}: {schema}") };
    let mut wrong = |what: String| found.push(format!("{at}: {what}: {value}"));
    let fits = |schema: &Value| {
        let mut inner = Vec::new();
        check(document, schema, value, world, at, &mut inner);
        inner
    };
    for (word, said) in words {
        match word.as_str() {
            "$ref" => {
                let place = said.as_str().unwrap().strip_prefix('#').unwrap();
                let target = document.pointer(place).unwrap_or_else(|| panic!("{said} leads nowhere"));
                fits(target).into_iter().for_each(&mut wrong);
            }
            "anyOf" | "oneOf" => {
                let all: Vec<Vec<String>> = said.as_array().unwrap().iter().map(fits).collect();
                let fitting = all.iter().filter(|e| e.is_empty()).count();
                if fitting == 0 || word == "oneOf" && fitting > 1 {
                    wrong(format!("{fitting} of {word} fit: {all:?}"));
                }
            }
            "allOf" => said.as_array().unwrap().iter().flat_map(fits).for_each(&mut wrong),
            "type" => {
                let types: Vec<&str> = match said {
                    Value::Array(all) => all.iter().map(|t| t.as_str().unwrap()).collect(),
                    one => vec![one.as_str().unwrap()],
                };
                if !types.iter().any(|t| is(value, t)) {
                    wrong(format!("is not {types:?}"));
                }
            }
            "const" if said != value => wrong(format!("is not {said}")),
            "enum" if !said.as_array().unwrap().contains(value) => wrong(format!("is none of {said}")),
            "pattern" => {
                let regex = Regex::new(said.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !regex.is_match(text)) {
                    wrong(format!("does not match {said}"));
                }
            }
            "minimum" if value.as_f64() < said.as_f64() && value.is_number() => {
                wrong(format!("under {said}"))
            }
            "maximum" if value.as_f64() > said.as_f64() => wrong(format!("over {said}")),
            "minLength" | "maxLength" => {
                let (length, limit) = (value.as_str().map(|t| t.chars().count() as u64), said.as_u64());
                if length.is_some() && (if word == "minLength" { length < limit } else { length > limit }) {
                    wrong(format!("{word} {said}"));
                }
            }
            "minItems" | "maxItems" => {
                let (length, limit) = (value.as_array().map(|all| all.len() as u64), said.as_u64());
                if length.is_some() && (if word == "minItems" { length < limit } else { length > limit }) {
                    wrong(format!("{word} {said}"));
                }
            }
            "minProperties"
                if value.as_object().is_some_and(|o| (o.len() as u64) < said.as_u64().unwrap()) =>
            {
                wrong(format!("has fewer fields than {said}"));
            }
            "required" => {
                for name in said.as_array().unwrap() {
                    if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                        wrong(format!("has no {name}"));
                    }
                }
            }
            "const" | "enum" | "minimum" | "maximum" | "minProperties" => {}
            "properties" | "items" | "additionalProperties" => {}
            other => assert!(WORDS.contains(&other) || other.starts_with("x-"), "{at}: what is {other}?"),
        }
    }
    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(items) = schema.get("items") {
            check(document, items, item, world, &format!("{at}[{place}]"), found);
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (schema.pointer("/properties").and_then(|p| p.get(name)), schema.get("additionalProperties")) {
            (Some(described), _) => check(document, described, field, world, &at, found),
            (None, Some(Value::Bool(true))) => {}
            (None, Some(Value::Bool(false))) => found.push(format!("{at} is not taken")),
            (None, Some(others)) => check(document, others, field, world, &at, found),
            (None, None) if world == World::Closed && schema.get("type") == Some(&"object".into()) => {
                found.push(format!("{at} is not described"));
            }
            (None, None) => {}
        }
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}
