//! What the DaemonSet controller says of pods that it cannot create.

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::Controller;
use crate::actors::queue::key_of;

impl Controller {
    /// Says so in an event on the DaemonSet: one for all tries, as the real one's recorder puts them together.
    pub(super) async fn say_that_it_failed(&self, set: &DaemonSet, error: &kube::Error) {
        let kube::Error::Api(status) = error else { return };
        let (namespace, name) = key_of(set);
        let uid = set.uid().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = jiff::Timestamp::from_second(self.clock.now().as_second()).unwrap_or_default();
        let event = format!(
            "{name}.{}",
            uid.chars().filter(char::is_ascii_alphanumeric).take(16).collect::<String>()
        );
        let message = format!("Error creating: {}", status.message);
        let known = api.get_opt(&event).await.ok().flatten();
        let done = match known {
            Some(known) => {
                let count = known.count.unwrap_or(1).saturating_add(1);
                let message = format!("(combined from similar events): {message}");
                let again = json!({ "count": count, "lastTimestamp": now, "message": message });
                api.patch(&event, &PatchParams::default(), &Patch::Merge(again)).await.map(drop)
            }
            None => {
                let made = serde_json::from_value(json!({
                    "metadata": { "name": event, "namespace": namespace },
                    "involvedObject": {
                        "apiVersion": "apps/v1", "kind": "DaemonSet", "namespace": namespace, "name": name, "uid": uid,
                    },
                    "reason": "FailedCreate",
                    "message": message,
                    "type": "Warning",
                    "count": 1,
                    "firstTimestamp": now,
                    "lastTimestamp": now,
                    "source": { "component": "daemonset-controller" },
                }));
                match made {
                    Ok(made) => api.create(&PostParams::default(), &made).await.map(drop),
                    Err(_) => Ok(()),
                }
            }
        };
        if let Err(error) = done {
            tracing::debug!(%error, "an event was not written");
        }
    }
}
