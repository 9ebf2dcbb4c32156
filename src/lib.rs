//! gcu-upgrade-manager: upgrades the Enflame GCU stack of a Kubernetes cluster without losing it.
//!
//! # The way through the house
//!
//! ```text
//! blueprints/*  ─► blueprint ─┐                    (watched directory, last good set)
//! HTTP          ─► api ───────┴─► GcuUpgrade.spec  (target and previous manifest pinned inside)
//!                                       │ watch
//!             store ─►  controller: observe ─► Snapshot ─► plan::decide ─► Decision
//!                                                            ├─ Act    ─► one idempotent API call
//!                                                            ├─ Record ─► GcuUpgrade.status
//!                                                            └─ Wait   ─► GcuUpgrade.status, what for and since when
//! GcuUpgrade.status ─► api ─► HTTP
//! ```
//!
//! # Rooms
//!
//! | room | what |
//! | --- | --- |
//! | [`config`], [`run`] | command line and environment; the subcommands |
//! | [`telemetry`], [`metrics`] | logs; what is counted |
//! | [`app`], [`http`] | composition, readiness and the orderly end; the accept loop |
//! | [`lease`] | which of several replicas acts |
//! | [`api`] | every route on one screen; writes records' `spec` |
//! | [`blueprint`] | files parsed, checked, hashed; the watched directory |
//! | [`gr`] | the GcuResource as it is served: components, workloads, what an edit means |
//! | [`observe`] | what the cluster says, as small values |
//! | [`store`] | what watches have shown of it: one watch for each kind, shared by upgrades and readers |
//! | [`record`] | the `GcuUpgrade` resource and its CRD |
//! | [`plan`] | the decision core: pure, without I/O and clock |
//! | [`ui`] | the page for people: from what was read to HTML, pure; its style and its script |
//! | [`explain`] | the plan, progress, why it is not progressing: pure; beside the core, which does not know it |
//! | [`controller`] | one worker for each active record: observe, decide, act or record; writes `status` |
//! | [`frame`] | tables, trees and bars for people: pure; answers in, text out |
//! | [`cli`] | `kubectl gcu-upgrade`, a binary of its own: the routes of `api` in the person's process, or at a URL |
//! | [`keeper`] | the admission webhook that keeps held DaemonSets at `OnDelete`, its certificate, its installation |
//! | [`notifications`] | events read off records, told to chat groups, webhooks, Alertmanager; nothing waits for it |
//! | [`cluster`] | the API client with deadlines; the loops that install the CRD and discover the gr's API group |
//! | [`clock`], [`random`] | the only source of time (crate `src/clock`), names that nobody else has |
//! | [`sandbox`] | crate `src/sandbox`: a cluster in the process with API server, operator, controllers, kubelets |
//!
//! # Invariants (`tests/it/house.rs` and the oracle in `tests/it/oracle.rs` check them)
//!
//! * One writer a field: the API and people write a record's `spec`, the controller its `status`.
//! * `api` and `controller` never import each other: the cluster is their only channel.
//! * `plan` imports neither kube's client nor tokio nor axum. The sandbox is a crate of its own that knows nothing of
//!   the engine, or it would agree with our bugs.
//! * No room uses one that uses it. Within a room a file may use what the room's own file (`plan.rs` of `plan/`) says:
//!   the vocabulary that all of its files share.
//! * A handler gets at the cluster through a permission alone (`api/auth.rs`): one without does not compile.
//! * Only [`config`] reads the environment (and [`cli`], the variables that stand for its flags), only [`clock`] the
//!   time; no `unwrap`, `expect` or `panic`.
//! * Both manifests are in the record before the delete is sent; only a gr whose UID is in the record is deleted.
//! * Intent is recorded before any effect; a reconcile makes one decision; a final status never changes.
//! * Before the gr is changed in place, in either direction, every DaemonSet of it is pinned by UID ([`plan::pins`]),
//!   held at OnDelete, and seen held. It is let go of only when no pod is outdated ([`plan::hold`]), by one loop
//!   (`controller/holds.rs`), however the upgrade ended and also without a record.
//!
//! # Where this differs from the first design, and why
//!
//! * Watches are open while somebody uses them: an idle service watches records, grs and DaemonSets, and what a
//!   Recreate costs the API server is a constant. Pods are watched by the labels of the gr's components; those of
//!   users only on nodes in work, each from when it is seen to carry the claim. Whoever asks for a plan or for the
//!   page has all pods watched, for a minute: that explains, and what is accepted is decided on a look of its own.
//! * A watch begins with what is there now where the API server offers that ([`cluster::streaming`]), never with what
//!   one of several API servers remembers: a pod that was bound just before its node was cordoned must not be missing.
//! * Views (what watches have seen) only wake up and explain. When they call for something, the gr and its workloads
//!   are read and the decision is taken again on that reading. Nodes and pods are thousands: they are listed once,
//!   and what is done to one is guarded by its version or UID. Nothing is decided about them before that list is
//!   complete.
//! * A held step is still watched and goes on when its obstacle is gone: a hold in the middle of a Recreate must not
//!   keep the stack down.
//! * A RollingUpdate decides on views while nodes are in work, and on live reads at every change of step: each of its
//!   calls is guarded by the version of the node or DaemonSet that was looked at, or by a pod's UID, and its claims
//!   by the record's version; reading thousands of nodes for each step of each node would cost more than it tells.
//!   Before a claim is dropped its node is read once more.
//! * A decision works out only what has changed since the one before ([`plan::memo`]), of a fleet that is kept up to
//!   date by what watches show ([`store::Sight`]). Both change what a decision costs and never what it is: a build
//!   for tests compares every decision with one that looks at everything.
//! * A gr or a record is shown from what its watch has shown, never older than what this process has written or told.
//!   Where the watch is not known to be in sync, and where there is no such object, the API server is asked. Whatever
//!   decides reads records from the API server.
//! * Before the gr is changed, a harmless component is changed and changed back ([`record::Step::Probing`]): under
//!   OnDelete this restarts nothing, and finds out operators that recreate their DaemonSets, ignore changes, or write
//!   their own update strategy. For the last there is the [`keeper`]; without it they are refused.
//! * All DaemonSets of the gr are held, not only those that change: nobody but the operator knows which of them a
//!   change restarts. The DaemonSets of a gr are let go of together, for the same reason.
//! * Holding writes the goal on each DaemonSet: an upgrade that turns back writes to all of them before it changes the
//!   gr, so that a release that was still on its way carries an older version and fails.
//! * What is outdated is what the pods say: a pod whose `controller-revision-hash` is not that of its DaemonSet's
//!   newest ControllerRevision. Pods belong to the DaemonSet in their owner references.
//! * A component that is removed, or a harmless one that moves, comes and goes on all nodes at once; the plan says so.
//! * A node that fails stays cordoned and claimed, and the upgrade is held: no end leaves a cordon behind.
//! * Which replica acts is decided by client-go's algorithm, written out in [`lease`]: the crates for it compare
//!   another machine's times with ours. It saves work; what keeps writes safe are UIDs and versions.
//! * Maintenance windows are minded before the first step and before each node ([`plan::maintenance`]), in time zones
//!   that are in the program; on the way back they are not. How long a node takes is in the record from the
//!   beginning: what fits into a window is decided without a look at other records.
//! * The canary that tries every class of nodes is chosen once ([`plan::coverage`]) and kept in the record: what is
//!   tried does not change with what is idle.
//! * Nodes with pods of one gang ([`plan::gangs`]) are claimed in one write and cordoned before its first pod is
//!   evicted. Which they are is known from a list of all pods that may be old; after the claim each gang's own pods are
//!   read, and what is not known then is waited for.
//! * A service that was ready stays so while the API server is away: a caller who is answered 503 with the reason is
//!   better off than one whose connection is refused.
//! * The command line runs the routes of `api` in its own process, with the person's client in the place of the
//!   service's: a second implementation of every check would drift from the first. It asks for no more than the
//!   routes do.
//! * The description of the API stands in tables beside the routes, and the types of answers describe themselves. What
//!   a crate for it would add are macros on every handler.
//! * A rollback that finds the old gr alive *fences* it (see [`plan::GrAction::Fence`]): a delete that is still on its
//!   way carries the older version as its precondition and can no longer land.

pub use gcu_clock as clock;
#[cfg(feature = "sandbox")]
pub use gcu_sandbox as sandbox;

pub mod api;
pub mod app;
pub mod blueprint;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod controller;
pub mod explain;
pub mod frame;
pub mod gr;
pub mod http;
pub mod keeper;
pub mod lease;
pub mod metrics;
pub mod notifications;
pub mod observe;
pub mod plan;
pub mod random;
pub mod record;
pub mod run;
pub mod store;
pub mod telemetry;
pub mod ui;
