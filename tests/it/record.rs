//! The record's CRD: what its schema lets in can be read, and what is nonsense the API server itself refuses.

use std::time::Duration;

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::record::rolling::Amount;
use gcu_upgrade_manager::record::{GcuUpgrade, crd};
use gcu_upgrade_manager::sandbox::apiserver::ApiServer;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use proptest::prelude::*;
use regex::Regex;
use serde_json::{Map, Value, json};
use tokio::time::sleep;

fn schema() -> Value {
    let crd = serde_json::to_value(crd()).unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
}

/// Values that a schema without properties lets in, the extreme ones among them; the first is a plain one.
fn samples(schema: &Value, path: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    if let Some(allowed) = schema["enum"].as_array() {
        all.extend(allowed.iter().filter(|v| !v.is_null()).cloned());
    } else if schema["x-kubernetes-int-or-string"] == true || schema["type"] == "integer" {
        for bound in ["minimum", "maximum"] {
            let number = schema[bound].as_f64().unwrap_or_else(|| panic!("{path} has no {bound}"));
            all.push(json!(number as i64));
        }
    }
    let is_text = schema["x-kubernetes-int-or-string"] == true || schema["type"] == "string";
    if is_text && schema["enum"].is_null() {
        let pattern = Regex::new(schema["pattern"].as_str().unwrap_or_default()).unwrap();
        let texts = [
            "2026-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "9999-12-30T21:59:59.999999999Z",
            "22:00",
            "00:00",
            "23:59",
            "24:00",
            "2026-01-01T00:00",
            "2000-02-29T00:00",
            "2199-12-31T23:59",
            "2027-02-29T00:00",
            "1%",
            "100%",
            "999999999",
            "anything",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "",
            "true",
            "7",
        ];
        all.extend(texts.iter().filter(|text| pattern.is_match(text)).map(|text| json!(text)));
    }
    match schema["type"].as_str() {
        Some("boolean") => all.extend([json!(true), json!(false)]),
        Some("object") => all.push(json!({})),
        _ => {}
    }
    assert!(!all.is_empty(), "no sample for {path}: {schema}");
    if schema["nullable"] == true {
        all.push(Value::Null);
    }
    all
}

/// A value with everything in it that the schema knows; `leaves` gets each leaf's path and what else it may be.
fn full(schema: &Value, path: &str, leaves: &mut Vec<(String, Vec<Value>)>) -> Value {
    if let Some(properties) = schema["properties"].as_object() {
        let field = |(name, schema): (&String, &Value)| {
            (name.clone(), full(schema, &format!("{path}/{name}"), leaves))
        };
        return properties.iter().map(field).collect::<Map<String, Value>>().into();
    }
    if let Some(labels) = schema.get("additionalProperties").filter(|s| s.is_object()) {
        return json!({ "key": full(labels, &format!("{path}/key"), leaves) });
    }
    if schema["items"].is_object() {
        return json!([full(&schema["items"], &format!("{path}/0"), leaves)]);
    }
    let all = samples(schema, path);
    leaves.push((path.to_owned(), all.clone()));
    all[0].clone()
}

#[test]
fn every_record_that_the_schema_lets_in_can_be_read() {
    let schema = schema();
    let mut leaves = Vec::new();
    let mut record = full(&schema, "", &mut leaves);
    record["apiVersion"] = json!("gum.enflame.com/v1");
    record["kind"] = json!("GcuUpgrade");
    record["metadata"] = json!({ "name": "x-1" });
    assert!(leaves.len() > 100, "{}", leaves.len());
    for (path, values) in
        leaves.iter().filter(|(path, _)| path.starts_with("/spec") || path.starts_with("/status"))
    {
        for value in values {
            let mut changed = record.clone();
            *changed.pointer_mut(path).unwrap() = value.clone();
            let read = serde_json::from_value::<GcuUpgrade>(changed);
            assert!(read.is_ok(), "{path} = {value}: {}", read.unwrap_err());
        }
    }
}

#[test]
fn a_record_with_nothing_but_what_the_schema_requires_can_be_read() {
    fn least(schema: &Value, path: &str) -> Value {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let Some(properties) = schema["properties"].as_object() else {
            return full(schema, path, &mut Vec::new());
        };
        let field = |name: &Value| {
            let name = name.as_str().unwrap();
            (name.to_owned(), least(&properties[name], &format!("{path}/{name}")))
        };
        required.iter().map(field).collect::<Map<String, Value>>().into()
    }
    /// Every optional object, with the least that may be in it.
    fn each(schema: &Value, record: &Value, path: &str) {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{path}/{name}");
            if at == "/metadata" {
                continue;
            }
            let items = &schema["items"];
            let inner = if items.is_object() { items } else { schema };
            if inner["properties"].is_null() {
                continue;
            }
            let mut with = record.clone();
            let value = least(inner, &at);
            let value = if items.is_object() { json!([value]) } else { value };
            with.pointer_mut(path).unwrap().as_object_mut().unwrap().insert(name.clone(), value);
            let read = serde_json::from_value::<GcuUpgrade>(with.clone());
            assert!(read.is_ok(), "{at}: {}", read.unwrap_err());
            each(inner, &with, &if items.is_object() { format!("{at}/0") } else { at });
        }
    }
    let schema = schema();
    let mut record = least(&schema, "");
    record["metadata"] = json!({ "name": "x-1" });
    serde_json::from_value::<GcuUpgrade>(record.clone()).unwrap();
    each(&schema, &record, "");
}

