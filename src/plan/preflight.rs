//! What can be said before anything is written: whether a job may start, under which name, and what an
//! earlier revision was. Pure; the API asks before it creates a record.

use serde_json::Value;

use super::commands::{Command, Effect, State, effect};
use crate::gr::{self, LiveGr};
use crate::record::size::{MANIFESTS, REQUEST, stored};
use crate::record::{GcuUpgrade, GcuUpgradeSpec, Phase, Revision, record_name};

/// The longest object name.
const NAME_LIMIT: usize = 253;

/// Why a job may not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another upgrade of this gr is active.
    #[error("{record} is already upgrading gr \"{gr}\" ({phase:?}): see /gum/v1/upgrades/{record}")]
    Busy {
        /// The gr.
        gr: String,
        /// The active record.
        record: String,
        /// Its phase.
        phase: Phase,
    },
    /// The gr is terminating.
    #[error("gr \"{0}\" is being deleted: wait until it is gone")]
    Deleting(String),
    /// The manifest is for another operator's API.
    #[error(
        "the manifest is of {wanted}, and gr \"{gr}\" is served as {served}: an upgrade cannot move a gr \
         to another API group"
    )]
    OtherGroup {
        /// The gr.
        gr: String,
        /// The manifest's `apiVersion`.
        wanted: String,
        /// The gr's.
        served: String,
    },
    /// The cluster does not serve the API that the manifest is of.
    #[error(
        "the manifest is of {wanted}, which the cluster does not serve; it serves {}. Go on with a \
         blueprint of an API that is served", served.join(", ")
    )]
    NotServed {
        /// The manifest's `apiVersion`.
        wanted: String,
        /// What is served.
        served: Vec<String>,
    },
    /// The record would be too large for etcd.
    #[error(
        "the manifests of gr \"{gr}\", the one that is there and the new one, add up to {bytes} bytes, \
         more than the {MANIFESTS} that a record can hold"
    )]
    TooLarge {
        /// The gr.
        gr: String,
        /// The size of both manifests.
        bytes: usize,
    },
    /// The same for what else was asked for.
    #[error(
        "the request takes up {0} bytes of a record, more than the {REQUEST} that it can hold beside the \
         manifests: use shorter labels, or a shorter reason"
    )]
    RequestTooLarge(usize),
    /// `<gr>-<n>` is no object name.
    #[error(
        "the name of gr \"{0}\" is too long: a record is named <gr>-<n>, at most {NAME_LIMIT} characters"
    )]
    NameTooLong(String),
    /// There is no such revision any more, or never was.
    #[error("gr \"{gr}\" has no revision {revision}; available: {}", list(available))]
    NoSuchRevision {
        /// The gr.
        gr: String,
        /// What was asked for.
        revision: u64,
        /// What there is.
        available: Vec<u64>,
    },
    /// The key was that of another request.
    #[error(
        "Idempotency-Key {key:?} was sent with another request for gr \"{gr}\", which began {record}: a \
         new request needs a new key"
    )]
    KeyReused {
        /// The gr.
        gr: String,
        /// The key.
        key: String,
        /// What the first request began.
        record: String,
    },
    /// There is nothing to go back to, or to try again.
    #[error("{0}")]
    Nothing(String),
}

