//! The checks of written objects that this product's paths can run into. A real server has many more.

use serde_json::{Value, json};

use super::{
    error::{ApiError, Cause},
    schema,
    selector::Selector,
    webhooks,
};
use crate::{
    json,
    resources::{MUTATING_WEBHOOKS, ResourceType, Version},
};

/// Turns what a client sent into an object of this kind and version, in the version it is stored in.
pub(crate) fn decode(kind: &ResourceType, version: &Version, mut body: Value) -> Result<Value, ApiError> {
    if !body.is_object() {
        return Err(ApiError::bad_request("the object provided is not an object"));
    }
    check_type(kind, version, &body)?;
    json::set(&mut body, &["apiVersion"], kind.api_version(&kind.storage_version));
    json::set(&mut body, &["kind"], kind.kind.clone());
    if kind.rules.custom {
        if let Some(metadata) = body.get_mut("metadata") {
            json::drop_nulls(metadata);
        }
    } else {
        json::drop_nulls(&mut body);
    }
    tidy_metadata(&mut body);
    Ok(body)
}

fn check_type(kind: &ResourceType, version: &Version, body: &Value) -> Result<(), ApiError> {
    let (found_version, found_kind) = (json::text(body, &["apiVersion"]), json::text(body, &["kind"]));
    let (wanted_version, wanted_kind) = (kind.api_version(&version.name), kind.kind.as_str());
    if kind.rules.custom {
        return check_custom_type(kind, version, body);
    }
    if !found_version.is_empty() && found_version != wanted_version {
        return Err(ApiError::bad_request(format!(
            "{found_kind} in version {:?} cannot be handled as a {wanted_kind}: no kind {found_kind:?} is \
             registered for version {found_version:?} in scheme \
             \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
            version.name
        )));
    }
    if !found_kind.is_empty() && found_kind != wanted_kind {
        let group = if kind.group.is_empty() { "core" } else { kind.group.as_str() };
        let short = &version.name;
        return Err(ApiError::bad_request(format!(
            "{found_kind} in version {short:?} cannot be handled as a {wanted_kind}: converting \
             ({short}.{found_kind}) to ({group}.{wanted_kind}): unknown conversion"
        )));
    }
    Ok(())
}

fn check_custom_type(kind: &ResourceType, version: &Version, body: &Value) -> Result<(), ApiError> {
    let (found_version, found_kind) = (json::text(body, &["apiVersion"]), json::text(body, &["kind"]));
    let (wanted_version, wanted_kind) = (kind.api_version(&version.name), kind.kind.as_str());
    if found_kind.is_empty() {
        return Err(ApiError::bad_request(format!(
            "{wanted_kind} in version {:?} cannot be handled as a {wanted_kind}: unmarshalerDecoder: Object \
             'Kind' is missing in '{body}'",
            version.name
        )));
    }
    if found_version != wanted_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({found_version}) does not match the expected API version ({wanted_version})"
        )));
    }
    if found_kind != wanted_kind {
        let cause = Cause::invalid("kind", format!("{found_kind:?}"), &format!("must be {wanted_kind}"));
        let name = json::text(body, &["metadata", "name"]);
        return Err(ApiError::invalid(&kind.group, found_kind, name, &[cause]));
    }
    Ok(())
}

/// Empty maps and lists of metadata are never kept.
fn tidy_metadata(object: &mut Value) {
    json::remove(object, &["metadata", "managedFields"]);
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let empty = match json::at(object, &["metadata", field]) {
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if empty {
            json::remove(object, &["metadata", field]);
        }
    }
}

/// Checks an object that is about to be stored, and, when it is there already, what may not change.
pub(crate) fn check(
    kind: &ResourceType,
    version: &Version,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    let name = json::text(new, &["metadata", "name"]);
    let mut causes = Vec::new();
    check_name(name, &mut causes);
    if kind.rules.custom {
        if let Some(schema) = &version.schema {
            causes.extend(schema::validate(new, schema));
        }
    } else {
        check_builtin(kind, new, &mut causes);
    }
    if let Some(old) = old {
        check_change(kind, old, new, &mut causes);
    }
    if causes.is_empty() { Ok(()) } else { Err(ApiError::invalid(&kind.group, &kind.kind, name, &causes)) }
}

fn check_change(kind: &ResourceType, old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let unchanged = |path: &[&str]| json::at(old, path) == json::at(new, path);
    if kind.is("", "pods") {
        check_pod_update(old, new, causes);
    }
    if kind.group == "apps" && !unchanged(&["spec", "selector"]) {
        let selector = json::at(new, &["spec", "selector"]);
        causes.push(Cause::invalid("spec.selector", shown_selector(selector), "field is immutable"));
    }
    if kind.is("apps", "controllerrevisions") && !unchanged(&["data"]) {
        causes.push(Cause::invalid("data", json::at(new, &["data"]), "field is immutable"));
    }
    check_new_finalizers(old, new, causes);
}

