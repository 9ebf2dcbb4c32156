//! What is sent to each kind of receiver, and what their documented answers mean.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gcu_upgrade_manager::notifications::config::Sink;
use gcu_upgrade_manager::notifications::sink::{Failure, Message, Now};
use ring::hmac;
use serde_json::{Value, json};

use super::*;

fn sent(sink: &Sink, events: &[Event]) -> (Request<Bytes>, usize) {
    let Message { events, request } = message(sink, events);
    (request.unwrap(), events.len())
}

fn message(sink: &Sink, events: &[Event]) -> Message {
    let at = "2026-01-01T10:30:00.250Z".parse().unwrap();
    let now = Now { at, external_url: Some("https://gcu.example") };
    sink.message(&events.iter().cloned().map(Arc::new).collect::<Vec<_>>(), now).unwrap()
}

fn json_of(request: &Request<Bytes>) -> Value {
    serde_json::from_slice(request.body()).unwrap()
}

fn mac(key: &str, text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes())
}

#[test]
fn a_webhook_is_sent_one_signed_cloud_event() {
    let sink = sink("type: webhook\nurl: https://bus.test/in\nsecret: key\nbearerToken: tok");
    let both = [Event { by: Some("ann".into()), ..event(EventKind::Held) }, event(EventKind::Ended)];
    let (request, told) = sent(&sink, &both);
    assert_eq!((request.uri().to_string().as_str(), told), ("https://bus.test/in", 1));
    assert_eq!(request.headers()["content-type"], "application/cloudevents+json");
    assert_eq!(request.headers()["authorization"], "Bearer tok");
    assert!(request.headers()["authorization"].is_sensitive());
    let body = json_of(&request);
    let expected = json!({
        "specversion": "1.0", "id": "uid/held", "source": "/gum/v1/gr/pool", "type": "com.enflame.gum.held",
        "subject": "pool-3", "time": "2026-01-01T10:00:00Z", "datacontenttype": "application/json",
        "data": {
            "gr": "pool", "upgrade": "pool-3", "strategy": "RollingUpdate", "phase": "Running", "nodes": null,
            "node": null, "reason": "because", "by": "ann", "url": "https://gcu.example/ui/gr/pool",
        },
    });
    assert_eq!(body, expected);
    let signature = request.headers()["x-gum-signature"].to_str().unwrap();
    let hex: String = mac("key", std::str::from_utf8(request.body()).unwrap())
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(signature, format!("sha256={hex}"));
}

#[test]
fn chat_robots_are_sent_texts_in_their_own_forms() {
    let reason = |kind| Event { reason: "a < b & c".into(), ..event(kind) };
    let all = [reason(EventKind::Started), reason(EventKind::Held)];
    for (kind, path) in [
        ("slack", "/text"),
        ("wecom", "/text/content"),
        ("dingtalk", "/text/content"),
        ("feishu", "/content/text"),
    ] {
        let (request, told) = sent(&sink(&format!("type: {kind}\nurl: http://a.test/x")), &all);
        assert_eq!(told, 2, "a digest");
        let body = json_of(&request);
        let text = body.pointer(path).unwrap_or_else(|| panic!("{kind}: {body}")).as_str().unwrap();
        let because = if kind == "slack" { "a &lt; b &amp; c" } else { "a < b & c" };
        assert!(text.contains("has started\n") && text.contains("is held\n"), "{text}");
        assert_eq!(text.matches(because).count(), 2, "{kind}: {text}");
        let types = [&body["msgtype"], &body["msg_type"]];
        assert!(kind == "slack" || types.contains(&&json!("text")), "{body}");
    }
}

#[test]
fn dingtalk_and_feishu_are_signed_as_they_document() {
    let ding = sink("type: dingtalk\nurl: https://d.test/send?access_token=t\nsecret: SEC");
    let uri = sent(&ding, &[event(EventKind::Held)]).0.uri().to_string();
    let at = "1767263400250";
    let sign = STANDARD.encode(mac("SEC", &format!("{at}\nSEC")));
    let sign = sign.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    assert_eq!(uri, format!("https://d.test/send?access_token=t&timestamp={at}&sign={sign}"));
    let feishu = sink("type: feishu\nurl: https://f.test/hook/x\nsecret: SEC");
    let body = json_of(&sent(&feishu, &[event(EventKind::Held)]).0);
    assert_eq!(body["timestamp"], "1767263400");
    assert_eq!(body["sign"], STANDARD.encode(mac("1767263400\nSEC", "")));
}

