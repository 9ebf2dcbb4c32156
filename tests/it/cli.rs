//! The real binary: what it prints, what it answers over TCP, how it ends.

mod failures;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn gum() -> Command {
    // Whoever runs the tests under nohup hands down an ignored SIGHUP.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_gcu-upgrade-manager")]);
    for variable in std::env::vars().map(|(name, _)| name) {
        if variable.starts_with("GUM_") || variable.starts_with("KUBE") {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    gum().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A process of ours that has not ended yet.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    _dir: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub(crate) fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let out = dir.path().join("out");
        let file = std::fs::File::create(&out).unwrap();
        let mut command = gum();
        command.args(args).envs(env.iter().copied()).stderr(file.try_clone().unwrap()).stdout(file);
        Self { child: command.spawn().unwrap(), out, _dir: dir }
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    /// The word after `before`, once it is printed.
    pub(crate) fn word_after(&mut self, before: &str) -> String {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let said = self.said();
            let word = said.split_once(before).and_then(|(_, rest)| rest.split_once(char::is_whitespace));
            if let Some((word, _)) = word {
                return word.to_owned();
            }
            assert!(self.child.try_wait().unwrap().is_none(), "ended early: {said}");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{before:?} was not printed: {}", self.said());
    }

    /// Sends a signal; it may have ended already.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let _ =
            Command::new("kill").args([&format!("-{signal}"), &pid]).stderr(Stdio::null()).status().unwrap();
    }

    /// Whether it has ended by itself within a while.
    pub(crate) fn ends(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub(crate) fn stop(self) -> (Option<i32>, String, Duration) {
        self.signal("TERM");
        self.ended()
    }

    /// Its exit code, what it said, and how long it took to end.
    pub(crate) fn ended(mut self) -> (Option<i32>, String, Duration) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.said(), begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not end: {}", self.said());
    }
}

/// A request as curl sends it; the status and the body.
pub(crate) fn curl(address: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    curl_as(None, address, method, path, body)
}

/// The same with a bearer token.
pub(crate) fn curl_as(
    token: Option<&str>,
    address: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let token = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/7.47.0\r\nAccept: \
         */*\r\nConnection: close\r\n{token}Content-Length: {}\r\nContent-Type: \
         application/x-www-form-urlencoded\r\n\r\n{body}",
        body.len()
    );
    raw(address, head.as_bytes())
}

fn raw(address: &str, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The answer may come before all is sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = text(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn help_tells_every_flag_and_its_environment_twin() {
    let all = text(&run(&["--help"]).stdout);
    for word in ["serve", "sandbox", "validate", "crd", "probe", "notify"] {
        assert!(all.contains(word), "{word}: {all}");
    }
    for (command, flags) in [
        (
            "serve",
            &[
                "listen",
                "blueprints",
                "log-dir",
                "kubeconfig",
                "auth",
                "insecure-listen",
                "tls-cert",
                "tls-key",
                "tls-client-ca",
                "max-connections",
                "client-requests",
                "host",
                "lease",
                "pod-name",
                "keeper-listen",
                "keeper-service",
                "keeper-url",
                "stop-delay",
                "node-name",
                "maintenance",
                "notifications",
                "log",
                "log-format",
            ][..],
        ),
        (
            "sandbox",
            &[
                "listen",
                "blueprints",
                "kube-listen",
                "kubeconfig-out",
                "nodes",
                "tenants",
                "bad-image",
                "pod-start",
                "gr",
                "log",
            ],
        ),
        ("validate", &[]),
        ("crd", &[]),
        ("probe", &[]),
        ("notify", &[]),
    ] {
        let output = run(&[command, "--help"]);
        assert!(output.status.success());
        let help = text(&output.stdout).replace('\n', " ");
        for flag in flags {
            let twin = format!("[env: GUM_{}=", flag.to_uppercase().replace('-', "_"));
            assert!(help.contains(&format!("--{flag} ")), "{command} --{flag}: {help}");
            assert!(help.contains(&twin), "{command} {twin}: {help}");
        }
    }
    assert_eq!(run(&["--nonsense"]).status.code(), Some(2));
    assert!(text(&run(&["--version"]).stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn validate_tells_good_from_bad_by_exit_code_and_place() {
    let dir = TempDir::new().unwrap();
    let bad = dir.path().join("bad.yaml");
    let content =
        "apiVersion: topsops.enflame.com/v1\nkind: GcuResource\nmetadata: { name: x }\nspec:\n  driver: 5\n";
    std::fs::write(&bad, content).unwrap();
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("blueprints/gr.json");
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let fine = run(&["validate", good]);
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    assert!(text(&fine.stdout).contains(": ok, for gr enflame-gcu-resource, sha256 "), "{fine:?}");
    let both = run(&["validate", good, bad]);
    assert_eq!(both.status.code(), Some(1), "{both:?}");
    assert!(text(&both.stdout).contains(&format!("{bad}:5:11: error: ")), "{both:?}");
    let absent = run(&["validate", dir.path().join("absent.yaml").to_str().unwrap()]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stdout).contains("there is no such file"), "{absent:?}");
    assert_eq!(run(&["validate"]).status.code(), Some(2), "a file has to be named");
}

#[test]
fn crd_prints_the_definition_that_the_service_installs() {
    let output = run(&["crd"]);
    assert!(output.status.success());
    let printed: Value = serde_saphyr::from_str(&text(&output.stdout)).unwrap();
    let installed = serde_json::to_value(gcu_upgrade_manager::record::crd()).unwrap();
    assert_eq!(printed, installed);
    assert_eq!(
        (&printed["kind"], &printed["apiVersion"]),
        (&"CustomResourceDefinition".into(), &"apiextensions.k8s.io/v1".into())
    );
}

#[test]
fn the_sandbox_starts_says_what_to_type_answers_and_ends() {
    let dir = TempDir::new().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let kubeconfig = kubeconfig.to_str().unwrap();
    let args = ["sandbox", "--kubeconfig-out", kubeconfig, "--nodes", "1", "--pod-start", "10ms"];
    let env = [("GUM_LISTEN", "127.0.0.1:0")];
    let mut sandbox = Running::start(&args, &env);
    let address = sandbox.word_after("listening address=");
    assert!(!address.ends_with(":0"), "the real port: {address}");
    let said = sandbox.said();
    for line in [
        format!("curl http://{address}/gum/v1/gr/enflame-gcu-resource -X PUT -d '{{\"file\": \"gr.json\"}}'"),
        format!("kubectl --kubeconfig {kubeconfig} get gr,gcuupgrades,pods -A"),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
    let gr = "/gum/v1/gr/enflame-gcu-resource";
    let (status, body) = curl(&address, "GET", gr, "");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"readyResource\": \"5/5\""), "{body}");
    assert_eq!(curl(&address, "HEAD", gr, ""), (200, String::new()));
    kubectl_prints_the_documented_columns(kubeconfig, dir.path());
    let (status, body) = curl(&address, "PUT", &format!("{gr}?wait=1m"), "{\"file\": \"gr.json\"}");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"phase\": \"Succeeded\""), "{body}");
    hostile_requests_get_their_status(&address);
    let (code, said, took) = sandbox.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let logged = said
        .lines()
        .find(|l| l.contains(&format!("PUT {gr}?wait=1m 200")))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(
        logged.contains(" INFO ") && logged.contains("peer=") && logged.contains("curl/7.47.0"),
        "{logged}"
    );
    assert!(!said.contains(&format!("GET {gr} 200")), "reads are not in the log: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

fn kubectl_prints_the_documented_columns(kubeconfig: &str, home: &Path) {
    let args = ["--kubeconfig", kubeconfig, "get", "gr"];
    let Ok(output) = Command::new("kubectl").args(args).env("HOME", home).output() else {
        println!("SKIPPED: kubectl is not installed");
        return;
    };
    let table = text(&output.stdout);
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "STATUS", "AGE"], "{output:?}");
    assert_eq!(rows[1][..3], ["enflame-gcu-resource", "5/5", "Running"], "{output:?}");
}

fn hostile_requests_get_their_status(address: &str) {
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70_000));
    let headers = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(1_000));
    let gr = "/gum/v1/gr/enflame-gcu-resource";
    let big = format!(
        "PUT {gr} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 70000\r\n\r\n{}",
        " ".repeat(70_000)
    );
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let chunked = format!("PUT {gr} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}");
    let nul = "GET /gum/v1/gr/a\0b HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
    for (what, request, status) in [
        ("a long URL", long, 414),
        ("many headers", headers, 431),
        ("a large body", big, 413),
        ("an endless body", chunked, 413),
        ("a NUL", nul, 400),
    ] {
        assert_eq!(raw(address, request.as_bytes()).0, status, "{what}");
    }
    assert_eq!(curl(address, "GET", "/livez", "").0, 200, "and others are served");
}

#[test]
fn a_time_on_the_command_line_is_written_as_in_requests() {
    use clap::Parser;
    use gcu_upgrade_manager::config::{Cli, Subcommand};
    for (text, millis) in [("5", 5000), ("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("0", 0)] {
        let cli = Cli::try_parse_from(["gum", "serve", "--stop-delay", text]).unwrap();
        let Subcommand::Serve(args) = cli.command() else { panic!("it serves") };
        assert_eq!(args.stop_delay, Duration::from_millis(millis), "{text}");
    }
    for text in ["-5", "soon", ""] {
        let wrong = Cli::try_parse_from(["gum", "serve", &format!("--stop-delay={text}")]);
        assert!(wrong.unwrap_err().to_string().contains("duration"), "{text}");
    }
}
