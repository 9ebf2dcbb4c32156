//! The service and what it has: grs, blueprints, versions.

use jiff::Timestamp;
use serde_json::Value;

use super::table::{Cell, Table};
use super::{Look, Tone, clean, time};

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// The grs, as `kubectl get gr` shows them.
pub fn grs(all: &[Value], look: &Look) -> String {
    let mut table = Table::new(&["NAME", "READY", "STATUS", "AGE"]).apart();
    for gr in all {
        let created: Option<Timestamp> = text(gr, "/metadata/creationTimestamp").parse().ok();
        let deleting = gr.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null());
        let status = if deleting { "Terminating" } else { text(gr, "/status/phase") };
        table.add_row([
            Cell::from(text(gr, "/metadata/name")),
            Cell::from(text(gr, "/status/readyResource")),
            Cell::from(status),
            Cell::from(time::age(created, look)),
        ]);
    }
    table.draw(look)
}

/// The blueprints, each with what is wrong with it.
pub fn blueprints(content: &Value, look: &Look) -> String {
    let items = content.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut table = Table::new(&["FILE", "GR", "VALID", "SHA256", "FINDINGS"]).apart();
    for item in items {
        let valid = item.get("valid").and_then(Value::as_bool) == Some(true);
        let findings = item.get("findings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut rows = findings.iter().map(|f| {
            let place = |field: &str| f.get(field).and_then(Value::as_u64).unwrap_or_default();
            format!(
                "{}:{}: {}: {}",
                place("line"),
                place("column"),
                text(f, "/severity"),
                text(f, "/message")
            )
        });
        let (word, tone) = if valid { ("yes", Tone::Good) } else { ("no", Tone::Bad) };
        table.add_row([
            Cell::from(text(item, "/file")),
            Cell::from(text(item, "/gr")),
            Cell::of(word, tone),
            Cell::from(text(item, "/sha256").get(..12).unwrap_or_default()),
            Cell::from(rows.next().unwrap_or_default()),
        ]);
        for row in rows {
            table.add_row([Cell::none(), Cell::none(), Cell::none(), Cell::none(), Cell::from(row)]);
        }
    }
    let problem = text(content, "/problem");
    let problem = if problem.is_empty() { String::new() } else { format!("{}\n", clean(problem)) };
    format!("{problem}{}", table.draw(look))
}

/// The versions around the service, and who acts.
pub fn version(content: &Value) -> String {
    let apis: Vec<&str> = content
        .get("grApis")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let acts =
        match (content.pointer("/acts/thisReplica").and_then(Value::as_bool), text(content, "/acts/replica"))
        {
            (Some(true), _) => "this replica".to_owned(),
            (_, replica) if !replica.is_empty() => replica.to_owned(),
            _ => format!("nobody: {}", text(content, "/acts/problem")),
        };
    let operator = match (text(content, "/operator/version"), text(content, "/operator/image")) {
        ("", image) => image.to_owned(),
        (version, image) => format!("{version} ({image})"),
    };
    let rows = [
        ("service", text(content, "/version").to_owned()),
        ("acts", acts),
        ("kubernetes", text(content, "/kubernetes/version").to_owned()),
        ("operator", operator),
        ("gr", apis.join(", ")),
        ("records", text(content, "/recordApi").to_owned()),
    ];
    let mut out: String = rows
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:<12}{}\n", clean(value)))
        .collect();
    for warning in content.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        out.push_str(&format!("warning     {}\n", clean(warning.as_str().unwrap_or_default())));
    }
    out
}
