//! Admission: an update that a webhook is concerned with is shown to it before it is stored.
//!
//! The webhooks are reached within the process: a router is registered for the address that a configuration names. One
//! that is not registered is one that nobody listens at. Limits: only updates (and patches) of existing objects are
//! shown; no reinvocation; `userInfo` holds the caller's `User-Agent`, since nobody is authenticated here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::{
    error::ApiError,
    patch,
    path::ResourcePath,
    request::Asked,
    update::{self, By},
    webhooks::{self, Target, Webhook},
};
use crate::{
    json,
    store::{Store, Tx},
};

/// So often an update is looked at anew when somebody else was faster.
const ATTEMPTS: usize = 5;

/// The servers that webhooks reach, by the address that configurations name.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<BTreeMap<String, Router>>);

impl Listeners {
    /// From now on `router` answers at this address: the beginning of a URL, or a Service as `namespace/name`.
    pub(crate) fn listen(&self, address: &str, router: Router) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(address.to_owned(), router);
    }

    /// Nobody listens there any more.
    pub(crate) fn close(&self, address: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    fn find(&self, target: &Target) -> Option<Router> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |address: &str| match target {
            Target::Url(url) => {
                let rest = url.strip_prefix(address);
                rest.is_some_and(|rest| {
                    address.ends_with('/') || matches!(rest.bytes().next(), None | Some(b'/'))
                })
            }
            Target::Service { namespace, name, .. } => {
                address.split_once('/') == Some((namespace.as_str(), name.as_str()))
            }
        };
        all.iter().find(|(address, _)| at(address)).map(|(_, router)| router.clone())
    }
}

/// A change of an object that may be there.
pub(crate) enum Write {
    /// The client sent all of it.
    Put(Value),
    /// The client sent a patch, which the request holds.
    Patch,
}

impl Write {
    /// Makes it.
    fn make(&self, tx: &mut Tx<'_>, place: ResourcePath<'_>, asked: &Asked) -> Result<Written, ApiError> {
        match self {
            Self::Put(body) => update::update(tx, place, body.clone(), By::Put),
            Self::Patch => patch::patch(tx, place, asked),
        }
    }

    /// What webhooks get to see of it.
    fn shown(&self, place: ResourcePath<'_>, asked: &Asked, old: &Value) -> Result<Value, ApiError> {
        let body = match self {
            Self::Put(body) => body.clone(),
            Self::Patch => patch::applied(place, old, asked)?,
        };
        update::decoded(place, body)
    }

    fn by(&self) -> By {
        match self {
            Self::Put(_) => By::Put,
            Self::Patch => By::Patch,
        }
    }
}

/// The HTTP status and the stored object.
type Written = (u16, Arc<Value>);

/// A write that webhooks have a say in.
struct Review {
    old: Arc<Value>,
    new: Value,
    webhooks: Vec<Webhook>,
    /// The UID of the request.
    uid: String,
}

/// Makes a write, after every webhook that it concerns has seen it. Should the object change meanwhile, they are asked
/// again.
pub(crate) async fn admitted(
    store: &Store,
    listeners: &Listeners,
    place: ResourcePath<'_>,
    asked: &Asked,
    dry_run: bool,
    write: Write,
) -> Result<Written, ApiError> {
    for _ in 0..ATTEMPTS {
        let Some(review) = review(store, place, asked, &write)? else {
            return write.make(&mut store.begin(asked.user_agent.clone(), dry_run), place, asked);
        };
        let mut new = review.new;
        for webhook in &review.webhooks {
            if webhook.selects(&review.old, &new) {
                let request = json!({
                    "uid": review.uid,
                    "operation": "UPDATE",
                    "dryRun": dry_run,
                    "object": new,
                    "oldObject": *review.old,
                });
                new = ask(store, listeners, webhook, new, described(request, place, asked, dry_run)).await?;
            }
        }
        let mut tx = store.begin(asked.user_agent.clone(), dry_run);
        let now = tx.state.get(&place.kind.key(), place.namespace, place.name);
        if now.is_some_and(|now| version(&now) == version(&review.old)) {
            return update::update(&mut tx, place, new, write.by());
        }
    }
    Err(ApiError::modified(place.kind, place.name))
}

fn version(object: &Value) -> &str {
    json::text(object, &["metadata", "resourceVersion"])
}

/// What there is to review, if there is a webhook that may want to.
fn review(
    store: &Store,
    place: ResourcePath<'_>,
    asked: &Asked,
    write: &Write,
) -> Result<Option<Review>, ApiError> {
    let mut tx = store.begin(asked.user_agent.clone(), true);
    let webhooks = webhooks::concerned(&tx.state, place);
    if webhooks.is_empty() {
        return Ok(None);
    }
    // What is not there is not updated, but created.
    let Some(old) = tx.state.get(&place.kind.key(), place.namespace, place.name) else { return Ok(None) };
    let new = write.shown(place, asked, &old)?;
    Ok(Some(Review { old, new, webhooks, uid: tx.new_uid() }))
}

