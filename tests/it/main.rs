//! The one test binary: see the modules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod actors;
mod against_a_real_cluster;
mod apiserver;
mod blueprint;
mod catalog;
mod cli;
mod conformance;
mod crashes;
mod faults;
mod garbage;
mod house;
mod kill;
mod kube;
mod kubectl;
mod openapi;
mod oracle;
mod plan;
mod readme;
mod rest;
mod scenario;
mod scenarios;
mod skip;
mod stage;
