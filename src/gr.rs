//! The gr as the cluster serves it: its components, the workloads behind them, and one look at it.
//!
//! Only values in, values out: reading the cluster is done by [`cluster`](crate::cluster) and the controller.

mod edits;
pub mod image;
mod meaning;

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use edits::{added, covers, merge_patch};
pub use meaning::{CONTAINERS, DEFAULT_VERSION, is_rendered, same_stack};

/// Annotation on a gr that this service created or fenced: `<record>:<record uid>:<goal>`. It lets a
/// create whose answer was lost be recognised as our own.
pub const MARK_ANNOTATION: &str = "gum.enflame.com/upgrade";
/// Workloads live here unless the gr says otherwise.
const DEFAULT_NAMESPACE: &str = "kube-system";

/// A component that operator releases 2.0 to 2.4 are known to deploy.
struct Known {
    key: &'static str,
    /// What `/resource/{kind}` also calls it.
    aliases: &'static [&'static str],
    /// The DaemonSet's name when neither the gr's spec nor its status tells.
    workload: Option<&'static str>,
}

const fn known(key: &'static str, aliases: &'static [&'static str], workload: &'static str) -> Known {
    Known { key, aliases, workload: if workload.is_empty() { None } else { Some(workload) } }
}

/// The operator's dependency order: each component needs those before it. Keys differ between operator
/// releases (`toolkit` became `containerToolkit`), so aliases are followed in both directions.
const KNOWN: &[Known] = &[
    known("nfd", &[], "node-feature-discovery-ds"),
    known("driver", &[], "enflame-gcu-driver"),
    known("k8sDriverManager", &[], ""),
    known("toolkit", &["containerToolkit"], "enflame-gcu-docker-plugin"),
    known("containerToolkit", &["toolkit"], "enflame-container-toolkit"),
    known("devicePlugin", &["plugin"], "enflame-gcu-k8s-plugin"),
    known("plugin", &["devicePlugin"], "enflame-gcu-k8s-plugin"),
    known("exporter", &["gcuExporter"], "enflame-gcu-exporter"),
    known("gcuExporter", &["exporter"], "enflame-gcu-exporter"),
    known("gfd", &[], "enflame-gcu-feature-discovery"),
    known("nightingale", &[], ""),
    known("gcusharePlugin", &[], "gcushare-device-plugin"),
    known("gcushareScheduler", &[], "gcushare-scheduler-extender"),
    known("gcushareConfigManager", &[], ""),
    known("nodeExporter", &[], ""),
    known("volcano", &[], ""),
];

/// Where a component stands in the dependency order; those that are not known come last.
pub fn dependency_order(key: &str) -> usize {
    KNOWN.iter().position(|k| k.key == key).unwrap_or(KNOWN.len())
}

/// One key of a gr's `spec`.
#[derive(Clone, Copy, Debug)]
pub struct Component<'a> {
    /// The key, for example `devicePlugin`.
    pub key: &'a str,
    /// Its base fields.
    pub fields: &'a Map<String, Value>,
}

impl Component<'_> {
    /// Deployed unless `notDeploy: true`.
    pub fn is_deployed(&self) -> bool {
        self.fields.get("notDeploy").and_then(Value::as_bool) != Some(true)
    }

    /// The name of its workload, as far as its spec says.
    pub fn workload_name(&self) -> Option<&str> {
        self.text("name")
    }

    /// The namespace of its workload, as its spec says or by default.
    pub fn workload_namespace(&self) -> &str {
        self.text("namespace").unwrap_or(DEFAULT_NAMESPACE)
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).and_then(Value::as_str).filter(|s| !s.is_empty())
    }
}

/// The components of a gr manifest in dependency order; unknown ones come last, by name.
pub fn components(manifest: &Value) -> Vec<Component<'_>> {
    let Some(spec) = manifest.get("spec").and_then(Value::as_object) else { return Vec::new() };
    let mut found: Vec<Component<'_>> =
        spec.iter().filter_map(|(key, v)| v.as_object().map(|fields| Component { key, fields })).collect();
    found.sort_by_key(|c| dependency_order(c.key));
    found
}

