//! Parses the command line, sets up telemetry, runs one subcommand.

use std::process::ExitCode;

use gcu_upgrade_manager::config::Cli;
use gcu_upgrade_manager::run;

fn main() -> ExitCode {
    run::run(Cli::read().command())
}
