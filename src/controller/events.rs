//! Kubernetes Events on the record and on its gr, for `kubectl describe` and `kubectl get events`.
//!
//! They repeat what the record's timeline says and are best effort: an upgrade never waits for them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tracing::debug;

use crate::cluster::error_text;
use crate::record::{GcuUpgrade, Phase};

/// Events about cluster-scoped objects live here.
const NAMESPACE: &str = "default";
const PATIENCE: Duration = Duration::from_secs(5);

/// Posts the newest timeline entry. The name follows from the entry, so that posting it again after a crash
/// does not make a second one.
pub(super) async fn publish(client: &Client, record: &GcuUpgrade, now: Timestamp) {
    let status = record.known_status();
    let Some(entry) = status.timeline.last() else { return };
    let progressing = status.conditions.iter().find(|c| c.type_ == "Progressing");
    let reason = progressing.map(|c| c.reason.clone()).unwrap_or_default();
    let warning = matches!(status.phase, Phase::Held | Phase::Failed);
    let identity = format!("{}{}{}", record.uid().unwrap_or_default(), entry.at, entry.message);
    let hash = format!("{:x}", Sha256::digest(identity.as_bytes()));
    let api: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    for involved in [record.object_ref(&()), gr_reference(record)] {
        let event = Event {
            metadata: ObjectMeta {
                name: Some(event_name(&involved, &hash)),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: involved,
            reason: Some(reason.clone()),
            message: Some(format!("{}: {}", record.name_any(), entry.message)),
            type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
            source: Some(EventSource { component: Some("gcu-upgrade-manager".to_owned()), host: None }),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        };
        match timeout(PATIENCE, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!("event not posted: {}", error_text(&error)),
            Err(_) => debug!("event not posted in time"),
        }
    }
}

fn event_name(involved: &ObjectReference, hash: &str) -> String {
    let object: String = involved.name.as_deref().unwrap_or_default().chars().take(200).collect();
    let kind = involved.kind.as_deref().unwrap_or_default().to_ascii_lowercase();
    format!("{object}.{kind}.{}", hash.get(..16).unwrap_or(hash))
}

fn gr_reference(record: &GcuUpgrade) -> ObjectReference {
    let manifest = &record.spec.target.manifest;
    let status = record.known_status();
    ObjectReference {
        api_version: manifest.get("apiVersion").and_then(|v| v.as_str()).map(str::to_owned),
        kind: Some("GcuResource".to_owned()),
        name: Some(record.spec.gr.clone()),
        uid: status.created_uid.clone().or(status.deleting_uid.clone()).or(record
            .spec
            .previous
            .as_ref()
            .map(|p| p.uid.clone())),
        ..ObjectReference::default()
    }
}
