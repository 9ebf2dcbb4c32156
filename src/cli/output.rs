//! `-o`: the forms of an answer that programs read.

use std::io::{self, Write as _};

use serde_json::Value;

use super::exit::{Exit, Failure};

/// A form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Table,
    /// For people with a wide screen.
    Wide,
    /// As the service answers it.
    Json,
    /// The same.
    Yaml,
    /// `gcuupgrade.gum.enflame.com/NAME` alone.
    Name,
    /// What a template picks.
    JsonPath(Template),
}

impl Form {
    /// Of the command line.
    ///
    /// # Errors
    /// What there is instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            other => match other.strip_prefix("jsonpath=") {
                Some(template) => Template::parse(template).map(Self::JsonPath),
                None => Err("must be table, wide, json, yaml, name or jsonpath=TEMPLATE".to_owned()),
            },
        }
    }

    /// People read it.
    pub(super) fn is_drawn(&self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }

    /// An answer in this form; `None` where people read it.
    ///
    /// # Errors
    /// It has no name, or the template does not fit.
    pub(super) fn of(&self, content: &Value) -> Result<Option<String>, Failure> {
        let failed = |what: String| Failure::new(Exit::Failed, what);
        Ok(Some(match self {
            Self::Table | Self::Wide => return Ok(None),
            Self::Json => format!("{content:#}\n"),
            Self::Yaml => serde_saphyr::to_string(content).map_err(|e| failed(e.to_string()))?,
            Self::Name => names(content).map_err(Failure::usage)?,
            Self::JsonPath(template) => template.of(content),
        }))
    }
}

fn names(content: &Value) -> Result<String, String> {
    let name = |one: &Value| one.get("name").and_then(Value::as_str).map(str::to_owned);
    let all: Vec<String> = match content {
        Value::Array(all) => all.iter().filter_map(name).collect(),
        one => name(one).into_iter().collect(),
    };
    if all.is_empty() && content.as_array().is_none_or(|all| !all.is_empty()) {
        return Err("this answer is about nothing with a name: use -o json".to_owned());
    }
    Ok(all.iter().map(|name| format!("gcuupgrade.gum.enflame.com/{name}\n")).collect())
}

/// `kubectl`'s templates, without ranges and filters: no crate of this size reads those either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Path(Vec<Pick>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pick {
    Field(String),
    Item(usize),
    Each,
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (path, after) = after.split_once('}').ok_or("a { without its }")?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match path.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
                Some(text) => Piece::Text(text.replace("\\n", "\n").replace("\\t", "\t")),
                None => Piece::Path(picks(path)?),
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    fn of(&self, content: &Value) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Path(path) => {
                    let found = path.iter().fold(vec![content], |found, pick| pick.of(&found));
                    let shown = found.into_iter().map(|value| match value {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    });
                    text.push_str(&shown.collect::<Vec<_>>().join(" "));
                }
            }
        }
        text
    }
}

impl Pick {
    fn of<'v>(&self, found: &[&'v Value]) -> Vec<&'v Value> {
        let each = |value: &&'v Value| -> Vec<&'v Value> {
            match (self, value) {
                (Self::Field(name), value) => value.get(name).into_iter().collect(),
                (Self::Item(place), value) => value.get(*place).into_iter().collect(),
                (Self::Each, Value::Array(all)) => all.iter().collect(),
                (Self::Each, Value::Object(all)) => all.values().collect(),
                (Self::Each, _) => Vec::new(),
            }
        };
        found.iter().flat_map(each).collect()
    }
}

/// `.items[*].name`, `.rolling.active[0]['node']`.
fn picks(path: &str) -> Result<Vec<Pick>, String> {
    let (mut picks, mut rest) = (Vec::new(), path.strip_prefix('$').unwrap_or(path));
    let wrong =
        || format!("{path:?} cannot be read: fields, [n] and [*] are, such as .rolling.active[*].node");
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inner, after) = after.split_once(']').ok_or_else(wrong)?;
            let quoted = inner.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
            picks.push(match (inner, quoted, inner.parse()) {
                ("*", ..) => Pick::Each,
                (_, Some(name), _) => Pick::Field(name.to_owned()),
                (_, None, Ok(place)) => Pick::Item(place),
                _ => return Err(wrong()),
            });
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            match name {
                "" if after.is_empty() && picks.is_empty() => {}
                "" if after.starts_with('[') => {}
                "*" => picks.push(Pick::Each),
                "" => return Err(wrong()),
                name => picks.push(Pick::Field(name.to_owned())),
            }
            rest = after;
        } else {
            return Err(wrong());
        }
    }
    Ok(picks)
}

/// Prints data. A reader who has seen enough, `head` for example, is no failure.
///
/// # Errors
/// It cannot be written.
pub(super) fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Tells how it is going, beside the data.
pub(super) fn tell(text: &str) {
    // Nobody may be reading.
    let _ = writeln!(io::stderr(), "{text}");
}
