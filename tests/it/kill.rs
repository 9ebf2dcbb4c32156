//! The real process against a real API server, killed, stopped for a while, or ended by signals in any order, again
//! and again in the middle of an upgrade.

use std::time::Duration;

use gcu_upgrade_manager::clock::Clock;
use gcu_upgrade_manager::record::{GcuUpgrade, Phase};
use gcu_upgrade_manager::sandbox::world::World;
use kube::Api;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::cli::{Running, curl};
use crate::kube::{ALONE, real};
use crate::oracle::{Oracle, the_end_keeps_its_promise};

/// What happens to the process, each time after it has run for a little longer.
enum Fate {
    /// SIGKILL, then it is started again.
    Kill,
    /// SIGSTOP, and SIGCONT a while later. Its log is on a full disk, and then its log directory goes.
    Stop,
    /// These signals one after the other, each time the next of these; then it is started again.
    Signals(&'static [&'static [&'static str]]),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_again_and_again_finishes_its_upgrade() {
    finishes_its_upgrade("k9", Fate::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_stopped_again_and_again_finishes_its_upgrade_whatever_becomes_of_its_log() {
    finishes_its_upgrade("s19", Fate::Stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_ended_by_signals_in_any_order_finishes_its_upgrade() {
    let orders: &[&[&str]] = &[
        &["TERM"],
        &["HUP"],
        &["TERM", "TERM"],
        &["INT"],
        &["INT", "TERM"],
        &["HUP", "INT", "TERM"],
        &["TERM", "HUP"],
        &["INT", "INT", "INT"],
        &["STOP", "TERM", "CONT"],
    ];
    finishes_its_upgrade("t15", Fate::Signals(orders)).await;
}

async fn finishes_its_upgrade(prefix: &str, fate: Fate) {
    let Some(cluster) = real().await else { return };
    let _alone = ALONE.lock().await;
    let client = cluster.client().await;
    let mut world = World {
        nodes: 2,
        prefix: Some(prefix.to_owned()),
        with_real_controllers: cluster.has_controllers(),
        ..World::default()
    };
    world.kubelet.pod_start = Duration::from_millis(100);
    world.kubelet.pod_stop = Duration::from_millis(100);
    world.operator.component_delay = Duration::from_millis(100);
    let mut target = world.manifest().unwrap();
    target["spec"]["gfd"]["version"] = json!("2.1.0");
    let world = world.start(client.clone(), Clock::system()).await.unwrap();
    world.settled(Duration::from_secs(120)).await.unwrap();
    let oracle = Oracle::start(client.clone(), world.grs(), prefix.to_owned()).await;
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("gr.json"), target.to_string()).unwrap();
    let logs = dir.path().join("log");
    if matches!(fate, Fate::Stop) {
        std::fs::create_dir(&logs).unwrap();
        std::os::unix::fs::symlink("/dev/full", logs.join("gcu-upgrade-manager.log")).unwrap();
    }
    let lease = format!("default/{prefix}");
    let serve = || {
        let kubeconfig = cluster.kubeconfig().to_str().unwrap().to_owned();
        let (blueprints, logs) = (dir.path().to_str().unwrap(), logs.to_str().unwrap());
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--kubeconfig",
            &kubeconfig,
            "--blueprints",
            blueprints,
            "--log-dir",
            logs,
            // As in a pod: the container that is started again has the name of the one that died, and its Lease.
            "--pod-name",
            prefix,
            // Not that of another test, whose last process may have died with it in its hands.
            "--lease",
            &lease,
        ];
        let mut process = Running::start(&args, &[]);
        let address = process.word_after("address=");
        (process, address)
    };
    let (mut process, mut address) = serve();
    let path = format!("/gum/v1/gr/{}", world.gr_name());
    let accepted = timeout(Duration::from_secs(60), async {
        // Not ready at once: the CRD is installed first.
        while curl(&address, "GET", "/readyz", "").0 != 200 {
            sleep(Duration::from_millis(20)).await;
        }
        oracle.is_watching().await;
        curl(&address, "PUT", &path, r#"{"file": "gr.json"}"#)
    });
    let (status, text) = accepted.await.unwrap();
    assert_eq!(status, 200, "{text}");
    let records: Api<GcuUpgrade> = Api::all(client.clone());
    let name = format!("{}-1", world.gr_name());
    let mut kills = 0;
    let ended = timeout(Duration::from_secs(180), async {
        loop {
            let record = records.get(&name).await.unwrap();
            if record.phase().is_final() && record.metadata.finalizers.is_none() {
                return record;
            }
            // Lives a little longer each time, so that every step is cut and the end is reached.
            sleep(Duration::from_millis(40 + 60 * kills)).await;
            kills += 1;
            match &fate {
                Fate::Kill => {}
                Fate::Stop => {
                    process.signal("STOP");
                    sleep(Duration::from_millis(100 + 130 * (kills % 7))).await;
                    process.signal("CONT");
                    let _ = std::fs::remove_dir_all(&logs);
                    continue;
                }
                Fate::Signals(orders) => {
                    let order = orders[usize::try_from(kills).unwrap() % orders.len()];
                    order.iter().for_each(|signal| process.signal(signal));
                    assert!(process.ends(), "{order:?} ends it: {}", process.said());
                }
            }
            // Dropping it is SIGKILL.
            drop(process);
            (process, address) = serve();
        }
    });
    let ended = ended.await.unwrap_or_else(|_| panic!("no end after {kills} interruptions at {address}"));
    println!("interrupted {kills} times");
    assert!(kills >= 3, "interrupted only {kills} times");
    assert_eq!(ended.phase(), Phase::Succeeded);
    the_end_keeps_its_promise(&ended, Some(&world.gr().await.unwrap()));
    oracle.check();
    assert_eq!(oracle.effects(), (1, 1), "one create, one delete");
}
