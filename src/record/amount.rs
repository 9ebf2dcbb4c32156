//! A number or a percentage, as Kubernetes' int-or-string.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest number that the CRD's schema lets in: so many digits can be written in a pattern.
const LARGEST: u32 = 999_999_999;
/// The texts that the CRD's schema lets in.
const TEXT: &str = "^(([1-9][0-9]?|100)%|[1-9][0-9]{0,8})$";

/// A number of nodes, or a percentage of them: `3` or `"25%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Number(u32),
    /// A percentage.
    Percent(u32),
}

impl Amount {
    /// How many that is of `all`: rounded down, at least 1.
    pub fn of(self, all: usize) -> usize {
        let all64 = u64::try_from(all).unwrap_or(u64::MAX);
        let count = match self {
            Self::Number(number) => u64::from(number),
            Self::Percent(percent) => all64.saturating_mul(u64::from(percent)) / 100,
        };
        usize::try_from(count).unwrap_or(usize::MAX).max(1)
    }

    /// Parses `3` or `25%`.
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let number: u32 = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
        match (percent, number) {
            (_, 0) => None,
            (true, 1..=100) => Some(Self::Percent(number)),
            (true, _) => None,
            (false, number) => Some(Self::Number(number)),
        }
    }
}

/// The same in a request: as in Kubernetes a text is a percentage, and what is meant to be a number is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked(pub Amount);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AskedVisitor)
    }
}

struct AskedVisitor;

impl de::Visitor<'_> for AskedVisitor {
    type Value = Asked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        AmountVisitor.expecting(f)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Asked, E> {
        let invalid = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
        Amount::parse(&number.to_string()).map(Asked).ok_or_else(invalid)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Asked, E> {
        Err(E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Asked, E> {
        match Amount::parse(text) {
            Some(amount @ Amount::Percent(_)) => Ok(Asked(amount)),
            Some(Amount::Number(number)) => Err(E::custom(format!(
                "{text:?} is a text without %: write {number} for a number of nodes, or \"{}%\" for a percentage",
                number.min(100)
            ))),
            None => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

impl JsonSchema for Asked {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Amount::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Amount::json_schema(generator)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u32(*number),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl de::Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of nodes from 1, such as 3, or a percentage from \"1%\" to \"100%\"")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Amount, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Amount, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
        Amount::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Of these two, an API server applies to a value only the one that is for values of its kind. Spelled out as
        // alternatives they would not be a structural schema: those may repeat no more than the two types.
        json_schema!({ "x-kubernetes-int-or-string": true, "minimum": 1, "maximum": LARGEST, "pattern": TEXT })
    }
}
