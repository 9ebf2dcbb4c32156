//! The four kinds of patch.

use serde_json::Value;

use super::{
    create,
    error::{ApiError, Cause},
    path::ResourcePath,
    request::{self, Asked},
    strategic,
    update::{self, By},
};
use crate::{json, resources::ResourceType, store::Tx};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Patches an object, or applies one that may not be there yet. Answers the HTTP status and the object.
pub(crate) fn patch(
    tx: &mut Tx<'_>,
    place: ResourcePath<'_>,
    asked: &Asked,
) -> Result<(u16, std::sync::Arc<Value>), ApiError> {
    let kind = place.kind;
    check(kind, asked)?;
    let old = tx.state.get(&kind.key(), place.namespace, place.name);
    let Some(old) = old else {
        if asked.content_type != APPLY || !place.subresource.is_empty() {
            return Err(ApiError::not_found(kind, place.name));
        }
        let mut new = request::parse_yaml(&asked.body)?;
        json::default(&mut new, &["metadata", "name"], place.name);
        return Ok((201, create::create(tx, place, new)?));
    };
    let patched = applied(place, &old, asked)?;
    update::update(tx, place, patched, By::Patch)
}

/// What the patch makes of an object that is there.
pub(crate) fn applied(place: ResourcePath<'_>, old: &Value, asked: &Asked) -> Result<Value, ApiError> {
    let kind = place.kind;
    check(kind, asked)?;
    let mut present = old.clone();
    json::set(&mut present, &["apiVersion"], kind.api_version(&place.version.name));
    match asked.content_type.as_str() {
        JSON_PATCH => json_patch(present, &asked.body),
        MERGE => Ok(merge(present, &parse(&asked.body)?)),
        STRATEGIC => Ok(strategic::merge(present, &parse(&asked.body)?)),
        _ => Ok(strategic::apply(present, &request::parse_yaml(&asked.body)?, !kind.rules.custom)),
    }
}

fn check(kind: &ResourceType, asked: &Asked) -> Result<(), ApiError> {
    match asked.content_type.as_str() {
        APPLY if asked.query.get("fieldManager").is_empty() => {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[cause]))
        }
        JSON_PATCH | MERGE | APPLY => Ok(()),
        STRATEGIC if !kind.rules.custom => Ok(()),
        STRATEGIC => Err(ApiError::unsupported_body(&[JSON_PATCH, MERGE, APPLY])),
        _ => Err(ApiError::unsupported_patch()),
    }
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|_| ApiError::internal("Invalid JSON Patch"))
}

/// RFC 7386.
fn merge(mut present: Value, patch: &Value) -> Value {
    json_patch::merge(&mut present, patch);
    present
}

/// RFC 6902.
fn json_patch(mut present: Value, body: &[u8]) -> Result<Value, ApiError> {
    let document: Value =
        serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
    if !document.is_array() {
        return Err(ApiError::bad_request(
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(document).map_err(|_| ApiError::patch_does_not_apply())?;
    json_patch::patch(&mut present, &patch).map_err(|_| ApiError::patch_does_not_apply())?;
    Ok(present)
}