fn check_name(name: &str, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if !is_dns_subdomain(name) {
        let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' \
                   or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
                   used for validation is \
                   '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        causes.push(Cause::invalid("metadata.name", format!("{name:?}"), why));
    }
}

fn is_dns_subdomain(name: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn check_builtin(kind: &ResourceType, object: &Value, causes: &mut Vec<Cause>) {
    match kind.plural.as_str() {
        "pods" => {
            check_containers(object, &["spec", "containers"], causes);
            check_images(object, causes);
        }
        "daemonsets" | "deployments" | "replicasets" => {
            check_template_labels(object, causes);
            check_containers(object, &["spec", "template", "spec", "containers"], causes);
        }
        MUTATING_WEBHOOKS => webhooks::check(object, causes),
        _ => {}
    }
}

fn check_containers(object: &Value, path: &[&str], causes: &mut Vec<Cause>) {
    let field = path.join(".");
    let containers = json::items(object, path);
    if containers.is_empty() {
        causes.push(Cause::required(field, ""));
        return;
    }
    for (index, container) in containers.iter().enumerate() {
        for key in ["name", "image"] {
            if json::text(container, &[key]).is_empty() {
                causes.push(Cause::required(format!("{field}[{index}].{key}"), ""));
            }
        }
    }
}

/// Of pods alone: a template with such an image is taken, and no pod can be made of it.
fn check_images(pod: &Value, causes: &mut Vec<Cause>) {
    for (index, container) in json::items(pod, &["spec", "containers"]).iter().enumerate() {
        let image = json::text(container, &["image"]);
        if image.trim() != image {
            let field = format!("spec.containers[{index}].image");
            let why = "must not have leading or trailing whitespace";
            causes.push(Cause::invalid(field, format!("{image:?}"), why));
        }
    }
}

fn check_template_labels(object: &Value, causes: &mut Vec<Cause>) {
    let selector = Selector::from_object(json::at(object, &["spec", "selector"]));
    let labels = json::at(object, &["spec", "template", "metadata", "labels"]);
    if selector.is_empty() || !selector.matches_labels(labels) {
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", shown_map(labels), why));
    }
}

/// A map as Go prints it.
fn shown_map(map: &Value) -> String {
    let Some(map) = map.as_object() else { return "map[string]string(nil)".to_owned() };
    let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
    format!("map[string]string{{{}}}", pairs.join(", "))
}

fn shown_selector(selector: &Value) -> String {
    let labels = shown_map(json::at(selector, &["matchLabels"]));
    format!("v1.LabelSelector{{MatchLabels:{labels}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}}")
}

fn check_pod_update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let fixed = |pod: &Value| {
        let mut spec = json::at(pod, &["spec"]).clone();
        for field in ["activeDeadlineSeconds", "tolerations"] {
            json::remove(&mut spec, &[field]);
        }
        for list in ["containers", "initContainers"] {
            json::each_mut(&mut spec, &[list], |container| json::remove(container, &["image"]));
        }
        spec
    };
    let kept = |toleration: &Value| json::items(new, &["spec", "tolerations"]).contains(toleration);
    if fixed(old) != fixed(new) || !json::items(old, &["spec", "tolerations"]).iter().all(kept) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`, \
                   `spec.initContainers[*].image`, `spec.activeDeadlineSeconds` or `spec.tolerations` (only \
                   additions to existing tolerations)";
        causes.push(Cause::forbidden("spec", why));
    }
}

fn check_new_finalizers(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if json::text(old, &["metadata", "deletionTimestamp"]).is_empty() {
        return;
    }
    let had = json::items(old, &["metadata", "finalizers"]);
    let added: Vec<String> = json::items(new, &["metadata", "finalizers"])
        .iter()
        .filter(|finalizer| !had.contains(finalizer))
        .map(Value::to_string)
        .collect();
    if !added.is_empty() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.join(", ")
        );
        causes.push(Cause::forbidden("metadata.finalizers", &why));
    }
}

/// Whether an object of this kind is held back by finalizers, its own or, for namespaces, the spec's.
pub(crate) fn has_finalizers(kind: &ResourceType, object: &Value) -> bool {
    !json::items(object, &["metadata", "finalizers"]).is_empty()
        || kind.is("", "namespaces")
            && json::at(object, &["spec", "finalizers"]) != &json!([])
            && !json::items(object, &["spec", "finalizers"]).is_empty()
}
