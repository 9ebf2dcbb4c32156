//! `/gum/v1/blueprints`: what can be upgraded to.

use axum::extract::Path;
use serde_json::{Value, json};

use super::auth::{self, May};
use super::envelope::{ApiError, Reply};
use super::form::Form;
use super::query::NoQuery;
use crate::blueprint::catalog::{Entry, LoadError};
use crate::explain::view::without_nulls;
use crate::frame;

/// `GET /gum/v1/blueprints`
pub(super) async fn list(context: May<auth::List>, form: Form, _: NoQuery) -> Result<Reply, ApiError> {
    let set = context.catalog.rescan().await;
    let items: Vec<Value> = set.entries.iter().map(view).collect();
    let content = without_nulls(json!({ "problem": set.problem, "items": items }));
    form.reply(content, context.clock.now(), |all: Value, look| frame::service::blueprints(&all, look))
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
    let mut content = set.get(&file).map(view).unwrap_or_else(|| json!({ "file": file }));
    let more = match loaded {
        Ok(blueprint) => json!({
            "sha256": blueprint.digest(),
            "gr": blueprint.name(),
            "valid": true,
            "findings": blueprint.warnings(),
            "manifest": blueprint.manifest(),
        }),
        Err(LoadError::Invalid { findings, .. }) => json!({ "valid": false, "findings": findings }),
        Err(error) => return Err(error.into()),
    };
    if let (Some(content), Value::Object(more)) = (content.as_object_mut(), more) {
        content.extend(more);
    }
    Ok(Reply::with(content))
}

fn view(entry: &Entry) -> Value {
    without_nulls(json!({
        "file": entry.file,
        "sha256": entry.digest,
        "size": entry.size,
        "gr": entry.blueprint.as_ref().map(|b| b.name()),
        "valid": entry.valid,
        "findings": entry.findings,
        "loadedAt": entry.loaded_at,
        "stale": entry.stale,
    }))
}
