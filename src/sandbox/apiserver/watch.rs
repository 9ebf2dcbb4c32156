//! Watches: streams of JSON lines.
//!
//! A watch remembers the version up to which it has told its client everything. Each time its resource
//! type changes it takes what is newer from the history. Nothing is queued for it, so a slow client costs
//! nothing until it falls out of the history, and then it gets 410.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use futures::{Stream, stream};
use serde_json::Value;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    error::{ApiError, Cause, reply},
    output::{Renderer, View},
    path::ResourcePath,
    read,
    request::Query,
    selector::Selector,
};
use crate::{
    json,
    resources::{ResourceType, TypeKey, Version},
    store::{Change, State, Store},
};

/// How often a quiet watch is told the current version, when it asked for that.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts when the client names no limit.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Events told in one piece, so that a large initial state is not one giant chunk.
const BATCH: usize = 500;

/// Answers a watch request.
pub(crate) fn watch(
    store: &Arc<Store>,
    place: ResourcePath<'_>,
    query: &Query,
    view: View,
) -> Result<Response, ApiError> {
    let owes_end = asks_for_initial_events(query, store.streams_lists)?;
    let selector = Selector::parse(place.kind, query.get("labelSelector"), query.get("fieldSelector"))?;
    let asked = read::asked_version(query)?;
    let timeout = query.number("timeoutSeconds").map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let key = place.kind.key();
    let start = Instant::now();
    let mut ticks = interval_at(start + BOOKMARK_EVERY, BOOKMARK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = Watcher {
        wakeups: store.wakeups(&key, selector.node(place.kind)),
        store: store.clone(),
        kind: Arc::new(place.kind.clone()),
        version: place.version.clone(),
        namespace: place.namespace.to_owned(),
        include_object: query.get("includeObject").to_owned(),
        key,
        selector,
        view,
        seen: asked,
        pending: VecDeque::new(),
        owes_end,
        first: true,
        ended: false,
        ticks: query.is_set("allowWatchBookmarks").then_some(ticks),
        deadline: start + timeout,
    };
    if asked == 0 {
        watcher.begin_with_present_objects();
    }
    Ok(reply(200, "application/json", Body::from_stream(watcher.lines())))
}

/// Whether the watch has to say where what is there at its beginning ends. Only then nothing may be older than what
/// is asked for, and this server has no older state to begin with.
fn asks_for_initial_events(query: &Query, offered: bool) -> Result<bool, ApiError> {
    let (initial, version_match) = (query.get("sendInitialEvents"), query.get("resourceVersionMatch"));
    let forbidden = |whys: &[&str]| {
        let causes: Vec<Cause> =
            whys.iter().map(|why| Cause::forbidden("resourceVersionMatch", why)).collect();
        Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &causes))
    };
    match (initial, version_match) {
        (_, "") if initial.is_empty() || !offered => Ok(false),
        (_, _) if !offered => {
            let all = [
                "resourceVersionMatch is forbidden for watch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ];
            let [first, _] = all;
            if query.get("resourceVersion").is_empty() { forbidden(&all) } else { forbidden(&[first]) }
        }
        ("", _) => {
            forbidden(&["resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"])
        }
        (initial, "NotOlderThan") => Ok(initial == "true"),
        _ => forbidden(&["sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"]),
    }
}

struct Watcher {
    store: Arc<Store>,
    wakeups: Receiver<u64>,
    key: TypeKey,
    kind: Arc<ResourceType>,
    version: Version,
    namespace: String,
    include_object: String,
    selector: Selector,
    view: View,
    /// Everything up to this version has been taken into `pending`.
    seen: u64,
    pending: VecDeque<(&'static str, Arc<Value>)>,
    /// What there was at the beginning has not been told to its end.
    owes_end: bool,
    /// No event has been told yet.
    first: bool,
    ended: bool,
    ticks: Option<Interval>,
    deadline: Instant,
}

impl Watcher {
    fn begin_with_present_objects(&mut self) {
        let state = self.store.lock();
        let objects = match self.selector.node(&self.kind) {
            Some(node) => state.objects_on(node, &self.namespace),
            None => state.objects(&self.key, &self.namespace),
        };
        let selected = objects.into_iter().filter(|(_, object)| self.selector.matches(object));
        self.pending = selected.map(|(_, object)| ("ADDED", object)).collect();
        self.seen = state.revision;
    }

