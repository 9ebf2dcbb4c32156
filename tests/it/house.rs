//! The house's own rules, as `src/lib.rs` states them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn files_under(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_under(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every source file of a room, with its text.
fn room(name: &str) -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_under(&src, &mut files);
    let files = files.into_iter().map(|f| (f.strip_prefix(&src).unwrap().display().to_string(), f));
    let mine = files.filter(|(path, _)| {
        name.is_empty() || path.starts_with(&format!("{name}/")) || *path == format!("{name}.rs")
    });
    mine.map(|(path, file)| (path, std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn rooms_import_only_what_they_may() {
    let forbidden: &[(&str, &[&str])] = &[
        ("api", &["crate::controller", "super::controller"]),
        ("controller", &["crate::api", "super::api", "crate::notifications"]),
        ("plan", &["tokio", "axum", "kube::Client", "kube::Api", "crate::controller", "crate::api", "Clock"]),
        ("plan", &["crate::notifications"]),
        (
            "explain",
            &["tokio", "axum", "kube::Client", "kube::Api", "crate::controller", "crate::api", "Clock"],
        ),
        ("blueprint", &["crate::controller", "crate::api", "crate::plan"]),
        ("record", &["crate::controller", "crate::api", "crate::plan"]),
        ("gr", &["crate::controller", "crate::api", "crate::plan"]),
    ];
    for (name, words) in forbidden {
        let files = room(name);
        assert!(!files.is_empty(), "there is no room {name}");
        for (path, text) in files {
            for line in text.lines().filter(|l| !l.trim_start().starts_with("//")) {
                let bad = words.iter().find(|w| line.contains(**w));
                assert!(bad.is_none(), "src/{path} must not use {bad:?}: {line}");
            }
        }
    }
}

/// The rooms that a file uses: grouped `use` and paths in the text alike.
fn used(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let mut rooms = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(group) = after.strip_prefix('{') else {
            rooms.insert(word(after));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && c.is_alphanumeric() => {
                    rooms.insert(word(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn uses_are_read_in_every_form() {
    let text = "use crate::{\n    gr::{self, Deep},\n    plan::x,\n};\nuse crate::record;\n// \
                crate::api\nfn f() { crate::lease::now() }";
    assert_eq!(used(text), ["gr", "lease", "plan", "record"].map(str::to_owned).into());
}

#[test]
fn no_room_uses_one_that_uses_it() {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in room("") {
        let room = path.trim_end_matches(".rs").split('/').next().unwrap().to_owned();
        if !["lib", "main", "sandbox", "clock"].contains(&room.as_str()) {
            uses.entry(room).or_default().extend(used(&text));
        }
    }
    let rooms: BTreeSet<String> = uses.keys().cloned().collect();
    uses.iter_mut().for_each(|(room, used)| used.retain(|other| other != room && rooms.contains(other)));
    // Whoever uses nothing that is left is taken away: what remains is in a circle, or uses one.
    while let Some(free) = uses.iter().find(|(_, used)| used.is_empty()).map(|(room, _)| room.clone()) {
        uses.remove(&free);
        for used in uses.values_mut() {
            used.remove(&free);
        }
    }
    assert!(uses.is_empty(), "a circle of rooms: {uses:#?}");
    assert!(rooms.len() > 15, "{rooms:?}");
}

/// Every file of the product and of its tests, with its text.
fn all_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "tests"] {
        files_under(&root.join(dir), &mut files);
    }
    let place = |file: &Path| file.strip_prefix(root).unwrap().display().to_string();
    files.iter().map(|file| (place(file), std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn no_room_is_larger_than_one_can_hold_in_the_head() {
    let all = all_files();
    assert!(all.iter().any(|(path, _)| path == "tests/it/house.rs"), "the tests are rooms as well");
    for (path, text) in all {
        let lines = text.lines().count();
        assert!(lines <= 400, "{path} has {lines} lines: two rooms in one?");
    }
}

/// The lines that are too wide. A raw string is one text that has to stay whole.
fn too_wide(text: &str) -> Vec<(usize, &str)> {
    let mut raw = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (begins, ends) = (line.rfind("r#\""), line.rfind("\"#"));
        let is_raw = raw || begins.is_some();
        raw = match (begins, ends) {
            (None, None) => raw,
            (begins, ends) => begins > ends,
        };
        if line.chars().count() > 120 && !is_raw {
            found.push((number + 1, line));
        }
    }
    found
}

#[test]
fn only_what_is_one_text_is_wider_than_120_columns() {
    let wide = "x".repeat(121);
    let text = format!("{wide}\nr#\"{wide}\n{wide}\n\"#\n{wide}\nr#\"{wide}\"#\n{wide}\n");
    let numbers: Vec<usize> = too_wide(&text).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [1, 5, 7]);
    for (path, text) in all_files() {
        let wide = too_wide(&text);
        assert!(wide.is_empty(), "{path}: {wide:#?}");
    }
}

#[test]
fn a_changed_crd_has_a_new_revision() {
    use gcu_upgrade_manager::record::{CRD_REVISION, crd};
    use sha2::{Digest, Sha256};
    // When this fails because the schema was changed: raise CRD_REVISION, and write down its new digest here.
    let known = [
        (1, include_str!("../data/crd-revision-1.sha256").trim()),
        (2, include_str!("../data/crd-revision-2.sha256").trim()),
        (3, include_str!("../data/crd-revision-3.sha256").trim()),
        (4, include_str!("../data/crd-revision-4.sha256").trim()),
        (5, include_str!("../data/crd-revision-5.sha256").trim()),
        (6, include_str!("../data/crd-revision-6.sha256").trim()),
        (7, include_str!("../data/crd-revision-7.sha256").trim()),
        (8, include_str!("../data/crd-revision-8.sha256").trim()),
        (9, include_str!("../data/crd-revision-9.sha256").trim()),
        (10, include_str!("../data/crd-revision-10.sha256").trim()),
    ];
    let digest = format!("{:x}", Sha256::digest(serde_json::to_string(&crd().spec).unwrap()));
    assert!(known.contains(&(CRD_REVISION, digest.as_str())), "revision {CRD_REVISION} has digest {digest}");
}

#[test]
fn whoever_opens_the_repository_finds_what_belongs_there_and_nothing_else() {
    let allowed = [
        ".cargo",
        ".ci",
        ".clippy.toml",
        ".dockerignore",
        ".git",
        ".github",
        ".gitignore",
        ".rustfmt.toml",
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "Dockerfile",
        "LICENSE",
        "README.md",
        "README.zh-CN.md",
        "blueprints",
        "deploy",
        "src",
        "tests",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ignored = std::fs::read_to_string(root.join(".gitignore")).unwrap();
    for entry in std::fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_ignored = ignored.lines().any(|line| line.trim_start_matches('/') == name);
        assert!(is_ignored || allowed.contains(&name.as_str()), "{name} does not belong here");
    }
}
