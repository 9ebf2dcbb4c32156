//! How far an upgrade is: counts, efficiency, the estimated end, and all of it in one line.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use schemars::JsonSchema;
use serde::Serialize;

use super::schema::never_null;
use crate::record::rolling::{DoneNode, NodeCounts, RollingStatus, RollingUpdate};
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Goal, Intent, Phase, Step, Strategy, WaitReason};

/// How far an upgrade is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub struct Progress {
    /// One line for people.
    pub message: String,
    /// The record.
    pub name: String,
    /// The gr.
    pub gr: String,
    /// How the change is made.
    pub strategy: Strategy,
    /// The upgrade as a whole.
    pub phase: Phase,
    /// What is being done.
    pub step: Step,
    /// Which version is being brought about.
    pub goal: Goal,
    /// Node counts by state; a RollingUpdate's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// So many at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
    /// The time that a window without any delay of ours would have taken so far, divided by the time taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efficiency: Option<f64>,
    /// When all nodes should be done, at the rate so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end: Option<Timestamp>,
    /// The same, if each node took as long as the fastest of those done last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end_earliest: Option<Timestamp>,
    /// The same, if each took as long as the slowest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end_latest: Option<Timestamp>,
    /// The controller has taken the last change of the request into account.
    pub acknowledged: bool,
}

/// How far this upgrade is now.
pub fn progress(record: &GcuUpgrade, now: Timestamp) -> Progress {
    let status = record.known_status();
    let options = record.spec.rolling_options();
    let rolling = status.rolling.as_ref();
    // Before the nodes are counted there is nothing to tell of them.
    let counted = rolling.filter(|r| r.max_unavailable > 0);
    let going = counted
        .filter(|_| status.step == Step::Rolling && status.phase == Phase::Running)
        .filter(|r| record.spec.intent != Intent::Pause && r.window_closed_since.is_none());
    let ends =
        |each: fn(&[DoneNode]) -> Option<u64>| estimated_end(going?, options, each(&going?.recent)?, now);
    let estimated_end = ends(mean);
    Progress {
        message: line(record, &status, estimated_end),
        name: record.name_any(),
        gr: record.spec.gr.clone(),
        strategy: record.spec.strategy,
        phase: status.phase,
        step: status.step,
        goal: status.goal,
        nodes: counted.map(|r| r.nodes.clone()),
        max_unavailable: counted.map(|r| r.max_unavailable),
        efficiency: rolling.and_then(|r| efficiency(r, now)),
        estimated_end,
        estimated_end_earliest: ends(|done| taken(done).min()),
        estimated_end_latest: ends(|done| taken(done).max()),
        acknowledged: acknowledged(record),
    }
}

/// The time that a window without any delay of ours would have taken over the same nodes, divided by the time
/// taken, waits for people and pauses left aside. Nodes in work count as if they were done now.
pub fn efficiency(rolling: &RollingStatus, now: Timestamp) -> Option<f64> {
    let first = rolling.first_claim_at?;
    let until = match (rolling.active.is_empty(), rolling.gated_since) {
        (false, _) => now,
        (true, Some(gated)) => gated,
        (true, None) => rolling.last_done_at?,
    };
    let in_work = rolling.active.iter().map(|c| c.ideal_start_ms.saturating_add(millis(until, c.since)));
    let ideal = in_work.chain([rolling.ideal_ms]).max().unwrap_or_default();
    let taken = millis(until, first).saturating_sub(rolling.gated_ms);
    if ideal == 0 || taken == 0 {
        return None;
    }
    let ratio =
        (u32::try_from(ideal).ok().map(f64::from)? / u32::try_from(taken).ok().map(f64::from)?).min(1.0);
    Some((ratio * 1000.0).round() / 1000.0)
}

fn millis(later: Timestamp, earlier: Timestamp) -> u64 {
    u64::try_from(later.duration_since(earlier).as_millis()).unwrap_or_default()
}

/// The nodes that were done last say how long one takes; so many are worked on at once. Waits for people are not
/// foreseen, those between steps are.
fn estimated_end(
    rolling: &RollingStatus,
    options: &RollingUpdate,
    each: u64,
    now: Timestamp,
) -> Option<Timestamp> {
    let left_of = |since: Timestamp| each.saturating_sub(millis(now, since));
    let active = rolling.active.iter().map(|c| left_of(c.since));
    let longest = active.clone().max().unwrap_or_default();
    let waiting = u64::from(rolling.nodes.waiting);
    let work = active.sum::<u64>().saturating_add(each.saturating_mul(waiting));
    let at_once = u64::from(rolling.max_unavailable.max(1));
    let mut left = (work / at_once).max(longest);
    if waiting > 0 {
        // The last node takes its whole time, however many there are at once.
        left = left.max(each);
    }
    let pauses = pauses(rolling, options, waiting);
    left = left
        .saturating_add(pauses.saturating_mul(u64::from(options.pause_between_seconds)).saturating_mul(1000));
    now.saturating_add(SignedDuration::from_secs(i64::try_from(left / 1000).ok()?)).ok()
}

