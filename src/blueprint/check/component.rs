//! The components of a gr: the keys of its `spec` and their base fields, as the guides of gcu-operator 2.0
//! to 2.4 have them.

use super::fields::{is_known, lookalike, meant};
use super::names::{self, must_be_text};
use super::{Report, image, is_dns_label, is_dns_subdomain, join};
use crate::blueprint::finding::quoted;
use crate::blueprint::lookalike as characters;
use crate::blueprint::tree::{Entry, Kind, Node};
use crate::gr::{CONTAINERS, DEFAULT_VERSION};

/// The keys of `spec` that are known, in the operator's order. New ones appear with every release, so an
/// unknown key is a warning only.
const KNOWN: [&str; 16] = [
    "nfd",
    "driver",
    "toolkit",
    "containerToolkit",
    "devicePlugin",
    "plugin",
    "exporter",
    "gcuExporter",
    "gfd",
    "nightingale",
    "gcusharePlugin",
    "gcushareScheduler",
    "gcushareConfigManager",
    "nodeExporter",
    "k8sDriverManager",
    "volcano",
];
/// Components of several workloads, whose images are not these base fields.
const OF_SEVERAL: [&str; 2] = ["nightingale", "volcano"];
pub(super) fn spec(root: &Node, report: &mut Report) {
    let Some(spec) = root.get("spec") else {
        let message = "`spec` is missing: put the components of the gr there";
        report.error("missing-spec", root.place, "", "spec", message);
        return;
    };
    let Kind::Map(components) = &spec.kind else {
        let message = format!("spec must be a map of components, not {}", spec.describe());
        report.error("wrong-type", spec.place, "", "spec", message);
        return;
    };
    for entry in components {
        one(entry, report);
    }
    if !components.iter().any(is_deployed) {
        let message = "no component is deployed: an upgrade to this takes the whole stack away";
        report.warning("nothing-deployed", spec.place, "", "spec", message);
    }
    plugins(components, report);
}

/// Present, a map, and not told otherwise.
fn is_deployed(entry: &Entry) -> bool {
    matches!(entry.node.kind, Kind::Map(_))
        && !matches!(entry.node.get("notDeploy").map(|node| &node.kind), Some(Kind::Bool(true)))
}

/// Both plugins hand out the same GCUs to the kubelet.
fn plugins(components: &[Entry], report: &mut Report) {
    let deployed = |names: &[&str]| {
        components.iter().find(|entry| names.contains(&entry.key.as_str()) && is_deployed(entry))
    };
    if let (Some(whole), Some(shared)) =
        (deployed(&["devicePlugin", "plugin"]), deployed(&["gcusharePlugin"]))
    {
        let message = format!(
            "gcusharePlugin cannot stand beside {}: give one of the two `notDeploy: true`",
            whole.key
        );
        report.warning("two-device-plugins", shared.place, "spec", "gcusharePlugin", message);
    }
}

fn one(entry: &Entry, report: &mut Report) {
    let path = join("spec", &entry.key);
    if !KNOWN.contains(&entry.key.as_str()) {
        let meant = match lookalike(&entry.key, &KNOWN) {
            Some(meant) => format!("; is `{meant}` meant?"),
            None => ", and is handled like the others".to_owned(),
        };
        let message = format!("{} is not a component that this version knows{meant}", quoted(&entry.key));
        report.warning("unknown-component", entry.place, &path, "", message);
    }
    if !matches!(entry.node.kind, Kind::Map(_)) {
        let message = format!("a component must be a map of fields, but this is {}", entry.node.describe());
        report.error("wrong-type", entry.node.place, &path, "", message);
        return;
    }
    let known = KNOWN.contains(&entry.key.as_str()) && !OF_SEVERAL.contains(&entry.key.as_str());
    let certain = known && is_deployed(entry);
    base_fields(&entry.node, &path, known.then_some(&entry.key), report);
    let own = |name: &str| entry.node.get(name).map(|node| (node, path.as_str()));
    let containers = entry
        .node
        .entries()
        .iter()
        .filter(|inner| entry.key == "nfd" && CONTAINERS.contains(&inner.key.as_str()));
    let mut has_containers = false;
    for container in containers {
        let path = join(&path, &container.key);
        if matches!(container.node.kind, Kind::Map(_)) {
            has_containers = true;
            base_fields(&container.node, &path, Some("master"), report);
            let field =
                |name: &str| own(name).or_else(|| container.node.get(name).map(|node| (node, path.as_str())));
            image::check(field("repository"), field("image"), field("version"), certain, report);
            if is_deployed(entry) {
                mutable_tag(container, Some(&entry.node), &path, report);
            }
        } else {
            let message = format!("this must be a map of fields, but is {}", container.node.describe());
            report.error("wrong-type", container.node.place, &path, "", message);
        }
    }
    if !has_containers {
        image::check(own("repository"), own("image"), own("version"), certain, report);
    }
    if is_deployed(entry) && !has_containers && !OF_SEVERAL.contains(&entry.key.as_str()) {
        mutable_tag(entry, None, &path, report);
    }
}

/// The kubelet does not pull a tag that it has: nodes that had it keep the old image, new ones get the new.
fn mutable_tag(entry: &Entry, outer: Option<&Node>, path: &str, report: &mut Report) {
    // Where the component has a field of its own, the operator ignores the container's.
    let field = |name: &str| outer.and_then(|outer| outer.get(name)).or_else(|| entry.node.get(name));
    let version = field("version");
    let tag = version.and_then(Node::as_str).filter(|tag| !tag.is_empty());
    let is_mutable = match (version, tag) {
        (_, Some(tag)) => tag == DEFAULT_VERSION,
        (Some(node), None) => node.as_str().is_some(),
        (None, _) => true,
    };
    let always = field("imagePullPolicy").and_then(Node::as_str) == Some("Always");
    if !is_mutable || always {
        return;
    }
    let place = version.map_or(entry.place, |node| node.place);
    let message = match tag {
        Some(tag) => format!(
            "mutable tag `{tag}`: nodes may run different images; pin a version, or set imagePullPolicy to Always"
        ),
        None => format!(
            "no version means the mutable tag `{DEFAULT_VERSION}`: nodes may run different images; pin a \
             version, or set imagePullPolicy to Always"
        ),
    };
    report.warning("mutable-tag", place, path, "version", message);
}

