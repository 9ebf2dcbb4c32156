//! Maintenance windows in requests: what is refused and by which field, what is recorded, what the plan says.

use gcu_upgrade_manager::api::maintenance;
use gcu_upgrade_manager::record::Phase;
use gcu_upgrade_manager::record::maintenance::{AtEnd, Day, Fit};

use super::commands::{fleet, newer};
use super::watching::label;
use super::*;

/// It is Thursday, the 1st of January 2026, 00:00 in UTC.
fn night() -> Value {
    json!({
        "timeZone": "Asia/Shanghai",
        "windows": [{
            "name": "night", "days": ["mon", "tue", "wed", "thu", "fri"], "start": "22:00", "duration": "8h",
        }],
    })
}

fn body(maintenance: &Value) -> Value {
    json!({ "file": "newer.json", "strategy": "RollingUpdate", "maintenance": maintenance })
}

/// The windows with one field set to another value.
fn with(field: &str, value: Value) -> Value {
    let mut windows = night();
    windows["exclusions"] = json!([{ "name": "e", "from": "2026-02-05T00:00", "to": "2026-02-06T00:00" }]);
    *windows.pointer_mut(field).unwrap_or_else(|| panic!("no {field}")) = value;
    windows
}

async fn put(harness: &Harness, query: &str, body: &Value) -> Answer {
    harness.must("PUT", &format!("{GR}{query}"), &body.to_string()).await
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_windows_is_told_by_its_field() {
    let harness = fleet(2).await;
    let mut nobody = night();
    nobody["windows"][0]["nodeSelector"] = json!({ "pool": "absent" });
    let mut two = night();
    two["windows"] = json!([two["windows"][0], two["windows"][0]]);
    let mut unknown = night();
    unknown["window"] = json!({});
    for (windows, status, says) in [
        (
            with("/timeZone", json!("Asia/Peking")),
            400,
            r#"maintenance.timeZone: \"Asia/Peking\" is not the IANA name of a time zone"#,
        ),
        (with("/windows", json!([])), 400, "maintenance.windows: without a window no node is ever taken"),
        (
            with("/windows/0/days", json!([])),
            400,
            "maintenance.windows[0].days: without a day it never opens",
        ),
        (
            with("/windows/0/days", json!(["friday"])),
            400,
            "maintenance.windows[0].days[0]: must be mon, tue, wed, thu, fri, sat or sun",
        ),
        (
            with("/windows/0/start", json!("24:00")),
            400,
            r#"maintenance.windows[0].start: \"24:00\" is not a time of day"#,
        ),
        (
            with("/windows/0/start", json!(1320)),
            400,
            r#"maintenance.windows[0].start: must be a time of day such as \"22:00\""#,
        ),
        (with("/windows/0/duration", json!("0s")), 400, "maintenance.windows[0].duration"),
        (
            with("/windows/0/duration", json!("59s")),
            400,
            "maintenance.windows[0].duration: must be at least 1m",
        ),
        (with("/windows/0/duration", json!("169h")), 400, "maintenance.windows[0].duration"),
        (with("/windows/0/name", json!("")), 400, "maintenance.windows[0].name: must be 1 to 63 bytes"),
        (two, 400, r#"maintenance.windows[1].name: \"night\" is the name of another one"#),
        (
            with("/exclusions/0/from", json!("2026-02-30T00:00")),
            400,
            r#"maintenance.exclusions[0].from: \"2026-02-30T00:00\" is not a local time"#,
        ),
        (
            with("/exclusions/0/to", json!("2026-02-05T00:00")),
            400,
            "maintenance.exclusions: e ends at 2026-02-05T00:00, which is not after 2026-02-05T00:00",
        ),
        (unknown, 400, "maintenance.window: no such field here"),
        (with("/exclusions/0/to", json!("2199-01-01T00:00")), 200, ""),
        (
            with(
                "/exclusions/0",
                json!({ "name": "always", "from": "2025-01-01T00:00", "to": "2027-06-01T00:00" }),
            ),
            422,
            "maintenance.windows: night does not open within a year, because of exclusions",
        ),
        (nobody, 422, "maintenance.windows: none is for node node-1 (and for 1 more nodes)"),
    ] {
        // An exclusion that begins late leaves windows before it.
        for query in ["?dryRun=true", ""] {
            if status == 200 && query.is_empty() {
                continue;
            }
            let answer = put(&harness, query, &body(&windows)).await;
            assert_eq!(answer.status, status, "{windows}: {}", answer.text);
            assert!(answer.text.contains(says), "{windows}: {}", answer.text);
        }
    }
    let recreate = json!({ "file": "newer.json", "maintenance": with("/windows/0/duration", json!("30m")) });
    let answer = put(&harness, "", &recreate).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("night lasts 30m, and this Recreate takes 45m"), "{}", answer.text);
    let mut pool = night();
    pool["windows"][0]["nodeSelector"] = json!({ "pool": "a" });
    let answer = put(&harness, "", &json!({ "file": "newer.json", "maintenance": pool })).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("a Recreate takes all nodes down"), "{}", answer.text);
    assert!(harness.record(1).await.is_none(), "nothing was begun");
}

