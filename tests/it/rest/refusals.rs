//! What is refused, and that nothing is done for it.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::get;
use gcu_upgrade_manager::api::enveloped;
use gcu_upgrade_manager::metrics::Metrics;
use http::{Method, Request};

use super::*;

#[tokio::test]
async fn a_handler_that_panics_is_answered_500_in_the_envelope() {
    async fn panics() -> Response {
        panic!("index 3 of 2")
    }
    let router = enveloped(Router::new().route(GR, get(panics)), Metrics::default());
    let request = Request::get(GR).body(Body::empty()).unwrap();
    let answer = Answer::of(router, request).await;
    assert_eq!(answer.status, 500);
    assert_envelope(&answer, "Get", false);
    assert!(answer.error().contains("this service has a defect: its log says more"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_named_where_they_are() {
    let harness = harness().await;
    let put = "PUT {gr}";
    #[rustfmt::skip]
    let cases = [
        case("GET /", "", "Get", 404, "no such path; the service is at /gum/v1/gr"),
        case("GET /gum/v2/gr", "", "List", 404, "no such path"),
        case("GET /gum/v1/gr//", "", "Get", 400, "cannot be a name"),
        case("GET {gr}/resource", "", "Get", 404, "no such path"),
        case("GET /gum/v1/gr/absent", "", "Get", 404, r#"gcuresources.topsops.enflame.com \"absent\" not found"#),
        case("GET /gum/v1/gr/absent/history", "", "History", 404,
            r#"gcuresources.topsops.enflame.com \"absent\" not found"#),
        case("DELETE /gum/v1/gr/absent", "", "Delete", 404, r#"gcuresources.topsops.enflame.com \"absent\" not found"#),
        case("PUT /gum/v1/gr/absent", PUT_BODY, "Upgrade", 404,
            r#"gcuresources.topsops.enflame.com \"absent\" not found"#),
        case("GET {gr}/resource/nonsense", "", "Get", 404, "it has: nfd, driver, toolkit, devicePlugin, \
                                                            exporter, gfd, nightingale"),
        case("GET /gum/v1/upgrades/absent-1", "", "Get", 404, r#"gcuupgrades.gum.enflame.com \"absent-1\" not found"#),
        case("GET /gum/v1/blueprints/gr.txt", "", "Get", 400, "ends in .json, .yaml or .yml"),
        case(put, "", "Upgrade", 400, "file: the name of the blueprint to upgrade to is missing"),
        case(put, "{}", "Upgrade", 400, "file: the name of the blueprint"),
        case(put, r#"{"file": ""}"#, "Upgrade", 400, "it is empty"),
        case(put, r#"{"file": "absent.json"}"#, "Upgrade", 404,
            r#"there is no blueprint \"absent.json\"; there are: gr.json"#),
        case(put, r#"{"file": "gr.json""#, "Upgrade", 400, "not valid JSON: EOF while parsing an object at \
                                                            line 1 column 18"),
        case(put, "file=gr.json", "Upgrade", 400, "at line 1 column 2"),
        case(put, r#"["gr.json"]"#, "Upgrade", 400, "it must be a JSON object"),
        case(put, r#""gr.json""#, "Upgrade", 400, "it must be a JSON object"),
        case(put, r#"{"file": ["gr.json"]}"#, "Upgrade", 400, "file: no list is expected"),
        case(put, r#"{"file": "gr.json", "deadlines": ["1m"]}"#, "Upgrade", 400, "deadlines: no list is expected"),
        case(put, r#"{"file": "gr.json"} {}"#, "Upgrade", 400, "trailing characters at line 1 column 21"),
        case(put, r#"{"file": "gr.json", "file": "gr.json"}"#, "Upgrade", 400, "file is given twice"),
        case(put, r#"{"file": 5}"#, "Upgrade", 400, "file: must be a text in quotation marks, not 5 at line \
                                                     1 column 10"),
        case(put, "{\"file\": \"gr.json\",\n \"fiel\": 1}", "Upgrade", 400,
            "fiel: no such field here: file, manifest, set, revision, strategy"),
        case(put, "{\"file\": \"gr.json\",\n \"fiel\": 1}", "Upgrade", 400, "; did you mean file? at line 2 column 7"),
        case(put, r#"{"file": "gr.json", "strategy": "Rollling"}"#, "Upgrade", 400,
            r#"strategy: must be Recreate or RollingUpdate, not \"Rollling\""#),
        case(put, r#"{"file": "gr.json", "onFailure": "hold"}"#, "Upgrade", 400,
            r#"onFailure: must be Hold or Rollback, not \"hold\"; did you mean Hold? at line 1"#),
        case(put, r#"{"file": "gr.json", "deadlines": {"gone": "soon"}}"#, "Upgrade", 400,
            r#"deadlines.gone: \"soon\" is not a duration such as 90s"#),
        case(put, r#"{"file": "gr.json", "deadlines": {"gone": "-5m"}}"#, "Upgrade", 400, "deadlines.gone"),
        case(put, r#"{"file": "gr.json", "deadlines": {"create": 0}}"#, "Upgrade", 400, "deadlines.create"),
        case(put, r#"{"file": "gr.json", "deadlines": {"running": "200h"}}"#, "Upgrade", 400, "at most 168h"),
        case(put, r#"{"file": "gr.json", "deadlines": {"ready": "1m"}}"#, "Upgrade", 400,
            "deadlines.ready: no such field here: gone, create, running, propagate and node are known"),
        case(put, r#"{"file": "gr.json", "revision": 1}"#, "Upgrade", 400, "revision has no meaning in this call"),
        case("POST {gr}/rollback", r#"{"revision": -1}"#, "Rollback", 400, "revision: must be a whole \
            number from 0, not -1"),
        case("POST {gr}/rollback", r#"{"file": "gr.json"}"#, "Rollback", 400, "file has no meaning in this call"),
        case("POST {gr}/rollback", "", "Rollback", 409, "has no earlier version to go back to"),
        case("POST {gr}/rollback", r#"{"revision": 7}"#, "Rollback", 404, "has no revision 7; available: none"),
        case("POST {gr}/retry", "", "Retry", 409, "has never been upgraded"),
        case("POST {gr}/retry", r#"{"revision": 1}"#, "Retry", 400, "revision has no meaning"),
        case("DELETE {gr}", r#"{"policy": "orphan"}"#, "Delete", 400,
            r#"policy: must be background or foreground, not \"orphan\""#),
        case("DELETE {gr}", r#"{"polcy": "background"}"#, "Delete", 400, "polcy: no such field here: policy \
            is known; did you mean policy?"),
        case("PUT {gr}?wait=0", PUT_BODY, "Upgrade", 400, "wait: "),
        case("PUT {gr}?wait=-1", PUT_BODY, "Upgrade", 400, "wait: "),
        case("PUT {gr}?wait=abc", PUT_BODY,
            "Upgrade", 400, r#"wait: \"abc\" is not a duration such as 90s, 10m or 1h30m"#),
        case("PUT {gr}?wait=", PUT_BODY, "Upgrade", 400, "wait: "),
        case("PUT {gr}?wait=25h", PUT_BODY, "Upgrade", 400, "at most 24h"),
        case("PUT {gr}?wait=1m&wait=1m", PUT_BODY, "Upgrade", 400, "wait: given twice"),
        case("PUT {gr}?dryRun=maybe", PUT_BODY, "Upgrade", 400, r#"dryRun: must be true or false, not \"maybe\""#),
        case("PUT {gr}?dryRun=true&dryRun=false", PUT_BODY, "Upgrade", 400, "dryRun: given twice"),
        case("PUT {gr}?dryrun=true", PUT_BODY, "Upgrade", 400, "dryrun: no such query parameter here: wait, \
            dryRun, set and overrideWindow are known; did you mean dryRun?"),
        case("PUT {gr}?wait=10%6D&dryRun=%74rue", PUT_BODY, "Upgrade", 200, "dryRun"),
    ];
    assert_answers(&harness, &cases).await;
    assert!(
        harness.records().list(&Default::default()).await.unwrap().items.is_empty(),
        "nothing was started"
    );
}

#[tokio::test(start_paused = true)]
async fn names_that_lead_elsewhere_reach_neither_a_file_nor_the_api() {
    let harness = harness().await;
    std::fs::write(harness.blueprints.path().parent().unwrap().join("outside.json"), BLUEPRINT).unwrap();
    let long = "a".repeat(254);
    let names = [
        "a%2fb",
        "..",
        "%2e%2e",
        "..%2fnodes",
        "A",
        "a_b",
        "a%3Fx=1",
        "a%20b",
        "a%00",
        "%252e",
        "%ff",
        "é",
        "-a",
        "a%0d%0aX:y",
        &long,
    ];
    let mut requests: Vec<(String, String, String)> = Vec::new();
    for name in names {
        for (method, path) in [
            ("GET", format!("/gum/v1/gr/{name}")),
            ("DELETE", format!("/gum/v1/gr/{name}")),
            ("GET", format!("/gum/v1/gr/{name}/resource/driver")),
            ("POST", format!("/gum/v1/gr/{name}/rollback")),
            ("GET", format!("/gum/v1/upgrades/{name}")),
        ] {
            requests.push((method.to_owned(), path, String::new()));
        }
    }
    let files = [
        "../outside.json",
        "..\\\\outside.json",
        "/etc/passwd",
        "%2e%2e%2foutside.json",
        "a/b.json",
        ".hidden.json",
        "..",
        "gr.json\\u0000",
        "gr.json\\n",
        "\\u2024\\u2024\\u2215outside.json",
        "..\\uff0foutside.json",
        "gr.json/",
    ];
    for file in files {
        requests.push(("PUT".to_owned(), GR.to_owned(), format!("{{\"file\": \"{file}\"}}")));
    }
    for file in ["..%2foutside.json", "%2e%2e%2foutside.json", "%2fetc%2fpasswd", "gr.json%00", "%ff.json"] {
        requests.push(("GET".to_owned(), format!("/gum/v1/blueprints/{file}"), String::new()));
    }
    for (method, path, body) in requests {
        if path.parse::<http::Uri>().is_err() {
            continue;
        }
        let before = harness.faults.calls().len();
        let answer = harness.must(&method, &path, &body).await;
        let about = format!("{method} {path} {body}: {}", answer.text);
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{about}");
        assert!(answer.text.contains("\"result\": \"Failed\""), "{about}");
        let calls: Vec<_> =
            harness.faults.calls().drain(before..).filter(|c| !c.path.contains("watch=")).collect();
        assert!(calls.is_empty(), "{about}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gr_cannot_name_a_workload_that_leads_elsewhere_in_the_api() {
    let harness = harness().await;
    for (name, namespace) in
        [("../../../../api/v1/secrets", "kube-system"), ("a?x=", "kube-system"), ("a", "../x")]
    {
        let gr = json!({
            "apiVersion": "topsops.enflame.com/v1", "kind": "GcuResource", "metadata": { "name": "sly" },
            "spec": { "own": { "notDeploy": true, "name": name, "namespace": namespace } },
        });
        create_gr(&harness, gr).await;
        let before = harness.faults.calls().len();
        let answer = harness.must("GET", "/gum/v1/gr/sly/resource/own", "").await;
        assert_eq!(answer.status, 404, "{}", answer.text);
        assert!(answer.error().contains("a name that cannot be"), "{}", answer.text);
        let calls: Vec<_> =
            harness.faults.calls().drain(before..).filter(|c| !c.path.contains("watch=")).collect();
        assert_eq!(calls.len(), 1, "the gr alone is read: {calls:?}");
        harness.world.grs().delete("sly", &Default::default()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_too_large_encoded_or_late_are_refused() {
    let harness = harness().await;
    let put = || Request::builder().method(Method::PUT).uri(format!("{GR}?dryRun=true"));
    let padded = |size: usize| format!("{PUT_BODY}{}", " ".repeat(size - PUT_BODY.len()));
    assert_eq!(harness.must("PUT", &format!("{GR}?dryRun=true"), &padded(64 * 1024)).await.status, 200);
    let large = harness.must("PUT", GR, &padded(64 * 1024 + 1)).await;
    assert_eq!(large.status, 413);
    assert_envelope(&large, "Upgrade", false);
    assert_eq!(large.error(), "the body is larger than 65536 bytes");
    let piece = || Ok::<_, std::io::Error>(vec![b' '; 1000]);
    let endless = futures::stream::repeat_with(piece);
    let endless = harness.ask(put().body(Body::from_stream(endless)).unwrap()).await.unwrap();
    assert_eq!(endless.status, 413);
    let zipped = put().header("content-encoding", "gzip").body(Body::from(PUT_BODY)).unwrap();
    let zipped = harness.ask(zipped).await.unwrap();
    assert_eq!(zipped.status, 415, "{}", zipped.text);
    let silent = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let silent = harness.ask(put().body(Body::from_stream(silent)).unwrap()).await.unwrap();
    assert_eq!(
        (silent.status.as_u16(), silent.error().as_str()),
        (408, "the body did not arrive within 10s")
    );
    let broken = futures::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("gone")) });
    let broken = harness.ask(put().body(Body::from_stream(broken)).unwrap()).await.unwrap();
    assert_eq!(broken.status, 400, "{}", broken.text);
}

#[tokio::test(start_paused = true)]
async fn pages_of_others_are_refused_and_programs_are_not() {
    let mut harness = harness().await;
    harness.adjust = Box::new(|parts| parts.limits.hosts = vec!["gum.example.com".to_owned()]);
    harness.start_service().await;
    harness.ready().await;
    let browser = &[("user-agent", "Mozilla/5.0 (X11)")][..];
    let cross =
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")][..];
    let opened = &[
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ][..];
    let framed =
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")][..];
    for (headers, host, status) in [
        (&[][..], "node-1.example.com:32765", 200),
        (browser, "10.0.0.7:32765", 200),
        (browser, "gum.example.com", 200),
        (browser, "evil.example.com:32765", 403),
        (cross, "10.0.0.7:32765", 403),
        (framed, "10.0.0.7:32765", 403),
        (opened, "10.0.0.7:32765", 200),
        (opened, "evil.example.com", 403),
    ] {
        let mut request = Request::get(GR).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = harness.ask(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status, status, "{headers:?} {host}: {}", answer.text);
    }
    for (origin, host, status) in [
        (None, "node-1.example.com:32765", 200),
        (Some("http://10.0.0.7:32765"), "10.0.0.7:32765", 200),
        (Some("http://localhost:32765"), "localhost:32765", 200),
        (Some("http://[::1]:32765"), "[::1]:32765", 200),
        (Some("http://evil.example.com"), "10.0.0.7:32765", 403),
        (Some("http://10.0.0.7:8080"), "10.0.0.7:32765", 403),
        (Some("null"), "10.0.0.7:32765", 403),
        (Some("http://evil.example.com:32765"), "evil.example.com:32765", 403),
    ] {
        let mut request =
            Request::builder().method(Method::PUT).uri(format!("{GR}?dryRun=true")).header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = harness.ask(request.body(Body::from(PUT_BODY)).unwrap()).await.unwrap();
        assert_eq!(answer.status, status, "{origin:?} {host}: {}", answer.text);
        assert_envelope(&answer, "Upgrade", status == 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_blueprint_that_cannot_be_used_is_refused_with_the_place_and_warnings_are_shown() {
    let harness = harness().await;
    let yaml = |name: &str, tag: &str| {
        format!(
            "apiVersion: topsops.enflame.com/v1\nkind: GcuResource\nmetadata: {{ name: {name} }}\nspec:\n  \
             driver:\n    image: gcu-driver\n    version: {tag}\n    notDeploy: {}\n",
            if tag == "latest" { "false" } else { "\"no\"" }
        )
    };
    harness.write("typed.yaml", &yaml("enflame-gcu-resource", "2.1.0"));
    harness.write("other.yaml", &yaml("another", "latest"));
    harness.write("tag.yaml", &yaml("enflame-gcu-resource", "latest"));
    let refused = harness.must("PUT", GR, r#"{"file": "typed.yaml"}"#).await;
    assert_eq!(refused.status, 422);
    assert_envelope(&refused, "Upgrade", false);
    assert!(refused.error().contains("typed.yaml:8:16: error:"), "{}", refused.text);
    let other = harness.must("PUT", GR, r#"{"file": "other.yaml"}"#).await;
    assert_eq!(other.status, 422);
    assert!(other.error().contains("other.yaml:3:"), "{}", other.text);
    let warned = harness.must("PUT", &format!("{GR}?dryRun=true"), r#"{"file": "tag.yaml"}"#).await;
    assert_eq!(warned.status, 200, "{}", warned.text);
    let warnings = warned.json()["content"]["warnings"].to_string();
    assert!(warnings.contains("tag.yaml:7:"), "the mutable tag: {warnings}");
}
