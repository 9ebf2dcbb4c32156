//! How large a record may become. Each part of it has its share in bytes, and the shares add up to [`RECORD`]: the
//! compiler checks that.
//!
//! What was asked for does not change while nodes are in work, and what people say of single nodes is little as a rule:
//! the nodes in work have, beside their own share, what these leave of theirs. See [`Room`].
//!
//! An API server stores records as JSON, and escapes more in it than JSON has to: sizes are counted as it stores them.
//! etcd takes 1.5 MiB. What is left is for what is not written by this service: `managedFields`, which repeat the names
//! of all fields, and other people's annotations, of which an API server takes 256 KiB.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::rolling::{Claim, ClaimState, RollingStatus, WINDOW_LIMIT};
use super::status::GcuUpgradeStatus;
use super::{GcuUpgradeSpec, SkipNode};

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
/// So much of it is left to people however many nodes are in work.
pub const NODE_REQUESTS_KEPT: usize = 16 * KIB;
/// The nodes in work, the slots of those that were done, and those that were given up, with the most that can be asked
/// for. No further node is taken when there is no room for the most that one can come to.
pub const NODES: usize = 238 * KIB;
/// Descriptions of troubles. When the first half is used up they are short, then there are none.
const TROUBLES: usize = 10 * KIB;
/// The DaemonSets that are held: an upgrade of more is refused.
pub const LOCKED: usize = 14 * KIB;
/// Of a Recreate: the workloads whose pods are waited for.
pub const WORKLOADS: usize = 200 * KIB;
/// The nodes that were done last.
const RECENT: usize = 6 * KIB;
/// The canary nodes that were chosen: part of the room that the nodes in work have.
pub const CANARIES: usize = 4 * KIB;
const TIMELINE: usize = 16 * KIB;
const CONDITIONS: usize = CONDITIONS_KEPT * (MESSAGE + 256);
/// The message, the same where something is waited for, and where the upgrade is given up; why it turned back.
const TEXTS: usize = 3 * (MESSAGE + 256) + CAUSE + 64;
/// Numbers, times and words.
const WORDS: usize = 2 * KIB;

/// What there is of a RollingUpdate whatever its nodes do.
const OF_ROLLING: usize = TROUBLES + LOCKED + RECENT;
/// What there is of every upgrade.
const FIXED: usize = METADATA + TIMELINE + CONDITIONS + TEXTS + WORDS;
const fn fits(asked: usize, nodes: usize) -> bool {
    FIXED + MANIFESTS + REQUEST + asked + nodes <= RECORD
}
const _: () = assert!(
    fits(NODE_REQUESTS, OF_ROLLING + NODES) && fits(NODE_REQUESTS, WORKLOADS),
    "the shares do not add up to the size of a record"
);

/// The longest text of a message.
pub const MESSAGE: usize = 1024;
/// The longest text of why an upgrade turned back: it is part of the message of its end.
pub const CAUSE: usize = 480;
/// The longest description of a trouble, and that of one for which there is little room.
pub const TROUBLE: usize = 400;
const SHORT_TROUBLE: usize = 60;
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
/// A claim without its pods, its node's name and what it grows by.
const CLAIM: usize = 200;
/// What a claim can grow by: a trouble without a description, that GCUs were lost, and that it is being released.
const GROWTH: usize = 88;
/// An entry among the nodes that were given up beside the node's name.
const SKIPPED: usize = SKIP_REASON + 52;
/// A pod of a claim beside its component.
const POD: usize = 18;
/// What a request to try a node again adds to its claim.
const ATTEMPT: usize = 22;
/// The longest name of a node.
const NODE_NAME: usize = 253;

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

/// What parts of a record take up: of those that are still the same it is not worked out again.
#[derive(Debug, Default)]
pub struct Reserved {
    /// What was asked for.
    asked: Option<usize>,
    /// What all pods of a node could take up.
    pods: usize,
    /// What each claim can come to, in the order in which the record has them.
    claims: Vec<(Arc<Claim>, usize)>,
}

impl Reserved {
    /// The spec may be another.
    pub fn forget_spec(&mut self) {
        self.asked = None;
    }

    /// What these claims can come to, in all.
    fn of(&mut self, active: &[Arc<Claim>], pods: usize) -> usize {
        if self.pods != pods {
            self.pods = pods;
            self.claims.clear();
        }
        // Claims go and change in their places, and come at the end.
        let mut known = std::mem::take(&mut self.claims).into_iter();
        self.claims.reserve(active.len());
        for claim in active {
            let is_same = |(known, _): &(Arc<Claim>, usize)| Arc::ptr_eq(known, claim);
            let same = known.find(|known| is_same(known) || known.0.node == claim.node).filter(is_same);
            self.claims.push(same.unwrap_or_else(|| (claim.clone(), reserved(claim, pods))));
        }
        self.claims.iter().map(|(_, size)| size).sum()
    }
}

/// The room that a record has for nodes in work, whatever becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    left: usize,
    /// What all pods of a node can take up.
    pods: usize,
}

