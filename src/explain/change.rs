//! What an upgrade changes, in a few words for a line of a list.

use crate::plan::impact::{Change, ChangeKind, changes};
use crate::record::GcuUpgrade;

/// Components that are named.
const NAMED: usize = 3;

/// `driver 1.2.3 → 1.3.0, toolkit added`; `None` where nothing changes.
pub fn change(record: &GcuUpgrade) -> Option<String> {
    let Some(previous) = &record.spec.previous else { return Some("created".to_owned()) };
    in_words(&changes(&previous.manifest, &record.spec.target.manifest))
}

fn in_words(changes: &[Change]) -> Option<String> {
    let named: Vec<String> = changes.iter().take(NAMED).map(one).collect();
    let more = changes.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" (+{more})") } else { String::new() };
    (!named.is_empty()).then(|| format!("{}{more}", named.join(", ")))
}

fn one(change: &Change) -> String {
    let name = &change.component;
    match change.kind {
        ChangeKind::Added => format!("{name} added"),
        ChangeKind::Removed => format!("{name} removed"),
        ChangeKind::Changed => {
            // An absent version is the documented default.
            let version = change.fields.iter().find_map(|field| field.strip_prefix("version: "));
            match version.and_then(|v| v.split_once(" -> ")) {
                Some((from, to)) => format!("{name} {} → {}", or_default(from), or_default(to)),
                None => {
                    let fields: Vec<&str> =
                        change.fields.iter().filter_map(|f| f.split(':').next()).collect();
                    format!("{name} ({})", fields.join(", "))
                }
            }
        }
    }
}

fn or_default(version: &str) -> &str {
    if version == "-" { crate::gr::DEFAULT_VERSION } else { version }
}
