//! The command line and the environment: the only reader of both.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser};
use jiff::SignedDuration;

use crate::api::auth::Mode;
use crate::api::maintenance;
use crate::http::tls;
use crate::keeper::KeeperAddress;
use crate::record::maintenance::Maintenance;
use crate::telemetry::LogFormat;
use crate::{lease, random, telemetry};

/// Upgrades the Enflame GCU stack of a Kubernetes cluster without losing it.
///
/// Without a subcommand it serves, as v1.0.0 did.
#[derive(Debug, Parser)]
#[command(name = "gcu-upgrade-manager", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Subcommand>,
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
    pub fn command(self) -> Subcommand {
        self.command.unwrap_or(Subcommand::Serve(Box::new(self.serve)))
    }
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Subcommand {
    /// Serve against the cluster of the kubeconfig, or of the pod this runs in (the default)
    Serve(Box<ServeArgs>),
    /// Serve against an embedded cluster with simulated nodes and operator: nothing else needed
    #[cfg(feature = "sandbox")]
    Sandbox(SandboxArgs),
    /// Check blueprints offline: findings with file:line:column; exit code 1 if any is an error
    Validate {
        /// Files (.json, .yaml, .yml), directories of them, or - for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the CRD of the upgrade record, for clusters where the service may not install it
    Crd,
    /// GET a URL of this service, print the answer, and exit 0 if it is a success: for images without curl
    Probe {
        /// For example http://127.0.0.1:32765/readyz
        url: String,
        /// Do not check the certificate of an https URL
        #[arg(long)]
        insecure: bool,
    },
    /// Try a receiver of notifications
    #[command(subcommand)]
    Notify(Notify),
}

/// What to do with notifications.
#[derive(Debug, clap::Subcommand)]
pub enum Notify {
    /// Send a test to one sink and print what the receiver answers; exit code 1 if it does not take it
    Test {
        /// Name of the sink in the file
        #[arg(value_name = "SINK")]
        sink: String,
        /// The file that says whom to notify (YAML)
        #[arg(long = "notifications", env = "GUM_NOTIFICATIONS", value_name = "FILE")]
        file: PathBuf,
    },
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to serve HTTP on
    #[arg(long, env = "GUM_LISTEN", default_value = "0.0.0.0:32765", value_name = "ADDR", value_parser = address)]
    pub listen: SocketAddr,
    /// Directory of blueprints
    #[arg(
        long,
        env = "GUM_BLUEPRINTS",
        default_value = "/topsdata/dcp/gcu-upgrade-manager/blueprints",
        value_name = "DIR"
    )]
    pub blueprints: PathBuf,
    /// Directory of the operations log; `-`, or one that cannot be written: logs go to stdout alone
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
    /// Who may ask: everybody, or whoever the cluster's RBAC lets do the same to the gr (bearer token)
    #[arg(long, env = "GUM_AUTH", value_enum, default_value_t)]
    pub auth: Mode,
    /// Serve whoever reaches the address, though nobody is asked who they are (outside a pod, with --auth none)
    #[arg(long, env = "GUM_INSECURE_LISTEN", value_parser = BoolishValueParser::new())]
    pub insecure_listen: bool,
    /// Serve HTTPS with this certificate chain (PEM); read again when it changes
    #[arg(long, env = "GUM_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, env = "GUM_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve only clients with a certificate of these CAs (PEM); probes need none
    #[arg(long, env = "GUM_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Connections that may be open at once; beyond, an idle one gives way
    #[arg(
        long, env = "GUM_MAX_CONNECTIONS", default_value_t = 1000, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub max_connections: u16,
    /// Requests that one client address may make in a second, on average; 0: any number
    #[arg(long, env = "GUM_CLIENT_REQUESTS", default_value_t = 100, value_name = "N")]
    pub client_requests: u32,
    /// Host name under which browsers may come, beside addresses and localhost; may be given several times
    #[arg(long, env = "GUM_HOST", value_name = "NAME", value_delimiter = ',')]
    pub host: Vec<String>,
    /// The Lease that says which of several replicas acts
    #[arg(
        long, env = "GUM_LEASE", default_value = "kube-system/gcu-upgrade-manager",
        value_name = "NAMESPACE/NAME", value_parser = namespaced
    )]
    pub lease: (String, String),
    /// Name of this replica in the Lease, different for each; default: a random one
    #[arg(long, env = "GUM_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// Address to serve the keeper on, the admission webhook that keeps held DaemonSets as they are (HTTPS); default:
    /// none
    #[arg(long, env = "GUM_KEEPER_LISTEN", value_name = "ADDR", value_parser = address, requires = "keeper_place")]
    pub keeper_listen: Option<SocketAddr>,
    /// The Service, on port 443, under which the API server finds the keeper
    #[arg(
        long, env = "GUM_KEEPER_SERVICE", value_name = "NAMESPACE/NAME", value_parser = namespaced,
        group = "keeper_place", requires = "keeper_listen"
    )]
    pub keeper_service: Option<(String, String)>,
    /// The address under which the API server finds it, for a service outside the cluster: https://HOST:PORT
    #[arg(
        long, env = "GUM_KEEPER_URL", value_name = "URL", value_parser = KeeperAddress::url,
        group = "keeper_place", requires = "keeper_listen"
    )]
    pub keeper_url: Option<KeeperAddress>,
    /// Requests are still taken for so long after a signal to stop, for example 5s
    #[arg(long, env = "GUM_STOP_DELAY", default_value = "0s", value_name = "TIME", value_parser = duration)]
    pub stop_delay: Duration,
    /// Name of the node that this runs on; a rolling upgrade takes it last
    #[arg(long, env = "GUM_NODE_NAME", value_name = "NODE")]
    pub node_name: Option<String>,
    /// Maintenance windows of upgrades that name none, as `maintenance` in a request (JSON); default: none
    #[arg(long, env = "GUM_MAINTENANCE", value_name = "JSON", value_parser = maintenance::parse)]
    pub maintenance: Option<Maintenance>,
    /// Whom to notify of upgrades (YAML); read again when it changes; default: nobody
    #[arg(long, env = "GUM_NOTIFICATIONS", value_name = "FILE")]
    pub notifications: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, off, or levels by target
    #[arg(long, env = "GUM_LOG", default_value = "info", value_name = "FILTER", value_parser = telemetry::filter)]
    pub log: String,
    /// How log lines look on stdout; the operations log is always text
    #[arg(long, env = "GUM_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

