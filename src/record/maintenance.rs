//! When an upgrade may begin on a node: maintenance windows, as the record has them.

use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rolling::Labels;

/// No more windows than this: the sets of those that concern a node are kept as bits.
pub const WINDOWS: usize = 16;
/// No more exclusions than this.
pub const EXCLUSIONS: usize = 50;
/// The longest name of a window or an exclusion.
pub const NAME: usize = 63;
/// The shortest and the longest window, in seconds: a minute and a week.
pub const DURATION: (u32, u32) = (60, 604_800);

/// A time of day as it is written.
const TIME: &str = r"^([01][0-9]|2[0-3]):[0-5][0-9]$";
/// A date that there is, and a time of day.
const DATE_TIME: &str = concat!(
    "^(2[01][0-9]{2}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)",
    "|02-(0[1-9]|1[0-9]|2[0-8]))|(2000|2[01](0[48]|[2468][048]|[13579][26]))-02-29)",
    "T([01][0-9]|2[0-3]):[0-5][0-9]$",
);

/// When nodes may be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Maintenance {
    /// The time zone in which all times here are told, by its IANA name, such as Asia/Shanghai. This service knows the
    /// zones itself.
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// When nodes may be taken.
    #[schemars(length(min = 1, max = WINDOWS))]
    pub windows: Vec<Window>,
    /// When no node may be taken though a window is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = EXCLUSIONS))]
    pub exclusions: Vec<Exclusion>,
    /// What happens to nodes in work when their window ends. One whose pods are being replaced is always finished.
    #[serde(default)]
    pub at_end: AtEnd,
    /// Whether a node is taken only if it should be done before its window ends, and by what of its history that is
    /// told.
    #[serde(default)]
    pub fit: Fit,
}

/// A window that comes again every week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Name of the window.
    #[schemars(length(min = 1, max = NAME))]
    pub name: String,
    /// The days on which it begins: one that begins at 22:00 on a Friday ends on the Saturday.
    #[schemars(length(min = 1, max = 7))]
    pub days: Vec<Day>,
    /// The time of day at which it begins. Where clocks are put forward over it, it begins at the first instant after;
    /// where they are put back over it, at the first of the two.
    pub start: TimeOfDay,
    /// How long it lasts, in seconds that pass, whatever clocks do.
    #[schemars(range(min = DURATION.0, max = DURATION.1))]
    pub duration_seconds: u32,
    /// It is for nodes with these labels; for all where there are none.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub node_selector: Labels,
}

/// A time in which no window is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exclusion {
    /// Name of the exclusion.
    #[schemars(length(min = 1, max = NAME))]
    pub name: String,
    /// When it begins, in the time zone.
    pub from: LocalTime,
    /// When it is over.
    pub to: LocalTime,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// The same as a calendar calls it.
    pub fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }
}

/// What happens to nodes in work when their window ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AtEnd {
    /// They are finished.
    #[default]
    Finish,
    /// Those whose pods are not being replaced yet are given back as they were; their turn comes again.
    Return,
}

/// By what it is told whether a node should be done before its window ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Fit {
    /// The time in which half of the nodes were done before.
    #[serde(rename = "p50")]
    P50,
    /// The time in which nine of ten nodes were done before.
    #[default]
    #[serde(rename = "p90")]
    P90,
    /// It is not asked: whatever window is open may be used up to its last second.
    None,
}

/// A time of day, in hours and minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOfDay(Time);

impl TimeOfDay {
    /// Parses `22:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        Some(Self(Time::new(two(hour)?, two(minute)?, 0, 0).ok()?))
    }

    /// As a calendar has it.
    pub fn time(self) -> Time {
        self.0
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

/// A date and a time of day, where the time zone is known beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime(DateTime);

impl LocalTime {
    /// Parses `2027-02-05T00:00`, of a year from 2000 to 2199.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_once('T')?;
        let (year, rest) = date.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let digits = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
        let year: i16 = year.parse().ok().filter(|year| digits && (2000..2200).contains(year))?;
        let date = Date::new(year, two(month)?, two(day)?).ok()?;
        Some(Self(DateTime::from_parts(date, TimeOfDay::parse(time)?.0)))
    }

    /// As a calendar has it.
    pub fn date_time(self) -> DateTime {
        self.0
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.0.date();
        write!(f, "{:04}-{:02}-{:02}T{}", date.year(), date.month(), date.day(), TimeOfDay(self.0.time()))
    }
}

/// Exactly two digits.
fn two(text: &str) -> Option<i8> {
    let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer, "a time of day such as \"22:00\", in quotation marks")?;
        let wrong = || D::Error::custom(format!("{text:?} is not a time of day from \"00:00\" to \"23:59\""));
        Self::parse(&text).ok_or_else(wrong)
    }
}

impl JsonSchema for TimeOfDay {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimeOfDay".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": TIME })
    }
}

impl Serialize for LocalTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LocalTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer, "a local time such as \"2027-02-05T00:00\"")?;
        let wrong = || {
            let form =
                "is not a local time such as \"2027-02-05T00:00\", without an offset, of a day that there is";
            D::Error::custom(format!("{text:?} {form}"))
        };
        Self::parse(&text).ok_or_else(wrong)
    }
}

impl JsonSchema for LocalTime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LocalTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DATE_TIME })
    }
}

/// A text; whatever else is refused with what it should be.
fn text<'de, D: Deserializer<'de>>(deserializer: D, form: &'static str) -> Result<String, D::Error> {
    struct Text(&'static str);
    impl serde::de::Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }
    deserializer.deserialize_str(Text(form))
}
