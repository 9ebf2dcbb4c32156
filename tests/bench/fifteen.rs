//! RollingUpdate of a cluster of 15,000 nodes with 540,000 pods, in virtual time.

use std::time::Duration;

use gcu_upgrade_manager::sandbox::store::Store;
use serde_json::json;

use crate::calls::in_virtual_time;
use crate::process::TICKS;
use crate::rolling::{Setting, Tenants, measure};
use crate::table::{self, row};

/// Nodes, unless the command line says another number.
pub(crate) const NODES: usize = 15_000;
/// At once, a fifteenth of them.
const AT_ONCE: usize = 15;
/// Pods of users on each node, and how many of them hold a GCU.
const ON_A_NODE: usize = 30;
const WITH_GCU: usize = 6;
/// Components whose pods are on each node.
const COMPONENTS: usize = 6;

/// Puts the pods of users on every node, before anybody looks. They are of a ReplicaSet that makes no others: those
/// that have to leave are gone.
pub(crate) fn fill(store: &Store, nodes: usize) {
    let labels = json!({ "app": "train" });
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "train", "uid": "train", "controller": true,
    });
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": "train", "namespace": "default", "uid": "train", "generation": 1 },
        "spec": { "replicas": nodes * ON_A_NODE, "selector": { "matchLabels": labels } },
    });
    store.fill("apps", "replicasets", [set]);
    let places = (1..=nodes).flat_map(|node| (0..ON_A_NODE).map(move |pod| (node, pod)));
    let pod = |(node, pod): (usize, usize)| {
        let resources = match pod < WITH_GCU {
            true => json!({ "limits": { "enflame.com/gcu": "1" } }),
            false => json!({}),
        };
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("train-{node}-{pod}"), "namespace": "default", "labels": labels,
                "ownerReferences": [owner],
            },
            "spec": {
                "nodeName": format!("node-{node}"), "terminationGracePeriodSeconds": 30,
                "containers": [{ "name": "c", "image": "train:1", "resources": resources }],
            },
            "status": {
                "phase": "Running",
                "conditions": [{
                    "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            },
        })
    };
    store.fill("", "pods", places.map(pod));
}

/// CPU seconds of this process, and the most memory that it has had, in MiB.
fn usage() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap_or_default();
    ((ticks(11) + ticks(12)) / TICKS, kib / 1024.0)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

pub(crate) fn print(nodes: usize) {
    let at_once = (nodes / AT_ONCE).max(1);
    let run = in_virtual_time(measure(Setting { nodes, at_once, tenants: Tenants::Everywhere }));
    let (cpu, peak) = usage();
    let of = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row(&["measure", "value"]),
        of("nodes, at once", format!("{nodes}, {at_once}")),
        of("component pods, pods of users", format!("{}, {}", nodes * COMPONENTS, nodes * ON_A_NODE)),
        of("pods that were evicted", run.evictions.to_string()),
        of("took (virtual time)", seconds(run.took)),
        of("ideal window", seconds(run.ideal)),
        of("efficiency, against the world's own times", {
            format!("{:.3}", run.ideal.as_secs_f64() / run.took.as_secs_f64())
        }),
        of("efficiency, as the status tells it", format!("{:.3}", run.told)),
        of("from the request to the first cordon (virtual time)", seconds(run.started.0)),
        of("the same, real time, the sandbox's own in it", seconds(run.started.1)),
        of("calls per node beside evictions and swapped pods", format!("{:.2}", run.calls_per_node())),
    ];
    for (name, count) in &run.calls {
        rows.push(of(&format!("{name}, per node"), format!("{:.2}", *count as f64 / run.nodes as f64)));
    }
    rows.extend([
        of("largest record", format!("{} KiB", run.record_bytes / 1024)),
        of("real time to fill the cluster, and to roll it", {
            format!("{}, {}", seconds(run.real.0), seconds(run.real.1))
        }),
        of("CPU time of the sandbox and the service, all in all", format!("{cpu:.0} s")),
        of("most memory of both", format!("{peak:.0} MiB")),
    ]);
    table::print(&format!("RollingUpdate of {nodes} nodes in virtual time"), &rows);
}
