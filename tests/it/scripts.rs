//! The scripts that build, deploy and delete, with stand-ins for every program that they drive.

mod deleting;
mod desk;

use std::fs;
use std::process::Command;

use crate::chart::repository;
use crate::skip::skipped;
use desk::Desk;

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
