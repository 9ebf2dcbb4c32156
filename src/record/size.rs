//! How large a record may become. Each part of it has its share in bytes, and the shares add up to [`RECORD`]: the
//! compiler checks that.
//!
//! An API server stores records as JSON, and escapes more in it than JSON has to: sizes are counted as it stores them.
//! etcd takes 1.5 MiB. What is left is for what is not written by this service: `managedFields`, which repeat the names
//! of all fields, and other people's annotations, of which an API server takes 256 KiB.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::rolling::{RollingStatus, WINDOW_LIMIT};
use super::status::GcuUpgradeStatus;

const KIB: usize = 1024;

/// The whole record.
pub const RECORD: usize = 512 * KIB;
/// Name, UID, finalizer and such, and who steered it last.
const METADATA: usize = 2 * KIB;
/// Both manifests.
pub const MANIFESTS: usize = 96 * KIB;
/// What else was asked for when the upgrade began.
pub const REQUEST: usize = 12 * KIB;
/// `spec.skip` and `spec.nodeAttempts`: what people say of nodes.
pub const NODE_REQUESTS: usize = 96 * KIB;
/// The nodes in work and those that were given up; no further node is taken from here on.
pub const NODES: usize = 218 * KIB;
/// One node in work: each of its pods takes little more than its DaemonSet in [`LOCKED`].
const NODE: usize = 20 * KIB;
/// Descriptions of troubles: those that do not fit are short.
const TROUBLES: usize = 8 * KIB;
/// The DaemonSets that are held: an upgrade of more is refused.
pub const LOCKED: usize = 14 * KIB;
/// Of a Recreate: the workloads whose pods are waited for.
pub const WORKLOADS: usize = 200 * KIB;
/// The nodes that were done last.
const RECENT: usize = 12 * KIB;
const TIMELINE: usize = 16 * KIB;
/// Times as numbers, of at most 20 digits and a comma.
const SLOTS: usize = WINDOW_LIMIT * 21;
const CONDITIONS: usize = CONDITIONS_KEPT * (MESSAGE + 256);
/// The message, the same where something is waited for, and where the upgrade is given up; why it turned back.
const TEXTS: usize = 3 * (MESSAGE + 256) + CAUSE + 64;
/// Numbers, times and words.
const WORDS: usize = 2 * KIB;

const OF_NODES: usize = NODES + NODE + TROUBLES + LOCKED + RECENT + SLOTS;
const STATUS: usize =
    TIMELINE + CONDITIONS + TEXTS + WORDS + if OF_NODES > WORKLOADS { OF_NODES } else { WORKLOADS };
const _: () = assert!(
    METADATA + MANIFESTS + REQUEST + NODE_REQUESTS + STATUS <= RECORD,
    "the shares do not add up to the size of a record"
);

/// The longest text of a message.
pub const MESSAGE: usize = 1024;
/// The longest text of why an upgrade turned back: it is part of the message of its end.
pub const CAUSE: usize = 480;
/// The longest description of a trouble, and that of one for which there is little room.
pub const TROUBLE: usize = 400;
const SHORT_TROUBLE: usize = 100;
/// The longest reason for which a node was given up.
pub const SKIP_REASON: usize = 120;
/// The longest name of a user.
pub const USER: usize = 512;
/// The longest word for programs.
const WORD: usize = 64;
/// An upgrade has about ten entries, retries and rollbacks add to them.
const ENTRIES: usize = 40;
/// More types of condition are not known.
const CONDITIONS_KEPT: usize = 6;
/// Done nodes that are named.
const DONE_NODES: usize = 10;
/// What a claim can grow by: a short trouble, or else its entry among the nodes that were given up.
const GROWTH: usize = 200;
/// A pod of a claim beside the names of component and DaemonSet.
const POD: usize = 116;

/// What a value takes up in a record, as an API server stores it.
pub fn stored(value: &impl Serialize) -> usize {
    let mut size = Count(0);
    match value.serialize(&mut Serializer::with_formatter(&mut size, AsStored)) {
        Ok(()) => size.0,
        Err(_) => usize::MAX,
    }
}

/// A text that takes up at most so many bytes of a record, without control characters.
pub fn shortened(text: &str, limit: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (mut used, mut end) = (0, 0);
    for (at, c) in text.char_indices() {
        used += match c {
            '"' | '\\' => 2,
            c if is_escaped(c) => 6,
            c => c.len_utf8(),
        };
        if used > limit {
            return format!("{}…", text.get(..end).unwrap_or_default());
        }
        if used <= limit.saturating_sub('…'.len_utf8()) {
            end = at.saturating_add(c.len_utf8());
        }
    }
    text
}

