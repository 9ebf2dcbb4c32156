//! `--log`: what is mistyped there would silence everything without a word.

use tracing_subscriber::filter::{LevelFilter, Targets};

/// The parts of this program that log, ours first; a filter may name them by their beginning.
const PARTS: [&str; 11] = [
    "gcu_upgrade_manager",
    "axum",
    "hyper",
    "hyper_util",
    "kube_client",
    "kube_runtime",
    "mio",
    "notify",
    "rustls",
    "tower",
    "tower_http",
];

/// Reads the value of `--log`.
///
/// # Errors
/// Says what is wrong with it, and what would be right.
pub fn filter(text: &str) -> Result<String, String> {
    let wrong = |what: String| {
        format!(
            "{what}: give a level (error, warn, info, debug, trace, off), or for example \
             info,gcu_upgrade_manager::api=debug"
        )
    };
    text.parse::<Targets>().map_err(|error| wrong(error.to_string()))?;
    let directives: Vec<&str> = text.split(',').map(str::trim).filter(|d| !d.is_empty()).collect();
    if directives.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    for directive in directives {
        let Some((target, _)) = directive.split_once('=') else {
            if directive.parse::<LevelFilter>().is_err() {
                return Err(wrong(format!("{directive:?} is no level")));
            }
            continue;
        };
        let part = target.split("::").next().unwrap_or_default();
        if !PARTS.iter().any(|known| known.starts_with(part)) {
            let what = format!("{target:?} is no part of this program ({})", PARTS.join(", "));
            return Err(wrong(what));
        }
    }
    Ok(text.to_owned())
}
