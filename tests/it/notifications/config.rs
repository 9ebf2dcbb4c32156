//! The file: what may stand in it, and what is said of mistakes.

use std::collections::BTreeSet;

use gcu_upgrade_manager::notifications::config::Receiver;
use gcu_upgrade_manager::notifications::words::Language;

use super::*;

const WHOLE: &str = "
externalURL: https://gcu.example.com/
sinks:
  - name: bus
    type: webhook
    url: https://bus.example.com/events
    secret: key-of-the-bus
    bearerToken: token-of-the-bus
    proxyURL: http://user:pass@proxy.example.com:3128
  - { name: chat, type: slack, url: 'https://hooks.slack.example/T/B/x', language: en }
  - { name: qywx, type: wecom, url: 'https://wecom.example/send?key=k', language: zh, events: [held, ended] }
  - { name: ding, type: dingtalk, url: 'https://ding.example/send?access_token=t', secret: SECabc }
  - { name: lark, type: feishu, url: 'https://feishu.example/hook/x', secret: abc }
  - { name: alerts, type: alertmanager, url: 'http://alertmanager.monitoring:9093', bearerToken: t }
";

#[test]
fn every_field_is_read() {
    let config = parsed(WHOLE).unwrap();
    assert_eq!(config.external_url.as_deref(), Some("https://gcu.example.com"));
    let receivers: Vec<Receiver> = config.sinks.iter().map(|sink| sink.receiver).collect();
    assert_eq!(
        receivers,
        [
            Receiver::Webhook,
            Receiver::Slack,
            Receiver::WeCom,
            Receiver::DingTalk,
            Receiver::Feishu,
            Receiver::Alertmanager
        ]
    );
    let [bus, chat, wecom, ..] = config.sinks.as_slice() else { panic!() };
    assert_eq!(bus.secret.as_ref().unwrap().bare(), "key-of-the-bus");
    assert_eq!((chat.language, wecom.language), (Language::English, Language::Chinese));
    assert_eq!(wecom.events, Some(BTreeSet::from([EventKind::Held, EventKind::Ended])));
    assert!(
        wecom.wants(EventKind::Held) && !wecom.wants(EventKind::Started) && bus.wants(EventKind::Started)
    );
}

#[test]
fn what_is_secret_is_not_printed() {
    let printed = format!("{:?}", parsed(WHOLE).unwrap());
    for secret in ["bus.example", "key-of", "token-of", "proxy.example", "hooks.slack", "SECabc"] {
        assert!(!printed.contains(secret), "{secret}: {printed}");
    }
}

#[test]
fn mistakes_name_file_line_and_field_and_no_value() {
    for (text, says) in [
        ("sinks: {}", "FILE:1:8: error: must be a list (sinks)"),
        ("other: 1", "FILE:1:1: error: unknown field: there are externalURL, sinks (other)"),
        ("externalURL: x\nsinks: []", "FILE:1:14: error: must be a URL that begins with http:// or https://"),
        ("sinks:\n- type: slack\n  url: http://s3cret.test", "FILE:2:3: error: is required (sinks[0].name)"),
        (
            "sinks:\n- name: a\n  type: irc\n  url: http://s3cret.test",
            "FILE:3:9: error: must be one of webhook, slack, wecom, dingtalk, feishu, alertmanager (sinks[0].type)",
        ),
        (
            "sinks:\n- { name: a, type: slack, url: 's3cret' }",
            "FILE:2:32: error: must be a URL that begins with http:// or https:// (sinks[0].url)",
        ),
        (
            "sinks:\n- { name: a, type: slack, url: 'http://a', secret: s3cret }",
            "FILE:2:52: error: sinks of this type take none (sinks[0].secret)",
        ),
        (
            "sinks:\n- { name: a, type: feishu, url: 'http://a', secret: 12345678 }",
            "FILE:2:53: error: must be text: put it in quotes (sinks[0].secret)",
        ),
        (
            "sinks:\n- { name: a, type: slack, url: 'http://a', urll: s3cret }",
            "FILE:2:44: error: unknown field: there are name, type, url,",
        ),
        ("sinks:\n- { name: A B, type: slack, url: 'http://a' }", "(sinks[0].name)"),
        (
            "sinks:\n- { name: a, type: slack, url: 'http://a', events: [strated] }",
            "FILE:2:53: error: must be",
        ),
        ("sinks:\n- { name: a, type: slack, url: 'http://a', language: fr }", "must be en or zh"),
        (
            "sinks:\n- { name: a, type: slack, url: 'http://a', proxyURL: 'https://s3cret' }",
            "must begin with http://",
        ),
        ("sinks:\n- { name: a, type: slack, url: 'http://a', caFile: none.pem }", "none.pem: No such file"),
        (
            "sinks:\n- { name: a, type: slack, url: 'http://a' }\n- { name: a, type: slack, url: 'http://b' }",
            "FILE:3:11: error: another sink has this name (sinks[1].name)",
        ),
        ("sinks: [", "FILE:1:"),
        ("", "FILE:1:1: error: the file holds nothing"),
        ("sinks:\n- { name: a, type: slack, url: !s3cret 'x' }", "FILE:2:"),
    ] {
        let said = parsed(text).expect_err(text);
        assert!(said.contains(says), "{text}: {said}");
        assert!(!said.contains("s3cret") && !said.contains("12345678"), "{text}: {said}");
    }
}

#[test]
fn every_mistake_is_said_at_once() {
    let said = parsed("sinks:\n- { name: a, type: irc, url: x }\n- { name: b }").unwrap_err();
    assert_eq!(said.lines().count(), 4, "{said}");
}
