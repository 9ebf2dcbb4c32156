//! The page of a made-up gr with fifteen thousand nodes: that it can be drawn, read in every language, by everybody.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use gcu_upgrade_manager::blueprint::catalog::Set;
use gcu_upgrade_manager::explain::fleet::{FleetView, NodeGroup, NodeRolloutState, ZONE_LABEL};
use gcu_upgrade_manager::explain::obstacles::{Stuck, Why};
use gcu_upgrade_manager::explain::progress::progress;
use gcu_upgrade_manager::plan::commands::Command as Steer;
use gcu_upgrade_manager::plan::rolling::node::Stage;
use gcu_upgrade_manager::record::GcuUpgrade;
use gcu_upgrade_manager::record::rolling::{SkippedNode, TroubleKind};
use gcu_upgrade_manager::ui::words::Language;
use gcu_upgrade_manager::ui::{GrPage, PlanForm, Shell, TableQuery, assets, gr_page};
use jiff::Timestamp;
use serde_json::json;

use super::browser::{Browser, Setup};

const NODES: usize = 15_000;

pub(super) fn at(time: &str) -> Timestamp {
    format!("2026-01-31T{time}Z").parse().unwrap()
}

/// An upgrade in the middle of its work, with a node that has failed.
pub(super) fn record() -> GcuUpgrade {
    let claim = |node: usize, state: &str| {
        json!({
            "node": format!("node-{node}"), "since": at("10:20:00"), "state": state, "deadline": at("10:50:00"),
            "cordon": true, "pods": [], "gcus": 8,
            "trouble": (node == 4001).then(|| json!({
                "kind": "Failed", "message": "driver: ImagePullBackOff", "at": at("10:21:00"),
            })),
        })
    };
    let manifest =
        |version: &str| json!({ "spec": { "driver": { "notDeploy": false, "version": version } } });
    serde_json::from_value(json!({
        "apiVersion": "gum.enflame.com/v1", "kind": "GcuUpgrade",
        "metadata": { "name": "gr-7", "creationTimestamp": at("10:00:00") },
        "spec": {
            "gr": "gr", "operation": "Upgrade", "strategy": "RollingUpdate", "requestedBy": "alice",
            "reason": "<b>not markup</b>",
            "target": { "blueprint": "gr.yaml", "manifest": manifest("1.3.0") },
            "previous": { "uid": "u", "manifest": manifest("1.2.3") },
            "rollingUpdate": { "maxUnavailable": 25 },
        },
        "status": {
            "phase": "Running", "step": "Rolling", "startedAt": at("10:00:00"), "message": "nodes are in work",
            "timeline": [
                { "at": at("10:00:00"), "step": "Locking", "message": "setting 6 DaemonSets to \
                    updateStrategy OnDelete" },
                { "at": at("10:01:00"), "step": "Rolling", "message": "15000 nodes to do, 25 at once" },
                { "at": at("10:05:00"), "step": "Rolling", "message": "the canary nodes are done; call \
                    promote to continue" },
                { "at": at("10:08:00"), "step": "Rolling", "message": "going on" },
                { "at": at("10:10:00"), "step": "Rolling", "message": "held: driver: ImagePullBackOff" },
                { "at": at("10:12:00"), "step": "Rolling", "message": "going on" },
                { "at": at("10:16:00"), "step": "Rolling", "message": "paused; call resume to continue" },
                { "at": at("10:19:00"), "step": "Rolling", "message": "going on" },
            ],
            "rolling": {
                "maxUnavailable": 25, "firstClaimAt": at("10:01:00"),
                "nodes": { "total": NODES, "done": 4000, "active": 3, "waiting": 10_987, "skipped": 10, "failed": 1 },
                "active": [claim(4001, "Swapping"), claim(4002, "Emptying"), claim(4003, "Swapping")],
                "recent": [{ "node": "node-4000", "since": at("10:18:00"), "at": at("10:20:00"), "pods": [] }],
            },
        },
    }))
    .unwrap()
}

