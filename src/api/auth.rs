//! Who may do what.
//!
//! Handlers get at the cluster through `May` alone, and `May` names the permission: a handler that has forgotten
//! to ask for one has nothing to work with, and does not compile.
//!
//! With [`Mode::Kubernetes`] the caller's bearer token goes to the API server (TokenReview), and so does the question
//! whether that user may do the same to the gr itself (SubjectAccessReview). Whoever may update a gr with kubectl may
//! upgrade it here, nobody else. What cannot be asked is refused.

use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Context;
use super::access::Asker;
use super::envelope::ApiError;
use super::limits::Patience;
use crate::cluster::error_text;
use crate::http::tls::ClientCertificate;

/// How long an answer of the API server is believed: a revoked token or right is of no use after that.
const BELIEVED: Duration = Duration::from_secs(30);
/// Answers kept; beyond, those that have run out go, then all.
const KEPT: usize = 1024;
/// What a client is told to wait when its token could not be checked.
const RETRY_SECONDS: u32 = 5;

/// Who may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Everybody who reaches the port, as with v1.0.0
    #[default]
    None,
    /// Whoever the cluster's own access control lets do the same to the gr
    Kubernetes,
}

/// What a permission comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// Nothing: for probes.
    Nothing,
    /// This verb on the gr.
    Gr(&'static str),
    /// To read a path that is no resource.
    Path(&'static str),
}

/// A permission.
pub(super) trait Permission {
    const NEED: Need;
}

macro_rules! permission {
    ($name:ident, $need:expr, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, Debug)]
        pub(super) struct $name;
        impl Permission for $name {
            const NEED: Need = $need;
        }
    };
}

permission!(Everyone, Need::Nothing, "For what tells nothing worth hiding.");
permission!(List, Need::Gr("list"), "To list grs.");
permission!(Get, Need::Gr("get"), "To read a gr.");
permission!(Update, Need::Gr("update"), "To change a gr.");
permission!(Delete, Need::Gr("delete"), "To delete a gr.");
permission!(Scrape, Need::Path("/metrics"), "To read metrics.");

/// What handlers work with, once the caller has been found to have a permission.
pub(super) struct May<P>(Context, PhantomData<P>);

impl<P> Deref for May<P> {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
}

/// The router's state: the only way to a [`Context`] is through `May`.
#[derive(Clone)]
pub(super) struct Guarded {
    context: Context,
    authority: Arc<Authority>,
}

impl Guarded {
    pub(super) fn new(context: Context, mode: Mode) -> Self {
        let authority = Authority {
            mode,
            client: context.client.clone(),
            users: Known::default(),
            allowed: Known::default(),
        };
        Self { context, authority: Arc::new(authority) }
    }
}

impl<P: Permission> FromRequestParts<Guarded> for May<P> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Guarded) -> Result<Self, ApiError> {
        let certificate = parts.extensions.get::<ClientCertificate>().copied().unwrap_or_default();
        if certificate == ClientCertificate::Missing && !matches!(P::NEED, Need::Nothing) {
            return Err(unauthorized("a client certificate of a CA that is trusted here is needed"));
        }
        let mut context = state.context.clone();
        context.patience = parts.extensions.get::<Patience>().cloned().unwrap_or_default();
        if state.authority.mode == Mode::Kubernetes {
            let gr = gr_in_path(parts, state).await;
            let user = state.authority.admit(P::NEED, &parts.headers, &gr, &context).await?;
            if let (Some(user), Some(Asker(asker))) = (&user, parts.extensions.get::<Asker>()) {
                // Set once; a handler has one May.
                let _ = asker.set(user.clone());
            }
            context.asker = user;
        }
        Ok(Self(context, PhantomData))
    }
}

/// The gr that a path is about; empty: all of them. A record `<gr>-<n>` is about its gr.
async fn gr_in_path(parts: &mut Parts, state: &Guarded) -> String {
    let Ok(params) = RawPathParams::from_request_parts(parts, state).await else { return String::new() };
    match params.iter().next() {
        Some(("name", name)) => name.to_owned(),
        Some(("id", id)) => id.rsplit_once('-').map_or(id, |(gr, _)| gr).to_owned(),
        _ => String::new(),
    }
}

