//! MutatingWebhookConfigurations: what they have to say, and which of their webhooks an update concerns.

use serde_json::{Value, json};

use super::{error::Cause, path::ResourcePath, selector::Selector};
use crate::{
    json,
    resources::{ADMISSION_GROUP, MUTATING_WEBHOOKS, TypeKey},
    store::State,
};

/// Where a webhook is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Url(String),
    Service { namespace: String, name: String, port: i64, path: String },
}

impl Target {
    /// The address as the real server names it in errors, without the query.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Url(url) => url.clone(),
            Self::Service { namespace, name, port, path } => {
                format!("https://{name}.{namespace}.svc:{port}{path}")
            }
        }
    }

    /// The path on the server that listens there.
    pub(crate) fn path(&self) -> &str {
        let path = match self {
            Self::Url(url) => {
                let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
            }
            Self::Service { path, .. } => path,
        };
        if path.is_empty() { "/" } else { path }
    }
}

/// One webhook of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) name: String,
    pub(crate) target: Target,
    /// What cannot be asked is let pass.
    pub(crate) may_fail: bool,
    pub(crate) timeout_seconds: u64,
    /// Whether it understands `admission.k8s.io/v1`.
    pub(crate) speaks_v1: bool,
    selector: Selector,
}

impl Webhook {
    fn parse(webhook: &Value) -> Self {
        let service = json::at(webhook, &["clientConfig", "service"]);
        let word = |from: &Value, key: &str| json::text(from, &[key]).to_owned();
        let target = if service.is_object() {
            Target::Service {
                namespace: word(service, "namespace"),
                name: word(service, "name"),
                port: json::integer(service, &["port"]),
                path: word(service, "path"),
            }
        } else {
            Target::Url(json::text(webhook, &["clientConfig", "url"]).to_owned())
        };
        Self {
            name: word(webhook, "name"),
            target,
            may_fail: json::text(webhook, &["failurePolicy"]) == "Ignore",
            timeout_seconds: json::integer(webhook, &["timeoutSeconds"]).unsigned_abs(),
            speaks_v1: json::items(webhook, &["admissionReviewVersions"]).contains(&json!("v1")),
            selector: Selector::from_object(json::at(webhook, &["objectSelector"])),
        }
    }

    /// Whether the objects are of those it wants to see: one of them is enough.
    pub(crate) fn selects(&self, old: &Value, new: &Value) -> bool {
        self.selector.matches(old) || self.selector.matches(new)
    }
}

/// The webhooks whose rules and namespaces an update of this kind and place falls under, in the order of asking.
pub(crate) fn concerned(state: &State, place: ResourcePath<'_>) -> Vec<Webhook> {
    let key: TypeKey = (ADMISSION_GROUP.to_owned(), MUTATING_WEBHOOKS.to_owned());
    if place.kind.group == ADMISSION_GROUP || state.table(&key).is_none_or(|table| table.objects.is_empty()) {
        return Vec::new();
    }
    let configurations = state.objects(&key, "");
    let webhooks = configurations.iter().flat_map(|(_, object)| json::items(object, &["webhooks"]));
    let concerned = webhooks.filter(|webhook| {
        json::items(webhook, &["rules"]).iter().any(|rule| covers(rule, place))
            && is_in_namespace(state, json::at(webhook, &["namespaceSelector"]), place)
    });
    concerned.map(Webhook::parse).collect()
}

fn covers(rule: &Value, place: ResourcePath<'_>) -> bool {
    let has = |field: &str, wanted: &str| {
        json::items(rule, &[field]).iter().filter_map(Value::as_str).any(|one| one == "*" || one == wanted)
    };
    let resource = |pattern: &str| {
        let (plural, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
        (plural == "*" || plural == place.kind.plural)
            && (subresource == "*" || subresource == place.subresource)
    };
    let scope = match json::text(rule, &["scope"]) {
        "Cluster" => !place.kind.namespaced,
        "Namespaced" => place.kind.namespaced,
        _ => true,
    };
    scope
        && has("operations", "UPDATE")
        && has("apiGroups", &place.kind.group)
        && has("apiVersions", &place.version.name)
        && json::items(rule, &["resources"]).iter().filter_map(Value::as_str).any(resource)
}

fn is_in_namespace(state: &State, selector: &Value, place: ResourcePath<'_>) -> bool {
    let selector = Selector::from_object(selector);
    let name = if place.kind.is("", "namespaces") { place.name } else { place.namespace };
    if name.is_empty() || selector.is_empty() {
        return true;
    }
    let namespaces = (String::new(), "namespaces".to_owned());
    state.get(&namespaces, "", name).is_some_and(|namespace| selector.matches(&namespace))
}

/// What the server fills in.
pub(crate) fn set_defaults(object: &mut Value) {
    json::each_mut(object, &["webhooks"], |webhook| {
        json::default(webhook, &["failurePolicy"], "Fail");
        json::default(webhook, &["matchPolicy"], "Equivalent");
        json::default(webhook, &["reinvocationPolicy"], "Never");
        json::default(webhook, &["namespaceSelector"], json!({}));
        json::default(webhook, &["objectSelector"], json!({}));
        json::default(webhook, &["timeoutSeconds"], 10);
        if json::at(webhook, &["clientConfig", "service"]).is_object() {
            json::default(webhook, &["clientConfig", "service", "port"], 443);
        }
        json::each_mut(webhook, &["rules"], |rule| json::default(rule, &["scope"], "*"));
    });
}

/// The checks that a person who writes a configuration is likely to run into.
pub(crate) fn check(object: &Value, causes: &mut Vec<Cause>) {
    for (at, webhook) in json::items(object, &["webhooks"]).iter().enumerate() {
        let field = |name: &str| format!("webhooks[{at}].{name}");
        let name = json::text(webhook, &["name"]);
        if name.split('.').filter(|part| !part.is_empty()).count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            causes.push(Cause::invalid(field("name"), format!("{name:?}"), why));
        }
        if json::items(webhook, &["admissionReviewVersions"]).is_empty() {
            let why = "must specify one of v1, v1beta1";
            causes.push(Cause::required(field("admissionReviewVersions"), why));
        }
        match json::text(webhook, &["sideEffects"]) {
            "None" | "NoneOnDryRun" => {}
            "" => {
                causes.push(Cause::required(field("sideEffects"), "must specify one of None, NoneOnDryRun"))
            }
            other => {
                let supported = ["\"None\"", "\"NoneOnDryRun\""].map(str::to_owned);
                causes.push(Cause::unsupported(field("sideEffects"), &format!("{other:?}"), &supported));
            }
        }
        let config = json::at(webhook, &["clientConfig"]);
        let url = config.get("url").and_then(Value::as_str);
        match (url, config.get("service").is_some_and(Value::is_object)) {
            (Some(_), true) | (None, false) => {
                let why = "exactly one of url or service is required";
                causes.push(Cause::required(field("clientConfig"), why));
            }
            (Some(url), false) if !url.starts_with("https://") => {
                let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
                let why = "'https' is the only allowed URL scheme; desired format: https://host[/path]";
                causes.push(Cause::invalid(field("clientConfig.url"), format!("{scheme:?}"), why));
            }
            _ => {}
        }
    }
}
