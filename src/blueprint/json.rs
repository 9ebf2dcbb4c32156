//! JSON into a located tree.
//!
//! serde_json tells the place of an error but not of a value, and keeps the last of two equal keys. So the
//! structure is read here, and the two things that are easy to get wrong, the escapes of a string and its
//! control characters, are left to serde_json.

use serde_json::Number;

use super::finding::{Finding, SourcePos, quoted};
use super::scalar;
use super::tree::{Builder, Kind, Node};

/// Reads the only value of `text`. Mistakes that allow reading on are returned beside the tree.
pub(crate) fn read(text: &str) -> Result<(Option<Node>, Vec<Finding>), Finding> {
    let mut reader =
        Reader { rest: text, place: SourcePos::START, builder: Builder::default(), open: Vec::new() };
    reader.document()?;
    let root = reader.builder.take_root();
    Ok((root, reader.builder.findings))
}

struct Reader<'a> {
    rest: &'a str,
    place: SourcePos,
    builder: Builder,
    /// The closing bracket of every open list or map. Its length is bounded by the builder's depth limit.
    open: Vec<char>,
}

impl<'a> Reader<'a> {
    /// One turn reads one value, then whatever may stand between it and the next one.
    fn document(&mut self) -> Result<(), Finding> {
        loop {
            self.space();
            let opened = self.value()?;
            if !opened || self.closes_at_once()? {
                self.between_values()?;
            }
            if self.builder.is_full() {
                return Ok(());
            }
            if self.open.is_empty() {
                break;
            }
            if self.open.last() == Some(&'}') {
                self.key()?;
            }
        }
        self.end_of_file()
    }

    /// Reads a scalar (false) or the opening bracket of a list or map (true).
    fn value(&mut self) -> Result<bool, Finding> {
        let place = self.place;
        match self.peek() {
            Some('{') => {
                self.builder.start_map(place)?;
                self.bump('{');
                self.open.push('}');
                return Ok(true);
            }
            Some('[') => {
                self.builder.start_list(place)?;
                self.bump('[');
                self.open.push(']');
                return Ok(true);
            }
            Some('"') => {
                let text = self.string()?;
                self.put(place, Kind::String(text))?;
            }
            Some('-' | '0'..='9') => self.number()?,
            Some(_) => self.word()?,
            None => return Err(self.cut_short()),
        }
        Ok(false)
    }

    fn put(&mut self, place: SourcePos, kind: Kind) -> Result<(), Finding> {
        let built = self.builder.scalar(place, kind)?;
        self.builder.add(built);
        Ok(())
    }

    /// Right after an opening bracket: whether it is closed without a value.
    fn closes_at_once(&mut self) -> Result<bool, Finding> {
        self.space();
        let Some(bracket) = self.open.last().copied() else { return Ok(false) };
        if self.peek() != Some(bracket) {
            return Ok(false);
        }
        self.close(bracket)?;
        Ok(true)
    }

    /// After a value: closing brackets as they come, then a comma if anything is still open.
    fn between_values(&mut self) -> Result<(), Finding> {
        while let Some(bracket) = self.open.last().copied() {
            self.space();
            match self.peek() {
                Some(',') => {
                    let comma = self.place;
                    self.bump(',');
                    self.space();
                    if matches!(self.peek(), Some(']' | '}')) {
                        let message = "a comma with nothing after it: remove it, JSON does not allow it";
                        return Err(Finding::error("json-syntax", comma, message));
                    }
                    return Ok(());
                }
                Some(next) if next == bracket => self.close(bracket)?,
                Some(_) => return Err(self.wrong(&format!("`,` or `{bracket}` is missing before this"))),
                None => return Err(self.cut_short()),
            }
        }
        Ok(())
    }

    fn close(&mut self, bracket: char) -> Result<(), Finding> {
        self.bump(bracket);
        self.open.pop();
        if let Some(built) = self.builder.end()? {
            self.builder.add(built);
        }
        Ok(())
    }

    fn key(&mut self) -> Result<(), Finding> {
        self.space();
        let place = self.place;
        match self.peek() {
            Some('"') => {}
            Some(_) => return Err(self.wrong("a key in double quotes is missing here")),
            None => return Err(self.cut_short()),
        }
        let name = self.string()?;
        self.builder.key(name, place)?;
        self.space();
        if self.peek() != Some(':') {
            return Err(self.wrong("`:` is missing after the key"));
        }
        self.bump(':');
        Ok(())
    }

