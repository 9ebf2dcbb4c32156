//! How the command line gets onto a machine: by the script of `deploy`, and as an archive laid out for krew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::executable;

/// A copy of what the script needs, so that nothing is written into the repository.
fn release() -> TempDir {
    let (dir, repository) = (TempDir::new().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let deploy = dir.path().join("deploy");
    for folder in ["krew", "chart/gcu-upgrade-manager"] {
        fs::create_dir_all(deploy.join(folder)).unwrap();
    }
    for file in [
        "deploy/kubectl-plugin.sh",
        "deploy/common.sh",
        "deploy/krew/gcu-upgrade.yaml",
        "deploy/krew/kubectl_complete-gcu_upgrade",
        "deploy/chart/gcu-upgrade-manager/Chart.yaml",
        "LICENSE",
    ] {
        fs::copy(repository.join(file), dir.path().join(file)).unwrap();
    }
    let program = Path::new(env!("CARGO_BIN_EXE_kubectl-gcu_upgrade"));
    executable::copy(program, &deploy.join("kubectl-gcu_upgrade"));
    dir
}

fn run(dir: &TempDir, arguments: &[&str], env: &[(&str, &Path)]) -> Output {
    let mut command = Command::new("sh");
    command.arg(dir.path().join("deploy/kubectl-plugin.sh")).args(arguments).envs(env.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[test]
fn the_script_installs_the_command_its_helper_and_its_man_page() {
    let (release, prefix) = (release(), TempDir::new().unwrap());
    let dry = run(&release, &["--dry-run"], &[("PREFIX", prefix.path())]);
    assert!(dry.status.success() && text(&dry).contains("would run: cp"), "{}", text(&dry));
    assert_eq!(fs::read_dir(prefix.path()).unwrap().count(), 0, "nothing is installed");
    for _ in 0..2 {
        let done = run(&release, &[], &[("PREFIX", prefix.path())]);
        assert!(done.status.success(), "{}", text(&done));
    }
    let bin = prefix.path().join("bin");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let helper =
        Command::new(bin.join("kubectl_complete-gcu_upgrade")).args(["sta"]).env("PATH", path).output();
    assert!(text(&helper.unwrap()).starts_with("status\t"), "the helper finds the command");
    let man = fs::read_to_string(prefix.path().join("share/man/man1/kubectl-gcu_upgrade.1")).unwrap();
    assert!(man.contains(".TH") && man.contains("UPGRADE OPTIONS"), "{man:.300}");
}

#[test]
fn the_archive_is_what_its_manifest_says() {
    let release = release();
    let done = run(&release, &["--archive"], &[]);
    assert!(done.status.success(), "{}", text(&done));
    let plugin = release.path().join("deploy/plugin");
    let manifest: Value =
        serde_saphyr::from_str(&fs::read_to_string(plugin.join("gcu-upgrade.yaml")).unwrap()).unwrap();
    let platform = &manifest["spec"]["platforms"][0];
    assert_eq!(manifest["spec"]["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    let archive = PathBuf::from(platform["uri"].as_str().unwrap().strip_prefix("file://").unwrap());
    let digest = Command::new("sha256sum").arg(&archive).output().unwrap();
    assert_eq!(text(&digest).split(' ').next(), platform["sha256"].as_str());
    let listed = Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
    let listed = text(&listed);
    for file in platform["files"].as_array().unwrap() {
        let name = file["from"].as_str().unwrap();
        assert!(listed.lines().any(|line| line.trim_start_matches("./") == name), "{name}: {listed}");
    }
    assert_eq!(platform["bin"], "kubectl-gcu_upgrade");
}

#[test]
fn help_is_given_and_a_mistake_is_named() {
    let release = release();
    let help = run(&release, &["--help"], &[]);
    assert!(help.status.success() && text(&help).contains("Usage: ./kubectl-plugin.sh"), "{}", text(&help));
    let wrong = run(&release, &["--nonsense"], &[]);
    assert!(
        !wrong.status.success() && text(&wrong).contains("unknown argument --nonsense"),
        "{}",
        text(&wrong)
    );
    let absent = run(&release, &[], &[("PLUGIN", Path::new("/absent"))]);
    assert!(
        !absent.status.success() && text(&absent).contains("there is no file /absent"),
        "{}",
        text(&absent)
    );
}
