//! Why an upgrade is not progressing: one sentence for each node, with what happens when. Looked up live, with the
//! same eyes that decide.

use std::sync::Arc;

use jiff::Timestamp;

use super::attention::attention;
use super::obstacles::{OutsideWindow, Stuck, Why};
use super::progress;
use crate::gr::LiveGr;
use crate::plan::FleetAction;
use crate::plan::budget::{Budget, blocking};
use crate::plan::fleet::Fleet;
use crate::plan::gangs::KnownGangs;
use crate::plan::maintenance::{Verdict, windows};
use crate::plan::rolling::index::Index;
use crate::plan::rolling::node::{self, Move, NodeAssessment, Stage};
use crate::plan::rolling::{scope, window};
use crate::record::rolling::{Claim, ClaimState, OnTimeout, RollingStatus, SkippedNode};
use crate::record::{GcuUpgrade, Intent, OnFailure, Phase, Strategy};

/// Why this upgrade is not progressing. `budgets` is `None` when they could not be read.
pub fn why(
    record: &GcuUpgrade,
    gr: Option<&LiveGr>,
    fleet: &Fleet,
    budgets: Option<&[Budget]>,
    now: Timestamp,
) -> Why {
    let mut why = looked_at(record, gr, fleet, budgets, now);
    why.attention = attention(record, &why);
    why
}

fn looked_at(
    record: &GcuUpgrade,
    gr: Option<&LiveGr>,
    fleet: &Fleet,
    budgets: Option<&[Budget]>,
    now: Timestamp,
) -> Why {
    let status = record.known_status();
    let message = summary(record, now);
    let Some(rolling) = status.rolling.as_ref().filter(|_| record.spec.strategy == Strategy::RollingUpdate)
    else {
        return Why { message, ..Why::default() };
    };
    if status.phase.is_final() {
        return Why { message, ..Why::default() };
    }
    let scope = scope(record, status.goal, gr);
    let options = record.spec.rolling_options();
    let mut index = Index::of(fleet, &scope, options);
    if fleet.gangs.is_empty() {
        // Of the pods of users only those on nodes in work are looked at.
        let pods = fleet.tenants.values().flatten().map(AsRef::as_ref);
        let mut gangs = KnownGangs::among(pods, options, now);
        // Which groups of a scheduler are gangs is not read for this.
        gangs.keep(|_| false);
        index.gangs = Arc::new(gangs);
    }
    let abandon = rolling.giving_up.as_ref().is_some_and(|g| g.abandon);
    let stopping = abandon || record.spec.intent == Intent::Pause;
    let look = |claim: &Arc<Claim>| {
        let look = node::look(record, claim, &index, now, stopping, abandon);
        stuck(record, claim, &index, look, budgets)
    };
    let mut nodes: Vec<Stuck> = rolling.active.iter().map(look).collect();
    nodes.sort_by_key(|s| (s.trouble.is_none(), s.since));
    let outside_window = outside_window(record, rolling, &index, now);
    let skipped = skipped(record, rolling, &index);
    Why { message, nodes, skipped, outside_window, attention: Vec::new() }
}

/// The record's own word.
fn summary(record: &GcuUpgrade, now: Timestamp) -> String {
    let status = record.known_status();
    let line = progress::progress(record, now).message;
    match &status.waiting_on {
        Some(waiting) if status.phase == Phase::Held && !line.contains(&waiting.message) => {
            format!("{line}; now: {}", waiting.message)
        }
        _ => line,
    }
}

fn stuck(
    record: &GcuUpgrade,
    claim: &Claim,
    index: &Index<'_>,
    look: NodeAssessment,
    budgets: Option<&[Budget]>,
) -> Stuck {
    let mut reasons = match &look.next {
        Move::Call(calls) => blocked(calls, claim, index, budgets),
        _ => Vec::new(),
    };
    // "Evicting" is no news beside what does not let that happen.
    if reasons.is_empty() || !look.message.starts_with("evicting") {
        reasons.push(look.message.clone());
    }
    let more = reasons.len().saturating_sub(1);
    let first = reasons.into_iter().next().unwrap_or_default();
    let message = if more > 0 { format!("{first}; and {more} more") } else { first };
    let until = match look.stage {
        Stage::WaitingForJobs | Stage::Soaking => look.until,
        Stage::Releasing => None,
        _ => Some(claim.deadline),
    };
    Stuck {
        node: claim.node.clone(),
        then: then(record, claim, &look),
        stage: look.stage,
        message,
        since: claim.since,
        trouble: claim.trouble.as_ref().map(|t| t.kind),
        until,
    }
}

