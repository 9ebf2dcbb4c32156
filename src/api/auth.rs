//! Who may do what.
//!
//! Handlers get at the cluster through `May` alone, and `May` names the permission: a handler that has forgotten
//! to ask for one has nothing to work with, and does not compile.
//!
//! With [`Mode::Kubernetes`] the caller's bearer token goes to the API server (TokenReview), and so does the question
//! whether that user may do the same to the gr itself (SubjectAccessReview). Whoever may update a gr with kubectl may
//! upgrade it here, nobody else. What cannot be asked is refused.
//!
//! # Records
//!
//! A record is its gr's: who asks for one needs the right on the gr that the record itself names in `spec.gr`. Its name
//! proves nothing, for whoever may create records chooses it. A record that does not say legibly whose it is takes the
//! right on every gr.
//!
//! One that is not there is answered 404 only to those who have the right on every gr, and would see it if it were.
//! To all others its answer is word for word that of a record which they may not see: what tells the two apart would
//! tell which upgrades there are, and by their names, which grs.

mod authority;
pub(super) mod session;

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use kube::ResourceExt;
use tokio::time::sleep;

use super::Context;
use super::access::Asker;
use super::envelope::ApiError;
use super::patience::Patience;
use super::records::Lenient;
use super::request::is_dns_subdomain;
use crate::http::tls::ClientCertificate;
use authority::{About, Authority, CACHE_TTL, bearer};
use session::Sessions;

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
pub(super) struct May<P> {
    context: Context,
    /// Of a call about a record: that record, where it was read to find out whose it is.
    record: Option<Lenient>,
    permission: PhantomData<P>,
}

impl<P> Deref for May<P> {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl<P> May<P> {
    /// One record, to be shown: the very object that the caller was found to have a right to, where that was asked.
    pub(super) async fn record(&self, id: &str) -> Result<Lenient, ApiError> {
        if let Some(read) = self.record.as_ref().filter(|read| read.name_any() == id) {
            return Ok(read.clone());
        }
        self.shown_record(id).await
    }
}

/// What a request was let in for. One that lasts is asked about again while it does.
#[derive(Clone, Default)]
pub struct Standing(Option<Arc<Admission>>);

struct Admission {
    authority: Arc<Authority>,
    /// Kept for as long as the request lasts, and nowhere else.
    token: String,
    need: Need,
    about: About,
}

impl Standing {
    /// Ends when the token or the right is not good any more, with what a new request would be answered. While that
    /// cannot be asked the request goes on: it was let in, and is told nothing new without the API server either.
    pub(super) async fn lost(&self, context: &Context) -> ApiError {
        let Some(admission) = &self.0 else { return std::future::pending().await };
        let Admission { authority, token, need, about } = admission.as_ref();
        loop {
            sleep(CACHE_TTL).await;
            match authority.admit(*need, token, about, context).await {
                Err(refusal) if refusal.is_forbidden() || refusal.is_unauthorized() => return refusal,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The router's state: the only way to a [`Context`] is through `May`.
#[derive(Clone)]
pub(super) struct Guarded {
    context: Context,
    authority: Arc<Authority>,
    /// Who browsers are.
    pub(super) sessions: Arc<Sessions>,
}

impl Guarded {
    pub(super) fn new(context: Context, mode: Mode) -> Self {
        let authority = Arc::new(Authority::new(mode, context.client.clone()));
        Self { context, authority, sessions: Arc::new(Sessions::new()) }
    }

    /// Callers are asked who they are.
    pub(super) fn asks(&self) -> bool {
        self.authority.mode == Mode::Kubernetes
    }

    /// Whether a token is valid: whoever signs in with it is asked for their rights with each request.
    pub(super) async fn is_valid(&self, token: &str) -> Result<(), ApiError> {
        let asked = self.authority.admit(Need::Nothing, token, &About::Everything, &self.context);
        asked.await.map(|_| ())
    }

    /// The token of a request. A browser's cookie counts where nothing is changed, and for the page's own forms, which
    /// carry more: the API takes no change on the word of a cookie, which a browser sends whoever made it ask.
    fn token<'p>(&self, parts: &'p Parts) -> Result<&'p str, ApiError> {
        let harmless =
            matches!(parts.method, Method::GET | Method::HEAD) || parts.uri.path().starts_with("/ui/");
        if harmless
            && !parts.headers.contains_key(AUTHORIZATION)
            && let Some(token) = self.sessions.token(&parts.headers)
        {
            return Ok(token);
        }
        bearer(&parts.headers)
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
        let mut record = None;
        if state.authority.mode == Mode::Kubernetes && !matches!(P::NEED, Need::Nothing) {
            let about = about(parts, state).await;
            let token = state.token(parts)?;
            let user;
            (user, record) = state.authority.admit(P::NEED, token, &about, &context).await?;
            let (authority, token) = (state.authority.clone(), token.to_owned());
            context.standing = Standing(Some(Arc::new(Admission { authority, token, need: P::NEED, about })));
            if let Some(Asker(asker)) = parts.extensions.get::<Asker>() {
                // Set once; a handler has one May.
                let _ = asker.set(user.clone());
            }
            context.asker = Some(user);
        }
        Ok(Self { context, record, permission: PhantomData })
    }
}

/// What a path is about.
async fn about(parts: &mut Parts, state: &Guarded) -> About {
    let Ok(params) = RawPathParams::from_request_parts(parts, state).await else { return About::Everything };
    match params.iter().next() {
        Some(("name", name)) => About::Gr(name.to_owned()),
        Some(("id", id)) => About::Record(Some(id).filter(|id| is_dns_subdomain(id)).map(str::to_owned)),
        _ => About::Everything,
    }
}

fn unauthorized(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, message)
}
