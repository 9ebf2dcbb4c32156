//! The page for people: in a real Chromium, and as HTML.

mod browser;
mod fixture;
mod session;
mod standstills;

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Running, curl};
use browser::{Browser, Setup};

const GR: &str = "/ui/gr/enflame-gcu-resource";
const NAME: &str = "enflame-gcu-resource";
/// The keys of WebDriver.
const RIGHT: &str = "\u{e014}";
const DOWN: &str = "\u{e015}";
const ENTER: &str = "\u{e007}";

/// A sandbox with blueprints of its own: the shipped ones, and one with an image that no node can pull.
struct Sandbox {
    _process: Running,
    address: String,
    _blueprints: TempDir,
}

impl Sandbox {
    fn start(nodes: &str) -> Self {
        let blueprints = TempDir::new().unwrap();
        let full = include_str!("../../blueprints/gr-full.yaml");
        write(blueprints.path(), "gr-full.yaml", full);
        write(blueprints.path(), "gr.json", include_str!("../../blueprints/gr.json"));
        let mut broken: Value = serde_saphyr::from_str(full).unwrap();
        broken["spec"]["devicePlugin"]["version"] = "broken".into();
        write(blueprints.path(), "broken.json", &broken.to_string());
        write(blueprints.path(), "unusable.yaml", "spec: [\n");
        let directory = blueprints.path().to_str().unwrap();
        let args = ["sandbox", "--listen", "127.0.0.1:0", "--nodes", nodes, "--pod-start", "300ms"];
        let process = Running::start(&[&args[..], &["--blueprints", directory]].concat(), &[]);
        let address = process.address();
        crate::process::until_ready(&address);
        Self { _process: process, address, _blueprints: blueprints }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn put(&self, body: &str) {
        let (status, answer) = curl(&self.address, "PUT", &format!("/gum/v1/gr/{NAME}"), body);
        assert_eq!(status, 200, "{answer}");
    }
}

fn write(directory: &Path, file: &str, content: &str) {
    std::fs::write(directory.join(file), content).unwrap();
}

/// Nothing was asked of anybody else, and the browser found nothing to complain about.
fn assert_keeps_to_itself(browser: &Browser, address: &str) {
    let (urls, complaints) = browser.requests_and_complaints();
    assert!(!urls.is_empty(), "the requests are in the log");
    let ours = format!("http://{address}/");
    let foreign: Vec<&String> = urls.iter().filter(|url| !url.starts_with(&ours)).collect();
    assert!(foreign.iter().all(|url| *url == "data:,"), "{foreign:#?}");
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn an_upgrade_is_planned_begun_promoted_paused_and_watched_to_its_end_in_a_browser() {
    let Some(browser) = Browser::start(Setup::default()) else { return };
    let sandbox = Sandbox::start("3");
    browser.go(&sandbox.url("/"));
    assert_eq!(browser.url(), sandbox.url("/ui/"), "a browser is led to the page");
    browser.until("main", "unusable.yaml:");
    browser.click(&format!("a[href='{GR}']"));
    browser.until("#status", "has never been upgraded");
    browser.script("document.querySelector('#file').value = 'gr-full.yaml'");
    browser.fill("#at-once", "1");
    browser.fill("#canary", "1");
    browser.click(".fields button");
    browser.until("#plan pre", "Plan (RollingUpdate)");
    browser.until("#plan pre", "a canary of 1, then promote");
    // A wrong name begins nothing.
    browser.open("#ask-upgrade");
    browser.fill("#name-upgrade", "another");
    browser.click("#ask-upgrade button");
    assert_eq!(curl(&sandbox.address, "GET", "/gum/v1/upgrades/enflame-gcu-resource-1", "").0, 404);
    browser.fill("#name-upgrade", NAME);
    browser.click("#ask-upgrade button");
    browser.until("#status", "enflame-gcu-resource-1");
    // From here on the page is not loaded again unless a button is pressed.
    browser.script("window.unchanged = true");
    browser.until("h1 .badge", "Paused");
    browser.until("#attention", "promote");
    assert_eq!(browser.script("return window.unchanged"), true, "it was told by the event stream");
    browser.click("#status form:has([value=promote]) button");
    browser.until("h1 .badge", "Running");
    browser.click("#status form:has([value=pause]) button.big");
    browser.script("window.unchanged = true");
    browser.until("h1 .badge", "Paused");
    browser.until("#status form:has([value=resume])", "Resume");
    assert_eq!(browser.script("return window.unchanged"), true);
    browser.click("#status form:has([value=resume]) button");
    browser.script("window.unchanged = true");
    browser.until("h1 .badge", "Succeeded");
    browser.until("[data-condition=Current] strong", "3");
    browser.until("#history", "DaemonSets to updateStrategy OnDelete");
    browser.until("#plan", "Show the plan");
    assert_eq!(browser.script("return window.unchanged"), true);
    assert_eq!(browser.barriers(), serde_json::json!([]), "of an upgrade that has ended");
    browser.open("#ask-rollback");
    browser.fill("#name-rollback", NAME);
    browser.click("#ask-rollback button");
    browser.until("#status", "enflame-gcu-resource-2");
    browser.go(&sandbox.url("/ui/"));
    browser.until("table", "enflame-gcu-resource-2");
    assert_eq!(browser.barriers(), serde_json::json!([]), "of the first page");
    assert_keeps_to_itself(&browser, &sandbox.address);
}

#[test]
fn a_node_that_blocks_is_found_with_what_happens_when_and_the_command_to_copy() {
    let Some(browser) = Browser::start(Setup::default()) else { return };
    let sandbox = Sandbox::start("3");
    sandbox.put(r#"{"file": "broken.json", "components": ["devicePlugin"], "strategy": "RollingUpdate"}"#);
    browser.go(&sandbox.url(GR));
    browser.until("h1 .badge", "Held");
    let blocks = browser.until("#attention .bad .what", "node-");
    let node = blocks.split_whitespace().find(|word| word.starts_with("node-")).unwrap().to_owned();
    browser.until("#attention", &format!("/gum/v1/gr/{NAME}/nodes/{node}/retry"));
    browser.until("#attention", "then");
    // The same node on the map: the only failed cell, found with the keyboard, leads to its row.
    browser.until("[data-condition=Failed] strong", "1");
    browser.script("document.querySelector('#map canvas').focus()");
    let number: usize = node.rsplit('-').next().unwrap().parse().unwrap();
    browser.press(&RIGHT.repeat(number - 1));
    assert_eq!(browser.until("#map output", &node), format!("{node}: Failed"));
    browser.press(&format!("{DOWN}{ENTER}"));
    browser.until("#nodes tbody", "node-");
    assert_eq!(browser.barriers(), serde_json::json!([]), "of an upgrade that is held");
    browser.go(&sandbox.url(&format!("{GR}?state=Failed")));
    assert!(browser.until("#nodes tbody", &node).lines().count() <= 1, "{node} alone");
    browser.open("#ask-cancel");
    browser.fill("#name-cancel", NAME);
    browser.click("#ask-cancel button");
    browser.until("h1 .badge", "Rolled back");
    assert_keeps_to_itself(&browser, &sandbox.address);
}

#[test]
fn everything_can_be_read_and_an_upgrade_be_begun_without_script() {
    let Some(browser) = Browser::start(Setup { script: false, ..Setup::default() }) else { return };
    let sandbox = Sandbox::start("3");
    browser.go(&sandbox.url(&format!("{GR}?file=gr.json&strategy=Recreate")));
    browser.until("#plan pre", "the whole stack of gr enflame-gcu-resource goes down on all 3 nodes at once");
    browser.open("#ask-upgrade");
    browser.fill("#name-upgrade", NAME);
    browser.click("#ask-upgrade button");
    browser.until("#status", "enflame-gcu-resource-1");
    browser.until("#status", "This page does not update by itself");
    let ended = || curl(&sandbox.address, "GET", "/gum/v1/upgrades/enflame-gcu-resource-1?wait=15s", "").1;
    assert!((0..8).any(|_| ended().contains("\"phase\": \"Succeeded\"")), "{}", ended());
    browser.go(&sandbox.url(GR));
    for (place, words) in [
        ("h1 .badge", "Succeeded"),
        ("#status", "gr enflame-gcu-resource is now at the target version"),
        ("#groups", "Current 3"),
        ("#nodes", "node-3"),
        ("#time", "WaitingGone"),
        ("#history", "gr.json"),
        ("#history table", "Deleting"),
    ] {
        browser.until(place, words);
    }
    assert!(browser.text("#map canvas").is_none(), "the map is the script's");
    browser.click("#nodes thead th:first-child a");
    assert!(browser.url().contains("sort=node"), "{}", browser.url());
    browser.until("#nodes th[aria-sort]", "Node");
    assert_keeps_to_itself(&browser, &sandbox.address);
}
