//! Calls on nodes, pods and DaemonSets that are not to be repeated yet: refused, or done and not seen yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::FleetAction;
use crate::plan::memo::Memo;

/// Such calls, by what they were about: see [`crate::plan::fleet::Fleet::refusals`].
#[derive(Default)]
pub(super) struct Suppressed {
    why: Arc<BTreeMap<String, String>>,
    /// Until when, by subject, and on which node.
    until: BTreeMap<String, (Instant, Option<String>)>,
    next: BTreeSet<(Instant, String)>,
}

impl Suppressed {
    /// This call is not to be repeated for so long.
    pub(super) fn add(&mut self, action: &FleetAction, why: String, rest: Duration, memo: &mut Memo) {
        let (subject, until) = (action.subject(), Instant::now() + rest);
        let node = action.node().map(str::to_owned);
        node.iter().for_each(|node| memo.touch(node));
        if let Some((before, _)) = self.until.insert(subject.clone(), (until, node)) {
            self.next.remove(&(before, subject.clone()));
        }
        self.next.insert((until, subject.clone()));
        Arc::make_mut(&mut self.why).insert(subject, why);
    }

    /// Lets go of what may be tried again now.
    pub(super) fn expire(&mut self, now: Instant, memo: &mut Memo) {
        while self.next.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, subject)) = self.next.pop_first() else { return };
            let node = self.until.remove(&subject).and_then(|(_, node)| node);
            node.iter().for_each(|node| memo.touch(node));
            Arc::make_mut(&mut self.why).remove(&subject);
        }
    }

    /// Why each is not repeated.
    pub(super) fn why(&self) -> Arc<BTreeMap<String, String>> {
        self.why.clone()
    }

    /// When the first of them may be tried again.
    pub(super) fn first(&self) -> Option<Instant> {
        self.next.first().map(|(until, _)| *until)
    }
}
