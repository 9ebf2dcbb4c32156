//! Creating objects.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{defaults, error::ApiError, path::ResourcePath, schema, validate};
use crate::{json, resources::ResourceType, store::Tx};

/// Creates an object.
pub(crate) fn create(tx: &mut Tx<'_>, place: ResourcePath<'_>, body: Value) -> Result<Arc<Value>, ApiError> {
    let kind = place.kind;
    let mut object = validate::decode(kind, place.version, body)?;
    place.settle_namespace(&mut object)?;
    check_resource_version(&object)?;
    name_it(tx, &mut object);
    let name = json::text(&object, &["metadata", "name"]).to_owned();
    check_namespace(tx, place, &name)?;
    if kind.rules.terminating {
        return Err(ApiError::creating_in_terminating_crd(kind));
    }
    identify(tx, kind, &mut object);
    shape(place, &mut object);
    if kind.rules.custom {
        if place.version.has_status {
            json::remove(&mut object, &["status"]);
        }
    } else {
        defaults::fill_new(kind, &mut object);
    }
    validate::check(kind, place.version, None, &object)?;
    if kind.is("", "pods") {
        check_quota(tx, place, &name)?;
    }
    let key = kind.key();
    if let Some(there) = tx.state.get(&key, place.namespace, &name) {
        let ending = !json::text(&there, &["metadata", "deletionTimestamp"]).is_empty();
        return Err(ApiError::already_exists(kind, &name, ending));
    }
    Ok(tx.put(&key, place.namespace, &name, object))
}

/// Prunes and fills in an object before it is checked.
pub(crate) fn shape(place: ResourcePath<'_>, object: &mut Value) {
    if !place.kind.rules.custom {
        defaults::fill(place.kind, object);
    } else if let Some(schema) = &place.version.schema {
        schema::prune(object, schema, true);
        schema::default(object, schema);
    }
}

fn check_resource_version(object: &Value) -> Result<(), ApiError> {
    match json::text(object, &["metadata", "resourceVersion"]) {
        "" | "0" => Ok(()),
        _ => Err(ApiError::internal("resourceVersion should not be set on objects to be created")),
    }
}

fn name_it(tx: &mut Tx<'_>, object: &mut Value) {
    let base = json::text(object, &["metadata", "generateName"]).to_owned();
    if json::text(object, &["metadata", "name"]).is_empty() && !base.is_empty() {
        // The real server cuts the base so that the name stays within 63 characters.
        let kept: String = base.chars().take(58).collect();
        json::set(object, &["metadata", "name"], format!("{kept}{}", tx.new_suffix()));
    }
}

fn check_namespace(tx: &Tx<'_>, place: ResourcePath<'_>, name: &str) -> Result<(), ApiError> {
    if !place.kind.namespaced {
        return Ok(());
    }
    let namespaces = (String::new(), "namespaces".to_owned());
    let Some(namespace) = tx.state.get(&namespaces, "", place.namespace) else {
        let namespaces = tx.state.types.get(&namespaces);
        return Err(namespaces
            .map_or_else(ApiError::no_such_resource, |kind| ApiError::not_found(kind, place.namespace)));
    };
    if json::text(&namespace, &["metadata", "deletionTimestamp"]).is_empty() {
        Ok(())
    } else {
        Err(ApiError::namespace_terminating(place.kind, name, place.namespace))
    }
}

/// A quota on the number of pods. Its controller, which would count what is used, is no part of the sandbox: the hard
/// limit has to stand in its status.
fn check_quota(tx: &Tx<'_>, place: ResourcePath<'_>, name: &str) -> Result<(), ApiError> {
    let of = |plural: &str| tx.state.objects(&(String::new(), plural.to_owned()), place.namespace);
    for (_, quota) in of("resourcequotas") {
        let hard = json::text(&quota, &["status", "hard", "pods"]);
        let Ok(limit) = hard.parse::<usize>() else { continue };
        let used = of("pods").len();
        if used >= limit {
            let quota = json::text(&quota, &["metadata", "name"]);
            let why = format!(
                "exceeded quota: {quota}, requested: pods=1, used: pods={used}, limited: pods={limit}"
            );
            return Err(ApiError::forbidden(place.kind, name, &why));
        }
    }
    Ok(())
}

/// The metadata that only the server sets; what a client sent of it is dropped.
fn identify(tx: &mut Tx<'_>, kind: &ResourceType, object: &mut Value) {
    let mut metadata = Map::new();
    for field in
        ["name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences"]
    {
        if let Some(value) = json::at(object, &["metadata"]).get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("uid".to_owned(), tx.new_uid().into());
    metadata.insert("creationTimestamp".to_owned(), tx.timestamp().into());
    if kind.rules.generation {
        metadata.insert("generation".to_owned(), 1.into());
    }
    json::set(object, &["metadata"], metadata);
}
