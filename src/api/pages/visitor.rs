//! Who looks at the page, and in which language.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT_LANGUAGE, HOST};
use axum::http::request::Parts;

use crate::api::auth::Guarded;
use crate::api::auth::session::cookie;
use crate::http::tls::IsTls;
use crate::ui::Shell;
use crate::ui::words::Language;

/// The cookie that keeps the language.
const LANGUAGE: &str = "gum-language";

/// Who looks at the page.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) language: Language,
    /// The language was chosen just now.
    chosen: bool,
    path: String,
    origin: String,
    /// The token in the browser's cookie.
    pub(super) token: Option<String>,
    form_token: String,
    /// Callers are asked who they are.
    pub(super) asks: bool,
    /// Another site's link leads here: then browsers do not send the cookie.
    from_elsewhere: bool,
    query: Vec<(String, String)>,
}

impl FromRequestParts<Guarded> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &Guarded) -> Result<Self, Infallible> {
        let query: Vec<(String, String)> =
            serde_urlencoded::from_str(parts.uri.query().unwrap_or_default()).unwrap_or_default();
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok());
        let chosen = query.iter().find(|(key, _)| key == "lang").and_then(|(_, tag)| Language::of_tag(tag));
        let kept = || cookie(&parts.headers, LANGUAGE).and_then(Language::of_tag);
        let liked = || header(ACCEPT_LANGUAGE.as_str()).and_then(Language::of_accepted);
        let token = state.sessions.token(&parts.headers).map(str::to_owned);
        let scheme = if parts.extensions.get::<IsTls>().is_some() { "https" } else { "http" };
        // Where something else speaks TLS for the service, it says so.
        let scheme = if header("x-forwarded-proto") == Some("https") { "https" } else { scheme };
        Ok(Self {
            language: chosen.or_else(kept).or_else(liked).unwrap_or_default(),
            chosen: chosen.is_some(),
            path: parts.uri.path().to_owned(),
            origin: format!("{scheme}://{}", header(HOST.as_str()).unwrap_or("127.0.0.1:32765")),
            form_token: state.sessions.form_token(token.as_deref()),
            token,
            asks: state.asks(),
            from_elsewhere: matches!(header("sec-fetch-site"), Some("cross-site" | "same-site")),
            query,
        })
    }
}

impl Visitor {
    /// A parameter of the query.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What is around the page.
    pub(super) fn shell<'v>(&'v self, user: Option<&'v str>) -> Shell<'v> {
        Shell {
            language: self.language,
            path: self.page(),
            user,
            forgery_token: &self.form_token,
            origin: &self.origin,
            needs_token: self.asks,
            comes_again: self.from_elsewhere && self.token.is_none(),
        }
    }

    /// The cookie that keeps a language that was chosen.
    pub(super) fn keeps_language(&self) -> Option<String> {
        let tag = self.language.tag();
        self.chosen
            .then(|| format!("{LANGUAGE}={tag}; Path=/ui; HttpOnly; SameSite=Strict; Max-Age=31536000"))
    }

    /// The page that the form stood on.
    pub(super) fn back(&self) -> &str {
        match self.page() {
            page if page == self.path => "/ui/",
            page => page,
        }
    }

    /// The path of the page that is looked at.
    pub(super) fn page(&self) -> &str {
        self.path.strip_suffix("/do").unwrap_or(&self.path)
    }
}
