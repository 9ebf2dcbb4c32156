//! `delete.sh`: what it removes, what it refuses, and what it leaves.

use super::*;

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
