//! What is typed. Values of an upgrade's options go to the service as they are: it checks them, in one place.

mod how;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::output::Form;

pub(super) use how::How;

/// Looks at and steers upgrades of the Enflame GCU stack.
///
/// Works with your own kubeconfig and rights, also when gcu-upgrade-manager is away: then it says so. With --server it
/// asks the service instead.
#[derive(Debug, Parser)]
#[command(name = "kubectl-gcu_upgrade", bin_name = "kubectl gcu-upgrade", version)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 wait over, the upgrade goes on, \
    5 not legal now, 6 not allowed, 7 unreachable, 8 held, 9 paused or awaiting promotion, 10 rolled back, \
    20/21 plan --exit-code: changes, changes with risks not accepted, 130 detached"
)]
pub(super) struct Cli {
    /// Where to, and how it looks.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where to, and how it looks.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct Global {
    /// The gr; may be left out where there is one only
    #[arg(long, global = true, value_name = "NAME")]
    pub gr: Option<String>,
    /// Ask the service at this URL instead of the cluster
    #[arg(long, global = true, env = "GUM_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// Bearer token for --server
    #[arg(
        long,
        global = true,
        env = "GUM_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        requires = "server"
    )]
    pub token: Option<String>,
    /// CA certificates that --server is trusted by (PEM)
    #[arg(long, global = true, value_name = "FILE", requires = "server")]
    pub ca: Option<PathBuf>,
    /// Do not check the certificate of --server
    #[arg(long, global = true, requires = "server")]
    pub insecure: bool,
    /// Kubeconfig file; default: $KUBECONFIG, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "server")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; default: the current one
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "server")]
    pub context: Option<String>,
    /// The Lease that says which replica of the service acts
    #[arg(
        long, global = true, value_name = "NAMESPACE/NAME",
        default_value = "kube-system/gcu-upgrade-manager", value_parser = crate::config::namespaced
    )]
    pub lease: (String, String),
    /// table, wide, json, yaml, name or jsonpath=TEMPLATE
    #[arg(short, long, global = true, value_name = "FORM", default_value = "table", value_parser = Form::parse)]
    pub output: Form,
    /// No colours
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List upgrades, or show one
    Get {
        /// The upgrade
        name: Option<String>,
    },
    /// Show what an upgrade would do; nothing is changed
    Plan {
        /// To what, and how.
        #[command(flatten)]
        job: Box<Job>,
        /// Exit with 20 if something would change, with 21 if there are risks that are not accepted
        #[arg(long)]
        exit_code: bool,
        /// Name every node
        #[arg(long)]
        all: bool,
    },
    /// Upgrade to a blueprint, or to another version of a component
    Upgrade {
        /// To what, and how.
        #[command(flatten)]
        job: Box<Job>,
        /// What to ask, and what to wait for.
        #[command(flatten)]
        run: Run,
    },
    /// Show how far an upgrade is; the one under way, or the last
    Status {
        /// The upgrade
        name: Option<String>,
        /// Watch it to its end
        #[arg(short, long)]
        watch: bool,
        /// Name every node in work
        #[arg(long)]
        all: bool,
    },
    /// Explain why the upgrade, or one node, is not getting on
    Why {
        /// The node
        node: Option<String>,
    },
    /// Show which version runs on every node, or on one
    Nodes {
        /// The node
        node: Option<String>,
    },
    /// Take no further node; nodes whose pods are being replaced are finished
    Pause(Steer),
    /// Go on after a pause
    Resume(Steer),
    /// Let the next step begin
    Promote(Steer),
    /// Put the previous version back wherever it was replaced
    Cancel(Steer),
    /// End the upgrade here, with the present state accepted
    Close(Steer),
    /// Go back to an earlier version: turns a running upgrade back, or starts a new one
    Rollback {
        /// The revision; default: what the last upgrade replaced
        #[arg(long, value_name = "N")]
        to_revision: Option<u64>,
        /// How.
        #[command(flatten)]
        how: Box<How>,
        /// What to ask, and what to wait for.
        #[command(flatten)]
        run: Run,
    },
    /// Give a held step, or a node that is stuck or left out, another try; or begin a failed upgrade once more
    Retry {
        /// The node
        node: Option<String>,
        /// What to ask, and what to wait for.
        #[command(flatten)]
        run: Run,
    },
    /// Leave a node out; one in work is released as it is
    Skip {
        /// The node
        node: String,
        /// Why; kept in the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// The node stays cordoned
        #[arg(long)]
        keep_cordon: bool,
        /// What to ask.
        #[command(flatten)]
        steer: Steer,
    },
    /// List the revisions of the gr, show one, or compare two
    History {
        /// The revision
        revision: Option<u64>,
        /// Compare it with this one
        #[arg(long, value_name = "M", requires = "revision")]
        diff: Option<u64>,
    },
    /// Wait until an upgrade has come somewhere
    Wait {
        /// The upgrade; default: the one under way, or the last
        name: Option<String>,
        /// succeeded, finished, held, paused or acknowledged
        #[arg(
            long = "for",
            value_enum,
            ignore_case = true,
            value_name = "STATE",
            default_value = "succeeded"
        )]
        until: Until,
        /// For so long, for example 30m; default: as long as it takes
        #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Find what this installation lacks, and say how to mend it
    Doctor,
    /// Show the versions of this command, of the service, and around them
    Version,
    /// Print the completion of a shell
    Completion {
        /// bash, zsh or fish
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(hide = true)]
    Man,
    /// What kubectl_complete-gcu_upgrade is answered
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete {
        /// The words so far; the last is being typed
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// To what, and how.
#[derive(Debug, Args)]
pub(super) struct Job {
    /// A blueprint of your own; - for standard input
    #[arg(short, long, value_name = "FILE", conflicts_with = "blueprint")]
    pub file: Option<PathBuf>,
    /// A blueprint of the service's
    #[arg(long, value_name = "NAME")]
    pub blueprint: Option<String>,
    /// A component's version; may be given several times
    #[arg(long, value_name = "COMPONENT.version=X", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Only these components; those that depend on them restart too
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub components: Vec<String>,
    /// How.
    #[command(flatten)]
    pub how: How,
}

/// What to ask, and what to wait for.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Run {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Watch it to its end
    #[arg(short, long)]
    pub watch: bool,
}

/// What to ask.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Steer {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What an upgrade is waited for to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Until {
    /// The target runs
    Succeeded,
    /// It has ended, however
    Finished,
    /// A person has to look
    Held,
    /// No node is in work, and a person has to let it go on
    Paused,
    /// The service has taken the last change of the request into account
    Acknowledged,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, value)) if !field.is_empty() && !value.is_empty() => {
            Ok((field.to_owned(), value.to_owned()))
        }
        _ => Err("not of the form driver.version=1.3.0".to_owned()),
    }
}
