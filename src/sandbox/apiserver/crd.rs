//! CustomResourceDefinitions: what a cluster's own controllers make of them, done at once.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    json,
    resources::{ResourceType, Rules, TypeKey, Version},
    store::{Change, ChangeKind, Tx},
};

const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Keeps the served types in step with the definitions, and ends a definition whose last object is gone.
pub(crate) fn follow(tx: &mut Tx<'_>, change: &Change) {
    if change.resource == definitions() {
        match (&change.kind, &change.new) {
            (ChangeKind::Added, Some(new)) => establish(tx, &change.name, new),
            (_, Some(new)) => register(tx, new),
            (_, None) => {
                if let Some(old) = &change.old {
                    tx.state.types.remove(&key_of(old));
                }
            }
        }
    } else if change.kind == ChangeKind::Deleted
        && tx.state.types.get(&change.resource).is_some_and(|kind| kind.rules.terminating)
    {
        finish_deletion(tx, &change.resource);
    }
}

/// Marks a definition as being deleted. It goes with the last of its objects.
pub(crate) fn mark_deleted(tx: &mut Tx<'_>, name: &str, definition: &Value) -> Arc<Value> {
    if !json::text(definition, &["metadata", "deletionTimestamp"]).is_empty() {
        return Arc::new(definition.clone());
    }
    let mut new = definition.clone();
    json::set(&mut new, &["metadata", "deletionTimestamp"], tx.timestamp());
    let mut finalizers = json::items(definition, &["metadata", "finalizers"]).to_vec();
    finalizers.push(CLEANUP.into());
    json::set(&mut new, &["metadata", "finalizers"], finalizers);
    let condition = json!({
        "type": "Terminating", "status": "True", "lastTransitionTime": tx.timestamp(),
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    });
    let mut conditions = json::items(&new, &["status", "conditions"]).to_vec();
    conditions.push(condition);
    json::set(&mut new, &["status", "conditions"], conditions);
    tx.put(&definitions(), "", name, new)
}

/// Removes a definition that is being deleted once it has no objects.
pub(crate) fn finish_deletion(tx: &mut Tx<'_>, key: &TypeKey) {
    if tx.state.table(key).is_none_or(|table| table.objects.is_empty()) {
        let name = format!("{}.{}", key.1, key.0);
        tx.remove(&definitions(), "", &name);
    }
}

/// Accepts the names of a new definition and serves it.
fn establish(tx: &mut Tx<'_>, name: &str, definition: &Value) {
    let mut new = definition.clone();
    let at = tx.timestamp();
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": "True",
        "lastTransitionTime": at, "reason": reason, "message": message})
    };
    let conditions = json!([
        condition("NamesAccepted", "NoConflicts", "no conflicts found"),
        condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]);
    json::set(&mut new, &["status", "conditions"], conditions);
    json::carry(
        &json!({"status": {"acceptedNames": json::at(definition, &["spec", "names"])}}),
        &mut new,
        &["status", "acceptedNames"],
    );
    tx.put(&definitions(), "", name, new);
}

fn register(tx: &mut Tx<'_>, definition: &Value) {
    let kind = type_of(definition);
    tx.state.types.insert(kind.key(), Arc::new(kind));
}

/// The defaults of a new definition: names that follow from others, no conversion, an empty status.
pub(crate) fn set_defaults(definition: &mut Value) {
    let kind = json::text(definition, &["spec", "names", "kind"]).to_owned();
    json::default(definition, &["spec", "names", "singular"], kind.to_lowercase());
    json::default(definition, &["spec", "names", "listKind"], format!("{kind}List"));
    json::default(definition, &["spec", "conversion"], json!({"strategy": "None"}));
}

/// The status of a definition that nobody has looked at yet.
pub(crate) fn initial_status(definition: &Value) -> Value {
    let stored: Vec<&str> = json::items(definition, &["spec", "versions"])
        .iter()
        .filter(|version| json::at(version, &["storage"]) == &json!(true))
        .map(|version| json::text(version, &["name"]))
        .collect();
    json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored})
}

fn definitions() -> TypeKey {
    ("apiextensions.k8s.io".to_owned(), "customresourcedefinitions".to_owned())
}

pub(crate) fn key_of(definition: &Value) -> TypeKey {
    let group = json::text(definition, &["spec", "group"]).to_owned();
    (group, json::text(definition, &["spec", "names", "plural"]).to_owned())
}

fn type_of(definition: &Value) -> ResourceType {
    let (group, plural) = key_of(definition);
    let name = |key| json::text(definition, &["spec", "names", key]).to_owned();
    let names = |key| {
        let values = json::items(definition, &["spec", "names", key]).iter();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let declared = json::items(definition, &["spec", "versions"]);
    let is = |version: &Value, key| json::at(version, &[key]) == &json!(true);
    let storage = declared.iter().find(|version| is(version, "storage"));
    let mut versions: Vec<Version> =
        declared.iter().filter(|version| is(version, "served")).map(version_of).collect();
    versions.sort_by_key(|version| std::cmp::Reverse(preference(&version.name)));
    let terminating = !json::text(definition, &["metadata", "deletionTimestamp"]).is_empty();
    ResourceType {
        group,
        plural,
        singular: name("singular"),
        kind: name("kind"),
        list_kind: name("listKind"),
        namespaced: json::text(definition, &["spec", "scope"]) == "Namespaced",
        short_names: names("shortNames"),
        categories: names("categories"),
        versions,
        storage_version: storage.map(|version| json::text(version, &["name"]).to_owned()).unwrap_or_default(),
        rules: Rules { custom: true, terminating, generation: true, ..Rules::default() },
    }
}

/// Released versions before betas before alphas, the latest of each first: `v2`, `v1`, `v1beta1`, `v1alpha1`.
fn preference(version: &str) -> (u8, u64, u64) {
    let number = |text: &str| text.parse().unwrap_or(0);
    let numbers = version.strip_prefix('v').unwrap_or_default();
    if let Some((major, minor)) = numbers.split_once("beta") {
        (2, number(major), number(minor))
    } else if let Some((major, minor)) = numbers.split_once("alpha") {
        (1, number(major), number(minor))
    } else {
        (if number(numbers) > 0 { 3 } else { 0 }, number(numbers), 0)
    }
}

fn version_of(declared: &Value) -> Version {
    let present = |path: &[&str]| Some(json::at(declared, path)).filter(|value| !value.is_null()).cloned();
    Version {
        name: json::text(declared, &["name"]).to_owned(),
        has_status: present(&["subresources", "status"]).is_some(),
        schema: present(&["schema", "openAPIV3Schema"]).map(Arc::new),
        columns: present(&["additionalPrinterColumns"]).map(Arc::new),
    }
}
