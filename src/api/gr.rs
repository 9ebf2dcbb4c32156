//! `/gum/v1/gr`: the grs and their workloads as the cluster serves them, and the delete.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Preconditions};
use kube::runtime::wait::{self, await_condition, conditions};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info};

use super::Context;
use super::auth::{self, May};
use super::body::Json;
use super::envelope::{ApiError, Reply};
use super::etag::{IfNoneMatch, tag_of};
use super::form::Form;
use super::query::{JobQuery, NoQuery};
use super::request::{DeleteBody, Name, Policy, is_dns_subdomain};
use crate::cluster::discovery::discover;
use crate::cluster::{Pages, gr_resource, is_absent, watch_text};
use crate::frame;
use crate::gr::{
    LiveGr, Workload, WorkloadKind, api_version, component_for_kind, components, group_of, workloads_of,
};
use crate::plan::preflight::{Refusal, is_idle};
use crate::store::ServedGr;
use crate::telemetry::v1;

/// How long a foreground delete waits unless `?wait` says otherwise.
const FOREGROUND_WAIT: Duration = Duration::from_secs(30 * 60);
/// Grs fetched with one call.
const PAGE: u32 = 100;
/// Between attempts to watch while the API server is away.
const WATCH_RETRY: Duration = Duration::from_secs(1);

/// A gr and the API that serves it.
pub(super) struct Found {
    pub(super) api: Api<DynamicObject>,
    pub(super) served: Value,
    pub(super) live: LiveGr,
}

