//! What records look like in answers.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{object, record, set, text, time, waiting_on, with};
use crate::explain::window::WindowView;
use crate::record::maintenance::Maintenance;
use crate::record::rolling::{NodeCounts, RollingStatus, RollingUpdate};
use crate::record::{
    Deadlines, Goal, Intent, OnFailure, Operation, Phase, Steered, Step, Strategy, TimelineEntry,
};

/// A record's own fields in a list.
fn summary(generator: &mut SchemaGenerator) -> Value {
    json!({
        "name": text("The record: `<gr>-<n>`."),
        "gr": text("The gr."),
        "operation": generator.subschema_for::<Operation>(),
        "strategy": generator.subschema_for::<Strategy>(),
        "blueprint": text("The blueprint that it came from."),
        "sha256": text("SHA-256 of that file."),
        "ofRevision": { "type": "integer", "minimum": 0, "description": "The revision that this one repeats." },
        "reason": text("Why, in the words of who asked."),
        "requestedBy": text("Who asked, where the service asks who it is."),
        "steeredBy": generator.subschema_for::<Steered>(),
        "requestedAt": time("When it was asked for."),
        "startedAt": time("When it was taken up."),
        "finishedAt": time("When it ended."),
        "phase": generator.subschema_for::<Phase>(),
        "step": generator.subschema_for::<Step>(),
        "message": text("The last thing worth knowing. Once it has ended: how and why."),
        "cause": text("Why it turned back to the previous version; absent when it did not."),
        "change": text("What it changes, in a few words; absent when nothing does."),
        "accepted": { "type": "array", "items": { "type": "string" }, "description": "The risks that whoever asked had accepted." },
        "goal": generator.subschema_for::<Goal>(),
        "nodes": generator.subschema_for::<NodeCounts>(),
        "waitingOn": waiting_on(generator),
        "window": generator.subschema_for::<WindowView>(),
        "efficiency": { "type": "number", "description": "The time that a window without any delay of the service would have taken so far, divided by the time taken." },
        "estimatedEnd": time("When all nodes should be done, at the rate so far."),
        "estimatedEndEarliest": time("The same, if each node took as long as the fastest of those done last."),
        "estimatedEndLatest": time("The same, if each took as long as the slowest."),
        "acknowledged": { "type": "boolean", "description": "Whether the controller has taken the last change of the request into account." },
    })
}

const SUMMARY: [&str; 7] = ["name", "gr", "operation", "strategy", "phase", "step", "message"];

/// What the view of one record has besides.
fn more(generator: &mut SchemaGenerator) -> Value {
    json!({
        "idempotencyKey": text("The `Idempotency-Key` of the request that began it."),
        "intent": generator.subschema_for::<Intent>(),
        "onFailure": generator.subschema_for::<OnFailure>(),
        "deadlines": generator.subschema_for::<Deadlines>(),
        "stepSince": time("Since when this step is being done."),
        "deadline": time("When this step is held if it has not ended by then."),
        "components": { "type": "array", "items": { "type": "string" } },
        "maintenance": generator.subschema_for::<Maintenance>(),
        "overrideWindow": text("Why nodes are taken outside of maintenance windows too."),
        "rollingUpdate": generator.subschema_for::<RollingUpdate>(),
        "rolling": generator.subschema_for::<RollingStatus>(),
        "timeline": { "type": "array", "items": generator.subschema_for::<TimelineEntry>() },
        "outcome": {
            "title": "Outcome",
            "type": "object",
            "description": "How it ended.",
            "required": ["phase", "reason", "message"],
            "properties": {
                "phase": generator.subschema_for::<Phase>(),
                "reason": text("Why it ended so, as one CamelCase word that programs may rely on."),
                "message": text("How it ended, in a sentence."),
                "at": time("When it ended."),
            },
        },
        "target": object(generator),
        "previous": object(generator),
    })
}

pub(in crate::api::openapi) fn upgrades(generator: &mut SchemaGenerator) -> Schema {
    let known = record("UpgradeSummary", &SUMMARY, summary(generator));
    json_schema!({ "type": "array", "items": { "anyOf": [known, unreadable()] } })
}

pub(in crate::api::openapi) fn upgrade(generator: &mut SchemaGenerator) -> Schema {
    let required = [&SUMMARY[..], &["intent", "onFailure", "deadlines", "goal", "timeline"]].concat();
    let known = with(record("Upgrade", &required, summary(generator)), more(generator));
    json_schema!({ "anyOf": [known, unreadable()] })
}

/// What is shown of a record that this version cannot read.
fn unreadable() -> Value {
    json!({
        "title": "UnreadableUpgrade",
        "type": "object",
        "description": "A record that this version cannot read.",
        "required": ["name", "unreadable", "message"],
        "properties": {
            "name": text("The record."),
            "gr": text("Its gr, where at least that can be read."),
            "unreadable": { "type": "boolean", "enum": [true] },
            "requestedAt": time("When it was asked for."),
            "message": text("What of it cannot be read."),
        },
    })
}

fn revision_fields() -> Value {
    json!({
        "revision": { "type": "integer", "minimum": 0, "description": "Its number, for a rollback." },
        "current": { "type": "boolean", "description": "Whether it runs, as far as the records tell." },
    })
}

pub(in crate::api::openapi) fn history(generator: &mut SchemaGenerator) -> Schema {
    let schema = with(
        record("RevisionSummary", &["revision", "current", "message"], summary(generator)),
        revision_fields(),
    );
    let replaced = json!({
        "outcome": { "title": "Replaced", "type": "string", "enum": ["Replaced"], "description": "Of what the oldest record replaced." },
        "unreadable": { "type": "boolean", "enum": [true], "description": "Of a record that this version cannot read: `message` says why." },
    });
    json_schema!({ "type": "array", "items": with(schema.as_object().cloned().unwrap_or_default(), replaced) })
}

pub(in crate::api::openapi) fn revision(generator: &mut SchemaGenerator) -> Schema {
    let mut more = more(generator);
    let outcome = more.pointer("/outcome").cloned().unwrap_or_default();
    set(
        &mut more,
        "/outcome",
        json!({ "anyOf": [outcome, { "title": "Replaced", "type": "string", "enum": ["Replaced"], "description": "Of what the oldest record replaced." }] }),
    );
    set(
        &mut more,
        "/unreadable",
        json!({ "type": "boolean", "enum": [true], "description": "This version cannot read the record." }),
    );
    let schema = with(record("Revision", &["revision", "current", "message"], summary(generator)), more);
    with(schema.as_object().cloned().unwrap_or_default(), revision_fields())
}
