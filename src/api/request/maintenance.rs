//! The body's `maintenance`: what callers write, made into the record's own type with every default filled in. The
//! service's own default is written in the same way.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::rolling::Selector;
use super::{Seconds, bad};
use crate::api::envelope::ApiError;
use crate::plan::maintenance::calendar::Calendar;
use crate::record::maintenance::{
    AtEnd, DURATION, Day, EXCLUSIONS, Exclusion, Fit, LocalTime, Maintenance, NAME, TimeOfDay, WINDOWS,
    Window,
};

/// When nodes may be taken. By default what the service was started with, if anything.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MaintenanceBody {
    /// The IANA name of the time zone in which all times here are told, such as Asia/Shanghai.
    #[schemars(length(min = 1, max = 64))]
    time_zone: String,
    /// When nodes may be taken: at least one, and no more than 16.
    #[schemars(length(min = 1, max = WINDOWS))]
    windows: Vec<WindowBody>,
    /// When none may be taken though a window is open: no more than 50.
    #[serde(default)]
    #[schemars(length(max = EXCLUSIONS))]
    exclusions: Vec<ExclusionBody>,
    /// What happens to nodes in work when their window ends; by default Finish. One whose pods are being replaced is
    /// always finished.
    #[serde(default)]
    at_end: AtEnd,
    /// A node is taken only if it should be done before its window ends, by the time in which half (p50) or nine of ten
    /// (p90) of this gr's nodes were done before; by default p90. None: it is not asked.
    #[serde(default)]
    fit: Fit,
}

/// A window that comes again every week.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WindowBody {
    /// A name of your own.
    #[schemars(length(min = 1, max = NAME))]
    name: String,
    /// The days on which it begins: `["fri"]` at 22:00 for 8h ends on Saturday at 06:00.
    #[schemars(length(min = 1, max = 7))]
    days: Vec<Day>,
    /// The time of day at which it begins, such as `"22:00"`. Where clocks are put forward over it: the first instant
    /// after; where they are put back over it: the first of the two.
    start: TimeOfDay,
    /// How long it lasts, such as `8h`: time that passes, whatever clocks do. At least 1m, at most a week.
    duration: Seconds,
    /// It is for nodes with these labels; without them for all.
    node_selector: Option<Selector>,
}

/// A time in which no window is open.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExclusionBody {
    /// A name of your own.
    #[schemars(length(min = 1, max = NAME))]
    name: String,
    /// When it begins, such as `2027-02-05T00:00`, in the time zone.
    from: LocalTime,
    /// When it is over.
    to: LocalTime,
}

impl MaintenanceBody {
    /// With every default filled in.
    ///
    /// # Errors
    /// What makes no sense, by field.
    pub(super) fn resolve(&self) -> Result<Maintenance, ApiError> {
        self.checked().map_err(|(field, what)| bad(&format!("maintenance.{field}"), &what))
    }

    fn checked(&self) -> Result<Maintenance, (String, String)> {
        let at = |field: &str, what: &str| Err((field.to_owned(), what.to_owned()));
        if self.windows.is_empty() {
            return at("windows", "without a window no node is ever taken: name at least one");
        }
        if self.windows.len() > WINDOWS {
            return at("windows", &format!("are {}, more than {WINDOWS}", self.windows.len()));
        }
        if self.exclusions.len() > EXCLUSIONS {
            return at("exclusions", &format!("are {}, more than {EXCLUSIONS}", self.exclusions.len()));
        }
        named("windows", self.windows.iter().map(|w| w.name.as_str()))?;
        named("exclusions", self.exclusions.iter().map(|e| e.name.as_str()))?;
        for (place, window) in self.windows.iter().enumerate() {
            if window.days.is_empty() {
                return at(
                    &format!("windows[{place}].days"),
                    "without a day it never opens: name those on which it begins, such as [\"fri\"]",
                );
            }
            if window.duration.0 < DURATION.0 {
                return at(&format!("windows[{place}].duration"), "must be at least 1m");
            }
        }
        let maintenance = Maintenance {
            time_zone: self.time_zone.clone(),
            windows: self.windows.iter().map(WindowBody::window).collect(),
            exclusions: self.exclusions.iter().map(ExclusionBody::exclusion).collect(),
            at_end: self.at_end,
            fit: self.fit,
        };
        match Calendar::of(&maintenance) {
            Ok(_) => Ok(maintenance),
            Err(wrong) => {
                let (field, what) = wrong.split_once(": ").unwrap_or(("windows", &wrong));
                at(field, what)
            }
        }
    }
}

impl WindowBody {
    fn window(&self) -> Window {
        let days: BTreeSet<Day> = self.days.iter().copied().collect();
        Window {
            name: self.name.clone(),
            days: days.into_iter().collect(),
            start: self.start,
            duration_seconds: self.duration.0,
            node_selector: self.node_selector.as_ref().map(|s| s.0.clone()).unwrap_or_default(),
        }
    }
}

impl ExclusionBody {
    fn exclusion(&self) -> Exclusion {
        Exclusion { name: self.name.clone(), from: self.from, to: self.to }
    }
}

/// Each has a name of its own.
fn named<'n>(field: &str, names: impl Iterator<Item = &'n str>) -> Result<(), (String, String)> {
    let mut seen = BTreeSet::new();
    for (place, name) in names.enumerate() {
        let field = format!("{field}[{place}].name");
        if name.is_empty() || name.len() > NAME || name.chars().any(char::is_control) {
            return Err((field, format!("must be 1 to {NAME} bytes, without control characters")));
        }
        if !seen.insert(name) {
            return Err((field, format!("{name:?} is the name of another one")));
        }
    }
    Ok(())
}

/// Parses what the service is started with.
///
/// # Errors
/// What is wrong, by field.
pub(in crate::api) fn parse(text: &str) -> Result<Maintenance, String> {
    let body: Result<MaintenanceBody, _> =
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text));
    let body = body.map_err(|e| match e.path().to_string().as_str() {
        "." => e.inner().to_string(),
        path => format!("maintenance.{path}: {}", e.inner()),
    })?;
    body.resolve().map_err(|e| e.message)
}