/// Resolves the `{kind}` of `/resource/{kind}` to a component key of this gr.
pub fn component_for_kind<'a>(manifest: &'a Value, kind: &str) -> Option<Component<'a>> {
    let all = components(manifest);
    let exact = all.iter().find(|c| c.key == kind);
    let aliased = || all.iter().find(|c| KNOWN.iter().any(|k| k.key == c.key && k.aliases.contains(&kind)));
    exact.or_else(aliased).copied()
}

/// The kinds of workload that the operator puts a component into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// One pod on each matching node.
    DaemonSet,
    /// A number of replicas.
    Deployment,
}

/// How sure we are of a workload's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Source {
    /// The operator reported it in the gr's status.
    Reported,
    /// The gr's spec names it.
    Named,
    /// Neither does: the documented default name, which a later operator may have changed.
    Assumed,
}

/// A workload behind a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// The component's key in the gr's spec.
    pub component: String,
    /// DaemonSet or Deployment.
    pub kind: WorkloadKind,
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's name.
    pub name: String,
    /// The labels that select its pods, once it has been looked at.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Where the name comes from.
    pub source: Source,
}

impl Workload {
    /// `DaemonSet kube-system/enflame-gcu-driver`, for messages.
    pub fn describe(&self) -> String {
        format!("{:?} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The workloads of one component, in order of trust: what the operator reports, what the spec names, what
/// is documented. Empty when nothing tells, which is so for several components of operator 2.4.
pub fn workloads_of(component: Component<'_>, status: &Value) -> Vec<Workload> {
    let reported = reported_workloads(component.key, status);
    let named = component.text("name");
    if !reported.is_empty() && named.is_none_or(|n| reported.iter().any(|w| w.name == n)) {
        return reported;
    }
    configured_workload(component).into_iter().collect()
}

/// The workload that the spec names, or else the documented one.
pub fn configured_workload(component: Component<'_>) -> Option<Workload> {
    let assumed = || KNOWN.iter().find(|k| k.key == component.key).and_then(|k| k.workload);
    let (name, source) = match component.text("name") {
        Some(name) => (name, Source::Named),
        None => (assumed()?, Source::Assumed),
    };
    Some(Workload {
        component: component.key.to_owned(),
        kind: WorkloadKind::DaemonSet,
        namespace: component.workload_namespace().to_owned(),
        name: name.to_owned(),
        selector: BTreeMap::new(),
        source,
    })
}

/// The workloads of every deployed component, in dependency order.
pub fn workloads(manifest: &Value, status: &Value) -> Vec<Workload> {
    components(manifest)
        .into_iter()
        .filter(Component::is_deployed)
        .flat_map(|c| workloads_of(c, status))
        .collect()
}

/// Every workload that a deployed component may have, by the operator's word and by the spec's.
pub fn candidate_workloads(manifest: &Value, status: &Value) -> Vec<Workload> {
    let deployed = components(manifest).into_iter().filter(Component::is_deployed);
    deployed
        .flat_map(|c| reported_workloads(c.key, status).into_iter().chain(configured_workload(c)))
        .collect()
}

/// The workloads that the operator reports for a component, whatever the spec says.
pub fn reported_workloads(key: &str, status: &Value) -> Vec<Workload> {
    let entries =
        status.get("resourceStatuses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let Some(entry) = entries.iter().find(|e| text(e, "name") == Some(key)) else { return Vec::new() };
    let owned = entry.get("ownResources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let workload = |resource: &Value| {
        let kind = match text(resource, "kind")? {
            "DaemonSet" => WorkloadKind::DaemonSet,
            "Deployment" => WorkloadKind::Deployment,
            _ => return None,
        };
        Some(Workload {
            component: key.to_owned(),
            kind,
            namespace: text(entry, "namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
            name: text(resource, "name")?.to_owned(),
            selector: BTreeMap::new(),
            source: Source::Reported,
        })
    };
    owned.iter().filter_map(workload).collect()
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str).filter(|s| !s.is_empty())
}

/// One look at a gr that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveGr {
    /// Tells it from another gr of the same name.
    pub uid: String,
    /// What a precondition compares.
    pub resource_version: String,
    /// Counts changes of the spec.
    pub generation: i64,
    /// Its deletion has been asked for.
    pub deleting: bool,
    /// Who still has to let go of it.
    pub finalizers: Vec<String>,
    /// [`MARK_ANNOTATION`]'s value.
    pub mark: Option<String>,
    /// What a person would write to make it: see [`clean`].
    pub manifest: Arc<Value>,
    /// As served; parsed leniently, because operators differ.
    pub status: Arc<Value>,
}

impl LiveGr {
    /// Whether it asks for the same stack as this manifest, and stays.
    pub fn stands_at(&self, manifest: &Value) -> bool {
        !self.deleting && same_stack(&self.manifest, manifest)
    }

    /// Reads a gr as served. `None` when it has no uid, which no API server sends.
    pub fn parse(served: &Value) -> Option<Self> {
        let meta = served.get("metadata")?;
        let finalizers =
            meta.get("finalizers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Some(Self {
            uid: text(meta, "uid")?.to_owned(),
            resource_version: text(meta, "resourceVersion").unwrap_or_default().to_owned(),
            generation: meta.get("generation").and_then(Value::as_i64).unwrap_or_default(),
            deleting: meta.get("deletionTimestamp").is_some_and(|t| !t.is_null()),
            finalizers: finalizers.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            mark: meta.get("annotations").and_then(|a| text(a, MARK_ANNOTATION)).map(str::to_owned),
            manifest: Arc::new(clean(served)),
            status: Arc::new(served.get("status").cloned().unwrap_or(Value::Null)),
        })
    }

    /// The operator's phase, as written: the case differs between its releases.
    pub fn phase(&self) -> &str {
        text(&self.status, "phase").unwrap_or_default()
    }

    /// Phase `Running` in any case, of the present spec where the operator says which one it saw.
    pub fn operator_says_running(&self) -> bool {
        let seen = self.status.get("observedGeneration").and_then(Value::as_i64);
        self.phase().eq_ignore_ascii_case("running") && seen.is_none_or(|g| g >= self.generation)
    }

    /// Whether the operator reports this component as running.
    pub fn reports_component_running(&self, key: &str) -> bool {
        let entries = self.status.get("resourceStatuses").and_then(Value::as_array);
        entries.into_iter().flatten().any(|e| {
            text(e, "name") == Some(key)
                && text(e, "status").is_some_and(|s| s.eq_ignore_ascii_case("running"))
        })
    }
}

/// Metadata that the API server or a controller sets: no part of what a person asks for. `ownerReferences` among it:
/// the owner that it names by UID may be gone when the gr is created again, and the garbage collector would take the
/// stack down.
const SERVER_SET: &[&str] = &[
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
    "finalizers",
    "ownerReferences",
];

/// A served gr as a manifest that can be created again: without status, server-set metadata, finalizers
/// (the operator puts its own back, and one of somebody else's would never be taken off) and our own marks.
/// Everything else, labels and other annotations included, stays as it is.
pub fn clean(served: &Value) -> Value {
    let mut manifest = served.clone();
    let Some(object) = manifest.as_object_mut() else { return manifest };
    object.remove("status");
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|key, _| !SERVER_SET.contains(&key.as_str()));
        if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !key.starts_with("gum.enflame.com/"));
            if annotations.is_empty() {
                meta.remove("annotations");
            }
        }
    }
    manifest
}

/// A manifest's `apiVersion`.
pub fn api_version(manifest: &Value) -> &str {
    text(manifest, "apiVersion").unwrap_or_default()
}

/// The API group of an `apiVersion`.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether two manifests have the very same spec. Whether they ask for the same: [`same_stack`].
pub fn same_spec(a: &Value, b: &Value) -> bool {
    a.get("spec") == b.get("spec")
}

/// The manifest with our mark on it: see [`MARK_ANNOTATION`].
pub fn marked(manifest: &Value, mark: &str) -> Value {
    let mut manifest = manifest.clone();
    if let Some(object) = manifest.as_object_mut() {
        let meta = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            let annotations = meta.entry("annotations").or_insert_with(|| json!({}));
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.insert(MARK_ANNOTATION.to_owned(), json!(mark));
            }
        }
    }
    manifest
}
