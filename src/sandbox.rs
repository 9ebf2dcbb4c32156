//! A cluster in the process.
//!
//! [`apiserver`] is a Kubernetes API over an in-memory [`store`]: handed straight to a `kube::Client` in
//! tests, or served on a socket so that `kubectl` works against it. Everything else that makes a cluster
//! live (operator, controllers, kubelets, people) is an ordinary client of that API: the actors never touch
//! the store, they race like real ones, and they live on a real API server just as well. A [`world`] puts
//! them together.
//!
//! Nothing here knows how the product decides: a sandbox that shared code with it would agree with its bugs.

pub mod apiserver;
pub mod daemonsets;
pub mod deployments;
pub mod garbage;
pub mod kubelet;
pub mod operator;
pub mod store;
pub mod world;

mod actor;
mod admission;
mod columns;
mod crd;
mod create;
mod defaults;
mod delete;
mod discovery;
mod disruption;
mod fit;
mod json;
mod jsonpath;
mod openapi;
mod output;
mod patch;
mod pods;
mod read;
mod request;
mod resources;
mod schema;
mod selector;
mod status;
mod strategic;
mod table;
mod update;
mod validate;
mod watch;
mod webhooks;

/// The label that tells the nodes of one world from those of another in a cluster that they share.
pub const WORLD_LABEL: &str = "sandbox.enflame.com/world";
