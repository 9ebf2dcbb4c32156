//! The one way to the API server: a client whose every call has a deadline and is counted.
//!
//! kube's default stack retries POSTs and waits without limit. Here a call that does not answer, and a watch
//! that has gone silent, end in an error; who called decides what that means.

pub mod discovery;
mod errors;
pub mod install;
pub mod streaming;

use std::fmt::Debug;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::api::{ApiResource, GroupVersionKind, ListParams, ObjectList};
use kube::client::{Body, ClientBuilder};
use kube::core::Status;
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{BoxError, Service};

use crate::metrics::Metrics;
use errors::{Unanswered, unauthorized};
pub use errors::{cause, error_text, forbidden, watch_text};

/// Who we are, in the API server's audit log.
const OURSELVES: HeaderValue =
    HeaderValue::from_static(concat!("gcu-upgrade-manager/", env!("CARGO_PKG_VERSION")));
/// From a request to the head of its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Between two pieces of a body. Watches get a bookmark about every minute, so silence means a dead peer.
const SILENCE_DEADLINE: Duration = Duration::from_secs(100);

/// A client for a real cluster.
///
/// # Errors
/// When the configuration cannot be turned into a client (unreadable certificates and the like).
pub fn connect(mut config: Config, metrics: Metrics) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let server = Some(format!("the API server at {}", config.cluster_url.to_string().trim_end_matches('/')));
    let bounded = tower::layer::layer_fn(move |inner| DeadlineService {
        inner,
        metrics: metrics.clone(),
        server: server.clone(),
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&bounded).build())
}

/// A client over any service that speaks the Kubernetes API, with the same deadlines.
pub fn client_over<S, B>(service: S, metrics: Metrics) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(DeadlineService { inner: service, metrics, server: None }, "default")
}

/// The gr as an API resource of the given `group/version`, discovered or taken from a manifest. Kind and
/// plural are the same in every operator release.
pub fn gr_resource(api_version: &str) -> ApiResource {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, "GcuResource"), "gcuresources")
}

/// Whether the API server says that there is no such object. A 404 that names none is about the API itself, which
/// is not served: its CRD is being replaced, or the API server is starting. The object may well be there.
pub fn is_absent(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|d| !d.name.is_empty())
}

/// Gets an object; `None` when there is none, see [`is_absent`].
///
/// # Errors
/// The API server's, an API that is not served among them.
pub async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.get(name).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if is_absent(&status) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The pages of a list, one call each: thousands of objects are never held at once.
#[derive(Debug)]
pub struct Pages(Option<ListParams>);

/// Objects fetched with one call.
const PAGE: u32 = 200;

impl Pages {
    /// The pages of this list, of a usual size unless it says another.
    pub fn of(mut params: ListParams) -> Self {
        params.limit.get_or_insert(PAGE);
        Self(Some(params))
    }

    /// With what the next page is asked for; `None` after the last.
    pub fn next(&self) -> Option<ListParams> {
        self.0.clone()
    }

    /// Takes an answer, and remembers where the list goes on; `None` where a page has to be asked for again.
    ///
    /// A list that took longer than the API server keeps its history goes on with what is there now: whatever was
    /// there all the time is in it, once.
    ///
    /// # Errors
    /// The API server's.
    pub fn take<K: Clone>(
        &mut self,
        answer: Result<ObjectList<K>, kube::Error>,
    ) -> Result<Option<ObjectList<K>>, kube::Error> {
        match answer {
            Ok(page) => {
                self.go_on(page.metadata.continue_.as_deref());
                Ok(Some(page))
            }
            Err(error) => self.expired(error).map(|()| None),
        }
    }

    /// Goes on after a page that leads there.
    pub fn go_on(&mut self, token: Option<&str>) {
        let token = token.filter(|token| !token.is_empty());
        self.0 = self.0.take().zip(token).map(|(params, token)| params.continue_token(token));
    }

    /// Goes on where the API server says, if it does.
    ///
    /// # Errors
    /// The given one, when it is another.
    pub fn expired(&mut self, error: kube::Error) -> Result<(), kube::Error> {
        let token = match &error {
            kube::Error::Api(status) if status.code == 410 => {
                status.metadata.as_ref().and_then(|m| m.continue_.clone()).filter(|token| !token.is_empty())
            }
            _ => None,
        };
        // The same token once more would lead nowhere.
        match token.filter(|token| self.0.as_ref().is_some_and(|p| p.continue_token.as_ref() != Some(token)))
        {
            Some(token) => {
                self.go_on(Some(&token));
                Ok(())
            }
            None => Err(error),
        }
    }
}

