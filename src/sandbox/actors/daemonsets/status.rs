//! A DaemonSet's status.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::Controller;
use crate::actors::queue::{Key, is_moot};

/// The numbers, as Kubernetes counts them.
#[derive(Default)]
pub(super) struct Status {
    pub(super) desired: i32,
    pub(super) current: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    pub(super) updated: i32,
    pub(super) misscheduled: i32,
    /// When the next ready pod becomes available.
    pub(super) look_again: Option<Duration>,
}

impl Status {
    /// Something will be different after that long, without any event.
    pub(super) fn note(&mut self, left: Duration) {
        self.look_again = Some(self.look_again.map_or(left, |known| known.min(left)));
    }
}

impl Controller {
    pub(super) async fn report(
        &self,
        key: &Key,
        set: &DaemonSet,
        status: &Status,
    ) -> Result<(), kube::Error> {
        // A real server leaves zeros of these out; `null` takes an old number away.
        let number = |number: i32| (number != 0).then_some(number);
        let wanted = DaemonSetStatus {
            current_number_scheduled: status.current,
            desired_number_scheduled: status.desired,
            number_ready: status.ready,
            number_misscheduled: status.misscheduled,
            number_available: number(status.available),
            number_unavailable: number(status.desired.saturating_sub(status.available)),
            updated_number_scheduled: number(status.updated),
            observed_generation: set.metadata.generation,
            ..DaemonSetStatus::default()
        };
        if set.status.as_ref().is_some_and(|reported| counted(reported) == counted(&wanted)) {
            return Ok(());
        }
        let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), &key.0);
        let mut fields = json!(wanted);
        if let Some(fields) = fields.as_object_mut() {
            for optional in ["numberAvailable", "numberUnavailable", "updatedNumberScheduled"] {
                fields.entry(optional).or_insert(Value::Null);
            }
        }
        let patch = json!({ "metadata": { "uid": set.uid() }, "status": fields });
        match api.patch_status(&key.1, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if !is_moot(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// What counts of a status: a server may leave zeros out.
fn counted(status: &DaemonSetStatus) -> [i64; 8] {
    let optional = |number: Option<i32>| i64::from(number.unwrap_or(0));
    [
        status.current_number_scheduled.into(),
        status.desired_number_scheduled.into(),
        status.number_ready.into(),
        status.number_misscheduled.into(),
        optional(status.number_available),
        optional(status.number_unavailable),
        optional(status.updated_number_scheduled),
        status.observed_generation.unwrap_or(0),
    ]
}
