//! The subcommands.

mod notify;
mod probe;
#[cfg(feature = "sandbox")]
mod sandbox;
mod validate;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api::auth::Mode;
use crate::api::limits::Limits;
use crate::app::{Service, ServiceDeps};
use crate::clock::Clock;
use crate::config::{Notify, ServeArgs, Subcommand};
use crate::metrics::Metrics;
use crate::{cluster, http, keeper, notifications, record, telemetry};

/// What ends a process early. Said once, by [`run`].
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs a subcommand to its end.
pub fn run(command: Subcommand) -> ExitCode {
    let result = match command {
        Subcommand::Serve(args) => {
            telemetry::start(&args.log, args.log_format, args.log_dir());
            open_as_many_files_as_may_be();
            block_on(serve(*args))
        }
        #[cfg(feature = "sandbox")]
        Subcommand::Sandbox(args) => {
            telemetry::start(&args.log, telemetry::LogFormat::Text, None);
            block_on(sandbox::run(args))
        }
        Subcommand::Validate { files } => return answer(validate::run(files)),
        Subcommand::Crd => return answer(print_crd()),
        Subcommand::Probe { url, insecure } => return answer(probe::run(&url, insecure)),
        Subcommand::Notify(Notify::Test { sink, file }) => return answer(notify::test(&file, &sink)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!(target: telemetry::FATAL, "{failure}");
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

/// Each node in work is watched over a connection of its own, and a thousand may be. Many systems let a process have
/// 1,024 open files, and as many more as it asks for.
fn open_as_many_files_as_may_be() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the number of open files stays as limited as it is");
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
    args.refuse_open()?;
    info!(server = %config.cluster_url, "serving cluster");
    if args.auth == Mode::None {
        warn!("authentication is disabled; use --auth kubernetes to enforce the cluster's RBAC");
    }
    let metrics = Metrics::default();
    let client = cluster::connect(config, metrics.clone())?;
    let mut settings = http::Settings::plain(metrics.clone());
    settings.connections = args.max_connections.into();
    if let Some(files) = args.tls() {
        let (current, reloading) = http::tls::open(files)?;
        settings.tls = Some(current);
        tokio::spawn(reloading);
    }
    let listener = listen(args.listen).await?;
    let keeper = match args.keeper() {
        Some((address, place)) => Some(keeper::Settings::new(listen(address).await?, place, &args.lease.0)),
        None => None,
    };
    let mut parts = ServiceDeps::new(client, Clock::system(), &args.blueprints, metrics);
    parts.lease = Some(args.lease());
    parts.notifications = args.notifications.map(|file| notifications::Settings::new(file, &args.lease));
    parts.own_node = args.node_name;
    parts.maintenance = args.maintenance;
    parts.auth = args.auth;
    parts.keeper = keeper;
    parts.limits = Limits { per_second: args.client_requests, hosts: args.host };
    until_stopped(parts, listener, settings, args.stop_delay).await
}

/// The first line says what is wrong; those after it draw the file.
fn unusable(kubeconfig: &Path, error: &KubeconfigError) -> String {
    format!("{}: {}", kubeconfig.display(), error.to_string().lines().next().unwrap_or_default())
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| format!("cannot listen on {address}: {e}").into())
}

/// Runs the service until a signal, or until one of its tasks ends. A second signal ends the process at once.
///
/// On a signal readiness goes and what is under way is finished; requests are still taken for `stop_delay`, while
/// the cluster's load balancing takes notice.
async fn until_stopped(
    parts: ServiceDeps,
    listener: TcpListener,
    settings: http::Settings,
    stop_delay: Duration,
) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let mut service = Service::start(parts).await;
    info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
    let mut server = tokio::spawn(http::serve(listener, service.router(), settings, stop.clone()));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let result = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        failed = service.failed() => Err(failed.into()),
        ended = &mut server => {
            ended?;
            Err("the HTTP server ended unexpectedly".into())
        }
    };
    info!("stopping");
    let end = async {
        tokio::join!(service.stop(), sleep(stop_delay));
        stop.cancel();
        // Its failure would be a panic, which has been said.
        let _ = tokio::join!(server, service.close());
    };
    tokio::select! {
        () = end => {}
        _ = term.recv() => warn!("told to stop a second time: ending at once"),
        _ = int.recv() => warn!("told to stop a second time: ending at once"),
    }
    result
}

fn print_crd() -> Result<bool, Failure> {
    say(&serde_saphyr::to_string(&record::crd())?)?;
    Ok(true)
}
