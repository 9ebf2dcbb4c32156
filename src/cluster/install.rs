//! Puts the record's CRD into the cluster and keeps it there.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::error_text;
use crate::record::{CRD_REVISION, CRD_REVISION_ANNOTATION, crd};
use crate::telemetry::trouble::Trouble;

const RETRY: Duration = Duration::from_secs(5);
const SAFETY_NET: Duration = Duration::from_secs(300);
/// The API server takes a moment to serve a new CRD.
const ESTABLISH: Duration = Duration::from_millis(50);

/// Installs or updates the CRD whenever it is missing or older than ours. `missing` says what stands in the
/// way, and is `None` while records can be written. Runs until dropped.
pub async fn run(client: Client, missing: watch::Sender<Option<String>>) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let metadata: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client);
    let name = crd().name_any();
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = watcher(metadata, only).default_backoff().boxed();
    let mut trouble = Trouble::default();
    loop {
        let pause = match ensure(&api).await {
            Ok(Found::Served) => {
                trouble.over();
                missing.send_replace(None);
                SAFETY_NET
            }
            Ok(Found::Settling) => ESTABLISH,
            Ok(Found::NotOurs { what, why }) => {
                let text = format!(
                    "the CRD {name} {what} ({why}): apply it with: gcu-upgrade-manager crd | kubectl apply -f -"
                );
                if missing.send_replace(Some(text.clone())).as_deref() != Some(&text) {
                    warn!("{text}");
                }
                // Whoever applies it wakes us.
                SAFETY_NET
            }
            Err(error) => {
                let text = format!("the CRD {name} cannot be looked at: {}", error_text(&error));
                if let Some(line) = trouble.again(&text) {
                    warn!("{line}");
                }
                missing.send_replace(Some(text));
                RETRY
            }
        };
        let news = async {
            while let Some(event) = changes.next().await {
                if matches!(event, Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) {
                    return;
                }
            }
        };
        if timeout(pause, news).await.is_ok() {
            sleep(ESTABLISH).await;
        }
    }
}

/// How the CRD stands.
enum Found {
    /// The API server serves one at least as new as ours.
    Served,
    /// It changes just now.
    Settling,
    /// It is missing and not ours to install, or older and not ours to update. An older schema would silently drop
    /// what it does not know, such as what a record remembers of an upgrade: so nothing is begun with it.
    NotOurs {
        /// What it is.
        what: String,
        /// Why it is not ours to change.
        why: String,
    },
}

/// One look.
async fn ensure(api: &Api<CustomResourceDefinition>) -> Result<Found, kube::Error> {
    let wanted = crd();
    let Some(found) = api.get_opt(&wanted.name_any()).await? else {
        return match api.create(&PostParams::default(), &wanted).await {
            Ok(_) => {
                info!(crd = %wanted.name_any(), "installed");
                Ok(Found::Settling)
            }
            // Another replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Found::Settling),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let what = "is not installed, and this service may not install it".to_owned();
                Ok(Found::NotOurs { what, why: status.message.clone() })
            }
            Err(error) => Err(error),
        };
    };
    let revision = revision(&found);
    if revision < CRD_REVISION {
        let mut update = wanted;
        update.metadata.resource_version = found.resource_version();
        match api.replace(&found.name_any(), &PostParams::default(), &update).await {
            Ok(_) => info!(crd = %found.name_any(), revision = CRD_REVISION, "updated"),
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Found::Settling),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let what = format!(
                    "is of revision {revision}, this version needs {CRD_REVISION} and may not update it"
                );
                return Ok(Found::NotOurs { what, why: status.message.clone() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(if is_established(&found) { Found::Served } else { Found::Settling })
}

fn revision(crd: &CustomResourceDefinition) -> u32 {
    crd.annotations().get(CRD_REVISION_ANNOTATION).and_then(|r| r.parse().ok()).unwrap_or_default()
}

fn is_established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Established" && c.status == "True")
}
