//! What somebody meets who runs it for the first time, or comes from v1.0.0: mistyped flags, an address that others
//! reach, an API server that is not there, files that are no blueprints, a log that is searched for known words.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

use gcu_upgrade_manager::cluster::forbidden;
use gcu_upgrade_manager::record::Phase;
use gcu_upgrade_manager::sandbox::world::World;
use gcu_upgrade_manager::telemetry::{filter, trouble::Trouble};
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, advance};

use crate::cli::{Running, curl, gum, run};
use crate::faults::Faults;
use crate::harness::{Backend, Harness};
use crate::process::{Neighbourhood, until_ready};

const GR: &str = "/gum/v1/gr/enflame-gcu-resource";

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// A kubeconfig for whatever is at this address.
fn kubeconfig(dir: &Path, name: &str, server: &str) -> String {
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "it", "user": {"token": "wrong"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    let file = dir.join(name);
    std::fs::write(&file, text.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// An address at which nobody listens.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_mistyped_filter_is_refused_with_one_that_works() {
    for (mistyped, says) in [
        ("inof", "\"inof\" is no level"),
        ("gcu_upgrade_manger=debug", "\"gcu_upgrade_manger\" is no part of this program"),
        ("gcu_upgrade_manager=loud", "error parsing level filter"),
        ("info,debgu", "\"debgu\" is no level"),
        ("", "it is empty"),
        (",", "it is empty"),
    ] {
        for command in ["serve", "sandbox"] {
            let output = run(&[command, "--log", mistyped]);
            let (_, stderr) = said(&output);
            assert_eq!(output.status.code(), Some(2), "{command} {mistyped}: {stderr}");
            assert!(
                stderr.contains(says) && stderr.contains("info,gcu_upgrade_manager::api=debug"),
                "{stderr}"
            );
        }
    }
    for good in
        ["warn", "INFO", "off", "info,hyper=debug", "kube=debug", "gcu_upgrade_manager::api=trace,warn"]
    {
        assert_eq!(filter(good).as_deref(), Ok(good));
    }
}

#[test]
fn whatever_the_filter_what_ends_the_process_is_on_standard_error_and_in_the_operations_log() {
    let dir = TempDir::new().unwrap();
    let absent = dir.path().join("absent").display().to_string();
    for (number, wanted) in ["off", "error", "hyper=debug", "trace"].into_iter().enumerate() {
        for format in ["text", "json"] {
            let log = dir.path().join(format!("{number}-{format}"));
            let args =
                ["serve", "--log", wanted, "--log-format", format, "--kubeconfig", &absent, "--log-dir"];
            let output = run(&[&args[..], &[log.to_str().unwrap()]].concat());
            let (stdout, stderr) = said(&output);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(!stdout.contains(&absent), "once is enough: {stdout}");
            let log = std::fs::read_to_string(log.join("gcu-upgrade-manager.log")).unwrap();
            assert!(log.contains(" ERROR ") && log.contains(&absent), "{wanted}: {log}");
            assert!(stderr.contains(&absent) && stderr.lines().count() == 1, "{wanted} {format}: {stderr}");
            if format == "json" {
                assert_eq!(serde_json::from_str::<Value>(&stderr).unwrap()["level"], "ERROR");
            }
        }
    }
}

#[test]
fn an_address_is_taken_as_people_write_it_or_refused_with_one_that_works() {
    let mut sandbox = Running::start(&["sandbox", "--listen", "localhost:0", "--nodes", "1"], &[]);
    let address = sandbox.word_after("listening address=");
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    for wrong in ["32765", ":32765", "gum.example:32765", "localhost", "localhost:http"] {
        let output = run(&["serve", "--listen", wrong]);
        let (_, stderr) = said(&output);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {stderr}");
        assert!(stderr.contains("127.0.0.1:32765"), "{wrong}: {stderr}");
    }
}

#[test]
fn times_on_the_command_line_are_taken_as_in_requests() {
    for (time, code) in [("5", 1), ("0", 1), ("5s", 1), ("1m30s", 1), ("five", 2), ("-5s", 2)] {
        let output = run(&["serve", "--log-dir", "-", "--kubeconfig", "/nowhere", "--stop-delay", time]);
        let (_, stderr) = said(&output);
        assert_eq!(output.status.code(), Some(code), "{time}: {stderr}");
        let is_named = stderr.contains("5s, 500ms or 5 (seconds)") || time.starts_with('-');
        assert!(code == 1 || is_named, "{time}: {stderr}");
    }
}

#[test]
fn to_serve_others_without_asking_who_they_are_has_to_be_said_outside_a_pod() {
    let dir = TempDir::new().unwrap();
    let cluster = kubeconfig(dir.path(), "kubeconfig", &format!("http://{}", closed()));
    let base = ["serve", "--kubeconfig", &cluster, "--log-dir", "-", "--listen"];
    for address in ["0.0.0.0:0", "[::]:0"] {
        let output = run(&[&base[..], &[address, "--auth", "none"]].concat());
        let (_, stderr) = said(&output);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        for way in ["--listen 127.0.0.1:0 ", "--auth kubernetes", "--insecure-listen"] {
            assert!(stderr.contains(way), "{way}: {stderr}");
        }
    }
    for (more, env) in [
        (&["127.0.0.1:0"][..], None),
        (&["0.0.0.0:0", "--insecure-listen"], None),
        (&["0.0.0.0:0", "--auth", "kubernetes"], None),
        (&["0.0.0.0:0"], Some(("GUM_INSECURE_LISTEN", "true"))),
        (&["0.0.0.0:0"], Some(("KUBERNETES_SERVICE_HOST", "10.0.0.1"))),
    ] {
        let env: Vec<_> = env.into_iter().collect();
        Running::start(&[&base[..], more].concat(), &env).word_after("listening address=");
    }
    let output = gum().args(base).arg("0.0.0.0:0").env("GUM_INSECURE_LISTEN", "false").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn the_log_says_its_time_zone() {
    let absent = ["serve", "--kubeconfig", "/nowhere", "--log-dir", "-"];
    for (zone, says) in [("", r"\d\d:\d\d:\d\dZ ERROR "), ("CST-8", r"\d\d:\d\d:\d\d\+08:00 ERROR ")] {
        let output = gum().args(absent).env("TZ", zone).output().unwrap();
        let (_, stderr) = said(&output);
        let whole = Regex::new(&format!(r"^\d{{4}}/\d\d/\d\d {says}")).unwrap();
        assert!(whole.is_match(&stderr), "{zone}: {stderr}");
    }
}

#[test]
fn validate_takes_files_directories_and_standard_input_and_says_what_it_does_not() {
    let dir = TempDir::new().unwrap();
    let good = include_str!("../../blueprints/gr.json");
    for (name, content) in [("a.json", good), ("b.yml", good), ("notes.txt", "x"), (".hidden.txt", "x")] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let whole = run(&["validate", dir.path().to_str().unwrap()]);
    let (stdout, _) = said(&whole);
    assert_eq!(whole.status.code(), Some(0), "{stdout}");
    for line in [
        format!("{}: ok, for gr enflame-gcu-resource", path("a.json")),
        format!("{}: ok, for gr enflame-gcu-resource", path("b.yml")),
        format!(
            "{}:1:1: warning: left out: a blueprint's name ends in .json, .yaml or .yml",
            path("notes.txt")
        ),
    ] {
        assert!(stdout.contains(&line), "{line}: {stdout}");
    }
    assert!(!stdout.contains("hidden"), "{stdout}");
    let text = run(&["validate", &path("notes.txt")]);
    let refusal =
        format!("{}:1:1: error: a blueprint's name ends in .json, .yaml or .yml", path("notes.txt"));
    assert!(text.status.code() == Some(1) && said(&text).0.contains(&refusal), "{text:?}");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let empty = run(&["validate", &path("empty")]);
    assert!(empty.status.code() == Some(1) && said(&empty).0.contains("no blueprint is here"), "{empty:?}");
    for (input, code, says) in [
        (good, 0, "standard input: ok, for gr enflame-gcu-resource"),
        ("{", 1, "standard input:1:"),
        ("", 1, "standard input:1:1: error: "),
    ] {
        let mut child =
            gum().args(["validate", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.code() == Some(code) && said(&output).0.contains(says), "{output:?}");
    }
}

/// Answers 401 to everything.
fn refuses_every_token() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","code":401}"#;
            let answer = format!(
                "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: \
                 {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            // Whoever asked may be gone.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn an_api_server_that_cannot_be_used_is_named_with_the_cause_and_said_once() {
    let (home, dir) = (Neighbourhood::new(), TempDir::new().unwrap());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let file = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let (_https, https) = home.serve(&["--tls-cert", &file("first.crt"), "--tls-key", &file("first.key")]);
    let troubles = [
        (format!("http://{}", closed()), "connection refused"),
        (format!("https://{https}"), "its certificate is not trusted"),
        ("https://no-such-host.invalid:6443".to_owned(), "its name cannot be resolved"),
        (format!("http://{}", refuses_every_token()), "does not accept this service's credentials"),
    ];
    let start = |(number, (server, _)): (usize, &(String, &str))| {
        let config = kubeconfig(dir.path(), &format!("kubeconfig-{number}"), server);
        let log = dir.path().join(number.to_string()).display().to_string();
        let args = ["serve", "--listen", "127.0.0.1:0", "--kubeconfig", &config, "--log-dir", &log];
        let service = Running::start(&args, &[]);
        let address = service.address();
        (service, address)
    };
    let services: Vec<_> = troubles.iter().enumerate().map(start).collect();
    // Long enough for every loop to try again.
    sleep(Duration::from_secs(12));
    let rust = Regex::new(r"\b[A-Z]\w+ \{ ").unwrap();
    for ((server, cause), (service, address)) in troubles.iter().zip(services) {
        let (status, ready) = curl(&address, "GET", "/readyz", "");
        assert_eq!(status, 503);
        let (_, list) = curl(&address, "GET", "/gum/v1/gr", "");
        let log = service.said();
        for text in [&ready, &list, &log] {
            assert!(text.contains(server.as_str()) && text.contains(cause), "{server} {cause}: {text}");
            assert!(!text.contains("kubectl apply"), "the CRD is not what is missing: {text}");
        }
        assert_eq!(ready.matches(server.as_str()).count(), 1, "said once: {ready}");
        assert_eq!(log.matches("cannot discover which API serves").count(), 1, "said once: {log}");
        let lines = log.lines().filter(|l| l.contains(cause)).count();
        assert!(lines <= 8, "{lines} lines of the same: {log}");
        assert!(!rust.is_match(&log), "{log}");
    }
    let url = format!("http://{}/readyz", closed());
    let output = run(&["probe", &url]);
    let (_, stderr) = said(&output);
    assert!(stderr.contains(&url) && stderr.contains("connection refused"), "{stderr}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_again_and_again_is_said_once_then_every_five_minutes_with_how_often() {
    let mut trouble = Trouble::default();
    let begun = Instant::now();
    let mut lines = Vec::new();
    while begun.elapsed() < Duration::from_secs(11 * 60) {
        // Two causes that take turns are not news either.
        lines.extend(trouble.again("refused"));
        lines.extend(trouble.again("timed out"));
        advance(Duration::from_secs(5)).await;
    }
    let each = |text: &str| {
        let more = format!("{text} (60 more times in the last 300 s)");
        lines.iter().filter(|l| **l == text || **l == more).count()
    };
    assert_eq!((lines.len(), each("refused"), each("timed out")), (6, 3, 3), "{lines:?}");
    assert_eq!((trouble.over(), trouble.over()), (Some(264), None));
    assert_eq!(trouble.again("refused").as_deref(), Some("refused"), "news again");
}

#[test]
fn rights_that_the_service_lacks_do_not_read_as_the_callers() {
    let words = "gcuresources.topsops.enflame.com is forbidden: User \
                 \"system:serviceaccount:kube-system:gcu-upgrade-manager\" cannot list resource \
                 \"gcuresources\" in API group \"topsops.enflame.com\" at the cluster scope";
    let told = forbidden(words);
    for part in [
        "the service account kube-system/gcu-upgrade-manager of gcu-upgrade-manager itself cannot list \
         resource \"gcuresources\"",
        "grant it with the ClusterRole",
        words,
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let by_webhook = "admission webhook \"policy.example\" denied the request: no";
    assert_eq!(forbidden(by_webhook), by_webhook);
}

#[test]
fn what_v1_0_0_said_of_requests_is_in_the_operations_log_alone() {
    let home = Neighbourhood::new();
    let (service, address) = home.serve(&[]);
    until_ready(&address);
    let put = curl(&address, "PUT", &format!("{GR}?wait=1m"), r#"{"file": "gr.json"}"#);
    assert_eq!(put.0, 200, "{}", put.1);
    let deleted = curl(&address, "DELETE", GR, r#"{"policy": "foreground"}"#);
    assert_eq!(deleted.0, 200, "{}", deleted.1);
    let log = std::fs::read_to_string(home.path("log/gcu-upgrade-manager.log")).unwrap();
    let mut rest = log.lines();
    for words in [
        format!("Accept reqeust: &{{PUT {GR}?wait=1m HTTP/1.1 1 1 map[User-Agent:[curl/7.47.0]] 127.0.0.1:")
            .as_str(),
        "upgrade request body: {\"file\": \"gr.json\"}",
        "send upgrade gr enflame-gcu-resource request success",
        "Accept reqeust: &{DELETE ",
        "send delete request for gr: enflame-gcu-resource success",
    ] {
        assert!(rest.any(|line| line.contains(words)), "{words} is missing, or late: {log}");
    }
    let said = service.said();
    assert!(!said.contains("reqeust") && !said.contains("request success"), "ours alone: {said}");
}

/// What is logged by this thread.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Write for Heard {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_words_by_which_scripts_of_v1_0_0_followed_an_upgrade_come_in_its_order() {
    let heard = Heard::default();
    let writer = heard.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let world = World { nodes: 2, ..World::default() };
    let mut harness = Harness::set(Backend::Sandbox, world, Faults::new(Vec::new())).await.unwrap();
    harness.write("gr.json", include_str!("../../blueprints/gr.json"));
    let put = harness.must("PUT", GR, r#"{"file": "gr.json"}"#).await;
    assert_eq!(put.status, 200, "{}", put.text);
    assert_eq!(harness.until_final(1).await, Phase::Succeeded);
    let log = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
    let mut rest = log.lines();
    for words in [
        "send upgrade gr enflame-gcu-resource request success",
        "send delete request for gr: enflame-gcu-resource success",
        "check cluster old gr: enflame-gcu-resource delete finish retry times: 0",
        "check cluster old gr: enflame-gcu-resource is deleting",
        "check cluster old gr: enflame-gcu-resource delete finish, wait new gr recreating...",
        "check cluster new gr: enflame-gcu-resource run status retry times: 0",
        "check new cluster gr: enflame-gcu-resource run status is deploying",
        "check new cluster gr: enflame-gcu-resource run status is Running",
    ] {
        assert!(rest.any(|line| line.ends_with(words)), "{words} is missing, or late: {log}");
        assert_eq!(log.lines().filter(|line| line.ends_with(words)).count(), 1, "{words}: {log}");
    }
}