fn why() -> Why {
    let stuck = |node: &str, message: &str, trouble| Stuck {
        node: node.to_owned(),
        stage: if trouble { Stage::Swapping } else { Stage::Evicting },
        message: message.to_owned(),
        since: at("10:20:00"),
        trouble: trouble.then_some(TroubleKind::Failed),
        until: Some(at("10:50:00")),
        then: "the upgrade is Held; it resumes by itself once this is resolved".to_owned(),
    };
    Why {
        outside_window: Vec::new(),
        message: String::new(),
        nodes: vec![
            stuck("node-4001", "driver: ImagePullBackOff", true),
            stuck(
                "node-4002",
                "pod ml/serve-0 cannot be evicted: PodDisruptionBudget ml/serve allows none",
                false,
            ),
        ],
        skipped: vec![SkippedNode {
            node: "node-9000".to_owned(),
            reason: "it is not ready".to_owned(),
            attempt: 0,
        }],
        attention: Vec::new(),
    }
}

fn fleet() -> FleetView {
    use NodeRolloutState::{Current, Emptying, Failed, LeftOut, Outdated, Swapping};
    let condition = |number: usize| match number {
        4001 => Failed,
        4002 => Emptying,
        4003 => Swapping,
        9000..9010 => LeftOut,
        1..=4000 => Current,
        _ => Outdated,
    };
    let mut view =
        FleetView { name: Some("gr-7".to_owned()), by: ZONE_LABEL.to_owned(), ..FleetView::default() };
    let mut groups: BTreeMap<String, NodeGroup> = BTreeMap::new();
    for number in 1..=NODES {
        let value = format!("zone-{}", number % 3);
        let group = groups.entry(value.clone()).or_insert(NodeGroup { value, ..NodeGroup::default() });
        group.nodes.entry(condition(number)).or_default().push(format!("node-{number}"));
        *view.counts.entry(condition(number)).or_default() += 1;
    }
    view.groups = groups.into_values().collect();
    view
}

fn page(language: Language, may_change: bool) -> String {
    page_of(record(), language, may_change)
}

pub(super) fn page_of(record: GcuUpgrade, language: Language, may_change: bool) -> String {
    let now = at("10:21:30");
    let sentence = progress(&record, now).message;
    let shell = Shell {
        language,
        path: "/ui/gr/gr",
        user: Some("alice"),
        forgery_token: "proof",
        origin: "http://127.0.0.1:32765",
        needs_token: true,
        comes_again: false,
    };
    let page = GrPage {
        gr: "gr",
        sentence: &sentence,
        records: &[record],
        why: Some(&why()),
        fleet: &fleet(),
        held: None,
        legal: &[Steer::Pause, Steer::Cancel, Steer::Rollback, Steer::Close, Steer::Skip, Steer::RetryNode],
        may_change,
        asked: true,
        table: &TableQuery { by: ZONE_LABEL.to_owned(), ..TableQuery::default() },
        blueprints: &Set::default(),
        form: &PlanForm::default(),
        planned: None,
        now,
    };
    gr_page(&shell, &page)
}

/// Serves the page until the test ends, as the service does: with the same rules for what it may load.
pub(super) fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let of = |headers: HeaderMap| {
        let accepted = headers.get("accept-language").map(|v| v.to_str().unwrap().to_owned());
        let language = accepted.and_then(|a| Language::of_accepted(&a)).unwrap_or_default();
        let rules =
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'";
        ([("content-security-policy", rules)], Html(page(language, true)))
    };
    let fleet = json!({ "operation": "Fleet", "result": "Success", "content": fleet() }).to_string();
    let router = Router::new()
        .route("/ui/gr/gr", get(async move |headers: HeaderMap| of(headers)))
        .route("/gum/v1/gr/gr/fleet", get(async move || fleet))
        .route(
            "/ui/assets/{file}",
            get(async |Path(file): Path<String>| {
                let asset = assets::find(&file).unwrap();
                ([(CONTENT_TYPE, asset.media_type)], asset.content)
            }),
        );
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let settings = gcu_upgrade_manager::http::Settings::plain(Default::default());
            gcu_upgrade_manager::http::serve(listener, router, settings, Default::default()).await;
        });
    });
    address
}

