//! What a manifest must be to be upgraded to. Pure: a tree in, findings out.
//!
//! In a Recreate the old gr is gone by the time the API server sees the new one, so whatever the API server
//! would refuse must be found here, before anything is deleted.

mod component;
mod fields;
mod image;
mod names;

use serde_json::{Map, Value};

use super::Blueprint;
use super::finding::{Finding, SourcePos, quoted};
use super::lookalike;
use super::tree::{Kind, MAX_FINDINGS, Node, push_key};
use crate::gr;

use names::{is_dns_label, is_dns_subdomain};

/// The kind of a gr.
pub const KIND: &str = "GcuResource";
/// Every API group of a gr ends so: `topsops.enflame.com` (gcu-operator 2.0), `topscloud.enflame.com` (2.4).
const GROUP_ROOT: &str = "enflame.com";
/// This product's own group, which serves the records of upgrades and no gr.
const OWN_GROUP: &str = "gum.enflame.com";
/// The version of it that every operator so far serves.
const VERSION: &str = "v1";
/// kubectl's copy of the manifest in the manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Everything that is wrong with, or worth saying about, a manifest. The order is that of the file.
pub(crate) fn check(root: &Node) -> Vec<Finding> {
    let mut report = Report::default();
    match &root.kind {
        Kind::Map(_) if is_gr(root, &mut report) => {
            api_version(root, &mut report);
            metadata(root, &mut report);
            component::spec(root, &mut report);
            keys(root, "", 2, &mut report);
            for entry in root.entries() {
                let known =
                    matches!(entry.key.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status");
                if !known && lookalike::first(&entry.key).is_none() {
                    let message =
                        format!("{} is no field of a gr, and is handed on unchanged", quoted(&entry.key));
                    report.warning("unknown-field", entry.place, "", &entry.key, message);
                }
            }
        }
        Kind::Map(_) => {}
        _ => {
            let message = format!(
                "a manifest is a map with apiVersion, kind, metadata and spec, not {}",
                root.describe()
            );
            report.error("not-a-manifest", root.place, "", "", message);
        }
    }
    report.findings.sort_by_key(|finding| (finding.line, finding.column));
    report.findings
}

/// Keys that are not what they look like: those of the gr, of its components, and of their fields. What those hold may
/// have any keys.
fn keys(node: &Node, path: &str, depth: usize, report: &mut Report) {
    for entry in node.entries() {
        if let Some((at, what)) = lookalike::first(&entry.key) {
            let column = entry.place.column.saturating_add(u32::try_from(at).unwrap_or_default());
            let place = SourcePos { column, ..entry.place };
            let message = format!(
                "the key {} holds {what}: write `{}`",
                quoted(&entry.key),
                lookalike::meant(&entry.key)
            );
            report.error("lookalike", place, path, &entry.key, message);
        } else if depth > 0 && (entry.key == "spec" || !path.is_empty()) {
            keys(&entry.node, &join(path, &entry.key), depth - 1, report);
        }
    }
}

/// Collects findings under field paths, of each severity as many as anybody reads.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    errors: usize,
    warnings: usize,
}

impl Report {
    fn error(
        &mut self,
        code: &'static str,
        place: SourcePos,
        parent: &str,
        key: &str,
        message: impl Into<String>,
    ) {
        self.errors += 1;
        if self.errors <= MAX_FINDINGS {
            self.findings.push(Finding::error(code, place, message).about(join(parent, key)));
        }
    }

    /// Whether something of this code has been said of this place.
    fn has(&self, code: &str, place: SourcePos) -> bool {
        self.findings.iter().any(|f| f.code == code && (f.line, f.column) == (place.line, place.column))
    }

    fn warning(
        &mut self,
        code: &'static str,
        place: SourcePos,
        parent: &str,
        key: &str,
        message: impl Into<String>,
    ) {
        self.warnings += 1;
        if self.warnings <= MAX_FINDINGS {
            self.findings.push(Finding::warning(code, place, message).about(join(parent, key)));
        }
    }
}

/// `parent.key`; an empty key is the parent itself.
fn join(parent: &str, key: &str) -> String {
    let mut path = parent.to_owned();
    if !key.is_empty() {
        push_key(&mut path, key);
    }
    path
}

fn is_gr(root: &Node, report: &mut Report) -> bool {
    let Some(kind) = root.get("kind") else {
        let message = format!("`kind` is missing: add `kind: {KIND}`");
        report.error("missing-kind", root.place, "", "kind", message);
        return false;
    };
    match kind.as_str() {
        Some(KIND) => return true,
        Some(list) if list == "List" || list == "GcuResourceList" => {
            report.error("list", kind.place, "", "kind", list_message(root));
        }
        Some(other) => {
            let message = format!("the kind must be {KIND}, not {}", quoted(other));
            report.error("wrong-kind", kind.place, "", "kind", message);
        }
        None => {
            let message = format!("the kind must be {KIND}, but is {}", kind.describe());
            report.error("wrong-kind", kind.place, "", "kind", message);
        }
    }
    false
}

/// `kubectl get gr -o yaml` without a name prints a list, also of one.
fn list_message(root: &Node) -> String {
    let items = match root.get("items").map(|items| &items.kind) {
        Some(Kind::List(items)) => items.as_slice(),
        _ => &[],
    };
    let name = match items {
        [only] => only.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::as_str),
        _ => None,
    };
    let name = name.filter(|name| is_dns_subdomain(name)).unwrap_or("<name>");
    format!(
        "this is a list of {}, a blueprint is one gr: write it with `kubectl get gr {name} -o yaml`, naming it",
        items.len()
    )
}

