//! The README's walk, and that of the Chinese one, typed as it stands there: every `console` block is run in order,
//! line by line, and what the README shows is compared with what is answered.
//!
//! UIDs, times, ages and versions may differ. A line of `...` stands for any number of lines, `...` within a
//! line for any text. A free port takes the place of the sandbox's.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::skip::skipped;

const README: &str = include_str!("../../README.md");
const CHINESE: &str = include_str!("../../README.zh-CN.md");
/// Where the README's sandbox listens.
const DOCUMENTED: &str = "127.0.0.1:32765";
const BINARY: &str = env!("CARGO_BIN_EXE_gcu-upgrade-manager");
/// For the answer of one command: the walk waits for whole upgrades.
const PATIENCE: Duration = Duration::from_secs(120);

/// For what is read to show what was asked for.
const A_MOMENT: Duration = Duration::from_secs(5);

/// A command and the answer shown.
#[derive(Debug, PartialEq)]
struct Example {
    line: usize,
    command: String,
    answer: Vec<String>,
}

/// A program that ends with this value.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_walk_of_the_readme_works_as_it_says() {
    walk("README.md", README);
}

#[test]
fn the_walk_of_the_chinese_readme_works_as_it_says() {
    walk("README.zh-CN.md", CHINESE);
}

#[test]
fn the_chinese_readme_leads_to_places_that_there_are() {
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().replace(' ', "-")
    };
    for (name, text) in [("README.md", README), ("README.zh-CN.md", CHINESE)] {
        let anchors =
            |of: &str| -> Vec<String> { of.lines().filter(|l| l.starts_with('#')).map(anchor).collect() };
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, place) =
                link.split_once('#').map_or((link, None), |(file, place)| (file, Some(place)));
            let target = match file {
                "" => text,
                "README.md" => README,
                "README.zh-CN.md" => CHINESE,
                other => {
                    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(other).exists(), "{name}: {link}");
                    continue;
                }
            };
            assert!(place.is_none_or(|p| anchors(target).iter().any(|a| a == p)), "{name}: {link}");
        }
    }
}

fn walk(name: &str, readme: &str) {
    let examples = examples(readme);
    assert!(examples.len() > 8, "the README has a walk: {examples:#?}");
    if !has("curl") {
        return skipped("curl is not installed: the README's walk is not run");
    }
    let with_kubectl = has("kubectl");
    if !with_kubectl {
        skipped("kubectl is not installed: the README's kubectl lines are not run");
    }
    let home = TempDir::new().unwrap();
    // On a terminal curl shows no progress beside an answer; into a file it does, unless told otherwise.
    fs::write(home.path().join(".curlrc"), "silent\nshow-error\n").unwrap();
    let starts = starts(readme);
    let documented = format!("--kubeconfig-out {}", kubeconfig());
    assert!(starts[0].1.contains(&documented), "{name} starts the sandbox with `{documented}`");
    let mut running: Option<(usize, String, Started)> = None;
    for example in examples.iter().filter(|e| with_kubectl || !e.command.contains("kubectl")) {
        let (line, options) = starts.iter().rev().find(|(line, _)| *line < example.line).unwrap();
        if running.as_ref().is_none_or(|(of, ..)| of != line) {
            drop(running.take());
            let (address, started) = sandbox(options, home.path());
            running = Some((*line, address, started));
        }
        let address = running.as_ref().unwrap().1.as_str();
        let command = example.command.replace(DOCUMENTED, address);
        let wanted: Vec<String> = example.answer.iter().map(|line| normal(line)).collect();
        let as_shown = |answer: &str| matches(&wanted, &answer.lines().map(normal).collect::<Vec<_>>());
        let mut answer = run(&command, home.path());
        // A person reads more slowly: what was asked for just before may take a moment to show.
        let changes = [" -X ", " -d ", " wait "].iter().any(|part| command.contains(part));
        let end = Instant::now() + A_MOMENT;
        while !changes && !as_shown(&answer) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            answer = run(&command, home.path());
        }
        assert!(
            as_shown(&answer),
            "{name}:{}: `{}` answers\n{answer}\ninstead of\n{}",
            example.line,
            example.command,
            example.answer.join("\n")
        );
    }
}

/// `$ command`, with `\` at the end of a line to go on, and the lines after it.
fn examples(readme: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for (number, line) in readme.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = line.trim() == "```console";
            continued = false;
        } else if inside && continued {
            let last = found.last_mut().unwrap();
            last.command = format!("{}\n{line}", last.command);
            continued = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            continued = command.ends_with('\\');
            found.push(Example { line: number + 1, command: command.to_owned(), answer: Vec::new() });
        } else if inside {
            found.last_mut().expect("a block begins with a command").answer.push(line.to_owned());
        }
    }
    found
}

