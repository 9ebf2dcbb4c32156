//! Names, links and things that are no files: nothing outside the directory is reached.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use gcu_upgrade_manager::blueprint::MAX_FILE;
use gcu_upgrade_manager::blueprint::catalog::{LoadError, MAX_FILES};

use super::{BAD, Dir, gr, shown, version};

#[tokio::test]
async fn names_that_are_paths_or_worse_are_refused_without_touching_the_disk() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    fs::write(dir.0.join("secret.yaml"), gr("secret")).unwrap();
    let catalog = dir.catalog().await;
    let long = format!("{}.yaml", "a".repeat(249));
    let bad = [
        "",
        ".",
        "..",
        "../secret.yaml",
        "/etc/passwd",
        "a/../../secret.yaml",
        "..\\secret.yaml",
        "sub/a.yaml",
        ".hidden.yaml",
        "..data",
        "a.yaml\0",
        "a\0.yaml",
        "a\n.yaml",
        "a\u{1b}[2J.yaml",
        "a\u{85}.yaml",
        "a..yaml",
        "a",
        "a.txt",
        "a.yaml.bak",
        "a.JSON",
        "yaml",
        "a.ya\u{43c}l",
        "gr\u{2024}json",
        "a.yaml ",
        long.as_str(),
    ];
    for name in bad {
        assert!(matches!(catalog.load(name).await, Err(LoadError::BadName { .. })), "{name:?}");
    }
    // Decoding is over when a name arrives here; what is left of it is the name of no file.
    for name in [
        "%2e%2e%2fsecret.yaml",
        "%252e%252e%252fsecret.yaml",
        "\u{ff0e}\u{ff0e}\u{ff0f}secret.yaml",
        "\u{2215}secret.yaml",
    ] {
        assert!(matches!(catalog.load(name).await, Err(LoadError::NotFound { .. })), "{name:?}");
    }
    let error = catalog.load("a.txt").await.unwrap_err().to_string();
    assert_eq!(
        error,
        "\"a.txt\" is not the name of a blueprint: a blueprint's name ends in .json, .yaml or .yml"
    );
}

#[tokio::test]
async fn links_out_of_the_directory_are_refused() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    fs::write(dir.0.join("secret.yaml"), gr("secret")).unwrap();
    fs::create_dir(dir.0.join("blueprints-2")).unwrap();
    fs::write(dir.0.join("blueprints-2/secret.yaml"), gr("secret")).unwrap();
    symlink("../secret.yaml", dir.path().join("relative.yaml")).unwrap();
    symlink(dir.0.join("secret.yaml"), dir.path().join("absolute.yaml")).unwrap();
    symlink(dir.0.join("blueprints-2/secret.yaml"), dir.path().join("same-prefix.yaml")).unwrap();
    symlink("..data/../../secret.yaml", dir.path().join("through-data.yaml")).unwrap();
    symlink("..data/secret.yaml", dir.path().join("data-out.yaml")).unwrap();
    symlink("..", dir.path().join("..data")).unwrap();
    symlink("a.yaml", dir.path().join("inside.yaml")).unwrap();
    let catalog = dir.catalog().await;
    for name in ["relative.yaml", "absolute.yaml", "same-prefix.yaml", "through-data.yaml", "data-out.yaml"] {
        let set = catalog.set();
        let entry = set.get(name).unwrap();
        assert!(!entry.valid && entry.digest.is_none(), "{name}");
        assert!(
            ["link-outside", "unreadable"].contains(&entry.findings[0].code),
            "{name}: {}",
            entry.findings[0]
        );
        assert!(catalog.load(name).await.is_err(), "{name}");
    }
    assert_eq!(version(&catalog, "inside.yaml").await, "1");
}

#[tokio::test]
async fn a_pipe_a_directory_and_a_device_are_refused_without_waiting() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    assert!(Command::new("mkfifo").arg(dir.path().join("pipe.yaml")).status().unwrap().success());
    fs::create_dir(dir.path().join("directory.yaml")).unwrap();
    let catalog = dir.catalog().await;
    assert_eq!(shown(&catalog.set()), ["a.yaml 1", "directory.yaml -", "pipe.yaml -"]);
    for name in ["directory.yaml", "pipe.yaml"] {
        let Err(LoadError::Invalid { findings, .. }) = catalog.load(name).await else { panic!("{name}") };
        assert_eq!(findings[0].code, "not-regular");
    }
}

#[tokio::test]
async fn a_file_of_a_gigabyte_is_read_no_further_than_its_limit() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    fs::File::create(dir.path().join("big.yaml")).unwrap().set_len(1 << 30).unwrap();
    let catalog = dir.catalog().await;
    let set = catalog.set();
    assert_eq!(shown(&set), ["a.yaml 1", "big.yaml -"]);
    let entry = set.get("big.yaml").unwrap();
    assert_eq!((entry.findings[0].code, entry.size), ("too-large", MAX_FILE + 1));
}

#[tokio::test]
async fn ten_thousand_files_are_listed_and_beyond_that_it_is_said() {
    let dir = Dir::new();
    for i in 0..=MAX_FILES {
        fs::write(dir.path().join(format!("f{i:05}.yaml")), BAD).unwrap();
    }
    let catalog = dir.catalog().await;
    let set = catalog.set();
    assert_eq!(set.entries.len(), MAX_FILES);
    let problem = set.problem.clone().unwrap();
    assert_eq!(problem, "the directory holds 10001 blueprints, only the first 10000 by name are listed");
    let Err(LoadError::NotFound { available, more, .. }) = catalog.load("x.yaml").await else { panic!() };
    assert_eq!((available.len(), more), (20, 9_981));
    assert!(matches!(catalog.load("f10000.yaml").await, Err(LoadError::Invalid { .. })));
}
