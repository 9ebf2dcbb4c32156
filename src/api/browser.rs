//! Web pages of others may not use a person's browser to reach this service.
//!
//! There may be no login that a browser could be tricked into using, but it may stand where the service can be
//! reached and the page's owner cannot. Programs such as curl are not concerned: they do not run what others wrote.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN, USER_AGENT};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::envelope::ApiError;

/// The host names, beside addresses, under which browsers may come.
pub(super) type Hosts = Arc<[String]>;

/// Refuses what a foreign page asks for, and browsers that come under a name that could be anybody's: with DNS
/// rebinding, a page's own name leads here.
pub(super) async fn refuse_foreign_pages(
    State(hosts): State<Hosts>,
    request: Request,
    next: Next,
) -> Response {
    match refusal(request.headers(), &hosts) {
        Some(message) => ApiError::new(StatusCode::FORBIDDEN, message).into_response(),
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap, hosts: &[String]) -> Option<String> {
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let (origin, site) = (text(ORIGIN.as_str()), text("sec-fetch-site"));
    // Every browser's name begins so, for reasons of history.
    let is_browser = text(USER_AGENT.as_str()).is_some_and(|a| a.starts_with("Mozilla/"));
    if origin.is_none() && site.is_none() && !is_browser {
        return None;
    }
    let host = text(HOST.as_str()).unwrap_or_default();
    if !is_nobodys_name(host) && !hosts.iter().any(|known| known.eq_ignore_ascii_case(without_port(host))) {
        return Some(format!(
            "browsers are not served under the name {host:?}: use the node's address, or start the service with --host"
        ));
    }
    let of_origin = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority).unwrap_or_default();
        authority.eq_ignore_ascii_case(host)
    };
    // Opening a link shows a page to a person, and nothing to the page with the link.
    let opens = text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document");
    let same_site = matches!(site, None | Some("same-origin" | "none")) || opens && origin.is_none();
    let same = same_site && origin.is_none_or(of_origin);
    (!same).then(|| "web pages of other origins are not served here".to_owned())
}

/// An address or `localhost`, with or without a port.
fn is_nobodys_name(host: &str) -> bool {
    let name = without_port(host).trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}