/// `known`: the component whose fields are documented, if they are. Those of another may have any name.
fn base_fields(component: &Node, path: &str, known: Option<&str>, report: &mut Report) {
    for entry in component.entries() {
        let (node, path) = (&entry.node, join(path, &entry.key));
        match entry.key.as_str() {
            "notDeploy" => boolean(node, &path, report),
            "image" | "version" | "repository" => {
                text(node, &path, report);
            }
            "imagePullPolicy" => pull_policy(node, &path, report),
            "name" => named(node, &path, report, is_dns_subdomain),
            "namespace" => named(node, &path, report, is_dns_label),
            "env" => env(node, &path, report),
            "nodeSelector" => names::labels(node, &path, report),
            other => unknown(other, entry, &path, known, report),
        }
    }
}

/// New fields appear with every release of the operator, so they are handed on; most are mistakes all the same.
fn unknown(field: &str, entry: &Entry, path: &str, known: Option<&str>, report: &mut Report) {
    // What is not what it looks like is said of every key.
    if known.is_some_and(|component| is_known(component, field)) || characters::first(field).is_some() {
        return;
    }
    let message = match meant(field) {
        Some("notDeploy")
            if field.eq_ignore_ascii_case("deploy") || field.eq_ignore_ascii_case("enabled") =>
        {
            format!("{} is not a known field; is `notDeploy`, its opposite, meant?", quoted(field))
        }
        Some(meant) => format!("{} is not a known field; is `{meant}` meant?", quoted(field)),
        None if known.is_some() => format!(
            "{} is not a known field: it is handed on, and has an effect only if the operator knows it",
            quoted(field)
        ),
        None => return,
    };
    report.warning("unknown-field", entry.place, path, "", message);
}

fn boolean(node: &Node, path: &str, report: &mut Report) {
    if matches!(node.kind, Kind::Bool(_)) {
        return;
    }
    let message = match node.as_str() {
        Some("true" | "false") => "this must be true or false without quotes".to_owned(),
        _ if matches!(node.kind, Kind::Null) => {
            "this must be true or false, but is empty: give a value or remove the line".to_owned()
        }
        Some(text) if matches!(characters::meant(text).as_str(), "true" | "false") => {
            characters::advice(text).unwrap_or_default()
        }
        _ => format!("this must be true or false, not {}", node.describe()),
    };
    report.error("wrong-type", node.place, path, "", message);
}

fn text<'a>(node: &'a Node, path: &str, report: &mut Report) -> Option<&'a str> {
    let text = node.as_str();
    if text.is_none() {
        must_be_text(node, path, report);
    }
    text
}

fn pull_policy(node: &Node, path: &str, report: &mut Report) {
    if let Some(policy) = text(node, path, report)
        && !matches!(policy, "Always" | "IfNotPresent" | "Never")
    {
        let message = characters::advice(policy)
            .unwrap_or_else(|| format!("this must be Always, IfNotPresent or Never, not {}", quoted(policy)));
        report.error("bad-pull-policy", node.place, path, "", message);
    }
}

fn named(node: &Node, path: &str, report: &mut Report, fits: fn(&str) -> bool) {
    // Empty text is "not given": the operator takes its default.
    if let Some(name) = text(node, path, report)
        && !name.is_empty()
        && !fits(name)
    {
        let message = characters::advice(name).unwrap_or_else(|| {
            format!("invalid name {}: must be of a-z 0-9 - with a letter or digit at both ends", quoted(name))
        });
        report.error("bad-name", node.place, path, "", message);
    }
}

fn env(node: &Node, path: &str, report: &mut Report) {
    let Kind::List(items) = &node.kind else {
        let message = format!("env must be a list of {{name, value}}, not {}", node.describe());
        report.error("wrong-type", node.place, path, "", message);
        return;
    };
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if !matches!(item.kind, Kind::Map(_)) {
            let message = format!("this must be a map with `name` and `value`, not {}", item.describe());
            report.error("wrong-type", item.place, &path, "", message);
            continue;
        }
        variable(item, &path, report);
    }
}

fn variable(item: &Node, path: &str, report: &mut Report) {
    match item.get("name") {
        Some(name) => {
            if text(name, &join(path, "name"), report) == Some("") {
                report.error("bad-name", name.place, path, "name", "the variable needs a name");
            }
        }
        None => report.error(
            "missing-name",
            item.place,
            path,
            "name",
            "`name` is missing: the variable needs one",
        ),
    }
    if let Some(value) = item.get("value")
        && let Some(text) = text(value, &join(path, "value"), report)
        && text.starts_with(['“', '”', '‘', '’', '＂'])
    {
        let message = format!(
            "the quotation marks of {} become part of the value: write \"{}\"",
            quoted(text),
            characters::meant(text)
        );
        report.warning("lookalike", value.place, path, "value", message);
    }
    if let Some(from) = item.get("valueFrom")
        && !matches!(from.kind, Kind::Map(_))
    {
        let message = format!("valueFrom must be a map, not {}", from.describe());
        report.error("wrong-type", from.place, path, "valueFrom", message);
    }
}