impl ServeArgs {
    /// The directory of the operations log, if there is to be one.
    pub fn log_dir(&self) -> Option<&Path> {
        Some(self.log_dir.as_path()).filter(|dir| dir.as_os_str() != "-")
    }

    /// The files of TLS, if it is wanted.
    pub fn tls(&self) -> Option<tls::Files> {
        Some(tls::Files {
            certificate: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
            client_ca: self.tls_client_ca.clone(),
        })
    }

    /// Where the keeper listens and is found, if there is to be one.
    pub fn keeper(&self) -> Option<(SocketAddr, KeeperAddress)> {
        let service = self.keeper_service.clone();
        let service = service.map(|(namespace, name)| KeeperAddress::Service { namespace, name });
        Some((self.keeper_listen?, service.or_else(|| self.keeper_url.clone())?))
    }

    /// Refuses to serve other machines without asking who they are, unless that is said. In a pod it is what v1.0.0
    /// did, and the chart says it.
    ///
    /// # Errors
    /// What to say instead.
    pub fn refuse_open(&self) -> Result<(), String> {
        let asks = self.auth != Mode::None || self.tls_client_ca.is_some();
        if asks || self.insecure_listen || self.listen.ip().is_loopback() || in_pod() {
            return Ok(());
        }
        Err(format!(
            "refusing to serve {}: other machines reach this address, and without authentication whoever does can \
             upgrade and delete; give --listen 127.0.0.1:{} to serve this machine alone, --auth kubernetes to let the \
             cluster's RBAC decide, or --insecure-listen to serve everybody all the same",
            self.listen,
            self.listen.port()
        ))
    }

