//! Which API groups serve the gr: operator 2.0–2.1 and 2.4 use different ones, so none is hard-coded.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::error_text;
use crate::telemetry::trouble::Trouble;

/// The vendor's API groups end like this; ours does, too.
const VENDOR: &str = ".enflame.com";
/// A CRD settles in several writes.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// An API server says what it serves some time after it has taken a CRD: so often it is asked again.
const SETTLES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// Before a failed discovery is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// When no watch on CRDs is to be had, this is how late a new operator is noticed.
const SAFETY_NET: Duration = Duration::from_secs(60);

/// The `group/version`s that serve GcuResources, of each group the most preferred one that does: the group's preferred
/// version may have other resources only.
///
/// # Errors
/// The API server's.
pub async fn discover(client: &Client) -> Result<Vec<String>, kube::Error> {
    let mut found = Vec::new();
    for group in client.list_api_groups().await?.groups {
        if !group.name.ends_with(VENDOR) || group.name == crate::record::GROUP {
            continue;
        }
        let preferred = group.preferred_version.as_ref().map(|v| &v.group_version);
        let others = group.versions.iter().map(|v| &v.group_version).filter(|v| Some(*v) != preferred);
        for api_version in preferred.into_iter().chain(others) {
            let resources = match client.list_api_group_resources(api_version).await {
                Ok(list) => list.resources,
                // It went between the two calls.
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(error) => return Err(error),
            };
            if resources.iter().any(|r| r.kind == "GcuResource" && r.name == "gcuresources") {
                found.push(api_version.clone());
                break;
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Keeps `served` up to date, woken by changes of CRDs; it is `None` until the cluster has answered once, and `unknown`
/// says why. Runs until dropped.
pub async fn run(
    client: Client,
    served: watch::Sender<Option<Vec<String>>>,
    unknown: watch::Sender<Option<String>>,
) {
    let mut trouble = Trouble::default();
    let crds: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    let mut changes = watcher(crds, watcher::Config::default()).default_backoff().boxed();
    let mut settling = <&[Duration]>::default().iter();
    loop {
        let pause = match discover(&client).await {
            Ok(found) => {
                let changed = served.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(&found);
                    *known = Some(found.clone());
                    changed
                });
                if let Some(failures) = trouble.over() {
                    info!(failures, "the API server has been reached");
                }
                if changed {
                    info!("APIs that serve GcuResources: {}", found.join(", "));
                }
                settling.next().copied().unwrap_or(SAFETY_NET)
            }
            Err(error) => {
                let why = error_text(&error);
                if let Some(line) = trouble.again(&why) {
                    warn!("cannot discover which API serves GcuResources, trying again: {line}");
                }
                unknown.send_replace(Some(why));
                RETRY
            }
        };
        // An error of the watch is no news about CRDs: it backs off by itself, and the pause bounds it.
        let news = async {
            while let Some(event) = changes.next().await {
                match event {
                    Ok(watcher::Event::Apply(crd) | watcher::Event::Delete(crd)) => {
                        return crd.name_any().starts_with("gcuresources.");
                    }
                    Ok(watcher::Event::InitDone) => return false,
                    _ => {}
                }
            }
            false
        };
        if let Ok(of_a_gr) = timeout(pause, news).await {
            if of_a_gr {
                settling = SETTLES.iter();
            }
            sleep(DEBOUNCE).await;
        }
    }
}