#[tokio::test(start_paused = true)]
async fn windows_are_in_the_record_and_in_every_view_of_it() {
    let harness = fleet(2).await;
    let answer = put(&harness, "", &body(&night())).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let said = answer.json()["content"]["maintenance"].clone();
    assert_eq!(said["windows"][0]["durationSeconds"], 28800, "{said}");
    assert_eq!((&said["atEnd"], &said["fit"]), (&json!("Finish"), &json!("p90")), "{said}");
    let spec = harness.record(1).await.unwrap().spec;
    let windows = spec.maintenance.unwrap();
    assert_eq!((windows.at_end, windows.fit), (AtEnd::Finish, Fit::P90));
    assert_eq!(windows.windows[0].days, [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri]);
    assert_eq!(spec.override_window, None);
    sleep(Duration::from_secs(60)).await;
    // Thursday 22:00 in Shanghai.
    let opens = "2026-01-01T14:00:00Z";
    let view = harness.must("GET", RECORD, "").await.json()["content"].clone();
    assert_eq!(view["phase"], "Running", "{view}");
    assert_eq!(view["waitingOn"]["reason"], "OutsideWindow", "{view}");
    assert_eq!(view["window"], json!({ "open": false, "opens": opens }), "{view}");
    assert_eq!(view["maintenance"], said, "{view}");
    let status = harness.must("GET", &format!("{GR}/status"), "").await.json()["content"].clone();
    assert!(status["message"].as_str().unwrap().contains("2026-01-01 22:00 Asia/Shanghai"), "{status}");
    let why = harness.must("GET", &format!("{GR}/why"), "").await.json()["content"].clone();
    let attention = why["attention"][0]["about"].as_str().unwrap();
    assert!(attention.contains("no maintenance window is open"), "{why}");
    let metrics = harness.must("GET", "/metrics", "").await.text;
    assert!(metrics.contains("\ngum_maintenance_window_open 0\n"), "{metrics}");
    let left = metrics.lines().find_map(|l| l.strip_prefix("gum_maintenance_window_opens_seconds ")).unwrap();
    let left: i64 = left.parse().unwrap();
    assert!((14 * 3600 - 120..14 * 3600).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn the_services_own_windows_are_copied_where_a_request_names_none() {
    let mut harness = fleet(2).await;
    harness.kill();
    let usual = maintenance::parse(&night().to_string()).unwrap();
    let service =
        harness.service_with(&Faults::new(Vec::new()), |parts| parts.maintenance = Some(usual.clone())).await;
    service.ready().await;
    let ask = async |method: &str, path: &str, body: Value| {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_string())).unwrap();
        Answer::of(service.router(), request).await
    };
    let plain = json!({ "file": "newer.json", "strategy": "RollingUpdate" });
    let answer = ask("PUT", &format!("{GR}?overrideWindow=ticket%207"), plain.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["content"]["overrideWindow"], "ticket 7");
    let spec = harness.record(1).await.unwrap().spec;
    assert_eq!(spec.maintenance, Some(usual.clone()), "they are known all the same");
    assert_eq!(spec.override_window.as_deref(), Some("ticket 7"));
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    // Going back waits for none.
    let back = ask("POST", &format!("{GR}/rollback?wait=1h"), json!({})).await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_eq!(harness.record(2).await.unwrap().spec.maintenance, None);
    let again = ask("PUT", GR, plain).await;
    assert_eq!(again.status, 200, "{}", again.text);
    let spec = harness.record(3).await.unwrap().spec;
    assert_eq!((spec.maintenance, spec.override_window), (Some(usual), None));
    assert!(!spec.took_before_seconds.is_empty(), "what nodes took is known by now");
}

