//! A real Chromium, driven by WebDriver.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::skip::skipped;

/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(90);
/// What finds what a page keeps from people: https://github.com/dequelabs/axe-core, MPL 2.0.
const AXE: &str = include_str!("../../data/axe-4.14.1.min.js");

/// How a browser is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) script: bool,
    pub(super) dark: bool,
    pub(super) language: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self { script: true, dark: false, language: "en" }
    }
}

/// A browser with one tab.
pub(super) struct Browser {
    driver: Child,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; its driver is ours to end.
        let _ = call("DELETE", &self.session, None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn call(method: &str, url: &str, body: Option<&Value>) -> Result<Value, String> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-X", method, "-H", "content-type: application/json", url, "--max-time", "120"]);
    if body.is_some() {
        curl.args(["--data-binary", "@-"]);
    }
    let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = curl.stdin.take().unwrap();
    let text = body.map(Value::to_string).unwrap_or_default();
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = curl.wait_with_output().unwrap();
    // Who has answered may not have read everything.
    let _ = writing.join().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("{method} {url}: {e}"))?;
    match answer.pointer("/value/error") {
        Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
        None => Ok(answer["value"].clone()),
    }
}

impl Browser {
    /// `None` where there is none, which is said, and fails in CI.
    pub(super) fn start(setup: Setup) -> Option<Self> {
        let driver =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut driver) = driver else {
            skipped("the page in a browser: chromium and its chromedriver are not installed");
            return None;
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned())
        });
        // Whoever writes where nobody reads ends.
        std::thread::spawn(move || lines.count());
        let driver_url = format!("http://127.0.0.1:{}", port.expect("chromedriver says its port"));
        let prefs = json!({
            "intl.accept_languages": setup.language,
            "profile.managed_default_content_settings.javascript": if setup.script { 1 } else { 2 },
        });
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1280,1000",
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args, "prefs": prefs },
            "goog:loggingPrefs": { "performance": "ALL", "browser": "ALL" },
        } } });
        let session = call("POST", &format!("{driver_url}/session"), Some(&capabilities)).unwrap();
        let session = format!("{driver_url}/session/{}", session["sessionId"].as_str().unwrap());
        let browser = Self { driver, session };
        let scheme = if setup.dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        call(method, &format!("{}{path}", self.session), (method == "POST").then_some(body))
    }

    fn devtools(&self, command: &str, params: Value) {
        self.ask("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": params })).unwrap();
    }

    pub(super) fn go(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url })).unwrap();
    }

    pub(super) fn url(&self) -> String {
        self.ask("GET", "/url", &Value::Null).unwrap().as_str().unwrap().to_owned()
    }

    /// What a script in the page returns.
    pub(super) fn script(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] })).unwrap()
    }

    /// The same, of a script that ends by calling `done`.
    fn script_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0]; {script}");
        self.ask("POST", "/execute/async", &json!({ "script": script, "args": [] })).unwrap()
    }

    fn element(&self, css: &str) -> Result<String, String> {
        let found = self.ask("POST", "/element", &json!({ "using": "css selector", "value": css }))?;
        let id = found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str);
        Ok(format!("/element/{}", id.unwrap()))
    }

    /// The text that a person sees there; `None` where there is nothing of the kind.
    pub(super) fn text(&self, css: &str) -> Option<String> {
        let text = self.ask("GET", &format!("{}/text", self.element(css).ok()?), &Value::Null).ok()?;
        text.as_str().map(str::to_owned)
    }

    /// Waits until something is there and its text has these words.
    pub(super) fn until(&self, css: &str, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text(css);
            if let Some(text) = text.as_ref().filter(|text| text.contains(words)) {
                return text.clone();
            }
            let page = || self.text("main").unwrap_or_default().chars().take(3000).collect::<String>();
            assert!(
                begun.elapsed() < PATIENCE,
                "{css} does not say {words:?} but {text:?}; the page:\n{}",
                page()
            );
            sleep(Duration::from_millis(100));
        }
    }

    /// Does something to an element once it is there; what is being put in place anew is tried again.
    fn until_done(&self, css: &str, what: impl Fn(&str) -> Result<Value, String>) {
        let begun = Instant::now();
        while let Err(error) = self.element(css).and_then(|element| what(&element)) {
            assert!(begun.elapsed() < PATIENCE, "{css}: {error}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Clicks as a person does.
    pub(super) fn click(&self, css: &str) {
        self.until_done(css, |element| self.ask("POST", &format!("{element}/click"), &json!({})));
    }

    /// Opens what asks for a name.
    pub(super) fn open(&self, css: &str) {
        self.until_done(css, |_| {
            let is_open = || self.script(&format!("return document.querySelector('{css}').open"));
            if is_open() != true {
                self.click(&format!("{css} summary"));
            }
            if is_open() == true { Ok(Value::Null) } else { Err("it does not open".to_owned()) }
        });
    }

    /// Types into a field.
    pub(super) fn fill(&self, css: &str, text: &str) {
        self.until_done(css, |element| {
            self.ask("POST", &format!("{element}/clear"), &json!({}))?;
            self.ask("POST", &format!("{element}/value"), &json!({ "text": text }))
        });
    }

    /// Presses keys where the focus is.
    pub(super) fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
            })
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        self.ask("POST", "/actions", &actions).unwrap();
    }

    /// What keeps people from the page, by axe.
    pub(super) fn barriers(&self) -> Value {
        self.script(&format!("{AXE}; return null"));
        self.script_async(
            "axe.run().then((r) => done(r.violations.map((v) => [v.id, v.nodes.map((n) => [n.html, \
             n.failureSummary])])))",
        )
    }

    /// What the page has asked for since this was last asked, and what the browser has complained about.
    pub(super) fn requests_and_complaints(&self) -> (Vec<String>, Vec<Value>) {
        let log = |kind: &str| self.ask("POST", "/se/log", &json!({ "type": kind })).unwrap();
        let events = log("performance").as_array().unwrap().clone();
        let messages =
            events.iter().map(|e| serde_json::from_str::<Value>(e["message"].as_str().unwrap()).unwrap());
        let sent = messages.filter(|m| m["message"]["method"] == "Network.requestWillBeSent");
        let urls = sent.map(|m| m["message"]["params"]["request"]["url"].as_str().unwrap().to_owned());
        (urls.collect(), log("browser").as_array().unwrap().clone())
    }
}
