//! The file that says whom to tell. It alone holds URLs and secrets: they go into requests and nowhere else, and what
//! is said of a mistake in it names the place and not the value.

use std::collections::BTreeSet;
use std::path::Path;

use http::Uri;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::event::EventKind;
use super::secret::Secret;
use super::words::Language;
use crate::blueprint::{Finding, Kind, Node, SourcePos, read_tree};

/// More sinks would make the object that remembers what they were told too large.
const SINKS: usize = 16;
/// A sink's name is a key of a ConfigMap and a label of metrics.
const NAME: usize = 63;

/// Whom to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where people reach this service, without a `/` at the end.
    pub external_url: Option<String>,
    /// Whom to tell.
    pub sinks: Vec<Sink>,
}

/// What kind of receiver a sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// Whatever takes CloudEvents 1.0 in JSON.
    Webhook,
    /// A Slack incoming webhook, or what is compatible.
    Slack,
    /// A WeCom group robot.
    WeCom,
    /// A DingTalk group robot.
    DingTalk,
    /// A Feishu (Lark) group robot.
    Feishu,
    /// Alertmanager's API v2.
    Alertmanager,
}

impl Receiver {
    const ALL: [(&'static str, Self); 6] = [
        ("webhook", Self::Webhook),
        ("slack", Self::Slack),
        ("wecom", Self::WeCom),
        ("dingtalk", Self::DingTalk),
        ("feishu", Self::Feishu),
        ("alertmanager", Self::Alertmanager),
    ];

    /// As it is written in the file.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, receiver)| *receiver == self).map_or("", |(word, _)| word)
    }
}

/// One receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// What it is called in the file, in logs and in metrics.
    pub name: String,
    /// What it is.
    pub receiver: Receiver,
    /// Where it is.
    pub url: Secret,
    /// Signs what is sent: the key of the HMAC.
    pub secret: Option<Secret>,
    /// Sent as `Authorization: Bearer`.
    pub bearer_token: Option<Secret>,
    /// The language of the texts.
    pub language: Language,
    /// The kinds of event that it is told; `None`: all.
    pub events: Option<BTreeSet<EventKind>>,
    /// The HTTP proxy on the way to it.
    pub proxy: Option<Secret>,
    /// The CAs that its certificate may be of; `None`: those of the system.
    pub ca: Option<Vec<CertificateDer<'static>>>,
}

impl Sink {
    /// Whether it is told of this kind.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.events.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// A text of others, without what is secret about this sink.
    pub fn scrub(&self, text: &str) -> String {
        let all = [Some(&self.url), self.secret.as_ref(), self.bearer_token.as_ref(), self.proxy.as_ref()];
        all.into_iter().flatten().fold(text.to_owned(), |text, secret| secret.scrub(&text))
    }
}

