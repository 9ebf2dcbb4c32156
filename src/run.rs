//! The subcommands.

mod sandbox;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::app::{Parts, Service};
use crate::blueprint;
use crate::blueprint::catalog::Watching;
use crate::clock::Clock;
use crate::config::{Command, ServeArgs};
use crate::{cluster, http, record, telemetry};

/// What ends a process early. Said once, by [`run`].
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs a subcommand to its end.
pub fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Serve(args) => {
            telemetry::start(&args.log, Some(&args.log_dir));
            block_on(serve(args))
        }
        Command::Sandbox(args) => {
            telemetry::start(&args.log, None);
            block_on(sandbox::run(args))
        }
        Command::Validate { files } => return answer(validate(files)),
        Command::Crd => return answer(print_crd()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// The end of a command that does not log.
fn answer(result: Result<bool, Failure>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // Nobody may be reading this either.
            let _ = writeln!(io::stderr(), "gcu-upgrade-manager: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Prints to stdout. A reader who has seen enough, `head` for example, is no failure.
fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(task)
}

async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let config = match &args.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| unusable(path, &e))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|e| unusable(path, &e))?
        }
        None => Config::infer().await.map_err(|e| {
            format!("no cluster to serve: {e}; give --kubeconfig, or try: gcu-upgrade-manager sandbox")
        })?,
    };
    info!(server = %config.cluster_url, "serving cluster");
    let client = cluster::connect(config)?;
    let listener = listen(args.listen).await?;
    let parts = Parts {
        client,
        clock: Clock::system(),
        blueprints: args.blueprints,
        watching: Watching::default(),
        own_node: args.node_name,
    };
    until_stopped(parts, listener).await
}

/// The first line says what is wrong; those after it draw the file.
fn unusable(kubeconfig: &Path, error: &KubeconfigError) -> String {
    format!("{}: {}", kubeconfig.display(), error.to_string().lines().next().unwrap_or_default())
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| format!("cannot listen on {address}: {e}").into())
}

/// Runs the service until a signal, or until one of its tasks ends. A second signal ends the process at once.
async fn until_stopped(parts: Parts, listener: TcpListener) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let mut service = Service::start(parts).await;
    info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
    let mut server = tokio::spawn(http::serve(listener, service.router(), stop.clone()));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let result = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        failed = service.failed() => Err(failed.into()),
        ended = &mut server => return Ok(ended??),
    };
    info!("stopping");
    stop.cancel();
    tokio::select! {
        ended = server => ended??,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    result
}

/// Whether every file can be used.
fn validate(files: Vec<PathBuf>) -> Result<bool, Failure> {
    let mut good = true;
    for file in files {
        let (findings, blueprint) = blueprint::validate(&file);
        let mut text = String::new();
        for finding in &findings {
            writeln!(text, "{finding}")?;
        }
        match blueprint {
            Some(blueprint) => {
                let (name, digest) = (blueprint.name(), blueprint.digest());
                writeln!(text, "{}: ok, for gr {name}, sha256 {digest}", file.display())?;
            }
            None => good = false,
        }
        say(&text)?;
    }
    Ok(good)
}

fn print_crd() -> Result<bool, Failure> {
    say(&serde_saphyr::to_string(&record::crd())?)?;
    Ok(true)
}
