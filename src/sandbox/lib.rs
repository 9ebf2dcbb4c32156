//! A cluster in the process.
//!
//! [`apiserver`] is a Kubernetes API over an in-memory [`store`]: handed straight to a `kube::Client` in
//! tests, or served on a socket so that `kubectl` works against it. Everything else that makes a cluster
//! live (operator, controllers, kubelets, people) is an ordinary client of that API: the [`actors`] never touch
//! the store, they race like real ones, and they live on a real API server just as well. A [`world`] puts
//! them together.
//!
//! Nothing here knows how the product decides: a sandbox that shared code with it would agree with its bugs.

pub mod actors;
pub mod apiserver;
pub mod store;
pub mod world;

mod json;
mod resources;

/// The label that tells the nodes of one world from those of another in a cluster that they share.
pub const WORLD_LABEL: &str = "sandbox.enflame.com/world";
