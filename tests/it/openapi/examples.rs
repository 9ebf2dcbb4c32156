//! Every example of the document, run as it stands there.

use gcu_upgrade_manager::record::Phase;
use http::Request;

use super::*;
use crate::harness::Answer;

/// Runs one example and holds its answer against the description. Returns what was answered.
async fn run(harness: &Harness, document: &Value, id: &str, name: &str) -> Answer {
    let all = operations(document);
    let (_, method, operation) = all.iter().find(|(_, _, o)| o["operationId"] == id).expect(id);
    let samples = operation["x-codeSamples"].as_array().unwrap();
    let sample = samples.iter().find(|s| s["x-name"] == name).unwrap_or_else(|| panic!("{id} {name}"));
    let line = sample["source"].as_str().unwrap();
    let (asked, target, accept, body) = parsed(line);
    assert_eq!(&asked, method, "{line}");
    if let Some(body) = &body {
        let body: Value = serde_json::from_str(body).unwrap();
        let content = &operation["requestBody"]["content"]["application/json"];
        assert_eq!(content["examples"][name]["value"], body, "{line}");
        assert_eq!(errors(document, &content["schema"], &body, Open), [""; 0], "{line}");
    }
    let mut request = Request::builder().method(asked.as_str()).uri(&target);
    if let Some(accept) = &accept {
        request = request.header("accept", accept);
    }
    let answer = harness.ask(request.body(Body::from(body.unwrap_or_default())).unwrap()).await.unwrap();
    assert_eq!(answer.status, 200, "{line}: {:.2000}", answer.text);
    let media = answer.headers["content-type"].to_str().unwrap().split(';').next().unwrap();
    let described = &operation["responses"]["200"]["content"][media];
    assert!(described.is_object(), "{line}: {media} is not described");
    let got = if media == "application/json" { answer.json() } else { json!(answer.text) };
    assert_eq!(
        errors(document, &described["schema"], &got, Closed),
        [""; 0],
        "{line}: {:.2000}",
        answer.text
    );
    let shown = &described["examples"][name]["value"];
    assert_eq!(
        errors(document, &described["schema"], shown, Closed)
            .iter()
            .filter(|e| !e.contains(" has no "))
            .count(),
        0,
        "{line}: its answer as shown: {shown}"
    );
    assert_eq!(unlike(shown, &got, ""), None, "{line}: {:.2000}", answer.text);
    answer
}

/// Where the example shows something that is not answered. Much is left out of examples, and values differ.
fn unlike(shown: &Value, got: &Value, at: &str) -> Option<String> {
    match (shown, got) {
        (Value::Object(shown), Value::Object(got)) => {
            shown.iter().find_map(|(name, value)| match got.get(name) {
                Some(got) => unlike(value, got, &format!("{at}.{name}")),
                None => Some(format!("{at}.{name} is not answered")),
            })
        }
        (Value::Array(shown), Value::Array(got)) => shown.iter().find_map(|one| {
            let fits = got.iter().any(|other| unlike(one, other, at).is_none());
            (!fits).then(|| format!("{at}[] has none like {one}"))
        }),
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => None,
        (shown, got) => (shown != got).then(|| format!("{at} is {got} and not {shown}")),
    }
}

#[tokio::test(start_paused = true)]
async fn every_example_works_as_it_stands_there() {
    let mut harness = harness().await;
    let document = document(&harness).await;
    let mut left: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        let samples = operation["x-codeSamples"].as_array().unwrap();
        assert!(!samples.is_empty(), "{method} {path} has no example");
        left.extend(samples.iter().map(|s| (id.clone(), s["x-name"].as_str().unwrap().to_owned())));
    }
    let first = "isAlive probe, isReady probe, getVersion version, getMetrics scrape, getOpenApi openapi, \
                 getDocs docs, listGrs all, getGr one, getWorkload driver, listBlueprints all, getBlueprint \
                 one, planUpgrade rolling, planUpgrade set, planUpgrade text, upgradeGr dry-run, upgradeGr \
                 windows, upgradeGr recreate";
    let then = "streamEvents follow, listUpgrades all, listUpgrades text, getUpgrade one, listHistory all, \
                getRevision one, rollbackGr last, upgradeGr rolling, getStatus status, getStatus text, \
                explainUpgrade why, explainUpgrade text, listNodes node, getFleet model, skipNode broken, \
                retryNode repaired, promoteUpgrade promote, pauseUpgrade pause, resumeUpgrade resume, \
                rollbackGr revision, cancelUpgrade cancel, retryUpgrade again";
    let last = "closeUpgrade close, deleteGr foreground";
    for (steps, upgrade) in [(first, Some(1)), (then, None), (last, None)] {
        if steps == last {
            let body = r#"{"file": "gr-full.yaml", "strategy": "RollingUpdate"}"#;
            let put = harness.must("PUT", "/gum/v1/gr/enflame-gcu-resource", body).await;
            assert_eq!(put.status, 200, "there is something to close: {}", put.text);
        }
        for step in steps.split(", ") {
            let (id, name) = step.trim().split_once(' ').unwrap();
            run(&harness, &document, id, name).await;
            assert!(left.remove(&(id.to_owned(), name.to_owned())), "{step} is there once");
        }
        if let Some(number) = upgrade {
            assert_eq!(harness.until_final(number).await, Phase::Succeeded);
        }
    }
    assert_eq!(left, BTreeSet::new(), "examples that were not run");
}
