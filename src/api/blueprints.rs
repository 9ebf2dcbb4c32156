//! `/gum/v1/blueprints`: what can be upgraded to.

use axum::extract::Path;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::auth::{self, May};
use super::envelope::{ApiError, Reply};
use super::form::Form;
use super::query::NoQuery;
use crate::blueprint::Finding;
use crate::blueprint::catalog::{Entry, LoadError};
use crate::explain::schema::{kubernetes_object, never_null};
use crate::frame;

/// The blueprints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(transform = never_null)]
pub(super) struct BlueprintList<'a> {
    /// Why the directory could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    /// Every file, those that cannot be used among them.
    items: Vec<BlueprintSummary<'a>>,
}

/// A blueprint in the list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
struct BlueprintSummary<'a> {
    /// The file's name.
    file: &'a str,
    /// SHA-256 of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    /// In bytes.
    size: usize,
    /// The gr that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    gr: Option<&'a str>,
    /// Whether it can be upgraded to.
    valid: bool,
    /// What is wrong with it, or worth a look.
    findings: &'a [Finding],
    /// When this content was first seen.
    loaded_at: Timestamp,
    /// Why the content shown is not what is on disk now.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<&'a str>,
}

impl<'a> BlueprintSummary<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self {
            file: &entry.file,
            sha256: entry.digest.as_deref(),
            size: entry.size,
            gr: entry.blueprint.as_ref().map(|b| b.name()),
            valid: entry.valid,
            findings: &entry.findings,
            loaded_at: entry.loaded_at,
            stale: entry.stale.as_deref(),
        }
    }
}

/// A blueprint, with the manifest where it can be used.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = never_null)]
pub(super) struct Blueprint<'a> {
    /// The file's name.
    file: &'a str,
    /// SHA-256 of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    /// The gr that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    gr: Option<&'a str>,
    /// Whether it can be upgraded to.
    valid: bool,
    /// What is wrong with it, or worth a look.
    findings: &'a [Finding],
    /// When this content was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded_at: Option<Timestamp>,
    /// Why the content shown is not what is on disk now.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<&'a str>,
    /// The manifest; absent where it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "kubernetes_object")]
    manifest: Option<&'a Value>,
}

/// `GET /gum/v1/blueprints`
pub(super) async fn list(context: May<auth::List>, form: Form, _: NoQuery) -> Result<Reply, ApiError> {
    let set = context.catalog.rescan().await;
    let content = BlueprintList {
        problem: set.problem.as_deref(),
        items: set.entries.iter().map(BlueprintSummary::of).collect(),
    };
    form.reply(&content, context.clock.now(), |all: Value, look| frame::service::blueprints(&all, look))
}

/// `GET /gum/v1/blueprints/{file}`: the same with the manifest. One that cannot be used is there all the same,
/// with what is wrong with it.
pub(super) async fn get(
    context: May<auth::List>,
    Path(file): Path<String>,
    _: NoQuery,
) -> Result<Reply, ApiError> {
    let loaded = context.catalog.load(&file).await;
    let set = context.catalog.rescan().await;
    let entry = set.get(&file);
    let of_entry = Blueprint {
        file: &file,
        sha256: entry.and_then(|e| e.digest.as_deref()),
        size: entry.map(|e| e.size),
        gr: entry.and_then(|e| e.blueprint.as_ref()).map(|b| b.name()),
        valid: false,
        findings: &[],
        loaded_at: entry.map(|e| e.loaded_at),
        stale: entry.and_then(|e| e.stale.as_deref()),
        manifest: None,
    };
    match &loaded {
        Ok(blueprint) => Ok(Reply::with(Blueprint {
            sha256: Some(blueprint.digest()),
            gr: Some(blueprint.name()),
            valid: true,
            findings: blueprint.warnings(),
            manifest: Some(blueprint.manifest()),
            ..of_entry
        })),
        Err(LoadError::Invalid { findings, .. }) => Ok(Reply::with(Blueprint { findings, ..of_entry })),
        Err(error) => Err(error.clone().into()),
    }
}
