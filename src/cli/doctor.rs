//! `doctor`: looks at everything that an installation needs.

use std::time::Duration;

use futures::future::{self, LocalBoxFuture};
use futures::stream::{self, LocalBoxStream};
use futures::{FutureExt as _, StreamExt as _};
use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::backend::{Acts, Backend, Cluster};
use super::exit::{Exit, Failure};
use super::{Session, say};
use crate::blueprint::Blueprint;
use crate::cluster::discovery::discover;
use crate::cluster::error_text;
use crate::frame::doctor::{Check, Finding, line, summary};
use crate::record::{CRD_REVISION, CRD_REVISION_ANNOTATION};

/// Each look takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clocks that differ by less do no harm.
const CLOCKS: i64 = 60;
const INSTALL: &str = "install the service with deploy/deploy.sh, or its chart with helm";
const RIGHTS: &str = "bind the chart's ClusterRole gcu-upgrade-manager-operator (value rbac.exampleRoles), \
                      or ask for these rights";

/// What whoever asks may need: to look, to plan, to upgrade.
const NEEDED: [(&str, &str, &str, &str); 10] = [
    ("look", "list", "gum.enflame.com", "gcuupgrades"),
    ("look", "watch", "gum.enflame.com", "gcuupgrades"),
    ("look", "get", "coordination.k8s.io", "leases"),
    ("plan", "list", "", "nodes"),
    ("plan", "list", "", "pods"),
    ("plan", "list", "apps", "daemonsets"),
    ("plan", "list", "apps", "controllerrevisions"),
    ("upgrade", "create", "gum.enflame.com", "gcuupgrades"),
    ("steer", "patch", "gum.enflame.com", "gcuupgrades"),
    ("upgrade", "update", "topsops.enflame.com", "gcuresources"),
];

impl Session {
    /// Looks at everything. What is drawn is drawn line by line, as soon as it is known: with a cluster that answers
    /// slowly the first line says at once that it does answer.
    pub(super) async fn doctor(&self) -> Result<Exit, Failure> {
        let (first, rest) = match &self.backend {
            Backend::Cluster(cluster) => (api_server(cluster).await, self.of_cluster(cluster)),
            Backend::Server(server) => self.of_server(&server.url).await,
        };
        let mut checks = Vec::new();
        // Without the first there is nothing to look at.
        let reachable = first.finding != Finding::Bad;
        let mut looks = stream::iter([first]).chain(rest).take(if reachable { usize::MAX } else { 1 });
        while let Some(check) = looks.next().await {
            if self.global.output.is_drawn() {
                say(&line(&check, &self.look()))?;
            }
            checks.push(check);
        }
        say(&self.global.output.of(&json!(checks))?.unwrap_or_else(|| summary(&checks)))?;
        let bad = checks.iter().any(|check| check.finding == Finding::Bad);
        Ok(if bad { Exit::Failed } else { Exit::Done })
    }

    fn of_cluster<'a>(&'a self, cluster: &'a Cluster) -> LocalBoxStream<'a, Check> {
        let acts_and_service = async {
            let (lease, deployment) = tokio::join!(self.lease(), cluster.deployment());
            vec![service(deployment, lease.finding == Finding::Good), lease]
        };
        let looks = vec![
            alone(crd(cluster)),
            alone(operator(cluster)),
            acts_and_service.boxed_local(),
            alone(rights(cluster)),
            alone(blueprints(cluster)),
            alone(clocks(cluster)),
        ];
        // What the API server says against a call is noted for one call at a time: the routes are asked when all else
        // has answered.
        side_by_side(looks).chain(stream::once(self.records())).boxed_local()
    }

