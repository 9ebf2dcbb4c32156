//! Blueprints: files that each hold the manifest of one GcuResource ("gr") to upgrade to.
//!
//! `bytes → parse (json | yaml) → located tree → check → Blueprint`. Nothing here does I/O but [`validate`]
//! and [`catalog`].

pub mod catalog;
pub mod check;
mod finding;
mod json;
mod lookalike;
mod parse;
mod scalar;
mod tree;
mod yaml;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use check::check_against;
pub use finding::{Finding, Severity, SourcePos};
pub use parse::MAX_FILE;
pub(crate) use parse::read as read_tree;
pub(crate) use tree::{Kind, Node};

/// A manifest of one gr that passed every check. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blueprint {
    file: String,
    digest: String,
    name: String,
    manifest: Value,
    warnings: Vec<Finding>,
    /// Where the fields stand that later checks speak of.
    places: BTreeMap<&'static str, SourcePos>,
}

impl Blueprint {
    /// Reads and checks the bytes of `file` (a name for messages). Content decides whether it is JSON or
    /// YAML, not the name.
    ///
    /// # Errors
    /// Everything that is wrong, with at least one [`Severity::Error`], warnings among it.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<Finding>> {
        let named = |findings: Vec<Finding>| -> Vec<Finding> {
            findings.into_iter().map(|finding| finding.in_file(file)).collect()
        };
        let root = parse::read(bytes).map_err(named)?;
        let findings = named(check::check(&root));
        if findings.iter().any(Finding::is_error) {
            return Err(findings);
        }
        let at = |path: &[&str]| path.iter().try_fold(&root, |node, key| node.get(key));
        let places = [
            ("metadata.name", at(&["metadata", "name"])),
            ("apiVersion", at(&["apiVersion"])),
            ("spec", at(&["spec"])),
        ]
        .into_iter()
        .filter_map(|(field, node)| Some((field, node?.place)))
        .collect();
        let name = at(&["metadata", "name"]).and_then(Node::as_str).unwrap_or_default().to_owned();
        let manifest = check::clean(&root.into_value());
        Ok(Self { file: file.to_owned(), digest: digest(bytes), name, manifest, warnings: findings, places })
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The SHA-256 of the file's bytes in lower-case hex: two blueprints with one digest are one blueprint.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The name of the gr that it is for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The manifest, without `status` and everything else that is not for a person to set.
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// What a person should look at before using it.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    /// A finding about one of the fields whose place is remembered.
    pub(crate) fn finding_at(&self, field: &'static str, make: impl FnOnce(SourcePos) -> Finding) -> Finding {
        make(self.places.get(field).copied().unwrap_or(SourcePos::START)).about(field).in_file(&self.file)
    }
}

/// The SHA-256 of `bytes` in lower-case hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads and checks one file by its path, without a cluster: what `validate FILE` does. Answers everything
/// worth saying, and the blueprint if it can be used. A file that cannot be read is a finding too.
pub fn validate(path: &Path) -> (Vec<Finding>, Option<Arc<Blueprint>>) {
    let file = path.display().to_string();
    let bytes = match catalog::read_regular(path) {
        Ok(bytes) => bytes,
        Err(error) => return (vec![error.finding().in_file(&file)], None),
    };
    match Blueprint::parse(&file, &bytes) {
        Ok(blueprint) => (blueprint.warnings.clone(), Some(Arc::new(blueprint))),
        Err(findings) => (findings, None),
    }
}
