//! What is said about mistakes in requests: which field, what it takes, and what was probably meant.

/// Two words that differ by no more letters than this may be the same, mistyped.
const TYPOS: usize = 2;

/// That a word is not known here, with those that are and the one that was probably meant.
pub(super) fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let known_are = match known {
        [] => "none is known".to_owned(),
        [one] => format!("{one} is known"),
        all => format!("{} are known", list(all, "and")),
    };
    format!("no such {what} here: {known_are}{}", did_you_mean(word, known))
}

fn did_you_mean(word: &str, known: &[&str]) -> String {
    let word = word.to_lowercase();
    let distance = |other: &str| strsim::osa_distance(&word, &other.to_lowercase());
    let close = known.iter().map(|other| (distance(other), other));
    let meant = close.filter(|(far, other)| *far <= TYPOS.min(other.len() / 2)).min_by_key(|(far, _)| *far);
    meant.map(|(_, other)| format!("; did you mean {other}?")).unwrap_or_default()
}

/// `a, b and c`.
fn list(words: &[&str], last: &str) -> String {
    match words {
        [all @ .., end] if !all.is_empty() => format!("{} {last} {end}", all.join(", ")),
        other => other.concat(),
    }
}

/// A deserializer's words about a field, as a sentence for people.
pub(super) fn sentence(error: &str) -> String {
    let (text, place) = match error.rfind(" at line ") {
        Some(at) => error.split_at(at),
        None => (error, ""),
    };
    let told = unknown_field(text).or_else(|| unknown_value(text)).or_else(|| wrong_type(text));
    let told = told.or_else(|| field(text)).unwrap_or_else(|| text.to_owned());
    format!("{told}{place}")
}

fn unknown_field(text: &str) -> Option<String> {
    let (word, expected) = text.strip_prefix("unknown field `")?.split_once("`, ")?;
    Some(format!("{word}: {}", unknown("field", word, &ticked(expected))))
}

fn unknown_value(text: &str) -> Option<String> {
    let (word, expected) = text.strip_prefix("unknown variant `")?.split_once("`, ")?;
    let known = ticked(expected);
    Some(format!("must be {}, not {word:?}{}", list(&known, "or"), did_you_mean(word, &known)))
}

fn wrong_type(text: &str) -> Option<String> {
    let rest = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "))?;
    let (given, expected) = rest.rsplit_once(", expected ")?;
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "a boolean" => "true or false",
        "a string" => "a text in quotation marks",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    let given = match given.split_once(' ') {
        Some(("string", text)) => text.to_owned(),
        Some(("integer" | "boolean", value)) => value.replace('`', ""),
        Some(("floating", value)) => value.replace("point ", "").replace('`', ""),
        _ if given == "map" => "an object".to_owned(),
        _ if given == "sequence" => "a list".to_owned(),
        _ => given.to_owned(),
    };
    Some(format!("must be {expected}, not {given}"))
}

fn field(text: &str) -> Option<String> {
    let of = |what: &str| text.strip_prefix(what)?.strip_suffix('`').map(str::to_owned);
    match (of("duplicate field `"), of("missing field `")) {
        (Some(name), _) => Some(format!("{name} is given twice")),
        (_, Some(name)) => Some(format!("{name} is missing")),
        // Valid JSON that is not what an enumeration takes.
        _ => (text == "expected value").then(|| "must be a text in quotation marks".to_owned()),
    }
}

/// What stands between backticks.
fn ticked(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}