    fn string(&mut self) -> Result<String, Finding> {
        let place = self.place;
        let mut escaped = false;
        let end = self.rest.bytes().enumerate().skip(1).find(|(_, byte)| match byte {
            b'"' if !escaped => true,
            b'\\' => {
                escaped = !escaped;
                false
            }
            _ => {
                escaped = false;
                false
            }
        });
        let Some(token) = end.and_then(|(end, _)| self.rest.get(..=end)) else {
            return Err(Finding::error("json-syntax", place, "this text has no closing quote"));
        };
        let text = serde_json::from_str::<String>(token).map_err(|error| in_string(place, token, &error))?;
        self.skip(token);
        Ok(text)
    }

    fn number(&mut self) -> Result<(), Finding> {
        let place = self.place;
        let token = self.token(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
        if !is_json_number(token) {
            return Err(self.wrong(&format!("{} is not a number", quoted(token))));
        }
        let number = match number(token) {
            Ok(number) => number,
            Err((code, message)) => {
                let field = self.builder.path(None);
                self.builder.mistake(Finding::error(code, place, message).about(field));
                Number::from(0)
            }
        };
        self.skip(token);
        self.put(place, Kind::Number(number, token.into()))
    }

    fn word(&mut self) -> Result<(), Finding> {
        let place = self.place;
        let token = self.token(|c| c.is_alphanumeric());
        let kind = match token {
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            "null" => Kind::Null,
            "NaN" | "Infinity" => {
                let message = format!("`{token}` is not a number that JSON can hold");
                return Err(Finding::error("not-finite", place, message));
            }
            _ => return Err(self.wrong("a value is missing here; text stands in double quotes")),
        };
        self.skip(token);
        self.put(place, kind)
    }

    fn end_of_file(&mut self) -> Result<(), Finding> {
        self.space();
        match self.peek() {
            None => Ok(()),
            Some('{' | '[') => {
                let message = "a second document begins here: a blueprint holds one gr, put the others in \
                               files of their own";
                Err(Finding::error("several-documents", self.place, message))
            }
            Some(_) => Err(self.wrong("nothing may follow the closing bracket")),
        }
    }

    fn token(&self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        self.rest.get(..end).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn space(&mut self) {
        let token = self.token(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
        self.skip(token);
    }

    fn bump(&mut self, c: char) {
        self.rest = self.rest.strip_prefix(c).unwrap_or(self.rest);
        self.place = advance(self.place, c);
    }

    fn skip(&mut self, token: &str) {
        self.rest = self.rest.get(token.len()..).unwrap_or_default();
        self.place = token.chars().fold(self.place, advance);
    }

    fn wrong(&self, what: &str) -> Finding {
        let message = format!("this is not JSON (a file that begins with `{{` is read as JSON): {what}");
        Finding::error("json-syntax", self.place, message)
    }

    fn cut_short(&self) -> Finding {
        let missing = self.open.last().map_or(String::new(), |bracket| format!(", `{bracket}` is missing"));
        Finding::error("json-syntax", self.place, format!("the file ends too early{missing}"))
    }
}

/// The place after `c`.
fn advance(place: SourcePos, c: char) -> SourcePos {
    match c {
        '\n' => SourcePos { line: place.line.saturating_add(1), column: 1 },
        _ => SourcePos { column: place.column.saturating_add(1), ..place },
    }
}

/// serde_json says where in the token it stumbled, in bytes; the token may hold line breaks by mistake.
fn in_string(start: SourcePos, token: &str, error: &serde_json::Error) -> Finding {
    let mut lines = token.split_inclusive('\n');
    let before: usize = lines.by_ref().take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = before + error.column().saturating_sub(1);
    let place =
        token.char_indices().take_while(|(at, _)| *at < offset).fold(start, |at, (_, c)| advance(at, c));
    let said = error.to_string();
    let what = said.split(" at line ").next().unwrap_or("not JSON text");
    let place = if error.column() == 0 { start } else { place };
    Finding::error("json-syntax", place, format!("this text is not JSON: {what}"))
}

/// RFC 8259: `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`.
fn is_json_number(token: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let token = token.strip_prefix('-').unwrap_or(token);
    let (mantissa, exponent) = match token.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (token, None),
    };
    let (units, fraction) = match mantissa.split_once('.') {
        Some((units, fraction)) => (units, Some(fraction)),
        None => (mantissa, None),
    };
    digits(units)
        && (units == "0" || !units.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}

fn number(token: &str) -> Result<Number, scalar::Refused> {
    if !token.contains(['.', 'e', 'E']) {
        return match (token.parse::<i64>(), token.parse::<u64>()) {
            (Ok(value), _) => Ok(Number::from(value)),
            (_, Ok(value)) => Ok(Number::from(value)),
            _ => Err(scalar::out_of_range(token)),
        };
    }
    let value = token.parse::<f64>().ok().filter(|value| value.is_finite());
    value.and_then(scalar::whole_or_float).ok_or_else(|| scalar::loses_digits(token))
}