#[tokio::test(start_paused = true)]
async fn a_reason_is_wanted_once_and_said() {
    let harness = fleet(2).await;
    let mut twice = body(&night());
    twice["overrideWindow"] = json!("ticket 7");
    let long = format!("?overrideWindow={}", "x".repeat(1025));
    let empty = {
        let mut body = body(&night());
        body["overrideWindow"] = json!(" ");
        body
    };
    for (query, body, says) in [
        ("?overrideWindow=ticket", &twice, "overrideWindow: is given in the query and in the body"),
        ("?overrideWindow=", &body(&night()), "overrideWindow: say why"),
        (long.as_str(), &body(&night()), "overrideWindow: at most 1024 bytes"),
        ("", &empty, "overrideWindow: say why"),
    ] {
        let answer = put(&harness, query, body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.error().contains(says), "{}", answer.text);
    }
    let started = put(&harness, "", &twice).await;
    assert_eq!(started.status, 200, "{}", started.text);
    let record = harness.record(1).await.unwrap();
    assert_eq!(record.spec.override_window.as_deref(), Some("ticket 7"));
    for (call, body, field) in [
        ("rollback", json!({ "maintenance": night() }), "maintenance"),
        ("rollback", json!({ "overrideWindow": "now" }), "overrideWindow"),
    ] {
        let answer = harness.must("POST", &format!("{GR}/{call}"), &body.to_string()).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.error().starts_with(&format!("{field}: has no meaning here")), "{}", answer.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_how_many_windows_it_takes_and_when_the_first_opens() {
    let mut harness = fleet(4).await;
    let plan = async |harness: &Harness, windows: &Value| {
        let answer = harness.must("POST", &format!("{GR}/plan"), &body(windows).to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["content"]["plan"]["windows"].clone()
    };
    let first = plan(&harness, &night()).await;
    assert_eq!((&first["open"], &first["opens"]), (&json!(false), &json!("2026-01-01T14:00:00Z")), "{first}");
    assert_eq!(first["count"], 1, "how long pods took to start is a guess: {first}");
    // Four nodes of two minutes each, one after the other: two fit into a window of five minutes.
    let slow = json!({
        "file": "newer.json", "strategy": "RollingUpdate", "rollingUpdate": { "minReadySeconds": "2m" },
    });
    assert_eq!(put(&harness, "", &slow).await.status, 200);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    harness.write("newer.json", &newest());
    let short = with("/windows/0/duration", json!("6m"));
    let said = plan(&harness, &short).await;
    assert_eq!(said["count"], 2, "{said}");
    let message = said["message"].as_str().unwrap();
    assert!(message.contains("it takes 2 windows"), "{message}");
    let text = {
        let request =
            Request::builder().method(Method::POST).uri(format!("{GR}/plan")).header("accept", "text/plain");
        harness.ask(request.body(Body::from(body(&short).to_string())).unwrap()).await.unwrap().text
    };
    assert!(text.contains("\nWindows ") && text.contains("it takes 2 windows"), "{text}");
    let answer = put(&harness, "", &body(&with("/windows/0/duration", json!("2m")))).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("night lasts 2m, and a node takes 2m"), "{}", answer.text);
}

/// A version later than that of `newer.json`.
fn newest() -> String {
    let mut gr = newer();
    for component in ["driver", "devicePlugin"] {
        gr["spec"][component]["version"] = json!("9.9.10");
    }
    gr.to_string()
}

#[tokio::test(start_paused = true)]
async fn why_names_the_nodes_that_wait_for_a_window() {
    let mut harness = fleet(3).await;
    for (node, pool) in [("node-1", "a"), ("node-2", "b"), ("node-3", "b")] {
        label(&harness, node, json!({ "metadata": { "labels": { "pool": pool } } })).await;
    }
    let windows = json!({ "timeZone": "UTC", "windows": [
        { "name": "a", "days": ["thu"], "start": "00:00", "duration": "20m", "nodeSelector": { "pool": "a" } },
        { "name": "b", "days": ["thu"], "start": "10:00", "duration": "20m", "nodeSelector": { "pool": "b" } },
    ] });
    assert_eq!(put(&harness, "", &body(&windows)).await.status, 200);
    let outside = |record: Option<&gcu_upgrade_manager::record::GcuUpgrade>| {
        let waiting = record.and_then(|r| r.status_or_default().waiting_on);
        waiting.is_some_and(|w| format!("{:?}", w.reason) == "OutsideWindow")
    };
    harness.until("the window of the others", 1, Duration::from_secs(3600), outside).await;
    let why = harness.must("GET", &format!("{GR}/why"), "").await.json()["content"].clone();
    let nodes = why["outsideWindow"].as_array().unwrap();
    let names: Vec<&str> = nodes.iter().map(|n| n["node"].as_str().unwrap()).collect();
    assert_eq!(names, ["node-2", "node-3"], "{why}");
    assert_eq!(nodes[0]["opens"], "2026-01-01T10:00:00Z");
    let timeline = harness.record(1).await.unwrap().status_or_default().timeline;
    assert!(
        timeline.iter().any(|e| e
            .message
            .starts_with("no maintenance window is open: the next opens at 2026-01-01 10:00")),
        "{timeline:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_waits_for_its_window_is_let_go_with_a_reason() {
    let mut harness = fleet(2).await;
    assert_eq!(put(&harness, "", &body(&night())).await.status, 200);
    sleep(Duration::from_secs(60)).await;
    let resume = format!("{GR}/resume");
    let plain = harness.must("POST", &resume, "").await;
    assert_eq!(plain.status, 409, "{}", plain.text);
    let over = harness.must("POST", &format!("{resume}?overrideWindow=ticket%207&wait=1h"), "").await;
    assert_eq!(over.status, 200, "{}", over.text);
    assert!(
        over.json()["content"]["effect"].as_str().unwrap().contains("outside of maintenance windows"),
        "{}",
        over.text
    );
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    assert_eq!(harness.record(1).await.unwrap().spec.override_window.as_deref(), Some("ticket 7"));
    let late = harness.must("POST", &format!("{resume}?overrideWindow=ticket"), "").await;
    assert_eq!(late.status, 409, "{}", late.text);
    assert_eq!(put(&harness, "", &json!({ "file": "newer.json", "force": true })).await.status, 200);
    let none = harness.must("POST", &format!("{resume}?overrideWindow=ticket"), "").await;
    assert_eq!(none.status, 409, "{}", none.text);
    assert!(none.error().contains("minds no maintenance window"), "{}", none.text);
}
