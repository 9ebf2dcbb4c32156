//! The house's own rules, as `src/lib.rs` states them.

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
        ("controller", &["crate::api", "super::api"]),
        ("plan", &["tokio", "axum", "kube::Client", "kube::Api", "crate::controller", "crate::api", "Clock"]),
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

#[test]
fn no_room_is_larger_than_one_can_hold_in_the_head() {
    for (path, text) in room("") {
        assert!(
            text.lines().count() <= 400,
            "src/{path} has {} lines: two rooms in one?",
            text.lines().count()
        );
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
