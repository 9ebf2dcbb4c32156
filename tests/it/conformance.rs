//! The sandbox answers as a real API server does.
//!
//! `tests/conformance/NAME.yaml` is a script of requests; `NAME.recorded.json` beside it holds what a real
//! server 1.20.2 answered, with times, UIDs and versions replaced by placeholders. Every script runs against
//! the sandbox, and, when there is a real control plane (see `kube`), against that too, so that recordings
//! do not rot. `GUM_RECORD=1` with a real control plane records anew.
//!
//! A step: `do: METHOD PATH`, and optionally `body`, or `raw` (a body sent as it is), `type` (its media type),
//! `accept`, `save` (names for parts of the answer, by JSON pointer, used later as `${name}`), `until` (repeat
//! until the answer has these parts: a real server's controllers take a moment), `unchecked` (set-up only)
//! and `differs` (why the sandbox's body may differ here; the status code may not).

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use gcu_upgrade_manager::{clock::Clock, sandbox::apiserver::ApiServer};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[expect(dead_code, reason = "for the reader of the file")]
    about: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    r#do: String,
    body: Option<Value>,
    raw: Option<String>,
    r#type: Option<String>,
    accept: Option<String>,
    #[serde(default)]
    save: BTreeMap<String, String>,
    #[serde(default)]
    until: BTreeMap<String, Value>,
    #[serde(default)]
    unchecked: bool,
    differs: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
struct Answer {
    request: String,
    status: u16,
    body: Value,
}

#[tokio::test(start_paused = true)]
async fn the_sandbox_answers_as_recorded() {
    let mut checks = 0;
    let mut differences = Vec::new();
    for name in names() {
        let server = ApiServer::old(Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap()));
        let script = script(&name);
        let answers = run(&server.client(), &script).await;
        checks += script.steps.iter().filter(|step| !step.unchecked).count();
        differences.extend(compare(&name, &script, &answers, true));
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    eprintln!("{checks} recorded answers checked");
    assert!(checks >= 100, "only {checks} checks");
}