fn list(numbers: &[u64]) -> String {
    if numbers.is_empty() {
        return "none".to_owned();
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// The records of one gr, newest first.
pub fn records_of(gr: &str, all: Vec<GcuUpgrade>) -> Vec<GcuUpgrade> {
    let mut mine: Vec<GcuUpgrade> = all.into_iter().filter(|r| r.spec.gr == gr).collect();
    mine.sort_by_key(|r| std::cmp::Reverse(r.number()));
    mine
}

/// The active record among them.
pub fn active(records: &[GcuUpgrade]) -> Option<&GcuUpgrade> {
    records.iter().find(|r| !r.phase().is_final())
}

/// Checks that no upgrade of the gr is active.
///
/// # Errors
/// The one that is.
pub fn is_idle(gr: &str, records: &[GcuUpgrade]) -> Result<(), Refusal> {
    let Some(busy) = active(records) else { return Ok(()) };
    let record = busy.metadata.name.clone().unwrap_or_default();
    Err(Refusal::Busy { gr: gr.to_owned(), record, phase: busy.phase() })
}

/// Checks that a job may start, and names its record.
///
/// # Errors
/// The reason why not.
pub fn may_start(
    name: &str,
    live: Option<&LiveGr>,
    records: &[GcuUpgrade],
    target: &Value,
) -> Result<String, Refusal> {
    is_idle(name, records)?;
    if live.is_some_and(|l| l.deleting) {
        return Err(Refusal::Deleting(name.to_owned()));
    }
    let (wanted, served) = (gr::api_version(target), live.map(|l| gr::api_version(&l.manifest)));
    if let Some(served) = served.filter(|served| gr::group_of(served) != gr::group_of(wanted)) {
        let (wanted, served) = (wanted.to_owned(), served.to_owned());
        return Err(Refusal::OtherGroup { gr: name.to_owned(), wanted, served });
    }
    let bytes = stored(target).saturating_add(live.map(|l| stored(&l.manifest)).unwrap_or_default());
    if bytes > MANIFESTS {
        return Err(Refusal::TooLarge { gr: name.to_owned(), bytes });
    }
    let highest = records.iter().map(GcuUpgrade::number).max().unwrap_or_default();
    let record = record_name(name, highest.saturating_add(1));
    if record.len() > NAME_LIMIT { Err(Refusal::NameTooLong(name.to_owned())) } else { Ok(record) }
}

/// Checks that what was asked for, beside both manifests, fits into a record.
///
/// # Errors
/// It does not.
pub fn fits_a_record(spec: &GcuUpgradeSpec) -> Result<(), Refusal> {
    let manifests = spec.previous.iter().map(|p| &p.manifest).chain([&spec.target.manifest]);
    let bytes = stored(spec).saturating_sub(manifests.map(stored).sum());
    if bytes > REQUEST { Err(Refusal::RequestTooLarge(bytes)) } else { Ok(()) }
}

/// The revision to roll back to. Revision `n` is the target of record `n`; the one before the oldest record
/// is what that record replaced. Without a number: what stood there before the last upgrade that took hold, passing
/// over what is the same as the gr that is there now.
///
/// # Errors
/// When there is none.
pub fn revision(
    gr: &str,
    records: &[GcuUpgrade],
    wanted: Option<u64>,
    live: Option<&LiveGr>,
) -> Result<Revision, Refusal> {
    match wanted {
        None => last_previous(gr, records, live),
        Some(number) => numbered(records, number).ok_or_else(|| Refusal::NoSuchRevision {
            gr: gr.to_owned(),
            revision: number,
            available: revision_numbers(records),
        }),
    }
}

fn last_previous(gr: &str, records: &[GcuUpgrade], live: Option<&LiveGr>) -> Result<Revision, Refusal> {
    let effective = records.iter().filter(|r| matches!(r.phase(), Phase::Succeeded | Phase::Failed));
    let mut replaced = effective.filter_map(|r| r.spec.previous.as_ref().map(|p| (r, p))).peekable();
    let any = replaced.peek().is_some();
    let differs = |manifest: &Value| live.is_none_or(|live| !live.stands_at(manifest));
    let Some((record, previous)) = replaced.find(|(_, previous)| differs(&previous.manifest)) else {
        let what = if any { "other version on record than the one that is there" } else { "earlier version" };
        return Err(Refusal::Nothing(format!("gr \"{gr}\" has no {what} to go back to")));
    };
    let twin = records.iter().find(|r| {
        r.number() < record.number() && crate::gr::same_spec(&r.spec.target.manifest, &previous.manifest)
    });
    Ok(match twin {
        Some(twin) => of(twin.number(), &twin.spec.target),
        None => {
            Revision { blueprint: None, sha256: None, of_revision: None, manifest: previous.manifest.clone() }
        }
    })
}

fn numbered(records: &[GcuUpgrade], number: u64) -> Option<Revision> {
    if let Some(record) = records.iter().find(|r| r.number() == number) {
        return Some(of(number, &record.spec.target));
    }
    let oldest = records.last().filter(|r| r.number() == number.saturating_add(1))?;
    let manifest = oldest.spec.previous.as_ref()?.manifest.clone();
    Some(Revision { blueprint: None, sha256: None, of_revision: Some(number), manifest })
}

fn of(number: u64, target: &Revision) -> Revision {
    Revision { of_revision: Some(number), ..target.clone() }
}

/// The revisions that can be returned to, newest first.
pub fn revision_numbers(records: &[GcuUpgrade]) -> Vec<u64> {
    let mut numbers: Vec<u64> = records.iter().map(GcuUpgrade::number).collect();
    if let Some(oldest) = records.last().filter(|r| r.spec.previous.is_some() && r.number() > 0) {
        numbers.push(oldest.number() - 1);
    }
    numbers
}

/// The target of a job, for one more try.
pub fn again(record: &GcuUpgrade) -> Revision {
    of(record.number(), &record.spec.target)
}

/// What a command comes to for the newest record of a gr.
///
/// # Errors
/// Why it is not legal now.
pub fn may(command: Command, gr: &str, records: &[GcuUpgrade]) -> Result<Effect, Refusal> {
    let Some(record) = active(records).or(records.first()) else {
        return match command {
            Command::Rollback => Ok(Effect::NewJob),
            other => Err(Refusal::Nothing(format!(
                "gr \"{gr}\" has never been upgraded: nothing to {}",
                other.verb()
            ))),
        };
    };
    let name = record.metadata.name.as_deref().unwrap_or_default();
    effect(command, &State::of(record)).map_err(|why| Refusal::Nothing(format!("{name} {why}")))
}

/// What somebody who waits for a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Its target.
    Target,
    /// The previous version: it was told to turn back.
    Previous,
    /// Its end, however it ends: it was closed.
    End,
    /// That no node is in work any more: it was paused.
    Pause,
}

impl Wanted {
    /// Whether this end is what was asked for.
    pub fn is_reached(self, phase: Phase) -> bool {
        match self {
            Self::Target => phase == Phase::Succeeded,
            Self::Previous => phase == Phase::RolledBack,
            Self::End => phase.is_final(),
            Self::Pause => matches!(phase, Phase::Paused | Phase::Succeeded | Phase::RolledBack),
        }
    }

    /// Whether a hold or a pause ends the wait: a person has to decide then. Who has paused waits for the nodes in
    /// work.
    pub fn rests(self, record: &GcuUpgrade) -> bool {
        let rolling = record.status.as_ref().and_then(|s| s.rolling.as_ref());
        match (self, record.phase()) {
            (Self::End, _) => false,
            (Self::Pause, Phase::Paused) => rolling.is_none_or(|r| r.active.is_empty()),
            (_, phase) => matches!(phase, Phase::Held | Phase::Paused),
        }
    }
}