    async fn of_server<'a>(&'a self, url: &str) -> (Check, LocalBoxStream<'a, Check>) {
        let version = match self.backend.get("/version").await {
            Ok(version) => version,
            Err(failure) => {
                let bad = Check::bad("service", failure.message, "check the URL and the token");
                return (bad, stream::empty().boxed_local());
            }
        };
        let text = |path: &str| version.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let first = of_version("service", &text("/version"), &format!("at {url}"));
        let ready = async {
            match self.backend.get("/readyz").await {
                Ok(_) => Check::good("ready", "yes"),
                Err(failure) => {
                    Check::bad("ready", failure.message, "mend what is named; the service's log says more")
                }
            }
        };
        let warnings = version.get("warnings").and_then(Value::as_array).cloned().unwrap_or_default();
        let warnings = warnings.into_iter().map(|warning| {
            let warning = warning.as_str().unwrap_or_default().to_owned();
            Check::warning("versions", warning, "bring these versions together")
        });
        let blueprints = async {
            match self.backend.get("/gum/v1/blueprints").await {
                Ok(content) => {
                    let items = content.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                    let is_bad = |item: &&Value| item.get("valid") != Some(&Value::Bool(true));
                    let bad = items
                        .iter()
                        .filter(is_bad)
                        .filter_map(|i| i.get("file")?.as_str().map(str::to_owned));
                    of_blueprints(items.len(), &bad.collect::<Vec<_>>(), "the service's directory")
                }
                Err(failure) => Check::unknown("blueprints", failure.message),
            }
        };
        let looks = vec![
            alone(ready),
            alone(self.lease()),
            future::ready(warnings.collect()).boxed_local(),
            alone(blueprints),
            alone(self.records()),
        ];
        (first, side_by_side(looks))
    }

    async fn lease(&self) -> Check {
        match self.backend.acts().await {
            Acts::Replica(name) => Check::good("acts", name),
            Acts::Nobody(text) => {
                let mend = "look at the service's pods: kubectl -n kube-system get pods -l \
                            app.kubernetes.io/name=gcu-upgrade-manager";
                Check::bad("acts", text, mend)
            }
            Acts::Unknown(text) => Check::unknown("acts", text),
        }
    }

    async fn records(&self) -> Check {
        let all = match self.backend.get("/gum/v1/upgrades").await {
            Ok(all) => all,
            Err(failure) => return Check::unknown("records", failure.message),
        };
        let all = all.as_array().cloned().unwrap_or_default();
        let of = |wanted: fn(&Value) -> bool| {
            let found = all.iter().filter(|one| wanted(one)).filter_map(|one| one.get("name")?.as_str());
            found.map(str::to_owned).collect::<Vec<_>>()
        };
        let unreadable = of(|one| one.get("unreadable") == Some(&Value::Bool(true)));
        let held = of(|one| one.get("phase") == Some(&json!("Held")));
        match (unreadable.as_slice(), held.as_slice()) {
            ([], []) => Check::good("records", format!("{} upgrades", all.len())),
            ([], held) => {
                let message = format!("{} held", held.join(", "));
                Check::warning("records", message, "see why: kubectl gcu-upgrade why")
            }
            (unreadable, _) => {
                let message = format!("{} cannot be read by this version", unreadable.join(", "));
                Check::warning(
                    "records",
                    message,
                    "use the command of the service's version, or correct them with kubectl edit",
                )
            }
        }
    }
}

/// A look, and what it finds.
type Looking<'a> = LocalBoxFuture<'a, Vec<Check>>;

/// A look that finds one thing.
fn alone<'a>(look: impl Future<Output = Check> + 'a) -> Looking<'a> {
    look.map(|check| vec![check]).boxed_local()
}

/// All looks at once. What they find comes in their order, and each as soon as those before it are known.
fn side_by_side(looks: Vec<Looking<'_>>) -> LocalBoxStream<'_, Check> {
    let at_once = looks.len();
    stream::iter(looks).buffered(at_once).flat_map(stream::iter).boxed_local()
}

async fn api_server(cluster: &Cluster) -> Check {
    let name = "cluster";
    let mend = "check the kubeconfig (--kubeconfig, --context) and the network; log in again if your \
                credentials have expired";
    match timeout(PATIENCE, cluster.client().apiserver_version()).await {
        Ok(Ok(info)) => Check::good(name, format!("Kubernetes {} at {}", info.git_version, cluster.server)),
        Ok(Err(error)) => Check::bad(name, format!("{}: {}", cluster.server, error_text(&error)), mend),
        Err(_) => Check::bad(name, format!("{} does not answer", cluster.server), mend),
    }
}

async fn crd(cluster: &Cluster) -> Check {
    let name = "CRD";
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(cluster.client().clone());
    let found = match api.get_metadata_opt("gcuupgrades.gum.enflame.com").await {
        Ok(found) => found,
        Err(kube::Error::Api(status)) if status.code == 403 => return served(cluster).await,
        Err(error) => return Check::unknown(name, error_text(&error)),
    };
    let Some(found) = found else {
        return Check::bad(name, "gcuupgrades.gum.enflame.com is not there", INSTALL);
    };
    let revision = found.annotations().get(CRD_REVISION_ANNOTATION).and_then(|r| r.parse::<u32>().ok());
    match revision {
        Some(CRD_REVISION) => {
            Check::good(name, format!("gcuupgrades.gum.enflame.com, revision {CRD_REVISION}"))
        }
        Some(other) => Check::warning(
            name,
            format!("gcuupgrades.gum.enflame.com has revision {other}, this command knows {CRD_REVISION}"),
            "use the command and the service of one version",
        ),
        None => Check::warning(name, "gcuupgrades.gum.enflame.com was not made by the service", INSTALL),
    }
}

/// CRDs may be nobody's business; what is served is everybody's.
async fn served(cluster: &Cluster) -> Check {
    match cluster.client().list_api_group_resources("gum.enflame.com/v1").await {
        Ok(_) => Check::good("CRD", "gum.enflame.com/v1 is served"),
        Err(_) => Check::bad("CRD", "gum.enflame.com/v1 is not served", INSTALL),
    }
}

async fn operator(cluster: &Cluster) -> Check {
    match discover(cluster.client()).await {
        Ok(apis) if apis.is_empty() => Check::bad(
            "operator",
            "no API serves GcuResources",
            "install gcu-operator of Enflame's TopsCloud",
        ),
        Ok(apis) => Check::good("operator", format!("GcuResources are served by {}", apis.join(" and "))),
        Err(error) => Check::unknown("operator", error_text(&error)),
    }
}

fn service(deployment: Result<Option<Deployment>, kube::Error>, acts: bool) -> Check {
    let deployment = match deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) if acts => return Check::good("service", "it acts, and runs outside of this cluster"),
        Ok(None) => return Check::bad("service", "it has no Deployment here", INSTALL),
        Err(error) => return Check::unknown("service", error_text(&error)),
    };
    let place = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
    let available = deployment.status.as_ref().and_then(|s| s.available_replicas).unwrap_or_default();
    if available < 1 {
        let mend = format!(
            "see: kubectl -n {} describe pods -l app.kubernetes.io/name=gcu-upgrade-manager",
            deployment.namespace().unwrap_or_default()
        );
        return Check::bad("service", format!("no replica of Deployment {place} is available"), mend);
    }
    let version = deployment.labels().get("app.kubernetes.io/version").cloned().unwrap_or_default();
    of_version("service", &version, &format!("{available} available of Deployment {place}"))
}

