//! What is told of upgrades: read off a record, and nothing but the record. The same record tells the same events,
//! whoever reads it and how often: an event is known by its `id`.

use std::fmt;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::plan::news::News;
use crate::plan::standstill::Standstill;
use crate::record::rolling::{Claim, NodeCounts, TroubleKind};
use crate::record::{GcuUpgrade, GcuUpgradeStatus, Phase, Strategy, TimelineEntry};

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// The upgrade has begun.
    Started,
    /// It waits for `promote`.
    AwaitingPromotion,
    /// It cannot go on by itself.
    Held,
    /// A node of it has failed or is late.
    NodeFailed,
    /// Nodes may be taken again.
    WindowOpened,
    /// No further node is taken until a maintenance window opens.
    WindowClosed,
    /// A person has paused it.
    Paused,
    /// It goes on.
    Resumed,
    /// The previous version is being put back.
    RollingBack,
    /// It has ended.
    Ended,
    /// Somebody tries a sink.
    Test,
}

impl EventKind {
    /// Every kind that an upgrade tells.
    pub const ALL: [Self; 10] = [
        Self::Started,
        Self::AwaitingPromotion,
        Self::Held,
        Self::NodeFailed,
        Self::WindowOpened,
        Self::WindowClosed,
        Self::Paused,
        Self::Resumed,
        Self::RollingBack,
        Self::Ended,
    ];

    /// As it is written in the file and in a CloudEvent's `type`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::AwaitingPromotion => "awaitingPromotion",
            Self::Held => "held",
            Self::NodeFailed => "nodeFailed",
            Self::WindowOpened => "windowOpened",
            Self::WindowClosed => "windowClosed",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::RollingBack => "rollingBack",
            Self::Ended => "ended",
            Self::Test => "test",
        }
    }

    /// The commands that bring it about.
    fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Paused => &["pause"],
            Self::Resumed => &["resume", "promote", "retry"],
            Self::RollingBack => &["cancel", "rollback"],
            Self::Ended => &["close"],
            _ => &[],
        }
    }
}

/// Something that has happened to an upgrade.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `<record uid>/<entry>`: the same for every repetition.
    pub id: String,
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// Name of the gr.
    pub gr: String,
    /// Name of the record.
    pub upgrade: String,
    /// How the change is made.
    pub strategy: Strategy,
    /// The upgrade as a whole, from then on.
    pub phase: Phase,
    /// The nodes of a RollingUpdate, by state.
    pub nodes: Option<NodeCounts>,
    /// The node that it is about.
    pub node: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
    /// Whose doing it is, where that is known.
    pub by: Option<String>,
}

impl Event {
    /// Of a record, what it is known by within it.
    pub fn entry(&self) -> &str {
        self.id.split_once('/').map_or("", |(_, entry)| entry)
    }
}

/// Everything that a record tells, in the order in which it happened; failed nodes come last.
pub fn events(record: &GcuUpgrade) -> Vec<Event> {
    let Some(status) = &record.status else { return Vec::new() };
    let reader = Reader { record, status };
    let mut all = reader.of_timeline();
    let steered = record.spec.steered_by.as_ref();
    // The record knows the last command alone, which the events before the last are not the doing of.
    let last = all.iter_mut().rev().find(|event| !event.kind.commands().is_empty());
    if let (Some(event), Some(steered)) = (last, steered)
        && event.kind.commands().contains(&steered.command.as_str())
    {
        event.by = Some(steered.by.clone());
    }
    let failed = status.rolling.iter().flat_map(|rolling| &rolling.active);
    all.extend(failed.filter_map(|claim| reader.of_claim(claim)));
    all
}

struct Reader<'a> {
    record: &'a GcuUpgrade,
    status: &'a GcuUpgradeStatus,
}

impl Reader<'_> {
    fn of_timeline(&self) -> Vec<Event> {
        let (mut stands_still, mut started) = (false, false);
        let last = self.status.timeline.len().saturating_sub(1);
        let mut all: Vec<Event> = Vec::new();
        for (number, entry) in self.status.timeline.iter().enumerate() {
            let begins = !started && self.status.started_at == Some(entry.at);
            let kind = match News::of(entry) {
                _ if number == last && self.status.phase.is_final() => EventKind::Ended,
                Some(News::StandsStill(Standstill::Held)) => EventKind::Held,
                Some(News::StandsStill(Standstill::Paused)) => EventKind::Paused,
                Some(News::StandsStill(_)) => EventKind::AwaitingPromotion,
                Some(News::RollingBack) => EventKind::RollingBack,
                Some(News::WindowOpened) => EventKind::WindowOpened,
                Some(News::WindowClosed) => EventKind::WindowClosed,
                None if begins => EventKind::Started,
                None if stands_still => EventKind::Resumed,
                None => continue,
            };
            started |= kind == EventKind::Started;
            stands_still = matches!(kind, EventKind::Held | EventKind::Paused | EventKind::AwaitingPromotion);
            let mut name = entry_name(entry.at, &[&format!("{:?}", entry.step), &entry.message]);
            let same = all.iter().filter(|event| event.entry().starts_with(&name)).count();
            if same > 0 {
                name = format!("{name}-{}", same.saturating_add(1));
            }
            all.push(self.event(kind, entry, &name));
        }
        all
    }

    fn event(&self, kind: EventKind, entry: &TimelineEntry, name: &str) -> Event {
        let phase = match kind {
            EventKind::Ended => self.status.phase,
            EventKind::Held => Phase::Held,
            EventKind::Paused | EventKind::AwaitingPromotion => Phase::Paused,
            _ => Phase::Running,
        };
        let by = self.record.spec.requested_by.clone().filter(|_| kind == EventKind::Started);
        let reason = News::why(&entry.message).to_owned();
        Event { kind, at: entry.at, phase, reason, by, ..self.blank(name) }
    }

    /// A node that has failed or is late.
    fn of_claim(&self, claim: &Claim) -> Option<Event> {
        let failed = |kind| matches!(kind, TroubleKind::Failed | TroubleKind::Late);
        let trouble = claim.trouble.as_ref().filter(|trouble| failed(trouble.kind))?;
        let name = entry_name(trouble.at, &[&format!("{:?}", trouble.kind), &claim.node]);
        let prefix = format!("node {}: ", claim.node);
        let reason = trouble.message.strip_prefix(&prefix).unwrap_or(&trouble.message).to_owned();
        let (kind, node) = (EventKind::NodeFailed, Some(claim.node.clone()));
        Some(Event { kind, at: trouble.at, phase: self.status.phase, reason, node, ..self.blank(&name) })
    }

    fn blank(&self, name: &str) -> Event {
        let counted = self.status.rolling.as_ref().filter(|rolling| rolling.max_unavailable > 0);
        Event {
            id: format!("{}/{name}", self.record.uid().unwrap_or_default()),
            kind: EventKind::Test,
            at: Timestamp::default(),
            gr: self.record.spec.gr.clone(),
            upgrade: self.record.name_any(),
            strategy: self.record.spec.strategy,
            phase: self.status.phase,
            nodes: counted.map(|rolling| rolling.nodes.clone()),
            node: None,
            reason: String::new(),
            by: None,
        }
    }
}

/// An entry by its time and a digest of the rest. Its place in the timeline is no name: old entries are dropped.
fn entry_name(at: Timestamp, rest: &[&dyn fmt::Display]) -> String {
    let mut digest = Sha256::new();
    rest.iter().for_each(|part| digest.update(format!("{part}\n")));
    let digest = format!("{:x}", digest.finalize());
    format!("{at}-{}", digest.get(..8).unwrap_or_default())
}