/// What keeps these evictions from being accepted.
fn blocked(
    calls: &[FleetAction],
    claim: &Claim,
    index: &Index<'_>,
    budgets: Option<&[Budget]>,
) -> Vec<String> {
    let tenants = index.tenants(&claim.node).unwrap_or_default();
    let evicted = calls.iter().filter_map(|call| match call {
        FleetAction::Evict { uid, .. } => tenants.iter().find(|t| t.uid == *uid),
        _ => None,
    });
    evicted
        .filter_map(|pod| {
            let why = blocking(budgets.unwrap_or_default(), pod)?;
            Some(format!("pod {}/{} cannot be evicted: {why}", pod.namespace, pod.name))
        })
        .collect()
}

fn then(record: &GcuUpgrade, claim: &Claim, look: &NodeAssessment) -> String {
    let options = record.spec.rolling_options();
    let text = match look.stage {
        Stage::WaitingForJobs => "they are drained like other pods",
        Stage::Soaking => "the node is released",
        Stage::Releasing => "it counts no longer against maxUnavailable",
        _ if claim.state == ClaimState::Returning => "it is released",
        Stage::Evicting => match options.drain.on_timeout {
            OnTimeout::Hold => "the upgrade is Held; it resumes by itself once the node is empty",
            OnTimeout::Skip => "the node is released as it was, and left out",
            OnTimeout::Force => "the pods that are left are deleted, past their disruption budgets",
        },
        Stage::Swapping | Stage::Verifying if look.signal.is_some() => match record.spec.on_failure {
            OnFailure::Rollback => {
                "when it lasts, the node counts as failed, and the upgrade is rolled back at failureThreshold"
            }
            OnFailure::Hold => {
                "when it lasts, the node counts as failed, and the upgrade is held at failureThreshold"
            }
        },
        _ => "the upgrade is Held; it resumes by itself once this is resolved",
    };
    text.to_owned()
}

/// The nodes that would be taken were it not for this.
fn skipped(record: &GcuUpgrade, rolling: &RollingStatus, index: &Index<'_>) -> Vec<SkippedNode> {
    let options = record.spec.rolling_options();
    let claimed = |name: &str| rolling.active.iter().any(|c| c.node == name);
    let mut all: Vec<SkippedNode> = window::concerned(index, options)
        .into_iter()
        .filter(|n| !claimed(&n.name) && index.first_outdated(&n.name).is_some())
        .filter_map(|n| {
            let reason = window::why_skipped(n, rolling, &record.spec.skip)?;
            Some(SkippedNode { node: n.name.clone(), reason, attempt: 0 })
        })
        .collect();
    all.sort_by(|a, b| a.node.cmp(&b.node));
    all
}

/// The nodes that would be taken were a window open for them.
fn outside_window(
    record: &GcuUpgrade,
    rolling: &RollingStatus,
    index: &Index<'_>,
    now: Timestamp,
) -> Vec<OutsideWindow> {
    let Some(windows) = windows(record, now) else { return Vec::new() };
    let options = record.spec.rolling_options();
    let claimed = |name: &str| rolling.active.iter().any(|c| c.node == name);
    let mut all: Vec<OutsideWindow> = window::concerned(index, options)
        .into_iter()
        .filter(|n| !claimed(&n.name) && index.first_outdated(&n.name).is_some())
        .filter(|n| window::why_skipped(n, rolling, &record.spec.skip).is_none())
        .filter_map(|n| {
            let verdict = windows.of_node(&n.labels);
            let waits = !matches!(verdict, Verdict::Open { .. });
            waits.then(|| OutsideWindow {
                node: n.name.clone(),
                message: windows.in_words(verdict),
                opens: verdict.opens(),
            })
        })
        .collect();
    all.sort_by(|a, b| a.node.cmp(&b.node));
    all
}