/// How many steps are still to begin.
fn pauses(rolling: &RollingStatus, options: &RollingUpdate, waiting: u64) -> u64 {
    let total = usize::try_from(rolling.nodes.total).unwrap_or(usize::MAX);
    let size = |step| options.batch(step).map(|size| u64::try_from(size.of(total)).unwrap_or(u64::MAX));
    let mut left = waiting.saturating_sub(u64::from(rolling.step_left.unwrap_or(u32::MAX)));
    let mut pauses = 0_u64;
    let mut step = rolling.step.saturating_add(1);
    for _ in &options.batches {
        if left == 0 {
            return pauses;
        }
        left = left.saturating_sub(size(step).unwrap_or(u64::MAX));
        (pauses, step) = (pauses.saturating_add(1), step.saturating_add(1));
    }
    let each = size(step).unwrap_or_else(|| u64::from(rolling.max_unavailable)).max(1);
    pauses.saturating_add(left.div_ceil(each))
}

/// Whether the controller has taken the last change of the request into account. An end takes in no more.
fn acknowledged(record: &GcuUpgrade) -> bool {
    let seen = record.status.as_ref().map(|s| s.observed_generation);
    record.phase().is_final() || seen.is_some_and(|seen| Some(seen) >= record.metadata.generation)
}

fn taken(done: &[DoneNode]) -> impl Iterator<Item = u64> {
    done.iter().map(|n| millis(n.at, n.since))
}

/// How long these nodes took, on average, in milliseconds.
fn mean(done: &[DoneNode]) -> Option<u64> {
    let all: u64 = taken(done).sum();
    all.checked_div(u64::try_from(done.len()).ok()?)
}

/// `3 of 20 nodes done, 5 in work, 12 to come`.
pub fn counts(nodes: &NodeCounts) -> String {
    let mut text = format!("{} of {} nodes done", nodes.done, nodes.total);
    for (number, what) in [
        (nodes.active, "in work"),
        (nodes.failed, "of these failed or late"),
        (nodes.waiting, "to come"),
        (nodes.skipped, "left out"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    text
}

fn line(record: &GcuUpgrade, status: &GcuUpgradeStatus, end: Option<Timestamp>) -> String {
    let name = record.name_any();
    let nodes = status.rolling.as_ref().filter(|r| r.max_unavailable > 0).map(|r| counts(&r.nodes));
    let so_far = nodes.as_ref().map(|n| format!(" ({n})")).unwrap_or_default();
    let message = &status.message;
    match status.phase {
        Phase::Succeeded => format!("{name} succeeded: {message}"),
        Phase::RolledBack => format!("{name} was rolled back: {message}"),
        Phase::Failed => format!("{name} failed: {message}"),
        Phase::Held => format!("{name} is held at {:?}{so_far}: {}", status.step, held(status)),
        Phase::Paused => format!("{name} is paused{so_far}: {}", stopped(status)),
        Phase::Pending => format!("Waiting for {name} to be taken up"),
        Phase::Running => {
            let what = if status.goal == Goal::Previous { "roll back" } else { "finish" };
            let end = end.map(|at| format!("; done at about {at}")).unwrap_or_default();
            match (status.step, nodes) {
                (Step::Rolling, Some(nodes)) => {
                    let window = window_waited_for(status).map(|w| format!("; {w}")).unwrap_or_default();
                    format!("Waiting for {name} to {what}: {nodes}{end}{window}")
                }
                (step, _) => format!("Waiting for {name} to {what}: {step:?}: {message}"),
            }
        }
    }
}

/// Why it is held: what it waits for may have been said since.
pub fn held(status: &GcuUpgradeStatus) -> &str {
    status.holding("Held").map_or(&status.message, |c| &c.message)
}

/// Why no further node is taken.
fn stopped(status: &GcuUpgradeStatus) -> &str {
    let progressing = status.conditions.iter().find(|c| c.type_ == "Progressing" && c.status == "False");
    progressing.map_or(&status.message, |c| &c.message)
}

/// What is waited for, where that is a maintenance window.
pub fn window_waited_for(status: &GcuUpgradeStatus) -> Option<&str> {
    let waiting = status.waiting_on.as_ref()?;
    let window = matches!(waiting.reason, WaitReason::OutsideWindow | WaitReason::WouldOutlastWindow);
    window.then_some(waiting.message.as_str())
}
