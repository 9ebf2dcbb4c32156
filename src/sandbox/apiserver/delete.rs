//! Deleting objects: preconditions, grace periods, finalizers.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    crd,
    error::{ApiError, Cause},
    path::ResourcePath,
    request::{self, Query},
    validate,
};
use crate::{
    json,
    resources::ResourceType,
    store::{Tx, format_time},
};

/// What a delete asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) grace: Option<i64>,
    pub(crate) policy: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) dry_run: bool,
}

impl Options {
    /// From the body, or from the query when there is no body.
    pub(crate) fn parse(query: &Query, body: &Value) -> Result<Self, ApiError> {
        let listed = json::items(body, &["dryRun"]).iter().filter_map(Value::as_str);
        let dry_run = query.dry_run("DeleteOptions")? || request::dry_run(listed, "DeleteOptions")?;
        let in_body = json::text(body, &["propagationPolicy"]);
        let policy = if in_body.is_empty() { query.get("propagationPolicy") } else { in_body };
        if !matches!(policy, "" | "Background" | "Foreground" | "Orphan") {
            let supported = ["Foreground", "Background", "Orphan", "nil"].map(|policy| format!("{policy:?}"));
            let cause = Cause::unsupported("propagationPolicy", &format!("{policy:?}"), &supported);
            return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[cause]));
        }
        Ok(Self {
            grace: json::at(body, &["gracePeriodSeconds"])
                .as_i64()
                .or_else(|| query.get("gracePeriodSeconds").parse().ok()),
            policy: policy.to_owned(),
            uid: json::text(body, &["preconditions", "uid"]).to_owned(),
            resource_version: json::text(body, &["preconditions", "resourceVersion"]).to_owned(),
            dry_run,
        })
    }
}

/// What became of an object.
pub(crate) enum Outcome {
    /// It is gone; its last state.
    Gone(Arc<Value>),
    /// It is being deleted.
    Terminating(Arc<Value>),
}

/// Deletes one object. Answers the body to send: the object, or a `Status`.
pub(crate) fn delete(tx: &mut Tx<'_>, place: ResourcePath<'_>, options: &Options) -> Result<Value, ApiError> {
    let kind = place.kind;
    let found = tx.state.get(&kind.key(), place.namespace, place.name);
    let old = found.ok_or_else(|| ApiError::not_found(kind, place.name))?;
    check_preconditions(kind, place.name, &old, options)?;
    Ok(match now(tx, kind, place.namespace, place.name, &old, options) {
        Outcome::Terminating(object) => object.as_ref().clone(),
        Outcome::Gone(object) if kind.rules.returns_deleted => object.as_ref().clone(),
        Outcome::Gone(object) => gone_status(kind, place.name, &object),
    })
}

