//! The version that a call asks for: a blueprint of the service's, one that came with the call, or the gr as it stands;
//! each with the versions of components that `set` changes in it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Context;
use super::envelope::ApiError;
use super::request::{JobBody, bad};
use super::words::unknown;
use crate::blueprint::catalog::LoadError;
use crate::blueprint::{Blueprint, Finding};
use crate::gr;

/// What a manifest that came with a call is called in findings.
const INLINE: &str = "manifest";

/// What is to be brought about, before the gr has been looked at.
pub(super) struct Asked {
    base: Base,
    set: BTreeMap<String, String>,
}

enum Base {
    /// A blueprint of the service's.
    File(Arc<Blueprint>),
    /// One that came with the call.
    Inline(Arc<Blueprint>),
    /// The gr as it stands.
    Live,
}

impl JobBody {
    /// Takes what the query says as said in the body.
    pub(super) fn merge_set(&mut self, set: BTreeMap<String, String>) -> Result<(), ApiError> {
        for (field, version) in set {
            match self.set.entry(field) {
                Entry::Vacant(entry) => entry.insert(version),
                Entry::Occupied(entry) => {
                    return Err(bad(
                        "set",
                        &format!("{} is given in the query and in the body", entry.key()),
                    ));
                }
            };
        }
        Ok(())
    }
}

impl Context {
    /// The version that a call names.
    pub(super) async fn named_version(&self, gr: &str, body: &JobBody) -> Result<Asked, ApiError> {
        let base = match (&body.manifest, body.file.as_deref()) {
            (Some(manifest), file) => {
                let file = file.unwrap_or(INLINE);
                Base::Inline(Arc::new(parsed(file, &format!("the {INLINE}"), manifest)?))
            }
            (None, Some(file)) => Base::File(self.catalog.load(file).await?),
            (None, None) if !body.set.is_empty() => Base::Live,
            (None, None) => {
                let what = "the name of the blueprint to upgrade to is missing, for example {\"file\": \"gr.json\"}; \
                            or set a version, for example {\"set\": {\"driver.version\": \"1.3.0\"}}";
                return Err(bad("file", what));
            }
        };
        let asked = Asked { base, set: body.set.clone() };
        if let Some(blueprint) = asked.blueprint() {
            // What can be refused without looking at the cluster is.
            asked.in_place(gr, blueprint.manifest())?;
        }
        Ok(asked)
    }
}

impl Asked {
    fn blueprint(&self) -> Option<&Arc<Blueprint>> {
        match &self.base {
            Base::File(blueprint) | Base::Inline(blueprint) => Some(blueprint),
            Base::Live => None,
        }
    }

    /// Whether it is a file of the service's as it stands: then its digest tells which.
    pub(super) fn is_a_file(&self) -> bool {
        matches!(self.base, Base::File(_)) && self.set.is_empty()
    }

    /// What a repetition of the call is known by.
    pub(super) fn in_words(&self) -> Value {
        let manifest = self.blueprint().map(|b| b.manifest().clone());
        if self.set.is_empty() { json!(manifest) } else { json!({ "manifest": manifest, "set": self.set }) }
    }

    /// The blueprint, where the gr stands as given.
    pub(super) fn of(&self, gr: &str, live: &Value) -> Result<Arc<Blueprint>, ApiError> {
        match self.blueprint() {
            Some(blueprint) if self.set.is_empty() => Ok(blueprint.clone()),
            base => {
                let base = base.map_or(live, |blueprint| blueprint.manifest());
                parsed("set", "what set makes of it", &self.in_place(gr, base)?).map(Arc::new)
            }
        }
    }

    /// The manifest with the versions that are set.
    fn in_place(&self, gr: &str, manifest: &Value) -> Result<Value, ApiError> {
        let mut changed = manifest.clone();
        for (field, version) in &self.set {
            let Some((component, "version")) = field.split_once('.') else {
                let what = format!(
                    "{field:?}: a version alone can be set, such as driver.version=1.3.0; for more give a blueprint"
                );
                return Err(bad("set", &what));
            };
            let Some(found) = gr::component_for_kind(manifest, component) else {
                let known: Vec<&str> = gr::components(manifest).iter().map(|c| c.key).collect();
                return Err(bad("set", &format!("{component}: {}", unknown("component", component, &known))));
            };
            if !found.is_deployed() {
                return Err(bad(
                    "set",
                    &format!("{component}: gr {gr} does not deploy it (notDeploy is true)"),
                ));
            }
            let fields = changed.pointer_mut("/spec").and_then(|spec| spec.get_mut(found.key));
            if let Some(fields) = fields.and_then(Value::as_object_mut) {
                fields.insert("version".to_owned(), json!(version));
            }
        }
        Ok(changed)
    }
}

/// Checks a manifest that is no file as if it were one.
fn parsed(file: &str, what: &str, manifest: &Value) -> Result<Blueprint, ApiError> {
    Blueprint::parse(file, manifest.to_string().as_bytes()).map_err(|findings| {
        let errors: Vec<String> =
            findings.iter().filter(|f| f.is_error()).map(Finding::without_place).collect();
        ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{what} cannot be used: {}", errors.join("; ")),
        )
    })
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        let status = match &error {
            LoadError::BadName { .. } => StatusCode::BAD_REQUEST,
            LoadError::NotFound { .. } => StatusCode::NOT_FOUND,
            LoadError::Unreadable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            LoadError::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}
