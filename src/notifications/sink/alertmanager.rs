//! Alerts that are there for as long as what they tell of: one of a name for each gr, raised by one event and resolved
//! by another.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Message, Now};
use crate::notifications::config::Sink;
use crate::notifications::event::{Event, EventKind};
use crate::record::Phase;

const HELD: &str = "GcuUpgradeIsHeld";
const NODES_FAILED: &str = "GcuUpgradeNodesFailed";
const AWAITS_PROMOTION: &str = "GcuUpgradeAwaitsPromotion";
const PAUSED: &str = "GcuUpgradeIsPaused";
const ROLLING_BACK: &str = "GcuUpgradeIsRollingBack";
const FAILED: &str = "GcuUpgradeHasFailed";
const TEST: &str = "GcuUpgradeNotificationTest";
/// Those that end when the upgrade goes on.
const STANDSTILLS: [&str; 3] = [HELD, AWAITS_PROMOTION, PAUSED];
/// Those that end with the upgrade.
const UNDER_WAY: [&str; 5] = [HELD, NODES_FAILED, AWAITS_PROMOTION, PAUSED, ROLLING_BACK];
/// Nobody repeats an alert: it is there for so long unless it is resolved.
const LASTS: SignedDuration = SignedDuration::from_hours(7 * 24);
const TEST_LASTS: SignedDuration = SignedDuration::from_mins(5);

pub(super) fn message(sink: &Sink, pending: &[Arc<Event>], now: Now<'_>) -> Result<Message, http::Error> {
    // By gr and name: what comes later stands.
    let mut alerts: BTreeMap<(&str, &str), Value> = BTreeMap::new();
    for event in pending {
        let (raised, resolved) = meaning(event);
        for name in resolved {
            alerts.insert((&event.gr, name), alert(sink, event, now, name, now.at));
        }
        if let Some(name) = raised {
            let lasts = if event.kind == EventKind::Test { TEST_LASTS } else { LASTS };
            let until = now.at.saturating_add(lasts).unwrap_or(Timestamp::MAX);
            alerts.insert((&event.gr, name), alert(sink, event, now, name, until));
        }
    }
    let events = pending.to_vec();
    if alerts.is_empty() {
        return Ok(Message { events, request: None });
    }
    let url = sink.url.bare().trim_end_matches('/');
    let url = if url.ends_with("/api/v2/alerts") { url.to_owned() } else { format!("{url}/api/v2/alerts") };
    let request = sink.post_json(&url, &alerts.into_values().collect())?;
    Ok(Message { events, request: Some(request) })
}

/// The alert that an event raises, and those that it resolves.
fn meaning(event: &Event) -> (Option<&'static str>, Vec<&'static str>) {
    let others = |raised: &str| STANDSTILLS.into_iter().filter(|name| *name != raised).collect();
    match event.kind {
        EventKind::Held => (Some(HELD), others(HELD)),
        EventKind::AwaitingPromotion => (Some(AWAITS_PROMOTION), others(AWAITS_PROMOTION)),
        EventKind::Paused => (Some(PAUSED), others(PAUSED)),
        EventKind::Resumed => (None, STANDSTILLS.to_vec()),
        EventKind::NodeFailed => (Some(NODES_FAILED), Vec::new()),
        EventKind::RollingBack => (Some(ROLLING_BACK), STANDSTILLS.to_vec()),
        EventKind::Started => (None, [FAILED].into_iter().chain(UNDER_WAY).collect()),
        EventKind::Ended if event.phase == Phase::Failed => (Some(FAILED), UNDER_WAY.to_vec()),
        EventKind::Ended => (None, UNDER_WAY.to_vec()),
        EventKind::WindowOpened | EventKind::WindowClosed => (None, Vec::new()),
        EventKind::Test => (Some(TEST), Vec::new()),
    }
}

fn alert(sink: &Sink, event: &Event, now: Now<'_>, name: &str, ends: Timestamp) -> Value {
    let severity = match name {
        HELD | FAILED => "critical",
        NODES_FAILED | ROLLING_BACK => "warning",
        _ => "info",
    };
    // Alertmanager refuses an alert that ends before it starts.
    let starts = event.at.min(ends);
    let mut alert = json!({
        "labels": { "alertname": name, "gr": event.gr, "severity": severity },
        "annotations": {
            "summary": sink.language.title(event),
            "description": event.reason,
            "upgrade": event.upgrade,
        },
        "startsAt": starts,
        "endsAt": ends,
    });
    if let (Some(link), Some(fields)) = (now.link(event), alert.as_object_mut()) {
        fields.insert("generatorURL".to_owned(), link.into());
    }
    if let (Some(counts), Some(notes)) = (sink.language.counts(event), alert.get_mut("annotations")) {
        notes.as_object_mut().map(|notes| notes.insert("nodes".to_owned(), counts.into()));
    }
    alert
}
