//! What stands in the way of a node: a person, or a trouble of its claim.

use crate::plan::fleet::NodeState;
use crate::record::SkipNode;
use crate::record::rolling::{Claim, RollingStatus, SKIP_LABEL, Trouble, TroubleKind};

/// Why a person does not want this node to be worked on, if so.
pub(super) fn opted_out(node: &NodeState, skip: &[SkipNode]) -> Option<String> {
    if node.opted_out {
        return Some(format!("its label {SKIP_LABEL} is true"));
    }
    let skipped = skip.iter().find(|s| s.node == node.name)?;
    let why = skipped.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
    Some(format!("skipped by request{why}"))
}

pub(super) fn is(claim: &Claim, kind: TroubleKind) -> bool {
    claim.trouble.as_ref().is_some_and(|t| t.kind == kind)
}

pub(super) fn first_trouble(rolling: &RollingStatus) -> String {
    let mut troubles: Vec<&Trouble> = rolling
        .active
        .iter()
        .filter_map(|c| c.trouble.as_ref())
        .filter(|t| t.kind != TroubleKind::Settling)
        .collect();
    troubles.sort_by_key(|t| t.at);
    let more =
        if troubles.len() > 1 { format!("; and {} more nodes", troubles.len() - 1) } else { String::new() };
    troubles.first().map(|t| format!("{}{more}", t.message)).unwrap_or_default()
}
