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
    let mut page = snapshot(store, place, query)?;
    page.objects.retain(|(_, object)| selector.matches(object));
    let mut metadata = json!({"resourceVersion": page.version.to_string()});
    let whole = renderer.view == View::Whole;
    if place.kind.rules.custom && whole {
        json::set(&mut metadata, &["continue"], "");
    }
    let limit =
        query.number("limit").and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    if let Some(limit) = limit.filter(|limit| *limit < page.objects.len()) {
        let left = page.objects.len() - limit;
        page.objects.truncate(limit);
        let last = page.objects.last().map(|(key, _)| key.clone()).unwrap_or_default();
        json::set(&mut metadata, &["continue"], Token { version: page.version, after: last }.encode());
        if selector.is_empty() && whole {
            json::set(&mut metadata, &["remainingItemCount"], left);
        }
    }
    renderer.list(page.objects.iter().map(|(_, object)| object.as_ref()), &metadata)
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
    objects: Vec<(ObjectKey, Arc<Value>)>,
}

/// The objects at the version that the request is about, those of earlier pages left out.
fn snapshot(store: &Store, place: ResourcePath<'_>, query: &Query) -> Result<Page, ApiError> {
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
    if version == current && token.is_none() {
        return Ok(Page { version, objects: state.objects(&key, place.namespace) });
    }
    let all = state.objects_at(&key, version).ok_or_else(|| match &token {
        Some(token) => ApiError::continue_expired(&Token { version: 0, after: token.after.clone() }.encode()),
        None => ApiError::expired(format!("The resourceVersion for the provided list is too old: {version}")),
    })?;
    let objects = all
        .into_iter()
        .filter(|(key, _)| place.namespace.is_empty() || key.0 == place.namespace)
        .filter(|(key, _)| token.as_ref().is_none_or(|token| *key > token.after))
        .collect();
    Ok(Page { version, objects })
}

/// Where the next page of a list begins. Opaque to clients.
struct Token {
    /// The version of the whole list; 0: whatever is there now.
    version: u64,
    after: ObjectKey,
}

impl Token {
    fn encode(&self) -> String {
        let plain = format!("{} {}/{}", self.version, self.after.0, self.after.1);
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
        let (version, key) = plain.split_once(' ')?;
        let (namespace, name) = key.split_once('/')?;
        Some(Self { version: version.parse().ok()?, after: (namespace.to_owned(), name.to_owned()) })
    }
}
