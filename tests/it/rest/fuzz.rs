//! Requests that nobody would write: whatever is sent, the answer is one of ours, and nothing of the cluster is reached
//! that the call is not about. `tests/fuzz` has the same check as a target for coverage-guided fuzzing.

use gcu_upgrade_manager::sandbox::world::World;
use http::HeaderValue;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::{Builder, Runtime};

use super::*;

/// Parts of paths that have led elsewhere in other services, and ordinary ones.
const SEGMENTS: [&str; 39] = [
    "gum",
    "v1",
    "gr",
    "enflame-gcu-resource",
    "resource",
    "driver",
    "plan",
    "pause",
    "resume",
    "cancel",
    "promote",
    "rollback",
    "retry",
    "status",
    "why",
    "nodes",
    "node-1",
    "skip",
    "close",
    "history",
    "1",
    "upgrades",
    "events",
    "blueprints",
    "gr.json",
    "metrics",
    "version",
    "..",
    "%2e%2e%2f",
    "%252e%252e",
    "%00",
    "%5c..%5c",
    "a%2fb",
    "%3fx=y",
    "%23",
    "etc",
    "passwd",
    "%ef%bc%8e%ef%bc%8e",
    "",
];

const BODIES: [&str; 10] = [
    "",
    "{}",
    r#"{"file": "gr.json"}"#,
    r#"{"file": "../gr.json"}"#,
    r#"{"file": "gr.json", "strategy": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "0%"}}"#,
    r#"{"policy": "foreground"}"#,
    r#"{"revision": 18446744073709551616}"#,
    r#"{"deadlines": {"gone": "-1s"}}"#,
    "[]",
    "\u{feff}\"\\ud800\"",
];

#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn arbitrary() -> impl Strategy<Value = Asked> {
    let method = prop_oneof![
        4 => prop::sample::select(vec!["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH",
            "OPTIONS"]).prop_map(str::to_owned),
        1 => "[A-Z]{1,12}",
    ];
    let segment = prop_oneof![
        6 => prop::sample::select(SEGMENTS.to_vec()).prop_map(str::to_owned),
        1 => "[!-~&&[^#? \"<>\\\\^`{|}]]{0,12}",
    ];
    let query = prop_oneof![
        4 => Just(String::new()),
        1 => prop::sample::select(vec!["?wait=1s", "?dryRun=true", "?wait=-1", "?all=true&all=true", "?%zz", "?a=b"])
            .prop_map(str::to_owned),
        1 => "\\?[!-~&&[^#]]{0,20}",
    ];
    let path =
        (prop::collection::vec(segment, 0..7), query, any::<bool>()).prop_map(|(segments, query, known)| {
            let start = if known { "/gum/v1/gr/enflame-gcu-resource/" } else { "/" };
            format!("{start}{}{query}", segments.join("/"))
        });
    let names = vec![
        "accept",
        "content-type",
        "content-encoding",
        "origin",
        "host",
        "last-event-id",
        "authorization",
        "x-request-id",
        "content-length",
        "expect",
        "sec-fetch-site",
        "user-agent",
    ];
    let value = prop_oneof![
        2 => prop::sample::select(vec!["text/plain", "gzip", "null", "http://evil", "Mozilla/5.0",
            "99999999999999999999"])
            .prop_map(|v| v.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..24),
    ];
    let headers = prop::collection::vec((prop::sample::select(names).prop_map(str::to_owned), value), 0..5);
    let body = prop_oneof![
        4 => prop::sample::select(BODIES.to_vec()).prop_map(|b| b.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    (method, path, headers, body).prop_map(|(method, path, headers, body)| Asked {
        method,
        path,
        headers,
        body,
    })
}

/// What can be sent at all: what hyper would have refused by itself is left out.
fn request(asked: &Asked) -> Option<Request<Body>> {
    let mut request = Request::builder().method(asked.method.as_str()).uri(&asked.path);
    for (name, value) in &asked.headers {
        request = request.header(name, HeaderValue::from_bytes(value).ok()?);
    }
    request.body(Body::from(asked.body.clone())).ok()
}

/// The parts of the Kubernetes API that the service has any business with.
const ITS_BUSINESS: [&str; 12] = [
    "/apis/topsops.enflame.com/v1",
    "/apis/gum.enflame.com/v1/gcuupgrades",
    "/apis/apps/v1/",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/policy/",
    "/api/v1/nodes",
    "/api/v1/pods",
    "/api/v1/namespaces/",
    "/api/v1?",
    "/apis?",
    "/apis",
    "/version",
];

async fn check(harness: &Harness, asked: &Asked) {
    let Some(request) = request(asked) else { return };
    let before = harness.faults.calls().len();
    let answer = harness.ask(request).await.unwrap();
    let status = answer.status.as_u16();
    assert!((200..500).contains(&status) || matches!(status, 500 | 503 | 504), "{status}");
    let content_type = answer.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
    if content_type.starts_with("application/json")
        && asked.method != "HEAD"
        && answer.json().get("openapi").is_none()
    {
        let envelope = answer.json();
        let failed = envelope["result"] == "Failed";
        assert!(failed != (200..300).contains(&status), "{status}: {}", answer.text);
        assert!(!failed || envelope["error"].as_str().is_some_and(|e| !e.is_empty()), "{}", answer.text);
    }
    assert!(answer.headers.contains_key("x-request-id"));
    let secret = answer.text.contains("root:x:0:0");
    assert!(!secret, "a file of the system was read");
    for call in harness.faults.calls().iter().skip(before) {
        let path = call.path.as_str();
        assert!(ITS_BUSINESS.iter().any(|b| path.starts_with(b)), "reached {} {path}", call.method);
        assert!(!path.contains("..") && !path.contains("%2f") && !path.contains("//"), "{path}");
    }
}

#[test]
fn whatever_is_sent_the_answer_is_one_of_ours_and_nothing_else_of_the_cluster_is_reached() {
    let runtime: Runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let harness = runtime.block_on(async {
        let harness = harness_of(World { nodes: 1, ..World::default() }).await;
        harness.world.change_operator(|o| o.finalizer_stuck = true);
        harness
    });
    let config = Config { cases: 3000, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&arbitrary(), |asked| {
        runtime.block_on(check(&harness, &asked));
        Ok(())
    });
    outcome.unwrap();
    let _inside = runtime.enter();
    drop(harness);
}
