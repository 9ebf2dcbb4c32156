//! Commands about one node of a RollingUpdate: which node takes them, and what they change in the record's `spec`.

use std::collections::BTreeMap;

use crate::record::rolling::{SKIP_LABEL, TroubleKind};
use crate::record::size::{has_room_for, requests};
use crate::record::{GcuUpgrade, SkipNode};

/// More nodes than this are not skipped, and not retried, by request: the schema of the record says so too.
pub const NODES_LIMIT: usize = 500;

/// A node that is to be left out. What is not said stays as it was said before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipping {
    /// The node.
    pub node: String,
    /// Why, in the words of the person who asks.
    pub reason: Option<String>,
    /// Whether it stays cordoned when it is released.
    pub keep_cordon: Option<bool>,
}

/// What such a command changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    /// `spec.skip` becomes this.
    pub skip: Option<Vec<SkipNode>>,
    /// `spec.nodeAttempts` of the node becomes this.
    pub attempt: Option<u32>,
}

impl NodeChange {
    /// It is so already.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether the record names the node, as one in work or as one that was left out.
pub fn is_named(record: &GcuUpgrade, node: &str) -> bool {
    let rolling = record.status.as_ref().and_then(|s| s.rolling.as_ref());
    record.spec.skip.iter().any(|s| s.node == node)
        || rolling.is_some_and(|r| r.skipped.iter().any(|s| s.node == node))
        || is_in_work(record, node)
}

/// Whether the node is claimed.
pub fn is_in_work(record: &GcuUpgrade, node: &str) -> bool {
    let rolling = record.status.as_ref().and_then(|s| s.rolling.as_ref());
    rolling.is_some_and(|r| r.active.iter().any(|c| c.node == node))
}

/// Leaves a node out; one in work is released as it is.
///
/// # Errors
/// Why not: the end of a sentence that begins with the record's name.
pub fn skip(record: &GcuUpgrade, asked: &Skipping) -> Result<NodeChange, String> {
    let mut skip = record.spec.skip.clone();
    let known = skip.iter().position(|s| s.node == asked.node);
    let before = known.map(|at| skip.remove(at));
    let entry = SkipNode {
        node: asked.node.clone(),
        reason: asked.reason.clone().or_else(|| before.as_ref().and_then(|b| b.reason.clone())),
        keep_cordon: asked.keep_cordon.unwrap_or_else(|| before.as_ref().is_some_and(|b| b.keep_cordon)),
    };
    if before.as_ref() == Some(&entry) {
        return Ok(NodeChange::default());
    }
    skip.insert(known.unwrap_or(skip.len()), entry);
    if skip.len() > NODES_LIMIT || !fit(record, &skip, &record.spec.node_attempts) {
        return Err(format!(
            "names {} nodes that are skipped by request, and can hold no more: set the label \
             {SKIP_LABEL}=true on node {}, which does the same",
            record.spec.skip.len(),
            asked.node
        ));
    }
    Ok(NodeChange { skip: Some(skip), attempt: None })
}

/// Takes a node that was left out, or gives one that has failed or is late a fresh deadline.
///
/// # Errors
/// Why not: the end of a sentence that begins with the record's name.
pub fn retry(record: &GcuUpgrade, node: &str) -> Result<NodeChange, String> {
    let rolling = record.status_or_default().rolling.unwrap_or_default();
    let attempts = &record.spec.node_attempts;
    let claim = rolling.active.iter().find(|c| c.node == node);
    let given_up = rolling.skipped.iter().find(|s| s.node == node);
    let trouble = claim.and_then(|c| c.trouble.as_ref()).filter(|t| t.kind != TroubleKind::Settling);
    let skip: Vec<SkipNode> = record.spec.skip.iter().filter(|s| s.node != node).cloned().collect();
    let by_request = skip.len() < record.spec.skip.len();
    if !by_request && given_up.is_none() && trouble.is_none() {
        return Err(match claim {
            Some(_) => {
                format!("has node {node} in work, which has not failed and is not late: nothing to retry yet")
            }
            None => format!("has not skipped node {node}, and it is not in work: nothing to retry"),
        });
    }
    let known = attempts.get(node).copied();
    let latest = [known, claim.map(|c| c.attempt), given_up.map(|s| s.attempt)].into_iter().flatten().max();
    let mut more = attempts.clone();
    more.insert(node.to_owned(), u32::MAX);
    let fits = known.is_some() || (attempts.len() < NODES_LIMIT && fit(record, &skip, &more));
    if !fits && (given_up.is_some() || trouble.is_some()) {
        return Err(format!(
            "has retried {} nodes, and can count no more: retry the upgrade as a whole when it is held, \
             which tries every node again",
            attempts.len()
        ));
    }
    Ok(NodeChange {
        skip: by_request.then_some(skip),
        // One that is only skipped by request is taken again all the same.
        attempt: fits.then(|| latest.unwrap_or_default().saturating_add(1)),
    })
}

/// Whether the record can hold what people say of nodes.
fn fit(record: &GcuUpgrade, skip: &[SkipNode], attempts: &BTreeMap<String, u32>) -> bool {
    let rolling = record.status.as_ref().and_then(|s| s.rolling.as_ref());
    has_room_for(&record.spec, rolling, requests(skip, attempts))
}
