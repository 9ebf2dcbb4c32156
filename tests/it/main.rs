//! The one test binary: see the modules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod access;
mod actors;
mod admission;
mod against_a_real_cluster;
mod apiserver;
mod blueprint;
mod catalog;
mod chart;
mod cli;
mod client;
mod conformance;
mod connections;
mod contact;
mod crashes;
mod dice;
mod executable;
mod faults;
mod frames;
mod garbage;
mod harness;
mod house;
mod installed;
mod keeper;
mod kill;
mod kube;
mod kubectl;
mod lease;
mod metrics;
mod notifications;
mod openapi;
mod oracle;
mod outages;
mod people;
mod plan;
mod process;
mod readme;
mod record;
mod rest;
mod retries;
mod scenario;
mod scenarios;
mod scripts;
mod skip;
mod ui;
mod worlds;
