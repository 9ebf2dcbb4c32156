//! Faults between the service and the API server: a layer around its client that loses answers, invents
//! errors, cuts watches, serves old views, and kills the process at a chosen call.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};
use tower::{BoxError, Service};

/// What happens to a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// The server commits, the answer is lost.
    LoseAnswer,
    /// The call does not reach the server, which is said to answer this.
    Answer(u16),
    /// The call is late, and lands even if its caller has died by then.
    Delay(String),
    /// No answer ever.
    Hang,
    /// The body (a watch) ends after this time, in the middle of a line.
    Cut(String),
    /// The body (a watch) falls silent after this time.
    Silence(String),
    /// The first answer to this path is given again: an older view.
    Stale,
}

/// Which calls a fault happens to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// `METHOD substring-of-path-and-query`; the method `WATCH` stands for GETs with `watch=`.
    pub(crate) on: String,
    /// Matching calls left alone first.
    #[serde(default)]
    pub(crate) skip: usize,
    /// Matching calls hit after that.
    #[serde(default = "once")]
    pub(crate) times: usize,
    /// What happens.
    #[serde(rename = "do")]
    pub(crate) fault: Fault,
}

fn once() -> usize {
    1
}

/// A call of the service.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
}

impl Call {
    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET" && !self.path.contains("dryRun=All")
    }
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
    /// Kill at these calls (counted from 0), before or after the server has seen them.
    die_at: Vec<(usize, bool)>,
    first_answers: HashMap<String, Bytes>,
    /// Faults that happened, deaths among them.
    happened: usize,
}

/// Shared by the layer and the test.
#[derive(Clone)]
pub(crate) struct Faults {
    state: Arc<Mutex<State>>,
    dead: watch::Sender<bool>,
}

enum Plan {
    Pass,
    DieBefore,
    DieAfter,
    Do(Fault, String),
}

impl Faults {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State { rules, ..State::default() })),
            dead: watch::Sender::new(false),
        }
    }

    pub(crate) fn die_at(&self, call: usize, after: bool) {
        self.state.lock().unwrap().die_at.push((call, after));
    }

    pub(crate) fn add(&self, rule: Rule) {
        self.state.lock().unwrap().rules.push(rule);
    }

    /// Nothing is answered any more.
    pub(crate) fn cut_off(&self) {
        for method in ["GET", "WATCH", "POST", "PUT", "PATCH", "DELETE"] {
            self.add(Rule { on: method.to_owned(), skip: 0, times: usize::MAX, fault: Fault::Hang });
        }
    }

    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().rules.clear();
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    pub(crate) fn happened(&self) -> usize {
        self.state.lock().unwrap().happened
    }

    pub(crate) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    pub(crate) async fn death(&self) {
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// A new process may speak again.
    pub(crate) fn revive(&self) {
        self.dead.send_replace(false);
    }

    fn plan(&self, request: &Request<Body>, body: &str) -> Plan {
        let mut state = self.state.lock().unwrap();
        let path = request.uri().path_and_query().map(|p| p.to_string()).unwrap_or_default();
        let number = state.calls.len();
        state.calls.push(Call {
            method: request.method().to_string(),
            path: path.clone(),
            body: body.to_owned(),
        });
        if let Some((_, after)) = state.die_at.iter().find(|(at, _)| *at == number) {
            let plan = if *after { Plan::DieAfter } else { Plan::DieBefore };
            state.happened += 1;
            return plan;
        }
        let is_watch = path.contains("watch=");
        let State { rules, happened, .. } = &mut *state;
        for rule in rules {
            let (method, part) = rule.on.split_once(' ').unwrap_or((&rule.on, ""));
            let same_method =
                if method == "WATCH" { is_watch } else { request.method() == method && !is_watch };
            if !same_method || !path.contains(part) || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            *happened += 1;
            return Plan::Do(rule.fault.clone(), path);
        }
        Plan::Pass
    }

    fn die(&self) {
        self.dead.send_replace(true);
    }
}

