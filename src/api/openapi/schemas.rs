//! What request bodies and answers look like: from the types that parse and make them where there are such, else by
//! hand beside the handlers' own words.

mod records;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::Body;
use crate::api::held::Held;
use crate::api::request::{DeleteBody, JobBody, NoBody, SkipBody};
use crate::blueprint::Finding;
use crate::explain::fleet::FleetView;
use crate::explain::preview::Preview;
use crate::explain::progress::Progress;
use crate::explain::why::Why;
use crate::record::maintenance::Maintenance;
use crate::record::rolling::{Amount, RollingUpdate};
use crate::record::{Deadlines, OnFailure, Phase, Strategy, WaitReason};
pub(super) use records::{history, revision, upgrade, upgrades};

/// A request body.
pub(super) fn body(kind: Body, generator: &mut SchemaGenerator) -> Value {
    match kind {
        Body::Nothing => titled("EmptyBody", whole::<NoBody>(generator)),
        Body::Delete => titled("DeleteBody", whole::<DeleteBody>(generator)),
        Body::Skip => titled("SkipBody", whole::<SkipBody>(generator)),
        Body::Upgrade => {
            let mut schema = job_without(generator, &["revision"]);
            let file = json!({ "type": "string", "description": "The blueprint to upgrade to: a file in the directory of blueprints. One of `file`, `manifest` and `set` has to be there." });
            set(&mut schema, "/properties/file", file);
            set(&mut schema, "/properties/manifest", object(generator).to_value());
            titled("UpgradeBody", schema)
        }
        Body::Rollback => titled("RollbackBody", job_without(generator, &["file", "manifest", "set"])),
        Body::Retry => titled("RetryBody", job_without(generator, &["file", "manifest", "set", "revision"])),
    }
}

/// Each call that takes a job's body has no use for some of its fields, and says so to whoever sends them.
fn job_without(generator: &mut SchemaGenerator, fields: &[&str]) -> Value {
    let mut schema = whole::<JobBody>(generator);
    if let Some(properties) = schema.pointer_mut("/properties").and_then(Value::as_object_mut) {
        properties.retain(|name, _| !fields.contains(&name.as_str()));
    }
    schema
}

/// A type's schema itself, where [`SchemaGenerator::subschema_for`] would only refer to it.
fn whole<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    T::json_schema(generator).to_value()
}

/// With the name that it has among the document's schemas.
fn titled(name: &str, mut schema: Value) -> Value {
    set(&mut schema, "/title", json!(name));
    schema
}

fn set(schema: &mut Value, place: &str, to: Value) {
    let (parent, key) = place.rsplit_once('/').unwrap_or_default();
    if let Some(object) = schema.pointer_mut(parent).and_then(Value::as_object_mut) {
        object.insert(key.to_owned(), to);
    }
}

/// A type of which nulls are left out.
fn without_nulls<T: JsonSchema>(
    generator: &mut SchemaGenerator,
    name: &str,
    always: &[&str],
) -> Map<String, Value> {
    let mut schema = titled(name, whole::<T>(generator));
    set(&mut schema, "/required", json!(always));
    schema.as_object().cloned().unwrap_or_default()
}

fn with(mut schema: Map<String, Value>, more: Value) -> Schema {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    if let (Some(properties), Value::Object(more)) = (properties, more) {
        properties.extend(more);
    }
    schema.into()
}

fn record(name: &str, required: &[&str], properties: Value) -> Map<String, Value> {
    let schema = json!({ "title": name, "type": "object", "required": required, "properties": properties });
    schema.as_object().cloned().unwrap_or_default()
}

fn time(what: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": what })
}

fn text(what: &str) -> Value {
    json!({ "type": "string", "description": what })
}

/// Any object of Kubernetes.
pub(super) fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "title": "KubernetesObject",
        "description": "An object as the API server serves it.",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": metadata(),
        },
        "additionalProperties": true,
    })
}

fn metadata() -> Value {
    json!({ "title": "ObjectMeta", "type": "object", "description": "Kubernetes' own metadata.", "additionalProperties": true })
}

pub(super) fn gr_list(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "title": "GcuResourceList",
        "description": "A list as the API server serves it.",
        "required": ["apiVersion", "kind", "metadata", "items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string", "const": "GcuResourceList" },
            "metadata": metadata(),
            "items": { "type": "array", "items": object(generator) },
        },
    })
}

