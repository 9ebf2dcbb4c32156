//! Times as people read them.

use jiff::Timestamp;

use super::Look;

/// `41s`, `4m`, `3h`, `9d`: as `kubectl` writes ages, in one unit.
pub fn short(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7199 => format!("{}m", s / 60),
        s @ 7200..=172_799 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// Since then.
pub fn age(since: Option<Timestamp>, look: &Look) -> String {
    since.map_or_else(dash, |at| short(look.now.duration_since(at).as_secs()))
}

/// Until then; `now` when that is past.
pub fn left(until: Option<Timestamp>, look: &Look) -> String {
    match until {
        Some(at) if at > look.now => short(at.duration_since(look.now).as_secs()),
        Some(_) => "now".to_owned(),
        None => dash(),
    }
}

/// From one to the other.
pub fn took(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    match (from, to) {
        (Some(from), Some(to)) => short(to.duration_since(from).as_secs()),
        _ => dash(),
    }
}

/// `01:55`, with the day where that is another than today.
pub fn clock(at: Timestamp, look: &Look) -> String {
    let (then, today) = (at.to_zoned(look.zone.clone()), look.now.to_zoned(look.zone.clone()));
    let form = if then.date() == today.date() { "%H:%M" } else { "%b %-d %H:%M" };
    then.strftime(form).to_string()
}

/// `2026-01-01 09:00:06`.
pub fn full(at: Timestamp, look: &Look) -> String {
    at.to_zoned(look.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn dash() -> String {
    "-".to_owned()
}

/// `3h10m`, `12m`, `45s`.
pub fn long(seconds: u32) -> String {
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) if seconds.is_multiple_of(60) || minutes > 9 => format!("{minutes}m"),
        (0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (hours, 0) => format!("{hours}h"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    }
}
