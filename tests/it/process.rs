//! The real process as it is run in production, before the sandbox's API server: its logs, its end, TLS, probes.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::cli::{Running, curl, run};

/// A sandbox, and a directory for what its neighbours need.
struct Neighbourhood {
    _sandbox: Running,
    dir: TempDir,
}

impl Neighbourhood {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let args = ["sandbox", "--listen", "127.0.0.1:0", "--nodes", "2", "--pod-start", "50ms"];
        let args = [&args[..], &["--kubeconfig-out", kubeconfig.to_str().unwrap()]].concat();
        let mut sandbox = Running::start(&args, &[]);
        sandbox.word_after("listening address=");
        let blueprints = dir.path().join("blueprints");
        std::fs::create_dir(&blueprints).unwrap();
        std::fs::write(blueprints.join("gr.json"), include_str!("../../blueprints/gr.json")).unwrap();
        Self { _sandbox: sandbox, dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A service in front of the sandbox's cluster, beside the sandbox's own.
    fn serve(&self, more: &[&str]) -> (Running, String) {
        let (kubeconfig, blueprints, logs) =
            (self.path("kubeconfig"), self.path("blueprints"), self.path("log"));
        let args =
            ["serve", "--listen", "127.0.0.1:0", "--kubeconfig", &kubeconfig, "--blueprints", &blueprints];
        let args = [&args[..], &["--log-dir", &logs], more].concat();
        let service = Running::start(&args, &[]);
        let address = service.address();
        (service, address)
    }
}

impl Running {
    /// Where it listens, whatever its log looks like.
    fn address(&self) -> String {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            let said = self.said();
            let line = said.lines().find(|l| l.contains("listening"));
            if let Some((_, rest)) = line.and_then(|l| l.split_once("127.0.0.1:")) {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                return format!("127.0.0.1:{port}");
            }
            sleep(Duration::from_millis(20));
        }
        panic!("it does not listen: {}", self.said());
    }
}

fn until_ready(address: &str) {
    let begun = Instant::now();
    while curl(address, "GET", "/readyz", "").0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", curl(address, "GET", "/readyz", "").1);
        sleep(Duration::from_millis(50));
    }
}

const GR: &str = "/gum/v1/gr/enflame-gcu-resource";

#[test]
fn logs_are_text_like_v1_0_0_or_json_and_every_line_of_a_request_has_its_id() {
    let home = Neighbourhood::new();
    let (service, address) =
        home.serve(&["--log-format", "json", "--log", "info,gcu_upgrade_manager::api=debug"]);
    until_ready(&address);
    // Names with line breaks and escape codes are files' and clients' to choose.
    std::fs::write(home.dir.path().join("blueprints/a\nERROR b\u{1b}[31m.json"), "{").unwrap();
    curl(&address, "GET", "/gum/v1/blueprints", "");
    let request = format!("http://{address}{GR}");
    let output = Command::new("curl")
        .args(["-s", "-i", "-X", "PUT", &request, "-d", r#"{"file": "gr.json"}"#])
        .args(["-H", "x-request-id: ci-17", "-H", "authorization: Bearer very-secret"])
        .args(["-A", "agent\u{9b}31m"])
        .output()
        .unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.contains("x-request-id: ci-17"), "{answer}");
    let (code, said, _) = service.stop();
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<Value> =
        said.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    let of_request: Vec<&Value> =
        lines.iter().filter(|l| l.pointer("/span/request") == Some(&Value::from("ci-17"))).collect();
    let messages: Vec<&str> = of_request.iter().map(|l| l["message"].as_str().unwrap()).collect();
    assert!(messages.contains(&"recorded"), "{messages:?}");
    let done = format!("PUT {GR} 200");
    assert!(messages.contains(&done.as_str()), "{messages:?}");
    for field in ["timestamp", "level", "target"] {
        assert!(lines.iter().all(|l| l[field].is_string()), "{field}: {said}");
    }
    let log = std::fs::read_to_string(Path::new(&home.path("log")).join("gcu-upgrade-manager.log")).unwrap();
    for line in log.lines() {
        let mut words = line.split(' ');
        let date: jiff::civil::Date = words.next().unwrap().replace('/', "-").parse().unwrap();
        let time: jiff::civil::Time = words.next().unwrap().parse().unwrap();
        let level = words.next().unwrap();
        assert!(matches!(level, "INFO" | "WARNING" | "DEBUG" | "ERROR"), "{line}");
        assert!(words.next().unwrap().rsplit_once(':').unwrap().1.parse::<u32>().is_ok(), "{line}");
        assert!(date.year() >= 2024 && time.hour() < 24);
    }
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "no escape code reaches a terminal");
    assert!(log.lines().any(|l| l.contains("recorded") && l.ends_with("request=ci-17")), "{log}");
    assert!(!said.contains("very-secret") && !log.contains("very-secret"), "no token in a log");
    assert!(log.contains("anyone who reaches the port can upgrade and delete"), "{log}");
}

