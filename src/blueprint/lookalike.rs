//! Characters that look like those that YAML and Kubernetes take, and are others: a Chinese keyboard, a word processor
//! or a web page puts them there, and nobody sees it.

use super::finding::quoted;

/// The character that `c` looks like; empty for what nobody sees. `None`: it is what it looks like.
fn looks_like(c: char) -> Option<Option<char>> {
    Some(match c {
        '“' | '”' | '„' | '‟' | '«' | '»' | '「' | '」' | '『' | '』' => Some('"'),
        '‘' | '’' | '‚' | '‛' => Some('\''),
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => Some('-'),
        '。' => Some('.'),
        '、' => Some(','),
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => None,
        // The full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => Some(char::from_u32(u32::from(c).wrapping_sub(0xfee0))?),
        c if c.is_whitespace() && !c.is_ascii() => Some(' '),
        _ => return None,
    })
}

/// What somebody who wrote this meant: in plain characters, without blanks and quotation marks around it.
pub(crate) fn meant(text: &str) -> String {
    let plain: String = text.chars().filter_map(|c| looks_like(c).unwrap_or(Some(c))).collect();
    plain.trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\'').to_owned()
}

/// The first character of a text that is not what it looks like, and what is wrong with it.
pub(crate) fn first(text: &str) -> Option<(usize, String)> {
    let (place, (c, like)) =
        text.chars().enumerate().find_map(|(place, c)| Some((place, (c, looks_like(c)?))))?;
    let code = u32::from(c);
    let what = match like {
        None => format!("U+{code:04X}, which nobody sees"),
        Some(' ') => format!("U+{code:04X}, which looks like a blank and is none"),
        Some(like) => format!("`{c}` (U+{code:04X}), which is not `{like}`"),
    };
    Some((place, what))
}

/// What is wrong with the characters of a text that takes no others than ASCII and no blanks around it, and what to
/// write instead.
pub(crate) fn advice(text: &str) -> Option<String> {
    if let Some((_, what)) = first(text) {
        return Some(format!("{} holds {what}: write `{}`", quoted(text), meant(text)));
    }
    (text.trim() != text)
        .then(|| format!("{} begins or ends with a blank: write `{}`", quoted(text), meant(text)))
}

/// A line of YAML whose structure is made of such characters: where the first of them stands, counted from 0, and what
/// to write instead.
pub(crate) fn structure(line: &str) -> Option<(usize, String)> {
    let indent = line.chars().take_while(|c| c.is_whitespace()).count();
    let wide = line.chars().take(indent).position(|c| !c.is_ascii());
    if let Some((at, c)) = wide.and_then(|at| Some((at, line.chars().nth(at)?))) {
        let code = u32::from(c);
        return Some((
            at,
            format!("a blank in the indentation is U+{code:04X}: YAML allows plain spaces only, replace it"),
        ));
    }
    let is_key = |c: &char| c.is_ascii_alphanumeric() || "_-./\"'".contains(*c);
    let dash = line.chars().skip(indent).take_while(|c| matches!(c, '-' | ' ')).count();
    let key = line.chars().skip(indent + dash).take_while(is_key).count();
    let colon = indent + dash + key;
    (key > 0 && line.chars().nth(colon) == Some('：'))
        .then(|| (colon, "`：` (U+FF1A) is no colon to YAML: write `:` and a blank in its place".to_owned()))
}
