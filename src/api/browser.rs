//! Web pages of others may not use a person's browser to reach this service.
//!
//! There is no login that a browser could be tricked into using, but it may stand where the service can be
//! reached and the page's owner cannot. Programs such as curl send no `Origin` and are not concerned.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::envelope::ApiError;

/// Refuses what a foreign page asks for, and what comes in under a name that could be anybody's: with DNS
/// rebinding, a page's own name leads here.
pub(super) async fn refuse_foreign_pages(request: Request, next: Next) -> Response {
    if is_foreign(request.headers()) {
        let message = "web pages of other origins are not served here, nor pages under a host name: use the node's address";
        return ApiError::new(StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    if !headers.contains_key(ORIGIN) {
        return false;
    }
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (origin, host) = (text(ORIGIN), text(HOST));
    let authority = origin.split_once("://").map(|(_, authority)| authority).unwrap_or_default();
    !authority.eq_ignore_ascii_case(host) || !is_nobodys_name(host)
}

/// An address or `localhost`, with or without a port.
fn is_nobodys_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}
