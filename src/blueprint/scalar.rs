//! What a plain YAML scalar means to kubectl.
//!
//! kubectl reads YAML with sigs.k8s.io/yaml, whose `goyaml.v2/resolve.go` is YAML 1.1 in part: `yes`, `on`
//! and even `y` are true, `0777` is 511, `1_000` is 1000, while `1:30` stays text and so does a date. A
//! blueprint must mean here what it means to `kubectl apply`, so this is that function, followed rule by
//! rule. Where kubectl would pass on something that JSON cannot hold, this refuses.

use serde_json::Number;

use super::tree::Kind;

/// Why a scalar is refused: a stable code and what to say.
pub(crate) type Refused = (&'static str, String);

/// Above this, not every whole number is a 64-bit float: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The meaning of an untagged plain scalar.
pub(crate) fn plain(text: &str) -> Result<Kind, Refused> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Kind::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Kind::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Kind::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => return Err(not_finite(text)),
        _ => {}
    }
    match text.as_bytes().first() {
        Some(b'.') => dotted(text),
        Some(b'+' | b'-' | b'0'..=b'9') => number_like(text),
        _ => Ok(Kind::String(text.to_owned())),
    }
}

/// The meaning of a scalar under one of the tags of YAML's own, such as `!!int`; `None` for other tags.
pub(crate) fn tagged(tag: &str, text: &str) -> Option<Result<Kind, Refused>> {
    if tag == "str" {
        return Some(Ok(Kind::String(text.to_owned())));
    }
    if !matches!(tag, "bool" | "int" | "float" | "null") {
        return None;
    }
    let fits = |kind: Kind| match (&kind, tag) {
        (Kind::Bool(_), "bool") | (Kind::Null, "null") | (Kind::Number(..), "float") => Ok(kind),
        (Kind::Number(number, _), "int") if !number.is_f64() => Ok(kind),
        _ => Err(("bad-tag", format!("this is not what the tag `!!{tag}` promises: remove the tag"))),
    };
    Some(plain(text).and_then(fits))
}

fn not_finite(text: &str) -> Refused {
    let message = format!("`{text}` is not a number that JSON can hold; quote it if it is meant as text");
    ("not-finite", message)
}

/// After a leading dot go-yaml asks Go's float parser, which allows `_` between digits only.
fn dotted(text: &str) -> Result<Kind, Refused> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |part: &str| {
        !part.is_empty()
            && part.split('_').all(|run| !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let well_formed = mantissa.strip_prefix('.').is_some_and(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    let value = if well_formed { finite(&text.replace('_', "")) } else { None };
    let Some(value) = value else { return Ok(Kind::String(text.to_owned())) };
    match whole_or_float(value) {
        Some(number) => Ok(Kind::Number(number, text.into())),
        None => Err(loses_digits(text)),
    }
}

fn number_like(text: &str) -> Result<Kind, Refused> {
    // A date is looked for first; kubectl then leaves it text. No date is a number, so nothing to do here.
    let plain = text.replace('_', "");
    let (negative, digits) = match plain.strip_prefix(['+', '-']) {
        Some(rest) => (plain.starts_with('-'), rest),
        None => (false, plain.as_str()),
    };
    let signed = digits.len() != plain.len();
    match whole(digits) {
        Whole::No => {}
        // go-yaml parses with a sign as i64 and without one as u64, so `+` and a big number do not meet.
        Whole::Fits(value) => {
            return match signed_number(negative, signed, value) {
                Some(number) => Ok(Kind::Number(number, text.into())),
                None => Err(out_of_range(text)),
            };
        }
        Whole::TooBig => return Err(out_of_range(text)),
    }
    if !is_yaml_float(digits) {
        return Ok(Kind::String(text.to_owned()));
    }
    let Some(value) = finite(&plain) else { return Ok(Kind::String(text.to_owned())) };
    match whole_or_float(value) {
        Some(number) => Ok(Kind::Number(number, text.into())),
        None => Err(loses_digits(text)),
    }
}

enum Whole {
    No,
    Fits(u64),
    TooBig,
}

/// Go's `ParseUint` with base 0: `0x`, `0o`, `0b`, a bare leading 0 for octal, else decimal.
fn whole(digits: &str) -> Whole {
    let bytes = digits.as_bytes();
    let (radix, digits) = match (bytes.first(), bytes.get(1)) {
        (Some(b'0'), Some(b'x' | b'X')) => (16, digits.get(2..)),
        (Some(b'0'), Some(b'o' | b'O')) => (8, digits.get(2..)),
        (Some(b'0'), Some(b'b' | b'B')) => (2, digits.get(2..)),
        (Some(b'0'), Some(_)) => (8, digits.get(1..)),
        _ => (10, Some(digits)),
    };
    let digits = digits.unwrap_or_default();
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Whole::No;
    }
    match u64::from_str_radix(digits, radix) {
        Ok(value) => Whole::Fits(value),
        Err(_) => Whole::TooBig,
    }
}

fn signed_number(negative: bool, signed: bool, value: u64) -> Option<Number> {
    if negative {
        return 0_i64.checked_sub_unsigned(value).map(Number::from);
    }
    if signed {
        return i64::try_from(value).ok().map(Number::from);
    }
    Some(Number::from(value))
}

/// `[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?` or `\.[0-9]+(...)?`, as in go-yaml, the sign already taken off.
fn is_yaml_float(text: &str) -> bool {
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((units, fraction)) => all_digits(units) && all_digits(fraction),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    mantissa_fits
        && exponent.is_none_or(|exponent| {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            !exponent.is_empty() && all_digits(exponent)
        })
}

/// The float, unless it is beyond the range of floats, where go-yaml falls back to text.
fn finite(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// The JSON number for a float. Go writes a whole float without a fraction (`2.0` as `2`), so by the time
/// the API server sees it, it is a whole number: the same here. `None` where digits would be lost.
pub(crate) fn whole_or_float(value: f64) -> Option<Number> {
    if value.abs() > EXACT {
        return None;
    }
    if value.fract() == 0.0 && !(value == 0.0 && value.is_sign_negative()) {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53, both checked above")]
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

/// The refusal of a whole number that 64 bits cannot hold.
pub(crate) fn out_of_range(text: &str) -> Refused {
    let message =
        format!("{} does not fit in 64 bits; quote it if it is meant as text", super::finding::quoted(text));
    ("integer-range", message)
}

/// The refusal of a float that stands for a whole number it cannot hold exactly.
pub(crate) fn loses_digits(text: &str) -> Refused {
    let message = format!(
        "{} is too big for a floating-point number to hold every digit; quote it if it is meant as text",
        super::finding::quoted(text)
    );
    ("number-precision", message)
}
