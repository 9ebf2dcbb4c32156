//! CloudEvents 1.0 in structured mode: one event a request.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::json;

use super::{Message, Now, hmac_sha256};
use crate::notifications::config::Sink;
use crate::notifications::event::Event;

/// HMAC-SHA256 of the body with the sink's secret, in hexadecimal.
const SIGNATURE: &str = "x-gum-signature";

pub(super) fn message(sink: &Sink, pending: &[Arc<Event>], now: Now<'_>) -> Result<Message, http::Error> {
    let events: Vec<Arc<Event>> = pending.iter().take(1).cloned().collect();
    let request = events.first().map(|event| {
        let body: Bytes = cloud_event(event, now).to_string().into();
        let signature = sink.secret.as_ref().map(|secret| signature(secret.bare(), &body));
        let mut request = sink.post(sink.url.bare(), "application/cloudevents+json", body)?;
        if let Some(signature) = signature {
            request.headers_mut().insert(SIGNATURE, HeaderValue::try_from(signature)?);
        }
        Ok::<_, http::Error>(request)
    });
    Ok(Message { request: request.transpose()?, events })
}

fn cloud_event(event: &Event, now: Now<'_>) -> serde_json::Value {
    json!({
        "specversion": "1.0",
        "id": event.id,
        "source": format!("/gum/v1/gr/{}", event.gr),
        "type": format!("com.enflame.gum.{}", event.kind.word()),
        "subject": event.upgrade,
        "time": event.at,
        "datacontenttype": "application/json",
        "data": {
            "gr": event.gr,
            "upgrade": event.upgrade,
            "strategy": event.strategy,
            "phase": event.phase,
            "nodes": event.nodes,
            "node": event.node,
            "reason": event.reason,
            "by": event.by,
            "url": now.link(event),
        },
    })
}

fn signature(key: &str, body: &[u8]) -> String {
    let mut text = "sha256=".to_owned();
    for byte in hmac_sha256(key, body).as_ref() {
        // Writing into memory cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
