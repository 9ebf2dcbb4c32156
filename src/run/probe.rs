//! `probe`: asks this service one thing, for images that have no curl.

use std::time::Duration;

use http::{Request, Uri};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::{Client, Config};
use tokio::time::timeout;

use super::{Failure, say};
use crate::cluster::error_text;

/// From the call to the whole answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the answer; an error when it is none of success, or there is none.
pub(super) fn run(url: &str, insecure: bool) -> Result<bool, Failure> {
    let uri: Uri = url.parse().map_err(|e| format!("{url}: {e}"))?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let mut parts = uri.into_parts();
    parts.path_and_query = Some("/".parse()?);
    let mut config = Config::new(Uri::from_parts(parts).map_err(|e| format!("{url}: {e}"))?);
    config.accept_invalid_certs = insecure;
    config.default_retry = false;
    config.connect_timeout = Some(PATIENCE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exchange = async {
        let client = Client::try_from(config)?;
        let request = Request::get(path).body(Body::empty())?;
        let answer = client.send(request).await.map_err(|e| format!("{url}: {}", error_text(&e)))?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok::<_, Failure>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let (status, text) = runtime
        .block_on(async { timeout(PATIENCE, exchange).await })
        .map_err(|_| format!("{url}: no answer within {PATIENCE:?}"))??;
    if !status.is_success() {
        return Err(format!("{url}: {status}: {}", text.trim()).into());
    }
    say(&text)?;
    Ok(true)
}