impl Context {
    /// The `group/version`s that serve GcuResources now.
    pub(super) async fn served_apis(&self) -> Result<Vec<String>, ApiError> {
        let known = self.served.borrow().clone();
        let served = match known {
            Some(served) => served,
            // Not known yet: perhaps the API server is away, and then its error says more.
            None => discover(&self.client).await?,
        };
        if served.is_empty() {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "gcu-operator is not installed: the cluster serves no GcuResource API",
            ));
        }
        Ok(served)
    }

    pub(super) fn gr_api(&self, api_version: &str) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &gr_resource(api_version))
    }

    /// Finds a gr in whichever API serves it. The 404 is Kubernetes' own.
    pub(super) async fn find(&self, name: &str) -> Result<Found, ApiError> {
        let mut missing = None;
        for api_version in self.served_apis().await? {
            match self.raw(&format!("/apis/{api_version}/gcuresources/{name}")).await {
                Ok(served) => return self.found(&api_version, served),
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    missing = Some(kube::Error::Api(status))
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(missing.map(ApiError::from).unwrap_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "not found")))
    }

    /// The gr in the version of its API that a manifest is of: what is recorded of an upgrade is of one version. A
    /// manifest of another group is left to others.
    pub(super) async fn in_version_of(&self, found: Found, manifest: &Value) -> Result<Found, ApiError> {
        let (wanted, served) = (api_version(manifest), api_version(&found.served));
        if wanted == served || group_of(wanted) != group_of(served) {
            return Ok(found);
        }
        let name = found.served.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        match self.raw(&format!("/apis/{wanted}/gcuresources/{name}")).await {
            Ok(served) => self.found(wanted, served),
            Err(kube::Error::Api(status)) if status.code == 404 && !is_absent(&status) => {
                Err(self.not_served(wanted).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Why a manifest cannot be brought about.
    pub(super) async fn not_served(&self, wanted: &str) -> ApiError {
        match self.served_apis().await {
            Ok(served) => Refusal::NotServed { wanted: wanted.to_owned(), served }.into(),
            Err(error) => error,
        }
    }

    fn found(&self, api_version: &str, served: Value) -> Result<Found, ApiError> {
        let live = LiveGr::parse(&served).ok_or_else(|| {
            ApiError::new(StatusCode::BAD_GATEWAY, "the API server sent a gr without a uid")
        })?;
        Ok(Found { api: self.gr_api(api_version), served, live })
    }

    /// A list as the API server sends it, fetched page by page.
    pub(super) async fn whole_list(&self, path: &str) -> Result<Value, kube::Error> {
        let mut all: Option<Value> = None;
        let mut pages = Pages::of(ListParams::default().limit(PAGE));
        while let Some(params) = pages.next() {
            let request = kube::core::Request::new(path).list(&params).map_err(kube::Error::BuildRequest)?;
            let mut page: Value = match self.client.request(request).await {
                Ok(page) => page,
                Err(error) => {
                    pages.expired(error)?;
                    continue;
                }
            };
            pages.go_on(next_page(&mut page).as_deref());
            let Some(all) = &mut all else {
                all = Some(page);
                continue;
            };
            let more = page.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
            if let Some(items) = all.get_mut("items").and_then(Value::as_array_mut) {
                items.extend(more.into_iter().flatten());
            }
            if let (Some(meta), Some(next)) = (all.get_mut("metadata"), page.get_mut("metadata")) {
                *meta = next.take();
            }
        }
        Ok(all.unwrap_or_default())
    }

    /// The object as the API server sends it, so that nothing is lost on the way.
    async fn raw(&self, path: &str) -> Result<Value, kube::Error> {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

/// Takes what leads to the next page out of a list.
fn next_page(list: &mut Value) -> Option<String> {
    let meta = list.get_mut("metadata").and_then(Value::as_object_mut)?;
    meta.remove("remainingItemCount");
    let token = meta.remove("continue")?;
    token.as_str().map(str::to_owned)
}

/// `GET /gum/v1/gr`
pub(super) async fn list(
    context: May<auth::List>,
    form: Form,
    has: IfNoneMatch,
    _: NoQuery,
) -> Result<Response, ApiError> {
    if let (Some(grs), Form::Json) = (context.known.grs(), form) {
        let tag = tag_of(grs.iter().flat_map(|(_, grs)| grs));
        return Ok(context.shares.rendered.reply(&has, "", &tag, || list_of(&grs)));
    }
    let content = context.grs().await?;
    let reply = form.reply(&content, context.clock.now(), |list: Value, look| {
        let items = list.get("items").and_then(Value::as_array);
        frame::service::grs(items.map(Vec::as_slice).unwrap_or_default(), look)
    });
    Ok(reply?.into_response())
}

impl Context {
    /// Every gr: as its watch has shown it, else as it is read now.
    pub(super) async fn grs(&self) -> Result<Value, ApiError> {
        match self.known.grs() {
            Some(grs) => Ok(list_of(&grs)),
            None => self.live_list().await,
        }
    }

    /// The list as the API server has it now.
    async fn live_list(&self) -> Result<Value, ApiError> {
        let mut merged: Option<Value> = None;
        for api_version in self.served_apis().await? {
            let list = self.whole_list(&format!("/apis/{api_version}/gcuresources")).await?;
            match merged.as_mut().and_then(|m| m.get_mut("items")).and_then(Value::as_array_mut) {
                Some(items) => {
                    items.extend(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
                }
                None => merged = Some(list),
            }
        }
        Ok(merged.unwrap_or_default())
    }
}

/// As the API server lists them; with the newest of their versions, for the list itself has none here.
fn list_of(grs: &[(String, Vec<Arc<ServedGr>>)]) -> Value {
    let all = || grs.iter().flat_map(|(_, grs)| grs);
    let newest = all().map(|gr| gr.number()).max().unwrap_or_default().to_string();
    let version = grs.iter().find(|(_, grs)| !grs.is_empty()).or(grs.first()).map(|(version, _)| version);
    json!({
        "apiVersion": version,
        "items": all().map(|gr| &gr.object).collect::<Vec<_>>(),
        "kind": "GcuResourceList",
        "metadata": { "resourceVersion": newest },
    })
}

/// `GET /gum/v1/gr/{name}`
pub(super) async fn get(
    context: May<auth::Get>,
    Name(name): Name,
    form: Form,
    has: IfNoneMatch,
    _: NoQuery,
) -> Result<Response, ApiError> {
    let served = match (context.known.gr(&name), form) {
        (Some(gr), Form::Json) => {
            return Ok(context.shares.rendered.reply(&has, &name, &gr.tag(), || gr.object.clone()));
        }
        (Some(gr), Form::Text) => gr.object.clone(),
        (None, _) => context.find(&name).await?.served,
    };
    let now = context.clock.now();
    let reply = form.reply(&served, now, |gr: Value, look| frame::service::grs(&[gr], look));
    Ok(reply?.into_response())
}

/// `GET /gum/v1/gr/{name}/resource/{kind}`
pub(super) async fn resource(
    context: May<auth::Get>,
    Name(name): Name,
    Path((_, kind)): Path<(String, String)>,
    _: NoQuery,
) -> Result<Reply, ApiError> {
    let gr = context.find(&name).await?.live;
    let Some(component) = component_for_kind(&gr.manifest, &kind) else {
        let known: Vec<&str> = components(&gr.manifest).iter().map(|c| c.key).collect();
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("gr \"{name}\" has no component {kind:?}; it has: {}", known.join(", ")),
        ));
    };
    let mut found = Vec::new();
    for workload in workloads_of(component, &gr.status) {
        found.push(context.raw(&workload_path(&workload)?).await?);
    }
    match found.len() {
        0 => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("component {kind} of gr \"{name}\" is not deployed"),
        )),
        1 => Ok(Reply::with(found.remove(0))),
        _ => Ok(Reply::with(json!({ "apiVersion": "v1", "kind": "List", "items": found, "metadata": {} }))),
    }
}

/// The names come from the gr: whoever may write one must not reach anything else of the API with them.
fn workload_path(workload: &Workload) -> Result<String, ApiError> {
    let plural = match workload.kind {
        WorkloadKind::DaemonSet => "daemonsets",
        WorkloadKind::Deployment => "deployments",
    };
    let Workload { namespace, name, .. } = workload;
    if !is_dns_subdomain(namespace) || !is_dns_subdomain(name) {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("the gr gives its workload a name that cannot be: {namespace:?}, {name:?}"),
        ));
    }
    Ok(format!("/apis/apps/v1/namespaces/{namespace}/{plural}/{name}"))
}