/// What nodes in work and given up take up, and may yet. `sets` are the names of component and DaemonSet whose pods a
/// node can have.
pub fn nodes<'s>(rolling: &RollingStatus, sets: impl Iterator<Item = (&'s str, &'s str)>) -> usize {
    let all_pods: usize = sets.map(|(component, name)| stored(&component) + name.len() + POD).sum();
    let claims = rolling.active.iter().map(|claim| {
        let missing = all_pods.saturating_sub(stored(&claim.pods));
        stored(claim) + missing + claim.node.len() + GROWTH
    });
    claims.sum::<usize>() + stored(&rolling.skipped)
}

/// Brings a status within its share, one that an older version or somebody else has written too.
pub fn bound(status: &mut GcuUpgradeStatus) {
    cut(&mut status.message, MESSAGE);
    status.cause.iter_mut().for_each(|cause| cut(cause, CAUSE));
    status.waiting_on.iter_mut().for_each(|w| cut(&mut w.message, MESSAGE));
    status.timeline.iter_mut().for_each(|entry| cut(&mut entry.message, MESSAGE));
    keep_newest(&mut status.timeline, ENTRIES, TIMELINE);
    status.conditions.truncate(CONDITIONS_KEPT);
    for condition in &mut status.conditions {
        cut(&mut condition.message, MESSAGE);
        for word in [&mut condition.type_, &mut condition.status, &mut condition.reason] {
            cut(word, WORD);
        }
    }
    status.workloads.reverse();
    keep_newest(&mut status.workloads, usize::MAX, WORKLOADS);
    status.workloads.reverse();
    if let Some(rolling) = &mut status.rolling {
        // Those of a Recreate.
        status.workloads.clear();
        bound_rolling(rolling);
    }
}

fn bound_rolling(rolling: &mut RollingStatus) {
    if let Some(giving_up) = &mut rolling.giving_up {
        cut(&mut giving_up.message, MESSAGE);
    }
    keep_newest(&mut rolling.recent, DONE_NODES, RECENT);
    rolling.slots.truncate(WINDOW_LIMIT);
    let mut left = TROUBLES;
    for claim in &mut rolling.active {
        let Some(trouble) = &claim.trouble else { continue };
        let limit = if left >= TROUBLE { TROUBLE } else { SHORT_TROUBLE };
        let message = shortened(&trouble.message, limit);
        left = left.saturating_sub(stored(&message));
        if message != trouble.message {
            Arc::make_mut(claim).trouble.iter_mut().for_each(|t| t.message.clone_from(&message));
        }
    }
    rolling.skipped.iter_mut().for_each(|skipped| cut(&mut skipped.reason, SKIP_REASON));
    if !rolling.skipped.is_empty() {
        let left = (NODES + NODE).saturating_sub(stored(&rolling.active));
        keep_newest(&mut rolling.skipped, usize::MAX, left);
    }
}

fn cut(text: &mut String, limit: usize) {
    // No text is stored in more than six times its bytes.
    if text.len() > limit / 6 {
        *text = shortened(text, limit);
    }
}

/// Keeps so many of the last entries, in so many bytes.
fn keep_newest<T: Serialize>(all: &mut Vec<T>, count: usize, bytes: usize) {
    let mut left = bytes.saturating_sub(2);
    let fits = |entry: &&T| {
        let size = stored(entry) + 1;
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    };
    let kept = all.iter().rev().take(count).take_while(fits).count();
    all.drain(..all.len() - kept);
}

/// What Go's encoder writes as `\u....` though JSON does not ask for it, and what JSON asks for.
fn is_escaped(c: char) -> bool {
    matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

struct AsStored;

impl Formatter for AsStored {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        writer.write_all(text.as_bytes())?;
        let mut escaped = text.chars().filter(|c| is_escaped(*c));
        escaped.try_for_each(|c| writer.write_all(if c.is_ascii() { b"\\u003" } else { b"\\u2" }))
    }

    fn write_char_escape<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        writer.write_all(match escape {
            CharEscape::Quote | CharEscape::ReverseSolidus | CharEscape::Solidus => b"\\\"",
            CharEscape::LineFeed | CharEscape::CarriageReturn | CharEscape::Tab => b"\\n",
            // Older ones write the others out.
            _ => b"\\u0000",
        })
    }
}

struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
