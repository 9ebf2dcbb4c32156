//! Asks the API server who a caller is and what it may do, and remembers for a short while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{Mode, Need, unauthorized};
use crate::api::Context;
use crate::api::envelope::ApiError;
use crate::api::records::Lenient;
use crate::cluster::{self, error_text};

/// How long an answer of the API server is believed: a revoked token or right is of no use after that.
pub(super) const CACHE_TTL: Duration = Duration::from_secs(30);
/// How long a token that is not valid is refused without asking again: long enough to be no burden, and short enough
/// for one that becomes valid.
const REFUSED: Duration = Duration::from_secs(5);
/// Answers kept; beyond, those that have run out go, then all.
const CACHE_CAPACITY: usize = 1024;
const NOT_VALID: &str = "the token is not valid (any more)";
/// What a client is told to wait when its token could not be checked.
const RETRY_SECONDS: u32 = 5;

/// Asks the API server, and remembers for a short while.
pub(super) struct Authority {
    pub(super) mode: Mode,
    client: Client,
    /// By the token's digest: the token itself is not kept here.
    users: TtlCache<[u8; 32], UserInfo>,
    /// Tokens that are not valid, by digest. Apart: whoever makes tokens up drives nobody's valid one out.
    refused: TtlCache<[u8; 32], ()>,
    /// By the question as it was asked: two users of one name differ in uid and groups.
    allowed: TtlCache<String, ()>,
}

/// What a call is about.
#[derive(Clone, Debug)]
pub(super) enum About {
    /// No gr in particular: all of them.
    Everything,
    /// This gr.
    Gr(String),
    /// The gr of this record; `None`: no record can be called so.
    Record(Option<String>),
}

impl Authority {
    pub(super) fn new(mode: Mode, client: Client) -> Self {
        Self {
            mode,
            client,
            users: TtlCache::for_a(CACHE_TTL),
            refused: TtlCache::for_a(REFUSED),
            allowed: TtlCache::for_a(CACHE_TTL),
        }
    }

    /// The caller's name, when it has the permission; and the record that the call is about, as it was read for this.
    pub(super) async fn admit(
        &self,
        need: Need,
        token: &str,
        about: &About,
        context: &Context,
    ) -> Result<(String, Option<Lenient>), ApiError> {
        let user = self.user(token).await?;
        let mut record = None;
        match (need, about) {
            (Need::Nothing, _) => {}
            (Need::Path(path), _) => {
                let mut asked = question(&user);
                asked.non_resource_attributes =
                    Some(NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) });
                self.ask(asked, &format!("get {path}")).await?;
            }
            (Need::Gr(verb), About::Everything) => self.ask_about_gr(&user, verb, "", context).await?,
            (Need::Gr(verb), About::Gr(gr)) => self.ask_about_gr(&user, verb, gr, context).await?,
            (Need::Gr(verb), About::Record(id)) => {
                record = self.record(id.as_deref(), verb, context).await?;
                let gr = record.as_ref().and_then(Lenient::gr).unwrap_or_default();
                self.ask_about_gr(&user, verb, gr, context).await.map_err(|refusal| {
                    // The cluster's own words name the gr.
                    if refusal.is_forbidden() { not_yours(&user, verb, id.as_deref()) } else { refusal }
                })?;
            }
        }
        Ok((user.username.unwrap_or_default(), record))
    }

    async fn record(
        &self,
        id: Option<&str>,
        verb: &str,
        context: &Context,
    ) -> Result<Option<Lenient>, ApiError> {
        let Some(id) = id else { return Ok(None) };
        if verb == "get"
            && let Some(stored) = context.known.record(id)
        {
            return Lenient::of(&stored).map(Some);
        }
        let api: Api<Lenient> = Api::all(self.client.clone());
        match cluster::get(&api, id).await {
            Ok(record) => Ok(record),
            Err(error) => Err(cannot_ask(&error)),
        }
    }

    /// Whether the user may do this to the gr, in whichever groups serve grs; empty: to every gr.
    async fn ask_about_gr(
        &self,
        user: &UserInfo,
        verb: &str,
        gr: &str,
        context: &Context,
    ) -> Result<(), ApiError> {
        for api_version in context.served_apis().await? {
            let group = api_version.split('/').next().unwrap_or_default();
            let mut asked = question(user);
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
        Ok(())
    }

    async fn user(&self, token: &str) -> Result<UserInfo, ApiError> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.users.get(&key) {
            return Ok(known);
        }
        if self.refused.get(&key).is_some() {
            return Err(unauthorized(NOT_VALID));
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
            _ => {
                self.refused.put(key, ());
                Err(unauthorized(NOT_VALID))
            }
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

/// The same of a record that is not there and of one whose gr the user has no right on.
fn not_yours(user: &UserInfo, verb: &str, id: Option<&str>) -> ApiError {
    let (user, id) = (user.username.as_deref().unwrap_or_default(), id.unwrap_or_default());
    ApiError::new(
        StatusCode::FORBIDDEN,
        format!("user \"{user}\" may not {verb} the gr of the record \"{id}\", or there is no such record"),
    )
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

/// The token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(unauthorized(
            "a token is needed: send the header \"Authorization: Bearer <token of a user or service account \
             of the cluster>\"",
        ));
    };
    let token = value.to_str().ok().and_then(|v| v.split_once(' ')).and_then(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|t| !t.is_empty())
    });
    token.ok_or_else(|| unauthorized("the header Authorization is not of the form \"Bearer <token>\""))
}

fn cannot_ask(error: &kube::Error) -> ApiError {
    let message = format!("authorization check failed: {}", error_text(error));
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(RETRY_SECONDS)
}

/// What is believed for a while.
struct TtlCache<K, V> {
    lasts: Duration,
    all: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Eq + Hash, V: Clone> TtlCache<K, V> {
    fn for_a(lasts: Duration) -> Self {
        Self { lasts, all: Mutex::default() }
    }

    fn get(&self, key: &K) -> Option<V> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|(_, at)| at.elapsed() < self.lasts).map(|(value, _)| value.clone())
    }

    fn put(&self, key: K, value: V) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CACHE_CAPACITY {
            all.retain(|_, (_, at)| at.elapsed() < self.lasts);
        }
        if all.len() >= CACHE_CAPACITY {
            all.clear();
        }
        all.insert(key, (value, Instant::now()));
    }
}
