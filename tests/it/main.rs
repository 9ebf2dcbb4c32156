//! The one test binary: see the modules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod access;
mod actors;
mod against_a_real_cluster;
mod apiserver;
mod blueprint;
mod catalog;
mod chart;
mod cli;
mod conformance;
mod connections;
mod crashes;
mod faults;
mod garbage;
mod house;
mod installed;
mod kill;
mod kube;
mod kubectl;
mod lease;
mod metrics;
mod openapi;
mod oracle;
mod outages;
mod plan;
mod process;
mod readme;
mod rest;
mod scenario;
mod scenarios;
mod scripts;
mod skip;
mod stage;
