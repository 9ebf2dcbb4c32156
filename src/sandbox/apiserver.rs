//! A Kubernetes API server in the process, version 1.20 in its manners, but for what clients find out by asking: that
//! `policy/v1` is there, and that a watch can begin with everything that is there (`sendInitialEvents`).
//!
//! It answers the verbs that this product and kubectl use as the real server does, down to the words of its
//! errors; recorded answers of a real server are the test. Anything else is answered 501, so that a test
//! fails loudly instead of passing by accident.
//!
//! Known limits, on purpose:
//! - No authentication or authorization. No `managedFields`. Of admission, webhooks that mutate updates: see
//!   `admission`.
//! - Server-side apply merges and never conflicts; it does not remove what a manager has stopped applying.
//! - Unknown fields of built-in kinds are kept; few of their validations are done.
//! - OpenAPI: see `openapi`. `fieldValidation` is not known: kubectl looks for unknown fields itself.
//! - CRD schemas: see `schema`. Conversion between versions changes `apiVersion` only.
//! - Continue tokens are of another form; `Table` columns of built-in kinds have no descriptions.
//! - The CRD controllers and the disruption controller do their work within the transaction that calls
//!   for it, so a client never sees the moment before. All other controllers are clients; see
//!   [`garbage`](crate::actors::garbage) for one.

mod admission;
mod columns;
mod crd;
mod create;
mod defaults;
mod delete;
mod discovery;
mod disruption;
mod error;
mod jsonpath;
mod openapi;
mod output;
mod patch;
mod path;
mod pods;
mod read;
mod request;
mod schema;
mod selector;
mod strategic;
mod table;
mod update;
mod validate;
mod watch;
mod webhooks;

use std::{convert::Infallible, sync::Arc};

use axum::{Router, extract::Request, extract::State as Extract, response::Response};
use http::{HeaderValue, Method, header::USER_AGENT};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use gcu_clock::Clock;

use self::{
    admission::{Listeners, Write},
    error::{ApiError, reply},
    output::Renderer,
    path::ResourcePath,
    request::{Asked, Target, target},
};
use crate::{
    json,
    resources::{self, ResourceType},
    store::Store,
};

/// The server. Cheap to clone; all clones serve the same objects.
#[derive(Clone)]
pub struct ApiServer {
    store: Arc<Store>,
    listeners: Arc<Listeners>,
}

impl ApiServer {
    /// An empty cluster with the namespaces that every cluster has.
    pub fn new(clock: Clock) -> Self {
        Self::with_types(clock, resources::builtins(true), true)
    }

    /// The same as Kubernetes 1.20 has it: evictions and budgets are `v1beta1` only, and no watch begins with what is
    /// there.
    pub fn old(clock: Clock) -> Self {
        Self::with_types(clock, resources::builtins(false), false)
    }

    fn with_types(clock: Clock, types: Vec<ResourceType>, streams_lists: bool) -> Self {
        let followers = &[crd::follow, disruption::follow];
        let server = Self {
            store: Arc::new(Store::new(clock, types, streams_lists, followers)),
            listeners: Arc::default(),
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            server.create_namespace(name);
        }
        server
    }

    fn create_namespace(&self, name: &str) {
        let mut tx = self.store.begin(None, false);
        let kind = tx.state.types.get(&(String::new(), "namespaces".to_owned())).cloned();
        if let Some((kind, version)) = kind.as_deref().and_then(|kind| Some((kind, kind.version("v1")?))) {
            let place = ResourcePath { kind, version, namespace: "", name: "", subresource: "" };
            let made = create::create(&mut tx, place, json!({"metadata": {"name": name}}));
            debug_assert!(made.is_ok(), "a new store accepts its first namespaces");
        }
    }