/// The layer.
pub(crate) struct Faulty<S> {
    pub(crate) inner: S,
    pub(crate) faults: Faults,
}

type Answer = Response<BoxBody>;
type BoxBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

impl<S, B> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone.clone());
        let faults = self.faults.clone();
        Box::pin(async move {
            if faults.is_dead() {
                std::future::pending::<()>().await;
            }
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.map_err(BoxError::from)?.to_bytes();
            let request = Request::from_parts(head, Body::from(bytes.clone()));
            let plan = faults.plan(&request, &String::from_utf8_lossy(&bytes));
            let mut send = async |request| -> Result<Answer, BoxError> {
                let answer = inner.call(request).await.map_err(Into::into)?;
                Ok(answer.map(|b| Box::pin(b.map_err(Into::into)) as BoxBody))
            };
            match plan {
                Plan::Pass => send(request).await,
                Plan::DieBefore => {
                    faults.die();
                    std::future::pending().await
                }
                Plan::DieAfter => {
                    let answer = send(request).await?;
                    // A watch never ends: its head is all that the server has to have said.
                    drop(answer);
                    faults.die();
                    std::future::pending().await
                }
                Plan::Do(fault, path) => match fault {
                    Fault::LoseAnswer => {
                        send(request).await?;
                        Err("connection reset by peer (fault)".into())
                    }
                    Fault::Answer(code) => Ok(made_up(code)),
                    Fault::Delay(time) => {
                        let mut network = clone;
                        let late = tokio::spawn(async move {
                            sleep(duration(&time)).await;
                            let answer = network.call(request).await.map_err(Into::into)?;
                            Ok(answer.map(|b| Box::pin(b.map_err(Into::into)) as BoxBody))
                        });
                        late.await.map_err(BoxError::from)?
                    }
                    Fault::Hang => std::future::pending().await,
                    Fault::Cut(time) => Ok(send(request).await?.map(|b| limited(b, &time, true))),
                    Fault::Silence(time) => Ok(send(request).await?.map(|b| limited(b, &time, false))),
                    Fault::Stale => {
                        let known = faults.state.lock().unwrap().first_answers.get(&path).cloned();
                        let bytes = match known {
                            Some(bytes) => bytes,
                            None => {
                                let bytes = send(request).await?.into_body().collect().await?.to_bytes();
                                faults.state.lock().unwrap().first_answers.insert(path, bytes.clone());
                                bytes
                            }
                        };
                        Ok(Response::new(whole(bytes)))
                    }
                },
            }
        })
    }
}

pub(crate) fn duration(text: &str) -> Duration {
    let parsed: jiff::SignedDuration = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    parsed.try_into().unwrap()
}

fn whole(bytes: Bytes) -> BoxBody {
    Box::pin(Full::new(bytes).map_err(|never| match never {}))
}

fn made_up(code: u16) -> Answer {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("made up by a fault: {reason}"), "reason": reason, "code": code,
    });
    let mut answer = Response::new(whole(status.to_string().into()));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}

fn limited(body: BoxBody, time: &str, cut: bool) -> BoxBody {
    Box::pin(Limited { body, end: Box::pin(sleep(duration(time))), cut, over: false })
}

/// A body that is cut in the middle of a line, or falls silent, after a time.
struct Limited {
    body: BoxBody,
    end: Pin<Box<Sleep>>,
    cut: bool,
    over: bool,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        if !self.over && self.end.as_mut().poll(cx).is_pending() {
            return self.body.as_mut().poll_frame(cx);
        }
        match (self.cut, std::mem::replace(&mut self.over, true)) {
            (false, _) => Poll::Pending,
            (true, false) => {
                Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"{\"type\":\"MODI")))))
            }
            (true, true) => Poll::Ready(None),
        }
    }
}
