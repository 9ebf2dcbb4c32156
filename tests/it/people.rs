//! The command line as a process: what it prints, what it changes, and the code it ends with.

mod blueprints;
mod doctor;
mod installing;
mod refused;
mod with_rights;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::Running;

/// The risks of the shipped blueprints and of a sandbox with users.
const ACCEPT: &str = "--accept=MutableTag,UnknownField,NothingChanged,GcuLost,AllNodesAtOnce,NothingRuns";

/// `kubectl gcu-upgrade`, with nothing of the machine's own settings.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-gcu_upgrade"));
    for variable in std::env::vars().map(|(name, _)| name) {
        if variable.starts_with("GUM_") || variable.starts_with("KUBE") {
            command.env_remove(variable);
        }
    }
    command.env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// Ended with this code.
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// A sandbox, and the two ways to ask it.
struct Desk {
    _sandbox: Running,
    kubeconfig: PathBuf,
    url: String,
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let kubeconfig = dir.path().join("kubeconfig");
        let path = kubeconfig.display().to_string();
        let args = ["sandbox", "--listen", "127.0.0.1:0", "--pod-start", "0s", "--kubeconfig-out", &path];
        let mut sandbox = Running::start(&args, &[]);
        let url =
            sandbox.word_after("curl http").trim_end_matches("/gum/v1/gr/enflame-gcu-resource").to_owned();
        let url = format!("http{url}");
        // Until the service acts: its Lease is the last that it takes.
        let desk = Self { _sandbox: sandbox, kubeconfig, url, dir };
        let ready = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            desk.cluster(&["doctor"]).out.contains("✔ acts")
        });
        assert!(ready, "{}", desk.cluster(&["doctor"]).out);
        desk
    }

    /// Asks the cluster.
    fn cluster(&self, args: &[&str]) -> Said {
        command().args(args).arg("--kubeconfig").arg(&self.kubeconfig).output().unwrap().into()
    }

    /// Asks the service.
    fn server(&self, args: &[&str]) -> Said {
        command().args(args).args(["--server", &self.url]).output().unwrap().into()
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

#[test]
fn an_upgrade_is_planned_begun_watched_looked_at_and_taken_back_from_the_cluster_and_from_the_service() {
    let desk = Desk::new();
    for ask in [Desk::cluster, Desk::server] {
        let run = |args: &[&str]| ask(&desk, args);
        let plan = run(&["plan", "--set", "devicePlugin.version=9.1", "--max-unavailable", "2"]).ends(0);
        assert!(
            plan.out.contains("~ devicePlugin   version latest → 9.1   cordons   + exporter, gfd restart"),
            "{}",
            plan.out
        );
        assert!(plan.out.contains("Nodes   3, 2 at once (at least 1 stay up)"), "{}", plan.out);
        let coded =
            run(&["plan", "--set", "devicePlugin.version=9.1", "--max-unavailable", "2", "--exit-code"]);
        coded.ends(21);
        let coded = run(&[
            "plan",
            "--set",
            "devicePlugin.version=9.1",
            "--max-unavailable",
            "2",
            "--exit-code",
            ACCEPT,
        ]);
        coded.ends(20);
        let begun = run(&[
            "upgrade",
            "--min-ready",
            "0",
            "--set",
            "devicePlugin.version=9.1",
            "--max-unavailable",
            "2",
            "-y",
            ACCEPT,
            "-w",
            "--reason",
            "升级",
        ])
        .ends(0);
        assert!(begun.out.contains(" Succeeded 3/3 done"), "{}", begun.out);
        assert!(!begun.out.contains('\u{1b}'), "no terminal, no colours: {}", begun.out);
        let name = run(&["get", "-o", "jsonpath={[0].name}"]).ends(0).out;
        let one = run(&["get", &name, "-o", "json"]).ends(0).json();
        assert_eq!(one["change"], "devicePlugin latest → 9.1");
        assert_eq!(one["reason"], "升级");
        assert!(one["accepted"].as_array().unwrap().contains(&"MutableTag".into()), "{one}");
        assert!(run(&["get"]).ends(0).out.contains("✔ Succeeded"), "the list");
        assert!(
            run(&["status"])
                .ends(0)
                .out
                .starts_with(&format!("{name}  devicePlugin latest → 9.1  ✔ Succeeded")),
            "the status"
        );
        assert!(run(&["nodes"]).ends(0).out.contains("node-3  ✔ Current"), "the nodes");
        assert!(run(&["nodes", "node-2"]).ends(0).out.contains("enflame-gcu-k8s-plugin-"), "one node");
        // The service shows a look that it has taken to whoever asks within a second.
        std::thread::sleep(Duration::from_secs(1));
        assert!(
            run(&["why"]).ends(0).out.contains("no upgrade of gr enflame-gcu-resource is under way"),
            "the why"
        );
        assert!(
            run(&["wait", &name, "--for", "succeeded", "--timeout", "1s"]).ends(0).out.contains("Succeeded")
        );
        let done = run(&["upgrade", "--set", "devicePlugin.version=9.1", "-y"]).ends(0);
        assert!(done.out.contains("is at this version already"), "{}", done.out);
        let number = name.rsplit_once('-').unwrap().1;
        assert!(run(&["history"]).ends(0).out.contains(&format!("{number} *")), "the history");
        let before = (number.parse::<u64>().unwrap() - 1).to_string();
        let diff = run(&["history", number, "--diff", &before]).ends(0);
        assert_eq!(diff.out, "~ devicePlugin\n    version: latest → 9.1\n");
        let back = run(&["rollback", "-y", ACCEPT, "-o", "name"]).ends(0);
        assert!(back.out.starts_with("gcuupgrade.gum.enflame.com/enflame-gcu-resource-"), "{}", back.out);
        run(&["wait", "--for", "Finished", "--timeout", "1m"]).ends(0);
        assert!(run(&["status"]).ends(0).out.contains("devicePlugin 9.1 → latest"), "the way back");
    }
}

#[test]
fn a_rollout_is_paused_resumed_promoted_and_cancelled_with_codes_that_scripts_can_rely_on() {
    let desk = Desk::new();
    let run = |args: &[&str]| desk.cluster(args);
    let how = ["--set", "devicePlugin.version=9.2", "--canary", "1", "-y", ACCEPT];
    run(&[&["upgrade"], &how[..]].concat()).ends(0);
    run(&["wait", "--for", "paused", "--timeout", "1m"]).ends(0);
    // Succeeded is waited for in vain: a person has to promote.
    let waited = run(&["wait", "--timeout", "1m"]).ends(9);
    assert!(waited.err.contains("the canary nodes are done"), "{}", waited.err);
    let seen = run(&["status"]).ends(0);
    assert!(seen.out.contains("try: kubectl gcu-upgrade promote"), "{}", seen.out);
    let resumed = run(&["resume"]).ends(5);
    assert!(resumed.err.contains("promote it instead"), "{}", resumed.err);
    let dry = run(&["promote", "--dry-run"]).ends(0);
    assert!(dry.out.contains("nothing was changed"), "{}", dry.out);
    run(&["wait", "--timeout", "1s"]).ends(9);
    run(&["skip", "node-3", "-y", "--reason", "in repair"]).ends(0);
    let skip = run(&["get", "-o", "jsonpath={[0].phase}"]).ends(0);
    assert_eq!(skip.out, "Paused");
    let asked = run(&["cancel"]).ends(2);
    assert!(asked.err.contains("nobody to ask: give --yes"), "{}", asked.err);
    run(&["cancel", "-y"]).ends(0);
    run(&["wait", "--timeout", "1m"]).ends(10);
    run(&["status", "-w"]).ends(10);
    run(&["pause"]).ends(5);
}

#[test]
fn a_blueprint_of_ones_own_is_checked_before_it_is_sent_and_upgraded_to() {
    let desk = Desk::new();
    let mistake = desk.file(
        "gr.yaml",
        "apiVersion: topsops.enflame.com/v1\nkind: GcuResource\nmetadata: {name: x}\nspec:\n  driver: \
                                        {notDeploy: maybe}\n",
    );
    let said = desk.cluster(&["plan", "-f", &mistake]).ends(2);
    assert!(said.err.contains("gr.yaml:5:23: error: this must be true or false"), "{}", said.err);
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("blueprints/gr.json").display().to_string();
    let options = r#"{"batches": [1, 2], "drain": {"onTimeout": "Skip"}, "maxUnavailable": 3}"#;
    let options = desk.file("options.json", options);
    for ask in [Desk::cluster, Desk::server] {
        let beside = ["--rolling-update", &options, "--max-unavailable", "2", "--drain-timeout", "1h"];
        let steps = ask(&desk, &[&["plan", "-f", &good], &beside[..]].concat()).ends(0);
        assert!(steps.out.contains("2 at once") && steps.out.contains("steps of 1, 2"), "{}", steps.out);
        let plan = ask(&desk, &["plan", "-f", &good]).ends(0);
        assert!(plan.out.contains("all at once: the whole stack is down meanwhile"), "{}", plan.out);
        let dry = ask(&desk, &["upgrade", "-f", &good, "--dry-run"]).ends(0);
        assert!(dry.out.contains("nothing was changed (--dry-run)"), "{}", dry.out);
    }
    let refused = desk.cluster(&["upgrade", "--set", "driver.version=9.1", "-y"]).ends(2);
    assert!(refused.err.contains("Whoever knows them adds: --accept MutableTag"), "{}", refused.err);
    assert_eq!(
        desk.cluster(&["get", "-o", "json"]).ends(0).json(),
        Value::Array(Vec::new()),
        "nothing was changed"
    );
    desk.server(&["upgrade", "--blueprint", "gr.json", "-y", ACCEPT]).ends(0);
    let said = desk.cluster(&["plan", "--blueprint", "gr.json"]).ends(2);
    assert!(said.err.contains("give the file itself with -f"), "{}", said.err);
}

#[test]
fn an_unknown_component_a_version_that_is_no_tag_and_an_unknown_risk_are_usage_errors_and_change_nothing() {
    let desk = Desk::new();
    for ask in [Desk::cluster, Desk::server] {
        let said = ask(&desk, &["upgrade", "--set", "drivr.version=1.3.0", "-y"]).ends(2);
        assert!(said.err.contains("did you mean driver?"), "{}", said.err);
        let said = ask(&desk, &["upgrade", "--set", "driver.image=x", "-y"]).ends(2);
        assert!(said.err.contains("a version alone can be set"), "{}", said.err);
        let said = ask(&desk, &["upgrade", "--set", "driver.version=1:3", "-y"]).ends(2);
        assert!(said.err.contains("a version is a tag alone"), "{}", said.err);
        let said =
            ask(&desk, &["upgrade", "--set", "driver.version=1", "--accept", "MutableTags", "-y"]).ends(2);
        assert!(said.err.contains("MutableTag"), "{}", said.err);
        ask(&desk, &["status", "enflame-gcu-resource-77"]).ends(3);
        ask(&desk, &["nodes", "node-77"]).ends(3);
        ask(&desk, &["status"]).ends(3);
        ask(&desk, &["get", "--gr", "another"]).ends(0);
        assert_eq!(ask(&desk, &["get", "-o", "json"]).ends(0).json(), Value::Array(Vec::new()));
    }
}

#[test]
fn forms_for_programs_are_the_answers_of_the_service() {
    let desk = Desk::new();
    let plan = desk.cluster(&["plan", "--set", "driver.version=9", "-o", "json"]).ends(0).json();
    assert!(
        plan["plan"]["components"].as_array().unwrap().iter().any(|c| c["component"] == "driver"),
        "{plan}"
    );
    let yaml = desk.server(&["plan", "--set", "driver.version=9", "-o", "yaml"]).ends(0);
    assert!(yaml.out.contains("dryRun: true"), "{}", yaml.out);
    let picked = desk
        .server(&["plan", "--set", "driver.version=9", "-o", "jsonpath={.plan.strategy}{\"\\n\"}"])
        .ends(0);
    assert_eq!(picked.out, "Recreate\n");
    let said = desk.server(&["version", "-o", "name"]).ends(2);
    assert!(said.err.contains("use -o json"), "{}", said.err);
    command().args(["get", "-o", "jsonpath={.a"]).output().map(Said::from).unwrap().ends(2);
    let version = desk.cluster(&["version"]).ends(0);
    assert!(version.out.contains(concat!("command     ", env!("CARGO_PKG_VERSION"))), "{}", version.out);
    assert!(version.out.contains("acts        sandbox"), "{}", version.out);
}

#[test]
fn completions_the_helper_of_kubectl_and_the_man_page_name_every_verb() {
    let said = |args: &[&str]| Said::from(command().args(args).output().unwrap()).ends(0).out;
    let verbs = [
        "get",
        "plan",
        "upgrade",
        "status",
        "why",
        "nodes",
        "pause",
        "resume",
        "promote",
        "cancel",
        "rollback",
        "retry",
        "skip",
        "history",
        "wait",
        "doctor",
        "version",
        "completion",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completion", shell]);
        verbs.iter().for_each(|verb| assert!(script.contains(verb), "{shell}: {verb}"));
    }
    let man = said(&["man"]);
    let help = said(&["--help"]);
    let offered = said(&["__complete", ""]);
    for verb in verbs {
        assert!(man.contains(verb) && help.contains(verb), "{verb}");
        assert!(offered.lines().any(|line| line.starts_with(&format!("{verb}\t"))), "{verb}: {offered}");
    }
    assert_eq!(said(&["__complete", "wait", "--for", "he"]), "held\tA person has to look\n:4\n");
    assert!(said(&["__complete", "status", "--wa"]).starts_with("--watch\t"));
}
