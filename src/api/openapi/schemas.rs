//! What request bodies and answers look like: each by the type that parses or makes it. By hand are only what is the
//! cluster's own, and which of several types an answer may be.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::Body;
use crate::api::commands::SteeredJob;
use crate::api::records::UnreadableUpgrade;
use crate::api::request::{DeleteBody, JobBody, NoBody, SkipBody};
use crate::api::upgrade_request::{Job, PlannedJob, UnchangedJob};
use crate::api::upgrades::{Replaced, RevisionOf};
use crate::api::watching::{NeverUpgraded, Status};
pub(super) use crate::explain::schema::kubernetes_object as object;
use crate::explain::schema::object_meta;
use crate::explain::view::Upgrade;

/// A request body.
pub(super) fn body(kind: Body, generator: &mut SchemaGenerator) -> Value {
    match kind {
        Body::Nothing => titled("EmptyBody", whole::<NoBody>(generator)),
        Body::Delete => titled("DeleteBody", whole::<DeleteBody>(generator)),
        Body::Skip => titled("SkipBody", whole::<SkipBody>(generator)),
        Body::Upgrade => {
            let mut schema = job_without(generator, &["revision"]);
            let file = "The blueprint to upgrade to: a file in the directory of blueprints. One of `file`, \
                        `manifest` and `set` has to be there.";
            set(&mut schema, "/properties/file", json!({ "type": "string", "description": file }));
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

/// A type's schema.
pub(super) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// One of several.
fn any_of(about: &str, all: &[Schema]) -> Schema {
    json_schema!({ "description": about, "anyOf": all })
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
            "metadata": object_meta(),
            "items": { "type": "array", "items": object(generator) },
        },
    })
}

/// What is answered to an upgrade.
pub(super) fn job(generator: &mut SchemaGenerator) -> Schema {
    let all = [of::<PlannedJob>(generator), of::<Job>(generator), of::<UnchangedJob>(generator)];
    any_of("The job that starts or, of a dry run, would start; or that nothing would change.", &all)
}

/// What is answered where a job starts or is steered.
pub(super) fn job_or_steered(generator: &mut SchemaGenerator) -> Schema {
    let all = [
        of::<PlannedJob>(generator),
        of::<Job>(generator),
        of::<UnchangedJob>(generator),
        of::<SteeredJob>(generator),
    ];
    any_of("The job that starts or, of a dry run, would start; or the one that is steered.", &all)
}

pub(super) fn status(generator: &mut SchemaGenerator) -> Schema {
    any_of("How far it is.", &[of::<Status>(generator), of::<NeverUpgraded>(generator)])
}

pub(super) fn upgrade(generator: &mut SchemaGenerator) -> Schema {
    any_of("The record.", &[of::<Upgrade>(generator), of::<UnreadableUpgrade>(generator)])
}

pub(super) fn revision(generator: &mut SchemaGenerator) -> Schema {
    let all = [
        of::<RevisionOf<Upgrade>>(generator),
        of::<RevisionOf<UnreadableUpgrade>>(generator),
        of::<RevisionOf<Replaced>>(generator),
    ];
    any_of("The revision.", &all)
}
