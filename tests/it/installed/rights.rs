//! The rights that the chart gives, held against the calls of the audit log.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use serde_json::Value;

use super::*;

/// One verb on one resource, everywhere or in a namespace, of every name or of some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    pub(super) namespace: Option<String>,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) verb: String,
    pub(super) names: Vec<String>,
}

pub(super) async fn rights(client: &Client) -> BTreeSet<Right> {
    let cluster_roles: Api<ClusterRole> = Api::all(client.clone());
    let role = cluster_roles.get(NAME).await.unwrap();
    let mut all: BTreeSet<Right> = each_right(None, role.rules.unwrap());
    for (namespace, suffix) in
        [(NAMESPACE, "lease"), (NAMESPACE, "keeper"), (NAMESPACE, "notifications"), ("default", "events")]
    {
        let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
        let role = roles.get(&format!("{NAME}-{suffix}")).await.unwrap();
        all.extend(each_right(Some(namespace), role.rules.unwrap()));
    }
    all
}

fn each_right(namespace: Option<&str>, rules: Vec<PolicyRule>) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    all.insert(Right {
                        namespace: namespace.map(str::to_owned),
                        group: group.clone(),
                        resource: resource.clone(),
                        verb: verb.clone(),
                        names: rule.resource_names.clone().unwrap_or_default(),
                    });
                }
            }
        }
    }
    all
}

impl Right {
    pub(super) fn allows(&self, event: &Value) -> bool {
        let object = &event["objectRef"];
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            sub => format!("{}/{sub}", text("resource")),
        };
        self.namespace.as_deref().is_none_or(|n| n == text("namespace"))
            && self.group == text("apiGroup")
            && self.resource == resource
            && event["verb"] == *self.verb
            && (self.names.is_empty() || self.names.iter().any(|n| n == text("name")))
    }
}

/// Both ways: no call that no rule of ours allows, no rule that allows nothing that was called.
pub(super) fn compare(rights: &BTreeSet<Right>, audit: &Path) {
    let log = std::fs::read_to_string(audit).unwrap();
    let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
    let events: Vec<Value> = log
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .filter(|e| e["user"]["username"] == user)
        .collect();
    assert!(events.len() > 100, "only {} calls", events.len());
    let told = |e: &Value| format!("{} {} {}", e["verb"], e["requestURI"], e["annotations"]);
    let forbidden: BTreeSet<String> =
        events.iter().filter(|e| e["responseStatus"]["code"] == 403).map(told).collect();
    assert!(forbidden.is_empty(), "not allowed: {forbidden:#?}");
    // What is no resource, such as /apis, every account may see.
    let on_resources: Vec<&Value> =
        events.iter().filter(|e| e["objectRef"]["resource"].is_string()).collect();
    let by_others: BTreeSet<String> =
        on_resources.iter().filter(|e| !rights.iter().any(|r| r.allows(e))).map(|e| told(e)).collect();
    assert!(by_others.is_empty(), "allowed, but not by the chart: {by_others:#?}");
    let unused: Vec<&Right> = rights
        .iter()
        .filter(|r| r.group != OTHER_GROUP)
        .filter(|r| !on_resources.iter().any(|e| r.allows(e)))
        .collect();
    assert!(unused.is_empty(), "granted and never used: {unused:#?}");
}

/// Somebody who takes every notification, named in a file beside the blueprints.
pub(super) async fn receiver(blueprints: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, axum::Router::new().fallback(|| async {})).await });
    let text = format!("sinks: [{{ name: it, type: webhook, url: '{url}' }}]");
    std::fs::write(blueprints.join("receivers"), text).unwrap();
}
