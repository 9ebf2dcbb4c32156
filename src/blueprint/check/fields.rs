//! The fields of components, and what those that are not known were probably meant to be.

/// The fields that every component has.
pub(super) const BASE_FIELDS: [&str; 9] = [
    "notDeploy",
    "image",
    "version",
    "repository",
    "imagePullPolicy",
    "name",
    "namespace",
    "env",
    "nodeSelector",
];
/// Fields that single components have beside those.
const OWN_FIELDS: [(&str, &str); 4] = [
    ("nfd", "master"),
    ("nfd", "worker"),
    ("gcusharePlugin", "memoryUnit"),
    ("gcusharePlugin", "gcushareNodes"),
];
/// What other charts and manifests call these fields.
const OTHER_NAMES: [(&str, &str); 19] = [
    ("registry", "repository"),
    ("repo", "repository"),
    ("hub", "repository"),
    ("imagerepository", "repository"),
    ("imageregistry", "repository"),
    ("tag", "version"),
    ("imagetag", "version"),
    ("imageversion", "version"),
    ("imagename", "image"),
    ("pullpolicy", "imagePullPolicy"),
    ("image_pull_policy", "imagePullPolicy"),
    ("envs", "env"),
    ("environment", "env"),
    ("ns", "namespace"),
    ("node_selector", "nodeSelector"),
    ("selector", "nodeSelector"),
    ("deploy", "notDeploy"),
    ("enabled", "notDeploy"),
    ("disabled", "notDeploy"),
];

/// Whether a component of this key has a field of this name, as far as is documented.
pub(super) fn is_known(component: &str, field: &str) -> bool {
    BASE_FIELDS.contains(&field) || OWN_FIELDS.contains(&(component, field))
}

/// The base field that one of this name was probably meant to be.
pub(super) fn meant(field: &str) -> Option<&'static str> {
    let lower = field.to_ascii_lowercase();
    let other = || OTHER_NAMES.iter().find(|(name, _)| *name == lower).map(|(_, meant)| *meant);
    lookalike(field, &BASE_FIELDS).or_else(other)
}

/// The one of `names` that `key` was probably meant to be: the same but for case, or one letter off.
pub(super) fn lookalike<'a>(key: &str, names: &[&'a str]) -> Option<&'a str> {
    let key = key.to_ascii_lowercase();
    // Short keys are one letter from everything.
    names.iter().copied().find(|name| {
        let name = name.to_ascii_lowercase();
        name == key || (name.len() >= 5 && one_letter_off(&name, &key))
    })
}

/// Whether one letter added, left out or replaced, or two exchanged, makes `a` of `b`.
fn one_letter_off(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let longest = a.len().max(b.len());
    let exchanged = || {
        a.len() == b.len()
            && front + back + 2 == longest
            && a.get(front) == b.get(front + 1)
            && a.get(front + 1) == b.get(front)
    };
    (a.len().abs_diff(b.len()) <= 1 && front + back >= longest.saturating_sub(1)) || exchanged()
}