    /// The Lease and who we are in it.
    pub fn lease(&self) -> lease::Settings {
        let (namespace, name) = self.lease.clone();
        let identity = self.pod_name.clone().unwrap_or_else(random::name);
        lease::Settings { namespace, name, identity }
    }
}

/// Flags of `sandbox`.
#[cfg(feature = "sandbox")]
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Address to serve HTTP on
    #[arg(long, env = "GUM_LISTEN", default_value = "127.0.0.1:32765", value_name = "ADDR", value_parser = address)]
    pub listen: SocketAddr,
    /// Directory of blueprints; default: the shipped ones
    #[arg(long, env = "GUM_BLUEPRINTS", value_name = "DIR")]
    pub blueprints: Option<PathBuf>,
    /// Address for kubectl; port 0 takes a free one
    #[arg(long, env = "GUM_KUBE_LISTEN", default_value = "127.0.0.1:0", value_name = "ADDR", value_parser = address)]
    pub kube_listen: SocketAddr,
    /// Write a kubeconfig for the embedded cluster here
    #[arg(long, env = "GUM_KUBECONFIG_OUT", value_name = "FILE")]
    pub kubeconfig_out: Option<PathBuf>,
    /// Number of simulated GCU nodes
    #[arg(
        long, env = "GUM_NODES", default_value_t = 3, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=5000)
    )]
    pub nodes: u16,
    /// Number of simulated users: pods on the first nodes that hold a GCU and have to leave during a drain
    #[arg(long, env = "GUM_TENANTS", default_value_t = 0, value_name = "N")]
    pub tenants: u16,
    /// Number of simulated training jobs: each is on two nodes and restarted as a whole. The nodes are then in three
    /// zones, and every fifth has an older kernel
    #[arg(long, env = "GUM_JOBS", default_value_t = 0, value_name = "N")]
    pub jobs: u16,
    /// Images whose reference contains this cannot be pulled
    #[arg(long, env = "GUM_BAD_IMAGE", default_value = "broken", value_name = "TEXT")]
    pub bad_image: String,
    /// How long a simulated pod takes to be ready, for example 2s or 500ms
    #[arg(long, env = "GUM_POD_START", default_value = "2s", value_name = "TIME", value_parser = duration)]
    pub pod_start: Duration,
    /// The gr to start with, instead of the documented one
    #[arg(long, env = "GUM_GR", value_name = "FILE")]
    pub gr: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, off, or levels by target
    #[arg(long, env = "GUM_LOG", default_value = "info", value_name = "FILTER", value_parser = telemetry::filter)]
    pub log: String,
}

pub(crate) fn namespaced(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(format!("{text:?} is not of the form NAMESPACE/NAME")),
    }
}

/// Whether Kubernetes runs this process.
#[expect(clippy::disallowed_methods, reason = "this module is the one place that reads the environment")]
fn in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// `IP:PORT`; `localhost` is the loopback address.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    if let Some(port) = port {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        format!(
            "{text:?} is not of the form IP:PORT: give for example 127.0.0.1:32765 or localhost:32765 (this machine \
             alone), 0.0.0.0:32765 or [::]:32765 (all addresses)"
        )
    })
}

/// Whether whoever starts a program wants no colours: see no-color.org.
#[expect(clippy::disallowed_methods, reason = "this module is the one place that reads the environment")]
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// `5s`, `500ms`, or plain seconds as `?wait` takes them.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let parsed: SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is not a duration such as 5s, 500ms or 5 (seconds)"))?;
    Duration::try_from(parsed).map_err(|_| "a duration cannot be negative".to_owned())
}
