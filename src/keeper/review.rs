//! The answer to an admission review. Pure.
//!
//! | the write | the answer |
//! | --- | --- |
//! | of a DaemonSet that was not held | unchanged |
//! | with [`RELEASE_ANNOTATION`] equal to the old object's `metadata.resourceVersion` | unchanged: our own release |
//! | of a DaemonSet that is being deleted | unchanged |
//! | any other | `updateStrategy` is `OnDelete`, and our label and annotations are there |
//!
//! A release keeps its annotation. When another webhook changes the object after this one, the API server asks again,
//! with the object as it is by then: without the annotation the second answer would undo the release. Left behind it
//! does nothing, because the version that it names is gone; the next kept write removes it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::record::rolling::{HELD_LABEL, HOLD_ANNOTATION, LOCK_ANNOTATION, RELEASE_ANNOTATION};

/// The one version of the admission API that is spoken; Kubernetes 1.16 was the first to have it.
const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
const ON_DELETE: &str = "OnDelete";
/// Whoever wrote is told, where the client shows warnings: kubectl does.
const WARNING: &str = "held at OnDelete by gcu-upgrade-manager: the update strategy and the hold were kept";

/// A question of the API server, or the answer to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionReview {
    api_version: String,
    kind: String,
    #[serde(default, skip_serializing)]
    request: Option<Request>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    response: Option<Response>,
}

/// What is to be written. Whatever else a question has is skipped as it is read, so that a large one takes no memory.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    object: Option<Object>,
    #[serde(default)]
    old_object: Option<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    update_strategy: Option<Strategy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Strategy {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    rolling_update: Option<IgnoredAny>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

/// One operation of a JSON patch.
#[derive(Debug, Serialize)]
struct Change {
    op: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is written as it came.
    Allowed,
    /// It is written as it came, and lets go of the DaemonSet.
    Released,
    /// It is written, and the DaemonSet stays held.
    Kept,
}

impl AdmissionReview {
    /// Reads a question.
    ///
    /// # Errors
    /// Says what is wrong with it, naming the field.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut input = serde_json::Deserializer::from_slice(text);
        let review: Self = serde_path_to_error::deserialize(&mut input).map_err(|e| e.to_string())?;
        input.end().map_err(|e| e.to_string())?;
        if review.api_version != API_VERSION || review.kind != KIND {
            let (version, kind) = (review.api_version, review.kind);
            return Err(format!("it is a {kind:?} of {version:?}, not an {KIND} of {API_VERSION}"));
        }
        match review.request {
            Some(_) => Ok(review),
            None => Err("request: there is none".to_owned()),
        }
    }
}

/// Answers a question. Every write is allowed; what must stay is put back into it.
pub fn review(asked: AdmissionReview) -> (AdmissionReview, Verdict) {
    let uid = asked.request.as_ref().map(|r| r.uid.clone()).unwrap_or_default();
    let (verdict, changes) = asked.request.as_ref().map_or((Verdict::Allowed, Vec::new()), judge);
    let patch = (!changes.is_empty()).then(|| ByteString(json!(changes).to_string().into_bytes()));
    let response = Response {
        uid,
        allowed: true,
        patch_type: patch.is_some().then_some("JSONPatch"),
        warnings: patch.iter().map(|_| WARNING).collect(),
        patch,
    };
    let answer = AdmissionReview {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        request: None,
        response: Some(response),
    };
    (answer, verdict)
}

fn judge(request: &Request) -> (Verdict, Vec<Change>) {
    let is_status = request.sub_resource.as_ref().is_some_and(|s| !s.is_empty());
    let (Some(old), Some(new)) = (&request.old_object, &request.object) else {
        return (Verdict::Allowed, Vec::new());
    };
    if is_status || !old.metadata.is_held() || new.metadata.deletion_timestamp.is_some() {
        return (Verdict::Allowed, Vec::new());
    }
    let version = old.metadata.resource_version.as_deref().filter(|v| !v.is_empty());
    if version.is_some() && new.metadata.annotation(RELEASE_ANNOTATION) == version {
        return (Verdict::Released, Vec::new());
    }
    match keep(&old.metadata, new) {
        changes if changes.is_empty() => (Verdict::Allowed, changes),
        changes => (Verdict::Kept, changes),
    }
}

impl Metadata {
    fn is_held(&self) -> bool {
        self.labels.as_ref().and_then(|l| l.get(HELD_LABEL)).is_some_and(|value| value == "true")
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// What it takes to keep the DaemonSet held.
fn keep(old: &Metadata, new: &Object) -> Vec<Change> {
    let mut changes = Vec::new();
    let metadata = &new.metadata;
    // A write that keeps the hold as a whole may renew what the hold says: this service does.
    let renews = metadata.is_held() && metadata.annotation(LOCK_ANNOTATION).is_some_and(|l| !l.is_empty());
    if !metadata.is_held() {
        if metadata.labels.is_none() {
            changes.push(add("/metadata/labels".to_owned(), json!({})));
        }
        changes.push(add(path("labels", HELD_LABEL), json!("true")));
    }
    let mut has_annotations = metadata.annotations.is_some();
    for key in [LOCK_ANNOTATION, HOLD_ANNOTATION] {
        let (before, now) = (old.annotation(key), metadata.annotation(key));
        let wanted = if renews { now.or(before) } else { before.or(now) };
        let Some(value) = wanted.filter(|_| wanted != now) else { continue };
        if !has_annotations {
            changes.push(add("/metadata/annotations".to_owned(), json!({})));
            has_annotations = true;
        }
        changes.push(add(path("annotations", key), json!(value)));
    }
    if metadata.annotation(RELEASE_ANNOTATION).is_some() {
        changes.push(Change { op: "remove", path: path("annotations", RELEASE_ANNOTATION), value: None });
    }
    changes.extend(strategy(new.spec.as_ref()));
    changes
}

fn strategy(spec: Option<&Spec>) -> Option<Change> {
    let wanted = json!({ "type": ON_DELETE });
    let Some(spec) = spec else { return Some(add("/spec".to_owned(), json!({ "updateStrategy": wanted }))) };
    let is_wanted = |s: &Strategy| s.kind.as_deref() == Some(ON_DELETE) && s.rolling_update.is_none();
    let stays = spec.update_strategy.as_ref().is_some_and(is_wanted);
    // Also replaces what is there.
    (!stays).then(|| add("/spec/updateStrategy".to_owned(), wanted))
}

fn add(path: String, value: Value) -> Change {
    Change { op: "add", path, value: Some(value) }
}

fn path(map: &str, key: &str) -> String {
    format!("/metadata/{map}/{}", key.replace('~', "~0").replace('/', "~1"))
}
