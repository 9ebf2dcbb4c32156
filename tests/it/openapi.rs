//! The description of the API against the API: neither has what the other has not, every example works as it stands
//! there, and the page shows all of it and no more.

mod examples;
mod page;
mod schema;

use std::collections::BTreeSet;

use axum::body::Body;
use gcu_upgrade_manager::sandbox::world::World;
use serde_json::{Value, json};

use self::schema::World::{Closed, Open};
use self::schema::errors;
use crate::faults::Faults;
use crate::harness::{Backend, Harness};

const README: &str = include_str!("../../README.md");
const ADDRESS: &str = "http://127.0.0.1:32765";

async fn harness() -> Harness {
    let world = World { nodes: 3, ..World::default() };
    let harness = Harness::set(Backend::Sandbox, world, Faults::new(Vec::new())).await.unwrap();
    harness.write("gr.json", include_str!("../../blueprints/gr.json"));
    harness.write("gr-full.yaml", include_str!("../../blueprints/gr-full.yaml"));
    harness
}

/// Every operation: its path, its method in capitals, and what is said of it.
fn operations(document: &Value) -> Vec<(&str, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(m, o)| (path.as_str(), m.to_uppercase(), o))
        })
        .collect()
}

fn names<'d>(all: &'d Value, field: &'d str) -> impl Iterator<Item = &'d str> {
    all.as_array().into_iter().flatten().map(move |one| one[field].as_str().unwrap())
}

async fn document(harness: &Harness) -> Value {
    let answer = harness.must("GET", "/openapi.json", "").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    answer.json()
}

#[tokio::test(start_paused = true)]
async fn what_is_served_is_described_and_what_is_described_is_served() {
    let harness = harness().await;
    let document = document(&harness).await;
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut target = path.clone();
        for operation in item.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().unwrap() {
                let example = parameter["example"].to_string();
                let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
                target = target.replace(&name, example.trim_matches('"'));
            }
        }
        assert!(!target.contains('{'), "every name in {path} is a parameter with an example");
        let answer = harness.must("PATCH", &target, "").await;
        assert_eq!(answer.status, 405, "{path} is no route: {}", answer.text);
        let served: BTreeSet<String> = answer.headers["allow"]
            .to_str()
            .unwrap()
            .split(',')
            .map(str::to_lowercase)
            .filter(|m| m != "head")
            .collect();
        let described: BTreeSet<String> = item.as_object().unwrap().keys().cloned().collect();
        assert_eq!(served, described, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_is_openapi_3_1() {
    let document = document(&harness().await).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    let tags: BTreeSet<&str> = names(&document["tags"], "name").collect();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let about = format!("{method} {path}");
        assert!(["GET", "PUT", "POST", "DELETE"].contains(&method.as_str()), "{about}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{about}: an id of its own");
        assert!(
            operation["tags"].as_array().unwrap().iter().all(|t| tags.contains(t.as_str().unwrap())),
            "{about}"
        );
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{about}");
        assert!(!operation["description"].as_str().unwrap().is_empty(), "{about}");
        assert!(operation["responses"]["200"]["description"].is_string(), "{about}");
        let places: BTreeSet<(&str, &str)> =
            names(&operation["parameters"], "in").zip(names(&operation["parameters"], "name")).collect();
        assert_eq!(places.len(), operation["parameters"].as_array().unwrap().len(), "{about}");
        for name in path.split(['{', '}']).skip(1).step_by(2) {
            assert!(places.contains(&("path", name)), "{about}: {name}");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!((200..=599).contains(&status.parse::<u16>().unwrap()), "{about}: {status}");
            let response = resolved(&document, response);
            assert!(!response["description"].as_str().unwrap().is_empty(), "{about}: {status}");
        }
    }
    every_reference_leads_somewhere(&document, &document);
}

/// Generators of clients fail at enums of another form, and give an object without a name one that nobody guesses.
#[tokio::test(start_paused = true)]
async fn enums_are_plain_and_every_object_has_a_name_for_clients_to_be_generated() {
    let document = document(&harness().await).await;
    for (path, method, operation) in operations(&document) {
        let body = operation["requestBody"]["content"]["application/json"].get("schema");
        let answer = operation["responses"]["200"]["content"]["application/json"].get("schema");
        for schema in body.into_iter().chain(answer).filter(|_| path != "/openapi.json") {
            assert!(schema["$ref"].is_string(), "{method} {path}: {schema}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let is_letters = name.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(is_letters && name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
        let within = schema.as_object().unwrap().iter().filter(|(key, _)| *key != "enum");
        within.for_each(|(key, value)| nothing_nameless(value, &format!("{name}.{key}")));
    }
}

fn nothing_nameless(value: &Value, at: &str) {
    assert!(value.get("oneOf").is_none(), "{at}: anyOf or an enum says it: {value}");
    let is_schema = value.get("type").is_some_and(|t| t.is_string() || t.is_array());
    let of_its_own = value.get("properties").is_some() || value.get("enum").is_some();
    assert!(!is_schema || value["type"] == "boolean" || !of_its_own, "{at} has no name: {value}");
    let all: Vec<(String, &Value)> = match value {
        Value::Object(all) => all.iter().map(|(key, value)| (format!("{at}.{key}"), value)).collect(),
        Value::Array(all) => all.iter().map(|value| (format!("{at}[]"), value)).collect(),
        _ => Vec::new(),
    };
    all.into_iter().for_each(|(at, value)| nothing_nameless(value, &at));
}

fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(place) => document
            .pointer(place.strip_prefix('#').unwrap())
            .unwrap_or_else(|| panic!("{place} leads nowhere")),
        None => value,
    }
}

