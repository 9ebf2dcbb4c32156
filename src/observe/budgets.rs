//! PodDisruptionBudgets, of whichever version the cluster serves.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::cluster::each;
use crate::plan::budget::{Budget, Rule, Selector};

/// Reads every budget. Clusters before 1.21 serve `policy/v1beta1` alone.
///
/// # Errors
/// The API server's, as they come.
pub async fn read(client: &Client) -> Result<Vec<Budget>, kube::Error> {
    match list(client, "v1").await {
        Err(kube::Error::Api(status)) if status.code == 404 => list(client, "v1beta1").await,
        result => result,
    }
}

async fn list(client: &Client, version: &str) -> Result<Vec<Budget>, kube::Error> {
    let kind = GroupVersionKind::gvk("policy", version, "PodDisruptionBudget");
    let resource = ApiResource::from_gvk_with_plural(&kind, "poddisruptionbudgets");
    let mut budgets = Vec::new();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    each(api, ListParams::default(), |object| budgets.push(parse_budget(&object, version == "v1"))).await?;
    Ok(budgets)
}

/// A budget; `empty_is_all` as in [`Selector::empty_is_all`].
pub fn parse_budget(object: &DynamicObject, empty_is_all: bool) -> Budget {
    let status = |field: &str| object.data.pointer(&format!("/status/{field}")).and_then(Value::as_i64);
    let selector = object.data.pointer("/spec/selector").unwrap_or(&Value::Null);
    let text = |value: &Value, field: &str| {
        value.get(field).and_then(Value::as_str).map(str::to_owned).unwrap_or_default()
    };
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let rules = selector.get("matchExpressions").and_then(Value::as_array);
    let rule = |rule: &Value| Rule {
        key: text(rule, "key"),
        operator: text(rule, "operator"),
        values: rule
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    };
    Budget {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        selector: Selector {
            labels: labels
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            rules: rules.into_iter().flatten().map(rule).collect(),
            // Without any selector nothing is protected, whatever the version.
            empty_is_all: empty_is_all && selector.is_object(),
        },
        allowed: status("disruptionsAllowed").unwrap_or_default(),
        healthy: status("currentHealthy").unwrap_or_default(),
        needed: status("desiredHealthy").unwrap_or_default(),
    }
}
