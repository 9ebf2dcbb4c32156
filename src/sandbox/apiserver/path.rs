//! Which object a request is about.

use serde_json::Value;

use super::error::ApiError;
use crate::{
    json,
    resources::{ResourceType, Version},
};

/// What a write is about: a kind, the version that the client speaks, and a place.
#[derive(Clone, Copy)]
pub(crate) struct ResourcePath<'a> {
    pub(crate) kind: &'a ResourceType,
    pub(crate) version: &'a Version,
    /// Empty for cluster-scoped kinds.
    pub(crate) namespace: &'a str,
    /// Empty when a new object names itself.
    pub(crate) name: &'a str,
    /// `status`, `finalize`, or empty.
    pub(crate) subresource: &'a str,
}

impl ResourcePath<'_> {
    /// A body's namespace is filled in from the path, or must be the same.
    pub(crate) fn settle_namespace(&self, object: &mut Value) -> Result<(), ApiError> {
        let found = json::text(object, &["metadata", "namespace"]);
        if !found.is_empty() && found != self.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if self.namespace.is_empty() {
            json::remove(object, &["metadata", "namespace"]);
        } else {
            json::set(object, &["metadata", "namespace"], self.namespace);
        }
        Ok(())
    }
}
