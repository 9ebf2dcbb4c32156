//! The page for people, `/ui/`: reads what it shows with the same functions as the API, and asks [`crate::ui`] for the
//! HTML. A caller who may not see something is told so on a page, and signs in where the service asks who callers are.

mod act;
mod look;
mod visitor;

use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use super::auth::session::Sessions;
use super::auth::{self, Guarded, May};
use super::envelope::{ApiError, AsIs};
use super::request::is_dns_subdomain;
use crate::ui::assets;
use crate::ui::{SignIn, notice_page, sign_in_page};
use act::Fields;
use visitor::Visitor;

/// Nothing but what the service itself serves, and no script or style within a page.
const ONLY_OURS: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
/// A file with its digest in its name never changes.
const FOR_A_YEAR: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Every route of the page.
pub(super) fn routes() -> [(&'static str, MethodRouter<Guarded>); 7] {
    [
        ("/ui", get(look::start)),
        ("/ui/gr", get(look::open)),
        ("/ui/gr/{name}", get(look::gr)),
        ("/ui/gr/{name}/do", post(act::act)),
        ("/ui/sign-in", get(sign_in_form).post(sign_in)),
        ("/ui/sign-out", post(sign_out)),
        ("/ui/assets/{file}", get(asset)),
    ]
}

/// Whatever has no route: a browser at `/` is led to the page, all else is told where the service is.
pub(super) async fn to_the_page(uri: Uri, headers: HeaderMap) -> Result<Response, ApiError> {
    let accepts = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if uri.path() == "/" && accepts.contains("text/html") {
        return Ok(see("/ui/"));
    }
    Err(ApiError::new(StatusCode::NOT_FOUND, "no such path; the service is at /gum/v1/gr"))
}

/// `GET /ui/assets/{file}`
async fn asset(_: May<auth::Everyone>, Path(file): Path<String>) -> Result<Response, ApiError> {
    let asset = assets::find(&file)
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "the page has no such file"))?;
    let mut response = (
        [(CONTENT_TYPE, HeaderValue::from_static(asset.media_type)), (CACHE_CONTROL, FOR_A_YEAR)],
        asset.content,
    )
        .into_response();
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.extensions_mut().insert(AsIs);
    Ok(response)
}

/// `GET /ui/sign-in`
async fn sign_in_form(_: May<auth::Everyone>, visitor: Visitor) -> Response {
    // Whoever comes from the form with a cookie goes on; without one, the browser has not kept it.
    match (&visitor.token, visitor.given("signed-in").is_some()) {
        (Some(_), true) => see(visitor.given("next").and_then(own_page).unwrap_or("/ui/")),
        (None, true) => ask_who(&visitor, SignIn::NotKept, visitor.given("next").unwrap_or_default()),
        (_, false) => ask_who(&visitor, SignIn::Asked, ""),
    }
}

/// `POST /ui/sign-in`
async fn sign_in(
    State(guarded): State<Guarded>,
    _: May<auth::Everyone>,
    visitor: Visitor,
    fields: Result<Fields, ApiError>,
) -> Response {
    let fields = match own_form(&guarded, &visitor, fields) {
        Ok(fields) => fields,
        Err(answer) => return *answer,
    };
    let token = fields.of("token").trim();
    if let Err(refusal) = guarded.is_valid(token).await {
        return ask_who(&visitor, SignIn::Refused(&refusal.message), fields.of("next"));
    }
    let too_long = "the token is longer than the cookie that a browser keeps (4096 bytes), or has characters that no \
                    token has";
    match guarded.sessions.keep(token) {
        Some(cookie) => {
            let next = own_page(fields.of("next")).unwrap_or_default();
            with_cookie(see(&format!("/ui/sign-in?signed-in&next={next}")), &cookie)
        }
        None => ask_who(&visitor, SignIn::Refused(too_long), fields.of("next")),
    }
}

/// `POST /ui/sign-out`
async fn sign_out(
    State(guarded): State<Guarded>,
    _: May<auth::Everyone>,
    visitor: Visitor,
    fields: Result<Fields, ApiError>,
) -> Response {
    match own_form(&guarded, &visitor, fields) {
        Ok(_) => with_cookie(see("/ui/sign-in"), &Sessions::forget()),
        Err(answer) => *answer,
    }
}

/// The fields of a form that the service made for this caller; else what is answered instead.
fn own_form(
    guarded: &Guarded,
    visitor: &Visitor,
    fields: Result<Fields, ApiError>,
) -> Result<Fields, Box<Response>> {
    let fields = fields.map_err(|refusal| Box::new(refused(visitor, &refusal)))?;
    if guarded.sessions.is_ours(visitor.token.as_deref(), fields.of("forgery")) {
        return Ok(fields);
    }
    // Made for somebody else, or before the service was restarted.
    let page = notice_page(&visitor.shell(None), visitor.language.words().forged, true, visitor.back());
    Err(Box::new(html(StatusCode::FORBIDDEN, visitor, page)))
}

/// Where somebody wanted to go who was asked to sign in first: the page of a gr.
fn own_page(path: &str) -> Option<&str> {
    path.strip_prefix("/ui/gr/").filter(|gr| is_dns_subdomain(gr)).map(|_| path)
}

/// A page, with everything that keeps it harmless.
fn html(status: StatusCode, visitor: &Visitor, page: String) -> Response {
    let mut response = (status, page).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, ONLY_OURS);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(AsIs);
    match visitor.keeps_language() {
        Some(cookie) => with_cookie(response, &cookie),
        None => response,
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// Leads a browser on.
fn see(place: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(place) = HeaderValue::from_str(place) {
        response.headers_mut().insert(LOCATION, place);
    }
    response.extensions_mut().insert(AsIs);
    response
}

fn ask_who(visitor: &Visitor, said: SignIn<'_>, next: &str) -> Response {
    let status = if matches!(said, SignIn::Asked) { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    html(status, visitor, sign_in_page(&visitor.shell(None), said, own_page(next).unwrap_or_default()))
}

/// The refusal on a page; one for want of a token is the form that takes one.
fn refused(visitor: &Visitor, refusal: &ApiError) -> Response {
    if refusal.is_unauthorized() && visitor.asks {
        let said = match &visitor.token {
            Some(_) => SignIn::Refused(&refusal.message),
            None => SignIn::Asked,
        };
        let page = sign_in_page(&visitor.shell(None), said, visitor.page());
        return html(StatusCode::UNAUTHORIZED, visitor, page);
    }
    let page = notice_page(&visitor.shell(None), &refusal.message, false, visitor.back());
    html(refusal.status, visitor, page)
}
