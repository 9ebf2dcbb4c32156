//! The watched directory. Time is paused where it matters: half a minute passes in no time.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gcu_upgrade_manager::blueprint::catalog::{Catalog, LoadError, Set};
use gcu_upgrade_manager::clock::Clock;

mod configmap;
mod names;
mod watch;

/// A directory that is gone when the test is.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("catalog-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(path.join("blueprints")).unwrap();
        Self(path)
    }

    /// The watched directory.
    fn path(&self) -> PathBuf {
        self.0.join("blueprints")
    }

    fn write(&self, file: &str, content: &str) {
        fs::write(self.path().join(file), content).unwrap();
    }

    async fn catalog(&self) -> Catalog {
        Catalog::open(self.path(), Clock::system()).await
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn gr(version: &str) -> String {
    format!(
        "apiVersion: topsops.enflame.com/v1\nkind: GcuResource\nmetadata:\n  name: a\nspec:\n  driver:\n    \
         version: \"{version}\"\n"
    )
}

const BAD: &str = "kind: GcuResource\n";

/// Each file with the driver version shown, `-` for an invalid file, and `(stale)`.
fn shown(set: &Set) -> Vec<String> {
    set.entries
        .iter()
        .map(|entry| {
            let version = entry.blueprint.as_ref().map_or("-".to_owned(), |blueprint| {
                blueprint.manifest()["spec"]["driver"]["version"].as_str().unwrap().to_owned()
            });
            format!("{} {version}{}", entry.file, if entry.stale.is_some() { " (stale)" } else { "" })
        })
        .collect()
}

async fn version(catalog: &Catalog, file: &str) -> String {
    let blueprint = catalog.load(file).await.unwrap();
    blueprint.manifest()["spec"]["driver"]["version"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_last_good_set_is_kept_when_the_directory_vanishes_is_replaced_or_is_emptied() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    dir.write("bad.yaml", BAD);
    let catalog = dir.catalog().await;

    fs::remove_dir_all(dir.path()).unwrap();
    let set = catalog.rescan().await;
    assert_eq!(shown(&set), ["a.yaml 1 (stale)", "bad.yaml - (stale)"]);
    assert!(set.problem.as_ref().unwrap().starts_with("the directory cannot be opened: No such file"));
    assert_eq!(version(&catalog, "a.yaml").await, "1");
    assert!(matches!(catalog.load("bad.yaml").await, Err(LoadError::Invalid { .. })));
    assert!(matches!(catalog.load("other.yaml").await, Err(LoadError::Unreadable { .. })));

    fs::write(dir.path(), "a file in the place of the directory").unwrap();
    assert_eq!(shown(&*catalog.rescan().await), ["a.yaml 1 (stale)", "bad.yaml - (stale)"]);
    fs::remove_file(dir.path()).unwrap();

    fs::create_dir(dir.path()).unwrap();
    let set = catalog.rescan().await;
    assert_eq!(shown(&set), ["a.yaml 1 (stale)", "bad.yaml - (stale)"]);
    assert_eq!(set.problem.as_deref(), Some("the directory holds no .json, .yaml or .yml file"));
    assert_eq!(version(&catalog, "a.yaml").await, "1");

    dir.write("b.yaml", &gr("2"));
    let set = catalog.rescan().await;
    assert_eq!(shown(&set), ["b.yaml 2"]);
    assert_eq!(set.problem, None);
    assert!(matches!(catalog.load("a.yaml").await, Err(LoadError::NotFound { .. })));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_its_last_good_content_and_says_so() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    fs::write(dir.0.join("blueprints/.target"), gr("2")).unwrap();
    symlink(".target", dir.path().join("link.yaml")).unwrap();
    let catalog = dir.catalog().await;
    assert_eq!(shown(&catalog.set()), ["a.yaml 1", "link.yaml 2"]);

    fs::remove_file(dir.path().join(".target")).unwrap();
    let set = catalog.rescan().await;
    assert_eq!(shown(&set), ["a.yaml 1", "link.yaml 2 (stale)"]);
    let reason = set.get("link.yaml").unwrap().stale.clone().unwrap();
    assert_eq!(reason, "it is a link to `.target`, which is not there");
    assert_eq!(version(&catalog, "link.yaml").await, "2");

    symlink("nowhere", dir.path().join("new.yaml")).unwrap();
    let set = catalog.rescan().await;
    assert_eq!(shown(&set), ["a.yaml 1", "link.yaml 2 (stale)", "new.yaml -"]);
    assert_eq!(set.get("new.yaml").unwrap().findings[0].code, "unreadable");
    assert!(matches!(catalog.load("new.yaml").await, Err(LoadError::Unreadable { .. })));

    assert!(Arc::ptr_eq(&set, &catalog.rescan().await), "nothing changed, and yet there is a new set");
    fs::write(dir.path().join(".target"), gr("2")).unwrap();
    assert_eq!(shown(&*catalog.rescan().await), ["a.yaml 1", "link.yaml 2", "new.yaml -"]);
}

#[tokio::test]
async fn links_in_a_circle_cannot_be_read_and_keep_the_last_good_content() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    let catalog = dir.catalog().await;
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    symlink("a.yaml", dir.path().join("a.yaml")).unwrap();
    assert_eq!(shown(&*catalog.rescan().await), ["a.yaml 1 (stale)"]);
}

#[tokio::test]
async fn a_file_that_may_not_be_read_keeps_its_last_good_content() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    let catalog = dir.catalog().await;
    let none = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    fs::set_permissions(dir.path().join("a.yaml"), none).unwrap();
    let may_read_all = fs::read(dir.path().join("a.yaml")).is_ok();
    let expected = if may_read_all { "a.yaml 1" } else { "a.yaml 1 (stale)" };
    assert_eq!(shown(&*catalog.rescan().await), [expected]);
}

