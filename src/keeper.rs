//! The keeper: a mutating admission webhook that keeps held DaemonSets at `OnDelete`, whoever writes them.
//!
//! Operators that write whole objects put their own update strategy back, and with it the DaemonSet controller may
//! replace pods on nodes that nobody has claimed, before this service can react. Between such a write and its effect
//! there is admission: here the strategy and the marks of the hold are put back into the write itself.
//!
//! It sees updates of DaemonSets that carry [`HELD_LABEL`], and nothing else. While no replica answers, such updates
//! are refused: they wait, and nothing restarts. It is installed by whoever holds DaemonSets, and removed with the last
//! hold; a person may delete the configuration at any moment.
//!
//! | file | what |
//! | --- | --- |
//! | `review` | the answer to a review, pure |
//! | `serve` | reviews over HTTPS |
//! | `configuration` | what the API server is told |
//! | `certificate`, `validity` | the certificate and its CA |
//! | `maintain` | the Secret that replicas share; renewal |

mod certificate;
mod configuration;
mod maintain;
pub mod review;
pub mod serve;
pub mod validity;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::Clock;
use crate::cluster::{self, error_text, is_absent};
use crate::metrics::Metrics;
use crate::record::rolling::HELD_LABEL;
use certificate::Identity;
use configuration::{is_current, wanted};

/// The name of the MutatingWebhookConfiguration, and of the Secret.
pub const NAME: &str = "gcu-upgrade-manager-keeper";
/// The name of the webhook, which the API server says when it cannot call it.
pub const WEBHOOK: &str = "keeper.gum.enflame.com";
/// How often Secret and configuration are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// How often a write is tried that somebody else was faster with.
const ATTEMPTS: usize = 4;

/// Where the API server finds the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeeperAddress {
    /// A Service in the cluster, on port 443.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An address, for a service outside the cluster: see [`KeeperAddress::url`].
    Url {
        /// `https://HOST[:PORT]`.
        url: String,
        /// The host alone.
        host: String,
    },
}

impl KeeperAddress {
    /// An address of the form `https://HOST[:PORT]`.
    ///
    /// # Errors
    /// Says which form it has to have.
    pub fn url(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not of the form https://HOST or https://HOST:PORT");
        let url: http::Uri = text.parse().map_err(|_| form())?;
        let authority = url.authority().ok_or_else(form)?;
        let host = authority.host();
        // No name or password before the host, and no port that is none behind it.
        let port = authority.as_str().strip_prefix(host).ok_or_else(form)?;
        let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
        let is_plain = matches!(url.path(), "" | "/") && url.query().is_none() && !text.contains('#');
        let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let host = host.trim_matches(['[', ']']);
        if url.scheme_str() != Some("https") || !is_plain || !port_is_good || host.is_empty() {
            return Err(form());
        }
        Ok(Self::Url { url: format!("https://{authority}"), host: host.to_owned() })
    }

    /// What the certificate has to be for.
    fn host(&self) -> String {
        match self {
            Self::Service { namespace, name } => format!("{name}.{namespace}.svc"),
            Self::Url { host, .. } => {
                host.parse::<IpAddr>().map_or_else(|_| host.clone(), |ip| ip.to_string())
            }
        }
    }
}

/// How the keeper is reached, and where its Secret is.
pub struct Settings {
    /// Where it listens.
    pub listener: TcpListener,
    /// Where the API server finds it.
    pub place: KeeperAddress,
    /// The namespace of its Secret.
    pub namespace: String,
    /// How often Secret and configuration are looked at.
    pub look_every: Duration,
}

impl Settings {
    /// The Secret is in the namespace of the Service, or in the given one when there is none.
    pub fn new(listener: TcpListener, place: KeeperAddress, namespace: &str) -> Self {
        let namespace = match &place {
            KeeperAddress::Service { namespace, .. } => namespace.clone(),
            KeeperAddress::Url { .. } => namespace.to_owned(),
        };
        Self { listener, place, namespace, look_every: LOOK_EVERY }
    }
}