#[tokio::test]
async fn the_real_server_still_answers_as_recorded() {
    let Some(cluster) = crate::kube::real().await else { return };
    let mut differences = Vec::new();
    for name in names() {
        let script = script(&name);
        let answers = run(&cluster.client().await, &script).await;
        if is_recording() {
            record(&name, &script, &answers);
        }
        differences.extend(compare(&name, &script, &answers, false));
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[expect(clippy::disallowed_methods, reason = "a switch of the test run, not of the product")]
fn is_recording() -> bool {
    std::env::var_os("GUM_RECORD").is_some()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> =
        entries.filter_map(|name| name.to_str()?.strip_suffix(".yaml").map(str::to_owned)).collect();
    names.sort();
    names
}

fn script(name: &str) -> Script {
    let text = fs::read_to_string(directory().join(format!("{name}.yaml"))).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn record(name: &str, script: &Script, answers: &[Answer]) {
    let checked: Vec<&Answer> = script
        .steps
        .iter()
        .zip(answers)
        .filter(|(step, _)| !step.unchecked)
        .map(|(_, answer)| answer)
        .collect();
    let text = serde_json::to_string_pretty(&checked).unwrap() + "\n";
    fs::write(directory().join(format!("{name}.recorded.json")), text).unwrap();
}

fn compare(name: &str, script: &Script, answers: &[Answer], sandbox: bool) -> Vec<String> {
    let text = fs::read_to_string(directory().join(format!("{name}.recorded.json"))).unwrap_or("[]".into());
    let recorded: Vec<Answer> = serde_json::from_str(&text).unwrap();
    let checked: Vec<_> = script.steps.iter().zip(answers).filter(|(step, _)| !step.unchecked).collect();
    if recorded.len() != checked.len() {
        return vec![format!("{name}: {} answers are recorded for {} steps", recorded.len(), checked.len())];
    }
    let mut differences = Vec::new();
    for (wanted, (step, got)) in recorded.iter().zip(checked) {
        let lenient = sandbox && step.differs.is_some();
        if wanted.request != got.request || wanted.status != got.status || !lenient && wanted.body != got.body
        {
            let what = difference(&wanted.body, &got.body, "");
            differences.push(format!(
                "{name}: {}\n  recorded {} got {}{}",
                wanted.request,
                wanted.status,
                got.status,
                what.iter().map(|line| format!("\n    {line}")).collect::<String>()
            ));
        }
    }
    differences
}

/// Where two answers differ, by path.
fn difference(wanted: &Value, got: &Value, path: &str) -> Vec<String> {
    match (wanted, got) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let null = Value::Null;
            keys.into_iter()
                .flat_map(|key| {
                    let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                    difference(a, b, &format!("{path}/{key}"))
                })
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .flat_map(|(at, (a, b))| difference(a, b, &format!("{path}/{at}")))
            .collect(),
        _ if wanted == got => Vec::new(),
        _ => vec![format!("{path}:\n      recorded {wanted}\n      got      {got}")],
    }
}

async fn run(client: &Client, script: &Script) -> Vec<Answer> {
    let mut saved = BTreeMap::new();
    let mut placeholders = Placeholders::default();
    let mut answers = Vec::new();
    for step in &script.steps {
        let (status, body) = settled(client, step, &saved).await;
        for (name, pointer) in &step.save {
            let found =
                body.pointer(pointer).unwrap_or_else(|| panic!("{}: no {pointer} in {body}", step.r#do));
            saved.insert(name.clone(), found.as_str().map_or_else(|| found.to_string(), str::to_owned));
        }
        let mut body = body;
        placeholders.normalise(&mut body);
        answers.push(Answer { request: step.r#do.clone(), status, body });
    }
    answers
}

async fn settled(client: &Client, step: &Step, saved: &BTreeMap<String, String>) -> (u16, Value) {
    for _ in 0..100 {
        let (status, body) = send(client, step, saved).await;
        let is = |(pointer, wanted): (&String, &Value)| match pointer.as_str() {
            "status code" => json!(status) == *wanted,
            pointer => body.pointer(pointer) == Some(wanted),
        };
        if step.until.iter().all(is) {
            return (status, body);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{}: the answer never became {:?}", step.r#do, step.until);
}

async fn send(client: &Client, step: &Step, saved: &BTreeMap<String, String>) -> (u16, Value) {
    let substitute = |text: &str| {
        saved.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
    };
    let (method, path) = step.r#do.split_once(' ').unwrap();
    let mut request =
        http::Request::builder().method(method).uri(substitute(path)).header("User-Agent", "conformance");
    if let Some(accept) = &step.accept {
        request = request.header("Accept", accept);
    }
    let body = match (&step.raw, &step.body) {
        (Some(raw), _) => raw.clone(),
        (None, Some(body)) => body.to_string(),
        (None, None) => String::new(),
    };
    if step.r#type.is_some() || !body.is_empty() {
        request = request.header("Content-Type", step.r#type.as_deref().unwrap_or("application/json"));
    }
    let request = request.body(Body::from(substitute(&body).into_bytes())).unwrap();
    let response = client.send(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, parse(std::str::from_utf8(&bytes).unwrap()))
}

/// One JSON document, the lines of a watch as an array, or plain text.
fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| {
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        lines.map_or_else(|_| text.into(), Value::Array)
    })
}

/// Replaces what differs from run to run. Equal UIDs and versions get equal placeholders, so a change or
/// its absence shows.
#[derive(Default)]
struct Placeholders {
    uids: Vec<String>,
    versions: Vec<String>,
}

impl Placeholders {
    fn normalise(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) => self.normalise_map(map),
            Value::Array(items) => items.iter_mut().for_each(|item| self.normalise(item)),
            Value::String(text) => self.normalise_text(text),
            _ => {}
        }
    }

    fn normalise_map(&mut self, map: &mut Map<String, Value>) {
        for field in ["managedFields", "storageVersionHash", "serverAddressByClientCIDRs"] {
            map.remove(field);
        }
        let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
        if kind.ends_with("List") || kind == "Table" {
            // The version of a list counts every write to the whole cluster.
            if let Some(version) =
                map.get_mut("metadata").and_then(|metadata| metadata.get_mut("resourceVersion"))
            {
                *version = "<list version>".into();
            }
        }
        if let Some(columns) = map.get_mut("columnDefinitions").and_then(Value::as_array_mut) {
            for column in columns.iter_mut().filter_map(Value::as_object_mut) {
                column.remove("description");
            }
        }
        normalise_causes(map);
        let generated = map.get("generateName").cloned();
        for (key, value) in map.iter_mut() {
            match (key.as_str(), value) {
                ("resourceVersion", Value::String(text))
                    if text.starts_with(|c: char| c.is_ascii_digit()) =>
                {
                    *text = numbered("version", &mut self.versions, text);
                }
                ("continue", Value::String(text)) if !text.is_empty() => *text = "<token>".to_owned(),
                ("name", Value::String(text)) if generated.is_some() => {
                    let base = generated.as_ref().and_then(Value::as_str).unwrap_or_default();
                    if text.len() == base.len() + 5 && text.starts_with(base) {
                        *text = format!("{base}<suffix>");
                    }
                }
                ("cells", Value::Array(cells)) => cells.iter_mut().for_each(normalise_age),
                (_, value) => self.normalise(value),
            }
        }
    }

    fn normalise_text(&mut self, text: &mut String) {
        if text.parse::<jiff::Timestamp>().is_ok() {
            *text = "<time>".to_owned();
            return;
        }
        // The real text goes on with a dump of Go structures, with spaces of random kinds.
        if let Some((before, _)) = text.split_once("core.PodSpec{") {
            *text = before.trim_end().to_owned();
        }
        let is_part = |c: char| c.is_ascii_hexdigit() || c == '-';
        let words: Vec<String> =
            text.split(|c| !is_part(c)).filter(|word| is_uid(word)).map(str::to_owned).collect();
        for word in words {
            let placeholder = numbered("uid", &mut self.uids, &word);
            *text = text.replace(&word, &placeholder);
        }
        // Versions in the texts of errors stand in parentheses.
        let parts: Vec<String> =
            text.split_inclusive(['(', ')'])
                .map(|part| match part.strip_suffix(')') {
                    Some(digits)
                        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
                    {
                        if digits == "1" { part.to_owned() } else { "<version>)".to_owned() }
                    }
                    _ => part.to_owned(),
                })
                .collect();
        *text = parts.concat();
    }
}

/// The real server names the causes of a refusal in no order, and some of them twice.
fn normalise_causes(status: &mut Map<String, Value>) {
    let Some(causes) = status.get_mut("details").and_then(|details| details.get_mut("causes")) else {
        return;
    };
    let Some(causes) = causes.as_array_mut() else { return };
    causes.sort_by_key(Value::to_string);
    causes.dedup();
    if let Some(Value::String(message)) = status.get_mut("message")
        && let Some((before, _)) = message.split_once(" is invalid: [")
    {
        *message = format!("{before} is invalid: [<causes>]");
    }
}

fn is_uid(word: &str) -> bool {
    word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

fn numbered(what: &str, known: &mut Vec<String>, value: &str) -> String {
    let at = known.iter().position(|one| one == value).unwrap_or_else(|| {
        known.push(value.to_owned());
        known.len() - 1
    });
    format!("<{what} {}>", at + 1)
}

fn normalise_age(cell: &mut Value) {
    let is_age = |text: &str| text.strip_suffix('s').is_some_and(|n| n.parse::<u32>().is_ok());
    if cell.as_str().is_some_and(is_age) {
        *cell = "<age>".into();
    } else if cell.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()) {
        *cell = "<time>".into();
    }
}
