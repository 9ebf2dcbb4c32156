//! The scripts that build, deploy and delete, with stand-ins for every program that they drive.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::chart::repository;
use crate::skip::skipped;

/// What the scripts may use of the machine.
const REAL: [&str; 20] = [
    "sh", "sed", "dirname", "date", "mktemp", "cp", "chmod", "rm", "mkdir", "cut", "tr", "awk", "id", "cat",
    "mv", "touch", "printf", "env", "head", "ls",
];

/// Answers like the real one as far as the scripts look; every call is written down.
const STAND_INS: [(&str, &str); 7] = [
    (
        "docker",
        r#"case "$1" in
             info) exit "${DOCKER_INFO:-0}" ;;
             inspect) [ -f "$STATE/image" ] ;;
             build) touch "$STATE/image"; exit "${BUILD:-0}" ;;
             rmi) rm "$STATE/image" ;;
             push) exit "${PUSH:-0}" ;;
             save) echo archive >"$3" ;;
           esac"#,
    ),
    (
        "buildah",
        r#"case "$1" in
             inspect) exit 1 ;;
             push) target="${3#docker-archive:}"; echo archive >"${target%%:*}" ;;
           esac"#,
    ),
    (
        "kubectl",
        r#"case "$*" in
             *"get nodes"*enflame*) printf "${CLAIMED:-}" ;;
             *"get daemonsets"*) printf "${HELD:-}"; exit "${SETS:-0}" ;;
             *"get deployment"*) printf '%s' "${DEPLOYED:-}" ;;
             *"get nodes"*) printf '%s' "$NODES" ;;
             *"get crd gcuresources"*) [ -n "${NO_OPERATOR:-}" ] || echo crd/gcuresources ;;
             *"get crd gcuupgrades"*) exit_code="${CLUSTER:-0}"; [ -n "${NO_CRD:-}" ] || echo crd/gcuupgrades; exit "$exit_code" ;;
             *"get gcuupgrades.gum.enflame.com"*) printf '%s' "${RECORDS:-}" ;;
             *"get mutatingwebhookconfiguration "*) [ ! -f "$STATE/keeper" ] || echo keeper; exit "${KEEPER:-0}" ;;
             *"get secret "*) [ ! -f "$STATE/secret" ] || echo secret ;;
             *"delete mutatingwebhookconfiguration "*) rm "$STATE/keeper" ;;
             *"delete secret "*) rm "$STATE/secret" ;;
           esac"#,
    ),
    (
        "helm",
        r#"case "$1" in
             status) [ -f "$STATE/release" ] || { echo "Error: release: not found" >&2; exit 1; } ;;
             upgrade) touch "$STATE/release"; exit "${HELM:-0}" ;;
             uninstall) rm "$STATE/release"; [ -z "${HOLDS:-}" ] || touch "$STATE/keeper" ;;
           esac"#,
    ),
    // Runs the last argument, as the shell on the node would.
    (
        "ssh",
        r#"for last; do :; done
           case "$*" in *"${BAD_NODE:-none}"*) cat >/dev/null; echo "no route to host" >&2; exit 255 ;; esac
           sh -c "$last""#,
    ),
    ("ctr", r#"echo "ctr got: $(cat)" >>"$STATE/calls""#),
    ("hostname", r#"echo builder"#),
];

const NODES: &str = "node-1|10.0.0.1|containerd://1.6.8\nnode-2|10.0.0.2 fd00::2|docker://20.10.7\nbuilder||containerd://1.6.8\n";

struct Desk {
    dir: TempDir,
}

struct Said {
    success: bool,
    text: String,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { dir: TempDir::new().unwrap() };
        let (bin, deploy) = (desk.path("bin"), desk.path("deploy"));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(desk.path("state")).unwrap();
        fs::create_dir_all(deploy.join("chart/gcu-upgrade-manager")).unwrap();
        for name in
            ["build-image.sh", "deploy.sh", "delete.sh", "common.sh", "chart/gcu-upgrade-manager/Chart.yaml"]
        {
            fs::copy(repository().join("deploy").join(name), deploy.join(name)).unwrap();
        }
        fs::copy(repository().join("Dockerfile"), desk.path("Dockerfile")).unwrap();
        for name in REAL {
            let found =
                ["/bin", "/usr/bin"].map(|d| PathBuf::from(d).join(name)).into_iter().find(|p| p.exists());
            symlink(found.unwrap(), bin.join(name)).unwrap();
        }
        for (name, body) in STAND_INS {
            desk.stand_in(name, &format!("printf '%s\\n' \"{name} $*\" >>\"$STATE/calls\"\n{body}"));
        }
        desk.stand_in("sudo", "shift\nexec \"$@\"");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn stand_in(&self, name: &str, body: &str) {
        let file = self.path("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn without(self, program: &str) -> Self {
        fs::remove_file(self.path("bin").join(program)).unwrap();
        self
    }

    fn run(&self, script: &str, arguments: &[&str], env: &[(&str, &str)]) -> Said {
        let output = Command::new("/bin/sh")
            .arg(self.path("deploy").join(script))
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("STATE", self.path("state"))
            .env("NODES", NODES)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].map(|t| String::from_utf8(t).unwrap()).concat();
        Said { success: output.status.success(), text }
    }

    /// The calls since the last look, without those that change nothing.
    fn calls(&self) -> Vec<String> {
        let file = self.path("state/calls");
        let all = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        let looks = [
            "docker info",
            "docker inspect",
            "buildah inspect",
            "buildah info",
            "helm status",
            "hostname",
            "kubectl get",
            "kubectl -n kube-system get secret",
        ];
        let changes = all.lines().filter(|l| !looks.iter().any(|k| l.starts_with(k)));
        changes.map(|l| l.replace(&self.dir.path().display().to_string(), "DIR")).collect()
    }

    fn binary(&self) -> String {
        let file = self.path("binary");
        fs::write(&file, "binary").unwrap();
        file.display().to_string()
    }
}

/// Whether each text begins a line, in this order.
fn in_order(said: &str, lines: &[&str]) {
    let mut rest = said.lines();
    for line in lines {
        assert!(rest.any(|l| l.starts_with(line)), "{line:?} is missing, or late: {said}");
    }
}

#[test]
fn the_scripts_are_sound_shell() {
    let scripts = ["build-image.sh", "deploy.sh", "delete.sh", "kubectl-plugin.sh"];
    let all = scripts.iter().copied().chain(["common.sh"]);
    let folder = repository().join("deploy");
    for script in all {
        for shell in ["sh", "bash"] {
            let output = Command::new(shell).arg("-n").arg(folder.join(script)).output().unwrap();
            assert!(output.status.success(), "{shell} -n {script}: {output:?}");
        }
    }
    let others = [
        "krew/kubectl_complete-gcu_upgrade",
        "../.ci/run",
        "../tests/fuzz/run.sh",
        "../tests/image/check.sh",
    ];
    let mut command = Command::new("shellcheck");
    let Ok(output) = command.arg("-x").args(scripts).args(others).current_dir(folder).output() else {
        return skipped("shellcheck is not installed");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn help_is_given_without_anything_installed() {
    let desk = Desk::new().without("docker").without("buildah").without("kubectl").without("helm");
    for script in ["build-image.sh", "deploy.sh", "delete.sh"] {
        let said = desk.run(script, &["--help"], &[]);
        assert!(said.success && said.text.contains(&format!("Usage: ./{script}")), "{}", said.text);
        let said = desk.run(script, &["--nonsense"], &[]);
        assert!(!said.success && said.text.contains("unknown argument --nonsense"), "{}", said.text);
    }
}

#[test]
fn an_image_is_built_from_a_binary_and_saved_as_often_as_one_likes() {
    let desk = Desk::new();
    let binary = desk.binary();
    for round in 1..=2 {
        let said = desk.run("build-image.sh", &[], &[("BINARY", &binary)]);
        assert!(said.success, "{}", said.text);
        in_order(
            &said.text,
            &[
                "1. Clear old image if exist",
                "2. Build image start...",
                "build image success",
                "3. save image to ./images",
                "build success",
            ],
        );
        let calls = desk.calls();
        assert_eq!(calls.iter().any(|c| c.starts_with("docker rmi")), round == 2, "{calls:?}");
        let build = calls.iter().find(|c| c.starts_with("docker build")).unwrap();
        assert!(build.contains("--target prebuilt --build-arg BINARY=gcu-upgrade-manager"), "{build}");
        let image = concat!("enflame/gcu-upgrade-manager:", env!("CARGO_PKG_VERSION"));
        assert!(build.contains(&format!("-t {image} ")), "{build}");
        assert!(calls.last().unwrap().ends_with(image), "{calls:?}");
    }
    let archive = format!("deploy/images/gcu-upgrade-manager_{}.tar", env!("CARGO_PKG_VERSION"));
    assert_eq!(fs::read_to_string(desk.path(&archive)).unwrap(), "archive\n");
}

#[test]
fn a_tool_that_is_there_but_does_not_work_is_passed_over() {
    let desk = Desk::new();
    let binary = desk.binary();
    let said = desk.run("build-image.sh", &[], &[("BINARY", &binary), ("DOCKER_INFO", "1")]);
    assert!(said.success && said.text.contains("built with: buildah"), "{}", said.text);
    let saved = desk.calls().pop().unwrap();
    assert!(saved.starts_with("buildah push enflame/gcu-upgrade-manager:"), "{saved}");
    assert!(saved.contains(" docker-archive:"), "{saved}");
    let said =
        desk.without("buildah").run("build-image.sh", &[], &[("BINARY", &binary), ("DOCKER_INFO", "1")]);
    assert!(
        !said.success && said.text.contains("none of docker, podman, nerdctl and buildah"),
        "{}",
        said.text
    );
}

#[test]
fn a_build_that_fails_is_said_and_saves_nothing() {
    let desk = Desk::new();
    let said = desk.run("build-image.sh", &[], &[("BUILD", "1")]);
    assert!(!said.success && said.text.contains("the image could not be built"), "{}", said.text);
    let calls = desk.calls();
    assert!(calls.iter().all(|c| !c.starts_with("docker save")), "{calls:?}");
    assert!(calls[0].ends_with(" DIR"), "from source, the repository is the context: {calls:?}");
    let said = desk.run("build-image.sh", &[], &[("BINARY", "/absent")]);
    assert!(!said.success && said.text.contains("there is no file /absent"), "{}", said.text);
}

#[test]
fn an_image_that_is_pushed_is_not_loaded_to_nodes() {
    let desk = Desk::new();
    for _ in 0..2 {
        let said = desk.run("deploy.sh", &[], &[("IMAGE", "mirror.test:5000/a/gum"), ("TAG", "7")]);
        assert!(said.success, "{}", said.text);
        in_order(
            &said.text,
            &[
                "1. ",
                "push image success",
                "2. ",
                "not needed",
                "3. ",
                "deploy gcu upgrade manager success",
                "the command line for people, kubectl gcu-upgrade: install it on this machine with",
                "the page for people is at /ui/",
            ],
        );
        assert!(said.text.contains("/deploy/kubectl-plugin.sh"), "{}", said.text);
        let calls = desk.calls();
        assert_eq!(calls[0], "docker push mirror.test:5000/a/gum:7");
        assert!(
            calls[1].starts_with(
                "helm upgrade --install gcu-upgrade-manager DIR/deploy/chart/gcu-upgrade-manager"
            )
        );
        assert!(
            calls[1].contains("image.registry=mirror.test:5000,image.repository=a/gum,image.tag=7"),
            "{calls:?}"
        );
        assert!(calls[1].contains("--namespace kube-system") && calls[1].contains("--wait"), "{calls:?}");
    }
}

#[test]
fn an_image_that_cannot_be_pushed_is_loaded_to_every_node_by_its_own_runtime() {
    let desk = Desk::new();
    let binary = desk.binary();
    let env = [("BINARY", &*binary), ("IMAGE", "mirror.test/gum"), ("PUSH", "1"), ("SSH_USER", "op")];
    assert!(desk.run("build-image.sh", &[], &env).success);
    desk.calls();
    let said = desk.run("deploy.sh", &[], &env);
    assert!(said.success, "{}", said.text);
    in_order(
        &said.text,
        &[
            "Push image to mirror.test failed, will load image to all nodes",
            "cluster node name list:",
            "node-1",
            "node-2",
            "builder",
            "load image to cluster nodes success",
            "3. ",
        ],
    );
    let calls = desk.calls();
    let count = |what: &str| calls.iter().filter(|c| c.starts_with(what)).count();
    assert_eq!(count("ctr -n k8s.io images import -"), 2, "node-1 over ssh, and here: {calls:?}");
    assert_eq!(count("ctr got: archive"), 2, "{calls:?}");
    assert_eq!(count("docker load"), 1, "{calls:?}");
    assert_eq!(count("ssh "), 2, "{calls:?}");
    assert!(calls.iter().any(|c| c.contains(" op@10.0.0.2 ")), "{calls:?}");
}

#[test]
fn a_name_without_a_registry_is_not_pushed_anywhere() {
    let desk = Desk::new();
    let said = desk.run("deploy.sh", &["--no-load"], &[]);
    assert!(said.success && said.text.contains("names no registry"), "{}", said.text);
    let calls = desk.calls();
    assert!(calls.iter().all(|c| !c.contains("push")), "{calls:?}");
}

#[test]
fn a_node_that_cannot_be_reached_is_named_and_nothing_is_installed() {
    let desk = Desk::new();
    let binary = desk.binary();
    assert!(desk.run("build-image.sh", &[], &[("BINARY", &binary)]).success);
    let said = desk.run("deploy.sh", &[], &[("BAD_NODE", "10.0.0.1")]);
    assert!(!said.success, "{}", said.text);
    assert!(said.text.contains("could not load the image to: node-1\n"), "{}", said.text);
    let calls = desk.calls();
    assert!(calls.iter().any(|c| c.starts_with("docker load")), "the others have it: {calls:?}");
    assert!(calls.iter().all(|c| !c.starts_with("helm")), "{calls:?}");
}

#[test]
fn without_an_archive_or_without_gcu_operator_it_says_so() {
    let desk = Desk::new();
    let said = desk.run("deploy.sh", &[], &[]);
    assert!(!said.success && said.text.contains("make it with ./build-image.sh"), "{}", said.text);
    let said = desk.run("deploy.sh", &["--no-load"], &[("NO_OPERATOR", "1")]);
    assert!(said.success && said.text.contains("gcu-operator is not installed"), "{}", said.text);
    let calls = desk.calls();
    assert!(calls.iter().all(|c| !c.contains("--wait")), "it would wait in vain: {calls:?}");
    let said = desk.run("deploy.sh", &["--no-load"], &[("HELM", "1")]);
    assert!(!said.success && said.text.contains("the chart could not be installed"), "{}", said.text);
}

#[test]
fn a_crd_that_is_there_already_is_left_to_the_service() {
    let desk = Desk::new();
    let helm = |env: &[(&str, &str)]| {
        let said = desk.run("deploy.sh", &["--no-load"], env);
        assert!(said.success, "{}", said.text);
        (said.text, desk.calls().into_iter().find(|c| c.starts_with("helm upgrade")).unwrap())
    };
    let (_, call) = helm(&[("NO_CRD", "1")]);
    assert!(!call.contains("--skip-crds"), "{call}");
    let (said, call) = helm(&[]);
    assert!(call.contains(" --skip-crds") && said.contains("crd.manage"), "{call}: {said}");
    let said = desk.run("deploy.sh", &["--no-load"], &[("CLUSTER", "1")]);
    assert!(!said.success && said.text.contains("could not be asked"), "{}", said.text);
    assert_eq!(desk.calls(), [""; 0]);
}

#[test]
fn values_and_options_reach_helm() {
    let desk = Desk::new();
    fs::write(desk.path("own.yaml"), "replicas: 2\n").unwrap();
    let said = desk.run("deploy.sh", &["--no-load", "-f", "own.yaml", "--", "--set", "auth=kubernetes"], &[]);
    assert!(said.success, "{}", said.text);
    let calls = desk.calls();
    let helm = calls.iter().find(|c| c.starts_with("helm upgrade")).unwrap();
    assert!(helm.contains("-f own.yaml ") && helm.ends_with("--set auth=kubernetes"), "{helm}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let desk = Desk::new();
    for (script, arguments) in [
        ("build-image.sh", &["--dry-run"][..]),
        ("deploy.sh", &["--dry-run"]),
        ("delete.sh", &["--dry-run", "--purge"]),
    ] {
        let said = desk.run(script, arguments, &[("IMAGE", "mirror.test/gum")]);
        assert!(said.success && said.text.contains("would run: "), "{script}: {}", said.text);
        assert_eq!(desk.calls(), [""; 0], "{script}");
        assert!(!said.text.contains("success"), "{script}: {}", said.text);
    }
    assert!(!desk.path("deploy/images").exists());
}

#[test]
fn deleting_keeps_the_records_and_may_be_said_twice() {
    let desk = Desk::new();
    assert!(desk.run("deploy.sh", &["--no-load"], &[]).success);
    desk.calls();
    let records = ("RECORDS", "gr-1 Succeeded\ngr-2 RolledBack\ngr-3 Failed\n");
    let said = desk.run("delete.sh", &[], &[records]);
    assert!(said.success, "{}", said.text);
    let lines = [
        "1. ",
        "none is",
        "2. ",
        "it is not installed",
        "3. ",
        "4. ",
        "nothing",
        "5. ",
        "kept, with their CRD",
    ];
    in_order(&said.text, &lines);
    let calls = desk.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].starts_with("helm uninstall gcu-upgrade-manager --namespace kube-system"), "{calls:?}");
    let said = desk.run("delete.sh", &[], &[("NO_CRD", "1")]);
    assert!(said.success && said.text.contains("it is not installed"), "{}", said.text);
    assert_eq!(desk.calls(), [""; 0]);
}

#[test]
fn deleting_removes_the_keeper_before_the_service_goes_and_leaves_nothing_of_it() {
    let desk = Desk::new();
    assert!(desk.run("deploy.sh", &["--no-load"], &[]).success);
    for thing in ["keeper", "secret"] {
        fs::write(desk.path("state").join(thing), "").unwrap();
    }
    desk.calls();
    // The service still holds something, and puts the keeper back until it is gone.
    let said = desk.run("delete.sh", &[], &[("HOLDS", "1")]);
    assert!(said.success, "{}", said.text);
    in_order(&said.text, &["1. ", "2. Remove the keeper", "3. ", "4. "]);
    let remove = "kubectl delete mutatingwebhookconfiguration gcu-upgrade-manager-keeper --ignore-not-found";
    let calls = desk.calls();
    assert_eq!([&calls[0], &calls[2]], [remove; 2], "{calls:?}");
    assert!(calls[1].starts_with("helm uninstall"), "{calls:?}");
    let secret = "kubectl -n kube-system delete secret gcu-upgrade-manager-keeper --ignore-not-found";
    assert_eq!((calls[3].as_str(), calls.len()), (secret, 4));
    assert!(!desk.path("state/keeper").exists() && !desk.path("state/secret").exists());
    let said = desk.run("delete.sh", &["--force"], &[("KEEPER", "1")]);
    assert!(
        !said.success && said.text.contains("the cluster could not be asked for the keeper"),
        "{}",
        said.text
    );
}

#[test]
fn deleting_is_refused_while_an_upgrade_is_under_way() {
    // A record that has not been taken up yet has no phase.
    for records in ["gr-1 Succeeded\ngr-2 Held\n", "gr-2 \n", "gr-2 Paused\n"] {
        let desk = Desk::new();
        assert!(desk.run("deploy.sh", &["--no-load"], &[]).success);
        desk.calls();
        let said = desk.run("delete.sh", &["--purge"], &[("RECORDS", records)]);
        assert!(!said.success && said.text.contains("under way: gr-2"), "{}", said.text);
        assert_eq!(desk.calls(), [""; 0]);
        let said = desk.run("delete.sh", &["--force", "--purge"], &[("RECORDS", records)]);
        assert!(said.success, "{}", said.text);
        let calls = desk.calls();
        assert!(calls[0].starts_with("helm uninstall"), "the service goes first: {calls:?}");
        assert!(calls[1].starts_with("kubectl patch gcuupgrades.gum.enflame.com gr-2 "), "{calls:?}");
        assert!(calls[2].starts_with("kubectl delete crd gcuupgrades.gum.enflame.com"), "{calls:?}");
    }
}

#[test]
fn while_only_the_keeper_keeps_daemon_sets_held_not_even_force_uninstalls() {
    let desk = Desk::new();
    assert!(desk.run("deploy.sh", &["--no-load"], &[]).success);
    desk.calls();
    for (step, goal, guarded, exposed) in [
        ("Locking", "Target", "true", true),
        ("Propagating", "Target", "true", true),
        ("Propagating", "Target", "", false),
        ("Rolling", "Previous", "true", true),
        ("Rolling", "Target", "true", false),
        ("Restoring", "Previous", "true", false),
    ] {
        let records = format!("gr-2 Running {step} guarded={guarded} goal={goal}\n");
        let records = ("RECORDS", records.as_str());
        let said = desk.run("delete.sh", &["--force", "--dry-run"], &[records]);
        assert_eq!(said.success, !exposed, "{step}: {}", said.text);
        assert_eq!(said.text.contains("close the upgrade first"), exposed, "{step}: {}", said.text);
        let said = desk.run("delete.sh", &["--force", "--unlock", "--dry-run"], &[records]);
        assert!(said.success, "{step}: {}", said.text);
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_no_reason_to_delete() {
    let desk = Desk::new();
    let said = desk.run("delete.sh", &["--force"], &[("CLUSTER", "1")]);
    assert!(!said.success && said.text.contains("the cluster could not be asked"), "{}", said.text);
    assert_eq!(desk.calls(), [""; 0]);
}

const HELD: (&str, &str) = (
    "HELD",
    r#"kube-system\tdriver\theld=true\t{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1}}\nkube-system\tother\theld=\t\nenflame\tplugin\theld=true\t\nenflame\told\theld=\t{"type":"OnDelete"}\n"#,
);
const CLAIMED: (&str, &str) =
    ("CLAIMED", r#"node-1\t{"preCordoned":false}\nnode-2\t\nnode-3\t{"preCordoned":true}\n"#);

#[test]
fn deleting_says_what_it_leaves_behind_by_name() {
    let desk = Desk::new();
    let said = desk.run("delete.sh", &["--force", "--purge"], &[HELD, CLAIMED]);
    assert!(said.success, "{}", said.text);
    assert!(
        said.text.contains("DaemonSets held at OnDelete: kube-system/driver enflame/plugin enflame/old \n"),
        "{}",
        said.text
    );
    assert!(said.text.contains("nodes cordoned or claimed: node-1 node-3 \n"), "{}", said.text);
    assert!(said.text.contains("--force --unlock"), "{}", said.text);
    let unread = desk.run("delete.sh", &["--unlock"], &[HELD, CLAIMED, ("SETS", "1")]);
    assert!(!unread.success && unread.text.contains("the DaemonSets could not be read"), "{}", unread.text);
    assert!(
        !desk.calls().iter().any(|c| c.contains("node-") || c.contains("daemonset")),
        "nothing is changed"
    );
}

#[test]
fn unlocking_gives_back_nodes_then_daemonsets_and_needs_kubectl_alone() {
    let desk = Desk::new().without("helm");
    let said = desk.run("delete.sh", &["--unlock"], &[HELD, CLAIMED, ("DEPLOYED", "deployment.apps/x")]);
    assert!(!said.success && said.text.contains("helm is not installed"), "{}", said.text);
    assert_eq!(desk.calls(), [""; 0]);
    let dry = desk.run("delete.sh", &["--unlock", "--dry-run"], &[HELD, CLAIMED]);
    assert!(dry.success && dry.text.matches("would run: kubectl patch").count() == 5, "{}", dry.text);
    assert_eq!(desk.calls(), [""; 0]);
    let said = desk.run("delete.sh", &["--unlock"], &[HELD, CLAIMED]);
    assert!(said.success, "{}", said.text);
    let off = r#"{"metadata":{"annotations":{"gum.enflame.com/upgrade":null}}"#;
    let free = r#"{"metadata":{"labels":{"gum.enflame.com/held":null},"annotations":{"gum.enflame.com/update-strategy":null,"gum.enflame.com/hold":null}}"#;
    let set = |namespace: &str, name: &str, spec: &str| {
        format!("kubectl patch daemonset {name} --namespace {namespace} --type merge -p {free}{spec}}}")
    };
    let rolling =
        r#","spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1}}}"#;
    assert_eq!(
        desk.calls(),
        [
            format!(r#"kubectl patch node node-1 --type merge -p {off},"spec":{{"unschedulable":null}}}}"#),
            format!("kubectl patch node node-3 --type merge -p {off}}}"),
            set("kube-system", "driver", rolling),
            set("enflame", "plugin", ""),
            set("enflame", "old", r#","spec":{"updateStrategy":{"type":"OnDelete"}}"#),
        ]
    );
    assert!(said.text.contains("node-3 was cordoned before, and stays so"), "{}", said.text);
    assert!(said.text.contains("enflame/plugin does not say which update strategy it had"), "{}", said.text);
}
