//! `kubectl gcu-upgrade`: the command line for whoever runs an upgrade and wants to look, not to parse.
//!
//! A binary of its own that knows nothing that REST does not: it asks the routes of [`api`](crate::api), in this
//! process with the person's own kubeconfig or at the service's URL (`cli/backend.rs`), and draws the answers with
//! [`frame`](crate::frame).

mod about;
mod args;
mod backend;
mod doctor;
mod exit;
mod input;
mod output;
mod read;
mod terminal;
mod wait;
mod watch;
mod write;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::frame::{Look, view};
use args::{Cli, Global, Verb};
use backend::{Acts, Backend};
use exit::{Exit, Failure};
use output::{Form, say, tell};
use terminal::Terminal;

/// Runs what the command line says.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nobody may be reading.
            let _ = error.print();
            return exit.into();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(obey(cli)));
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            tell(&format!("error: {failure}"));
            failure.exit.into()
        }
    }
}

/// The command line as clap knows it.
pub fn command() -> clap::Command {
    Cli::command()
}

async fn obey(cli: Cli) -> Result<Exit, Failure> {
    match &cli.verb {
        Verb::Completion { shell } => return about::completion(*shell),
        Verb::Man => return about::man(),
        Verb::Complete { words } => return about::complete(words),
        _ => {}
    }
    let terminal = Terminal::of(&cli.global);
    let backend = match Backend::connect(&cli.global).await {
        Ok(backend) => backend,
        Err(failure) if matches!(cli.verb, Verb::Version) => return about::version_alone(&failure),
        Err(failure) => return Err(failure),
    };
    let session = Session { backend, global: cli.global, terminal };
    match cli.verb {
        Verb::Get { name } => session.list(name.as_deref()).await,
        Verb::Plan { job, exit_code, all } => session.plan(&job, exit_code, all).await,
        Verb::Upgrade { job, run } => session.upgrade(&job, run).await,
        Verb::Status { name, watch: false, all } => session.status(name.as_deref(), all).await,
        Verb::Status { name, watch: true, all } => session.watch(name.as_deref(), all).await,
        Verb::Why { node } => session.why(node.as_deref()).await,
        Verb::Nodes { node } => session.nodes(node.as_deref()).await,
        Verb::Pause(steer) => session.steer("pause", steer).await,
        Verb::Resume(steer) => session.steer("resume", steer).await,
        Verb::Promote(steer) => session.steer("promote", steer).await,
        Verb::Cancel(steer) => session.steer("cancel", steer).await,
        Verb::Close(steer) => session.steer("close", steer).await,
        Verb::Rollback { to_revision, how, run } => session.rollback(to_revision, &how, run).await,
        Verb::Retry { node: Some(node), run } => session.retry_node(&node, run).await,
        Verb::Retry { node: None, run } => session.retry(run).await,
        Verb::Skip { node, reason, keep_cordon, steer } => {
            session.skip(&node, reason.as_deref(), keep_cordon, steer).await
        }
        Verb::History { revision, diff } => session.history(revision, diff).await,
        Verb::Wait { name, until, timeout } => session.wait(name.as_deref(), until, timeout).await,
        Verb::Doctor => session.doctor().await,
        Verb::Version => session.version().await,
        Verb::Completion { .. } | Verb::Man | Verb::Complete { .. } => Ok(Exit::Done),
    }
}

/// What every verb works with.
struct Session {
    backend: Backend,
    global: Global,
    terminal: Terminal,
}

impl Session {
    /// How the next frame is drawn.
    fn look(&self) -> Look {
        Look { wide: self.global.output == Form::Wide, ..self.terminal.look() }
    }

    /// Prints an answer: in the form that was asked for, or drawn.
    fn show<T: DeserializeOwned>(
        &self,
        content: &Value,
        draw: impl FnOnce(T, &Look) -> String,
    ) -> Result<(), Failure> {
        let text = match self.global.output.of(content)? {
            Some(text) => text,
            None => draw(read(content)?, &self.look()),
        };
        Ok(say(&text)?)
    }

    /// The gr that is meant.
    async fn gr(&self) -> Result<String, Failure> {
        self.backend.gr(self.global.gr.as_deref()).await
    }

    /// The upgrade that is meant.
    async fn record(&self, named: Option<&str>) -> Result<String, Failure> {
        self.backend.record(named, self.global.gr.as_deref()).await
    }

    /// That nobody acts, where that is known.
    async fn nobody_acts(&self) -> Option<String> {
        match self.backend.acts().await {
            Acts::Nobody(text) => Some(text),
            Acts::Replica(_) | Acts::Unknown(_) => None,
        }
    }
}

/// Reads an answer.
fn read<T: DeserializeOwned>(content: &Value) -> Result<T, Failure> {
    view::read(content).map_err(|e| {
        let message = format!(
            "the answer cannot be read ({e}): is the service of another version? See: kubectl gcu-upgrade \
                               version"
        );
        Failure::new(Exit::Failed, message)
    })
}