    /// The whole HTTP API.
    pub fn router(&self) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }

    /// A client that calls this server within the process, without sockets. Needs a tokio runtime.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.router(), "default")
    }

    /// A client that names itself, so that [`Change::actor`](crate::store::Change::actor) tells who did what.
    pub fn client_as(&self, actor: &str) -> kube::Client {
        let name = HeaderValue::from_str(actor).unwrap_or(HeaderValue::from_static("unnamed"));
        let named = self.router().map_request(move |mut request: Request<kube::client::Body>| {
            request.headers_mut().insert(USER_AGENT, name.clone());
            request
        });
        kube::Client::new(named, "default")
    }

    /// From now on the server reaches `router` when a webhook's `clientConfig` names this address: the beginning of a
    /// `url`, or a `service` as `namespace/name`. A webhook at any other address is one that nobody listens at.
    pub fn webhook(&self, address: &str, router: Router) {
        self.listeners.listen(address, router);
    }

    /// Nobody listens at this address any more.
    pub fn close_webhook(&self, address: &str) {
        self.listeners.close(address);
    }

    /// The objects behind the API.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    async fn answer(&self, request: Request) -> Result<Response, ApiError> {
        if let Some(document) = request.uri().path().strip_prefix("/openapi/") {
            return self.openapi(document);
        }
        let asked = Asked::read(request).await?;
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Ok(reply(200, "text/plain; charset=utf-8", "ok")),
            ["version"] => Ok(ok(&discovery::version())),
            ["api"] => Ok(ok(&discovery::core_versions())),
            ["apis"] => Ok(ok(&discovery::groups(&self.store.lock()))),
            ["apis", group] => found(discovery::group(&self.store.lock(), group)),
            ["api", "v1"] => found(discovery::resources(&self.store.lock(), "", "v1")),
            ["apis", group, version] => self.group_version(group, version),
            ["api", "v1", ..] => self.resource("", "v1", asked.path.get(2..), &asked).await,
            ["apis", group, version, ..] => self.resource(group, version, asked.path.get(3..), &asked).await,
            _ => Err(ApiError::no_such_path()),
        }
    }

    /// Each form has one media type here, whatever is asked for.
    fn openapi(&self, document: &str) -> Result<Response, ApiError> {
        let state = self.store.lock();
        let parts: Vec<&str> = document.trim_end_matches('/').split('/').collect();
        match parts.as_slice() {
            ["v2"] => Ok(reply(200, openapi::V2_MEDIA_TYPE, openapi::v2(&state))),
            ["v3"] => Ok(ok(&openapi::v3_index(&state))),
            ["v3", "api", version] => found(openapi::v3(&state, "", version)),
            ["v3", "apis", group, version] => found(openapi::v3(&state, group, version)),
            _ => Err(ApiError::no_such_path()),
        }
    }

    fn group_version(&self, group: &str, version: &str) -> Result<Response, ApiError> {
        let state = self.store.lock();
        let missing = match discovery::group(&state, group) {
            Some(_) => ApiError::no_such_resource(),
            None => ApiError::no_such_path(),
        };
        discovery::resources(&state, group, version).as_ref().map(ok).ok_or(missing)
    }

    async fn resource(
        &self,
        group: &str,
        version: &str,
        rest: Option<&[String]>,
        asked: &Asked,
    ) -> Result<Response, ApiError> {
        let rest = rest.unwrap_or_default();
        if rest.first().is_some_and(|first| matches!(first.as_str(), "watch" | "proxy")) {
            return Err(ApiError::not_implemented("the watch and proxy paths"));
        }
        let target = target(group, version, rest).ok_or_else(ApiError::no_such_resource)?;
        let kind = self.kind(&target)?;
        let version = kind.version(&target.version).ok_or_else(ApiError::no_such_path)?;
        let place = ResourcePath {
            kind: &kind,
            version,
            namespace: &target.namespace,
            name: &target.name,
            subresource: &target.subresource,
        };
        if kind.namespaced && target.namespace.is_empty() && !target.name.is_empty()
            || !kind.namespaced && !target.namespace.is_empty()
        {
            return Err(ApiError::no_such_resource());
        }
        self.dispatch(place, asked).await
    }

    /// The type behind a path. Unknown ones in a served built-in group are 404 with a `Status`, others without.
    fn kind(&self, target: &Target) -> Result<Arc<ResourceType>, ApiError> {
        let state = self.store.lock();
        let key = (target.group.clone(), target.plural.clone());
        state.types.get(&key).cloned().ok_or_else(|| {
            let known = state.types.values().any(|kind| kind.group == target.group && !kind.rules.custom);
            if known { ApiError::no_such_resource() } else { ApiError::no_such_path() }
        })
    }

    async fn dispatch(&self, place: ResourcePath<'_>, asked: &Asked) -> Result<Response, ApiError> {
        match place.subresource {
            "" if place.name.is_empty() => self.collection(place, asked),
            "" => self.object(place, asked).await,
            "status" if place.version.has_status => self.object_part(place, asked).await,
            "finalize" if place.kind.is("", "namespaces") => self.object_part(place, asked).await,
            "binding" | "eviction" if place.kind.is("", "pods") => self.pod_action(place, asked),
            "log"
            | "exec"
            | "attach"
            | "portforward"
            | "proxy"
            | "ephemeralcontainers"
            | "scale"
            | "token"
                if !place.kind.rules.custom =>
            {
                Err(ApiError::not_implemented(place.subresource))
            }
            _ if place.kind.rules.custom => Err(ApiError::not_found(place.kind, place.name)),
            _ => Err(ApiError::no_such_resource()),
        }
    }

    fn collection(&self, place: ResourcePath<'_>, asked: &Asked) -> Result<Response, ApiError> {
        match asked.method {
            Method::GET if asked.query.is_set("watch") => {
                watch::watch(&self.store, place, &asked.query, asked.view)
            }
            Method::GET => {
                let text = read::list(&self.store, place, &asked.query, &self.renderer(place, asked))?;
                Ok(reply(200, "application/json", text))
            }
            Method::POST if !place.kind.namespaced || !place.namespace.is_empty() => {
                let dry_run = asked.query.dry_run("CreateOptions")?;
                let body = asked.object(&place.kind.kind)?;
                let mut tx = self.store.begin(asked.user_agent.clone(), dry_run);
                let made = create::create(&mut tx, place, body)?;
                drop(tx);
                self.show(place, asked, 201, &made)
            }
            Method::DELETE if !place.kind.is("", "namespaces") => self.delete_collection(place, asked),
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    async fn object(&self, place: ResourcePath<'_>, asked: &Asked) -> Result<Response, ApiError> {
        match asked.method {
            Method::DELETE => {
                let options = delete::Options::parse(&asked.query, &asked.options()?)?;
                let mut tx = self.store.begin(asked.user_agent.clone(), options.dry_run);
                let body = delete::delete(&mut tx, place, &options)?;
                drop(tx);
                if json::text(&body, &["kind"]) == "Status" {
                    return Ok(ok(&body));
                }
                self.show(place, asked, 200, &body)
            }
            Method::GET if asked.query.is_set("watch") => {
                Err(ApiError::not_implemented("watching one object by its path; use a field selector"))
            }
            _ => self.object_part(place, asked).await,
        }
    }

    /// What objects and their `status` have in common.
    async fn object_part(&self, place: ResourcePath<'_>, asked: &Asked) -> Result<Response, ApiError> {
        match asked.method {
            Method::GET => self.show(place, asked, 200, &*read::get(&self.store, place)?),
            Method::PUT => {
                let dry_run = asked.query.dry_run("UpdateOptions")?;
                let put = Write::Put(asked.object(&place.kind.kind)?);
                self.write(place, asked, dry_run, put).await
            }
            Method::PATCH => {
                let dry_run = asked.query.dry_run("PatchOptions")?;
                self.write(place, asked, dry_run, Write::Patch).await
            }
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    async fn write(
        &self,
        place: ResourcePath<'_>,
        asked: &Asked,
        dry_run: bool,
        write: Write,
    ) -> Result<Response, ApiError> {
        let admitted = admission::admitted(&self.store, &self.listeners, place, asked, dry_run, write);
        let (code, object) = admitted.await?;
        self.show(place, asked, code, &object)
    }

    fn pod_action(&self, place: ResourcePath<'_>, asked: &Asked) -> Result<Response, ApiError> {
        if asked.method != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let dry_run = asked.query.dry_run("CreateOptions")?;
        let mut tx = self.store.begin(asked.user_agent.clone(), dry_run);
        if place.subresource == "binding" {
            pods::bind(&mut tx, place, &asked.object("Binding")?)?;
        } else {
            pods::evict(&mut tx, place, asked)?;
        }
        Ok(reply(201, "application/json", pods::done().to_string()))
    }

    fn delete_collection(&self, place: ResourcePath<'_>, asked: &Asked) -> Result<Response, ApiError> {
        let options = delete::Options::parse(&asked.query, &asked.options()?)?;
        let mut tx = self.store.begin(asked.user_agent.clone(), options.dry_run);
        let selected = read::select(&tx.state, place, &asked.query)?;
        let metadata = json!({"resourceVersion": tx.state.revision.to_string()});
        for ((namespace, name), object) in &selected {
            delete::now(&mut tx, place.kind, namespace, name, object, &options);
        }
        drop(tx);
        let objects = selected.iter().map(|(_, object)| object.as_ref());
        Ok(reply(200, "application/json", self.renderer(place, asked).list(objects, &metadata)?))
    }

    fn show(
        &self,
        place: ResourcePath<'_>,
        asked: &Asked,
        code: u16,
        object: &Value,
    ) -> Result<Response, ApiError> {
        Ok(reply(code, "application/json", self.renderer(place, asked).object(object)?))
    }

    fn renderer<'a>(&self, place: ResourcePath<'a>, asked: &'a Asked) -> Renderer<'a> {
        Renderer {
            kind: place.kind,
            version: place.version,
            view: asked.view,
            now: self.store.now(),
            include_object: asked.query.get("includeObject"),
        }
    }
}

async fn serve(Extract(server): Extract<ApiServer>, request: Request) -> Result<Response, Infallible> {
    Ok(server.answer(request).await.unwrap_or_else(|error| error.response()))
}

fn ok(body: &Value) -> Response {
    reply(200, "application/json", body.to_string())
}

fn found(body: Option<Value>) -> Result<Response, ApiError> {
    body.as_ref().map(ok).ok_or_else(ApiError::no_such_path)
}
