//! `kubectl gcu-upgrade`: see [`gcu_upgrade_manager::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gcu_upgrade_manager::cli::run()
}
