//! What must hold of nodes, pods and DaemonSets at every change of any of them, in the order in which the API
//! server made the changes.

mod replay;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{Entry, Log, follow, list, uid};
use crate::faults::Call;

/// Written by an admin of the scenarios in one patch with a cordon.
pub(super) const ADMIN: &str = "example.com/admin";
const GCU: &str = "enflame.com/gcu";

/// Everything that was seen.
pub(super) struct Logs {
    pub(super) nodes: Log,
    pub(super) pods: Log,
    pub(super) sets: Log,
}

/// What the service did, for a scenario to compare.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Nodes that were cordoned by us, or lost a pod of the gr by us.
    pub(crate) touched: BTreeSet<String>,
    /// Nodes in the order in which they were claimed first.
    pub(crate) order: Vec<String>,
    /// Users' pods (by their controller, or else their own name) that we evicted or deleted.
    pub(crate) evicted: BTreeSet<String>,
    /// How many of users' pods these were.
    pub(crate) evictions: usize,
    /// The DaemonSets of which we deleted pods.
    pub(crate) replaced: BTreeSet<String>,
    /// The most nodes that were down at once because of us.
    pub(crate) together: usize,
    /// How often we cordoned a node.
    pub(crate) cordons: usize,
    /// How often at most the deletion of one pod was asked for.
    pub(crate) deletes_each: usize,
}

impl Logs {
    pub(super) async fn start(client: &Client, prefix: &str) -> (Self, Vec<JoinHandle<()>>) {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}-") };
        let logs = Self { nodes: Log::default(), pods: Log::default(), sets: Log::default() };
        let nodes: Api<Node> = Api::all(client.clone());
        let pods: Api<Pod> = Api::all(client.clone());
        let sets: Api<DaemonSet> = Api::all(client.clone());
        let versions = (
            list(&nodes, &logs.nodes, &prefix).await,
            list(&pods, &logs.pods, &prefix).await,
            list(&sets, &logs.sets, &prefix).await,
        );
        let tasks = vec![
            tokio::spawn(follow(nodes, logs.nodes.clone(), versions.0, prefix.clone())),
            tokio::spawn(follow(pods, logs.pods.clone(), versions.1, prefix.clone())),
            tokio::spawn(follow(sets, logs.sets.clone(), versions.2, prefix)),
        ];
        (logs, tasks)
    }
}

/// The UIDs of pods whose deletion or eviction the service asked for: of each deletion the version that the server
/// answered, if it has.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) deleted: BTreeMap<String, Vec<Option<u64>>>,
    pub(super) evicted: BTreeSet<String>,
}

impl Asked {
    pub(super) fn of(calls: &[Call]) -> Self {
        let mut asked = Self::default();
        for call in calls.iter().filter(|c| c.path.contains("/pods/") && !c.lost) {
            let body: Value = serde_json::from_str(&call.body).unwrap_or_default();
            let options = if call.method == "DELETE" { &body } else { &body["deleteOptions"] };
            let uid = options["preconditions"]["uid"].as_str().map(str::to_owned);
            match (call.method.as_str(), uid) {
                ("DELETE", Some(uid)) => asked.deleted.entry(uid).or_default().push(call.version),
                ("POST", Some(uid)) => drop(asked.evicted.insert(uid)),
                ("GET", _) => {}
                _ => panic!("I1: without a UID: {} {}: {}", call.method, call.path, call.body),
            }
        }
        asked
    }

    fn each_pod_is_deleted_once(&self, pods: &[Entry], happened: usize) {
        for (uid, answers) in &self.deleted {
            let name = pods
                .iter()
                .find(|e| super::uid(&e.object) == Some(uid))
                .map(|e| &e.object["metadata"]["name"]);
            let times = answers.len();
            assert!(
                times <= 1 + happened,
                "pod {name:?} was deleted {times} times, with {happened} faults: answered were {answers:?}"
            );
        }
    }

    fn has(&self, uid: &str) -> bool {
        self.deleted.contains_key(uid) || self.evicted.contains(uid)
    }
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

pub(super) fn is_cordoned(node: &Value) -> bool {
    node["spec"]["unschedulable"] == true
}

pub(super) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

pub(super) fn owner<'a>(pod: &'a Value, field: &str) -> &'a str {
    pod["metadata"]["ownerReferences"][0][field].as_str().unwrap_or_default()
}

pub(super) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
