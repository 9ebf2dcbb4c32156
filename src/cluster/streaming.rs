//! Watches that begin with everything that is there (Kubernetes 1.34 and newer offer it): one call in the place of two.
//!
//! A server that does not offer it says so at the first of them, and everything is listed from then on.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Request, Uri};
use kube::client::Body;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tracing::debug;

/// A server that has taken the question for an ordinary watch never says where the beginning ends. Longer than a call
/// may take and the longest pause after one that failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// Whether watches are to begin with what is there. Shared by all that are opened.
#[derive(Clone, Debug, Default)]
pub struct Streaming {
    is_refused: Arc<AtomicBool>,
}

type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// Watches these objects for as long as the stream is read, beginning with all that are there.
pub fn watch<K>(api: Api<K>, config: watcher::Config, streaming: Option<Streaming>) -> Events<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let listing = {
        let (api, config) = (api.clone(), config.clone());
        move || watcher(api.clone(), config.clone()).default_backoff().boxed()
    };
    let Some(streaming) = streaming.filter(Streaming::is_worth_a_try) else { return listing() };
    let events = watcher(api, config.streaming_lists()).default_backoff().boxed();
    let attempt = Attempt { events, listing, streaming: Some(streaming), begins: true };
    stream::unfold(attempt, async |mut attempt| Some((attempt.next().await?, attempt))).boxed()
}

/// A watch that begins with what is there, or with a list where the server turns out not to offer that.
struct Attempt<K, L> {
    events: Events<K>,
    listing: L,
    /// `None`: it was given up.
    streaming: Option<Streaming>,
    /// What is there has not been told to its end.
    begins: bool,
}

impl<K, L: Fn() -> Events<K>> Attempt<K, L> {
    async fn next(&mut self) -> Option<Result<Event<K>, watcher::Error>> {
        loop {
            let Some(streaming) = &self.streaming else { return self.events.next().await };
            let next = match self.begins {
                true => timeout(PATIENCE, self.events.next()).await,
                false => Ok(self.events.next().await),
            };
            match next {
                Ok(Some(Err(error))) if is_refusal(&error) => streaming.give_up(&error.to_string()),
                Err(_) => streaming.give_up("no end of the list was told"),
                Ok(next) => {
                    match next {
                        Some(Ok(Event::Init)) => self.begins = true,
                        Some(Ok(Event::InitDone)) => self.begins = false,
                        _ => {}
                    }
                    return next;
                }
            }
            (self.streaming, self.events) = (None, (self.listing)());
        }
    }
}

impl Streaming {
    fn is_worth_a_try(&self) -> bool {
        !self.is_refused.load(Ordering::Relaxed)
    }

    fn give_up(&self, why: &str) {
        if !self.is_refused.swap(true, Ordering::Relaxed) {
            debug!("watches do not begin with a list here: {why}");
        }
    }
}

/// Whether the server says with this that it does not know what was asked, or does not offer it.
fn is_refusal(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else { return false };
    matches!(status.code, 400 | 405 | 422 | 501)
}

/// Asks for what is there now. kube asks for what any of several API servers happens to remember (version 0): a pod
/// that was bound before its node was cordoned might be missing there.
pub(super) fn as_of_now(request: &mut Request<Body>) {
    let Some(query) = request.uri().query().filter(|query| query.contains("sendInitialEvents=true")) else {
        return;
    };
    let rest: Vec<&str> = query.split('&').filter(|pair| *pair != "resourceVersion=0").collect();
    let mut parts = request.uri().clone().into_parts();
    let place = format!("{}?{}", request.uri().path(), rest.join("&"));
    // A part of a query that was one stays one.
    if let Ok(place) = place.parse() {
        parts.path_and_query = Some(place);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}
