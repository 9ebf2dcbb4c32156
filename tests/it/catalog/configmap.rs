//! A directory that is a mounted ConfigMap.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Dir, gr, shown};

/// What the kubelet does to a mounted ConfigMap, one step at a time.
struct ConfigMap(PathBuf);

impl ConfigMap {
    fn new(dir: &Dir, files: &[(&str, &str)]) -> Self {
        let map = Self(dir.path());
        map.write_version("1", files);
        symlink("..1", map.0.join("..data")).unwrap();
        for (file, _) in files {
            symlink(format!("..data/{file}"), map.0.join(file)).unwrap();
        }
        map
    }

    fn write_version(&self, version: &str, files: &[(&str, &str)]) {
        let dir = self.0.join(format!("..{version}"));
        fs::create_dir(&dir).unwrap();
        for (file, content) in files {
            fs::write(dir.join(file), content).unwrap();
        }
    }

    fn swap(&self, version: &str) {
        symlink(format!("..{version}"), self.0.join("..data_tmp")).unwrap();
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
    }

    fn drop_version(&self, version: &str) {
        fs::remove_dir_all(self.0.join(format!("..{version}"))).unwrap();
    }
}

#[tokio::test]
async fn a_configmap_is_listed_by_its_keys_and_a_swap_brings_the_new_version() {
    let dir = Dir::new();
    let map = ConfigMap::new(&dir, &[("a.yaml", &gr("1")), ("b.yaml", &gr("1"))]);
    let catalog = dir.catalog().await;
    assert_eq!(shown(&catalog.set()), ["a.yaml 1", "b.yaml 1"]);
    map.write_version("2", &[("a.yaml", &gr("2"))]);
    map.swap("2");
    map.drop_version("1");
    // The link of a key that is gone is removed last: until then it leads nowhere, and is no file.
    assert_eq!(shown(&*catalog.rescan().await), ["a.yaml 2"]);
    assert_eq!(catalog.set().problem, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configmap_swap_during_a_scan_never_mixes_two_versions() {
    let dir = Dir::new();
    let files: Vec<String> = (0..20).map(|i| format!("f{i:02}.yaml")).collect();
    let of = |version: &str| -> Vec<(String, String)> {
        files.iter().map(|file| (file.clone(), gr(version))).collect()
    };
    fn borrowed(files: &[(String, String)]) -> Vec<(&str, &str)> {
        files.iter().map(|(file, content)| (file.as_str(), content.as_str())).collect()
    }
    let map = ConfigMap::new(&dir, &borrowed(&of("1")));
    let catalog = dir.catalog().await;
    let done = Arc::new(AtomicBool::new(false));
    let versions: Vec<_> = (2..120).map(|n| (n, of(&n.to_string()))).collect();
    let swapping = std::thread::spawn({
        let done = done.clone();
        move || {
            for (n, files) in versions {
                map.write_version(&n.to_string(), &borrowed(&files));
                map.swap(&n.to_string());
                map.drop_version(&(n - 1).to_string());
                std::thread::sleep(Duration::from_millis(1));
            }
            done.store(true, Ordering::Relaxed);
        }
    });
    let mut seen = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let set = catalog.rescan().await;
        let mut versions: Vec<_> =
            shown(&set).iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
        assert_eq!(versions.len(), 20, "{:?}", set.problem);
        versions.dedup();
        assert_eq!(versions.len(), 1, "{versions:?}");
        seen.extend(versions);
    }
    swapping.join().unwrap();
    seen.dedup();
    assert!(seen.len() > 1, "no swap was seen at all");
    assert_eq!(shown(&*catalog.rescan().await)[0], "f00.yaml 119");
}
