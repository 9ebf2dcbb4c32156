//! The one way to the API server: a client whose every call has a deadline.
//!
//! kube's default stack retries POSTs and waits without limit. Here a call that does not answer, and a watch
//! that has gone silent, end in an error; who called decides what that means.

use std::fmt::Debug;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::api::{ApiResource, GroupVersionKind};
use kube::client::{Body, ClientBuilder};
use kube::core::Status;
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use tokio::time::{Sleep, sleep, timeout};
use tower::{BoxError, Service};

/// From a request to the head of its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Between two pieces of a body. Watches get a bookmark about every minute, so silence means a dead peer.
const SILENCE_DEADLINE: Duration = Duration::from_secs(100);

/// A client for a real cluster.
///
/// # Errors
/// When the configuration cannot be turned into a client (unreadable certificates and the like).
pub fn connect(mut config: Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(ClientBuilder::try_from(config)?.with_layer(&tower::layer::layer_fn(Bounded)).build())
}

/// A client over any service that speaks the Kubernetes API, with the same deadlines.
pub fn client_over<S, B>(service: S) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(Bounded(service), "default")
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

/// The text of a Kubernetes Status where there is one, with its causes, else the error's own. A refused eviction
/// names its disruption budget in the causes alone.
pub fn error_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 && !is_absent(status) => {
            format!("the API server does not serve this API: {}", status.message)
        }
        kube::Error::Api(status) => {
            let causes = status.details.iter().flat_map(|d| &d.causes).map(|c| c.message.as_str());
            let new = causes.filter(|c| !c.is_empty() && !status.message.contains(c));
            let all: Vec<&str> = std::iter::once(status.message.as_str()).chain(new).collect();
            all.join(" ")
        }
        other => other.to_string(),
    }
}

/// Puts the deadlines around a service.
#[derive(Clone)]
struct Bounded<S>(S);

impl<S, B> Service<Request<Body>> for Bounded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Heard>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = timeout(ANSWER_DEADLINE, answer)
                .await
                .map_err(|_| format!("the API server did not answer within {ANSWER_DEADLINE:?}"))?
                .map_err(Into::into)?;
            Ok(answer.map(Heard::new))
        })
    }
}

/// A body that fails when it falls silent.
struct Heard {
    body: Pin<Box<dyn http_body::Body<Data = bytes::Bytes, Error = BoxError> + Send>>,
    silence: Pin<Box<Sleep>>,
}

impl Heard {
    fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { body: Box::pin(body.map_err(Into::into)), silence: Box::pin(sleep(SILENCE_DEADLINE)) }
    }
}

impl http_body::Body for Heard {
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, BoxError>>> {
        if let Poll::Ready(frame) = self.body.as_mut().poll_frame(cx) {
            let next = tokio::time::Instant::now() + SILENCE_DEADLINE;
            self.silence.as_mut().reset(next);
            return Poll::Ready(frame);
        }
        match self.silence.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Some(Err(format!("nothing heard for {SILENCE_DEADLINE:?}").into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
