//! The cluster of the kubeconfig.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Volume};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::noted::Notes;
use super::{Acts, Body};
use crate::api;
use crate::api::auth::Standing;
use crate::api::limits::Shares;
use crate::api::patience::Patience;
use crate::api::skew::Readings;
use crate::blueprint::Blueprint;
use crate::blueprint::catalog::Catalog;
use crate::cli::args::Global;
use crate::cli::exit::{Exit, Failure};
use crate::clock::Clock;
use crate::cluster::discovery::discover;
use crate::cluster::{cause, connect, error_text};
use crate::frame::time::short;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use crate::store::Nothing;

/// How the chart labels what it installs.
const OURS: &str = "app.kubernetes.io/name=gcu-upgrade-manager";
/// For what is only told beside the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cluster.
pub(crate) struct Cluster {
    context: api::Context,
    notes: Notes,
    lease: (String, String),
    /// Where the API server is, for messages.
    pub(in crate::cli) server: String,
}

impl Cluster {
    /// Reads the kubeconfig.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub(super) async fn connect(global: &Global) -> Result<Self, Failure> {
        let config = config(global).await?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let clock = Clock::system();
        let notes = Notes::default();
        let client = connect(config, Metrics::default())
            .map_err(|e| Failure::usage(format!("the kubeconfig cannot be used: {}", error_text(&e))))?;
        let context = api::Context {
            known: Arc::new(Nothing),
            client: notes.of(client),
            clock,
            // Blueprints come with the calls.
            catalog: Arc::new(Catalog::open("", clock).await),
            served: watch::channel(None).1,
            not_ready: watch::channel(Vec::new()).1,
            leadership: watch::channel(Leadership::Unknown("this is no replica".to_owned())).1,
            own_node: None,
            maintenance: None,
            metrics: Metrics::default(),
            readings: Readings::default(),
            shares: Shares::default(),
            stop: CancellationToken::new(),
            asker: None,
            standing: Standing::default(),
            patience: Patience::default(),
        };
        Ok(Self { context, notes, lease: global.lease.clone(), server })
    }

    /// The API client.
    pub(in crate::cli) fn client(&self) -> &Client {
        &self.context.client
    }

    /// Asks the routes in this process.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let mut context = self.context.clone();
        if request.method() != http::Method::GET {
            context.asker = self.user().await;
        }
        self.notes.take();
        api::calls_alone(context).oneshot(request).await.map_err(|never| match never {})
    }

    /// What the cluster calls whoever asks; Kubernetes before 1.28 does not say.
    async fn user(&self) -> Option<String> {
        let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews");
        let request =
            request.header("content-type", "application/json").body(review.to_string().into_bytes()).ok()?;
        let answer: Value = timeout(PATIENCE, self.client().request(request)).await.ok()?.ok()?;
        answer.pointer("/status/userInfo/username")?.as_str().map(str::to_owned)
    }

    /// What a refusal means to whoever types commands.
    pub(super) fn failure(&self, status: u16, error: &str) -> Failure {
        let said = self.notes.take();
        let server = &self.server;
        if said.unauthorized {
            let message = format!(
                "the API server at {server} does not accept your credentials (401 Unauthorized): they have \
                 expired, or are for another cluster. Log in again, or choose another context with \
                 --context"
            );
            return Failure::new(Exit::NotAllowed, message);
        }
        if said.no_records {
            let message = format!(
                "the cluster at {server} has no GcuUpgrade records (CRD gcuupgrades.gum.enflame.com): \
                 gcu-upgrade-manager is not installed there. Is it the right cluster (--context)? What is \
                 missing, and how to mend it, says: kubectl gcu-upgrade doctor"
            );
            return Failure::new(Exit::NotFound, message);
        }
        if let Some(forbidden) = said.forbidden.filter(|_| status == 403) {
            let message = format!(
                "{forbidden}. Ask for this right: the chart's ClusterRoles (value rbac.exampleRoles) have \
                 what viewers and operators need"
            );
            return Failure::new(Exit::NotAllowed, message);
        }
        Failure::of_status(status, error)
    }

    /// Who holds the Lease.
    pub(super) async fn acts(&self) -> Acts {
        let (namespace, name) = &self.lease;
        let api: Api<Lease> = Api::namespaced(self.client().clone(), namespace);
        let lease = match timeout(PATIENCE, api.get_opt(name)).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => {
                let why = error_text(&error);
                return Acts::Unknown(format!("the Lease {namespace}/{name} cannot be read: {why}"));
            }
            Err(_) => return Acts::Unknown(format!("the Lease {namespace}/{name} was not read in time")),
        };
        match lease.and_then(|l| l.spec) {
            Some(spec) => {
                let renewed = spec.renew_time.map(|t| t.0);
                let held = (spec.holder_identity, renewed, spec.lease_duration_seconds);
                acts(&self.lease, held, self.context.clock.now())
            }
            None => Acts::Nobody(format!(
                "no replica has ever held the Lease {namespace}/{name}: upgrades go on when the service runs"
            )),
        }
    }

    /// A blueprint of the service's, from the ConfigMap that its Deployment mounts.
    pub(super) async fn blueprint(&self, name: &str) -> Result<Blueprint, Failure> {
        let Some((namespace, map)) = self.blueprints().await? else {
            return Err(Failure::usage(format!(
                "the service reads its blueprints from a directory of its node, which cannot be seen from \
                 here: give the file itself with -f, or ask the service with --server URL for {name:?}"
            )));
        };
        let Some(text) = map.data.as_ref().and_then(|data| data.get(name)) else {
            let known: Vec<&str> = map.data.iter().flatten().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() {
                "it has none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            let place = format!("{namespace}/{}", map.name_any());
            let message = format!("there is no blueprint {name:?} in ConfigMap {place}; {known}");
            return Err(Failure::new(Exit::NotFound, message));
        };
        Blueprint::parse(name, text.as_bytes()).map_err(|findings| {
            let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
            Failure::usage(all.join("\n"))
        })
    }

    /// The ConfigMap of blueprints, with its namespace; `None` when the service reads them elsewhere.
    pub(in crate::cli) async fn blueprints(&self) -> Result<Option<(String, ConfigMap)>, Failure> {
        let failed = |error: kube::Error| {
            let why = error_text(&error);
            let message =
                format!("the service's blueprints cannot be looked up: {why}; give the file itself with -f");
            let forbidden = matches!(error, kube::Error::Api(status) if status.code == 403);
            Failure::new(if forbidden { Exit::NotAllowed } else { Exit::Unreachable }, message)
        };
        let Some(deployment) = self.deployment().await.map_err(failed)? else { return Ok(None) };
        let spec = deployment.spec.template.spec.as_ref();
        let is_theirs = |v: &&Volume| v.name == "blueprints";
        let volume = spec.and_then(|s| s.volumes.as_ref()).and_then(|all| all.iter().find(is_theirs));
        let Some(source) = volume.and_then(|v| v.config_map.as_ref()) else { return Ok(None) };
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<ConfigMap> = Api::namespaced(self.client().clone(), &namespace);
        match api.get_opt(&source.name).await.map_err(failed)? {
            Some(map) => Ok(Some((namespace, map))),
            None => {
                let message = format!(
                    "the service reads its blueprints from ConfigMap {namespace}/{}, which is not there; give the file \
                     itself with -f",
                    source.name
                );
                Err(Failure::new(Exit::NotFound, message))
            }
        }
    }

    /// The service's Deployment.
    pub(in crate::cli) async fn deployment(&self) -> Result<Option<Deployment>, kube::Error> {
        let api: Api<Deployment> = Api::all(self.client().clone());
        Ok(api.list(&ListParams::default().labels(OURS)).await?.items.into_iter().next())
    }

    /// The APIs that serve grs; none where that cannot be found out.
    pub(super) async fn served(&self) -> Vec<String> {
        timeout(PATIENCE, discover(self.client())).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// The service's version, as its chart labels it.
    pub(super) async fn service_version(&self) -> Option<String> {
        let deployment = timeout(PATIENCE, self.deployment()).await.ok()?.ok()??;
        deployment.labels().get("app.kubernetes.io/version").cloned()
    }

    /// Whether whoever asks may do this.
    pub(in crate::cli) async fn may(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
    ) -> Result<bool, kube::Error> {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec =
            SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client().clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// Holder, last renewal and duration of a Lease.
type Held = (Option<String>, Option<Timestamp>, Option<i32>);

/// What a Lease tells. Its times are another machine's: since when is an estimate, and counts only where it is long.
fn acts((namespace, name): &(String, String), (holder, renewed, duration): Held, now: Timestamp) -> Acts {
    let ago = renewed.map(|at| now.duration_since(at).as_secs());
    let stale = ago.is_none_or(|ago| ago > i64::from(duration.unwrap_or_default()).saturating_mul(2));
    let since = ago.map(|ago| format!(" for {}", short(ago))).unwrap_or_default();
    match holder.filter(|holder| !holder.is_empty() && !stale) {
        Some(holder) => Acts::Replica(holder),
        None => Acts::Nobody(format!(
            "no replica has held the Lease {namespace}/{name}{since}: upgrades go on when one does"
        )),
    }
}

async fn config(global: &Global) -> Result<Config, Failure> {
    let unusable = |e: kube::config::KubeconfigError| {
        let why = cause(&e);
        Failure::usage(format!(
            "no cluster is known: {why}. Set KUBECONFIG, give --kubeconfig FILE, or ask the service with --server URL"
        ))
    };
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let kubeconfig = match &global.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    Config::from_custom_kubeconfig(kubeconfig.map_err(unusable)?, &options).await.map_err(unusable)
}
