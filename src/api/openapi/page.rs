//! The document as one page for people: no script, nothing loaded, every text escaped.

use std::fmt::Write;

use serde_json::{Map, Value};

const STYLE: &str = include_str!("page.css");
/// Schemas that refer to one another are followed so far.
const DEPTH: usize = 4;

/// The page that shows an OpenAPI document.
pub fn page(document: &Value) -> String {
    let mut out = String::new();
    let (title, version) = (text(document, "/info/title"), text(document, "/info/version"));
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{0} {1}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<div class=\"page\">\n",
        escape(title),
        escape(version)
    );
    nav(&mut out, document);
    let _ = write!(out, "<main>\n<h1>{} <small>{}</small></h1>\n", escape(title), escape(version));
    prose(&mut out, text(document, "/info/description"), "");
    let bearer = text(document, "/components/securitySchemes/bearer/description");
    prose(
        &mut out,
        "The examples go to the address of the sandbox: put yours in its place. For programs there is \
         `/openapi.json`.",
        "",
    );
    let _ = writeln!(out, "<h4>Who may ask</h4>");
    prose(&mut out, bearer, "");
    let _ = writeln!(
        out,
        "<pre class=\"typed\"><code>curl -H &quot;Authorization: Bearer $TOKEN&quot; ...</code></pre>"
    );
    out.push_str("<h4 id=\"failures\">Failures that any call can come to</h4>\n<table><tbody>\n");
    for (status, response) in object(document, "/components/responses") {
        answer(&mut out, status, response);
    }
    out.push_str("</tbody></table>\n");
    for tag in list(document, "/tags") {
        let name = text(tag, "/name");
        let _ = write!(out, "<section id=\"{}\">\n<h2>{}</h2>\n", anchor(name), escape(name));
        prose(&mut out, text(tag, "/description"), "lead");
        for (path, method, operation) in operations(document, name) {
            article(&mut out, document, path, method, operation);
        }
        out.push_str("</section>\n");
    }
    out.push_str("</main>\n</div>\n</body>\n</html>\n");
    out
}

fn nav(out: &mut String, document: &Value) {
    let _ = write!(
        out,
        "<nav>\n<a class=\"title\" href=\"/ui/\">{}</a>\n",
        escape(text(document, "/info/title"))
    );
    for tag in list(document, "/tags") {
        let name = text(tag, "/name");
        let _ = write!(out, "<h2><a href=\"#{}\">{}</a></h2>\n<ul>\n", anchor(name), escape(name));
        for (_, method, operation) in operations(document, name) {
            let id = anchor(text(operation, "/operationId"));
            let summary = escape(text(operation, "/summary"));
            let _ = writeln!(out, "<li><a href=\"#{id}\">{}{summary}</a></li>", badge(method));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</nav>\n");
}

/// The operations of a tag: those of a path together, paths in their order.
fn operations<'d>(document: &'d Value, tag: &str) -> Vec<(&'d str, &'d str, &'d Value)> {
    let mut all = Vec::new();
    for (path, item) in object(document, "/paths") {
        for (method, operation) in item.as_object().into_iter().flatten() {
            if list(operation, "/tags").iter().any(|t| t.as_str() == Some(tag)) {
                all.push((path.as_str(), method.as_str(), operation));
            }
        }
    }
    all.sort_by_key(|(_, _, operation)| operation.pointer("/x-order").and_then(Value::as_u64));
    all
}

fn article(out: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let id = anchor(text(operation, "/operationId"));
    let _ = write!(
        out,
        "<article id=\"{id}\">\n<header>\n<h3><a href=\"#{id}\">{}</a></h3>\n\
         <div class=\"call\">{}<span class=\"path\">{}</span></div>\n</header>\n<div>\n",
        escape(text(operation, "/summary")),
        badge(method),
        escape(path)
    );
    prose(out, text(operation, "/description"), "");
    let permission = match text(operation, "/x-permission") {
        "none" => "Needs no permission.".to_owned(),
        other => format!("With `--auth kubernetes` this needs the permission `{other}`."),
    };
    prose(out, &permission, "needs");
    samples(out, operation);
    parameters(out, operation);
    if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
        let mut rows = Vec::new();
        fields(document, resolve(document, schema), "", DEPTH, &mut rows);
        table(out, "Fields of the body", &rows);
    }
    responses(out, document, operation);
    out.push_str("</div>\n</article>\n");
}

