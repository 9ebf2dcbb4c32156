//! What the program does when its surroundings fail.

use std::net::TcpListener;

use super::*;
use crate::executable;

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
    executable::copy(Path::new(env!("CARGO_BIN_EXE_gcu-upgrade-manager")), &binary);
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
