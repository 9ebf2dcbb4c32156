//! When two nodes fail in the same way.

use gcu_upgrade_manager::plan::rolling::breaker::cause;

#[test]
fn what_tells_one_node_or_moment_from_another_makes_no_other_cause() {
    let same = |one: &str, other: &str| {
        assert_eq!(cause(one, "node-1"), cause(other, "node-2"), "{one}\n{other}");
    };
    same(
        "node node-1: driver: image r.io/driver:2.1.0 cannot be pulled (ErrImagePull) (pod kube-system/driver-x7k2p)",
        "node node-2: driver: image r.io/driver:2.1.0 cannot be pulled (ErrImagePull) (pod kube-system/driver-99hpl)",
    );
    same(
        "driver: container main cannot start (CrashLoopBackOff: back-off 10s restarting; image a)",
        "driver: container main cannot start (CrashLoopBackOff: back-off 2m40s restarting; image a)",
    );
    same("its pods are new; node-1 does not answer", "its pods are new; node-2 does not answer");
    same(
        "failed to create sandbox 0123456789abcdef0123456789abcdef01234567",
        "failed to create sandbox ffffffffffabcdef0123456789abcdef01234567",
    );
    same(
        "pod 7f0c1d2e-0000-4000-8000-0123456789ab is gone",
        "pod 00000000-1111-4111-8111-ba9876543210 is gone",
    );
}

#[test]
fn another_component_another_reason_and_another_exit_code_are_other_causes() {
    let told = [
        "driver: container main keeps crashing: exit code 1",
        "driver: container main keeps crashing: exit code 137",
        "toolkit: container main keeps crashing: exit code 1",
        "driver: container init keeps crashing: exit code 1",
        "driver: image a cannot be pulled (ErrImagePull)",
        "driver: image b cannot be pulled (ErrImagePull)",
    ];
    let causes: std::collections::BTreeSet<String> = told.iter().map(|told| cause(told, "node-1")).collect();
    assert_eq!(causes.len(), told.len(), "{causes:#?}");
}