/// The request with all that says what it is about.
fn described(mut request: Value, place: ResourcePath<'_>, asked: &Asked, dry_run: bool) -> Value {
    let (group, version) = (place.kind.group.as_str(), place.version.name.as_str());
    let kind = json!({ "group": group, "version": version, "kind": place.kind.kind });
    let resource = json!({ "group": group, "version": version, "resource": place.kind.plural });
    // Of a patch too: what is admitted is the update that it comes to.
    let mut options = json!({ "kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1" });
    if dry_run {
        json::set(&mut options, &["dryRun"], json!(["All"]));
    }
    for (field, value) in [
        ("kind", kind.clone()),
        ("requestKind", kind),
        ("resource", resource.clone()),
        ("requestResource", resource),
        ("name", json!(place.name)),
        ("options", options),
        (
            "userInfo",
            json!({ "username": asked.user_agent.as_deref().unwrap_or("system:anonymous"),
                "groups": ["system:authenticated"] }),
        ),
    ] {
        json::set(&mut request, &[field], value);
    }
    for (field, word) in [("namespace", place.namespace), ("subResource", place.subresource)] {
        if !word.is_empty() {
            json::set(&mut request, &[field], word);
        }
    }
    request
}

/// What the webhook makes of the object.
async fn ask(
    store: &Store,
    listeners: &Listeners,
    webhook: &Webhook,
    object: Value,
    request: Value,
) -> Result<Value, ApiError> {
    if !webhook.speaks_v1 {
        return Err(ApiError::not_implemented("admission reviews of other versions than v1"));
    }
    let uid = json::text(&request, &["uid"]).to_owned();
    let answer = match called(store, listeners, webhook, request).await.and_then(|it| response(it, &uid)) {
        Ok(answer) => answer,
        Err(_) if webhook.may_fail => return Ok(object),
        Err(why) => return Err(ApiError::webhook_failed(&webhook.name, &why)),
    };
    if json::at(&answer, &["allowed"]) != &Value::Bool(true) {
        return Err(ApiError::webhook_denied(&webhook.name, json::at(&answer, &["status"])));
    }
    patched(object, &answer).map_err(|why| ApiError::internal(format!("Internal error occurred: {why}")))
}

/// The webhook's answer, or why there is none.
async fn called(
    store: &Store,
    listeners: &Listeners,
    webhook: &Webhook,
    request: Value,
) -> Result<Value, String> {
    let seconds = webhook.timeout_seconds;
    let shown = format!("Post \"{}?timeout={seconds}s\"", webhook.target.address());
    let Some(router) = listeners.find(&webhook.target) else {
        return Err(format!("{shown}: {}", nobody_listens(store, &webhook.target)));
    };
    let review =
        json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request });
    let call = Request::post(format!("{}?timeout={seconds}s", webhook.target.path()))
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(review.to_string()))
        .map_err(|error| format!("{shown}: {error}"))?;
    let answered = async {
        let Ok(answer) = router.oneshot(call).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| format!("{shown}: {error}"))?;
        Ok::<_, String>((status, body.to_bytes()))
    };
    let late = || format!("{shown}: context deadline exceeded");
    let (status, body) = timeout(Duration::from_secs(seconds), answered).await.map_err(|_| late())??;
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body);
        return Err(format!("the webhook's server answered {status}: {text}"));
    }
    serde_json::from_slice(&body)
        .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))
}

fn nobody_listens(store: &Store, target: &Target) -> String {
    match target {
        Target::Service { namespace, name, .. } => match store.get("", "services", namespace, name) {
            Some(_) => format!("no endpoints available for service \"{name}\""),
            None => format!("service \"{name}\" not found"),
        },
        Target::Url(url) => {
            let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            let host = rest.split('/').next().unwrap_or_default();
            let port = if host.contains(':') { "" } else { ":443" };
            format!("dial tcp {host}{port}: connect: connection refused")
        }
    }
}

/// The response in a review, if it is one to the request of this UID.
fn response(review: Value, uid: &str) -> Result<Value, String> {
    let (version, kind) = (json::text(&review, &["apiVersion"]), json::text(&review, &["kind"]));
    if (version, kind) != ("admission.k8s.io/v1", "AdmissionReview") {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, Kind={kind}"
        ));
    }
    let response = json::at(&review, &["response"]);
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    let answered = json::text(response, &["uid"]);
    if answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let has_patch = response.get("patch").is_some_and(|patch| !patch.is_null());
    match (has_patch, json::text(response, &["patchType"])) {
        (true, "JSONPatch") | (false, "") => Ok(response.clone()),
        (true, other) => {
            Err(format!("webhook returned response.patchType={other:?}, expected \"JSONPatch\""))
        }
        (false, _) => Err("webhook returned response.patchType but not response.patch".to_owned()),
    }
}

fn patched(mut object: Value, response: &Value) -> Result<Value, String> {
    let Some(patch) = response.get("patch").filter(|patch| !patch.is_null()) else { return Ok(object) };
    let patch: ByteString = serde_json::from_value(patch.clone()).map_err(|error| error.to_string())?;
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).map_err(|error| error.to_string())?;
    json_patch::patch(&mut object, &patch).map_err(|error| error.to_string())?;
    Ok(object)
}