#[test]
fn fifteen_thousand_nodes_are_drawn_one_cell_each_and_walked_by_keyboard() {
    let Some(browser) = Browser::start(Setup::default()) else { return };
    let address = serve();
    browser.go(&format!("http://{address}/ui/gr/gr"));
    browser.until("[data-condition=Outdated] strong", "10987");
    let drawn = "return document.querySelector('#map').dataset.cells";
    let begun = tokio::time::Instant::now();
    while browser.script(drawn) != json!(NODES.to_string()) {
        assert!(begun.elapsed().as_secs() < 60, "{}", browser.script(drawn));
    }
    let took = browser.script("return document.querySelector('#map').dataset.drawnIn");
    println!("15,000 cells drawn in {took} ms");
    let painted = browser.script(
        "const c = document.querySelector('#map canvas'); const pixels = new Set(new \
         Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)); return \
         pixels.size",
    );
    assert!(painted.as_u64().unwrap() > 5, "each condition has its colour: {painted}");
    browser.script("document.querySelector('#map canvas').focus()");
    assert_eq!(browser.until("#map output", "node-"), "node-3: Current");
    browser.press(super::RIGHT);
    browser.until("#map output", "node-6: Current");
    browser.press(super::DOWN);
    browser.press("\u{e010}");
    browser.until("#map output", "node-14999: Outdated");
    // What is most urgent stands first in the table of the same data.
    assert!(browser.until("#nodes tbody tr", "node-4001").contains("Failed"));
}

#[test]
fn nobody_is_kept_out_in_any_language_or_light() {
    let address = serve();
    let setups = [("en", true), ("zh-CN", false), ("zh-CN", true)];
    for (language, dark) in setups {
        let Some(browser) = Browser::start(Setup { language, dark, ..Setup::default() }) else { return };
        browser.go(&format!("http://{address}/ui/gr/gr"));
        let words = if language == "en" { "Pause" } else { "暂停" };
        browser.until("#status button.big", words);
        assert_eq!(browser.script("return document.documentElement.lang"), language);
        browser.until("#attention", "ImagePullBackOff");
        assert_eq!(browser.barriers(), json!([]), "{language}, dark: {dark}");
    }
}

#[test]
fn page_style_and_script_together_are_under_sixty_kilobytes_compressed() {
    let all = [
        page(Language::Chinese, true).as_str(),
        assets::STYLE.content,
        assets::SCRIPT.content,
        assets::ICON.content,
    ]
    .map(|text| {
        let mut gzip =
            Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = gzip.stdin.take().unwrap();
        let text = text.to_owned();
        let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let size = gzip.wait_with_output().unwrap().stdout.len();
        writing.join().unwrap().unwrap();
        size
    });
    println!("gzipped: page, style, script, icon {all:?} bytes");
    assert!(all.iter().sum::<usize>() <= 60 * 1024, "{all:?}");
}

#[test]
fn what_others_wrote_is_text_and_whoever_may_not_change_anything_has_no_button_to() {
    let html = page(Language::English, false);
    assert!(html.contains("&lt;b&gt;not markup&lt;/b&gt;"), "escaped");
    assert!(!html.contains("<b>"), "{html}");
    assert!(!html.contains("/ui/gr/gr/do"), "no form that changes anything");
    assert!(html.contains("You may look but not change anything here"));
    let html = page(Language::English, true);
    let forms = html.matches("action=\"/ui/gr/gr/do\"").count();
    assert!(forms >= 6, "{forms}");
    assert_eq!(
        html.matches("name=\"forgery\" value=\"proof\"").count(),
        forms + 1,
        "each form, and signing out"
    );
    for bad in ["style=\"", "onclick", "http://www", "https://"] {
        assert!(!html.contains(bad), "{bad}");
    }
}

#[test]
fn the_language_is_the_one_that_the_reader_likes_best() {
    for (header, language) in [
        ("zh-CN,zh;q=0.9,en;q=0.8", Some(Language::Chinese)),
        ("en-US,en;q=0.9,zh;q=0.5", Some(Language::English)),
        ("de, zh-TW;q=0.4, en;q=0.3", Some(Language::Chinese)),
        ("en;q=0, zh;q=0.1", Some(Language::Chinese)),
        ("fr", None),
        ("", None),
    ] {
        assert_eq!(Language::of_accepted(header), language, "{header}");
    }
}
