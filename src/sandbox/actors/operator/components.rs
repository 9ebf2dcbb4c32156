//! What gcu-operator makes of a `spec`: its components, in order, and the manifests of their workloads.
//!
//! This is the operator's own knowledge. The product has a table of its own, and the two must not be shared: a
//! sandbox that shares the product's mistakes finds none of them.

use kube::{
    ResourceExt,
    api::{ApiResource, DynamicObject},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{OperatorBehaviour, Settings};
use crate::WORLD_LABEL;

/// The annotation in which the operator keeps what it rendered, to know later whether that has changed.
pub(super) const RENDERED: &str = "gcu-operator.enflame.com/rendered";
/// The annotation with the key of the component that a workload belongs to. The product must not know it; it tells a
/// test's oracle what is what, however a workload is named.
const COMPONENT: &str = "gcu-operator.enflame.com/component";

/// Keys of `spec` in dependency order, the name of the workload when `spec` has none, and whether it is one of the
/// five that `readyResource` counts.
const KNOWN: [(&str, &str, bool); 16] = [
    ("nfd", "node-feature-discovery-ds", false),
    ("k8sDriverManager", "enflame-k8s-driver-manager", false),
    ("driver", "enflame-gcu-driver", true),
    ("toolkit", "enflame-gcu-docker-plugin", true),
    ("containerToolkit", "enflame-container-toolkit", true),
    ("devicePlugin", "enflame-gcu-k8s-plugin", true),
    ("exporter", "enflame-gcu-exporter", true),
    ("gcuExporter", "enflame-gcu-exporter", true),
    ("gfd", "enflame-gcu-feature-discovery", true),
    ("nodeExporter", "enflame-node-exporter", false),
    ("nightingale", "nightingale", false),
    ("gcusharePlugin", "gcushare-device-plugin", false),
    ("gcushareScheduler", "gcushare-scheduler-extender", false),
    ("gcushareConfigManager", "gcushare-config-manager", false),
    ("volcano", "enflame-volcano", false),
    ("plugin", "enflame-gcu-k8s-plugin", true),
];

/// What nightingale consists of.
const NIGHTINGALE: [&str; 2] = ["server", "webapi"];

/// A DaemonSet or Deployment that should be there.
#[derive(Clone)]
pub(super) struct Workload {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) manifest: Value,
    /// Of what was rendered: differs when anything that comes from `spec` does.
    pub(super) digest: String,
}

/// The kinds of workload that the operator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    DaemonSet,
    Deployment,
}

impl Kind {
    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::DaemonSet => ApiResource::erase::<k8s_openapi::api::apps::v1::DaemonSet>(&()),
            Self::Deployment => ApiResource::erase::<k8s_openapi::api::apps::v1::Deployment>(&()),
        }
    }
}

/// One key of `spec` that is to be deployed.
#[derive(Clone)]
pub(super) struct Component {
    pub(super) key: String,
    pub(super) namespace: String,
    /// Whether `readyResource` counts it.
    pub(super) counts: bool,
    pub(super) workloads: Vec<Workload>,
}

/// The name that the operator gives to the workload of a component that has none.
pub(crate) fn default_name(key: &str) -> String {
    let known = KNOWN.iter().find(|(known, ..)| *known == key);
    known.map_or_else(|| format!("enflame-{}", key.to_lowercase()), |(_, name, _)| (*name).to_owned())
}

/// The components of a gr that are to be deployed, in the order of deployment. Unknown ones come last.
pub(super) fn components(
    gr: &DynamicObject,
    settings: &Settings,
    behaviour: &OperatorBehaviour,
) -> Vec<Component> {
    let empty = Map::new();
    let spec = gr.data.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    let known = KNOWN.iter().filter_map(|(key, ..)| spec.get_key_value(*key));
    let unknown = spec.iter().filter(|(key, _)| !KNOWN.iter().any(|(known, ..)| known == key));
    let wanted = known.chain(unknown).filter_map(|(key, value)| Some((key, value.as_object()?)));
    let deployed =
        wanted.filter(|(_, fields)| fields.get("notDeploy").and_then(Value::as_bool) != Some(true));
    deployed.map(|(key, fields)| component(gr, settings, behaviour, key, fields)).collect()
}

