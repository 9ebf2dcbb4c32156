//! Answers that stay the same as long as what they show: a poller who has one is told so, and is sent nothing.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::envelope::{AsIs, Reply};
use crate::store::ServedGr;

/// It may be kept, by the caller alone, and has to be asked for again each time.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("private, no-cache");
/// Answers that are kept written out.
const KEPT: usize = 256;

/// What the caller has already.
#[derive(Clone, Debug, Default)]
pub(super) struct IfNoneMatch(Vec<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let all = parts.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        // A weak one will do: what it names has the same meaning.
        let tags = all.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
        Ok(Self(tags.map(str::to_owned).collect()))
    }
}

impl IfNoneMatch {
    fn names(&self, tag: &str) -> bool {
        self.0.iter().any(|known| known == tag || known == "*")
    }
}

/// What tells these very states of these very grs from all others.
pub(super) fn tag_of<'g>(grs: impl Iterator<Item = &'g Arc<ServedGr>>) -> String {
    let mut hasher = DefaultHasher::new();
    grs.for_each(|gr| gr.tag().hash(&mut hasher));
    format!("{:016x}", hasher.finish())
}

/// Answers as they are sent, the newest of each name.
#[derive(Clone, Debug, Default)]
pub(super) struct Rendered(Arc<Mutex<BTreeMap<String, (String, Reply)>>>);

impl Rendered {
    /// The answer about this name in the state that has this tag.
    pub(super) fn reply(
        &self,
        known: &IfNoneMatch,
        name: &str,
        tag: &str,
        content: impl FnOnce() -> Value,
    ) -> Response {
        let quoted = format!("\"{tag}\"");
        let mut response = if known.names(&quoted) {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            response.extensions_mut().insert(AsIs);
            response
        } else {
            self.rendered(name, tag, content).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, ASK_AGAIN);
        headers.extend(HeaderValue::from_str(&quoted).ok().map(|tag| (ETAG, tag)));
        response
    }

    fn rendered(&self, name: &str, tag: &str, content: impl FnOnce() -> Value) -> Reply {
        let known = self.kept().get(name).filter(|(kept, _)| kept == tag).map(|(_, reply)| reply.clone());
        known.unwrap_or_else(|| {
            let reply = Reply::rendered(&content());
            let mut kept = self.kept();
            if kept.len() >= KEPT {
                kept.clear();
            }
            kept.insert(name.to_owned(), (tag.to_owned(), reply.clone()));
            reply
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (String, Reply)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