/// Whether the API server asks the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// There is no configuration.
    Absent,
    /// It is as it should be.
    Current,
    /// It is not as it should be: another certificate, another address, or changed by hand.
    Outdated,
}

/// Whether a held DaemonSet would stay held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It would.
    Kept,
    /// It would not, and why: in the words of the API server, when it cannot reach the keeper.
    NotKept(String),
}

/// Why the keeper could not be looked at, installed, proven or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused a call, or did not answer.
    #[error("cannot {what}: {}", error_text(.source))]
    Call {
        /// What was to be done.
        what: String,
        /// Its answer.
        source: kube::Error,
    },
    /// There is no certificate to be had.
    #[error("there is no certificate for the keeper: {0}")]
    Certificate(String),
    /// Somebody else was faster each time.
    #[error("{0} is being changed by somebody else again and again")]
    Contended(String),
    /// The DaemonSet is gone, or another one has its name.
    #[error("DaemonSet {0} is not the one that is held any more: it is gone, or was made anew")]
    Gone(String),
}

/// A handle on the keeper. Cheap to clone.
#[derive(Clone)]
pub struct Keeper(Arc<Inner>);

struct Inner {
    client: Client,
    clock: Clock,
    place: KeeperAddress,
    namespace: String,
    look_every: Duration,
    metrics: Metrics,
    /// What this replica serves with, once it has something.
    served: watch::Sender<Option<Identity>>,
}

/// A keeper, and the task that serves it and keeps its certificate: it runs until `stop`.
pub fn open(
    client: Client,
    clock: Clock,
    metrics: Metrics,
    settings: Settings,
    stop: CancellationToken,
) -> (Keeper, impl Future<Output = ()>) {
    let Settings { listener, place, namespace, look_every } = settings;
    let served = watch::Sender::new(None);
    let inner = Inner { client, clock, place, namespace, look_every, metrics, served };
    let keeper = Keeper(Arc::new(inner));
    let (serving, maintaining) = (keeper.clone(), keeper.clone());
    let run = async move {
        let maintained = stop.run_until_cancelled(maintain::run(maintaining));
        tokio::join!(maintained, serve::run(serving, listener, stop.clone()));
    };
    (keeper, run)
}