fn every_reference_leads_somewhere(document: &Value, value: &Value) {
    resolved(document, value);
    let within: Vec<&Value> = match value {
        Value::Array(all) => all.iter().collect(),
        Value::Object(all) => all.values().collect(),
        _ => Vec::new(),
    };
    within.into_iter().for_each(|v| every_reference_leads_somewhere(document, v));
}

/// The statuses that README's table tells of.
fn readme_statuses() -> BTreeSet<String> {
    let table = README.split("| status | when |\n").nth(1).expect("README has a table of statuses");
    let rows = table.lines().skip(1).take_while(|l| l.starts_with('|'));
    let cells = rows.map(|l| l.split('|').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    cells.iter().flat_map(|c| c.split(',')).map(|s| s.trim().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_statuses_are_those_of_the_readme() {
    let document = document(&harness().await).await;
    let mut described: BTreeSet<String> =
        document["components"]["responses"].as_object().unwrap().keys().cloned().collect();
    for (_, _, operation) in operations(&document) {
        described.extend(operation["responses"].as_object().unwrap().keys().cloned());
    }
    assert_eq!(described, readme_statuses());
}

/// A request as `curl` would send it: the few options that the examples use.
fn parsed(line: &str) -> (String, String, Option<String>, Option<String>) {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    let mut words = words.into_iter();
    assert_eq!(words.next().as_deref(), Some("curl"), "{line}");
    let (mut method, mut target, mut accept, mut body) = (None, None, None, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap();
        match word.as_str() {
            "-X" => method = Some(value()),
            "-H" => accept = Some(value().strip_prefix("Accept: ").unwrap().to_owned()),
            "-d" => body = Some(value()),
            url => target = Some(url.strip_prefix(ADDRESS).unwrap_or_else(|| panic!("{line}")).to_owned()),
        }
    }
    let usual = if body.is_some() { "POST" } else { "GET" };
    (method.unwrap_or_else(|| usual.to_owned()), target.unwrap(), accept, body)
}

#[tokio::test(start_paused = true)]
async fn a_bodys_schema_takes_what_the_call_takes() {
    let harness = harness().await;
    let document = document(&harness).await;
    let schema = &document["paths"]["/gum/v1/gr/{name}/plan"]["post"]["requestBody"]["content"]["application/json"]
        ["schema"];
    let rolling = |options: Value| json!({ "strategy": "RollingUpdate", "rollingUpdate": options });
    let bodies = [
        json!({}),
        json!({ "file": 1 }),
        json!({ "revision": "1" }),
        json!({ "strategy": null, "rollingUpdate": null, "reason": null }),
        json!({ "strategy": "Rolling" }),
        json!({ "strategy": "Recreate", "onFailure": "Rollback" }),
        json!({ "onFailure": null }),
        json!({ "onFailure": "hold" }),
        json!({ "components": ["driver"] }),
        json!({ "components": "driver" }),
        json!({ "components": null }),
        json!({ "unknown": true }),
        json!({ "set": { "driver.version": "1.3.0" } }),
        json!({ "set": { "driver.version": 1 } }),
        json!({ "set": "driver.version=1" }),
        json!({ "accept": ["MutableTag"] }),
        json!({ "accept": ["Nonsense"] }),
        json!({ "accept": "MutableTag" }),
        json!({ "reason": "x".repeat(1024) }),
        json!({ "reason": "x".repeat(1025) }),
        json!({ "deadlines": { "gone": "90s", "create": 60, "running": "1h30m", "propagate": null } }),
        json!({ "deadlines": null }),
        json!({ "deadlines": { "gone": 0 } }),
        json!({ "deadlines": { "gone": -1 } }),
        json!({ "deadlines": { "gone": 1.5 } }),
        json!({ "deadlines": { "gone": 604800 } }),
        json!({ "deadlines": { "gone": 604801 } }),
        json!({ "deadlines": { "never": "1m" } }),
        rolling(json!({ "maxUnavailable": 3 })),
        rolling(json!({ "maxUnavailable": "3" })),
        rolling(json!({ "maxUnavailable": "25%" })),
        rolling(json!({ "maxUnavailable": "100%" })),
        rolling(json!({ "maxUnavailable": "101%" })),
        rolling(json!({ "maxUnavailable": "0%" })),
        rolling(json!({ "maxUnavailable": 0 })),
        rolling(json!({ "maxUnavailable": "all" })),
        rolling(json!({ "maxUnavailable": { "nodes": 1 } })),
        rolling(json!({ "canary": 1 })),
        rolling(json!({ "canary": "10%" })),
        rolling(json!({ "canary": "pool=a,zone=b" })),
        rolling(json!({ "canary": { "pool": "canary" } })),
        rolling(json!({ "canary": {} })),
        rolling(json!({ "canary": { "pool": 1 } })),
        rolling(json!({ "canary": true })),
        rolling(json!({ "canary": { "nodes": 2, "promote": "AfterSoak", "soak": "1h" } })),
        rolling(json!({ "canary": { "nodes": 0 } })),
        rolling(json!({ "canary": { "nodes": 1, "promote": "Never" } })),
        rolling(json!({ "canary": { "coverage": { "keys": ["kernelVersion", "a.b/c"], "perClass": 2 } } })),
        rolling(json!({ "canary": { "coverage": { "keys": [] } } })),
        rolling(json!({ "canary": { "coverage": { "keys": ["a"], "perClass": 11 } } })),
        rolling(json!({ "canary": { "coverage": {} } })),
        rolling(json!({ "batches": [1, "10%"] })),
        rolling(json!({ "batches": [0] })),
        rolling(json!({ "batches": 2 })),
        rolling(json!({ "breaker": { "sameCause": 2 }, "failureThreshold": 3 })),
        rolling(json!({ "breaker": { "sameCause": 1 }, "failureThreshold": 3 })),
        rolling(json!({ "breaker": {} })),
        rolling(
            json!({ "gangs": { "tooBig": "Split", "noRestartLeft": "Restart", "keys": ["ray.io/cluster"] } }),
        ),
        rolling(json!({ "gangs": { "noRestartLeft": "Never" } })),
        rolling(json!({ "order": "Topology", "topologyKey": "rack" })),
        rolling(json!({ "nodeSelector": "a=b" })),
        rolling(json!({ "nodeSelector": "a==b" })),
        rolling(json!({ "nodeSelector": "a=" })),
        rolling(json!({ "nodeSelector": "a" })),
        rolling(json!({ "nodeSelector": "=b" })),
        rolling(json!({ "nodeSelector": "a!=b" })),
        rolling(json!({ "nodeSelector": "a=b," })),
        rolling(json!({ "nodeSelector": 1 })),
        rolling(json!({ "manual": true })),
        rolling(json!({ "rollingManually": true })),
        rolling(json!({ "manual": "yes" })),
        rolling(json!({ "pauseBetween": "5m" })),
        rolling(json!({ "upgradeDuration": 300 })),
        rolling(json!({ "minReadySeconds": 30, "order": "Name" })),
        rolling(json!({ "order": "Random" })),
        rolling(json!({ "failureThreshold": 2 })),
        rolling(json!({ "failureThreshold": 0 })),
        rolling(json!({ "drain": { "timeout": "1h", "onTimeout": "Skip", "deleteEmptyDirData": true } })),
        rolling(json!({ "drain": { "podSelector": { "app": "x" } } })),
        rolling(json!({ "drain": { "onTimeout": "Wait" } })),
        rolling(json!({ "drain": true })),
        rolling(json!({ "waitForJobs": { "selector": "app=x", "timeout": "2h" } })),
        rolling(json!({ "waitForJobs": { "timeout": "2h" } })),
        rolling(json!({ "parallel": 3 })),
    ];
    for mut body in bodies {
        if body.get("file").is_none() {
            body["file"] = json!("gr-full.yaml");
        }
        let answer = harness.must("POST", "/gum/v1/gr/enflame-gcu-resource/plan", &body.to_string()).await;
        assert!(matches!(answer.status.as_u16(), 200 | 400), "{body}: {}", answer.text);
        let wrong = errors(&document, schema, &body, Open);
        assert_eq!(answer.status == 200, wrong.is_empty(), "{body}: {}\n{wrong:#?}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_open_to_all_asks_for_no_token_and_all_else_does() {
    let mut harness = Harness::set_without_service(
        Backend::Sandbox,
        World { nodes: 1, ..World::default() },
        Faults::new(Vec::new()),
    )
    .await
    .unwrap();
    harness.adjust = Box::new(|parts| parts.auth = gcu_upgrade_manager::api::auth::Mode::Kubernetes);
    harness.start_service().await;
    harness.ready().await;
    let document = document(&harness).await;
    for (path, method, operation) in operations(&document) {
        let (_, target, _, body) = parsed(operation["x-codeSamples"][0]["source"].as_str().unwrap());
        let answer = harness.must(&method, &target, &body.unwrap_or_default()).await;
        let open = operation["x-permission"] == "none";
        assert_eq!(answer.status == 401, !open, "{method} {path}: {}", answer.text);
        assert_eq!(operation["security"] == json!([]), open, "{method} {path}");
        assert_eq!(operation["responses"].get("401").is_some(), !open, "{method} {path}");
    }
}