/// Lists page by page: thousands of objects are never held at once.
///
/// # Errors
/// The API server's, as they come.
pub async fn each<K>(api: Api<K>, params: ListParams, mut keep: impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut pages = Pages::of(params);
    while let Some(params) = pages.next() {
        let page = pages.take(api.list(&params).await)?;
        page.into_iter().flat_map(|page| page.items).for_each(&mut keep);
    }
    Ok(())
}

/// Puts the deadlines around a service, and counts.
#[derive(Clone)]
struct DeadlineService<S> {
    inner: S,
    metrics: Metrics,
    /// What it is called in errors, when it is at an address.
    server: Option<String>,
}

impl<S, B> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<IdleTimeoutBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, OURSELVES);
        streaming::as_of_now(&mut request);
        let verb = verb(&request);
        let (begun, metrics, server) = (Instant::now(), self.metrics.clone(), self.server.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let name = server.as_deref().unwrap_or("the API server");
            let answer = match timeout(ANSWER_DEADLINE, answer).await {
                Ok(answer) => answer.map_err(|error| Unanswered::of(name, error.into())),
                Err(_) => {
                    let what = format!("did not answer within {ANSWER_DEADLINE:?}");
                    Err(Unanswered { server: name.to_owned(), what }.into())
                }
            };
            let code = answer.as_ref().map(|a| a.status().as_u16()).unwrap_or_default();
            metrics.api_call(verb, code, begun.elapsed());
            let watched = (verb == "watch").then_some(metrics);
            // Of a watch, 422 says that it cannot begin with a list: it is begun otherwise.
            if !matches!(code, 200 | 422)
                && let Some(metrics) = &watched
            {
                metrics.watch_broke_off();
            }
            let answer = answer?;
            Ok(match server.and_then(|server| unauthorized(&server, &answer)) {
                Some(named) => named.map(|body| IdleTimeoutBody::new(Full::new(body), watched)),
                None => answer.map(|body| IdleTimeoutBody::new(body, watched)),
            })
        })
    }
}

/// Kubernetes' word for a call, as in RBAC rules.
fn verb<B>(request: &Request<B>) -> &'static str {
    match request.method().as_str() {
        "POST" => return "create",
        "PUT" => return "update",
        "PATCH" => return "patch",
        "DELETE" => return "delete",
        _ => {}
    }
    if request.uri().query().is_some_and(|q| q.split('&').any(|p| p == "watch=true")) {
        return "watch";
    }
    // `/api/v1/<place>` and `/apis/<group>/<version>/<place>`; the place may begin with a namespace.
    let mut path = request.uri().path().trim_matches('/').split('/');
    let place: Vec<&str> = match path.next() {
        Some("api") => path.skip(1).collect(),
        Some("apis") => path.skip(2).collect(),
        _ => return "get",
    };
    let place = match place.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    if place.len() == 1 { "list" } else { "get" }
}

/// A body that fails when it falls silent.
struct IdleTimeoutBody {
    /// Set for a watch.
    watched: Option<Metrics>,
    body: Pin<Box<dyn http_body::Body<Data = bytes::Bytes, Error = BoxError> + Send>>,
    silence: Pin<Box<Sleep>>,
}

impl IdleTimeoutBody {
    fn new<B>(body: B, watched: Option<Metrics>) -> Self
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let silence = Box::pin(sleep(SILENCE_DEADLINE));
        Self { watched, body: Box::pin(body.map_err(Into::into)), silence }
    }
}

impl http_body::Body for IdleTimeoutBody {
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, BoxError>>> {
        if let Poll::Ready(frame) = self.body.as_mut().poll_frame(cx) {
            self.silence.as_mut().reset(Instant::now() + SILENCE_DEADLINE);
            if let (Some(Err(_)), Some(metrics)) = (&frame, &self.watched) {
                metrics.watch_broke_off();
            }
            return Poll::Ready(frame);
        }
        std::task::ready!(self.silence.as_mut().poll(cx));
        self.watched.iter().for_each(Metrics::watch_broke_off);
        Poll::Ready(Some(Err(format!("nothing heard for {SILENCE_DEADLINE:?}").into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
