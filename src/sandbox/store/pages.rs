//! Pages of lists, of now or of an older version: what a page costs depends on its size and not on that of the list.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use serde_json::Value;

use super::{ObjectKey, State, Table};
use crate::resources::TypeKey;

impl State {
    /// The objects of a type, or those of one namespace, as they were at a version, in order, from behind `after` on;
    /// `None` when that version is forgotten.
    pub(crate) fn objects_at<'s>(
        &'s self,
        key: &TypeKey,
        namespace: &'s str,
        version: u64,
        after: Option<&ObjectKey>,
    ) -> Option<Box<dyn Iterator<Item = Arc<Value>> + 's>> {
        let Some(table) = self.table(key) else { return Some(Box::new(std::iter::empty())) };
        if version < table.compacted {
            return None;
        }
        let first = (namespace.to_owned(), String::new());
        let from = after.map_or(Included(&first), Excluded);
        let now = table.objects.range::<ObjectKey, _>((from, Unbounded));
        let then = changed_since(table, version, from);
        let all = merged(now, then).take_while(move |(key, _)| namespace.is_empty() || key.0 == namespace);
        Some(Box::new(all.map(|(_, object)| object)))
    }

    /// How many objects of a type there are now, in one namespace or in all.
    pub(crate) fn count(&self, key: &TypeKey, namespace: &str) -> usize {
        let Some(table) = self.table(key) else { return 0 };
        if namespace.is_empty() {
            return table.objects.len();
        }
        let from = (namespace.to_owned(), String::new());
        table.objects.range(from..).take_while(|(key, _)| key.0 == namespace).count()
    }
}

/// What was there before everything that happened since a version.
fn changed_since(
    table: &Table,
    version: u64,
    from: std::ops::Bound<&ObjectKey>,
) -> BTreeMap<ObjectKey, Option<Arc<Value>>> {
    let since = table.history.iter().rev().take_while(|change| change.resource_version > version);
    // From the newest to the oldest: what stays is what the oldest changed.
    let all: BTreeMap<ObjectKey, Option<Arc<Value>>> =
        since.map(|change| ((change.namespace.clone(), change.name.clone()), change.old.clone())).collect();
    all.into_iter().filter(|(key, _)| is_from(key, from)).collect()
}

fn is_from(key: &ObjectKey, from: std::ops::Bound<&ObjectKey>) -> bool {
    match from {
        Included(first) => key >= first,
        Excluded(last) => key > last,
        Unbounded => true,
    }
}

/// Both in order: where there is something from then, it counts.
fn merged<'s>(
    now: impl Iterator<Item = (&'s ObjectKey, &'s Arc<Value>)>,
    then: BTreeMap<ObjectKey, Option<Arc<Value>>>,
) -> impl Iterator<Item = (ObjectKey, Arc<Value>)> {
    let mut now = now.peekable();
    let mut then = then.into_iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let is_of_now = match (now.peek(), then.peek()) {
                (None, None) => return None,
                (Some((key, _)), Some((old, _))) if *key == old => {
                    now.next();
                    false
                }
                (Some((key, _)), Some((old, _))) => *key < old,
                (one, _) => one.is_some(),
            };
            if is_of_now {
                return now.next().map(|(key, object)| (key.clone(), object.clone()));
            }
            if let Some((key, Some(object))) = then.next() {
                return Some((key, object));
            }
        }
    })
}
