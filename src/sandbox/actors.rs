//! Everything that makes a cluster live: ordinary clients of the API, each on its own.

pub mod daemonsets;
pub mod deployments;
pub mod garbage;
pub mod jobs;
pub mod kubelet;
pub mod operator;

mod fit;
mod queue;