#[test]
fn sigterm_takes_readiness_gives_up_the_lease_and_serves_until_the_delay_is_over() {
    let home = Neighbourhood::new();
    let (first, address) = home.serve(&["--stop-delay", "2s", "--pod-name", "first"]);
    until_ready(&address);
    let (mut second, second_address) = home.serve(&["--pod-name", "second"]);
    until_ready(&second_address);
    first.signal("TERM");
    let begun = Instant::now();
    second.word_after("this replica leads");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let (status, text) = curl(&address, "GET", "/readyz", "");
    assert!(status == 503 && text.contains("not ready: stopping"), "{status} {text}");
    assert_eq!(curl(&address, "GET", GR, "").0, 200, "it serves while others take notice");
    let (code, said, _) = first.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("gave up the lease"), "{said}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let home = Neighbourhood::new();
    let (service, address) = home.serve(&["--stop-delay", "1h"]);
    until_ready(&address);
    service.signal("INT");
    sleep(Duration::from_millis(300));
    service.signal("TERM");
    let (code, said, took) = service.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(said.contains("told to stop a second time"), "{said}");
}

#[test]
fn https_is_served_with_the_given_files_and_probed_by_the_binary_itself() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let file = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let home = Neighbourhood::new();
    let files = ["--tls-cert", &file("first.crt"), "--tls-key", &file("first.key")];
    let (service, address) = home.serve(&[&files[..], &["--tls-client-ca", &file("ca.crt")]].concat());
    let probe = |more: &[&str], path: &str| {
        run(&[&["probe"], more, &[format!("https://{address}{path}").as_str()]].concat())
    };
    let begun = Instant::now();
    let mut ready = probe(&["--insecure"], "/readyz");
    while !ready.status.success() && begun.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(100));
        ready = probe(&["--insecure"], "/readyz");
    }
    assert!(ready.status.success(), "{ready:?}");
    assert!(String::from_utf8_lossy(&ready.stdout).contains("\"result\": \"Success\""));
    assert_eq!(probe(&[], "/readyz").status.code(), Some(1), "a certificate that nobody vouches for");
    let refused = probe(&["--insecure"], GR);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("a client certificate of a CA that is trusted here is needed"), "{why}");
    let with_certificate = Command::new("curl")
        .args([
            "-s",
            "--cacert",
            &file("ca.crt"),
            "--cert",
            &file("client.crt"),
            "--key",
            &file("client.key"),
        ])
        .arg(format!("https://{address}{GR}"))
        .output()
        .unwrap();
    let answer = String::from_utf8(with_certificate.stdout).unwrap();
    assert!(answer.contains("\"result\": \"Success\""), "{answer}");
    assert_eq!(service.stop().0, Some(0));
    let output = run(&["probe", "no url"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn tls_files_that_cannot_be_used_keep_it_from_starting() {
    let home = Neighbourhood::new();
    let kubeconfig = home.path("kubeconfig");
    let base = ["serve", "--listen", "127.0.0.1:0", "--kubeconfig", &kubeconfig, "--log-dir", "/dev/null/x"];
    let half = run(&[&base[..], &["--tls-cert", "/nowhere"]].concat());
    assert_eq!(half.status.code(), Some(2), "a certificate needs a key: {half:?}");
    let both = run(&[&base[..], &["--tls-cert", "/nowhere", "--tls-key", "/nowhere"]].concat());
    assert_eq!(both.status.code(), Some(1));
    let said = String::from_utf8_lossy(&both.stdout).into_owned();
    assert!(said.contains("/nowhere: No such file or directory"), "{said}");
    let lease = run(&[&base[..], &["--lease", "nothing"]].concat());
    assert_eq!(lease.status.code(), Some(2));
}