impl Keeper {
    /// Whether the API server asks the keeper.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn state(&self) -> Result<Installed, Error> {
        let identity = maintain::identity(self).await?;
        let bundle = identity.contents.bundle();
        Ok(match self.found().await? {
            None => Installed::Absent,
            Some(found) if is_current(&found, &self.0.place, &bundle) => Installed::Current,
            Some(_) => Installed::Outdated,
        })
    }

    /// Has the API server ask the keeper. May be said again: what is outdated is brought up to date.
    ///
    /// API servers take a moment to see it, each by itself: [`Keeper::prove`] has to be asked again for a while.
    ///
    /// # Errors
    /// When it cannot be installed.
    pub async fn install(&self) -> Result<(), Error> {
        let identity = maintain::identity(self).await?;
        let (api, bundle) = (self.configurations(), identity.contents.bundle());
        for _ in 0..ATTEMPTS {
            let found = self.found().await?;
            if found.as_ref().is_some_and(|found| is_current(found, &self.0.place, &bundle)) {
                return Ok(());
            }
            let version = found.as_ref().and_then(ResourceExt::resource_version);
            let wanted = object(wanted(&self.0.place, &bundle, version))?;
            let (written, what) = match found {
                None => (api.create(&PostParams::default(), &wanted).await, "create"),
                Some(_) => (api.replace(NAME, &PostParams::default(), &wanted).await, "update"),
            };
            match written {
                Ok(_) => {
                    info!("the API server is to ask the keeper about held DaemonSets");
                    self.0.metrics.keeper_installed(true);
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => {
                    return Err(self.failed(&format!("{what} MutatingWebhookConfiguration"), error));
                }
            }
        }
        Err(Error::Contended(format!("MutatingWebhookConfiguration {NAME}")))
    }

    /// Has the API server ask this replica where it asks one that had another address or certificate. Installs nothing.
    ///
    /// # Errors
    /// When that cannot be found out or done.
    pub async fn refresh(&self) -> Result<(), Error> {
        match self.found().await? {
            None => Ok(()),
            Some(_) => self.install().await,
        }
    }

    /// Tries, in a dry run, to let go of a held DaemonSet the way an operator would that knows of no hold.
    ///
    /// After [`Keeper::install`] this is [`Proof::NotKept`] for a moment, because API servers keep what they know of
    /// webhooks in memory: ask again, for some seconds. In a cluster with several API servers an answer speaks for the
    /// one that gave it, so one [`Proof::Kept`] is not enough there.
    ///
    /// # Errors
    /// When it cannot be tried, which says nothing about the keeper.
    pub async fn prove(&self, namespace: &str, name: &str, uid: &str) -> Result<Proof, Error> {
        let api: Api<DaemonSet> = Api::namespaced(self.0.client.clone(), namespace);
        let patch = json!({
            "metadata": { "uid": uid, "labels": { HELD_LABEL: null } },
            "spec": { "updateStrategy": { "type": "RollingUpdate" } },
        });
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        let answer = match api.patch(name, &dry_run, &Patch::Merge(&patch)).await {
            Ok(answer) => answer,
            Err(kube::Error::Api(status)) if status.message.contains(WEBHOOK) => {
                return Ok(Proof::NotKept(status.message.clone()));
            }
            Err(source) => {
                let may_be_gone = matches!(&source, kube::Error::Api(s) if matches!(s.code, 404 | 409 | 422));
                if may_be_gone && cluster::get(&api, name).await.is_ok_and(|found| !is(found, uid)) {
                    return Err(Error::Gone(format!("{namespace}/{name}")));
                }
                let what = format!("try the keeper on DaemonSet {namespace}/{name}");
                return Err(Error::Call { what, source });
            }
        };
        let is_labelled = answer.labels().get(HELD_LABEL).is_some_and(|value| value == "true");
        let strategy = answer.spec.update_strategy.and_then(|s| s.type_).unwrap_or_default();
        if strategy == "OnDelete" && is_labelled {
            return Ok(Proof::Kept);
        }
        Ok(Proof::NotKept(format!(
            "a trial write of DaemonSet {namespace}/{name} came through with update strategy {strategy}: the API \
             server did not ask webhook {WEBHOOK}. It asks about DaemonSets with the label {HELD_LABEL}=true, some \
             seconds after the webhook is installed"
        )))
    }

    /// Has the API server ask the keeper no more. May be said again.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self) -> Result<(), Error> {
        match self.configurations().delete(NAME, &DeleteParams::default()).await {
            Ok(_) => info!("the API server is no longer to ask the keeper"),
            Err(kube::Error::Api(status)) if is_absent(&status) => {}
            Err(error) => return Err(self.failed("delete MutatingWebhookConfiguration", error)),
        }
        self.0.metrics.keeper_installed(false);
        Ok(())
    }

    fn configurations(&self) -> Api<DynamicObject> {
        Api::all_with(self.0.client.clone(), &ApiResource::erase::<MutatingWebhookConfiguration>(&()))
    }

    /// The configuration, if there is one.
    async fn found(&self) -> Result<Option<DynamicObject>, Error> {
        let found = cluster::get(&self.configurations(), NAME).await;
        let found = found.map_err(|e| self.failed("read MutatingWebhookConfiguration", e))?;
        self.0.metrics.keeper_installed(found.is_some());
        Ok(found)
    }

    fn failed(&self, what: &str, source: kube::Error) -> Error {
        let place = if what.ends_with("Secret") { format!("{}/", self.0.namespace) } else { String::new() };
        Error::Call { what: format!("{what} {place}{NAME}"), source }
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}

/// As kube sends it.
fn object(value: Value) -> Result<DynamicObject, Error> {
    let object = serde_json::from_value(value).map_err(kube::Error::SerdeError);
    object.map_err(|source| Error::Call { what: "describe what is wanted".to_owned(), source })
}

fn is(found: Option<DaemonSet>, uid: &str) -> bool {
    found.is_some_and(|found| found.metadata.uid.as_deref() == Some(uid))
}