/// Asks the API server, and remembers for a short while.
struct Authority {
    mode: Mode,
    client: Client,
    /// By the token's digest: the token itself is kept nowhere.
    users: Known<[u8; 32], UserInfo>,
    /// By the question as it was asked: two users of one name differ in uid and groups.
    allowed: Known<String, ()>,
}

impl Authority {
    /// The caller's name, when it has the permission.
    async fn admit(
        &self,
        need: Need,
        headers: &HeaderMap,
        gr: &str,
        context: &Context,
    ) -> Result<Option<String>, ApiError> {
        if matches!(need, Need::Nothing) {
            return Ok(None);
        }
        let user = self.user(bearer(headers)?).await?;
        match need {
            Need::Nothing => {}
            Need::Path(path) => {
                let mut asked = question(&user);
                asked.non_resource_attributes =
                    Some(NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) });
                self.ask(asked, &format!("get {path}")).await?;
            }
            Need::Gr(verb) => {
                for api_version in context.served_apis().await? {
                    let group = api_version.split('/').next().unwrap_or_default();
                    let mut asked = question(&user);
                    asked.resource_attributes = Some(ResourceAttributes {
                        group: Some(group.to_owned()),
                        resource: Some("gcuresources".to_owned()),
                        verb: Some(verb.to_owned()),
                        name: Some(gr.to_owned()).filter(|n| !n.is_empty()),
                        ..ResourceAttributes::default()
                    });
                    let which = if gr.is_empty() { String::new() } else { format!(" \"{gr}\"") };
                    self.ask(asked, &format!("{verb} gcuresources.{group}{which}")).await?;
                }
            }
        }
        Ok(Some(user.username.unwrap_or_default()))
    }

    async fn user(&self, token: &str) -> Result<UserInfo, ApiError> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.users.get(&key) {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(|e| cannot_ask(&e))?;
        let status = answer.status.unwrap_or_default();
        match (status.authenticated, status.user) {
            (Some(true), Some(user)) => {
                self.users.put(key, user.clone());
                Ok(user)
            }
            _ => Err(unauthorized("the token is not valid (any more)")),
        }
    }

    /// Asks whether the user may do `what`, in these words.
    async fn ask(&self, spec: SubjectAccessReviewSpec, what: &str) -> Result<(), ApiError> {
        let key = serde_json::to_string(&spec).unwrap_or_default();
        if self.allowed.get(&key).is_some() {
            return Ok(());
        }
        let user = spec.user.clone().unwrap_or_default();
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(|e| cannot_ask(&e))?;
        let status = answer.status.unwrap_or_default();
        if status.allowed && status.denied != Some(true) {
            self.allowed.put(key, ());
            return Ok(());
        }
        let why = status.reason.filter(|r| !r.is_empty()).map(|r| format!(": {r}")).unwrap_or_default();
        Err(ApiError::new(StatusCode::FORBIDDEN, format!("user \"{user}\" may not {what}{why}")))
    }
}

/// About this user; what is asked is still to be said.
fn question(user: &UserInfo) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: user.username.clone(),
        groups: user.groups.clone(),
        uid: user.uid.clone(),
        extra: user.extra.clone(),
        ..SubjectAccessReviewSpec::default()
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(unauthorized(
            "a token is needed: send the header \"Authorization: Bearer <token of a user or service account of the cluster>\"",
        ));
    };
    let token = value.to_str().ok().and_then(|v| v.split_once(' ')).and_then(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|t| !t.is_empty())
    });
    token.ok_or_else(|| unauthorized("the header Authorization is not of the form \"Bearer <token>\""))
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, message)
}

fn cannot_ask(error: &kube::Error) -> ApiError {
    let message = format!("it cannot be asked whether you may do this: {}", error_text(error));
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(RETRY_SECONDS)
}

/// What is believed for a while.
struct Known<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Known<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|(_, at)| at.elapsed() < BELIEVED).map(|(value, _)| value.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT {
            all.retain(|_, (_, at)| at.elapsed() < BELIEVED);
        }
        if all.len() >= KEPT {
            all.clear();
        }
        all.insert(key, (value, Instant::now()));
    }
}