fn of_version(name: &'static str, theirs: &str, place: &str) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    if theirs == ours || theirs.is_empty() {
        return Check::good(name, format!("{place}, version {ours}"));
    }
    Check::warning(
        name,
        format!("{place}, version {theirs}; this command is {ours}"),
        "use the command of its version",
    )
}

async fn rights(cluster: &Cluster) -> Check {
    let asked = NEEDED.map(async |(what, verb, group, resource)| {
        (what, format!("{verb} {resource}"), cluster.may(verb, group, resource).await)
    });
    let answers = futures::future::join_all(asked).await;
    if let Some((_, _, Err(error))) = answers.iter().find(|(_, _, answer)| answer.is_err()) {
        return Check::unknown("rights", error_text(error));
    }
    let missing: Vec<&(&str, String, _)> =
        answers.iter().filter(|(_, _, answer)| matches!(answer, Ok(false))).collect();
    if missing.is_empty() {
        return Check::good("rights", "to look, to plan, to upgrade and to steer");
    }
    let told: Vec<String> = missing.iter().map(|(what, right, _)| format!("{right} (to {what})")).collect();
    Check::warning("rights", format!("you may not {}", told.join(", ")), RIGHTS)
}

async fn blueprints(cluster: &Cluster) -> Check {
    match cluster.blueprints().await {
        Ok(Some((namespace, map))) => {
            let files = map.data.clone().unwrap_or_default();
            let is_bad = |(name, text): &(&String, &String)| Blueprint::parse(name, text.as_bytes()).is_err();
            let bad: Vec<String> = files.iter().filter(is_bad).map(|(name, _)| name.clone()).collect();
            of_blueprints(files.len(), &bad, &format!("ConfigMap {namespace}/{}", map.name_any()))
        }
        Ok(None) => Check::unknown(
            "blueprints",
            "not in a ConfigMap: what is in a directory of the service's node cannot be seen from here",
        ),
        Err(failure) => Check::unknown("blueprints", failure.message),
    }
}

fn of_blueprints(count: usize, bad: &[String], place: &str) -> Check {
    match (count, bad) {
        (0, _) => Check::warning(
            "blueprints",
            format!("{place} has none"),
            "put one there, or give your own with -f",
        ),
        (count, []) => Check::good("blueprints", format!("{count} in {place}")),
        (_, bad) => {
            let message = format!("{} in {place} cannot be used", bad.join(", "));
            Check::warning(
                "blueprints",
                message,
                "gcu-upgrade-manager validate FILE says where they are wrong",
            )
        }
    }
}

/// The API server says in every answer what time it is.
async fn clocks(cluster: &Cluster) -> Check {
    let Ok(request) = Request::get("/version").body(kube::client::Body::empty()) else {
        return Check::unknown("clock", "not asked");
    };
    let answer = match timeout(PATIENCE, cluster.client().send(request)).await {
        Ok(Ok(answer)) => answer,
        _ => return Check::unknown("clock", "the API server does not say what time it is"),
    };
    let theirs = answer.headers().get("date").and_then(|date| date.to_str().ok());
    let theirs = theirs.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp());
    match theirs {
        Some(theirs) => of_clocks(crate::clock::Clock::system().now(), theirs),
        None => Check::unknown("clock", "the API server does not say what time it is"),
    }
}

fn of_clocks(ours: Timestamp, theirs: Timestamp) -> Check {
    let off = ours.duration_since(theirs).as_secs();
    if off.abs() <= CLOCKS {
        return Check::good("clock", "this machine and the API server agree");
    }
    let (by, way) = (off.abs(), if off > 0 { "ahead of" } else { "behind" });
    let message = format!("this machine is {by} s {way} the API server: ages and deadlines are shown wrong");
    Check::warning("clock", message, "set the clock, for example with chrony")
}