fn gone_status(kind: &ResourceType, name: &str, object: &Value) -> Value {
    let mut details = json!({
        "name": name, "kind": kind.plural, "uid": json::text(object, &["metadata", "uid"]),
    });
    if !kind.group.is_empty() {
        json::set(&mut details, &["group"], kind.group.clone());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn check_preconditions(
    kind: &ResourceType,
    name: &str,
    old: &Value,
    options: &Options,
) -> Result<(), ApiError> {
    let conflict = |why: String| Err(ApiError::conflict(&kind.group, &kind.kind, name, &why));
    let (uid, version) =
        (json::text(old, &["metadata", "uid"]), json::text(old, &["metadata", "resourceVersion"]));
    if !options.uid.is_empty() && options.uid != uid {
        return conflict(format!(
            "the UID in the precondition ({}) does not match the UID in record ({uid}). The object might \
             have been deleted and then recreated",
            options.uid
        ));
    }
    if !options.resource_version.is_empty() && options.resource_version != version {
        return conflict(format!(
            "the ResourceVersion in the precondition ({}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified",
            options.resource_version
        ));
    }
    Ok(())
}

/// Deletes an object whose preconditions hold.
pub(crate) fn now(
    tx: &mut Tx<'_>,
    kind: &ResourceType,
    namespace: &str,
    name: &str,
    old: &Arc<Value>,
    options: &Options,
) -> Outcome {
    if kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
        return end_definition(tx, name, old);
    }
    let mut new = old.as_ref().clone();
    set_propagation(&mut new, &options.policy);
    if kind.is("", "namespaces") {
        return end_namespace(tx, kind, name, old, new);
    }
    let pending = validate::has_finalizers(kind, &new);
    if kind.is("", "pods") {
        return end_pod(tx, kind, namespace, name, old, new, options.grace);
    }
    if !pending {
        tx.remove(&kind.key(), namespace, name);
        return Outcome::Gone(old.clone());
    }
    mark(tx, &mut new);
    Outcome::Terminating(put_if_changed(tx, kind, namespace, name, old, new))
}

/// A definition goes with the last of its objects, which are deleted with it.
fn end_definition(tx: &mut Tx<'_>, name: &str, definition: &Arc<Value>) -> Outcome {
    let marked = crd::mark_deleted(tx, name, definition);
    let is_first = json::text(definition, &["metadata", "deletionTimestamp"]).is_empty();
    let key = crd::key_of(definition);
    if let Some(kind) = tx.state.types.get(&key).cloned().filter(|_| is_first && !tx.dry_run) {
        for ((namespace, name), object) in tx.state.objects(&key, "") {
            now(tx, &kind, &namespace, &name, &object, &Options::default());
        }
        crd::finish_deletion(tx, &key);
    }
    Outcome::Terminating(marked)
}

fn mark(tx: &Tx<'_>, object: &mut Value) {
    let generation = json::integer(object, &["metadata", "generation"]);
    if json::at(object, &["metadata", "deletionGracePeriodSeconds"]).is_null() && generation > 0 {
        json::set(object, &["metadata", "generation"], generation + 1);
    }
    json::default(object, &["metadata", "deletionTimestamp"], tx.timestamp());
    json::set(object, &["metadata", "deletionGracePeriodSeconds"], 0);
}

/// The garbage collector is asked by finalizers to orphan the dependents, or to delete them first.
fn set_propagation(object: &mut Value, policy: &str) {
    const ORPHAN: &str = "orphan";
    const FOREGROUND: &str = "foregroundDeletion";
    let terminating = !json::text(object, &["metadata", "deletionTimestamp"]).is_empty();
    if policy.is_empty() || terminating {
        return;
    }
    let mut finalizers = json::items(object, &["metadata", "finalizers"]).to_vec();
    finalizers.retain(|one| one != ORPHAN && one != FOREGROUND);
    match policy {
        "Orphan" => finalizers.push(ORPHAN.into()),
        "Foreground" => finalizers.push(FOREGROUND.into()),
        _ => {}
    }
    if finalizers.is_empty() {
        json::remove(object, &["metadata", "finalizers"]);
    } else {
        json::set(object, &["metadata", "finalizers"], finalizers);
    }
}

/// A namespace waits for the namespace controller, which empties and then finalizes it.
fn end_namespace(
    tx: &mut Tx<'_>,
    kind: &ResourceType,
    name: &str,
    old: &Arc<Value>,
    mut new: Value,
) -> Outcome {
    if !validate::has_finalizers(kind, &new) {
        tx.remove(&kind.key(), "", name);
        return Outcome::Gone(old.clone());
    }
    json::default(&mut new, &["metadata", "deletionTimestamp"], tx.timestamp());
    json::set(&mut new, &["status", "phase"], "Terminating");
    Outcome::Terminating(put_if_changed(tx, kind, "", name, old, new))
}

/// A pod is given time: its kubelet ends it with a second delete of grace period 0.
fn end_pod(
    tx: &mut Tx<'_>,
    kind: &ResourceType,
    namespace: &str,
    name: &str,
    old: &Arc<Value>,
    mut new: Value,
    asked: Option<i64>,
) -> Outcome {
    let deadline = match json::text(old, &["metadata", "deletionTimestamp"]).parse::<Timestamp>() {
        Err(_) => {
            let grace = first_grace(old, asked);
            Some((grace, later(tx.now, grace)))
        }
        Ok(before) => {
            let had = json::integer(old, &["metadata", "deletionGracePeriodSeconds"]);
            asked.filter(|grace| *grace < had).map(|grace| (grace, later(before, grace - had)))
        }
    };
    let Some((grace, at)) = deadline else { return Outcome::Terminating(old.clone()) };
    json::set(&mut new, &["metadata", "deletionTimestamp"], format_time(at));
    json::set(&mut new, &["metadata", "deletionGracePeriodSeconds"], grace);
    let ends = grace == 0 && !validate::has_finalizers(kind, &new);
    let stored = put_if_changed(tx, kind, namespace, name, old, new);
    if !ends {
        return Outcome::Terminating(stored);
    }
    tx.remove(&kind.key(), namespace, name);
    Outcome::Gone(stored)
}

/// A pod that no kubelet runs needs no time.
fn first_grace(pod: &Value, asked: Option<i64>) -> i64 {
    let unbound = json::text(pod, &["spec", "nodeName"]).is_empty();
    let ended = matches!(json::text(pod, &["status", "phase"]), "Failed" | "Succeeded");
    if unbound || ended {
        return 0;
    }
    asked.unwrap_or_else(|| json::integer(pod, &["spec", "terminationGracePeriodSeconds"])).max(0)
}

fn later(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(time)
}

fn put_if_changed(
    tx: &mut Tx<'_>,
    kind: &ResourceType,
    namespace: &str,
    name: &str,
    old: &Arc<Value>,
    new: Value,
) -> Arc<Value> {
    if **old == new { old.clone() } else { tx.put(&kind.key(), namespace, name, new) }
}
