//! Programs that repeat requests by themselves, against the real binary: what they repeat begins nothing twice.

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::{Running, curl};
use crate::process::until_ready;
use crate::skip::skipped;

const GR: &str = "/gum/v1/gr/enflame-gcu-resource";

/// A sandbox with a blueprint whose image cannot be pulled.
fn sandbox(dir: &TempDir) -> (Running, String) {
    let blueprint = include_str!("../../blueprints/gr.json");
    std::fs::write(dir.path().join("gr.json"), blueprint).unwrap();
    std::fs::write(dir.path().join("broken.json"), blueprint.replace("\"2.1.0\"", "\"broken\"")).unwrap();
    let blueprints = dir.path().to_str().unwrap();
    let args = ["sandbox", "--listen", "127.0.0.1:0", "--nodes", "1", "--pod-start", "10ms", "--blueprints"];
    let mut sandbox = Running::start(&[&args[..], &[blueprints]].concat(), &[]);
    let address = sandbox.word_after("listening address=");
    until_ready(&address);
    (sandbox, address)
}

/// As a script types it; `None` without curl.
fn retrying(url: &str, body: &str) -> Option<Output> {
    let args =
        ["--silent", "--show-error", "--retry", "2", "--retry-delay", "1", "--fail-with-body", "-X", "PUT"];
    Command::new("curl").args(args).args(["-d", body, url]).output().ok()
}

/// How often the service was asked, and what it answered last.
fn answers(sandbox: &Running, query: &str) -> Vec<String> {
    let said = sandbox.said();
    let asked = format!("PUT {GR}?{query} ");
    let status = |line: &str| line.split_once(&asked).map(|(_, rest)| rest.chars().take(3).collect());
    said.lines().filter_map(status).collect()
}

#[test]
fn a_curl_that_retries_begins_one_upgrade_however_that_ends() {
    let dir = TempDir::new().unwrap();
    let (sandbox, address) = sandbox(&dir);
    let url = |query: &str| format!("http://{address}{GR}?{query}");
    let body = r#"{"file": "broken.json", "onFailure": "Rollback"}"#;
    // The time is over and the job goes on: not repeated, and the next call waits on.
    let Some(over) = retrying(&url("wait=1s"), body) else { return skipped("curl is not installed") };
    assert_eq!(over.status.code(), Some(22), "{over:?}");
    assert_eq!(answers(&sandbox, "wait=1s"), ["409"], "{}", sandbox.said());
    let ended = retrying(&url("wait=5m"), body).unwrap();
    assert_eq!(ended.status.code(), Some(22), "{ended:?}");
    assert_eq!(answers(&sandbox, "wait=5m"), ["422"], "{}", sandbox.said());
    let error: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(error["error"].as_str().unwrap().contains("enflame-gcu-resource-1 was rolled back"), "{error}");
    let (status, records) = curl(&address, "GET", "/gum/v1/upgrades", "");
    let records: Value = serde_json::from_str(&records).unwrap();
    assert_eq!((status, records["content"].as_array().unwrap().len()), (200, 1), "{records:#}");
    assert_eq!(records["content"][0]["phase"], "RolledBack");
}
