//! Nodes that fail in the same way: what is common to them tells more than how many they are.

use std::collections::{BTreeMap, BTreeSet};

use super::Rollout;
use super::index::Index;
use super::trouble::is;
use crate::plan::coverage::{Class, classes};
use crate::plan::fleet::NodeState;
use crate::plan::names::first_of;
use crate::record::rolling::{Claim, RollingStatus, TroubleKind, ZONE_LABEL};

/// What failing nodes may have in common, where the canary is not asked to cover anything else.
const KEYS: [&str; 5] = ["kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", ZONE_LABEL];
/// Nodes named in a message.
const NAMED: usize = 3;
/// What the API server ends the name of a pod with: so many of these characters.
const ENDING: (usize, &str) = (5, "bcdfghjklmnpqrstvwxz2456789");

/// Nodes that fail in the same way.
pub(super) struct Alike {
    pub(super) kind: TroubleKind,
    nodes: BTreeSet<String>,
    /// What the first of them said.
    message: String,
    keys: Vec<String>,
}

impl Rollout<'_> {
    /// The nodes that fail in the same way, if these are as many as the breaker is asked to stop at.
    pub(super) fn alike(&self, rolling: &RollingStatus) -> Option<Alike> {
        let options = self.options();
        let limit = usize::try_from(options.breaker.as_ref()?.same_cause).unwrap_or(usize::MAX);
        let troubled =
            |claim: &&std::sync::Arc<Claim>| is(claim, TroubleKind::Failed) || is(claim, TroubleKind::Late);
        let mut by_cause: BTreeMap<(bool, String), Vec<&Claim>> = BTreeMap::new();
        for claim in rolling.active.iter().filter(troubled) {
            let message = claim.trouble.as_ref().map(|t| t.message.as_str()).unwrap_or_default();
            // Of what the record has no room for nothing is known.
            if !message.is_empty() {
                let cause = (is(claim, TroubleKind::Late), cause(message, &claim.node));
                by_cause.entry(cause).or_default().push(claim);
            }
        }
        let ((late, _), claims) = by_cause.into_iter().max_by_key(|(_, claims)| claims.len())?;
        if claims.len() < limit {
            return None;
        }
        let keys = options.canary.as_ref().and_then(|canary| canary.coverage.as_ref());
        let first = claims.iter().min_by_key(|claim| claim.trouble.as_ref().map(|t| t.at))?;
        Some(Alike {
            kind: if late { TroubleKind::Late } else { TroubleKind::Failed },
            nodes: claims.iter().map(|claim| claim.node.clone()).collect(),
            message: first.trouble.as_ref().map(|t| t.message.clone()).unwrap_or_default(),
            keys: keys.map_or_else(|| KEYS.map(str::to_owned).to_vec(), |coverage| coverage.keys.clone()),
        })
    }
}

impl Alike {
    /// What they have in common, in a sentence.
    pub(super) fn in_words(&self, index: &Index<'_>) -> String {
        let shared = self.shared(index);
        let named = first_of(self.nodes.iter(), NAMED);
        format!("{} nodes fail in the same way ({named}){shared}; {}", self.nodes.len(), self.message)
    }

    /// The classes that all of them are of, and not every node: those first that no node is of that is done.
    fn shared(&self, index: &Index<'_>) -> String {
        let node = |name: &str| index.fleet.node(name);
        let mut failing = self.nodes.iter().filter_map(|name| node(name));
        let Some(first) = failing.next() else { return String::new() };
        let is_of = |node: &NodeState, class: &Class| node.value_of(&class.key) == class.value.as_deref();
        let mut common: Vec<Class> = classes(first, &self.keys).collect();
        failing.for_each(|node| common.retain(|class| is_of(node, class)));
        let others: Vec<(&NodeState, bool)> = index
            .standings
            .concerned()
            .filter(|(name, _)| !self.nodes.contains(*name))
            .filter_map(|(name, done)| Some((node(name)?, done)))
            .collect();
        common.retain(|class| others.iter().any(|(node, _)| !is_of(node, class)));
        let any_done = others.iter().any(|(_, done)| *done);
        let only =
            |class: &&Class| any_done && !others.iter().any(|(node, done)| *done && is_of(node, class));
        let telling: Vec<String> = common.iter().filter(only).map(ToString::to_string).collect();
        let all: Vec<String> = common.iter().map(ToString::to_string).collect();
        match (telling.is_empty(), all.is_empty()) {
            (false, _) => format!(": all have {}, which no node has that is done", telling.join(", ")),
            (true, false) => format!(": all have {}", all.join(", ")),
            (true, true) => String::new(),
        }
    }
}

/// A trouble without what tells one node or moment from another: the node, made-up endings of names, numbers and times
/// other than exit codes.
pub fn cause(message: &str, node: &str) -> String {
    let message = message.strip_prefix(&format!("node {node}: ")).unwrap_or(message);
    let mut is_code = false;
    let mut words = Vec::new();
    for word in message.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        words.push(if is_code { word.to_owned() } else { common(word, bare, node) });
        is_code = bare == "code";
    }
    words.join(" ")
}

fn common(word: &str, bare: &str, node: &str) -> String {
    let is_id = bare.len() >= 32 && bare.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let is_time = bare.starts_with(|c: char| c.is_ascii_digit())
        && bare.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'h' | 'm' | 's'));
    if bare == node || is_id || is_time {
        return word.replace(bare, "*");
    }
    let (length, made_of) = ENDING;
    let word = match bare.rsplit_once('-') {
        Some((name, end)) if end.len() == length && end.chars().all(|c| made_of.contains(c)) => {
            word.replace(bare, &format!("{name}-*"))
        }
        _ => word.to_owned(),
    };
    let mut common = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            c if c.is_ascii_digit() && common.ends_with('#') => {}
            c if c.is_ascii_digit() => common.push('#'),
            c => common.push(c),
        }
    }
    common
}
