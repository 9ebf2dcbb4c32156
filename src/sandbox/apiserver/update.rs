//! Changing objects: what PUT and every kind of PATCH have in common.

use std::sync::Arc;

use serde_json::Value;

use super::{
    create, defaults,
    error::{ApiError, Cause},
    path::ResourcePath,
    validate,
};
use crate::{
    json,
    resources::{ADMISSION_GROUP, ResourceType},
    store::Tx,
};

/// How a new state came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The client sent all of it.
    Put,
    /// The server applied a patch to the present state.
    Patch,
}

/// Replaces an object. Answers the HTTP status and the stored object.
pub(crate) fn update(
    tx: &mut Tx<'_>,
    place: ResourcePath<'_>,
    body: Value,
    by: By,
) -> Result<(u16, Arc<Value>), ApiError> {
    let kind = place.kind;
    let mut new = validate::decode(kind, place.version, body)?;
    check_name(place, &mut new)?;
    place.settle_namespace(&mut new)?;
    let Some(old) = tx.state.get(&kind.key(), place.namespace, place.name) else {
        if kind.rules.create_on_update && by == By::Put && place.subresource.is_empty() {
            return Ok((201, create::create(tx, place, new)?));
        }
        return Err(ApiError::not_found(kind, place.name));
    };
    check_uid(place, &old, &new, by)?;
    check_version(place, &old, &new)?;
    let new = settle(place, &old, new);
    validate::check(kind, place.version, Some(&old), &new)?;
    Ok((200, store(tx, place, old, new)))
}

/// Stores a new state, unless it is the old one; removes the object when nothing holds it any more.
pub(crate) fn store(tx: &mut Tx<'_>, place: ResourcePath<'_>, old: Arc<Value>, new: Value) -> Arc<Value> {
    let kind = place.kind;
    let ends = !json::text(&new, &["metadata", "deletionTimestamp"]).is_empty()
        && json::integer(&new, &["metadata", "deletionGracePeriodSeconds"]) == 0
        && !validate::has_finalizers(kind, &new);
    if ends {
        tx.remove(&kind.key(), place.namespace, place.name);
        return Arc::new(new);
    }
    if *old == new {
        return old;
    }
    tx.put(&kind.key(), place.namespace, place.name, new)
}

fn check_name(place: ResourcePath<'_>, new: &mut Value) -> Result<(), ApiError> {
    let name = json::text(new, &["metadata", "name"]);
    if name.is_empty() {
        json::set(new, &["metadata", "name"], place.name);
    } else if name != place.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            place.name
        )));
    }
    Ok(())
}

fn check_uid(place: ResourcePath<'_>, old: &Value, new: &Value, by: By) -> Result<(), ApiError> {
    let (had, sent) = (json::text(old, &["metadata", "uid"]), json::text(new, &["metadata", "uid"]));
    if sent.is_empty() || had == sent {
        return Ok(());
    }
    let kind = place.kind;
    if by == By::Patch {
        let cause = Cause::invalid("metadata.uid", format!("{sent:?}"), "field is immutable");
        return Err(ApiError::invalid(&kind.group, &kind.kind, place.name, &[cause]));
    }
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {sent}, UID in object meta: {had}",
        etcd_key(place)
    );
    Err(ApiError::conflict(&kind.group, &kind.plural, place.name, &why))
}

/// Where a real server keeps the object; part of an error text.
fn etcd_key(place: ResourcePath<'_>) -> String {
    let kind = place.kind;
    let mut key = "/registry".to_owned();
    let in_group = kind.rules.custom || kind.group == "apiextensions.k8s.io";
    let plural = if kind.is("", "nodes") { "minions" } else { kind.plural.as_str() };
    let parts = [if in_group { kind.group.as_str() } else { "" }, plural, place.namespace, place.name];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        key.push('/');
        key.push_str(part);
    }
    key
}

