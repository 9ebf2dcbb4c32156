//! How changes are noticed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gcu_upgrade_manager::blueprint::catalog::{Catalog, DEBOUNCE, RESCAN, Set, Watching};
use tokio_util::sync::CancellationToken;

use super::{Dir, gr, shown};

/// Lets `run` go on in the background.
fn run(catalog: &Catalog, watching: Watching) -> CancellationToken {
    let (catalog, cancel) = (catalog.clone(), CancellationToken::new());
    let token = cancel.clone();
    tokio::spawn(async move { catalog.run(watching, token).await });
    cancel
}

/// Waits for the next set in virtual time.
async fn next(catalog: &Catalog, within: Duration) -> Arc<Set> {
    let mut changes = catalog.subscribe();
    changes.mark_unchanged();
    tokio::time::timeout(within, changes.changed()).await.expect("no change was noticed").unwrap();
    catalog.set()
}

#[tokio::test(start_paused = true)]
async fn without_inotify_a_change_is_seen_within_half_a_minute() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    let catalog = dir.catalog().await;
    let cancel = run(&catalog, Watching::Polling);
    tokio::time::sleep(Duration::from_secs(1)).await;
    dir.write("a.yaml", &gr("2"));
    assert_eq!(shown(&*next(&catalog, RESCAN).await), ["a.yaml 2"]);
    cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_appears_later_is_found() {
    let dir = Dir::new();
    fs::remove_dir(dir.path()).unwrap();
    let catalog = dir.catalog().await;
    assert!(catalog.set().problem.is_some() && catalog.set().entries.is_empty());
    let cancel = run(&catalog, Watching::Events);
    tokio::time::sleep(Duration::from_secs(1)).await;
    fs::create_dir(dir.path()).unwrap();
    dir.write("a.yaml", &gr("1"));
    assert_eq!(shown(&*next(&catalog, RESCAN).await), ["a.yaml 1"]);
    assert_eq!(catalog.set().problem, None);
    cancel.cancel();
}

/// Real time, because the events are the kernel's. The wait is far below the 30 s of a plain look.
#[tokio::test]
async fn an_event_is_followed_by_a_look_also_after_the_directory_was_replaced() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    let catalog = dir.catalog().await;
    let cancel = run(&catalog, Watching::Events);
    let soon = Duration::from_secs(15);
    tokio::time::sleep(DEBOUNCE).await;
    dir.write("a.yaml", &gr("2"));
    assert_eq!(shown(&*next(&catalog, soon).await), ["a.yaml 2"]);

    fs::create_dir(dir.0.join("other")).unwrap();
    fs::write(dir.0.join("other/a.yaml"), gr("3")).unwrap();
    fs::rename(dir.path(), dir.0.join("old")).unwrap();
    fs::rename(dir.0.join("other"), dir.path()).unwrap();
    let mut set = next(&catalog, soon).await;
    while shown(&set) != ["a.yaml 3"] {
        set = next(&catalog, soon).await;
    }
    dir.write("a.yaml", &gr("4"));
    assert_eq!(shown(&*next(&catalog, soon).await), ["a.yaml 4"]);
    cancel.cancel();
}

/// Reading is an event too: were it followed by a look, the catalog would never rest.
#[tokio::test]
async fn looking_at_the_directory_does_not_wake_the_catalog_up() {
    let dir = Dir::new();
    dir.write("a.yaml", &gr("1"));
    let catalog = dir.catalog().await;
    let cancel = run(&catalog, Watching::Events);
    tokio::time::sleep(DEBOUNCE).await;
    let opened = Arc::new(AtomicU64::new(0));
    let count = opened.clone();
    let mut spy = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        count.fetch_add(u64::from(event.unwrap().kind.is_access()), Ordering::Relaxed);
    })
    .unwrap();
    notify::Watcher::watch(&mut spy, &dir.path(), notify::RecursiveMode::NonRecursive).unwrap();
    dir.write("a.yaml", &gr("2"));
    assert_eq!(shown(&*next(&catalog, Duration::from_secs(15)).await), ["a.yaml 2"]);
    tokio::time::sleep(DEBOUNCE * 4).await;
    let so_far = opened.load(Ordering::Relaxed);
    assert!(so_far > 0);
    tokio::time::sleep(DEBOUNCE * 10).await;
    assert_eq!(opened.load(Ordering::Relaxed), so_far);
    cancel.cancel();
}
