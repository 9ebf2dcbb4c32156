//! What there is to say about the command itself.

use clap_complete::Shell;
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::output::say;
use super::{Session, command, tell};
use crate::frame;

/// Prints the completion of a shell.
pub(super) fn completion(shell: Shell) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    // kubectl asks the helper `kubectl_complete-gcu_upgrade`; shells complete the binary by its own name.
    clap_complete::generate(
        shell,
        &mut command().bin_name("kubectl-gcu_upgrade"),
        "kubectl-gcu_upgrade",
        &mut text,
    );
    say(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}

/// Prints the man page: every verb with its options.
pub(super) fn man() -> Result<Exit, Failure> {
    let mut text = Vec::new();
    let mut whole = command().name("kubectl-gcu_upgrade");
    whole.build();
    clap_mangen::Man::new(whole.clone()).render(&mut text)?;
    for verb in whole.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let mut section = Vec::new();
        clap_mangen::Man::new(verb.clone()).render_options_section(&mut section)?;
        let name = verb.get_name().to_uppercase();
        let section =
            String::from_utf8_lossy(&section).replacen(".SH OPTIONS", &format!(".SH \"{name} OPTIONS\""), 1);
        text.extend_from_slice(section.as_bytes());
    }
    say(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}

/// What may come next, for kubectl: one word a line with what it means, then what the shell is to do with them.
pub(super) fn complete(words: &[String]) -> Result<Exit, Failure> {
    let mut whole = command();
    whole.build();
    let (typed, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let mut at = &whole;
    for word in before {
        at = at.find_subcommand(word).unwrap_or(at);
    }
    let by_name = |arg: &&clap::Arg, word: &str| {
        let long = word.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
        let short = word.strip_prefix('-').and_then(|name| name.chars().next().filter(|_| name.len() == 1));
        long || (short.is_some() && arg.get_short() == short)
    };
    let takes_value = before.last().and_then(|word| at.get_arguments().find(|arg| by_name(arg, word)));
    let takes_value = takes_value.filter(|arg| arg.get_action().takes_values());
    let mut all: Vec<(String, String)> = Vec::new();
    // 4: no files. 0: whatever the shell has.
    let mut directive = 4;
    let values = |arg: &clap::Arg| -> Vec<(String, String)> {
        let values = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
        values
            .map(|v| (v.get_name().to_owned(), v.get_help().map(ToString::to_string).unwrap_or_default()))
            .collect()
    };
    match takes_value {
        Some(arg) => {
            all = values(arg);
            let is_file =
                matches!(arg.get_value_hint(), clap::ValueHint::AnyPath | clap::ValueHint::FilePath);
            directive = if is_file { 0 } else { 4 };
        }
        None if typed.starts_with('-') => {
            for arg in at.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
                all.extend(arg.get_long().map(|long| (format!("--{long}"), about)));
            }
        }
        None => {
            let verbs = at.get_subcommands().filter(|verb| !verb.is_hide_set());
            all.extend(verbs.map(|v| {
                (v.get_name().to_owned(), v.get_about().map(ToString::to_string).unwrap_or_default())
            }));
            at.get_positionals().for_each(|arg| all.extend(values(arg)));
        }
    }
    let fitting = all.iter().filter(|(word, _)| word.starts_with(typed));
    let text: String = fitting.map(|(word, about)| format!("{word}\t{about}\n")).collect();
    say(&format!("{text}:{directive}\n"))?;
    Ok(Exit::Done)
}

/// The version of this command where nothing else can be asked.
pub(super) fn version_alone(why: &Failure) -> Result<Exit, Failure> {
    say(&format!("{:<12}{}\n", "command", env!("CARGO_PKG_VERSION")))?;
    tell(&format!("warning: {why}"));
    Ok(Exit::Done)
}

impl Session {
    /// The versions of this command, of the service, and around them.
    pub(super) async fn version(&self) -> Result<Exit, Failure> {
        let ours = env!("CARGO_PKG_VERSION");
        let content = match self.backend.version().await {
            Ok(content) => content,
            Err(failure) => return version_alone(&failure),
        };
        let mut shown = content.clone();
        if let Some(object) = shown.as_object_mut() {
            object.insert("command".to_owned(), json!(ours));
        }
        self.show(&shown, |version: Value, _| {
            format!("{:<12}{ours}\n{}", "command", frame::service::version(&version))
        })?;
        let theirs = content.get("version").and_then(Value::as_str).unwrap_or(ours);
        if theirs != ours {
            tell(&format!(
                "warning: the service is version {theirs} and this command is {ours}: use the command of its version"
            ));
        }
        Ok(Exit::Done)
    }
}
