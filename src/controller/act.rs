//! Act: one idempotent API call for each action, one write for each status.

pub(super) mod rolling;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{error_text, is_absent};
use crate::observe::{gr_api, gr_api_of};
use crate::plan::{FleetAction, GrAction};
use crate::record::{FINALIZER, GcuUpgrade, GcuUpgradeStatus};
use crate::store::Stores;

/// What became of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Done.
    Done,
    /// The cluster is not what the call presumed (404, 409): look again.
    LookAgain,
    /// The API server says no, in these words. It may say yes later.
    Refused(String),
    /// No answer, or one that says nothing about the call (429, 503, 504, 401): look again later.
    Unavailable(String),
}

impl Outcome {
    /// Sorts an error by what it means for the caller.
    pub(super) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                409 => Self::LookAgain,
                404 if is_absent(status) => Self::LookAgain,
                401 | 408 | 429 | 502 | 503 | 504 => Self::Unavailable(error_text(error)),
                _ => Self::Refused(error_text(error)),
            },
            other => Self::Unavailable(error_text(other)),
        }
    }
}

impl From<Result<(), kube::Error>> for Outcome {
    fn from(result: Result<(), kube::Error>) -> Self {
        result.map_or_else(|error| Self::of(&error), |()| Self::Done)
    }
}

/// Makes a call on the gr or the record.
pub(super) async fn act(client: &Client, stores: &Stores, record: &GcuUpgrade, action: &GrAction) -> Outcome {
    let grs = &stores.grs;
    let result = match action {
        GrAction::Delete { uid, resource_version } => {
            let left = delete(client, record, uid, resource_version).await;
            left.map(|left| grs.deleted(&record.spec.gr, uid, left.as_ref()))
        }
        GrAction::Create { manifest, .. } => create(client, manifest).await.map(|gr| grs.wrote(&gr)),
        GrAction::Fence { uid, resource_version, mark } => {
            patch_gr(client, record, uid, resource_version, mark, None).await.map(|gr| grs.wrote(&gr))
        }
        GrAction::ReleaseRecord => {
            release(client, record).await.map(|record| stores.records.at_least(&record))
        }
        GrAction::Patch { uid, resource_version, change, mark } => {
            let patched = patch_gr(client, record, uid, resource_version, mark, Some(change)).await;
            patched.map(|gr| grs.wrote(&gr))
        }
    };
    result.into()
}

/// Makes a call on a DaemonSet, a node or a pod; `eviction` is the version of the eviction API that the cluster
/// has.
pub(super) async fn act_on_fleet(client: &Client, eviction: &str, action: &FleetAction) -> Outcome {
    rolling::act(client, eviction, action).await.into()
}

/// What is left of the gr, while finalizers keep it.
async fn delete(
    client: &Client,
    record: &GcuUpgrade,
    uid: &str,
    version: &str,
) -> Result<Option<DynamicObject>, kube::Error> {
    let only_this = Preconditions { uid: Some(uid.to_owned()), resource_version: Some(version.to_owned()) };
    let params = DeleteParams::background().preconditions(only_this);
    gr_api(client, record).delete(&record.spec.gr, &params).await.map(|left| left.left())
}

async fn create(client: &Client, manifest: &Value) -> Result<DynamicObject, kube::Error> {
    let object: DynamicObject = serde_json::from_value(manifest.clone()).map_err(kube::Error::SerdeError)?;
    gr_api_of(client, manifest).create(&PostParams::default(), &object).await
}

/// Marks exactly the gr that was looked at, in the version that was looked at, and with it may change its spec.
async fn patch_gr(
    client: &Client,
    record: &GcuUpgrade,
    uid: &str,
    version: &str,
    mark: &str,
    change: Option<&Value>,
) -> Result<DynamicObject, kube::Error> {
    let annotations = json!({ crate::gr::MARK_ANNOTATION: mark });
    let metadata = json!({ "uid": uid, "resourceVersion": version, "annotations": annotations });
    let patch = match change {
        Some(change) => json!({ "metadata": metadata, "spec": change }),
        None => json!({ "metadata": metadata }),
    };
    gr_api(client, record).patch(&record.spec.gr, &PatchParams::default(), &Patch::Merge(&patch)).await
}

async fn release(client: &Client, record: &GcuUpgrade) -> Result<GcuUpgrade, kube::Error> {
    let others: Vec<&String> = record.finalizers().iter().filter(|f| *f != FINALIZER).collect();
    let patch = json!({ "metadata": { "resourceVersion": record.resource_version(), "finalizers": others } });
    let api: Api<GcuUpgrade> = Api::all(client.clone());
    api.patch(&record.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await
}

/// Writes the status, guarded by the record's version, and returns the record as stored.
///
/// # Errors
/// The API server's; 409 when the record has changed meanwhile.
pub(super) async fn write_status(
    client: &Client,
    record: &GcuUpgrade,
    status: GcuUpgradeStatus,
) -> Result<GcuUpgrade, kube::Error> {
    let api: Api<GcuUpgrade> = Api::all(client.clone());
    let mut changed = record.clone();
    changed.status = Some(status);
    api.replace_status(&record.name_any(), &PostParams::default(), &changed).await
}