impl Room {
    /// What is left. `components` are those whose pods a node can have, one for each DaemonSet.
    pub fn of<'s>(
        spec: &GcuUpgradeSpec,
        rolling: &RollingStatus,
        components: impl Iterator<Item = &'s str>,
        known: &mut Reserved,
    ) -> Self {
        let pods = components.map(|component| stored(&component) + POD).sum();
        let taken = known.of(&rolling.active, pods) + of_others(rolling);
        let asked = *known.asked.get_or_insert_with(|| asked(spec));
        let share = share_beside(asked, requests(&spec.skip, &spec.node_attempts));
        Self { left: share.saturating_sub(taken), pods }
    }

    /// Whether another node has room, whatever its name.
    pub fn is_left(&self) -> bool {
        self.is_left_for(1)
    }

    /// Whether so many other nodes have room, whatever their names.
    pub fn is_left_for(&self, nodes: usize) -> bool {
        let each = CLAIM + NODE_NAME + self.pods + GROWTH.max(SKIPPED + NODE_NAME);
        self.left >= nodes.saturating_mul(each)
    }

    /// Another node is in work.
    pub fn take(&mut self, claim: &Claim) {
        self.left = self.left.saturating_sub(reserved(claim, self.pods));
    }
}

/// Whether a record has room for what people say of nodes, when that is to become so much.
pub fn has_room_for(spec: &GcuUpgradeSpec, rolling: Option<&RollingStatus>, requests: usize) -> bool {
    let taken = || {
        rolling.map_or(0, |rolling| {
            let sets = rolling.locked.iter().map(|set| stored(&set.component) + POD);
            nodes(rolling, sets.sum())
        })
    };
    requests <= NODE_REQUESTS_KEPT || (requests <= NODE_REQUESTS && taken() <= share(spec, requests))
}

/// What people's words about nodes take up, and may yet.
pub fn requests(skip: &[SkipNode], attempts: &BTreeMap<String, u32>) -> usize {
    stored(&skip) + stored(attempts) + attempts.len() * ATTEMPT
}

/// What is left to the nodes when people say so much of some.
fn share(spec: &GcuUpgradeSpec, requests: usize) -> usize {
    share_beside(asked(spec), requests)
}

/// What was asked for beside what people say of nodes.
fn asked(spec: &GcuUpgradeSpec) -> usize {
    stored(spec).saturating_sub(stored(&spec.skip) + stored(&spec.node_attempts))
}

fn share_beside(asked: usize, requests: usize) -> usize {
    let others = FIXED + OF_ROLLING + asked + requests.max(NODE_REQUESTS_KEPT);
    RECORD.saturating_sub(others).max(NODES)
}

/// What nodes in work and given up take up, and may yet.
fn nodes(rolling: &RollingStatus, pods: usize) -> usize {
    let claims: usize = rolling.active.iter().map(|claim| reserved(claim, pods)).sum();
    claims + of_others(rolling)
}

/// What is kept of nodes beside those in work.
fn of_others(rolling: &RollingStatus) -> usize {
    stored(&rolling.skipped) + stored(&rolling.slots) + stored(&rolling.canaries)
}

/// The most that a claim can come to. One that is being released changes no more.
fn reserved(claim: &Claim, pods: usize) -> usize {
    let (has, now) = (stored(&claim.pods) + stored(&claim.replaces), stored(claim) + 1);
    if claim.state == ClaimState::Returning {
        return now;
    }
    // One that is given up lets go of its pods.
    let skipped = if claim.cordon { (SKIPPED + claim.node.len()).saturating_sub(has) } else { 0 };
    now + pods.saturating_sub(has) + GROWTH.max(skipped)
}

/// Brings a status within its share, one that an older version or somebody else has written too.
pub fn bound(status: &mut GcuUpgradeStatus, spec: &GcuUpgradeSpec) {
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
        bound_rolling(rolling, spec);
    }
}

fn bound_rolling(rolling: &mut RollingStatus, spec: &GcuUpgradeSpec) {
    if let Some(giving_up) = &mut rolling.giving_up {
        cut(&mut giving_up.message, MESSAGE);
    }
    keep_newest(&mut rolling.recent, DONE_NODES, RECENT);
    rolling.slots.truncate(WINDOW_LIMIT);
    keep_newest(&mut rolling.canaries, usize::MAX, CANARIES);
    bound_troubles(rolling);
    rolling.skipped.iter_mut().for_each(|skipped| cut(&mut skipped.reason, SKIP_REASON));
    if !rolling.skipped.is_empty() {
        let others = stored(&rolling.active) + stored(&rolling.slots) + stored(&rolling.canaries);
        let left = share(spec, requests(&spec.skip, &spec.node_attempts)).saturating_sub(others);
        keep_newest(&mut rolling.skipped, usize::MAX, left);
    }
}

/// The first troubles are told of at length: they say what the matter is with those that come after them.
fn bound_troubles(rolling: &mut RollingStatus) {
    let mut troubled: Vec<&mut Arc<Claim>> =
        rolling.active.iter_mut().filter(|c| c.trouble.is_some()).collect();
    troubled.sort_by_key(|claim| claim.trouble.as_ref().map(|t| t.at));
    let mut left = TROUBLES;
    for claim in troubled {
        let Some(trouble) = &claim.trouble else { continue };
        let limit = match left {
            left if left >= TROUBLES / 2 => TROUBLE,
            left if left >= SHORT_TROUBLE => SHORT_TROUBLE,
            _ => 0,
        };
        let mut message = trouble.message.as_str();
        if limit < TROUBLE {
            // Whoever shows it shows the node beside it.
            let node = format!("node {}: ", claim.node);
            message = message.strip_prefix(&node).unwrap_or(message);
        }
        let message = if limit == 0 { String::new() } else { shortened(message, limit) };
        left = left.saturating_sub(stored(&message) - 2);
        if message != trouble.message {
            Arc::make_mut(claim).trouble.iter_mut().for_each(|t| t.message.clone_from(&message));
        }
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