/// What a delete would do.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedDelete {
    /// Tells it from a delete.
    dry_run: bool,
    /// What would be done.
    message: String,
}

/// `DELETE /gum/v1/gr/{name}`: exactly the gr that stands there now, and not under a running upgrade's feet.
pub(super) async fn delete(
    context: May<auth::Delete>,
    Name(name): Name,
    query: JobQuery,
    Json(body): Json<DeleteBody>,
) -> Result<Reply, ApiError> {
    let found = context.find(&name).await?;
    is_idle(&name, &context.records(&name).await?)?;
    let only_this = Preconditions { uid: Some(found.live.uid.clone()), ..Preconditions::default() };
    let mut params = DeleteParams::background().preconditions(only_this);
    params.dry_run = query.dry_run;
    let left = found.api.delete(&name, &params).await?;
    let by = context.asker.as_deref();
    info!(gr = %name, policy = ?body.policy, dry_run = query.dry_run, by, "delete accepted");
    if query.dry_run {
        let message = format!("gr {name} would be deleted; nothing was changed");
        return Ok(Reply::with(PlannedDelete { dry_run: true, message }));
    }
    context.known.deleted(&name, &found.live.uid, left.left().as_ref());
    v1::delete_sent(&name);
    if body.policy == Policy::Foreground || query.wait.is_some() {
        let gone = wait_gone(&found, &name, query.wait.unwrap_or(FOREGROUND_WAIT));
        context.wait_as_asked(gone, &format!("the delete of gr \"{name}\" goes on"), false).await?;
    }
    Ok(Reply::default())
}

async fn wait_gone(found: &Found, name: &str, patience: Duration) -> Result<(), ApiError> {
    let until = Instant::now() + patience;
    loop {
        let gone = await_condition(found.api.clone(), name, conditions::is_deleted(&found.live.uid));
        match timeout_at(until, gone).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(wait::Error::ProbeFailed(error))) => {
                debug!("watch interrupted, resuming: {}", watch_text(&error));
            }
            Err(_) => {
                return Err(ApiError::new(
                    StatusCode::CONFLICT,
                    format!("gr \"{name}\" is still being deleted after {patience:?}; the delete goes on"),
                ));
            }
        }
        sleep(WATCH_RETRY).await;
    }
}