/// What is answered for a job that starts.
pub(super) fn job(generator: &mut SchemaGenerator) -> Schema {
    let rolling = generator.subschema_for::<RollingUpdate>();
    json_schema!({
        "type": "object",
        "title": "Job",
        "description": "The job that starts, with every default filled in. Where nothing would change, `changed` is false and there is no job to name.",
        "required": ["strategy", "components", "warnings"],
        "properties": {
            "name": text("The record: `<gr>-<n>`."),
            "upgrade": text("Where the record is to be seen."),
            "strategy": generator.subschema_for::<Strategy>(),
            "components": { "type": "array", "items": { "type": "string" }, "description": "The components asked for; none: all." },
            "rollingUpdate": { "anyOf": [rolling, { "type": "null" }] },
            "failureThreshold": { "anyOf": [generator.subschema_for::<Amount>(), { "type": "null" }], "description": "A Recreate's." },
            "deadlines": generator.subschema_for::<Deadlines>(),
            "onFailure": generator.subschema_for::<OnFailure>(),
            "maintenance": generator.subschema_for::<Maintenance>(),
            "overrideWindow": text("Why nodes are taken outside of maintenance windows too."),
            "warnings": { "type": "array", "items": { "type": "string" }, "description": "What to think of: of the blueprint, and of versions that do not fit." },
            "accepted": { "type": "array", "items": { "type": "string" }, "description": "The risks that were accepted." },
            "phase": generator.subschema_for::<Phase>(),
            "message": text("After a wait: the last thing worth knowing."),
            "repeated": { "type": "boolean", "description": "True when this request has begun the job before, and begins none now." },
            "changed": { "type": "boolean", "description": "False when the gr is at this version already: nothing is begun, or would be." },
            "dryRun": { "type": "boolean", "enum": [true] },
            "plan": generator.subschema_for::<Preview>(),
        },
    })
}

/// The same, of a dry run.
pub(super) fn planned(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = job(generator).to_value();
    if let Some(required) = schema.pointer_mut("/required").and_then(Value::as_array_mut) {
        required.extend(
            [
                "name",
                "upgrade",
                "rollingUpdate",
                "failureThreshold",
                "deadlines",
                "onFailure",
                "changed",
                "dryRun",
                "plan",
            ]
            .map(Value::from),
        );
    }
    set(&mut schema, "/title", json!("PlannedJob"));
    schema.as_object().cloned().unwrap_or_default().into()
}

/// What is answered for a dry run of a delete.
pub(super) fn dry_run(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["dryRun", "message"],
        "properties": { "dryRun": { "type": "boolean" }, "message": text("What would be done.") },
    })
}

/// What is answered for a command.
pub(super) fn steered(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "title": "SteeredJob",
        "description": "The record that is steered.",
        "required": ["name", "upgrade", "effect"],
        "properties": {
            "name": text("The record: `<gr>-<n>`."),
            "upgrade": text("Where the record is to be seen."),
            "effect": text("What the command comes to."),
            "phase": generator.subschema_for::<Phase>(),
            "message": text("After a wait: the last thing worth knowing."),
            "dryRun": { "type": "boolean", "enum": [true] },
        },
    })
}

pub(super) fn job_or_steered(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "A job that starts, or the one that is steered.",
        "anyOf": [job(generator), steered(generator)],
    })
}

fn waiting_on(generator: &mut SchemaGenerator) -> Value {
    json!({
        "title": "WaitingOn",
        "type": "object",
        "description": "What is waited for.",
        "required": ["reason", "message", "since"],
        "properties": {
            "reason": generator.subschema_for::<WaitReason>(),
            "message": text("What is waited for, in a sentence."),
            "since": time("When the wait began."),
            "until": time("When the upgrade is held, if it has not ended by then."),
        },
    })
}

pub(super) fn status(generator: &mut SchemaGenerator) -> Schema {
    let schema = without_nulls::<Progress>(generator, "Status", &["gr", "message"]);
    let waiting = waiting_on(generator);
    let held = json!({
        "type": "array",
        "items": generator.subschema_for::<Held>(),
        "description": "The DaemonSets of the gr that are held at OnDelete now, also when no upgrade is under way; absent when they cannot be read.",
    });
    with(
        schema,
        json!({ "startedAt": time("When it was taken up."), "finishedAt": time("When it ended."), "waitingOn": waiting, "deleted": { "type": "boolean", "description": "True when there is no gr of this name any more." }, "held": held }),
    )
}

