//! The tables made into an OpenAPI 3.1 document.

use std::collections::BTreeMap;

use axum::http::Method;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::names::{name_schemas, plain};
use super::{Answer, Body, GROUPS, Kind, Operation, Param, Sample, insert, schemas};
use crate::api::auth::Need;
use crate::api::{envelope, routes};

/// Where the sandbox listens: examples can be typed as they stand.
const ADDRESS: &str = "http://127.0.0.1:32765";
const ABOUT: &str = "Upgrades the Enflame GCU stack of a Kubernetes cluster: takes the GcuResource (gr) \
that gcu-operator runs from the version that is there to the version in a blueprint, and back.\n\n\
Answers are JSON in one envelope, `{\"operation\", \"result\": \"Success\", \"content\"}` or \
`{\"operation\", \"result\": \"Failed\", \"error\"}` with a status of 400 or above. Request bodies are JSON \
whatever their `Content-Type` says; an empty one is `{}`. Durations are `\"90s\"`, `\"10m\"`, `\"1h30m\"` \
or seconds. Every path is also served with a slash at its end, and every `GET` as `HEAD`. The header \
`X-Request-Id` is taken over from the request, or made up, and is in every line of the log about it.";

/// Failures that any call can come to.
const SHARED: [(u16, &str); 12] = [
    (400, "A name, a query or a body that cannot be understood: the text names the field."),
    (401, "The service asks who you are: there is no valid token, or no client certificate."),
    (403, "You may not do this to the gr, or the service may not; or a web page of another origin asks."),
    (405, "The path does not take this method; the header `Allow` says which it takes."),
    (408, "The body did not arrive within 10 s."),
    (413, "The body is larger than 64 KiB."),
    (414, "The URL is longer than 8 KiB."),
    (415, "The body is encoded: send it as it is."),
    (429, "Too many requests from this address: wait as long as `Retry-After` says."),
    (502, "The API server's answer made no sense."),
    (503, "The API server is away, gcu-operator is not installed, or too much is going on."),
    (504, "No answer within 90 s: the API server is slow. What was asked for may have been done."),
];

/// The description of the API, as OpenAPI 3.1.
pub fn document() -> Value {
    // Answers first: where a type is both sent and received, its answers are what clients parse.
    let mut answers = generator(SchemaSettings::draft2020_12().for_serialize());
    let mut bodies = generator(SchemaSettings::draft2020_12().for_deserialize());
    let mut paths: BTreeMap<&str, Map<String, Value>> =
        routes().map(|(path, _)| (path, Map::new())).collect();
    let all = GROUPS.iter().flat_map(|g| g.operations.iter().map(move |o| (g, o)));
    for (place, (group, operation)) in all.enumerate() {
        let (method, path) = operation.call.split_once(' ').unwrap_or_default();
        let mut described = described(operation, method, path, &mut answers, &mut bodies);
        insert(&mut described, "tags", json!([group.name]));
        insert(&mut described, "x-order", json!(place));
        paths.entry(path).or_default().insert(method.to_ascii_lowercase(), described);
    }
    let mut definitions = bodies.take_definitions(true);
    definitions.extend(answers.take_definitions(true));
    definitions.insert("Failure".to_owned(), envelope_schema("Failure", None, false, None));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "gcu-upgrade-manager",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "Where this description comes from." }],
        "tags": GROUPS.iter().map(|g| json!({ "name": g.name, "description": g.about })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": definitions,
            "responses": shared_responses(),
            "securitySchemes": { "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of a user or service account of the cluster, with `--auth \
                                kubernetes` alone: whoever may do the same to the gr with kubectl may do it \
                                here. Without that option nobody is asked who they are.",
            } },
        },
    });
    plain(&mut document);
    name_schemas(&mut document);
    document
}

fn generator(mut settings: SchemaSettings) -> SchemaGenerator {
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings.into_generator()
}

