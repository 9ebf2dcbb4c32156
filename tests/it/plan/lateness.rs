//! What a node is said to be late for.

use gcu_upgrade_manager::plan::fleet::Fleet;
use gcu_upgrade_manager::record::rolling::ClaimState;

use super::rolling_properties::{Thrown, cluster};
use super::*;

/// A claimed node that may not be emptied in time, with a pod that cannot be evicted.
fn blocked() -> (GcuUpgrade, Snapshot, Fleet) {
    let thrown = Thrown {
        cordoned: true,
        mark: 1,
        tenant: true,
        bare: true,
        claim: Some(ClaimState::Emptying),
        ..Thrown::idle()
    };
    let (record, seen) = cluster(&[thrown], 1, Intent::Run);
    let known = seen.fleet.clone();
    (record, seen, known)
}

/// What is remembered of the node after this look.
fn trouble(record: &mut GcuUpgrade, seen: &Snapshot, now: Timestamp) -> Option<String> {
    if let Decision::Record(status) = decide(record, seen, now) {
        record.status = Some(*status);
    }
    let rolling = record.status.as_ref().unwrap().rolling.as_ref().unwrap();
    rolling.active[0].trouble.as_ref().map(|trouble| trouble.message.clone())
}

#[test]
fn a_node_is_not_late_before_it_is_known_what_is_on_it() {
    let (mut record, mut seen, known) = blocked();
    let late = ago(-700);
    seen.fleet.tenants.clear();
    assert_eq!(
        trouble(&mut record, &seen, late),
        None,
        "a process that has just started has read nothing yet"
    );
    seen.fleet = known;
    let said = trouble(&mut record, &seen, late).unwrap();
    assert!(said.contains("default/tenant-0"), "{said}");
}

#[test]
fn what_could_not_be_read_is_not_what_is_said_when_it_can_be() {
    let (mut record, mut seen, known) = blocked();
    let late = ago(-700);
    seen.fleet.tenants.clear();
    seen.fleet.unread.insert("n0".to_owned(), "pods is forbidden".to_owned());
    let said = trouble(&mut record, &seen, late).unwrap();
    assert_eq!(said, "node n0: the pods on it cannot be read: pods is forbidden");
    let again = trouble(&mut record, &seen, ago(-760)).unwrap();
    assert_eq!(again, said, "the wording of the first look stays");
    seen.fleet = known;
    let said = trouble(&mut record, &seen, ago(-800)).unwrap();
    assert!(said.contains("default/tenant-0"), "{said}");
}
