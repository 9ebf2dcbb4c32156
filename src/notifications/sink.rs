//! What is sent to each kind of receiver, and what its answer means.

mod alertmanager;
mod chat;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use jiff::Timestamp;
use ring::hmac;
use serde_json::Value;

use super::config::{Receiver, Sink};
use super::event::Event;
use super::pace::Pace;
use crate::record::size::shortened;

const OURSELVES: HeaderValue =
    HeaderValue::from_static(concat!("gcu-upgrade-manager/", env!("CARGO_PKG_VERSION")));
/// A receiver that has had enough is left alone for so long when it does not say how long.
const LIMITED: Duration = Duration::from_secs(60);
/// So much of an answer is told.
const SAID: usize = 200;

/// What a receiver has answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// How long it wants to be left alone.
    pub retry_after: Option<Duration>,
    /// What it says.
    pub body: String,
}

/// Why a message has not arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In words.
    pub message: String,
    /// How long the receiver wants to be left alone.
    pub pause: Option<Duration>,
    /// This very message is refused: to send it once more would not help.
    pub refused: bool,
}

impl Failure {
    /// One that may pass.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), pause: None, refused: false }
    }
}

/// A message, and what it tells.
pub struct Message {
    /// The events that are told when it has arrived.
    pub events: Vec<Arc<Event>>,
    /// `None` where a receiver of this kind has nothing to be told about them.
    pub request: Option<Request<Bytes>>,
}

/// What everything that is sent now has in common.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// The time.
    pub at: Timestamp,
    /// Where people reach the service.
    pub external_url: Option<&'a str>,
}

impl Now<'_> {
    /// The page about an upgrade's gr.
    fn link(&self, event: &Event) -> Option<String> {
        self.external_url.map(|url| format!("{url}/ui/gr/{}", event.gr))
    }
}

impl Sink {
    /// How fast this kind of receiver may be told, a little below what it documents.
    pub fn pace(&self) -> Pace {
        let (burst, every) = match self.receiver {
            // 20 a minute.
            Receiver::WeCom | Receiver::DingTalk => (5, Duration::from_secs(4)),
            // 5 a second and 100 a minute.
            Receiver::Feishu => (3, Duration::from_millis(625)),
            // One a second.
            Receiver::Slack => (1, Duration::from_secs(1)),
            Receiver::Webhook | Receiver::Alertmanager => (10, Duration::from_millis(100)),
        };
        Pace::new(burst, every)
    }

    /// The next message: as many of these events as go into one. There is at least one.
    ///
    /// # Errors
    /// When no request can be made of them.
    pub fn message(&self, pending: &[Arc<Event>], now: Now<'_>) -> Result<Message, http::Error> {
        match self.receiver {
            Receiver::Webhook => webhook::message(self, pending, now),
            Receiver::Alertmanager => alertmanager::message(self, pending, now),
            _ => chat::message(self, pending, now),
        }
    }

    /// Whether the message has arrived: for many kinds of receiver the body says, and the status says nothing.
    ///
    /// # Errors
    /// Why it has not.
    pub fn judge(&self, answer: &Answer) -> Result<(), Failure> {
        let verdict = match self.receiver {
            Receiver::Webhook | Receiver::Alertmanager => verdict_by_status(answer),
            _ => chat::verdict(self.receiver, answer),
        };
        let said = |how| {
            let body = shortened(&self.scrub(answer.body.trim()), SAID);
            let message = format!("it answered {}: {body}", answer.status);
            let message = message.trim_end_matches([':', ' ']).to_owned();
            Err(Failure { message, pause: answer.retry_after, refused: how == Verdict::Refused })
        };
        match verdict {
            Verdict::Arrived => Ok(()),
            Verdict::Limited => said(verdict)
                .map_err(|failure: Failure| Failure { pause: failure.pause.or(Some(LIMITED)), ..failure }),
            Verdict::Refused | Verdict::Failed => said(verdict),
        }
    }

    fn post(
        &self,
        url: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Request<Bytes>, http::Error> {
        let mut request = Request::post(url)
            .header(CONTENT_TYPE, HeaderValue::from_static(content_type))
            .header(USER_AGENT, OURSELVES);
        if let Some(token) = &self.bearer_token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.bare()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(body)
    }

    fn post_json(&self, url: &str, body: &Value) -> Result<Request<Bytes>, http::Error> {
        self.post(url, "application/json; charset=utf-8", body.to_string().into())
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Arrived,
    /// Too many messages.
    Limited,
    /// Never this message.
    Refused,
    Failed,
}

fn verdict_by_status(answer: &Answer) -> Verdict {
    match answer.status {
        status if status.is_success() => Verdict::Arrived,
        StatusCode::TOO_MANY_REQUESTS => Verdict::Limited,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            Verdict::Refused
        }
        _ => Verdict::Failed,
    }
}

fn hmac_sha256(key: &str, text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text)
}