fn described(
    operation: &Operation,
    method: &str,
    path: &str,
    answers: &mut SchemaGenerator,
    bodies: &mut SchemaGenerator,
) -> Value {
    let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = in_path.map(|name| parameter(&path_param(name), "path")).collect();
    parameters.extend(operation.query.iter().map(|p| parameter(p, "query")));
    parameters.extend(operation.headers.iter().map(|p| parameter(p, "header")));
    let word = envelope::operation(&Method::from_bytes(method.as_bytes()).unwrap_or_default(), path);
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.about,
        "parameters": parameters,
        "responses": responses(operation, word, path, answers),
        "security": match operation.needs {
            Need::Nothing => json!([]),
            Need::Gr(_) | Need::Path(_) => json!([{}, { "bearer": [] }]),
        },
        "x-permission": match operation.needs {
            Need::Nothing => "none".to_owned(),
            Need::Gr(verb) => format!("{verb} gcuresources"),
            Need::Path(path) => format!("get {path}"),
        },
        "x-codeSamples": operation.samples.iter().map(|s| code_sample(s, method)).collect::<Vec<_>>(),
    });
    if let Some(body) = operation.body {
        let with_body = operation.samples.iter().filter_map(|s| {
            let value: Value = serde_json::from_str(s.body?).unwrap_or_default();
            Some((s.name.to_owned(), json!({ "summary": s.label, "value": value })))
        });
        let examples: Map<String, Value> = with_body.collect();
        let mut content = json!({ "schema": schemas::body(body, bodies) });
        if !examples.is_empty() {
            insert(&mut content, "examples", Value::Object(examples));
        }
        let request =
            json!({ "required": body == Body::Upgrade, "content": { "application/json": content } });
        insert(&mut described, "requestBody", request);
    }
    described
}

fn path_param(name: &str) -> Param {
    let (name, about, kind, example) = match name {
        "name" => ("name", "The gr's name.", Kind::Name, "enflame-gcu-resource"),
        "id" => ("id", "The record's name: `<gr>-<n>`.", Kind::Name, "enflame-gcu-resource-1"),
        "node" => ("node", "The node's name.", Kind::Name, "node-1"),
        "kind" => (
            "kind",
            "The component: `driver`, `toolkit`, `plugin`, `exporter`, `gfd`, or any key of the gr's `spec`.",
            Kind::Text,
            "driver",
        ),
        "revision" => ("revision", "The revision's number.", Kind::Number, "1"),
        "file" => ("file", "The file's name.", Kind::Text, "gr.json"),
        _ => ("", "", Kind::Text, ""),
    };
    Param { name, about, kind, example }
}

fn parameter(param: &Param, place: &str) -> Value {
    let schema = match param.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Name => {
            json!({ "type": "string", "maxLength": 253, "pattern": r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$" })
        }
        Kind::Number => json!({ "type": "integer", "minimum": 0 }),
        Kind::Flag => json!({ "type": "boolean", "default": false }),
    };
    let example = match param.kind {
        Kind::Number | Kind::Flag => serde_json::from_str(param.example).unwrap_or_default(),
        Kind::Text | Kind::Name => json!(param.example),
    };
    json!({
        "name": param.name,
        "in": place,
        "required": place == "path",
        "description": param.about,
        "schema": schema,
        "example": example,
    })
}

fn responses(operation: &Operation, word: &str, path: &str, generator: &mut SchemaGenerator) -> Value {
    let mut all = Map::new();
    for (status, means) in failures(operation, path) {
        let shared = SHARED.contains(&(status, means));
        let reference = json!({ "$ref": format!("#/components/responses/{status}") });
        all.insert(status.to_string(), if shared { reference } else { failure(status, means) });
    }
    let mut success =
        json!({ "description": operation.means, "content": content(operation, word, generator) });
    if operation.body.is_some_and(|b| b != Body::Delete) && !path.ends_with("/plan") {
        let about = "The record's path; absent for a dry run.";
        let location = json!({ "description": about, "schema": { "type": "string" } });
        insert(&mut success, "headers", json!({ "Location": location }));
    }
    if operation.headers.iter().any(|header| header.name == "If-None-Match") {
        let tag = json!({ "description": "What tells this answer from every other; absent where the API \
                                          server was asked.", "schema": { "type": "string" } });
        insert(&mut success, "headers", json!({ "ETag": tag }));
        let same = json!({ "description": "`If-None-Match` names what would be answered." });
        all.insert("304".to_owned(), same);
    }
    all.insert("200".to_owned(), success);
    if matches!(operation.answer, Answer::AsIs("text/event-stream")) {
        let over = "`Last-Event-ID` was that of the last event: there is nothing more.";
        all.insert("204".to_owned(), json!({ "description": over }));
    }
    Value::Object(all)
}

/// What a call can fail with, and when.
fn failures(operation: &Operation, path: &str) -> BTreeMap<u16, &'static str> {
    let open = matches!(operation.needs, Need::Nothing);
    let probe = matches!(path, "/livez" | "/readyz");
    let asks = path.contains('{') || !operation.query.is_empty();
    let applies = |status: u16| match status {
        400 | 414 => asks,
        401 => !open,
        403 => true,
        408 | 413 | 415 => operation.body.is_some(),
        429 => !probe,
        502 => matches!(operation.needs, Need::Gr(_)) && path.contains("{name}"),
        503 | 504 => !probe,
        // Of no operation: whoever meets it has asked for something that is not described.
        _ => false,
    };
    let shared = SHARED.iter().filter(|(status, _)| applies(*status));
    shared.chain(operation.fails).copied().collect()
}

