//! How an upgrade that is under way stands to its maintenance windows.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::plan::maintenance::{Verdict, next_of, windows};
use crate::record::{GcuUpgrade, Step, Strategy};

/// The maintenance windows of an upgrade, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "MaintenanceWindow")]
pub struct WindowView {
    /// Whether one is open, for any node, in which what is next fits.
    pub open: bool,
    /// When the next opens, where none is; absent when none opens any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub opens: Option<Timestamp>,
    /// When the one ends that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
}

/// How this upgrade stands to its windows; `None` where it minds none any more.
pub fn window(record: &GcuUpgrade, now: Timestamp) -> Option<WindowView> {
    let step = record.status.as_ref().map(|s| s.step).unwrap_or_default();
    let begins = match record.spec.strategy {
        Strategy::Recreate => step == Step::Recorded,
        Strategy::RollingUpdate => step <= Step::Rolling,
    };
    if record.phase().is_final() || !begins {
        return None;
    }
    let verdict = next_of(record, &windows(record, now)?);
    let open = matches!(verdict, Verdict::Open { .. });
    Some(WindowView { open, opens: verdict.opens(), until: verdict.until() })
}
