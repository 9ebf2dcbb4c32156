//! The lines by which scripts of v1.0.0 followed an upgrade, in its own words (its `Accept reqeust` among them). They
//! go to the operations log alone, beside ours, at level info.

use tracing::{info, warn};

use crate::record::{GcuUpgrade, GcuUpgradeStatus, Phase, Step};

/// The target of these lines.
pub const TARGET: &str = "gcu_upgrade_manager::v1";

/// A call that may change something was accepted.
pub fn accepted(method: &str, path: &str, agent: &str, peer: &str) {
    info!(target: TARGET, "Accept reqeust: &{{{method} {path} HTTP/1.1 1 1 map[User-Agent:[{agent}]] {peer}}}");
}

/// An upgrade of this gr to this blueprint was asked for, and will be done.
pub fn upgrade_sent(gr: &str, file: &str) {
    info!(target: TARGET, "upgrade request body: {{\"file\": {file:?}}}");
    info!(target: TARGET, "send upgrade gr {gr} request success");
}

/// A delete of this gr was sent.
pub fn delete_sent(gr: &str) {
    info!(target: TARGET, "send delete request for gr: {gr} success");
}

/// The record was written: what v1.0.0 would have said on the way from `old` to `new`. It asked every 3 s and every
/// 5 s, and counted; this service is told, so its count stays at 0.
pub fn written(record: &GcuUpgrade, old: &GcuUpgradeStatus, new: &GcuUpgradeStatus) {
    let gr = &record.spec.gr;
    if new.phase != old.phase && new.phase == Phase::Succeeded {
        info!(target: TARGET, "check new cluster gr: {gr} run status is Running");
        return;
    }
    if new.step == old.step {
        return;
    }
    match new.step {
        Step::WaitingGone => {
            delete_sent(gr);
            info!(target: TARGET, "check cluster old gr: {gr} delete finish retry times: 0");
            warn!(target: TARGET, "check cluster old gr: {gr} is deleting");
        }
        Step::Creating => {
            info!(target: TARGET, "check cluster old gr: {gr} delete finish, wait new gr recreating...");
        }
        Step::WaitingRunning => {
            info!(target: TARGET, "check cluster new gr: {gr} run status retry times: 0");
            warn!(target: TARGET, "check new cluster gr: {gr} run status is deploying");
        }
        _ => {}
    }
}