fn shared_responses() -> Value {
    SHARED
        .iter()
        .map(|(status, means)| (status.to_string(), failure(*status, means)))
        .collect::<Map<_, _>>()
        .into()
}

fn failure(status: u16, means: &str) -> Value {
    let mut failure = json!({
        "description": means,
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Failure" } } },
    });
    if matches!(status, 429 | 503) {
        let header = json!({ "description": "Seconds to wait, where that is known.", "schema": { "type": "integer" } });
        insert(&mut failure, "headers", json!({ "Retry-After": header }));
    }
    failure
}

/// The envelope; of a success it is named after the call.
fn envelope_schema(id: &str, word: Option<&str>, success: bool, content: Option<Value>) -> Value {
    let operation =
        word.map_or(json!({ "type": "string" }), |word| json!({ "type": "string", "const": word }));
    let mut properties = json!({
        "operation": operation,
        "result": { "type": "string", "const": if success { "Success" } else { "Failed" } },
    });
    let mut required = vec!["operation", "result"];
    if let Some(content) = content {
        required.push("content");
        insert(&mut properties, "content", content);
    }
    if !success {
        required.push("error");
        insert(
            &mut properties,
            "error",
            json!({ "type": "string", "description": "What is wrong, and what to do." }),
        );
    }
    let mut schema = json!({ "type": "object", "required": required, "properties": properties });
    if success {
        let (first, rest) = id.split_at_checked(1).unwrap_or_default();
        insert(&mut schema, "title", json!(format!("{}{rest}Answer", first.to_ascii_uppercase())));
    }
    schema
}

fn content(operation: &Operation, word: &str, generator: &mut SchemaGenerator) -> Value {
    let (schema, media, text) = match operation.answer {
        Answer::Nothing => (envelope_schema(operation.id, Some(word), true, None), "application/json", false),
        Answer::Content(of) | Answer::ContentOrText(of) => {
            let content = of(generator).to_value();
            let text = matches!(operation.answer, Answer::ContentOrText(_));
            (envelope_schema(operation.id, Some(word), true, Some(content)), "application/json", text)
        }
        Answer::MayHaveContent(of) => {
            let mut schema = envelope_schema(operation.id, Some(word), true, Some(of(generator).to_value()));
            insert(&mut schema, "required", json!(["operation", "result"]));
            (schema, "application/json", false)
        }
        Answer::AsIs(media @ "application/json") => {
            (json!({ "type": "object", "additionalProperties": true }), media, false)
        }
        Answer::AsIs(media) => (json!({ "type": "string" }), media, false),
    };
    let examples = |text: bool| -> Map<String, Value> {
        let of_form = operation.samples.iter().filter(|s| s.text == text);
        of_form.map(|s| (s.name.to_owned(), example(operation, s, word))).collect()
    };
    let mut all = json!({ media: { "schema": schema, "examples": examples(false) } });
    if text {
        let mut form = json!({ "schema": { "type": "string" } });
        if !examples(true).is_empty() {
            insert(&mut form, "examples", Value::Object(examples(true)));
        }
        insert(&mut all, "text/plain", form);
    }
    all
}

fn example(operation: &Operation, sample: &Sample, word: &str) -> Value {
    let content = || serde_json::from_str::<Value>(sample.answer).unwrap_or_default();
    let value = match operation.answer {
        _ if sample.text => json!(sample.answer),
        Answer::AsIs("application/json") => content(),
        Answer::AsIs(_) => json!(sample.answer),
        Answer::Nothing => json!({ "operation": word, "result": "Success" }),
        Answer::MayHaveContent(_) if sample.answer.is_empty() => {
            json!({ "operation": word, "result": "Success" })
        }
        Answer::Content(_) | Answer::ContentOrText(_) | Answer::MayHaveContent(_) => {
            json!({ "operation": word, "result": "Success", "content": content() })
        }
    };
    json!({ "summary": sample.label, "value": value })
}

/// The example as it is typed: no part of it needs a quotation mark of the shell's inside.
fn code_sample(sample: &Sample, method: &str) -> Value {
    let quote = if sample.target.contains(['?', '&']) { "'" } else { "" };
    let mut line = format!("curl {quote}{ADDRESS}{}{quote}", sample.target);
    match (method, sample.body) {
        ("GET", _) | ("POST", Some(_)) => {}
        (method, _) => line.push_str(&format!(" -X {method}")),
    }
    if sample.text {
        line.push_str(" -H 'Accept: text/plain'");
    }
    if let Some(body) = sample.body {
        line.push_str(&format!(" -d '{body}'"));
    }
    json!({ "lang": "Shell", "label": sample.label, "x-name": sample.name, "source": line })
}
