//! The product's measures, printed by `cargo bench`. `cargo bench -- calls` prints one group of them, and
//! `cargo bench -- looks 15000` that of looks at so many nodes; so do `memory`, `real` and `fifteen`.
//!
//! Nothing here is a test: times depend on the machine, so they are printed and never asserted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod calls;
mod decision;
mod fifteen;
mod http;
#[expect(dead_code, reason = "the tests, whose it is, use all of it")]
#[path = "../it/kube.rs"]
mod kube;
mod latency;
mod looks;
mod process;
mod reaction;
mod real;
mod rolling;
#[path = "../it/skip.rs"]
mod skip;
mod table;

use std::path::Path;

use gcu_upgrade_manager::app::ServiceDeps;
use gcu_upgrade_manager::blueprint::catalog::Watching;
use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::metrics::Metrics;

fn main() {
    // Cargo adds `--bench`.
    let wanted = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let (sizes, wanted): (Vec<String>, Vec<String>) = wanted.partition(|a| a.parse::<usize>().is_ok());
    let size = sizes.first().and_then(|size| size.parse().ok());
    let runs = |group: &str| wanted.is_empty() || wanted.iter().any(|w| w == group);
    if runs("process") {
        process::print();
    }
    if runs("calls") {
        calls::print();
    }
    if runs("rolling") {
        rolling::print();
    }
    if wanted.iter().any(|w| w == "fifteen") {
        // Takes minutes and gigabytes: only where it is asked for.
        fifteen::print(size.unwrap_or(fifteen::NODES));
    }
    if runs("decision") {
        decision::print();
    }
    if runs("reaction") {
        reaction::print();
    }
    if runs("http") {
        http::print();
    }
    if runs("requests") {
        http::print_requests();
    }
    if runs("memory") {
        process::print_rolling(size.unwrap_or(process::LARGE));
    }
    if runs("real") {
        real::print(size);
    }
    if runs("looks") {
        looks::print(size.unwrap_or(looks::NODES));
    }
    if runs("latency") {
        latency::print();
    }
}

/// A service without a Lease, which looks at its blueprints every now and then.
fn parts(client: ::kube::Client, clock: Clock, blueprints: &Path) -> ServiceDeps {
    let mut parts = ServiceDeps::new(client, clock, blueprints, Metrics::default());
    parts.watching = Watching::Polling;
    parts
}
