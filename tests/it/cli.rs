//! The real binary: what it prints, what it answers over TCP, how it ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
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
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/7.47.0\r\nAccept: */*\r\nConnection: close\r\n{token}\
         Content-Length: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
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
    for word in ["serve", "sandbox", "validate", "crd", "probe"] {
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
fn what_keeps_it_from_starting_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let dir = TempDir::new().unwrap();
    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, "clusters: [").unwrap();
    let in_dir = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (garbage, logs, absent) = (garbage.to_str().unwrap(), &in_dir("logs"), &in_dir("absent/file"));
    for (args, says) in [
        (&["sandbox", "--listen", &port][..], format!("cannot listen on {port}: ")),
        (
            &["sandbox", "--listen", "127.0.0.1:0", "--kube-listen", &port],
            format!("cannot listen on {port}: "),
        ),
        (&["sandbox", "--listen", "127.0.0.1:0", "--gr", absent], absent.clone()),
        (&["sandbox", "--listen", "127.0.0.1:0", "--kubeconfig-out", absent], absent.clone()),
        (&["--log-dir", logs, "--kubeconfig", absent], absent.clone()),
        (&["--log-dir", logs, "--kubeconfig", garbage], garbage.to_owned()),
        (&["serve", "--log-dir", logs], "no cluster to serve: ".to_owned()),
    ] {
        let output = gum().args(args).env("HOME", dir.path()).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        let errors: Vec<&str> = said.lines().filter(|l| !l.contains(" INFO ")).collect();
        assert_eq!(errors.len(), 1, "{args:?}: one line: {said}");
        assert!(errors[0].contains(" ERROR ") && errors[0].contains(&says), "{args:?}: {said}");
    }
}

/// Everything that is printed or logged is lost: the disk is full.
#[test]
fn a_disk_that_is_full_under_every_log_stops_nothing() {
    // It cannot say where it listens: a port that the system gives to nobody by itself.
    let address = format!("127.0.0.1:{}", 20_000 + std::process::id() % 10_000);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let dir = TempDir::new().unwrap();
    let kubeconfig = dir.path().join("kubeconfig").display().to_string();
    let cluster =
        ["sandbox", "--listen", "127.0.0.1:0", "--pod-start", "100ms", "--kubeconfig-out", &kubeconfig];
    let mut cluster = Running::start(&cluster, &[]);
    cluster.word_after("address=");
    let log = dir.path().join("log");
    std::fs::create_dir(&log).unwrap();
    std::os::unix::fs::symlink("/dev/full", log.join("gcu-upgrade-manager.log")).unwrap();
    let mut command = gum();
    command.args(["serve", "--listen", &address, "--kubeconfig", &kubeconfig, "--log", "debug"]);
    command.args(["--blueprints", concat!(env!("CARGO_MANIFEST_DIR"), "/blueprints"), "--log-dir"]).arg(&log);
    let child = command.stdout(full()).stderr(full()).spawn().unwrap();
    let mut running = Running { child, out: dir.path().join("nothing"), _dir: dir };
    let end = Instant::now() + Duration::from_secs(120);
    let until = |running: &mut Running, what: &dyn Fn() -> bool| {
        while !what() {
            assert!(running.child.try_wait().unwrap().is_none(), "it ended");
            assert!(Instant::now() < end, "it does not get there");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until(&mut running, &|| TcpStream::connect(&address).is_ok());
    until(&mut running, &|| curl(&address, "GET", "/readyz", "").0 == 200);
    let path = "/gum/v1/gr/enflame-gcu-resource";
    until(&mut running, &|| curl(&address, "PUT", path, r#"{"file": "gr.json"}"#).0 == 200);
    let record = "/gum/v1/upgrades/enflame-gcu-resource-1";
    until(&mut running, &|| curl(&address, "GET", record, "").1.contains("\"phase\": \"Succeeded\""));
    // With the directory gone the next line makes both anew.
    std::fs::remove_dir_all(&log).unwrap();
    let file = log.join("gcu-upgrade-manager.log");
    until(&mut running, &|| {
        curl(&address, "GET", "/gum/v1/gr", "");
        std::fs::metadata(&file).is_ok_and(|f| f.is_file() && f.len() > 0)
    });
    running.signal("TERM");
    assert!(running.ends(), "SIGTERM ends it");
}

/// Root may read everything: as root, the service is started as nobody.
#[test]
fn what_may_not_be_read_any_more_is_served_as_it_was_read_last() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let dir = TempDir::new().unwrap();
    let open_to = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open_to(dir.path(), 0o755);
    let blueprints = dir.path().join("blueprints");
    std::fs::create_dir(&blueprints).unwrap();
    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/blueprints/gr.json");
    let write = |name: &str| {
        std::fs::copy(good, blueprints.join(name)).unwrap();
        open_to(&blueprints.join(name), 0o644);
    };
    write("a.json");
    let kubeconfig = dir.path().join("kubeconfig");
    let nowhere = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    });
    std::fs::write(&kubeconfig, nowhere.to_string()).unwrap();
    // Its path may lead through directories that nobody else may enter.
    let binary = dir.path().join("gum");
    std::fs::copy(env!("CARGO_BIN_EXE_gcu-upgrade-manager"), &binary).unwrap();
    let mut command = Command::new(&binary);
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        command.uid(65534).gid(65534);
    }
    let out = dir.path().join("out");
    let file = std::fs::File::create(&out).unwrap();
    command.args(["serve", "--listen", "127.0.0.1:0", "--kubeconfig"]).arg(&kubeconfig).arg("--blueprints");
    command.arg(&blueprints).arg("--log-dir").arg(dir.path().join("log"));
    command.stdin(Stdio::null()).stderr(file.try_clone().unwrap()).stdout(file);
    let mut process = Running { child: command.spawn().unwrap(), out, _dir: TempDir::new().unwrap() };
    let address = process.word_after("address=");
    let served = || -> Vec<(String, bool, bool)> {
        let (status, text) = curl(&address, "GET", "/gum/v1/blueprints", "");
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let entries =
            answer.pointer("/content/items").unwrap_or_else(|| panic!("{text}")).as_array().unwrap();
        let of =
            |e: &Value| (e["file"].as_str().unwrap().to_owned(), e["valid"] == true, e["stale"].is_string());
        entries.iter().map(of).collect()
    };
    let entry = |file: &str, stale| (file.to_owned(), true, stale);
    assert_eq!(served(), [entry("a.json", false)]);
    open_to(&blueprints.join("a.json"), 0o000);
    write("b.json");
    assert_eq!(served(), [entry("a.json", true), entry("b.json", false)], "a file that may not be read");
    open_to(&blueprints, 0o000);
    assert_eq!(served(), [entry("a.json", true), entry("b.json", true)], "a directory that may not be read");
    open_to(&blueprints, 0o755);
    open_to(&blueprints.join("a.json"), 0o644);
    assert_eq!(served(), [entry("a.json", false), entry("b.json", false)], "all may be read again");
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
