//! The MutatingWebhookConfiguration as this service wants it.

use k8s_openapi::ByteString;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::{KeeperAddress, NAME, WEBHOOK};
use crate::record::rolling::HELD_LABEL;

/// Where reviews are sent.
pub(super) const PATH: &str = "/keep";
/// For whoever finds the configuration and wonders.
const ABOUT: &str = "Keeps DaemonSets at OnDelete while gcu-upgrade-manager holds them. While the service is away, \
     changes of those DaemonSets are refused. It may always be deleted.";

/// Labels of what the service itself makes for the keeper.
pub(super) fn labels() -> Value {
    json!({
        "app.kubernetes.io/name": "gcu-upgrade-manager",
        "app.kubernetes.io/component": "keeper",
        "app.kubernetes.io/part-of": "enflame-gcu",
        "app.kubernetes.io/managed-by": "gcu-upgrade-manager",
    })
}

/// All of it, as it replaces what has the given version, or is new.
pub(super) fn wanted(place: &KeeperAddress, bundle: &ByteString, version: Option<String>) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {
            "name": NAME,
            "resourceVersion": version,
            "labels": labels(),
            "annotations": { "gum.enflame.com/about": ABOUT },
        },
        "webhooks": [webhook(place, bundle)],
    })
}

/// What the API server would fill in is there, so that what it stores can be compared with this.
fn webhook(place: &KeeperAddress, bundle: &ByteString) -> Value {
    json!({
        "name": WEBHOOK,
        "admissionReviewVersions": ["v1"],
        "clientConfig": client_config(place, bundle),
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        // Matches when the old or the new object does: dropping the label does not lead past it.
        "objectSelector": { "matchLabels": { HELD_LABEL: "true" } },
        "reinvocationPolicy": "IfNeeded",
        // The status is a resource of its own, and not named here.
        "rules": [{
            "apiGroups": ["apps"],
            "apiVersions": ["v1"],
            "operations": ["UPDATE"],
            "resources": ["daemonsets"],
            "scope": "Namespaced",
        }],
        "sideEffects": "None",
        "timeoutSeconds": 5,
    })
}

fn client_config(place: &KeeperAddress, bundle: &ByteString) -> Value {
    match place {
        KeeperAddress::Service { namespace, name } => {
            let service = json!({ "namespace": namespace, "name": name, "path": PATH, "port": 443 });
            json!({ "service": service, "caBundle": bundle })
        }
        KeeperAddress::Url { url, .. } => json!({ "url": format!("{url}{PATH}"), "caBundle": bundle }),
    }
}

/// Whether what was found does what is wanted. Fields of a webhook that came with a later version of the API are left
/// aside, but for those that let writes pass.
pub(super) fn is_current(found: &DynamicObject, place: &KeeperAddress, bundle: &ByteString) -> bool {
    let Some([found]) = found.data.get("webhooks").and_then(Value::as_array).map(Vec::as_slice) else {
        return false;
    };
    let narrowed = found.get("matchConditions").and_then(Value::as_array).is_some_and(|c| !c.is_empty());
    let wanted = webhook(place, bundle);
    !narrowed
        && wanted.as_object().is_some_and(|w| w.iter().all(|(key, value)| found.get(key) == Some(value)))
}

/// The configuration that was found with another bundle; `None` when it has this one.
pub(super) fn with_bundle(found: &DynamicObject, bundle: &ByteString) -> Option<DynamicObject> {
    let (mut changed, bundle) = (found.clone(), json!(bundle));
    let webhooks = changed.data.get_mut("webhooks").and_then(Value::as_array_mut);
    for webhook in webhooks.into_iter().flatten().filter(|w| w.get("name") == Some(&json!(WEBHOOK))) {
        if let Some(config) = webhook.get_mut("clientConfig").and_then(Value::as_object_mut) {
            config.insert("caBundle".to_owned(), bundle.clone());
        }
    }
    (changed.data != found.data).then_some(changed)
}
