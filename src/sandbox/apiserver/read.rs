//! Getting and listing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    error::ApiError,
    output::{Renderer, View},
    path::ResourcePath,
    request::Query,
    selector::Selector,
};
use crate::{
    json,
    store::{ObjectKey, State, Store},
};

/// One object.
pub(crate) fn get(store: &Store, place: ResourcePath<'_>) -> Result<Arc<Value>, ApiError> {
    let found = store.lock().get(&place.kind.key(), place.namespace, place.name);
    found.ok_or_else(|| ApiError::not_found(place.kind, place.name))
}

/// The resourceVersion of a list or watch request; 0 when absent.
pub(crate) fn asked_version(query: &Query) -> Result<u64, ApiError> {
    match query.get("resourceVersion") {
        "" => Ok(0),
        text => text.parse().map_err(|_| {
            ApiError::internal(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        }),
    }
}

/// The objects of a list request, rendered.
pub(crate) fn list(
    store: &Store,
    place: ResourcePath<'_>,
    query: &Query,
    renderer: &Renderer<'_>,
) -> Result<String, ApiError> {
    let selector = Selector::parse(place.kind, query.get("labelSelector"), query.get("fieldSelector"))?;
    let whole = renderer.view == View::Whole;
    let counts = selector.is_empty() && whole;
    let limit =
        query.number("limit").and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    let page = page(store, place, query, &selector, limit)?;
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    if place.kind.rules.custom && whole {
        json::set(&mut metadata, &["continue"], "");
    }
    if page.goes_on
        && let Some(last) = page.objects.last()
    {
        let text = |key: &str| json::text(last, &["metadata", key]).to_owned();
        let after = (text("namespace"), text("name"));
        json::set(
            &mut metadata,
            &["continue"],
            Token { version: page.version, left: page.left, after }.encode(),
        );
        if counts {
            json::set(&mut metadata, &["remainingItemCount"], page.left);
        }
    }
    renderer.list(page.objects.iter().map(AsRef::as_ref), &metadata)
}

/// The objects that a collection request is about, with their keys.
pub(crate) fn select(
    state: &State,
    place: ResourcePath<'_>,
    query: &Query,
) -> Result<Vec<(ObjectKey, Arc<Value>)>, ApiError> {
    let selector = Selector::parse(place.kind, query.get("labelSelector"), query.get("fieldSelector"))?;
    let mut objects = state.objects(&place.kind.key(), place.namespace);
    objects.retain(|(_, object)| selector.matches(object));
    Ok(objects)
}

struct Page {
    version: u64,
    objects: Vec<Arc<Value>>,
    /// There are more.
    goes_on: bool,
    /// Objects behind this page, selected or not.
    left: usize,
}

/// A page of the objects at the version that the request is about.
fn page(
    store: &Store,
    place: ResourcePath<'_>,
    query: &Query,
    selector: &Selector,
    limit: Option<usize>,
) -> Result<Page, ApiError> {
    let key = place.kind.key();
    let state = store.lock();
    let current = state.revision;
    let token = match query.get("continue") {
        "" => None,
        text => Some(Token::decode(text)?),
    };
    let asked = asked_version(query)?;
    if asked > current {
        return Err(ApiError::version_too_large(asked, current));
    }
    let exact = query.get("resourceVersionMatch") == "Exact";
    let version = match &token {
        Some(token) if token.version > 0 => token.version,
        None if exact && asked > 0 => asked,
        _ => current,
    };
    let expired = || match &token {
        Some(Token { after, left, .. }) => {
            ApiError::continue_expired(&Token { version: 0, left: *left, after: after.clone() }.encode())
        }
        None => ApiError::expired(format!("The resourceVersion for the provided list is too old: {version}")),
    };
    let after = token.as_ref().map(|token| &token.after);
    let behind = || state.objects_at(&key, place.namespace, version, after);
    let node = selector.node(place.kind).filter(|_| version == current && token.is_none());
    let mut selected: Box<dyn Iterator<Item = Arc<Value>>> = match node {
        Some(node) => Box::new(state.objects_on(node, place.namespace).into_iter().map(|(_, object)| object)),
        None => behind().ok_or_else(expired)?,
    };
    let mut objects = Vec::new();
    let mut goes_on = false;
    for object in selected.by_ref().filter(|object| selector.matches(object)) {
        goes_on = limit.is_some_and(|limit| objects.len() >= limit);
        if goes_on {
            break;
        }
        objects.push(object);
    }
    let all = match &token {
        Some(token) if token.version > 0 => token.left,
        None if version == current => state.count(&key, place.namespace),
        _ => behind().map_or(0, Iterator::count),
    };
    let left = all.saturating_sub(objects.len());
    Ok(Page { version, objects, goes_on, left })
}

/// Where the next page of a list begins. Opaque to clients.
struct Token {
    /// The version of the whole list; 0: whatever is there now.
    version: u64,
    /// Objects behind that place, selected or not; of a list with a selector not to be relied on.
    left: usize,
    after: ObjectKey,
}

impl Token {
    fn encode(&self) -> String {
        let plain = format!("{} {} {}/{}", self.version, self.left, self.after.0, self.after.1);
        plain.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        Self::parse(text)
            .ok_or_else(|| ApiError::bad_request("invalid continue token: continue key is not valid"))
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes: Option<Vec<u8>> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect();
        let plain = String::from_utf8(bytes?).ok()?;
        let (version, rest) = plain.split_once(' ')?;
        let (left, key) = rest.split_once(' ')?;
        let (namespace, name) = key.split_once('/')?;
        let after = (namespace.to_owned(), name.to_owned());
        Some(Self { version: version.parse().ok()?, left: left.parse().ok()?, after })
    }
}