proptest! {
    #[test]
    fn the_schema_lets_in_no_amount_that_cannot_be_read(text in "[0-9]{0,11}%?|.{0,5}") {
        let amount = serde_json::to_value(schemars::schema_for!(Amount)).unwrap();
        let pattern = Regex::new(amount["pattern"].as_str().unwrap()).unwrap();
        let is_short = text.trim_end_matches('%').len() <= 9 && !text.starts_with('0');
        let read = serde_json::from_value::<Amount>(json!(text)).is_ok();
        prop_assert_eq!(pattern.is_match(&text), read && is_short, "{:?}", text);
    }
}

async fn install(client: &Client) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("test").force();
    let served =
        crds.patch(&crd().name_any(), &apply, &Patch::Apply(crd())).await.expect("the CRD is accepted");
    // A schema that is not structural is stored, and said here.
    for _ in 0..50 {
        let now = crds.get(&served.name_any()).await.unwrap();
        let conditions = now.status.and_then(|s| s.conditions).unwrap_or_default();
        assert!(conditions.iter().all(|c| c.type_ != "NonStructuralSchema"), "{conditions:?}");
        if conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_millis(500)).await;
}

/// Patches a record's field to each of these values; which of them the API server refuses with 422.
async fn refused(records: &Api<GcuUpgrade>, patch: impl Fn(&Value) -> Value, values: &[Value]) -> Vec<Value> {
    let mut refused = Vec::new();
    for value in values {
        let patch = Patch::Merge(patch(value));
        let Patch::Merge(fields) = &patch else { unreachable!() };
        let done = if fields.get("status").is_some() {
            records.patch_status("limits-1", &PatchParams::default(), &patch).await
        } else {
            records.patch("limits-1", &PatchParams::default(), &patch).await
        };
        match done {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 422 => refused.push(value.clone()),
            Err(error) => panic!("{value}: {error}"),
        }
    }
    refused
}

async fn with_record(client: &Client) -> Api<GcuUpgrade> {
    install(client).await;
    let records: Api<GcuUpgrade> = Api::all(client.clone());
    let record = json!({
        "metadata": { "name": "limits-1" },
        "spec": { "gr": "limits", "operation": "Upgrade", "target": { "manifest": {} }, "rollingUpdate": {} },
    });
    records.create(&PostParams::default(), &serde_json::from_value(record).unwrap()).await.unwrap();
    records
}

fn unavailable(value: &Value) -> Value {
    json!({ "spec": { "rollingUpdate": { "maxUnavailable": value } } })
}

#[tokio::test(start_paused = true)]
async fn the_sandbox_refuses_numbers_that_cannot_be_read() {
    let client = ApiServer::new(Clock::following_tokio("2026-01-01T00:00:00Z".parse().unwrap())).client();
    let records = with_record(&client).await;
    let bad = [json!(0), json!(-1), json!(4_294_967_296_u64), json!(1.5), json!(true)];
    assert_eq!(refused(&records, unavailable, &bad).await, bad);
    assert!(refused(&records, unavailable, &[json!(1), json!("25%"), json!("3")]).await.is_empty());
    let granted = |value: &Value| json!({ "spec": { "granted": value } });
    assert_eq!(refused(&records, granted, &[json!(4_294_967_296_u64)]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server_takes_the_schema_and_refuses_what_cannot_be_read() {
    let Some(real) = crate::kube::real().await else { return };
    let _alone = crate::kube::ALONE.lock().await;
    let records = with_record(&real.client().await).await;
    let bad = [
        json!("150%"),
        json!(0),
        json!("abc"),
        json!(-1),
        json!("0"),
        json!("0%"),
        json!("-1"),
        json!("101%"),
        json!(""),
        json!("1.5"),
        json!(1.5),
        json!("%"),
        json!(4_294_967_296_u64),
        json!("4294967296"),
        json!(" 1"),
    ];
    assert_eq!(refused(&records, unavailable, &bad).await, bad);
    let good = [json!(1), json!("1%"), json!("100%"), json!("3"), json!(999_999_999)];
    assert!(refused(&records, unavailable, &good).await.is_empty());
    let canary = |value: &Value| json!({ "spec": { "rollingUpdate": { "canary": { "nodes": value } } } });
    assert_eq!(refused(&records, canary, &bad).await, bad);
    let deadline = |value: &Value| json!({ "status": { "deadline": value } });
    let times = [json!("soon"), json!("2026-02-30T00:00:00Z"), json!("2026-01-01T24:00:00Z"), json!("")];
    assert_eq!(refused(&records, deadline, &times).await, times);
    let fine = [json!("2026-01-01T00:00:06.839Z"), json!("2026-01-01T00:00:00Z"), Value::Null];
    assert!(refused(&records, deadline, &fine).await.is_empty());
    records.delete("limits-1", &DeleteParams::default()).await.unwrap();
}
