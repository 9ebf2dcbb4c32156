//! The kinds of object that the sandbox serves.

use std::sync::Arc;

use serde_json::Value;

/// The group of webhook configurations. No webhook is ever asked about these.
pub(crate) const ADMISSION_GROUP: &str = "admissionregistration.k8s.io";
/// The plural of MutatingWebhookConfigurations.
pub(crate) const MUTATING_WEBHOOKS: &str = "mutatingwebhookconfigurations";

/// Names a resource type: its API group (empty for the core group) and plural.
pub(crate) type TypeKey = (String, String);

/// A kind of object: how it is named, scoped and written.
#[derive(Clone, Debug)]
pub(crate) struct ResourceType {
    pub(crate) group: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    /// Served versions, the preferred one first.
    pub(crate) versions: Vec<Version>,
    /// The version that objects are kept in.
    pub(crate) storage_version: String,
    pub(crate) rules: Rules,
}

/// One served version of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) has_status: bool,
    /// The structural schema of a custom resource.
    pub(crate) schema: Option<Arc<Value>>,
    /// `additionalPrinterColumns` of a custom resource; `None` when it declares none.
    pub(crate) columns: Option<Arc<Value>>,
}

/// Where kinds differ in how they are written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Served from a CustomResourceDefinition.
    pub(crate) custom: bool,
    /// The CustomResourceDefinition is being deleted.
    pub(crate) terminating: bool,
    /// Keeps `metadata.generation`.
    pub(crate) generation: bool,
    /// PUT without a resourceVersion overwrites.
    pub(crate) unconditional_update: bool,
    /// PUT of an absent object creates it.
    pub(crate) create_on_update: bool,
    /// DELETE answers with the object instead of a `Status`.
    pub(crate) returns_deleted: bool,
}

impl ResourceType {
    /// The key of its table in the store.
    pub(crate) fn key(&self) -> TypeKey {
        (self.group.clone(), self.plural.clone())
    }

    /// `daemonsets.apps`, or `pods` in the core group.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The `apiVersion` of its objects in `version`.
    pub(crate) fn api_version(&self, version: &str) -> String {
        api_version(&self.group, version)
    }

    /// A served version by name.
    pub(crate) fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// Whether this is the named type.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

/// `apps/v1`, or `v1` for the core group.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

struct Builtin {
    group: &'static str,
    versions: &'static [&'static str],
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    short: &'static [&'static str],
    status: bool,
    generation: bool,
    unconditional: bool,
    create_on_update: bool,
    returns_deleted: bool,
}

const PLAIN: Builtin = Builtin {
    group: "",
    versions: &["v1"],
    plural: "",
    kind: "",
    namespaced: true,
    short: &[],
    status: false,
    generation: false,
    unconditional: true,
    create_on_update: false,
    returns_deleted: false,
};

const APPS: Builtin = Builtin { group: "apps", status: true, generation: true, ..PLAIN };

const BUILTINS: &[Builtin] = &[
    Builtin { plural: "configmaps", kind: "ConfigMap", short: &["cm"], ..PLAIN },
    Builtin { plural: "endpoints", kind: "Endpoints", short: &["ep"], create_on_update: true, ..PLAIN },
    Builtin { plural: "events", kind: "Event", short: &["ev"], create_on_update: true, ..PLAIN },
    Builtin {
        plural: "namespaces",
        kind: "Namespace",
        namespaced: false,
        short: &["ns"],
        status: true,
        returns_deleted: true,
        ..PLAIN
    },
    Builtin { plural: "nodes", kind: "Node", namespaced: false, short: &["no"], status: true, ..PLAIN },
    Builtin { plural: "pods", kind: "Pod", short: &["po"], status: true, returns_deleted: true, ..PLAIN },
    Builtin { plural: "resourcequotas", kind: "ResourceQuota", short: &["quota"], status: true, ..PLAIN },
    Builtin { plural: "secrets", kind: "Secret", ..PLAIN },
    Builtin {
        plural: "serviceaccounts",
        kind: "ServiceAccount",
        short: &["sa"],
        returns_deleted: true,
        ..PLAIN
    },
    Builtin {
        plural: "services",
        kind: "Service",
        short: &["svc"],
        status: true,
        create_on_update: true,
        ..PLAIN
    },
    Builtin {
        plural: "controllerrevisions",
        kind: "ControllerRevision",
        status: false,
        generation: false,
        ..APPS
    },
    Builtin { plural: "daemonsets", kind: "DaemonSet", short: &["ds"], ..APPS },
    Builtin { plural: "deployments", kind: "Deployment", short: &["deploy"], ..APPS },
    Builtin { plural: "replicasets", kind: "ReplicaSet", short: &["rs"], ..APPS },
    Builtin {
        group: "policy",
        versions: &["v1", "v1beta1"],
        plural: "poddisruptionbudgets",
        kind: "PodDisruptionBudget",
        short: &["pdb"],
        status: true,
        generation: true,
        unconditional: false,
        ..PLAIN
    },
    Builtin {
        group: "coordination.k8s.io",
        plural: "leases",
        kind: "Lease",
        unconditional: false,
        create_on_update: true,
        ..PLAIN
    },
    Builtin {
        group: "apiextensions.k8s.io",
        plural: "customresourcedefinitions",
        kind: "CustomResourceDefinition",
        namespaced: false,
        short: &["crd", "crds"],
        status: true,
        generation: true,
        unconditional: false,
        returns_deleted: true,
        ..PLAIN
    },
    Builtin {
        group: ADMISSION_GROUP,
        plural: MUTATING_WEBHOOKS,
        kind: "MutatingWebhookConfiguration",
        namespaced: false,
        generation: true,
        unconditional: false,
        ..PLAIN
    },
];

/// The built-in types. Old clusters (before 1.21) have no `policy/v1`.
pub(crate) fn builtins(with_policy_v1: bool) -> Vec<ResourceType> {
    let served = |name: &&&str| with_policy_v1 || **name != "v1";
    BUILTINS
        .iter()
        .map(|builtin| {
            let all = builtin.versions.iter();
            let versions = match builtin.group {
                "policy" => all.filter(served).map(|name| version(name, builtin)).collect(),
                _ => all.map(|name| version(name, builtin)).collect::<Vec<_>>(),
            };
            builtin_type(builtin, versions)
        })
        .collect()
}

fn version(name: &str, builtin: &Builtin) -> Version {
    Version { name: name.to_owned(), has_status: builtin.status, schema: None, columns: None }
}

fn builtin_type(builtin: &Builtin, versions: Vec<Version>) -> ResourceType {
    let storage_version = versions.first().map(|version| version.name.clone()).unwrap_or_default();
    let in_all = matches!(builtin.plural, "pods" | "services") || builtin.group == "apps" && builtin.status;
    ResourceType {
        group: builtin.group.to_owned(),
        plural: builtin.plural.to_owned(),
        singular: builtin.kind.to_lowercase(),
        kind: builtin.kind.to_owned(),
        list_kind: format!("{}List", builtin.kind),
        namespaced: builtin.namespaced,
        short_names: builtin.short.iter().map(|name| (*name).to_owned()).collect(),
        categories: if in_all { vec!["all".to_owned()] } else { Vec::new() },
        versions,
        storage_version,
        rules: Rules {
            custom: false,
            terminating: false,
            generation: builtin.generation,
            unconditional_update: builtin.unconditional,
            create_on_update: builtin.create_on_update,
            returns_deleted: builtin.returns_deleted,
        },
    }
}
