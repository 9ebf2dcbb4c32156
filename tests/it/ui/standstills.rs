//! Pauses and holds in the charts of time: blocks with their begin and their end, and the same in words.

use gcu_upgrade_manager::explain::standstills::{Block, standstills};
use gcu_upgrade_manager::plan::standstill::Standstill;
use gcu_upgrade_manager::ui::words::Language;
use serde_json::json;

use super::browser::{Browser, Setup};
use super::fixture::{at, page_of, record, serve};

/// The fixture without an expected end, as seen at 10:21:30, has one chart from 10:00:00 to then: 1290 s.
fn x(time: &str) -> String {
    let seconds = at(time).duration_since(at("10:00:00")).as_secs();
    let thousandths = seconds * 100_000 / 1290;
    format!("{}.{:03}%", thousandths / 1000, thousandths % 1000)
}

fn block(html: &str, class: &str) -> Vec<(String, String)> {
    let of = |tag: &str, name: &str| {
        let value = tag.split(&format!(" {name}=\"")).nth(1)?;
        Some(value.split('"').next()?.to_owned())
    };
    let tags = html.split("<rect").filter(|tag| tag.contains(&format!("class=\"still {class}\"")));
    tags.filter_map(|tag| Some((of(tag, "x")?, of(tag, "width")?))).collect()
}

#[test]
fn a_block_begins_with_the_entry_that_tells_of_it_and_ends_with_the_next() {
    let status = record().status.unwrap();
    let block = |cause, from, to: Option<&str>| Block { cause, from: at(from), to: to.map(at) };
    let told = [
        block(Standstill::AwaitingPromotion, "10:05:00", Some("10:08:00")),
        block(Standstill::Held, "10:10:00", Some("10:12:00")),
        block(Standstill::Paused, "10:16:00", Some("10:19:00")),
    ];
    assert_eq!(standstills(&status), told);
    // One that lasts has no end, held for another reason it is held all the same, and a pause follows at once.
    let mut lasting = status.clone();
    let mut tell = |time: &str, message: &str| {
        let mut entry = lasting.timeline[1].clone();
        (entry.at, entry.message) = (at(time), message.to_owned());
        lasting.timeline.push(entry);
    };
    tell("10:20:00", "held: one reason");
    tell("10:20:30", "held: another");
    tell("10:21:00", "paused; call resume to continue");
    let last =
        [block(Standstill::Held, "10:20:00", Some("10:21:00")), block(Standstill::Paused, "10:21:00", None)];
    assert_eq!(standstills(&lasting), [&told[..], &last].concat());
    // Nobody tells the timeline of the time between two steps: what is waited for does.
    let mut between = status;
    between.waiting_on = serde_json::from_value(json!({
        "reason": "PauseBetween", "message": "the next step begins later", "since": at("10:21:05"),
    }))
    .unwrap();
    between.rolling.as_mut().unwrap().step_ended_at = Some(at("10:21:00"));
    let last = block(Standstill::BetweenSteps, "10:21:00", None);
    assert_eq!(standstills(&between), [&told[..], &[last]].concat());
}

#[test]
fn blocks_stand_where_they_began_and_are_as_wide_as_they_lasted_and_are_told_in_words() {
    let mut of_steps = record();
    // Without nodes done there is no expected end, and no second chart.
    let rolling = of_steps.status.as_mut().unwrap().rolling.as_mut().unwrap();
    (rolling.recent, rolling.active) = (Vec::new(), Vec::new());
    let html = page_of(of_steps, Language::English, false);
    for (class, from, to) in [
        ("s-gate", "10:05:00", "10:08:00"),
        ("s-held", "10:10:00", "10:12:00"),
        ("s-paused", "10:16:00", "10:19:00"),
    ] {
        let found = block(&html, class);
        assert_eq!(found.len(), 1, "{class}: {found:?}");
        assert_eq!(found[0].0, x(from), "{class}");
        let number = |percent: &str| percent.trim_end_matches('%').parse::<f64>().unwrap();
        let width = number(&x(to)) - number(&x(from));
        assert!((number(&found[0].1) - width).abs() < 0.002, "{class}: {} for {width}", found[0].1);
    }
    let list =
        |html: &str| html.split("class=\"stills\"").nth(1).unwrap().split("</ul>").next().unwrap().to_owned();
    let told = list(&html);
    for words in
        ["Waited for promote", "Held", "Paused by a person", "3 min 0 s", "datetime=\"2026-01-31T10:16:00Z\""]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = list(&page_of(record(), Language::Chinese, false));
    for words in ["等待放行", "受阻", "人工暂停"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // The chart of nodes begins with the node that is done first, at 10:18: of the pause it has the rest.
    let html = page_of(record(), Language::English, false);
    let row = html.split("class=\"standstills\"").nth(1).unwrap().split("</li>").next().unwrap();
    let part = block(row, "s-paused");
    assert_eq!(part.len(), 1, "{row}");
    assert_eq!(part[0].0, "0.000%", "{row}");
    assert!(block(row, "s-gate").is_empty() && row.contains("1 min 0 s"), "{row}");
}

/// How far the colours of the blocks are from what they stand on, by the formula of WCAG.
const CONTRASTS: &str = "
    const light = colour => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(n => n / 255)
            .map(n => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    return [...document.querySelectorAll('svg .still')].map(block => {
        const [a, b] = [getComputedStyle(block).fill, getComputedStyle(block.ownerSVGElement).backgroundColor]
            .map(light).sort((a, b) => b - a);
        const box = block.getBoundingClientRect();
        return [(a + 0.05) / (b + 0.05), box.width, box.height];
    });";

#[test]
fn blocks_can_be_seen_in_the_light_and_in_the_dark() {
    let address = serve();
    for dark in [false, true] {
        let Some(browser) = Browser::start(Setup { dark, ..Setup::default() }) else { return };
        browser.go(&format!("http://{address}/ui/gr/gr"));
        browser.until("#time .stills", "Paused by a person");
        let seen = browser.script(CONTRASTS);
        let seen = seen.as_array().unwrap();
        // Three in the course, three in the list, one among the nodes.
        assert_eq!(seen.len(), 7, "{seen:?}");
        for block in seen {
            let number = |place: usize| block[place].as_f64().unwrap();
            assert!(number(0) >= 3.0, "contrast, dark: {dark}: {seen:?}");
            assert!(number(1) > 0.0 && number(2) >= 3.0, "size, dark: {dark}: {seen:?}");
        }
    }
}