/// Reads the file.
///
/// # Errors
/// Everything that is wrong with it, each in a line with file, line, column and field.
pub fn load(file: &Path) -> Result<Config, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    parse(&bytes, file).map_err(|findings| {
        let name = file.display().to_string();
        let lines = findings.into_iter().map(|finding| finding.in_file(&name).to_string());
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn parse(bytes: &[u8], file: &Path) -> Result<Config, Vec<Finding>> {
    let root = read_tree(bytes).map_err(|all| all.into_iter().map(without_values).collect::<Vec<_>>())?;
    let mut reader = Reader { dir: file.parent().unwrap_or(Path::new(".")), found: Vec::new() };
    let config = reader.config(&root);
    if reader.found.is_empty() { Ok(config) } else { Err(reader.found) }
}

/// What the parser of YAML quotes may be part of a secret.
fn without_values(mut finding: Finding) -> Finding {
    let parts = finding.message.split('`').enumerate();
    finding.message = parts.map(|(n, part)| if n % 2 == 0 { part } else { "`…`" }).collect();
    finding
}

const CONFIG_FIELDS: &[&str] = &["externalURL", "sinks"];
const SINK_FIELDS: &[&str] =
    &["name", "type", "url", "secret", "bearerToken", "language", "events", "proxyURL", "caFile"];

struct Reader<'a> {
    dir: &'a Path,
    found: Vec<Finding>,
}

impl Reader<'_> {
    fn config(&mut self, root: &Node) -> Config {
        self.only(root, "", CONFIG_FIELDS);
        let external_url = self.text(root, "", "externalURL").and_then(|(url, node)| {
            let usable = self.url(&url, node, "externalURL");
            usable.then(|| url.trim_end_matches('/').to_owned())
        });
        let mut sinks: Vec<Sink> = Vec::new();
        match root.get("sinks").map(|node| (&node.kind, node)) {
            Some((Kind::List(items), node)) => {
                if items.len() > SINKS {
                    self.wrong(node, "sinks", format!("there may be at most {SINKS}"));
                }
                for (number, item) in items.iter().enumerate() {
                    let path = format!("sinks[{number}]");
                    let Some(sink) = self.sink(item, &path) else { continue };
                    if sinks.iter().any(|other| other.name == sink.name) {
                        let name = item.get("name").unwrap_or(item);
                        self.wrong(name, &format!("{path}.name"), "another sink has this name");
                    }
                    sinks.push(sink);
                }
            }
            Some((_, node)) => self.wrong(node, "sinks", "must be a list"),
            None => self.wrong(root, "sinks", "is required: the list of receivers"),
        }
        Config { external_url, sinks }
    }

    fn sink(&mut self, node: &Node, path: &str) -> Option<Sink> {
        let before = self.found.len();
        self.only(node, path, SINK_FIELDS);
        let name = self.required(node, path, "name").map(|(name, at)| {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if name.is_empty() || name.len() > NAME || !name.bytes().all(fits) {
                let message = format!("must be 1 to {NAME} of the characters a-z, 0-9 and -");
                self.wrong(at, &format!("{path}.name"), message);
            }
            name
        });
        let receiver = self.required(node, path, "type").and_then(|(word, at)| {
            let known = Receiver::ALL.iter().find(|(known, _)| *known == word).map(|(_, receiver)| *receiver);
            if known.is_none() {
                let words: Vec<&str> = Receiver::ALL.iter().map(|(word, _)| *word).collect();
                self.wrong(at, &format!("{path}.type"), format!("must be one of {}", words.join(", ")));
            }
            known
        });
        let url = self.required(node, path, "url").map(|(url, at)| {
            self.url(&url, at, &format!("{path}.url"));
            Secret::new(url)
        });
        let takes_secret = |r| matches!(r, Receiver::Webhook | Receiver::DingTalk | Receiver::Feishu);
        let secret = self.secret(node, path, "secret", receiver.is_none_or(takes_secret));
        let takes_token = |r| matches!(r, Receiver::Webhook | Receiver::Alertmanager);
        let bearer_token = self.secret(node, path, "bearerToken", receiver.is_none_or(takes_token));
        if let (Some(at), Some(token)) = (node.get("bearerToken"), &bearer_token)
            && !token.bare().bytes().all(|b| b.is_ascii_graphic())
        {
            self.wrong(at, &format!("{path}.bearerToken"), "must be one word of ASCII characters");
        }
        let language = match self.text(node, path, "language") {
            None => Language::English,
            Some((word, at)) => Language::of(&word).unwrap_or_else(|| {
                self.wrong(at, &format!("{path}.language"), "must be en or zh");
                Language::English
            }),
        };
        let events = self.events(node, path);
        let proxy = self.text(node, path, "proxyURL").map(|(url, at)| {
            if self.url(&url, at, &format!("{path}.proxyURL")) && !url.starts_with("http://") {
                self.wrong(at, &format!("{path}.proxyURL"), "must begin with http://: an HTTP proxy");
            }
            Secret::new(url)
        });
        let ca = self.text(node, path, "caFile").and_then(|(file, at)| {
            self.certificates(&file).map_err(|why| self.wrong(at, &format!("{path}.caFile"), why)).ok()
        });
        if self.found.len() > before {
            return None;
        }
        let (name, receiver, url) = (name?, receiver?, url?);
        Some(Sink { name, receiver, url, secret, bearer_token, language, events, proxy, ca })
    }

    fn events(&mut self, node: &Node, path: &str) -> Option<BTreeSet<EventKind>> {
        let (at, path) = (node.get("events")?, format!("{path}.events"));
        let Kind::List(items) = &at.kind else {
            self.wrong(at, &path, "must be a list");
            return None;
        };
        let mut kinds = BTreeSet::new();
        for item in items {
            match EventKind::ALL.iter().find(|kind| Some(kind.word()) == item.as_str()) {
                Some(kind) => drop(kinds.insert(*kind)),
                None => {
                    let words = EventKind::ALL.map(EventKind::word).join(", ");
                    self.wrong(item, &path, format!("must be some of {words}"));
                }
            }
        }
        Some(kinds)
    }

    fn certificates(&self, file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let file = self.dir.join(file);
        let pem = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match all {
            Ok(all) if all.is_empty() => Err(format!("{}: there is no certificate in it", file.display())),
            all => all.map_err(|e| format!("{}: {e}", file.display())),
        }
    }

    /// Whether this can be the URL of a receiver.
    fn url(&mut self, url: &str, at: &Node, path: &str) -> bool {
        let usable = url.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        if !usable {
            self.wrong(at, path, "must be a URL that begins with http:// or https://");
        }
        usable
    }

    fn secret(&mut self, node: &Node, path: &str, field: &str, takes: bool) -> Option<Secret> {
        let (text, at) = self.text(node, path, field)?;
        if !takes {
            self.wrong(at, &format!("{path}.{field}"), "sinks of this type take none");
        } else if text.is_empty() {
            self.wrong(at, &format!("{path}.{field}"), "must not be empty");
        }
        Some(Secret::new(text))
    }

    fn required<'n>(&mut self, node: &'n Node, path: &str, field: &str) -> Option<(String, &'n Node)> {
        if node.get(field).is_none() {
            self.wrong(node, &format!("{path}.{field}"), "is required");
        }
        self.text(node, path, field)
    }

    fn text<'n>(&mut self, node: &'n Node, path: &str, field: &str) -> Option<(String, &'n Node)> {
        let at = node.get(field)?;
        let text = at.as_str().map(|text| (text.to_owned(), at));
        if text.is_none() {
            let path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
            self.wrong(at, &path, "must be text: put it in quotes");
        }
        text
    }

    fn only(&mut self, node: &Node, path: &str, fields: &[&str]) {
        if !matches!(node.kind, Kind::Map(_)) {
            self.wrong(node, path, "must be a map");
        }
        for entry in node.entries().iter().filter(|entry| !fields.contains(&entry.key.as_str())) {
            let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            let message = format!("unknown field: there are {}", fields.join(", "));
            self.found.push(Finding::error("unknown-field", entry.place, message).about(path));
        }
    }

    fn wrong(&mut self, at: &Node, path: &str, message: impl Into<String>) {
        let place: SourcePos = at.place;
        self.found.push(Finding::error("notifications", place, message).about(path));
    }
}
