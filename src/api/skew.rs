//! The versions around us, read now and then. Nothing depends on them but warnings: what cannot be read in a moment
//! is left out.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Context;
use crate::cluster::error_text;
use crate::explain::risk::{Risk, RiskName};
use crate::explain::skew::{Operator, Versions, warnings};

/// How long the API server may take to say it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a reading is good for; also one that read nothing, so that a cluster that is away is not asked by every
/// request anew.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// The operator's Deployment, in whichever namespace.
const OPERATOR: &str = "gcu-operator";

/// The last reading.
#[derive(Clone, Debug, Default)]
pub struct Readings(Arc<Mutex<Option<(Versions, Instant)>>>);

impl Context {
    /// The versions around us.
    pub(super) async fn versions(&self) -> Versions {
        // Held while reading: many requests at once make one reading.
        let mut last = self.readings.0.lock().await;
        let fresh =
            last.as_ref().filter(|(_, at)| at.elapsed() < GOOD_FOR).map(|(versions, _)| versions.clone());
        let mut versions = match fresh {
            Some(versions) => versions,
            None => {
                let versions = read(&self.client).await;
                *last = Some((versions.clone(), Instant::now()));
                versions
            }
        };
        // This is watched, and newer than any reading.
        versions.served = self.served.borrow().clone().unwrap_or_default();
        versions
    }

    /// What of them does not fit.
    pub(super) async fn skew(&self) -> Vec<Risk> {
        let risk = |message| Risk::new(RiskName::VersionSkew, message);
        warnings(&self.versions().await).into_iter().map(risk).collect()
    }
}

async fn read(client: &Client) -> Versions {
    let deployments: Api<Deployment> = Api::all(client.clone());
    let only = ListParams::default().fields(&format!("metadata.name={OPERATOR}"));
    let (server, operators) = tokio::join!(
        timeout(PATIENCE, client.apiserver_version()),
        timeout(PATIENCE, deployments.list(&only)),
    );
    let kubernetes = match server {
        Ok(Ok(info)) => Some(info.git_version),
        Ok(Err(error)) => unread("the version of the cluster", &error_text(&error)),
        Err(_) => unread("the version of the cluster", "no answer in time"),
    };
    let operators = match operators {
        Ok(Ok(list)) => Some(list.items.iter().filter_map(operator).collect()),
        Ok(Err(error)) => unread("the Deployment of gcu-operator", &error_text(&error)),
        Err(_) => unread("the Deployment of gcu-operator", "no answer in time"),
    };
    Versions { kubernetes, operators: operators.unwrap_or_default(), served: Vec::new() }
}

fn unread<T>(what: &str, why: &str) -> Option<T> {
    debug!(why, "{what} cannot be read");
    None
}

/// Its own container, or the first where none has its name.
fn operator(deployment: &Deployment) -> Option<Operator> {
    let containers = &deployment.spec.template.spec.as_ref()?.containers;
    let own = containers.iter().find(|c| c.image.as_deref().is_some_and(|image| image.contains(OPERATOR)));
    let image = own.or(containers.first())?.image.clone()?;
    Some(Operator { namespace: deployment.namespace().unwrap_or_default(), image })
}
