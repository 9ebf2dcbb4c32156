//! The description in words that generators of clients understand: plain enums, and a name for every object.

use serde_json::{Map, Value, json};

use super::insert;

/// Gives every schema of the document that has fields or an enum of its own a name among its components: its `title`,
/// or else where it stands.
pub(super) fn name_schemas(document: &mut Value) {
    let mut named = document.pointer_mut("/components/schemas").map(Value::take).unwrap_or_default();
    let mut found = Map::new();
    for (name, schema) in named.as_object_mut().into_iter().flatten() {
        within(schema, name, &mut found);
    }
    let operations = document.pointer_mut("/paths").and_then(Value::as_object_mut).into_iter().flatten();
    for operation in operations.filter_map(|(_, item)| item.as_object_mut()).flatten().map(|(_, o)| o) {
        let body = operation.pointer_mut("/requestBody/content/application~1json/schema");
        body.into_iter().for_each(|schema| name(schema, "Body", &mut found));
        let answer = operation.pointer_mut("/responses/200/content/application~1json/schema");
        answer.into_iter().for_each(|schema| name(schema, "Answer", &mut found));
    }
    if let Value::Object(named) = &mut named {
        named.extend(found);
    }
    document.pointer_mut("/components").into_iter().for_each(|c| insert(c, "schemas", named.take()));
}

/// Moves a schema to those that have names, where it is worth one, and refers to it instead.
fn name(schema: &mut Value, place: &str, found: &mut Map<String, Value>) {
    let title = schema.as_object_mut().and_then(|s| s.remove("title"));
    let known = title.as_ref().and_then(Value::as_str).unwrap_or(place);
    within(schema, known, found);
    let has_words = schema.get("enum").is_some() && schema.get("type") == Some(&json!("string"));
    if title.is_some() || schema.get("properties").is_some() || has_words {
        let reference = json!({ "$ref": format!("#/components/schemas/{known}") });
        found.insert(known.to_owned(), std::mem::replace(schema, reference));
    }
}

fn within(schema: &mut Value, place: &str, found: &mut Map<String, Value>) {
    for (field, schema) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let mut letters = field.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        name(
            schema,
            &format!("{place}{}{}", first.map(String::from).unwrap_or_default(), letters.as_str()),
            found,
        );
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).into_iter().for_each(|schema| name(schema, &format!("{place}Item"), found));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        let all = schema.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten();
        all.for_each(|schema| name(schema, place, found));
    }
}

/// Words of Kubernetes and of schemars, in those that every reader of OpenAPI has.
pub(super) fn plain(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.remove("x-kubernetes-preserve-unknown-fields").is_some() {
                object.insert("additionalProperties".to_owned(), json!(true));
            }
            // schemars' word for an Option that is left out.
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            // Its bounds are said beside it; a client's number has to hold it.
            if object.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) {
                object.insert("format".to_owned(), json!("int64"));
            }
            if object.remove("x-kubernetes-int-or-string").is_some() {
                number_or_percentage(object);
            }
            constants(object);
            if let Some(Value::String(text)) = object.get_mut("description") {
                let lines = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
                *text = lines.collect::<Vec<_>>().join("\n\n");
            }
            object.values_mut().for_each(plain);
        }
        Value::Array(all) => all.iter_mut().for_each(plain),
        _ => {}
    }
}

fn number_or_percentage(object: &mut Map<String, Value>) {
    // A record is read with a number in text too; a request is not.
    object.remove("pattern");
    let pattern = "^0*([1-9][0-9]?|100)%$";
    let mut number = json!({ "type": "integer", "minimum": object.remove("minimum").unwrap_or(json!(1)) });
    object.remove("maximum").into_iter().for_each(|most| insert(&mut number, "maximum", most));
    object.insert("description".to_owned(), json!("A number, or a percentage."));
    object.insert("examples".to_owned(), json!([3, "25%"]));
    object.insert("anyOf".to_owned(), json!([number, { "type": "string", "pattern": pattern }]));
}

/// Texts of which one has to be taken: an enum, with what each means in its description.
fn constants(object: &mut Map<String, Value>) {
    let all = object.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
    let values: Vec<Value> = all.iter().filter_map(|one| one.get("const").cloned()).collect();
    if values.is_empty() || values.len() < all.len() {
        return;
    }
    let mut about = object.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for one in &all {
        let of = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default();
        about.push_str(&format!("\n\n`{}`: {}", of("const"), of("description")));
    }
    object.remove("oneOf");
    object.extend([
        ("type".to_owned(), json!("string")),
        ("enum".to_owned(), values.into()),
        ("description".to_owned(), about.trim_start().into()),
    ]);
}