fn check_version(place: ResourcePath<'_>, old: &Value, new: &Value) -> Result<(), ApiError> {
    let kind = place.kind;
    let sent = json::text(new, &["metadata", "resourceVersion"]);
    if sent.is_empty() || sent == "0" {
        if kind.rules.unconditional_update {
            return Ok(());
        }
        let cause = Cause::invalid("metadata.resourceVersion", "0x0", "must be specified for an update");
        return Err(ApiError::invalid(&kind.group, &kind.plural, place.name, &[cause]));
    }
    if sent.parse::<u64>().is_err() {
        return Err(ApiError::internal(format!("strconv.ParseUint: parsing {sent:?}: invalid syntax")));
    }
    if sent == json::text(old, &["metadata", "resourceVersion"]) {
        Ok(())
    } else {
        Err(ApiError::modified(kind, place.name))
    }
}

/// What a client sent, decoded and filled in, as webhooks see it: what only the server knows may be missing.
pub(crate) fn decoded(place: ResourcePath<'_>, body: Value) -> Result<Value, ApiError> {
    let mut object = validate::decode(place.kind, place.version, body)?;
    if place.kind.rules.custom {
        create::shape(place, &mut object);
    } else {
        defaults::fill(place.kind, &mut object);
        defaults::fill_status(place.kind, &mut object);
        json::default(&mut object, &["metadata", "creationTimestamp"], Value::Null);
    }
    Ok(object)
}

/// The new state as it may be: each endpoint changes its own part only.
fn settle(place: ResourcePath<'_>, old: &Value, mut new: Value) -> Value {
    let kind = place.kind;
    if kind.rules.custom {
        create::shape(place, &mut new);
    } else {
        defaults::fill(kind, &mut new);
        defaults::fill_status(kind, &mut new);
    }
    keep_server_metadata(old, &mut new);
    let has_status = place.version.has_status;
    match place.subresource {
        "status" if kind.rules.custom => {
            let status = json::at(&new, &["status"]).clone();
            new = old.clone();
            json::carry(&serde_json::json!({"status": status}), &mut new, &["status"]);
        }
        "status" => {
            json::carry(old, &mut new, &["spec"]);
            json::carry(old, &mut new, &["metadata", "ownerReferences"]);
            if kind.is("apps", "deployments") {
                json::carry(old, &mut new, &["metadata", "labels"]);
            }
        }
        "finalize" => json::carry(old, &mut new, &["status"]),
        _ if has_status => {
            json::carry(old, &mut new, &["status"]);
            if kind.is("", "namespaces") {
                json::carry(old, &mut new, &["spec", "finalizers"]);
            }
        }
        _ => {}
    }
    if place.subresource.is_empty() {
        count_generations(kind, has_status, old, &mut new);
    }
    new
}

fn keep_server_metadata(old: &Value, new: &mut Value) {
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ] {
        json::carry(old, new, &["metadata", field]);
    }
    json::remove(new, &["metadata", "selfLink"]);
}

fn count_generations(kind: &ResourceType, has_status: bool, old: &Value, new: &mut Value) {
    if kind.is("apps", "daemonsets") {
        count_template_generations(old, new);
    }
    if kind.rules.generation && wanted_part(kind, has_status, old) != wanted_part(kind, has_status, new) {
        let generation = json::integer(old, &["metadata", "generation"]) + 1;
        json::set(new, &["metadata", "generation"], generation);
    }
}

/// What a generation counts the changes of: `spec`, or all but metadata and status of a custom resource.
fn wanted_part(kind: &ResourceType, has_status: bool, object: &Value) -> Value {
    if kind.group == ADMISSION_GROUP {
        return json::at(object, &["webhooks"]).clone();
    }
    if !kind.rules.custom {
        return json::at(object, &["spec"]).clone();
    }
    let mut wanted = object.clone();
    json::remove(&mut wanted, &["metadata"]);
    if has_status {
        json::remove(&mut wanted, &["status"]);
    }
    wanted
}

fn count_template_generations(old: &Value, new: &mut Value) {
    let path = ["metadata", "annotations", defaults::TEMPLATE_GENERATION];
    let had: i64 = json::text(old, &path).parse().unwrap_or_default();
    let template = ["spec", "template"];
    let changed = json::at(old, &template) != json::at(new, &template);
    json::set(new, &path, (had + i64::from(changed)).to_string());
}
