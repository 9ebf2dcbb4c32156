//! The Secret with the certificate, and who has to know of it: this replica's server, and the API server.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde_json::json;
use tokio::time::sleep;
use tracing::{info, warn};

use super::certificate::{Contents, Identity};
use super::configuration::{labels, with_bundle};
use super::{Error, Keeper, NAME, object};
use crate::cluster;

/// Before something that failed is tried again, the first time; then twice as long, up to the time between looks.
const RETRY: Duration = Duration::from_secs(5);
/// How often a write is tried that somebody else was faster with.
const ATTEMPTS: usize = 4;
/// API servers take a moment to see a configuration that has changed.
const SETTLE: Duration = Duration::from_secs(5);

/// Looks at Secret and configuration again and again. Runs until dropped.
pub(super) async fn run(keeper: Keeper) {
    let (mut pause, mut trouble) = (RETRY, String::new());
    loop {
        match tick(&keeper).await {
            Ok(()) => {
                if !trouble.is_empty() {
                    info!("the keeper recovered");
                }
                (pause, trouble) = (RETRY, String::new());
                sleep(keeper.0.look_every).await;
            }
            Err(error) => {
                let text = error.to_string();
                if text != trouble {
                    warn!("the keeper: {text}");
                }
                trouble = text;
                sleep(pause).await;
                pause = (pause + pause).min(keeper.0.look_every);
            }
        }
    }
}

async fn tick(keeper: &Keeper) -> Result<(), Error> {
    let (identity, renewed) = look(keeper).await?;
    let known = keep_bundle(keeper, &identity.contents).await;
    let of_same_ca = |served: &Identity| served.contents.has_ca_of(&identity.contents);
    if !keeper.0.served.borrow().as_ref().is_none_or(of_same_ca) {
        // Whoever calls has to trust the new CA before it is used.
        known?;
        sleep(SETTLE).await;
        serve(keeper, identity);
        return renewed;
    }
    serve(keeper, identity);
    known.and(renewed)
}

fn serve(keeper: &Keeper, identity: Identity) {
    keeper.0.served.send_if_modified(|served| {
        let is_new = served.as_ref().is_none_or(|s| s.contents != identity.contents);
        if is_new {
            *served = Some(identity);
        }
        is_new
    });
}

/// What the Secret holds, which is made or renewed if need be.
pub(super) async fn identity(keeper: &Keeper) -> Result<Identity, Error> {
    look(keeper).await.map(|(identity, _)| identity)
}

/// The same, and whether it could be renewed if that was due. Of several replicas the first one makes it and renews it,
/// and the others read what it has written.
async fn look(keeper: &Keeper) -> Result<(Identity, Result<(), Error>), Error> {
    let api = secrets(keeper);
    for _ in 0..ATTEMPTS {
        let found = cluster::get(&api, NAME).await.map_err(|e| keeper.failed("read Secret", e))?;
        let now = keeper.0.clock.now();
        let Some(found) = found else {
            match make(keeper, &api, now).await? {
                Some(identity) => return Ok((identity, Ok(()))),
                None => continue,
            }
        };
        let contents = Contents::from_data(found.data.get("data"));
        let (usable, why) = match contents.identity(&keeper.0.place.host(), now) {
            Ok(identity) if !identity.is_due => return Ok((identity, Ok(()))),
            Ok(identity) => (Some(identity), "it ends soon".to_owned()),
            Err(why) => (None, why),
        };
        match (renew(keeper, &api, found, &contents, now, &why).await, usable) {
            (Ok(Some(identity)), _) => return Ok((identity, Ok(()))),
            (Ok(None), _) => {}
            (Err(error), Some(identity)) => return Ok((identity, Err(error))),
            (Err(error), None) => return Err(error),
        }
    }
    Err(Error::Contended(format!("Secret {}/{NAME}", keeper.0.namespace)))
}

fn secrets(keeper: &Keeper) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<Secret>(&());
    Api::namespaced_with(keeper.0.client.clone(), &keeper.0.namespace, &resource)
}

/// What this replica serves with: others may, too.
fn served(keeper: &Keeper) -> Option<Contents> {
    keeper.0.served.borrow().as_ref().map(|served| served.contents.clone())
}

/// `None` when another replica was faster.
async fn make(keeper: &Keeper, api: &Api<DynamicObject>, now: Timestamp) -> Result<Option<Identity>, Error> {
    let (name, before) = (keeper.0.place.host(), served(keeper));
    let before: Vec<&Contents> = before.iter().collect();
    let contents = Contents::new(&name, now, &before).map_err(Error::Certificate)?;
    match api.create(&PostParams::default(), &secret(keeper, &contents)?).await {
        Ok(_) => info!(secret = NAME, "made a certificate for the keeper"),
        Err(kube::Error::Api(status)) if status.code == 409 => return Ok(None),
        Err(error) => return Err(keeper.failed("create Secret", error)),
    }
    contents.identity(&name, now).map(Some).map_err(Error::Certificate)
}

/// `None` when the Secret was changed or deleted meanwhile.
async fn renew(
    keeper: &Keeper,
    api: &Api<DynamicObject>,
    mut found: DynamicObject,
    contents: &Contents,
    now: Timestamp,
    why: &str,
) -> Result<Option<Identity>, Error> {
    let (name, before) = (keeper.0.place.host(), served(keeper));
    let renewed = contents.renewed(&name, now, before.as_ref()).map_err(Error::Certificate)?;
    if let Some(fields) = found.data.as_object_mut() {
        fields.insert("data".to_owned(), renewed.to_data());
    }
    match api.replace(NAME, &PostParams::default(), &found).await {
        Ok(_) => info!(secret = NAME, "renewed the certificate of the keeper: {why}"),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(None),
        Err(error) => return Err(keeper.failed("update Secret", error)),
    }
    renewed.identity(&name, now).map(Some).map_err(Error::Certificate)
}

fn secret(keeper: &Keeper, contents: &Contents) -> Result<DynamicObject, Error> {
    object(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": NAME, "namespace": keeper.0.namespace, "labels": labels() },
        "type": "kubernetes.io/tls",
        "data": contents.to_data(),
    }))
}

/// Keeps the CAs in the configuration up to date, if there is one. Nothing else of it is touched here: replicas of two
/// versions would quarrel about it.
async fn keep_bundle(keeper: &Keeper, contents: &Contents) -> Result<(), Error> {
    let api = keeper.configurations();
    for _ in 0..ATTEMPTS {
        let found = keeper.found().await?;
        let Some(found) = found else { return Ok(()) };
        let Some(changed) = with_bundle(&found, &contents.bundle()) else { return Ok(()) };
        match api.replace(NAME, &PostParams::default(), &changed).await {
            Ok(_) => {
                info!("the API server was told of the keeper's new certificate");
                return Ok(());
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(keeper.failed("update MutatingWebhookConfiguration", error)),
        }
    }
    Err(Error::Contended(format!("MutatingWebhookConfiguration {NAME}")))
}
