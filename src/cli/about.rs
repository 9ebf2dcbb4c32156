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
