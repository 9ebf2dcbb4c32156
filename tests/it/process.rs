//! The real process as it is run in production, before the sandbox's API server: its logs, its end, TLS, probes.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use gcu_upgrade_manager::record::CRD_REVISION_ANNOTATION;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::cli::{Running, curl, run};

/// A sandbox, and a directory for what its neighbours need.
pub(crate) struct Neighbourhood {
    sandbox: Running,
    dir: TempDir,
}

impl Neighbourhood {
    pub(crate) fn new() -> Self {
        Self::logging("info")
    }

    fn logging(filter: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let args = ["sandbox", "--listen", "127.0.0.1:0", "--nodes", "2", "--pod-start", "50ms"];
        let args = [&args[..], &["--kubeconfig-out", kubeconfig.to_str().unwrap()]].concat();
        let mut sandbox = Running::start(&args, &[("GUM_LOG", filter)]);
        sandbox.word_after("listening address=");
        let blueprints = dir.path().join("blueprints");
        std::fs::create_dir(&blueprints).unwrap();
        std::fs::write(blueprints.join("gr.json"), include_str!("../../blueprints/gr.json")).unwrap();
        Self { sandbox, dir }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A service in front of the sandbox's cluster, beside the sandbox's own.
    pub(crate) fn serve(&self, more: &[&str]) -> (Running, String) {
        let (kubeconfig, blueprints, logs) =
            (self.path("kubeconfig"), self.path("blueprints"), self.path("log"));
        let args =
            ["serve", "--listen", "127.0.0.1:0", "--kubeconfig", &kubeconfig, "--blueprints", &blueprints];
        // The sandbox's own holds the usual Lease.
        let args = [&args[..], &["--log-dir", &logs, "--lease", "kube-system/beside"], more].concat();
        let service = Running::start(&args, &[]);
        let address = service.address();
        (service, address)
    }
}

impl Running {
    /// Where it listens, whatever its log looks like.
    pub(crate) fn address(&self) -> String {
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

pub(crate) fn until_ready(address: &str) {
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
        let time = words.next().unwrap().strip_suffix('Z').expect("the time says its zone");
        let time: jiff::civil::Time = time.parse().unwrap();
        let level = words.next().unwrap();
        assert!(matches!(level, "INFO" | "WARNING" | "DEBUG" | "ERROR"), "{line}");
        assert!(words.next().unwrap().rsplit_once(':').unwrap().1.parse::<u32>().is_ok(), "{line}");
        assert!(date.year() >= 2024 && time.hour() < 24);
    }
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "no escape code reaches a terminal");
    assert!(log.lines().any(|l| l.contains("recorded") && l.ends_with("request=ci-17")), "{log}");
    assert!(!said.contains("very-secret") && !log.contains("very-secret"), "no token in a log");
    assert!(log.contains("authentication is disabled; use --auth kubernetes"), "{log}");
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
fn the_keeper_is_served_on_a_port_of_its_own_and_its_keys_are_in_no_log() {
    let home = Neighbourhood::new();
    let keeper = ["--keeper-listen", "127.0.0.1:0", "--keeper-url", "https://127.0.0.1:9443"];
    let (mut service, address) = home.serve(&[&keeper[..], &["--log", "trace"]].concat());
    until_ready(&address);
    let at = service.word_after("the keeper answers admission reviews at=");
    let ask = |path: &str, body: &str| {
        let output = Command::new("curl")
            .args(["-s", "-k", "-i", "-X", "POST", "-d", body, "-H", "content-type: application/json"])
            .arg(format!("https://{at}{path}"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let review =
        r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-1"}}"#;
    let said = ask("/keep", review);
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("connection: close"), "{said}");
    assert!(said.ends_with(r#""response":{"uid":"u-1","allowed":true}}"#), "{said}");
    let said = ask("/keep", "{}");
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("missing field `apiVersion`"), "{said}");
    assert!(ask("/", review).starts_with("HTTP/1.1 404"));
    assert!(ask(GR, "").starts_with("HTTP/1.1 404"), "nothing else is served there");
    let large = home.path("large");
    std::fs::write(&large, vec![b' '; 3 * 1024 * 1024 + 1]).unwrap();
    let said = ask("/keep", &format!("@{large}"));
    assert!(said.contains("HTTP/1.1 413"), "{said}");
    let (_, metrics) = curl(&address, "GET", "/metrics", "");
    assert!(metrics.contains("\ngum_keeper_reviews_total{result=\"unreadable\"} 2\n"), "{metrics}");
    let (code, said, _) = service.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("made a certificate for the keeper"), "{said}");
    let log = std::fs::read_to_string(Path::new(&home.path("log")).join("gcu-upgrade-manager.log")).unwrap();
    for text in [said, log] {
        assert!(
            !text.contains("PRIVATE KEY") && !text.contains("LS0tLS1CRUdJTiBQUklWQVRF"),
            "a key is in a log"
        );
    }
}

#[test]
fn a_keeper_that_nobody_could_find_keeps_it_from_starting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let home = Neighbourhood::new();
    let kubeconfig = home.path("kubeconfig");
    let base = ["serve", "--listen", "127.0.0.1:0", "--kubeconfig", &kubeconfig, "--log-dir", "-"];
    let listen = ["--keeper-listen", port.as_str()];
    for (args, code, says) in [
        (
            &["--keeper-listen", "127.0.0.1:0"][..],
            2,
            "<--keeper-service <NAMESPACE/NAME>|--keeper-url <URL>>",
        ),
        (&["--keeper-url", "https://a:1"], 2, "--keeper-listen <ADDR>"),
        (&["--keeper-service", "a/b"], 2, "--keeper-listen <ADDR>"),
        (
            &["--keeper-listen", "127.0.0.1:0", "--keeper-url", "https://a", "--keeper-service", "a/b"],
            2,
            "cannot be used with",
        ),
        (
            &["--keeper-listen", "127.0.0.1:0", "--keeper-url", "http://a"],
            2,
            "is not of the form https://HOST",
        ),
        (
            &["--keeper-listen", "127.0.0.1:0", "--keeper-service", "a"],
            2,
            "is not of the form NAMESPACE/NAME",
        ),
        (&[listen[0], listen[1], "--keeper-url", "https://a"], 1, "cannot listen on"),
    ] {
        let output = run(&[&base[..], args].concat());
        let said = format!("{output:?}");
        assert!(output.status.code() == Some(code) && said.contains(says), "{args:?}: {said}");
    }
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
    let said = String::from_utf8_lossy(&both.stderr).into_owned();
    assert!(said.contains("/nowhere: No such file or directory"), "{said}");
    let lease = run(&[&base[..], &["--lease", "nothing"]].concat());
    assert_eq!(lease.status.code(), Some(2));
}

/// A record that this version cannot read, with a secret in its manifest: the CRD's schema has been taken off.
async fn put_unreadable(kubeconfig: &str, secret: &str) {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut crd = crds.get("gcuupgrades.gum.enflame.com").await.unwrap();
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    crd.spec.versions[0].schema.as_mut().unwrap().open_api_v3_schema =
        serde_json::from_value(anything).unwrap();
    let newer = (CRD_REVISION_ANNOTATION.to_owned(), "999".to_owned());
    crd.metadata.annotations.get_or_insert_default().extend([newer]);
    crds.replace("gcuupgrades.gum.enflame.com", &PostParams::default(), &crd).await.unwrap();
    let record = json!({
        "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade", "metadata": { "name": "other-1" },
        "spec": { "gr": "other", "operation": "no such", "target": { "manifest": { "spec": { "env": secret } } } },
    });
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("gum.enflame.com", "v1", "GcuUpgrade"),
        "gcuupgrades",
    );
    let records: Api<DynamicObject> = Api::all_with(client, &resource);
    records.create(&PostParams::default(), &serde_json::from_value(record).unwrap()).await.unwrap();
}

#[test]
fn nothing_of_a_manifest_is_logged_however_much_is_logged() {
    const SECRET: &str = "very-secret-value";
    let home = Neighbourhood::logging("trace");
    let mut blueprint: Value = serde_json::from_str(include_str!("../../blueprints/gr.json")).unwrap();
    blueprint["spec"]["driver"]["env"] = json!([{ "name": "TOKEN", "value": SECRET }]);
    std::fs::write(home.path("blueprints/secret.json"), blueprint.to_string()).unwrap();
    let (service, address) = home.serve(&["--log", "trace"]);
    until_ready(&address);
    let upgrade = |number: u32, strategy: &str| {
        let body = json!({ "file": "secret.json", "strategy": strategy, "force": number > 1 }).to_string();
        let put = curl(&address, "PUT", GR, &body);
        assert_eq!(put.0, 200, "{}", put.1);
        let record = format!("/gum/v1/upgrades/enflame-gcu-resource-{number}");
        let begun = Instant::now();
        while !curl(&address, "GET", &record, "").1.contains("\"phase\": \"Succeeded\"") {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", curl(&address, "GET", &record, "").1);
            sleep(Duration::from_millis(50));
        }
    };
    upgrade(1, "Recreate");
    assert!(curl(&address, "GET", GR, "").1.contains(SECRET), "it is in the gr");
    tokio::runtime::Runtime::new().unwrap().block_on(put_unreadable(&home.path("kubeconfig"), SECRET));
    upgrade(2, "Recreate");
    curl(&address, "GET", "/gum/v1/upgrades", "");
    sleep(Duration::from_secs(1));
    let (_, said, _) = service.stop();
    let log = std::fs::read_to_string(home.path("log/gcu-upgrade-manager.log")).unwrap();
    let sandbox = home.sandbox.said();
    let acted = |text: &str| text.contains("acted") && text.contains("Create(Target)");
    assert!(acted(&said) || acted(&sandbox), "what is done is logged");
    assert!(said.contains(" TRACE "), "everything is logged");
    for text in [&said, &log, &sandbox] {
        let leak = text.lines().find(|line| line.contains(SECRET));
        assert!(leak.is_none(), "{:.400}", leak.unwrap_or_default());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_service_opens_as_many_files_as_it_may() {
    let town = Neighbourhood::new();
    let (kubeconfig, blueprints) = (town.path("kubeconfig"), town.path("blueprints"));
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "ulimit -S -n 200; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_gcu-upgrade-manager"),
        "serve",
    ]);
    limited.args(["--listen", "127.0.0.1:0", "--kubeconfig", &kubeconfig, "--blueprints", &blueprints]);
    limited.args(["--log-dir", &town.path("log"), "--lease", "kube-system/limited"]);
    let mut service = limited.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let limits = || {
        let all = std::fs::read_to_string(format!("/proc/{}/limits", service.id())).unwrap_or_default();
        let line = all.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
        line.split_whitespace().skip(3).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while limits().first() != limits().get(1) && begun.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(20));
    }
    let reached = limits();
    service.kill().unwrap();
    service.wait().unwrap();
    assert!(reached.len() == 2 && reached[0] == reached[1] && reached[0] != "200", "{reached:?}");
}
