//! Texts for people: Slack, and the group robots of WeCom, DingTalk and Feishu.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Answer, Message, Now, Verdict, hmac_sha256, verdict_by_status};
use crate::notifications::config::{Receiver, Sink};
use crate::notifications::event::Event;
use crate::notifications::words::groups;

/// Between two texts of a digest.
const BETWEEN: &str = "\n\n";

/// The longest text, in bytes, with what a receiver adds to it left aside.
fn limit(receiver: Receiver) -> usize {
    match receiver {
        Receiver::WeCom => 2048,
        // 20 KB for the whole request, and JSON escapes line breaks.
        Receiver::Feishu | Receiver::DingTalk => 16 * 1024,
        // What it shows without cutting it.
        _ => 4000,
    }
}

pub(super) fn message(sink: &Sink, pending: &[Arc<Event>], now: Now<'_>) -> Result<Message, http::Error> {
    let limit = limit(sink.receiver);
    let (mut text, mut events) = (String::new(), Vec::new());
    for group in groups(pending) {
        let link = group.last().and_then(|event| now.link(event));
        let next = escaped(sink.receiver, sink.language.text(&group, link.as_deref()));
        let next = if text.is_empty() { next } else { format!("{BETWEEN}{next}") };
        if !text.is_empty() && text.len().saturating_add(next.len()) > limit {
            break;
        }
        text.push_str(&next);
        events.extend(group);
    }
    cut(&mut text, limit);
    let request = sink.post_json(&url(sink, now), &body(sink, &text, now))?;
    Ok(Message { events, request: Some(request) })
}

fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit.saturating_sub('…'.len_utf8())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
}

/// Slack reads these three as markup.
fn escaped(receiver: Receiver, text: String) -> String {
    if receiver == Receiver::Slack {
        return text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    }
    text
}

/// DingTalk wants the signature in the URL.
fn url(sink: &Sink, now: Now<'_>) -> String {
    let url = sink.url.bare();
    let (Receiver::DingTalk, Some(secret)) = (sink.receiver, &sink.secret) else { return url.to_owned() };
    let at = now.at.as_millisecond();
    let sign = STANDARD.encode(hmac_sha256(secret.bare(), format!("{at}\n{}", secret.bare()).as_bytes()));
    // Of what base64 is made of, these three mean something else in a query.
    let sign = sign.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let and = if url.contains('?') { '&' } else { '?' };
    format!("{url}{and}timestamp={at}&sign={sign}")
}

fn body(sink: &Sink, text: &str, now: Now<'_>) -> Value {
    match sink.receiver {
        Receiver::Slack => json!({ "text": text }),
        Receiver::Feishu => {
            let mut body = json!({ "msg_type": "text", "content": { "text": text } });
            if let (Some(secret), Some(fields)) = (&sink.secret, body.as_object_mut()) {
                let at = now.at.as_second();
                let key = format!("{at}\n{}", secret.bare());
                fields.insert("timestamp".to_owned(), at.to_string().into());
                fields.insert("sign".to_owned(), STANDARD.encode(hmac_sha256(&key, b"")).into());
            }
            body
        }
        _ => json!({ "msgtype": "text", "text": { "content": text } }),
    }
}

pub(super) fn verdict(receiver: Receiver, answer: &Answer) -> Verdict {
    if receiver == Receiver::Slack {
        return match verdict_by_status(answer) {
            Verdict::Arrived if answer.body.trim() != "ok" => Verdict::Failed,
            verdict => verdict,
        };
    }
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let code = |field: &str| body.get(field).and_then(Value::as_i64);
    let code = match receiver {
        // Its old answer has the other name.
        Receiver::Feishu => code("code").or_else(|| code("StatusCode")),
        _ => code("errcode"),
    };
    match (receiver, code) {
        (_, Some(0)) if answer.status.is_success() => Verdict::Arrived,
        (Receiver::WeCom, Some(45009)) => Verdict::Limited,
        (Receiver::DingTalk, Some(130_101)) => Verdict::Limited,
        (Receiver::Feishu, Some(11232)) => Verdict::Limited,
        (Receiver::Feishu, Some(9499)) => Verdict::Refused,
        (_, Some(_)) => Verdict::Failed,
        // Something else than the receiver has answered.
        (_, None) if answer.status.is_success() => Verdict::Failed,
        (_, None) => verdict_by_status(answer),
    }
}