#[tokio::test]
async fn a_bad_edit_takes_the_blueprint_out_of_use_and_leaves_the_others() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    dir.write("b.json", r#"{"apiVersion": "topsops.enflame.com/v1", "kind": "GcuResource", "metadata": {"name": "a"}, "spec": {"driver": {"version": "1"}}}"#);
    let catalog = dir.catalog().await;
    dir.write("a.yaml", &gr("1").replace("kind:", "\tkind:"));
    let set = catalog.rescan().await;
    assert_eq!(shown(&set), ["a.yaml -", "b.json 1"]);
    assert_eq!(
        set.get("a.yaml").unwrap().findings[0].to_string(),
        "a.yaml:2:1: error: a tab in the indentation: YAML allows spaces only, replace it"
    );
    assert!(matches!(catalog.load("a.yaml").await, Err(LoadError::Invalid { .. })));
    assert_eq!(version(&catalog, "b.json").await, "1");
}

#[tokio::test]
async fn a_file_that_is_deleted_leaves_the_set() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    dir.write("b.yaml", &gr("1"));
    let catalog = dir.catalog().await;
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    assert_eq!(shown(&*catalog.rescan().await), ["b.yaml 1"]);
    let error = catalog.load("a.yaml").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no blueprint \"a.yaml\"; there are: b.yaml");
}

#[tokio::test]
async fn content_decides_not_the_time_of_the_change() {
    let dir = Dir::new();
    let path = dir.path().join("a.yaml");
    dir.write("a.yaml", &gr("1"));
    let catalog = dir.catalog().await;
    let before = catalog.set();
    let time = fs::metadata(&path).unwrap().modified().unwrap();

    // Same content, other time: nothing happened.
    fs::File::options().write(true).open(&path).unwrap().set_modified(time + Duration::from_secs(9)).unwrap();
    let mut changes = catalog.subscribe();
    changes.mark_unchanged();
    assert!(Arc::ptr_eq(&before, &catalog.rescan().await));
    assert!(!changes.has_changed().unwrap());

    // Other content of the same size, same time: a change.
    dir.write("a.yaml", &gr("2"));
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(shown(&*catalog.rescan().await), ["a.yaml 2"]);
    assert!(changes.has_changed().unwrap());
}

#[tokio::test]
async fn a_file_is_read_at_the_moment_it_is_asked_for() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    let catalog = dir.catalog().await;
    dir.write("new.yaml", &gr("2"));
    dir.write("a.yaml", &gr("3"));
    assert_eq!(version(&catalog, "new.yaml").await, "2");
    assert_eq!(version(&catalog, "a.yaml").await, "3");
    assert_eq!(shown(&catalog.set()), ["a.yaml 1"]);
}

#[tokio::test]
async fn only_blueprints_are_listed() {
    let dir = Dir::new();
    for file in ["a.yaml", "b.yml", "c.json", ".hidden.yaml", "README.md", "a.yaml~", "gr", "x.JSON"] {
        dir.write(file, &gr("1"));
    }
    assert_eq!(shown(&dir.catalog().await.set()), ["a.yaml 1", "b.yml 1", "c.json 1"]);
}