fn api_version(root: &Node, report: &mut Report) {
    let Some(node) = root.get("apiVersion") else {
        let message = "`apiVersion` is missing: add the one that `kubectl get gr -o yaml` shows, such as \
                       topsops.enflame.com/v1";
        report.error("missing-api-version", root.place, "", "apiVersion", message);
        return;
    };
    let parts = node.as_str().and_then(|text| text.split_once('/'));
    let Some((group, version)) =
        parts.filter(|(group, version)| is_dns_subdomain(group) && is_dns_label(version))
    else {
        let message = format!(
            "apiVersion must read group/version, such as topsops.enflame.com/v1, not {}",
            node.describe()
        );
        report.error("bad-api-version", node.place, "", "apiVersion", message);
        return;
    };
    let of_enflame =
        group == GROUP_ROOT || group.strip_suffix(GROUP_ROOT).is_some_and(|rest| rest.ends_with('.'));
    if !of_enflame || group == OWN_GROUP {
        let message = format!(
            "{} is not an API group of a gr: those are topsops.enflame.com, topscloud.enflame.com or the like",
            quoted(group)
        );
        report.error("wrong-api-group", node.place, "", "apiVersion", message);
    } else if version != VERSION {
        let message = format!(
            "no operator so far serves {} in the version `{version}`: is {group}/{VERSION} meant?",
            quoted(group)
        );
        report.warning("unknown-api-version", node.place, "", "apiVersion", message);
    }
}

fn metadata(root: &Node, report: &mut Report) {
    let Some(metadata) = root.get("metadata") else {
        let message = "`metadata` is missing: add it, with the name of the gr";
        report.error("missing-name", root.place, "metadata", "name", message);
        return;
    };
    if !matches!(metadata.kind, Kind::Map(_)) {
        let message =
            format!("metadata must be a map that holds the name of the gr, not {}", metadata.describe());
        report.error("wrong-type", metadata.place, "", "metadata", message);
        return;
    }
    name(metadata, report);
    if let Some(node) = metadata.get("namespace").filter(|node| !is_blank(node)) {
        let message = "a gr belongs to no namespace: remove this line (a component has its own `namespace`)";
        report.error("namespaced", node.place, "metadata", "namespace", message);
    }
    if let Some(node) = metadata.get("generateName").filter(|node| !is_blank(node)) {
        let message = "the name must be known before the upgrade: give `name` instead";
        report.error("generate-name", node.place, "metadata", "generateName", message);
    }
    if let Some(labels) = metadata.get("labels") {
        names::labels(labels, "metadata.labels", report);
    }
    if let Some(annotations) = metadata.get("annotations") {
        names::annotations(annotations, report);
    }
}

fn name(metadata: &Node, report: &mut Report) {
    let Some(node) = metadata.get("name").filter(|node| !is_blank(node)) else {
        let message = "`metadata.name` is missing: give the name of the gr that this is for";
        report.error("missing-name", metadata.place, "metadata", "name", message);
        return;
    };
    let Some(name) = node.as_str() else {
        let message = format!("the name must be text, not {}: quote it", node.describe());
        report.error("wrong-type", node.place, "metadata", "name", message);
        return;
    };
    if !is_dns_subdomain(name) {
        let message = format!(
            "invalid name {}: must be at most 253 of a-z 0-9 - . with a letter or digit at both ends",
            quoted(name)
        );
        report.error("bad-name", node.place, "metadata", "name", message);
    }
}

/// Null, or text without anything in it: what a template leaves where it had nothing to put.
fn is_blank(node: &Node) -> bool {
    matches!(node.kind, Kind::Null) || node.as_str() == Some("")
}

/// The manifest without what the API server, the operator, kubectl and this product put in, so that the
/// output of `kubectl get gr <name> -o yaml` is a blueprint.
pub(crate) fn clean(manifest: &Value) -> Value {
    let mut manifest = gr::clean(manifest);
    let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) else { return manifest };
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    for key in ["namespace", "generateName", "labels", "annotations"] {
        let is_empty = |value: &Value| value == "" || value.as_object().is_some_and(Map::is_empty);
        if metadata.get(key).is_some_and(|value| value.is_null() || is_empty(value)) {
            metadata.remove(key);
        }
    }
    manifest
}

/// What is wrong with using `blueprint` on the gr `live`, which stands at `path_name` in the cluster. Adds
/// to, and does not repeat, what reading the blueprint found.
pub fn check_against(blueprint: &Blueprint, live: &Value, path_name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if blueprint.name() != path_name {
        let message = format!(
            "the blueprint is for gr `{}`, not `{path_name}`: the name of a gr cannot change",
            blueprint.name()
        );
        findings
            .push(blueprint.finding_at("metadata.name", |place| Finding::error("other-gr", place, message)));
    }
    let group_of = |manifest: &Value| gr::group_of(gr::api_version(manifest)).to_owned();
    let (wanted, served) = (group_of(blueprint.manifest()), group_of(live));
    if !served.is_empty() && wanted != served {
        let message =
            format!("the cluster serves grs in the API group `{served}`, the blueprint is for `{wanted}`");
        findings.push(
            blueprint.finding_at("apiVersion", |place| Finding::error("other-api-group", place, message)),
        );
    }
    if findings.is_empty() && gr::same_stack(live, blueprint.manifest()) {
        let message = "the gr is like this already: an upgrade would change nothing";
        findings
            .push(blueprint.finding_at("spec", |place| Finding::warning("nothing-changed", place, message)));
    }
    findings
}
