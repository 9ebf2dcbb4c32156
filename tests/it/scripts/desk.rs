//! A desk to run the scripts at: a directory with stand-ins for every program that they drive.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;

use super::*;
use crate::executable;

/// What the scripts may use of the machine.
pub(super) const REAL: [&str; 20] = [
    "sh", "sed", "dirname", "date", "mktemp", "cp", "chmod", "rm", "mkdir", "cut", "tr", "awk", "id", "cat",
    "mv", "touch", "printf", "env", "head", "ls",
];

/// Answers like the real one as far as the scripts look; every call is written down.
pub(super) const STAND_INS: [(&str, &str); 7] = [
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

pub(super) const NODES: &str = "node-1|10.0.0.1|containerd://1.6.8\nnode-2|10.0.0.2 \
                                fd00::2|docker://20.10.7\nbuilder||containerd://1.6.8\n";

pub(super) struct Desk {
    pub(super) dir: TempDir,
}

pub(super) struct Said {
    pub(super) success: bool,
    pub(super) text: String,
}

impl Desk {
    pub(super) fn new() -> Self {
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

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn stand_in(&self, name: &str, body: &str) {
        let file = self.path("bin").join(name);
        executable::write(&file, &format!("#!/bin/sh\n{body}\n"));
    }

    pub(super) fn without(self, program: &str) -> Self {
        fs::remove_file(self.path("bin").join(program)).unwrap();
        self
    }

    pub(super) fn run(&self, script: &str, arguments: &[&str], env: &[(&str, &str)]) -> Said {
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
    pub(super) fn calls(&self) -> Vec<String> {
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

    pub(super) fn binary(&self) -> String {
        let file = self.path("binary");
        fs::write(&file, "binary").unwrap();
        file.display().to_string()
    }
}