    fn lines(self) -> impl Stream<Item = Result<String, std::io::Error>> {
        stream::unfold(self, |mut watcher| async move {
            let text = watcher.next().await?;
            Some((Ok(text), watcher))
        })
    }

    /// The next piece of the stream; `None` when it has ended.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.ended {
                return None;
            }
            if !self.pending.is_empty() {
                return Some(self.tell());
            }
            if std::mem::take(&mut self.owes_end) {
                return self.renderer().bookmark(self.seen, true).ok();
            }
            self.wakeups.mark_unchanged();
            if let Err(error) = self.catch_up() {
                self.ended = true;
                return Some(format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", error.body()));
            }
            if !self.pending.is_empty() {
                continue;
            }
            if self.wait().await && self.catch_up().is_ok() && self.pending.is_empty() && !self.ended {
                return self.renderer().bookmark(self.seen, false).ok();
            }
        }
    }

    /// Waits for a change, the end, or the time for a bookmark; whether it is that.
    async fn wait(&mut self) -> bool {
        let tick = async {
            match &mut self.ticks {
                Some(ticks) => ticks.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.wakeups.changed() => {
                self.ended = changed.is_err();
                false
            }
            () = sleep_until(self.deadline) => {
                self.ended = true;
                false
            }
            _ = tick => true,
        }
    }

    /// Takes what has happened since the last look.
    fn catch_up(&mut self) -> Result<(), ApiError> {
        let store = self.store.clone();
        let state = store.lock();
        let revision = state.revision;
        if let Some(table) = state.table(&self.key) {
            let seen = self.seen;
            let on_node = self.selector.node(&self.kind).and_then(|node| state.on_node(node));
            let history = match on_node.filter(|node| seen >= node.since) {
                Some(node) => &node.history,
                None if seen < table.compacted => {
                    let message = format!("too old resource version: {seen} ({})", table.compacted);
                    return Err(ApiError::expired(message));
                }
                None => &table.history,
            };
            let from = history.partition_point(|change| change.resource_version <= seen);
            for change in history.range(from..) {
                if let Some(event) = self.event(change) {
                    self.pending.push_back(event);
                }
            }
        }
        self.seen = self.seen.max(revision);
        self.ended = self.pending.is_empty() && self.is_unserved(&state);
        Ok(())
    }

    /// The definition of a custom resource has gone.
    fn is_unserved(&self, state: &State) -> bool {
        !state.types.contains_key(&self.key)
    }

    /// A change as this watch sees it: an object that begins or stops to match appears or disappears.
    fn event(&self, change: &Change) -> Option<(&'static str, Arc<Value>)> {
        if !self.namespace.is_empty() && self.namespace != change.namespace {
            return None;
        }
        let selects = |object: &&Arc<Value>| self.selector.matches(object);
        let old = change.old.as_ref().filter(selects);
        let new = change.new.as_ref().filter(selects);
        match (old, new) {
            (None, Some(new)) => Some(("ADDED", new.clone())),
            (Some(_), Some(new)) => Some(("MODIFIED", new.clone())),
            (Some(old), None) => Some(("DELETED", at_version(old, change.resource_version))),
            (None, None) => None,
        }
    }

    fn tell(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..BATCH {
            let Some((kind, object)) = self.pending.pop_front() else { break };
            let line = self.renderer().event(kind, &object, self.first);
            text.push_str(&line.unwrap_or_default());
            self.first = false;
        }
        text
    }

    fn renderer(&self) -> Renderer<'_> {
        Renderer {
            kind: &self.kind,
            version: &self.version,
            view: self.view,
            now: self.store.now(),
            include_object: &self.include_object,
        }
    }
}

/// The last state of an object under the version in which it disappeared.
fn at_version(object: &Value, version: u64) -> Arc<Value> {
    let mut object = object.clone();
    json::set(&mut object, &["metadata", "resourceVersion"], version.to_string());
    Arc::new(object)
}
