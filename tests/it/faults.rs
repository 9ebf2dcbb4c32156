//! Faults between the service and the API server: a layer around its client that loses answers, invents
//! errors, cuts watches, serves old views, and kills the process at a chosen call.

mod limited;
mod service;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gcu_upgrade_manager::cluster;
use gcu_upgrade_manager::metrics::Metrics;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tower::{BoxError, Service, service_fn};

use limited::{Limited, limited};

/// What happens to a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// The server commits, the answer is lost.
    LoseAnswer,
    /// The call does not reach the server, which is said to answer this.
    Answer(u16),
    /// The same, with a `Retry-After`, whatever it says.
    Throttle(u16, String),
    /// Nobody listens: the call does not reach the server.
    Refuse,
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
    /// From this call on the whole API server is away for a time: this happens to every call, and the watches
    /// that are open end (or fall silent, when calls hang).
    Away(Box<Self>, String),
}

/// Which calls a fault happens to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// `METHOD substring-of-path-and-query`; the method `WATCH` stands for GETs with `watch=`, `ANY` for all.
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
    /// The version that the object had after it, if the server has said so: of writes alone.
    pub(crate) version: Option<u64>,
    /// The process died before it reached the server.
    pub(crate) lost: bool,
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
    /// When the last of them happened.
    last: Option<Instant>,
    /// What happens to every call, until when.
    away: Option<(Fault, Instant)>,
}

/// Shared by the layer and the test.
#[derive(Clone)]
pub(crate) struct Faults {
    state: Arc<Mutex<State>>,
    dead: watch::Sender<bool>,
    /// The watches that are open: `true` when they fall silent, `false` when they end.
    broken: watch::Sender<bool>,
}

enum Plan {
    Pass,
    DieBefore,
    DieAfter,
    Do(Fault, String),
}

/// No run makes as many calls.
const ENDLESS: usize = 300_000;

impl Faults {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self {
            state: Arc::new(Mutex::new(State { rules, ..State::default() })),
            dead: watch::Sender::new(false),
            broken: watch::Sender::new(false),
        }
    }

    /// A client as a service has it, whose calls go through these faults.
    pub(crate) fn client(&self, person: Client, metrics: Metrics) -> Client {
        let send = service_fn(move |request| {
            let client = person.clone();
            async move { client.send(request).await }
        });
        cluster::client_over(Faulty { inner: send, faults: self.clone() }, metrics)
    }

    pub(crate) fn die_at(&self, call: usize, after: bool) {
        self.state.lock().unwrap().die_at.push((call, after));
    }

    /// Deaths that have not come are not to come any more.
    pub(crate) fn do_not_die(&self) {
        self.state.lock().unwrap().die_at.clear();
    }

    pub(crate) fn add(&self, rule: Rule) {
        self.state.lock().unwrap().rules.push(rule);
    }

    /// Nothing is answered any more.
    pub(crate) fn cut_off(&self) {
        self.add(Rule { on: "ANY".to_owned(), skip: 0, times: usize::MAX, fault: Fault::Hang });
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.rules.clear();
        state.away = None;
        state.last = Some(Instant::now());
    }

    /// The API server is away from now on.
    pub(crate) fn go_away(&self, how: &Fault, time: &str) {
        let mut state = self.state.lock().unwrap();
        state.away = Some((how.clone(), Instant::now() + duration(time)));
        if !matches!(how, Fault::Delay(_)) {
            self.broken.send_replace(matches!(how, Fault::Hang));
        }
    }

    /// How the API server is away, if it is.
    pub(crate) fn away(&self) -> Option<Fault> {
        let state = self.state.lock().unwrap();
        state.away.as_ref().filter(|(_, until)| Instant::now() < *until).map(|(how, _)| how.clone())
    }

    /// When the last fault happened, or ended.
    pub(crate) fn last(&self) -> Option<Instant> {
        let state = self.state.lock().unwrap();
        state.last.max(state.away.as_ref().map(|(_, until)| *until))
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

    /// Writes the call down, and says how many came before it.
    fn note(&self, request: &Request<Body>, body: &str) -> usize {
        let calls = &mut self.state.lock().unwrap().calls;
        let path = request.uri().path_and_query().map(|p| p.to_string()).unwrap_or_default();
        let method = request.method().to_string();
        calls.push(Call { method, path, body: body.to_owned(), version: None, lost: false });
        if calls.len() > ENDLESS {
            // In virtual time a loop that never rests would take the machine's memory before any wait is over.
            let last: Vec<String> =
                calls.iter().rev().take(40).map(|c| format!("{} {}", c.method, c.path)).collect();
            eprintln!("{ENDLESS} calls and no end; the last ones:\n{}", last.join("\n"));
            std::process::abort();
        }
        calls.len() - 1
    }

    fn plan(&self, request: &Request<Body>, number: usize) -> Plan {
        let mut state = self.state.lock().unwrap();
        let path = request.uri().path_and_query().map(|p| p.to_string()).unwrap_or_default();
        if let Some((_, after)) = state.die_at.iter().find(|(at, _)| *at == number) {
            let after = *after;
            let plan = if after { Plan::DieAfter } else { Plan::DieBefore };
            state.happened += 1;
            state.calls[number].lost = !after;
            return plan;
        }
        let is_watch = path.contains("watch=");
        let now = Instant::now();
        let State { rules, happened, away, last, .. } = &mut *state;
        if let Some((how, _)) = away.as_ref().filter(|(_, until)| now < *until) {
            (*happened, *last) = (*happened + 1, Some(now));
            return Plan::Do(how.clone(), path);
        }
        for rule in rules {
            let (method, part) = rule.on.split_once(' ').unwrap_or((&rule.on, ""));
            let same_method = match method {
                "ANY" => true,
                "WATCH" => is_watch,
                method => request.method() == method && !is_watch,
            };
            if !same_method || !path.contains(part) || rule.times == 0 {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            (*happened, *last) = (*happened + 1, Some(now));
            let fault = rule.fault.clone();
            if let Fault::Away(how, time) = &fault {
                drop(state);
                self.go_away(how, time);
                return Plan::Do(how.as_ref().clone(), path);
            }
            return Plan::Do(fault, path);
        }
        Plan::Pass
    }

    /// What the server has answered to a write.
    fn answered(&self, number: usize, status: StatusCode, body: &Bytes) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let version = body["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok());
        if status.is_success()
            && let Some(call) = self.state.lock().unwrap().calls.get_mut(number).filter(|c| c.is_write())
        {
            call.version = version;
        }
    }

    pub(crate) fn die(&self) {
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

pub(crate) fn duration(text: &str) -> Duration {
    let parsed: jiff::SignedDuration = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    parsed.try_into().unwrap()
}

fn whole(bytes: Bytes) -> BoxBody {
    Box::pin(Full::new(bytes).map_err(|never| match never {}))
}