fn alerts(events: &[Event]) -> Vec<(String, bool)> {
    let sink = sink("type: alertmanager\nurl: http://am.test:9093/\nlanguage: en");
    let request = message(&sink, events).request;
    let alerts = request.map(|request| {
        assert_eq!(request.uri(), "http://am.test:9093/api/v2/alerts");
        json_of(&request)
    });
    let all = alerts.unwrap_or(json!([]));
    let now: jiff::Timestamp = "2026-01-01T10:30:00.250Z".parse().unwrap();
    all.as_array()
        .unwrap()
        .iter()
        .map(|alert| {
            let time = |field: &str| alert[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
            assert!(time("startsAt") <= time("endsAt"), "{alert}");
            assert_eq!(alert["labels"]["gr"], "pool");
            (alert["labels"]["alertname"].as_str().unwrap().to_owned(), time("endsAt") > now)
        })
        .collect()
}

#[test]
fn alerts_are_raised_and_resolved() {
    let firing = |events: &[Event]| -> Vec<String> {
        alerts(events).into_iter().filter(|(_, fires)| *fires).map(|(name, _)| name).collect()
    };
    let resolved = |events: &[Event]| -> Vec<String> {
        alerts(events).into_iter().filter(|(_, fires)| !*fires).map(|(name, _)| name).collect()
    };
    assert_eq!(firing(&[event(EventKind::Held)]), ["GcuUpgradeIsHeld"]);
    assert!(resolved(&[event(EventKind::Resumed)]).contains(&"GcuUpgradeIsHeld".to_owned()));
    assert_eq!(
        firing(&[event(EventKind::Held), event(EventKind::Resumed)]),
        [""; 0],
        "what comes later stands"
    );
    let paused = [event(EventKind::Held), event(EventKind::Paused)];
    assert_eq!(firing(&paused), ["GcuUpgradeIsPaused"]);
    let failed = Event { phase: Phase::Failed, ..event(EventKind::Ended) };
    assert_eq!(firing(&[event(EventKind::NodeFailed), failed.clone()]), ["GcuUpgradeHasFailed"]);
    assert!(resolved(&[failed, event(EventKind::Started)]).contains(&"GcuUpgradeHasFailed".to_owned()));
    let kinds = [EventKind::AwaitingPromotion, EventKind::NodeFailed, EventKind::RollingBack];
    let succeeded = Event { phase: Phase::Succeeded, ..event(EventKind::Ended) };
    for raised in kinds.map(|kind| firing(&[event(kind)])) {
        assert_eq!(raised.len(), 1);
        assert!(resolved(std::slice::from_ref(&succeeded)).contains(&raised[0]), "{raised:?}");
    }
    assert_eq!(alerts(&[event(EventKind::WindowOpened)]), [], "nothing to say");
}

fn judged(kind: &str, (status, retry_after, body): Says) -> Result<(), Failure> {
    let retry_after = retry_after.map(Duration::from_secs);
    let answer = Answer { status: StatusCode::from_u16(status).unwrap(), retry_after, body: body.to_owned() };
    sink(&format!("type: {kind}\nurl: https://hooks.test/token-in-the-path?key=token-in-query"))
        .judge(&answer)
}

#[test]
fn the_body_decides_as_each_service_documents() {
    const OK: &str = "arrived";
    let passing = "tried again";
    let refused = "refused";
    for (kind, says, meaning) in [
        ("webhook", (202, None, ""), OK),
        ("webhook", (500, None, "oops"), passing),
        ("webhook", (401, None, ""), passing),
        ("webhook", (302, None, ""), passing),
        ("webhook", (422, None, "not a CloudEvent"), refused),
        ("slack", (200, None, "ok"), OK),
        ("slack", (200, None, "<html>sign in</html>"), passing),
        ("slack", (400, None, "invalid_payload"), refused),
        ("slack", (403, None, "action_prohibited"), passing),
        ("slack", (404, None, "no_service"), passing),
        ("slack", (429, Some(30), "rate_limited"), "tried again after 30 s"),
        ("wecom", (200, None, r#"{"errcode":0,"errmsg":"ok"}"#), OK),
        (
            "wecom",
            (200, None, r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#),
            "tried again after 60 s",
        ),
        ("wecom", (200, None, r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#), passing),
        ("wecom", (200, None, "<html>"), passing),
        ("dingtalk", (200, None, r#"{"errcode":0,"errmsg":"ok"}"#), OK),
        ("dingtalk", (200, None, r#"{"errcode":310000,"errmsg":"keywords not in content"}"#), passing),
        ("dingtalk", (200, None, r#"{"errcode":130101,"errmsg":"send too fast"}"#), "tried again after 60 s"),
        (
            "feishu",
            (200, None, r#"{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}"#),
            OK,
        ),
        ("feishu", (200, None, r#"{"StatusCode":0,"StatusMessage":"success"}"#), OK),
        ("feishu", (400, None, r#"{"code":9499,"msg":"Bad Request","data":{}}"#), refused),
        (
            "feishu",
            (200, None, r#"{"code":19021,"msg":"sign match fail or timestamp is not within one hour"}"#),
            passing,
        ),
        ("feishu", (200, None, r#"{"code":11232,"msg":"frequency limited"}"#), "tried again after 60 s"),
        ("alertmanager", (200, None, ""), OK),
        ("alertmanager", (400, None, r#""start time must be before end time""#), refused),
        ("alertmanager", (503, None, ""), passing),
    ] {
        let said = match judged(kind, says) {
            Ok(()) => OK.to_owned(),
            Err(Failure { refused: true, .. }) => refused.to_owned(),
            Err(Failure { pause: Some(pause), .. }) => format!("tried again after {} s", pause.as_secs()),
            Err(_) => passing.to_owned(),
        };
        assert_eq!(said, meaning, "{kind}: {says:?}");
    }
}

#[test]
fn what_a_receiver_answers_is_told_without_what_is_secret() {
    let body = "no hook token-in-the-path at hooks.test, key=token-in-query\n\u{1b}[31m";
    let message = judged("slack", (404, None, body)).unwrap_err().message;
    assert_eq!(message, "it answered 404 Not Found: no hook *** at ***, key=***  [31m");
    let long =
        judged("slack", (404, None, Box::leak("x".repeat(5000).into_boxed_str()))).unwrap_err().message;
    assert!(long.len() < 300);
}