fn samples(out: &mut String, operation: &Value) {
    for sample in list(operation, "/x-codeSamples") {
        let (label, source) = (escape(text(sample, "/label")), escape(text(sample, "/source")));
        let _ =
            write!(out, "<p class=\"label\">{label}</p>\n<pre class=\"typed\"><code>{source}</code></pre>\n");
        let name = text(sample, "/x-name");
        let shown = object(operation, "/responses/200/content")
            .iter()
            .find_map(|(_, media)| media.get("examples")?.get(name)?.get("value"));
        if let Some(value) = shown {
            let answer = value.as_str().map_or_else(|| format!("{value:#}"), str::to_owned);
            let _ = writeln!(
                out,
                "<details><summary>What is answered, much left out</summary><pre><code>{}</code></pre></details>",
                escape(&answer)
            );
        }
    }
}

fn parameters(out: &mut String, operation: &Value) {
    let row = |parameter: &Value| {
        let place = match text(parameter, "/in") {
            "path" => "in the path",
            "query" => "behind the ?",
            _ => "a header",
        };
        let must = parameter.get("required").and_then(Value::as_bool).unwrap_or_default();
        Row {
            name: text(parameter, "/name").to_owned(),
            kind: format!("{}, {place}", text(parameter, "/schema/type")),
            must,
            about: text(parameter, "/description").to_owned(),
        }
    };
    let rows: Vec<Row> = list(operation, "/parameters").iter().map(row).collect();
    table(out, "Parameters", &rows);
}

fn responses(out: &mut String, document: &Value, operation: &Value) {
    out.push_str("<h4>Answers</h4>\n<table><tbody>\n");
    let all = object(operation, "/responses");
    let (shared, own): (Vec<_>, Vec<_>) =
        all.iter().partition(|(_, response)| response.get("$ref").is_some());
    own.into_iter().for_each(|(status, response)| answer(out, status, response));
    out.push_str("</tbody></table>\n");
    if shared.is_empty() {
        return;
    }
    out.push_str("<p class=\"needs\">And as any call can, <a href=\"#failures\">see above</a>:");
    for (status, response) in shared {
        let means = resolve(document, response);
        let _ =
            write!(out, " <code title=\"{}\">{}</code>", escape(text(means, "/description")), escape(status));
    }
    out.push_str("</p>\n");
}

fn answer(out: &mut String, status: &str, response: &Value) {
    let class = if status.starts_with('2') { "well" } else { "failed" };
    let (status, means) = (escape(status), inline(text(response, "/description")));
    let _ = writeln!(out, "<tr class=\"{class}\"><td><code>{status}</code></td><td>{means}</td></tr>");
}

/// A field or a parameter.
struct Row {
    name: String,
    kind: String,
    must: bool,
    about: String,
}

fn table(out: &mut String, title: &str, rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(out, "<h4>{}</h4>\n<table class=\"fields\"><tbody>\n", escape(title));
    for row in rows {
        let must = if row.must { " <span class=\"must\">required</span>" } else { "" };
        let _ = writeln!(
            out,
            "<tr><td><span class=\"field\">{}</span>{must}<br><span class=\"type\">{}</span></td><td>{}</td></tr>",
            escape(&row.name),
            escape(&row.kind),
            inline(&row.about)
        );
    }
    out.push_str("</tbody></table>\n");
}

