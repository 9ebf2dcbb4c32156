//! How often Volcano still restarts a job. It gives a job up when it has been restarted `maxRetry` times, whoever was
//! the cause.

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use crate::plan::gangs::Gang;

/// What Volcano takes for a `maxRetry` that is not given.
const MAX_RETRY: i64 = 3;

/// How many restarts a gang survives; `None` if it is no job of Volcano.
///
/// # Errors
/// The API server's, as they come.
pub async fn restarts_left(client: &Client, gang: &Gang) -> Result<Option<u32>, kube::Error> {
    if !gang.counts_restarts() {
        return Ok(None);
    }
    let kind = GroupVersionKind::gvk("batch.volcano.sh", "v1alpha1", "Job");
    let resource = ApiResource::from_gvk_with_plural(&kind, "jobs");
    let jobs: Api<DynamicObject> = Api::namespaced_with(client.clone(), &gang.namespace, &resource);
    match jobs.get(&gang.name).await {
        Ok(job) => Ok(Some(survived(&job.data))),
        // Pods may carry the label without Volcano.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// The restart that makes `retryCount` reach `maxRetry` is the one that it does not survive.
fn survived(job: &Value) -> u32 {
    let number = |path: &str| job.pointer(path).and_then(Value::as_i64);
    let most = number("/spec/maxRetry").filter(|most| *most > 0).unwrap_or(MAX_RETRY);
    let left = most.saturating_sub(number("/status/retryCount").unwrap_or_default()).saturating_sub(1);
    u32::try_from(left).unwrap_or_default()
}
