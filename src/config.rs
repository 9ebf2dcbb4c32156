//! The command line and the environment: the only reader of both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;

/// Upgrades the Enflame GCU stack of a Kubernetes cluster without losing it.
///
/// Without a subcommand it serves, as v1.0.0 did.
#[derive(Debug, Parser)]
#[command(name = "gcu-upgrade-manager", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `serve`, also without naming it.
    #[command(flatten)]
    pub serve: ServeArgs,
}

impl Cli {
    /// Reads the command line and the environment; on a mistake prints what is wrong and ends the process.
    pub fn read() -> Self {
        Self::parse()
    }

    /// The command, `serve` when none is named.
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve against the cluster of the kubeconfig, or of the pod this runs in (the default)
    Serve(ServeArgs),
    /// Serve against an embedded cluster with simulated nodes and operator: nothing else needed
    Sandbox(SandboxArgs),
    /// Check blueprint files offline: findings with file:line:column; exit code 1 if any is an error
    Validate {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the CRD of the upgrade record, for clusters where the service may not install it
    Crd,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to serve HTTP on
    #[arg(long, env = "GUM_LISTEN", default_value = "0.0.0.0:32765", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Directory of blueprints
    #[arg(
        long,
        env = "GUM_BLUEPRINTS",
        default_value = "/topsdata/dcp/gcu-upgrade-manager/blueprints",
        value_name = "DIR"
    )]
    pub blueprints: PathBuf,
    /// Directory of the operations log; if it cannot be written, logs go to stdout alone
    #[arg(
        long,
        env = "GUM_LOG_DIR",
        default_value = "/topsdata/dcp/gcu-upgrade-manager/op-log",
        value_name = "DIR"
    )]
    pub log_dir: PathBuf,
    /// Kubeconfig file; default: $KUBECONFIG, ~/.kube/config, or the pod's service account
    #[arg(long, env = "GUM_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the node that this runs on; a rolling upgrade takes it last
    #[arg(long, env = "GUM_NODE_NAME", value_name = "NODE")]
    pub node_name: Option<String>,
    /// What to log: error, warn, info, debug, trace, or tracing's filter form
    #[arg(long, env = "GUM_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// Flags of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Address to serve HTTP on
    #[arg(long, env = "GUM_LISTEN", default_value = "127.0.0.1:32765", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Directory of blueprints; default: the shipped ones
    #[arg(long, env = "GUM_BLUEPRINTS", value_name = "DIR")]
    pub blueprints: Option<PathBuf>,
    /// Address for kubectl; port 0 takes a free one
    #[arg(long, env = "GUM_KUBE_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub kube_listen: SocketAddr,
    /// Write a kubeconfig for the embedded cluster here
    #[arg(long, env = "GUM_KUBECONFIG_OUT", value_name = "FILE")]
    pub kubeconfig_out: Option<PathBuf>,
    /// Number of simulated GCU nodes
    #[arg(long, env = "GUM_NODES", default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub nodes: u16,
    /// Number of simulated users: pods on the first nodes that hold a GCU and have to leave during a drain
    #[arg(long, env = "GUM_TENANTS", default_value_t = 0, value_name = "N")]
    pub tenants: u16,
    /// Images whose reference contains this cannot be pulled
    #[arg(long, env = "GUM_BAD_IMAGE", default_value = "broken", value_name = "TEXT")]
    pub bad_image: String,
    /// How long a simulated pod takes to be ready, for example 2s or 500ms
    #[arg(long, env = "GUM_POD_START", default_value = "2s", value_name = "TIME", value_parser = duration)]
    pub pod_start: Duration,
    /// The gr to start with, instead of the documented one
    #[arg(long, env = "GUM_GR", value_name = "FILE")]
    pub gr: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or tracing's filter form
    #[arg(long, env = "GUM_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration such as 2s or 500ms"))?;
    Duration::try_from(parsed).map_err(|_| "a duration cannot be negative".to_owned())
}
