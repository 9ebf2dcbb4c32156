//! The plan in one sentence.

use super::{Ask, Expected, duration};
use crate::plan::impact::{Certainty, Change};
use crate::record::Strategy;

pub(super) fn summary(
    ask: &Ask<'_>,
    changes: &[Change],
    nodes: usize,
    at_once: usize,
    expected: &Expected,
) -> String {
    let gr = ask.gr;
    if ask.live.is_none() {
        return format!("gr {gr} is not there: it is created");
    }
    match ask.strategy {
        Strategy::Recreate => {
            let outage = expected.seconds.map_or_else(
                || "for a time that is not known".to_owned(),
                |s| format!("for about {}", duration::in_words(s)),
            );
            format!("the whole stack of gr {gr} goes down on all {nodes} nodes at once, {outage}")
        }
        Strategy::RollingUpdate if changes.is_empty() && nodes == 0 => {
            format!("nothing of gr {gr} changes: no node is touched")
        }
        Strategy::RollingUpdate if changes.is_empty() => {
            format!("nothing of gr {gr} changes; outdated pods on {nodes} nodes are replaced")
        }
        Strategy::RollingUpdate => {
            let what: Vec<&str> = changes.iter().map(|c| c.component.as_str()).collect();
            let at_once = at_once.min(nodes);
            let known = changes.iter().any(|c| c.certainty > Certainty::Unknown);
            let may =
                if known { "" } else { ", if the operator renders what differs; else nothing restarts" };
            format!("{} of gr {gr} on {nodes} nodes, {at_once} at once{may}", what.join(", "))
        }
    }
}
