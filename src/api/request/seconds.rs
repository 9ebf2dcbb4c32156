//! Durations as callers write them.

use std::fmt;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// The longest deadline of a step.
const DEADLINE_LIMIT: SignedDuration = SignedDuration::from_hours(24 * 7);
/// Parses `90s`, `10m`, `1h30m` or plain seconds.
pub(in crate::api) fn duration(text: &str, limit: SignedDuration) -> Result<SignedDuration, String> {
    let seconds = text.parse::<u32>().ok().map(|s| SignedDuration::from_secs(i64::from(s)));
    match seconds.or_else(|| text.parse().ok()) {
        Some(d) if d.is_positive() && d <= limit => Ok(d),
        _ => Err(format!(
            "{text:?} is not a duration such as 90s, 10m or 1h30m, more than nothing and at most {}h",
            limit.as_hours()
        )),
    }
}

/// A deadline: `"10m"`, or a number of seconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct Seconds(pub(in crate::api) u32);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecondsVisitor)
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration such as 90s, 10m or 1h30m, or a number of seconds; at most a week.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "integer", "minimum": 1, "maximum": DEADLINE_LIMIT.as_secs() },
            ],
            "examples": ["10m", 600],
        })
    }
}

/// The same, or 0.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct SecondsOrNone(pub(in crate::api) Seconds);

impl<'de> Deserialize<'de> for SecondsOrNone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Zero;
        impl Visitor<'_> for Zero {
            type Value = SecondsOrNone;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\", or 0")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SecondsOrNone, E> {
                match text {
                    "0" | "0s" => Ok(SecondsOrNone(Seconds(0))),
                    text => SecondsVisitor.visit_str(text).map(SecondsOrNone),
                }
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<SecondsOrNone, E> {
                self.visit_str(&seconds.to_string())
            }
        }
        deserializer.deserialize_any(Zero)
    }
}

impl JsonSchema for SecondsOrNone {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DurationOrZero".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration such as 90s or 10m, or a number of seconds; 0 for none, at most a week.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "integer", "minimum": 0, "maximum": DEADLINE_LIMIT.as_secs() },
            ],
            "examples": ["10s", 0],
        })
    }
}

struct SecondsVisitor;

impl Visitor<'_> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"10m\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Seconds, E> {
        let seconds = duration(text, DEADLINE_LIMIT).map_err(E::custom)?.as_secs();
        Ok(Seconds(u32::try_from(seconds).unwrap_or(u32::MAX).max(1)))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Seconds, E> {
        self.visit_str(&seconds.to_string())
    }
}