fn has(program: &str) -> bool {
    let asked = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Where the README has a sandbox started, for what follows, and with which options.
fn starts(readme: &str) -> Vec<(usize, &str)> {
    let lines = readme.lines().enumerate();
    lines.filter_map(|(at, line)| Some((at + 1, line.strip_prefix("cargo run -- sandbox ")?))).collect()
}

/// Starts the sandbox as the README says, on a free port.
fn sandbox(options: &str, home: &Path) -> (String, Started) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let child = Command::new(BINARY)
        .arg("sandbox")
        .args(options.split(' '))
        .args(["--listen", &address])
        .current_dir(home)
        .env_remove("KUBECONFIG")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Started(child);
    let end = Instant::now() + PATIENCE;
    while !is_ready(&address) {
        assert!(Instant::now() < end, "the sandbox is not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    (address, started)
}

/// The file that the README has kubectl use.
fn kubeconfig() -> &'static str {
    let after = README.split("--kubeconfig-out ").nth(1).expect("the README asks for a kubeconfig");
    after.split_whitespace().next().unwrap_or_default()
}

fn is_ready(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let asked = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    std::io::Write::write_all(&mut stream, asked.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// What a shell answers, standard error behind standard output.
fn run(command: &str, home: &Path) -> String {
    let out = home.join("out");
    let file = fs::File::create(&out).unwrap();
    let child = Command::new("sh")
        .args(["-c", command])
        .current_dir(home)
        .env("HOME", home)
        .stdin(Stdio::null())
        .stderr(file.try_clone().unwrap())
        .stdout(file)
        .spawn()
        .unwrap();
    let mut child = Started(child);
    let end = Instant::now() + PATIENCE;
    while child.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "`{command}` has not ended: {}", fs::read_to_string(&out).unwrap());
        std::thread::sleep(Duration::from_millis(10));
    }
    fs::read_to_string(&out).unwrap()
}

/// A line with what differs from run to run replaced, and runs of blanks in the middle made one.
fn normal(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let versioned = words.last().is_some_and(|before| before == "\"resourceVersion\":");
        words.push(if versioned { "<version>".to_owned() } else { normal_word(word) });
    }
    format!("{}{}", " ".repeat(indent), words.join(" "))
}

fn normal_word(word: &str) -> String {
    let bare = word.trim_matches(|c: char| matches!(c, '"' | ',' | ')' | '(' | ';'));
    let hex = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_hexdigit());
    let is_uid = bare.len() == 36 && bare.split('-').count() == 5 && bare.split('-').all(hex);
    let is_time = bare.len() > 18 && bare.parse::<jiff::Timestamp>().is_ok();
    let is_age = bare.len() > 1
        && bare.starts_with(|c: char| c.is_ascii_digit())
        && bare.ends_with(['s', 'm', 'h'])
        && bare.bytes().all(|b| b.is_ascii_digit() || matches!(b, b's' | b'm' | b'h'));
    let stands_for = [(is_uid, "<uid>"), (is_time, "<time>"), (is_age, "<age>")];
    match stands_for.iter().find(|(is, _)| *is) {
        Some((_, name)) => word.replace(bare, name),
        None => word.to_owned(),
    }
}

/// Whether the lines are those wanted, with `...` for any number of them.
fn matches(wanted: &[String], got: &[String]) -> bool {
    match (wanted.split_first(), got.split_first()) {
        (None, None) => true,
        (Some((line, rest)), _) if line.trim() == "..." => {
            (0..=got.len()).any(|skipped| matches(rest, &got[skipped..]))
        }
        (Some((line, rest)), Some((first, others))) => line_matches(line, first) && matches(rest, others),
        _ => false,
    }
}

fn line_matches(wanted: &str, got: &str) -> bool {
    let parts: Vec<&str> = wanted.split("...").collect();
    let [first, middle @ .., last] = parts.as_slice() else { return wanted == got };
    let Some(mut left) = got.strip_prefix(first) else { return false };
    for part in middle {
        match left.split_once(*part) {
            Some((_, rest)) => left = rest,
            None => return false,
        }
    }
    left.ends_with(last)
}

#[test]
fn what_may_differ_is_left_out_of_the_comparison() {
    let compared = |wanted: &str, got: &str| {
        let lines = |text: &str| text.lines().map(normal).collect::<Vec<_>>();
        matches(&lines(wanted), &lines(got))
    };
    assert!(compared("a\n...\nz", "a\nb\nc\nz"));
    assert!(!compared("a\n...\nz", "a\nb\nc"));
    assert!(compared("pod-...  1/1   5s", "pod-x7k2p 1/1 2m46s"));
    assert!(!compared("pod-...  1/1   5s", "pod-x7k2p 0/1 2m46s"));
    assert!(!compared("    \"phase\": \"Running\"", "\"phase\": \"Running\""));
    assert!(compared(
        "\"at\": \"2026-01-01T00:00:00Z\", \"resourceVersion\": \"1\"",
        "\"at\": \"2027-02-03T04:05:06.789Z\", \"resourceVersion\": \"812\""
    ));
    let uid = |digit: &str| format!("(uid {0}{0}-{0}-{0}-{0}-{0}{0}{0})", digit.repeat(4));
    assert!(compared(&uid("0"), &uid("f")));
}