/// The fields of an object, those of objects within it after it.
fn fields(document: &Value, schema: &Value, within: &str, depth: usize, rows: &mut Vec<Row>) {
    let required = list(schema, "/required");
    for (name, field) in object(schema, "/properties") {
        let resolved = resolve(document, meant(field));
        let about = [field, meant(field), resolved].into_iter().map(|s| text(s, "/description"));
        let name = format!("{within}{name}");
        rows.push(Row {
            kind: kind(document, field),
            must: required
                .iter()
                .any(|r| Some(name.as_str()) == r.as_str().map(|r| format!("{within}{r}")).as_deref()),
            about: about.into_iter().find(|a| !a.is_empty()).unwrap_or_default().to_owned(),
            name: name.clone(),
        });
        if depth > 0 {
            fields(document, resolved, &format!("{name}."), depth.saturating_sub(1), rows);
        }
    }
}

/// What a field is when it is not null.
fn meant(schema: &Value) -> &Value {
    let of = list(schema, "/anyOf").iter().filter(|s| text(s, "/type") != "null").collect::<Vec<_>>();
    match of.as_slice() {
        [one] => one,
        _ => schema,
    }
}

fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    let place = text(schema, "/$ref").strip_prefix('#').filter(|p| !p.is_empty());
    place.and_then(|place| document.pointer(place)).unwrap_or(schema)
}

/// A type in words.
fn kind(document: &Value, schema: &Value) -> String {
    let schema = resolve(document, meant(schema));
    let words = |all: &[Value], word: &dyn Fn(&Value) -> String| {
        let mut words: Vec<String> = all.iter().map(word).filter(|w| !w.is_empty() && w != "null").collect();
        words.dedup();
        words.join(" or ")
    };
    let named = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // Where several forms are taken, examples say it best.
    let examples = list(schema, "/examples");
    if !examples.is_empty() {
        return words(examples, &Value::to_string);
    }
    for key in ["/anyOf", "/oneOf"] {
        let all = list(schema, key);
        if !all.is_empty() {
            return words(all, &|s| kind(document, s));
        }
    }
    let constant = text(schema, "/const");
    if !constant.is_empty() {
        return constant.to_owned();
    }
    let values = list(schema, "/enum");
    if !values.is_empty() {
        return words(values, &named);
    }
    match schema.get("type") {
        Some(Value::Array(types)) => words(types, &named),
        Some(Value::String(kind)) if kind == "array" => {
            format!("list of {}", kind_of_items(document, schema))
        }
        Some(Value::String(kind)) => kind.clone(),
        _ => "anything".to_owned(),
    }
}

fn kind_of_items(document: &Value, schema: &Value) -> String {
    schema.get("items").map_or_else(|| "anything".to_owned(), |items| kind(document, items))
}

fn badge(method: &str) -> String {
    format!("<span class=\"method {}\">{}</span>", anchor(method), escape(&method.to_ascii_uppercase()))
}

/// Paragraphs, with code between backticks.
fn prose(out: &mut String, text: &str, class: &str) {
    for paragraph in text.split("\n\n").filter(|p| !p.is_empty()) {
        let _ = writeln!(out, "<p class=\"{class}\">{}</p>", inline(paragraph));
    }
}

fn inline(text: &str) -> String {
    let mut out = String::new();
    for (place, part) in text.split('`').enumerate() {
        if place % 2 == 0 {
            out.push_str(&escape(part));
        } else {
            let _ = write!(out, "<code>{}</code>", escape(part));
        }
    }
    out
}

/// A name that can stand behind `#`, and in an attribute.
fn anchor(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).collect()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn text<'v>(value: &'v Value, place: &str) -> &'v str {
    value.pointer(place).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, place: &str) -> &'v [Value] {
    value.pointer(place).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The entries of an object; none when it is none.
fn object<'v>(value: &'v Value, place: &str) -> &'v Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.pointer(place).and_then(Value::as_object).unwrap_or(&NONE)
}
