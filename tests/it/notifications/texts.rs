//! Texts, digests, and how fast they go out.

use gcu_upgrade_manager::notifications::config::Sink;
use gcu_upgrade_manager::notifications::pace::{Backoff, Pace};
use gcu_upgrade_manager::notifications::sink::Now;
use gcu_upgrade_manager::notifications::words::{Language, groups};
use gcu_upgrade_manager::record::rolling::NodeCounts;
use tokio::time::Instant;

use super::*;

fn held() -> Event {
    Event {
        nodes: Some(NodeCounts { total: 50, done: 12, active: 2, waiting: 35, skipped: 0, failed: 1 }),
        by: Some("ann".to_owned()),
        phase: Phase::Held,
        ..event(EventKind::Held)
    }
}

fn node(name: &str) -> Arc<Event> {
    Arc::new(Event { node: Some(name.to_owned()), ..event(EventKind::NodeFailed) })
}

#[test]
fn a_text_says_what_how_far_why_who_and_where() {
    let link = Some("https://gcu.example/ui/gr/pool");
    let english = Language::English.text(&[Arc::new(held())], link);
    let expected = "GCU upgrade pool-3 is held\n12 of 50 nodes done, 2 in work, 35 to come, 1 failed or late\n\
                    Reason: because\nBy: ann\nPage: https://gcu.example/ui/gr/pool";
    assert_eq!(english, expected);
    let chinese = Language::Chinese.text(&[Arc::new(held())], link);
    let expected = "GCU 升级 pool-3 受阻暂停\n节点：已完成 12/50，进行中 2，待处理 35，失败或超时 1\n原因：because\n\
                    操作者：ann\n页面：https://gcu.example/ui/gr/pool";
    assert_eq!(chinese, expected);
}

#[test]
fn every_kind_and_every_end_has_words_of_its_own() {
    for language in [Language::English, Language::Chinese] {
        let ends = [Phase::Succeeded, Phase::RolledBack, Phase::Failed]
            .map(|phase| language.title(&Event { phase, ..event(EventKind::Ended) }));
        let others =
            EventKind::ALL.iter().filter(|k| **k != EventKind::Ended).map(|k| language.title(&event(*k)));
        let all: std::collections::BTreeSet<String> = ends.into_iter().chain(others).collect();
        assert_eq!(all.len(), 12, "{all:?}");
    }
}

#[test]
fn nodes_that_fail_together_are_one_text() {
    let nodes: Vec<Arc<Event>> = (0..23).map(|n| node(&format!("node-{n}"))).collect();
    let all = [vec![Arc::new(event(EventKind::Started))], nodes, vec![Arc::new(held())]].concat();
    let groups = groups(&all);
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [1, 23, 1]);
    let text = Language::English.text(&groups[1], None);
    assert!(text.contains("\nNodes: node-0, node-1, "), "{text}");
    assert!(text.contains("node-19 and 3 more\n") && !text.contains("node-20"), "{text}");
    assert!(Language::Chinese.text(&groups[1], None).contains("node-19 等 23 个\n"));
}

fn text_of(sink: &Sink, events: &[Arc<Event>]) -> (String, usize) {
    let now = Now { at: "2026-01-01T10:00:00Z".parse().unwrap(), external_url: None };
    let message = sink.message(events, now).unwrap();
    let body: serde_json::Value = serde_json::from_slice(message.request.unwrap().body()).unwrap();
    (body["text"]["content"].as_str().unwrap().to_owned(), message.events.len())
}

#[test]
fn a_digest_has_as_many_events_as_fit_and_the_next_message_has_the_rest() {
    let wecom = sink("type: wecom\nurl: http://wecom.test");
    let many: Vec<Arc<Event>> = (0..40)
        .map(|n| Arc::new(Event { id: format!("uid/{n}"), reason: "x".repeat(80), ..held() }))
        .collect();
    let (mut left, mut messages) = (many.as_slice(), 0);
    while !left.is_empty() {
        let (text, told) = text_of(&wecom, left);
        assert!(text.len() <= 2048 && told > 5, "{} bytes of {told}", text.len());
        assert_eq!(text.matches("GCU upgrade").count(), told);
        left = &left[told..];
        messages += 1;
    }
    assert!((2..8).contains(&messages), "{messages}");
    // One that is too long by itself is cut, and arrives.
    let nodes: Vec<Arc<Event>> = (0..20).map(|n| node(&format!("{}-{n}", "节".repeat(60)))).collect();
    let (text, told) = text_of(&wecom, &nodes);
    assert!(text.len() <= 2048 && text.ends_with('…') && told == 20, "{text}");
}

async fn times(pace: &mut Pace, number: usize) -> Vec<Duration> {
    let begun = Instant::now();
    let mut all = Vec::new();
    for _ in 0..number {
        pace.take().await;
        all.push(begun.elapsed());
    }
    all
}

/// The most that fall into any span of this length.
fn most_within(times: &[Duration], span: Duration) -> usize {
    times
        .iter()
        .map(|from| times.iter().filter(|at| *at >= from && **at < *from + span).count())
        .max()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_receiver_is_told_faster_than_it_takes() {
    for (kind, span, most) in [
        ("wecom", 60_000, 20),
        ("dingtalk", 60_000, 20),
        ("feishu", 1_000, 5),
        ("feishu", 60_000, 100),
        ("slack", 1_000, 1),
    ] {
        let mut pace = sink(&format!("type: {kind}\nurl: http://a")).pace();
        let all = times(&mut pace, 200).await;
        let found = most_within(&all, Duration::from_millis(span));
        assert!(found <= most && found * 5 >= most * 4, "{kind}: {found} in {span} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_was_left_alone_is_full_again_and_not_more() {
    let mut pace = Pace::new(3, Duration::from_secs(4));
    let seconds = |times: Vec<Duration>| times.iter().map(Duration::as_secs).collect::<Vec<_>>();
    assert_eq!(seconds(times(&mut pace, 5).await), [0, 0, 0, 4, 8]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(seconds(times(&mut pace, 5).await), [0, 0, 0, 4, 8]);
}

#[test]
fn pauses_grow_from_a_second_to_five_minutes() {
    let mut backoff = Backoff::default();
    let all: Vec<u64> = (0..11).map(|_| backoff.pause().as_secs()).collect();
    assert_eq!(all, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    let mut backoff = Backoff::default();
    assert_eq!(backoff.at_least(Some(Duration::from_secs(60))).as_secs(), 60);
    assert_eq!(
        backoff.at_least(Some(Duration::from_secs(9999))).as_secs(),
        300,
        "nobody is waited for longer"
    );
    assert_eq!(backoff.at_least(None).as_secs(), 4);
}
