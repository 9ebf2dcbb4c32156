//! One look at the blueprint directory, and how it follows from the look before.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::read::{ReadError, Root};
use crate::blueprint::finding::{Finding, SourcePos};
use crate::blueprint::{Blueprint, digest};

/// The most files that are listed.
pub const MAX_FILES: usize = 10_000;
/// The most bytes of all files together that are held.
pub const MAX_TOTAL: usize = 64 << 20;
/// How often a scan begins anew because `..data` was swapped under it.
pub(super) const ATTEMPTS: usize = 5;

/// Everything in the blueprint directory, as of one moment. Immutable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Set {
    /// The files by name.
    pub entries: Vec<Entry>,
    /// Why this is not, or not all of, what is on disk; absent when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One file of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The file's name.
    pub file: String,
    /// The SHA-256 of the content shown, in lower-case hex; absent if the file could never be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The size of the content shown, in bytes (for a file that is too large: as many as were read).
    pub size: usize,
    /// Whether it can be upgraded to.
    pub valid: bool,
    /// What is wrong with it, or worth a look.
    pub findings: Vec<Finding>,
    /// When this content was first seen.
    pub loaded_at: Timestamp,
    /// Why the content shown is the last that could be read, and not what is on disk now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
    /// The blueprint, if valid.
    #[serde(skip)]
    pub blueprint: Option<Arc<Blueprint>>,
}

impl Set {
    /// The entry of `file`.
    pub fn get(&self, file: &str) -> Option<&Entry> {
        let index = self.entries.binary_search_by(|entry| entry.file.as_str().cmp(file)).ok()?;
        self.entries.get(index)
    }

    /// Looks at the directory. `self` is the look before: what has not changed is taken from it, and all of
    /// it where the directory cannot be had.
    pub(super) fn rescan(&self, dir: &Path, now: Timestamp) -> Self {
        for _ in 0..ATTEMPTS {
            let root = match Root::resolve(dir) {
                Ok(root) => root,
                Err(error) => return self.kept(format!("the directory cannot be opened: {error}")),
            };
            let next = self.next(&root, now);
            if root.is_current() {
                return next;
            }
        }
        self.kept("the directory keeps changing while it is read".to_owned())
    }

    fn next(&self, root: &Root, now: Timestamp) -> Self {
        let mut names = match root.names() {
            Ok(names) => names,
            Err(error) => return self.kept(format!("the directory cannot be read: {error}")),
        };
        let count = names.len();
        names.truncate(MAX_FILES);
        let before: HashMap<&str, &Entry> =
            self.entries.iter().map(|entry| (entry.file.as_str(), entry)).collect();
        let mut total = 0_usize;
        let entries: Vec<Entry> = names
            .iter()
            .filter_map(|name| {
                let entry = look(root, name, before.get(name.as_str()).copied(), total, now)?;
                total = total.saturating_add(entry.size);
                Some(entry)
            })
            .collect();
        if entries.is_empty() {
            return self.kept("the directory holds no .json, .yaml or .yml file".to_owned());
        }
        let problem = (count > MAX_FILES).then(|| {
            format!("the directory holds {count} blueprints, only the first {MAX_FILES} by name are listed")
        });
        Self { entries, problem }
    }

    /// The same content, with the reason why it is not what is on disk.
    fn kept(&self, problem: String) -> Self {
        let stale = |entry: &Entry| Entry { stale: Some(problem.clone()), ..entry.clone() };
        Self { entries: self.entries.iter().map(stale).collect(), problem: Some(problem) }
    }
}

/// Looks at one file. `None`: it is not there any more.
fn look(root: &Root, name: &str, before: Option<&Entry>, total: usize, now: Timestamp) -> Option<Entry> {
    let bytes = match root.read(name) {
        Ok(bytes) => bytes,
        Err(ReadError::Gone) => return None,
        // Only what could not be read keeps its last content: a bad content is what somebody wrote.
        Err(ReadError::Unreadable(reason)) if before.is_some_and(|entry| entry.digest.is_some()) => {
            return before.map(|entry| Entry { stale: Some(reason), ..entry.clone() });
        }
        Err(error) => return Some(refused(name, error.finding(), before, now)),
    };
    if total.saturating_add(bytes.len()) > MAX_TOTAL {
        let message = format!("the blueprints before this one already hold {MAX_TOTAL} bytes: remove some");
        let finding = Finding::error("catalog-full", SourcePos::START, message);
        return Some(refused(name, finding, before, now));
    }
    let sum = digest(&bytes);
    Some(match before {
        Some(entry) if entry.digest.as_ref() == Some(&sum) => Entry { stale: None, ..entry.clone() },
        _ => entry_of(name, &bytes, sum, now),
    })
}

fn entry_of(name: &str, bytes: &[u8], sum: String, now: Timestamp) -> Entry {
    match Blueprint::parse(name, bytes) {
        Err(findings) => invalid(name, Some(sum), bytes.len(), findings, now),
        Ok(blueprint) => Entry {
            file: name.to_owned(),
            digest: Some(sum),
            size: bytes.len(),
            valid: true,
            findings: blueprint.warnings().to_vec(),
            loaded_at: now,
            stale: None,
            blueprint: Some(Arc::new(blueprint)),
        },
    }
}

/// An entry without content. The same refusal as before is no change.
fn refused(name: &str, finding: Finding, before: Option<&Entry>, now: Timestamp) -> Entry {
    let findings = vec![finding.in_file(name)];
    match before {
        Some(entry) if entry.digest.is_none() && entry.findings == findings => {
            Entry { stale: None, ..entry.clone() }
        }
        _ => invalid(name, None, 0, findings, now),
    }
}

fn invalid(name: &str, digest: Option<String>, size: usize, findings: Vec<Finding>, now: Timestamp) -> Entry {
    Entry {
        file: name.to_owned(),
        digest,
        size,
        valid: false,
        findings,
        loaded_at: now,
        stale: None,
        blueprint: None,
    }
}