pub(super) fn why(generator: &mut SchemaGenerator) -> Schema {
    let schema = without_nulls::<Why>(generator, "Why", &["message", "nodes", "skipped", "attention"]);
    let waiting = waiting_on(generator);
    with(schema, json!({ "name": text("The record."), "waitingOn": waiting }))
}

pub(super) fn nodes(_: &mut SchemaGenerator) -> Schema {
    let pod = json!({
        "title": "ComponentPod",
        "type": "object",
        "required": ["pod", "version", "phase", "createdAt"],
        "properties": {
            "pod": text("Its name."),
            "version": { "title": "PodTemplate", "type": "string", "enum": ["new", "old", "—"], "description": "Of which template; `—` where that is not known." },
            "phase": { "title": "PodPhase", "type": "string", "enum": ["starting", "ready", "terminating", "deleted"] },
            "createdAt": time("When it was created."),
            "deletedAt": time("When it was deleted; of one that is gone, when its successor was made."),
            "failure": text("Why it cannot start."),
        },
    });
    let component = json!({
        "title": "ComponentPods",
        "type": "object",
        "required": ["component", "pods"],
        "properties": { "component": text("Its key."), "pods": { "type": "array", "items": pod } },
    });
    let node = json!({
        "title": "NodePods",
        "type": "object",
        "required": ["node", "components"],
        "properties": { "node": text("Its name."), "components": { "type": "array", "items": component } },
    });
    json_schema!({
        "title": "NodeList",
        "type": "object",
        "required": ["name", "nodes"],
        "properties": {
            "name": { "type": ["string", "null"], "description": "The record under way, or the last; null without one." },
            "nodes": { "type": "array", "items": node },
        },
    })
}

pub(super) fn fleet(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<FleetView>()
}

fn blueprint_fields(generator: &mut SchemaGenerator) -> Value {
    json!({
        "file": text("The file's name."),
        "sha256": text("SHA-256 of its content."),
        "size": { "type": "integer", "minimum": 0, "description": "In bytes." },
        "gr": text("The gr that it is for."),
        "valid": { "type": "boolean", "description": "Whether it can be upgraded to." },
        "findings": { "type": "array", "items": generator.subschema_for::<Finding>() },
        "loadedAt": time("When this content was first seen."),
        "stale": text("Why the content shown is not what is on disk now."),
    })
}

pub(super) fn blueprints(generator: &mut SchemaGenerator) -> Schema {
    let item = record(
        "BlueprintSummary",
        &["file", "size", "valid", "findings", "loadedAt"],
        blueprint_fields(generator),
    );
    json_schema!({
        "title": "BlueprintList",
        "type": "object",
        "required": ["items"],
        "properties": {
            "problem": text("Why the directory could not be read."),
            "items": { "type": "array", "items": item },
        },
    })
}

pub(super) fn blueprint(generator: &mut SchemaGenerator) -> Schema {
    let manifest = object(generator);
    with(
        record("Blueprint", &["file", "valid", "findings"], blueprint_fields(generator)),
        json!({ "manifest": manifest }),
    )
}

pub(super) fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "title": "Version",
        "type": "object",
        "required": ["version", "acts", "grApis", "recordApi", "warnings"],
        "properties": {
            "version": text("Of this service."),
            "acts": {
                "title": "ActingReplica",
                "type": "object",
                "required": ["thisReplica"],
                "properties": {
                    "thisReplica": { "type": "boolean", "description": "Whether the one that answers acts on upgrades." },
                    "replica": text("The one that does."),
                    "problem": text("Why it is not known which one does."),
                },
            },
            "grApis": { "type": "array", "items": { "type": "string" }, "description": "The APIs that serve grs." },
            "recordApi": text("The API of the record."),
            "kubernetes": {
                "title": "KubernetesVersion",
                "type": "object",
                "required": ["version", "tested"],
                "properties": {
                    "version": text("The API server's."),
                    "tested": text("The release that the service is tested against."),
                },
            },
            "operator": {
                "title": "OperatorVersion",
                "type": "object",
                "required": ["namespace", "image"],
                "properties": {
                    "namespace": text("Where the Deployment `gcu-operator` is."),
                    "image": text("Its image."),
                    "version": text("The image's tag, where that is a version."),
                },
            },
            "warnings": { "type": "array", "items": { "type": "string" }, "description": "What does not fit." },
        },
    })
}
