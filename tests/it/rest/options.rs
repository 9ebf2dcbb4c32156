//! Options of an upgrade whose defaults and refusals have a story: thresholds, readiness, what cannot be rolled.

use gcu_upgrade_manager::record::Phase;
use gcu_upgrade_manager::record::rolling::Amount;

use super::commands::{fleet, newer, rolling};
use super::*;

async fn dry(harness: &Harness, body: &Value) -> Answer {
    harness.must("PUT", &format!("{GR}?dryRun=true"), &body.to_string()).await
}

#[tokio::test(start_paused = true)]
async fn each_strategy_has_its_own_failure_threshold_and_the_answer_names_it() {
    let harness = fleet(2).await;
    let recreate = |value: Value| json!({ "file": "newer.json", "failureThreshold": value });
    let update = |value: Value| {
        json!({ "file": "newer.json", "strategy": "RollingUpdate",
        "rollingUpdate": { "failureThreshold": value } })
    };
    for value in [json!(3), json!("5%"), json!("100%")] {
        let answer = dry(&harness, &recreate(value.clone())).await;
        assert_eq!(answer.json()["content"]["failureThreshold"], value, "{}", answer.text);
        let answer = dry(&harness, &update(value.clone())).await;
        assert_eq!(answer.json()["content"]["rollingUpdate"]["failureThreshold"], value, "{}", answer.text);
        assert_eq!(answer.json()["content"]["failureThreshold"], Value::Null, "{}", answer.text);
    }
    assert_eq!(
        dry(&harness, &json!({ "file": "newer.json" })).await.json()["content"]["failureThreshold"],
        "10%"
    );
    let usual = dry(&harness, &json!({ "file": "newer.json", "strategy": "RollingUpdate" })).await.json();
    assert_eq!(usual["content"]["rollingUpdate"]["failureThreshold"], 1);
    let mut wrong = update(json!(1));
    wrong["strategy"] = json!("Recreate");
    let mut both = update(json!(1));
    both["failureThreshold"] = json!(1);
    for (body, says) in [
        (
            recreate(json!(0)),
            "failureThreshold: must be a number of nodes from 1, such as 3, or a percentage from \"1%\" to \
             \"100%\", not 0",
        ),
        (recreate(json!("101%")), "failureThreshold: must be a number of nodes from 1"),
        (
            recreate(json!("5")),
            "failureThreshold: \"5\" is a text without %: write 5 for a number of nodes, or \"5%\" for a percentage",
        ),
        (update(json!("5")), "rollingUpdate.failureThreshold: \"5\" is a text without %"),
        (recreate(json!(-1)), "failureThreshold: must be a number of nodes from 1"),
        (update(json!("0%")), "rollingUpdate.failureThreshold: must be a number of nodes from 1"),
        (wrong, "rollingUpdate.failureThreshold: has no meaning for strategy Recreate; use failureThreshold"),
        (
            both,
            "failureThreshold: has no meaning for strategy RollingUpdate; use rollingUpdate.failureThreshold",
        ),
    ] {
        let answer = dry(&harness, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(answer.error().contains(says), "{body}: {}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_recreates_threshold_is_in_the_record_and_goes_on_to_the_job_after_it() {
    let mut harness = fleet(2).await;
    let body = json!({ "file": "newer.json", "failureThreshold": "50%" }).to_string();
    assert_eq!(harness.must("PUT", GR, &body).await.status, 200);
    assert_eq!(harness.record(1).await.unwrap().spec.failure_threshold, Some(Amount::Percent(50)));
    let steered = harness.must("POST", &format!("{GR}/rollback"), r#"{"failureThreshold": 1}"#).await;
    assert_eq!(steered.status, 400, "{}", steered.text);
    assert!(steered.error().starts_with("failureThreshold: has no meaning here: an upgrade is under way"));
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    for (body, wanted) in [
        ("", Some(Amount::Percent(50))),
        (r#"{"failureThreshold": 2}"#, Some(Amount::Number(2))),
        (r#"{"strategy": "Recreate"}"#, Some(Amount::Percent(10))),
        (r#"{"strategy": "RollingUpdate"}"#, None),
    ] {
        let back = harness.must("POST", &format!("{GR}/rollback?wait=1h"), body).await;
        assert_eq!(back.status, 200, "{body}: {}", back.text);
        let name = back.json()["content"]["name"].as_str().unwrap().to_owned();
        let record = harness.records().get(&name).await.unwrap();
        assert_eq!(record.spec.failure_threshold, wanted, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn new_pods_are_watched_for_ten_seconds_unless_told_otherwise_and_zero_is_an_answer() {
    let harness = fleet(1).await;
    for (options, seconds) in [
        (json!({}), 10),
        (json!({ "minReadySeconds": 0 }), 0),
        (json!({ "minReadySeconds": "0" }), 0),
        (json!({ "minReadySeconds": "0s" }), 0),
        (json!({ "minReadySeconds": null }), 10),
        (json!({ "minReadySeconds": "1m" }), 60),
        (json!({ "minReadySeconds": 45 }), 45),
    ] {
        let body: Value = serde_json::from_str(&rolling(&options)).unwrap();
        let answer = dry(&harness, &body).await;
        assert_eq!(answer.status, 200, "{options}: {}", answer.text);
        assert_eq!(answer.json()["content"]["rollingUpdate"]["minReadySeconds"], seconds, "{options}");
    }
    for wrong in [json!(-1), json!("soon"), json!("0m0"), json!(604_801), json!(true)] {
        let body: Value = serde_json::from_str(&rolling(&json!({ "minReadySeconds": wrong }))).unwrap();
        let answer = dry(&harness, &body).await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
        assert!(answer.error().contains("rollingUpdate.minReadySeconds"), "{wrong}: {}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_of_what_cannot_be_told_for_certain_is_refused_before_there_is_a_record() {
    let harness = fleet(2).await;
    let mut moved = newer();
    moved["spec"]["driver"]["name"] = json!("another-driver");
    harness.write("newer.json", &moved.to_string());
    let body = rolling(&json!({}));
    let why = "component driver: spec.driver.name changes from";
    let planned = harness.must("POST", &format!("{GR}/plan"), &body).await;
    assert_eq!(planned.status, 200, "{}", planned.text);
    let warnings = planned.json()["content"]["plan"]["warnings"].to_string();
    assert!(warnings.contains("a RollingUpdate is refused: ") && warnings.contains(why), "{warnings}");
    assert_eq!(harness.must("PUT", &format!("{GR}?dryRun=true"), &body).await.status, 200);
    let refused = harness.must("PUT", GR, &body).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.error().starts_with("a RollingUpdate is refused: "), "{}", refused.text);
    assert!(refused.error().contains(why), "{}", refused.text);
    assert!(refused.error().ends_with("; use strategy Recreate"), "{}", refused.text);
    assert_envelope(&refused, "Upgrade", false);
    assert!(harness.record(1).await.is_none(), "nothing was started");
    let recreate = harness.must("PUT", GR, r#"{"file": "newer.json"}"#).await;
    assert_eq!(recreate.status, 200, "a Recreate needs no such thing: {}", recreate.text);
}