fn component(
    gr: &DynamicObject,
    settings: &Settings,
    behaviour: &OperatorBehaviour,
    key: &str,
    fields: &Map<String, Value>,
) -> Component {
    let mut rendered = fields.clone();
    rendered.retain(|field, _| !behaviour.unrendered_fields.contains(field));
    let fields = &rendered;
    let asked = text(fields, "name").map_or_else(|| default_name(key), str::to_owned);
    let base = behaviour.name_for(&asked);
    let usual = if key == "nightingale" { "enflame" } else { "kube-system" };
    let namespace = text(fields, "namespace").unwrap_or(usual).to_owned();
    let (kind, names) = match key {
        "nightingale" => (Kind::Deployment, NIGHTINGALE.map(|part| format!("{base}-{part}")).to_vec()),
        "gcushareScheduler" => (Kind::Deployment, vec![base]),
        _ => (Kind::DaemonSet, vec![base]),
    };
    let render = |name: String| {
        let mut manifest = manifest(gr, settings, behaviour, (key, fields), kind, &namespace, &name);
        let digest = Sha256::digest(manifest.get("spec").unwrap_or(&Value::Null).to_string().as_bytes());
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".to_owned(), json!({ RENDERED: digest, COMPONENT: key }));
        }
        // Not part of what was rendered: it comes from the operator, not from `spec`.
        if let (Kind::DaemonSet, Some(strategy)) = (kind, behaviour.rendered_strategy())
            && let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.insert("updateStrategy".to_owned(), strategy);
        }
        Workload { kind, namespace: namespace.clone(), name, manifest, digest }
    };
    let counts = KNOWN.iter().any(|(known, _, counts)| *known == key && *counts);
    Component {
        key: key.to_owned(),
        namespace: namespace.clone(),
        counts,
        workloads: names.into_iter().map(render).collect(),
    }
}

fn manifest(
    gr: &DynamicObject,
    settings: &Settings,
    behaviour: &OperatorBehaviour,
    (key, fields): (&str, &Map<String, Value>),
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Value {
    let labels = json!({ behaviour.label(): name });
    let mut selector = fields.get("nodeSelector").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(world) = &settings.world {
        selector.insert(WORLD_LABEL.to_owned(), json!(world));
    }
    let containers = match key {
        "nfd" => vec![
            container(fields, fields.get("master"), "master", "node-feature-discovery"),
            container(fields, fields.get("worker"), "worker", "node-feature-discovery"),
        ],
        _ => vec![container(fields, None, name, &key.to_lowercase())],
    };
    let mut pod = json!({ "containers": containers });
    if let Some(pod) = pod.as_object_mut().filter(|_| !selector.is_empty()) {
        pod.insert("nodeSelector".to_owned(), Value::Object(selector));
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": if kind == Kind::DaemonSet { "DaemonSet" } else { "Deployment" },
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": settings.api_version(),
                "kind": "GcuResource",
                "name": gr.name_any(),
                "uid": gr.uid(),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod },
        },
    })
}

/// A container from the component's base fields, or where it has none from those of one of its parts.
fn container(fields: &Map<String, Value>, part: Option<&Value>, name: &str, image: &str) -> Value {
    let part = part.and_then(Value::as_object);
    let field = |key: &str| fields.get(key).or_else(|| part.and_then(|part| part.get(key)));
    let word = |key: &str| field(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let image = word("image").unwrap_or(image);
    let version = word("version").unwrap_or("latest");
    let image = match word("repository") {
        Some(repository) => format!("{repository}/{image}:{version}"),
        None => format!("{image}:{version}"),
    };
    let policy = word("imagePullPolicy").unwrap_or("IfNotPresent");
    let mut container = json!({ "name": name, "image": image, "imagePullPolicy": policy });
    if let (Some(env), Some(fields)) = (field("env"), container.as_object_mut()) {
        fields.insert("env".to_owned(), env.clone());
    }
    container
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}
